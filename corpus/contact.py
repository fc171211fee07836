"""Which parts of the soles touch the ground, frame by frame, read off the robot's own motion."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, UInt8

from corpus.posture import GROUND_POINTS, Postures

CONTACT_HEIGHT = 0.03
"""A heel or toe higher than this is in the air [m]: what retargeting leaves between sole and floor, and no more."""
CONTACT_SPEED = 0.4
"""A heel or toe faster than this passes over the floor and is no contact [m/s]; the bound in use for human feet."""
VOTE_FRAMES = 5
"""A frame touches where most of this many frames around it do: no flicker of one or two frames."""


def detect_contacts(fps: float, outside: Postures, starts: Sequence[int] = (0,)) -> UInt8[np.ndarray, "T 4"]:
    """Left heel, left toe, right heel, right toe: 1 where one of its points is low and slow.

    Where several motions lie end to end, `starts` are their first frames.
    """
    step = np.diff(outside.soles, axis=2, append=0.0)
    step = np.einsum("apt,apt->pt", step, step)
    step[:, [start - 1 for start in starts]] = np.inf
    # The calmer of the steps to and from a frame: the first frame on the floor and the last one touch too.
    calmer = np.minimum(step, np.roll(step, 1, axis=1))
    touching = (outside.soles[2] < CONTACT_HEIGHT) & (calmer < (CONTACT_SPEED / fps) ** 2)
    touching = np.stack([np.any(touching[outside.sole_group == c], axis=0) for c in range(len(GROUND_POINTS))])
    ends = [*starts[1:], touching.shape[1]]
    voted = [_majority(touching[:, start:stop]).T for start, stop in zip(starts, ends, strict=True)]
    return np.ascontiguousarray(np.concatenate(voted))


def _majority(touching: Bool[np.ndarray, "4 T"]) -> UInt8[np.ndarray, "4 T"]:
    half = VOTE_FRAMES // 2
    total = np.cumsum(np.pad(touching.astype(np.int32), ((0, 0), (half + 1, half)), mode="edge"), axis=1)
    return (total[:, VOTE_FRAMES:] - total[:, :-VOTE_FRAMES] > half).astype(np.uint8)
