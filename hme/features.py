"""What an embedding sees of a motion: heading-free channels, low-passed, at 10 Hz.

Channels are the root's height [m], gravity in the root's frame (3), its velocity in the heading frame [m/s] (3), its angular
velocity in its own frame [rad/s] (3) and all joint angles [rad]: no place and no heading. Joint speeds are left out, since
they are mostly noise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import warp as wp
from jaxtyping import Float, Int
from scipy import signal

from corpus.errors import MotionloomError
from corpus.motion import CORPUS_FPS, RobotMotion
from corpus.resample import resample
from hme.feature_kernel import ROOT_CHANNELS, extract

STEP = 5
"""Every so many frames of 50 Hz one sample is kept."""
FEATURE_FPS = CORPUS_FPS / STEP
"""Rate of the features [Hz]."""
CUT_HZ = 4.0
"""Half of the amplitude passes here; 5.5 Hz and more, which the thinned features could not tell from slower, do not."""
HALF_WIDTH = 25
"""Frames on both sides that the low-pass weighs: half a second."""
HEIGHT, GRAVITY, VELOCITY, TURN, JOINTS = (
    slice(0, 1), slice(1, 4), slice(4, 7), slice(7, 10), slice(ROOT_CHANNELS, None),
)  # fmt: skip
"""Where the channels lie."""
BATCH_FRAMES = 50_000
"""Frames worked on at once: few enough to stay near the processor."""


@dataclass(frozen=True)
class Features:
    """Features of several motions, end to end."""

    values: Float[np.ndarray, "R C"]
    starts: Int[np.ndarray, " S+1"]
    """Motion i is rows `starts[i]` to `starts[i + 1]`."""

    @property
    def motion_count(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, i: int) -> Float[np.ndarray, "T C"]:
        """Of motion i."""
        return self.values[self.starts[i] : self.starts[i + 1]]


def features(motions: Sequence[RobotMotion], *, step: int = STEP) -> Features:
    """Features of all motions; those of another rate than 50 Hz are brought to it first. Of every `step` frames one is kept."""
    parts = list(batches(motions, step=step))
    if not parts:
        raise MotionloomError("There are no motions to take features of.")
    lengths = np.concatenate([np.diff(part.starts) for part in parts])
    return Features(np.concatenate([part.values for part in parts]), _starts(lengths))


def batches(motions: Sequence[RobotMotion], *, step: int = STEP) -> Iterator[Features]:
    """Features of so many motions at a time as make `BATCH_FRAMES`, in order."""
    waiting: list[np.ndarray] = []
    frame_count, width = 0, None
    for number, motion in enumerate(motions):
        qpos = resample(motion, CORPUS_FPS).qpos
        width = width or qpos.shape[1]
        if qpos.shape[1] != width:
            raise MotionloomError(f"Motion {number} has {qpos.shape[1] - 7} joints, the others have {width - 7}.")
        waiting.append(qpos)
        frame_count += len(qpos)
        if frame_count >= BATCH_FRAMES:
            yield _extract(waiting, step)
            waiting, frame_count = [], 0
    if waiting:
        yield _extract(waiting, step)


def _extract(parts: list[np.ndarray], step: int) -> Features:
    lengths = np.array([len(part) for part in parts])
    # The kernel reads rows: parts in columns would stay in columns.
    qpos = np.ascontiguousarray(np.concatenate(parts, dtype=np.float32))
    starts, places = _starts(lengths), _starts((lengths - 1) // step + 1)
    values = np.empty((places[-1], ROOT_CHANNELS + qpos.shape[1] - 7), np.float32)
    work = np.empty((lengths.max(), ROOT_CHANNELS), np.float32)
    taps = low_pass()
    wp.launch(
        extract,
        dim=len(parts),
        inputs=[
            qpos.ctypes.data, qpos.shape[1], wp.array(starts, dtype=int, device="cpu", copy=False), CORPUS_FPS,
            work.ctypes.data, taps.ctypes.data, HALF_WIDTH, step, values.ctypes.data,
            wp.array(places, dtype=int, device="cpu", copy=False),
        ],
        device="cpu",
    )  # fmt: skip
    return Features(values, places)


@cache
def low_pass() -> Float[np.ndarray, " K"]:
    """Weights of the frames around a sample: they add up to 1 and shift nothing."""
    return np.asarray(signal.firwin(2 * HALF_WIDTH + 1, CUT_HZ, fs=CORPUS_FPS), np.float32)


def _starts(lengths: Int[np.ndarray, " S"]) -> Int[np.ndarray, " S+1"]:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
