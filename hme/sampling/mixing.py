"""One plan of several, and no window drawn too often."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

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
    those above goes to the others in proportion. `capped_in_bins` does the same for a plan that has bins."""
    if plan.bins is not None:
        raise MotionloomError("A plan of bins draws windows of one segment unlike each other: use `capped_in_bins`.")
    return Plan(_held(plan.weights, windows, cap))


def capped_in_bins(
    plan: Plan, frames: Int[np.ndarray, " S"], window: int, cap: float, mask: Bool[np.ndarray, " S"] | None = None
) -> Plan:
    """The same for a plan with bins, bin by bin; `mask`: which segments may be drawn at all."""
    count, length = bin_count(frames, plan.bin_frames), plan.bin_frames
    share, starts = in_bins(plan, length, frames, window), starts_in_bins(frames, window, length).astype(float)
    first = np.cumsum(count) - count
    # What falls on bins in which no window can begin goes to the last one in which one can.
    last = np.repeat(first + np.maximum(frames - window, 0) // length, count)
    late = (starts == 0) & (np.arange(len(starts)) > last)
    share = np.bincount(np.where(late, last, np.arange(len(share))), share, len(share))
    share = np.where(starts > 0, share, 0.0)
    held = _held(share, starts if mask is None else starts * np.repeat(mask, count), cap)
    return Plan(np.add.reduceat(held, first), held * len(held), length)


def _held(weights: Float[np.ndarray, " N"], windows: Float[np.ndarray, " N"], cap: float) -> Float[np.ndarray, " N"]:
    """Weights of segments or bins that hold so many windows, under the cap; they add up to 1."""
    weights, total = weights / weights.sum(), windows.sum()
    drawn = np.flatnonzero(weights > 0)
    least = total / windows[drawn].sum()
    if not cap >= least * (1 - 1e-9):
        # Rounded up: what is named can be held.
        raise MotionloomError(
            f"A cap of {cap:g} cannot be held: the plan draws {1 / least:.3g} of the windows, so the cap should be at least "
            f"{np.ceil(least * 1000) / 1000:g}."
        )
    drawn = drawn[np.argsort(-weights[drawn] / windows[drawn], kind="stable")]
    weight, most = weights[drawn], cap / total * windows[drawn]
    # With the first m at the cap, the others are scaled so that all add up to 1: the first m that leaves no other above it.
    taken, left = np.cumsum(most) - most, np.cumsum(weight[::-1])[::-1]
    scale = (1 - taken) / left
    held = scale * weight <= most * (1 + 1e-12)
    first = int(np.argmax(held)) if held.any() else len(drawn)
    weights[drawn] = np.where(np.arange(len(drawn)) < first, most, weight * scale[min(first, len(drawn) - 1)])
    return weights / weights.sum()


def in_bins(plan: Plan, bin_frames: int, frames: Int[np.ndarray, " S"], window: int) -> Float[np.ndarray, " N"]:
    """The plan's share of each bin: where it has none itself, or none in a segment, by how many windows begin there."""
    count, starts = bin_count(frames, bin_frames), starts_in_bins(frames, window, bin_frames)
    bins = starts if plan.bins is None else plan.bins
    if len(bins) != count.sum():
        raise MotionloomError(f"The plan has {len(bins)} bins, the segments {count.sum()}.")
    first = np.cumsum(count) - count
    # A segment whose bins are all 0 is taken evenly.
    bins = np.where(np.repeat(np.add.reduceat(bins, first) > 0, count), bins, starts)
    within = np.add.reduceat(bins, first, dtype=np.float64)
    per_bin = plan.weights / plan.weights.sum() / np.where(within > 0, within, 1.0)
    return bins * np.repeat(per_bin, count)
