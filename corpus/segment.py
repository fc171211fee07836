"""Cut a clip into segments: apart where it jumps, and at calm frames where it is too long."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from corpus.quality import FrameMeasures


@dataclass(frozen=True)
class CutOptions:
    min_s: float = 1.0
    """Pieces shorter than this are cut away [s]."""
    max_s: float = 20.0
    """Pieces longer than this are cut at a calm frame [s]."""
    joint_jump: float = 0.7
    """A joint that moves further from one frame to the next has jumped [rad]: 35 rad/s at 50 Hz, about the joints' limit."""
    root_jump: float = 0.25
    """Likewise the root [m]: 12.5 m/s at 50 Hz."""
    spike_speed: float = 5.0
    """Root speed of a spike [m/s]; it is one when ±3 frames away the speed stays under 0.35 of it (GQS)."""


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
    shortest, longest = max(2, round(options.min_s * fps)), max(4, round(options.max_s * fps))
    jumps = np.flatnonzero(_jumps(measures, options))
    edges = [0, *jumps.tolist(), frame_count]
    activity = _activity(measures)
    spans = []
    for start, stop in pairwise(edges):
        if stop - start < shortest:
            spans.append(Span(start, stop, "discontinuity" if len(jumps) else "too_short"))
            continue
        spans += [Span(a, b, None) for a, b in _pieces(start, stop, activity, shortest, longest)]
    return spans


def _jumps(measures: FrameMeasures, options: CutOptions) -> np.ndarray:
    """True at every frame that does not follow from the one before."""
    jump = (measures.joint_step > options.joint_jump) | (measures.root_step > options.root_jump)
    speed = measures.root_step * measures.fps
    around = np.pad(speed, 3, mode="edge")
    calm = np.maximum(around[:-6], around[6:]) < 0.35 * speed
    jump |= (speed > options.spike_speed) & calm
    jump[0] = False
    return jump


def _activity(measures: FrameMeasures) -> Float[np.ndarray, " T"]:
    """How much moves: joints and root together, smoothed over a fifth of a second."""
    return ndimage.uniform_filter1d(measures.speed_use + 0.1 * measures.root_speed, max(1, round(measures.fps / 5)))


def _pieces(start: int, stop: int, activity: np.ndarray, shortest: int, longest: int) -> list[tuple[int, int]]:
    """Cut at the calmest frame of the second half of every `longest` frames, leaving no rest below `shortest`."""
    pieces = []
    while stop - start > longest:
        low, high = start + max(longest // 2, shortest), min(start + longest, stop - shortest)
        at = low + int(activity[low : high + 1].argmin()) if high > low else high
        pieces.append((start, at))
        start = at
    return [*pieces, (start, stop)]
