"""One plan of several, and no window drawn too often."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from corpus.errors import MotionloomError
from corpus.loading.sampling_plan import Plan, bin_count
from corpus.loading.starts import starts_in_bins


def mixed(plans: Sequence[Plan], shares: Sequence[float], frames: Int[np.ndarray, " S"], window: int) -> Plan:
    """Plans of which each has its share of the windows."""
    if len(plans) != len(shares) or min(shares, default=-1) < 0 or not sum(shares) > 0:
        raise MotionloomError(
            f"{len(plans)} policies, shares {', '.join(map(str, shares))}: should be one each, above 0."
        )
    share = np.array(shares) / sum(shares)
    weights = sum(part * plan.weights / plan.weights.sum() for part, plan in zip(share, plans, strict=True))
    lengths = {plan.bin_frames for plan in plans if plan.bins is not None}
    if not lengths:
        return Plan(np.asarray(weights))
    if len(lengths) > 1:
        raise MotionloomError(f"Bins of {sorted(lengths)} frames cannot be mixed.")
    length = lengths.pop()
    bins = sum(part * in_bins(plan, length, frames, window) for part, plan in zip(share, plans, strict=True))
    return Plan(np.asarray(weights), np.asarray(bins) * len(frames), length)


def capped(plan: Plan, windows: Float[np.ndarray, " S"], cap: float) -> Plan:
    """The plan with no window more than `cap` times as often as if all of `windows` came equally often; what is taken from
    those above goes to the others in proportion. Within a segment, bins stay as they are."""
    weights, total = plan.weights / plan.weights.sum(), windows.sum()
    drawn = np.flatnonzero(weights > 0)
    if not cap * windows[drawn].sum() / total >= 1:
        raise MotionloomError(
            f"A cap of {cap:g} cannot be held: the plan draws {windows[drawn].sum() / total:.3g} of the windows, "
            f"so the cap should be at least {total / windows[drawn].sum():.4g}."
        )
    drawn = drawn[np.argsort(-weights[drawn] / windows[drawn], kind="stable")]
    weight, most = weights[drawn], cap / total * windows[drawn]
    # With the first m at the cap, the others are scaled so that all add up to 1: the first m that leaves no other above it.
    taken, left = np.cumsum(most) - most, np.cumsum(weight[::-1])[::-1]
    scale = (1 - taken) / left
    held = scale * weight <= most * (1 + 1e-12)
    first = int(np.argmax(held)) if held.any() else len(drawn)
    weights[drawn] = np.where(np.arange(len(drawn)) < first, most, weight * scale[min(first, len(drawn) - 1)])
    return Plan(weights / weights.sum(), plan.bins, plan.bin_frames)


def in_bins(plan: Plan, bin_frames: int, frames: Int[np.ndarray, " S"], window: int) -> Float[np.ndarray, " N"]:
    """The plan's share of each bin: where it has none itself, by how many windows begin there."""
    count = bin_count(frames, bin_frames)
    bins = plan.bins if plan.bins is not None else starts_in_bins(frames, window, bin_frames)
    if len(bins) != count.sum():
        raise MotionloomError(f"The plan has {len(bins)} bins, the segments {count.sum()}.")
    within = np.add.reduceat(bins, np.cumsum(count) - count, dtype=np.float64)
    per_bin = plan.weights / plan.weights.sum() / np.where(within > 0, within, 1.0)
    return bins * np.repeat(per_bin, count)
