"""Bring a motion to another frame rate: low-pass before thinning, linear and slerp interpolation between frames."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np
from jaxtyping import Float
from scipy import signal

from corpus import rotations
from corpus.motion import HumanMotion, RobotMotion

Motion = TypeVar("Motion", HumanMotion, RobotMotion)


def resample(motion: Motion, fps: float, *, antialias: bool = True) -> Motion:
    """The same motion sampled at `fps` [Hz], starting at the same instant; the last sample never lies past the end.

    When frames are thinned, what the new rate cannot carry is removed first by a zero-phase low-pass
    (order 4, cut at 0.4 × `fps`), unless `antialias` is off.
    """
    if abs(motion.fps - fps) < 1e-6 * fps:
        return motion
    limit = fps if antialias else motion.fps
    at = sample_times(motion.frame_count, motion.fps, fps)
    if isinstance(motion, HumanMotion):
        position, rotation = band_limit(motion.position, motion.rotation, motion.fps, limit)
        return replace(motion, position=_linear(position, at), rotation=_slerp(rotation, at), fps=fps)
    rest = np.concatenate([motion.root_position, motion.joint_position], 1)
    rest, root = band_limit(rest, motion.root_rotation.astype(np.float64), motion.fps, limit)
    rest = _linear(rest, at)
    qpos = np.concatenate([rest[:, :3], _slerp(root, at), rest[:, 3:]], 1).astype(motion.qpos.dtype)
    contact = None if motion.contact is None else motion.contact[np.rint(at).astype(int)]
    return replace(motion, qpos=qpos, fps=fps, contact=contact)


def band_limit(
    values: Float[np.ndarray, "T ..."], rotation: Float[np.ndarray, "T ... 4"], fps: float, new_fps: float
) -> tuple[Float[np.ndarray, "T ..."], Float[np.ndarray, "T ... 4"]]:
    """Without what a thinning to `new_fps` could not carry; untouched where nothing is thinned."""
    if fps <= 1.05 * new_fps:
        return values, rotation
    return _low_pass(values, fps, new_fps), rotations.normalise(_low_pass(rotations.continuous(rotation), fps, new_fps))


def sample_times(frame_count: int, fps: float, new_fps: float) -> np.ndarray:
    """Where the new samples lie, in old frames."""
    # The small allowance keeps rates written with few digits (0.033333 s) from losing the last frame.
    count = int((frame_count - 1) * new_fps / fps + 1 + 1e-3)
    return np.minimum(np.arange(count) * (fps / new_fps), frame_count - 1)


def _linear(x: np.ndarray, at: np.ndarray) -> np.ndarray:
    low, share = _neighbours(len(x), at)
    share = share.reshape(-1, *[1] * (x.ndim - 1))
    return x[low] * (1 - share) + x[low + 1] * share


def _slerp(q: np.ndarray, at: np.ndarray) -> np.ndarray:
    low, share = _neighbours(len(q), at)
    return rotations.slerp(q[low], q[low + 1], share.reshape(-1, *[1] * (q.ndim - 2)))


def _neighbours(count: int, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low = np.minimum(at.astype(int), count - 2)
    return low, at - low


def _low_pass(x: np.ndarray, fps: float, new_fps: float) -> np.ndarray:
    sections = signal.butter(4, 0.4 * new_fps, fs=fps, output="sos")
    pad = min(len(x) - 1, int(fps))
    return signal.sosfiltfilt(sections, x, axis=0, padlen=pad)
