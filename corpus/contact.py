"""Which parts of the soles touch the ground, frame by frame, read off the robot's own motion."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, UInt8

from corpus.posture import GROUND_POINTS, Postures

CONTACT_HEIGHT = 0.03
"""A heel or toe higher than this is in the air [m]: what retargeting leaves between sole and floor, and no more."""
CONTACT_SPEED = 0.4
"""A heel or toe faster than this passes over the floor and is no contact [m/s]; the bound in use for human feet."""
VOTE_FRAMES = 5
"""A frame touches where most of this many frames around it do: no flicker of one or two frames."""


def detect_contacts(fps: float, postures: Postures) -> UInt8[np.ndarray, "T 4"]:
    """Left heel, left toe, right heel, right toe: 1 where one of its points is low and slow."""
    step = np.diff(postures.soles, axis=2)
    step = np.einsum("apt,apt->pt", step, step)
    # The calmer of the steps to and from a frame: the first frame on the floor and the last one touch too.
    calmer = np.minimum(np.concatenate([step[:, :1], step], 1), np.concatenate([step, step[:, -1:]], 1))
    touching = (postures.soles[2] < CONTACT_HEIGHT) & (calmer < (CONTACT_SPEED / fps) ** 2)
    parts = [np.any(touching[postures.sole_group == column], axis=0) for column in range(len(GROUND_POINTS))]
    return np.ascontiguousarray(_majority(np.stack(parts)).T)


def _majority(touching: Bool[np.ndarray, "4 T"]) -> UInt8[np.ndarray, "4 T"]:
    half = VOTE_FRAMES // 2
    total = np.cumsum(np.pad(touching.astype(np.int32), ((0, 0), (half + 1, half)), mode="edge"), axis=1)
    return (total[:, VOTE_FRAMES:] - total[:, :-VOTE_FRAMES] > half).astype(np.uint8)
