"""Windows of features: which rows of motions end to end they are."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int

CHUNK = 1024
"""Windows that are looked at together: no more of them are ever in memory."""


def window_rows(
    starts: Int[np.ndarray, " S+1"], window: int
) -> Iterator[tuple[Int[np.ndarray, " B"], Int[np.ndarray, "N B"]]]:
    """Of every window the motion, and the rows of its samples: `CHUNK` windows at a time, in order."""
    counts = window_counts(starts, window)
    motion = np.repeat(np.arange(len(counts)), counts)
    place = np.arange(len(motion)) - np.repeat(np.cumsum(counts) - counts, counts)
    for first in range(0, len(motion), CHUNK):
        part = slice(first, first + CHUNK)
        yield motion[part], rows_from(starts, motion[part], place[part], window)


def rows_from(
    starts: Int[np.ndarray, " S+1"], motion: Int[np.ndarray, " B"], place: Int[np.ndarray, " B"], window: int
) -> Int[np.ndarray, "N B"]:
    """Rows of the windows that begin at these samples of these motions; beyond a motion's end its last one stands."""
    return np.minimum(starts[motion] + place + np.arange(window)[:, None], starts[motion + 1] - 1)


def window_counts(starts: Int[np.ndarray, " S+1"], window: int) -> Int[np.ndarray, " S"]:
    """How many windows each motion holds, one at every sample; at least one."""
    return np.maximum(np.diff(starts) - window + 1, 1)
