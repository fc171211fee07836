"""Cut a clip into segments: apart where it jumps, and at calm frames where it is long."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage

from corpus.errors import MotionloomError
from corpus.quality import FrameMeasures


@dataclass(frozen=True)
class CutOptions:
    min_s: float = 1.0
    """Pieces shorter than this are cut away [s]."""
    max_s: float = 20.0
    """Pieces longer than this are cut, calm or not [s]. Twice `min_s` where that is more: else some could not be divided."""
    target_s: float = 8.0
    """Length that segments tend to [s]: two windows of the embedding. A calm frame is worth going off it."""
    joint_jump: float = 0.7
    """A joint, or the root's orientation, that turns further from one frame to the next has jumped [rad]: 35 rad/s at 50 Hz,
    about the fastest joints' limit."""
    root_jump: float = 0.25
    """Likewise the root's position [m]: 12.5 m/s at 50 Hz."""
    joint_spike: float = 15.0
    """Turning speed of a spike [rad/s]; it is one when the speed 2 and 3 frames away stays under `spike_share` of it."""
    spike_speed: float = 5.0
    """Root speed of a spike [m/s], likewise (GQS)."""
    spike_share: float = 0.35
    """How calm it must be around a spike (GQS)."""
    calm: float = 0.05
    """Unrest at which a cut costs half of what it can at most: largest share of a joint's speed limit + 0.1 × root speed
    [s/m]. Higher lets the lengths decide more, the calm less."""

    def __post_init__(self) -> None:
        if not (self.min_s > 0 and self.max_s >= self.min_s and self.target_s > 0):
            raise MotionloomError(
                f"cut.min_s {self.min_s:g} and cut.target_s {self.target_s:g} should be positive, and cut.max_s "
                f"{self.max_s:g} no less than cut.min_s."
            )


@dataclass(frozen=True)
class Span:
    """Frames `start` to `stop` of a clip."""

    start: int
    stop: int
    reason: str | None
    """None for a segment to be judged; otherwise why it is cut away."""


def cut(measures: FrameMeasures, options: CutOptions = CutOptions()) -> list[Span]:
    """Spans that tile the clip: every frame is in exactly one."""
    frame_count, fps = len(measures.lowest), measures.fps
    # The shortest rounds up, so that no segment is shorter than asked for.
    shortest = max(2, int(np.ceil(options.min_s * fps - 1e-6)))
    longest = max(2 * shortest, int(options.max_s * fps + 1e-6))
    jumps = np.flatnonzero(_jumps(measures, options)).tolist()
    activity = _activity(measures)
    spans = []
    for start, stop in pairwise([0, *jumps, frame_count]):
        if stop - start < shortest:
            spans.append(Span(start, stop, "discontinuity" if jumps else "too_short"))
            continue
        at = _calm_cuts(activity[start:stop], shortest, longest, options.target_s * fps, options.calm)
        spans += [Span(a, b, None) for a, b in pairwise([start, *(start + at).tolist(), stop])]
    return spans


def _jumps(measures: FrameMeasures, options: CutOptions) -> Bool[np.ndarray, " T"]:
    """True at every frame that does not follow from the one before."""
    jump = (measures.joint_step > options.joint_jump) | (measures.root_step > options.root_jump)
    for step, limit in ((measures.joint_step, options.joint_spike), (measures.root_step, options.spike_speed)):
        jump |= _spikes(step, limit / measures.fps, options.spike_share)
    jump[0] = False
    return jump


def _spikes(step: Float[np.ndarray, " T"], limit: float, share: float) -> Bool[np.ndarray, " T"]:
    """Single fast steps within calm. Resampling spreads a jump over two or three steps, so the next ones may be fast too:
    they are then part of the spike."""
    if step.max(initial=0.0) <= limit:
        return np.zeros(len(step), bool)
    around = np.pad(step, 3)
    at = {shift: around[3 + shift : 3 + shift + len(step)] for shift in (-3, -2, -1, 1, 2, 3)}
    outer = np.maximum(np.maximum(at[-3], at[-2]), np.maximum(at[2], at[3]))
    peak = (step > limit) & (outer < share * step) & (step >= np.maximum(at[-1], at[1]))
    height = ndimage.maximum_filter1d(np.where(peak, step, 0.0), 3, mode="constant")
    return peak | ((height > 0) & (step > share * height))


def _activity(measures: FrameMeasures) -> Float[np.ndarray, " T"]:
    """How much moves: joints and root together, smoothed over a fifth of a second."""
    activity = measures.speed_use + 0.1 * measures.root_speed
    # Rounded, for the filter's running sum leaves noise that depends on where the clip begins.
    return np.abs(np.round(ndimage.uniform_filter1d(activity, max(1, round(measures.fps / 5))), 6))


def _calm_cuts(
    activity: Float[np.ndarray, " L"], shortest: int, longest: int, target: float, calm: float
) -> Int[np.ndarray, " C"]:
    """Where to divide a piece: the least sum of (length / target − 1)² over the pieces and unrest over the cuts.

    An optimum over the whole piece, not a walk from its start: far from a change the cuts stay where they were.
    """
    length = len(activity)
    # Two pieces of u/2 targets each beat one of u only beyond √2, even if the cut costs nothing.
    if length <= min(longest, np.sqrt(2) * target):
        return np.zeros(0, np.int64)
    # From 0 where nothing moves to 2, far above calm.
    unrest = 2 * activity / (activity + calm)
    places = _calmest(activity, shortest)
    found = _cheapest(places, unrest, shortest, longest, target)
    if found is None:
        count = -(-length // longest)
        even = np.arange(1, count) * length // count
        places = np.unique(np.concatenate([places, even, np.arange(0, length, max(1, shortest // 2))]))
        found = _cheapest(places[(places == 0) | (places >= shortest)], unrest, shortest, longest, target)
        assert found is not None, "an even division always fits, since the longest is at least twice the shortest"
    return found


def _calmest(activity: Float[np.ndarray, " L"], shortest: int) -> Int[np.ndarray, " K"]:
    """Frames calmer than any within half the shortest segment around, the middle one where several in a row are; and both
    ends."""
    length = len(activity)
    around = ndimage.minimum_filter1d(activity, 2 * max(1, shortest // 2) + 1, mode="nearest")
    calmest = np.flatnonzero(activity == around)
    breaks = np.flatnonzero(np.diff(calmest) > 1)
    middle = (calmest[np.append(0, breaks + 1)] + calmest[np.append(breaks, -1)]) // 2
    inside = middle[(middle >= shortest) & (middle <= length - shortest)]
    return np.concatenate([[0], inside, [length]])


def _cheapest(
    places: Int[np.ndarray, " K"], unrest: Float[np.ndarray, " L"], shortest: int, longest: int, target: float
) -> Int[np.ndarray, " C"] | None:
    """Which of the places to cut at, by dynamic programming from the first to the last; None where no choice fits."""
    cost = np.append(unrest, 0.0)[places]
    low = np.searchsorted(places, places - longest)
    high = np.searchsorted(places, places - shortest, side="right")
    best, before = np.full(len(places), np.inf), np.zeros(len(places), np.int64)
    best[0] = 0.0
    for i in range(1, len(places)):
        if low[i] < high[i]:
            total = best[low[i] : high[i]] + ((places[i] - places[low[i] : high[i]]) / target - 1) ** 2
            before[i] = low[i] + int(total.argmin())
            best[i] = total[before[i] - low[i]] + cost[i]
    if not np.isfinite(best[-1]):
        return None
    chain = [len(places) - 1]
    while chain[-1]:
        chain.append(int(before[chain[-1]]))
    return places[chain[-2:0:-1]]
