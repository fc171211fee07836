"""Motions as they are compared with each other: heading-free channels at 25 Hz, what a mirror makes of them, and their anchors.

An anchor is an instant at which a motion is fastest for a moment. Copies have theirs at the same instants wherever they begin,
at whatever tempo they are shown and in the mirror, so few need to be compared: about two a second. What a motion looks like
there is its fingerprint: the pose at the anchor, 0.4 s before and 0.4 s after it, by principal components that the mirror
either leaves as they are or turns round, so that a mirrored motion's fingerprint follows by signs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage

from corpus.augment import mirror_columns
from corpus.durable import load_arrays, save_arrays
from corpus.errors import MotionloomError
from corpus.g1 import G1
from corpus.motion import CORPUS_FPS, RobotMotion
from hme.feature_kernel import ROOT_CHANNELS
from hme.features import Features, features

STEP = 2
TRACE_FPS = CORPUS_FPS / STEP
"""Rate of a trace [Hz]: its low-passed channels are read between samples without loss."""
SMOOTH = 2.0
"""Standard deviation of the weights that smooth poses and speeds before anchors are looked for [samples]."""
LEAST_SPEED = 0.3
"""All channels together move at least so fast at an anchor [rad/s]: one who stands still has none."""
REACH_S = 0.4
"""How far before and after an anchor a fingerprint looks."""
TEMPI = (1.0, 0.9, 1.1)
"""A fingerprint is told as it is, and as it would be of the motion shown so many times as fast."""
METHOD = 1
"""Raised by hand whenever the same motion and basis would give other anchors or fingerprints than before."""


def traces(motions: Sequence[RobotMotion]) -> Features:
    """Channels of `hme.features` at 25 Hz."""
    return features(motions, step=STEP)


@cache
def mirror_channels(joint_count: int = 29) -> tuple[Int[np.ndarray, " C"], Float[np.ndarray, " C"]]:
    """For each channel of the mirrored motion the one it comes from, and its sign."""
    if joint_count != G1.joint_count:
        raise MotionloomError(
            f"Motions of {joint_count} joints: mirrored are those of the G1, which has {G1.joint_count}."
        )
    columns = np.array(mirror_columns(G1)[7:])
    source = np.concatenate([np.arange(ROOT_CHANNELS), np.abs(columns) - 8 + ROOT_CHANNELS])
    # Height; gravity and velocity turn their y round, a turning speed its x and z.
    return source, np.concatenate([[1, 1, -1, 1, 1, -1, 1, -1, 1, -1], np.sign(columns)]).astype(np.float32)


def mirrored(trace: Float[np.ndarray, "T C"]) -> Float[np.ndarray, "T C"]:
    source, sign = mirror_channels(trace.shape[1] - ROOT_CHANNELS)
    return trace[:, source] * sign


@cache
def pose_channels(channel_count: int) -> Int[np.ndarray, " P"]:
    """Height, gravity and joints: what a pose is, without speeds."""
    return np.r_[0:4, ROOT_CHANNELS:channel_count]


@dataclass(frozen=True)
class Basis:
    """Principal components of fingerprints."""

    mean: Float[np.ndarray, " W"]
    directions: Float[np.ndarray, "W D"]
    odd: Bool[np.ndarray, " D"]
    """Does the mirror turn the component round?"""

    @property
    def id(self) -> str:
        """Hash of what decides how a motion's anchors look."""
        digest = hashlib.blake2b(f"anchors {METHOD}".encode(), digest_size=8)
        for array in (self.mean, self.directions):
            digest.update(np.ascontiguousarray(array, "<f4").tobytes())
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        save_arrays(path, {"mean": self.mean, "directions": self.directions, "odd": self.odd})

    @classmethod
    def load(cls, path: Path) -> Basis:
        try:
            arrays = load_arrays(path)
            return cls(arrays["mean"], arrays["directions"], arrays["odd"])
        except (OSError, ValueError, KeyError) as error:
            raise MotionloomError(f"{path} holds no basis of fingerprints ({error!r}): delete it.") from None


class Motionless(MotionloomError):
    """There is no moment to know these motions by."""


@dataclass(frozen=True)
class Anchors:
    """Anchors of several motions, end to end."""

    motion: Int[np.ndarray, " A"]
    time_s: Float[np.ndarray, " A"]
    """Since the motion's first frame."""
    prints: Float[np.ndarray, "A V D"]
    """Fingerprints at each of `TEMPI`."""

    def __len__(self) -> int:
        return len(self.motion)


def fit_basis(motions: Sequence[RobotMotion], dimensions: int = 24) -> Basis:
    """By these motions and their mirror images; a sample of a few thousand stands for a corpus. Raises `Motionless` where they hardly move."""
    given = traces(motions)
    rows = np.concatenate([_looks(given[i], TEMPI[:1])[1][:, 0] for i in range(given.motion_count)])
    if len(rows) < 2:
        raise Motionless("These motions hardly move: there is nothing to know them by.")
    width = rows.shape[1] // 3
    source, sign = mirror_channels(given.values.shape[1] - ROOT_CHANNELS)
    poses = pose_channels(given.values.shape[1])
    place = np.searchsorted(poses, source[poses])
    image = (rows.reshape(-1, 3, width)[:, :, place] * sign[poses]).reshape(rows.shape)
    parts = [(rows + image) / 2, (rows - image) / 2]
    mean = parts[0].mean(0)
    widths, directions = zip(
        *(np.linalg.eigh(part.T @ part / len(part)) for part in (parts[0] - mean, parts[1])), strict=True
    )
    order = np.argsort(-np.concatenate(widths), kind="stable")[:dimensions]
    odd = np.repeat([False, True], rows.shape[1])[order]
    return Basis(mean.astype(np.float32), np.concatenate(directions, 1)[:, order].astype(np.float32), odd)


def find_anchors(given: Features, basis: Basis) -> Anchors:
    """Of traces."""
    times, prints = zip(*(_looks(given[i], TEMPI) for i in range(given.motion_count)), strict=True)
    motion = np.repeat(np.arange(given.motion_count), [len(time) for time in times])
    looks = np.concatenate(prints)
    found = (looks - basis.mean) @ basis.directions
    return Anchors(motion, np.concatenate(times).astype(np.float32), found.astype(np.float32))


def _looks(
    trace: Float[np.ndarray, "T C"], tempi: Sequence[float]
) -> tuple[Float[np.ndarray, " A"], Float[np.ndarray, "A V W"]]:
    """Times of a motion's anchors [s], and what it looks like around them."""
    pose = trace[:, pose_channels(trace.shape[1])].astype(np.float64)
    if len(pose) > 1:
        pose = ndimage.gaussian_filter1d(pose, SMOOTH, axis=0, mode="nearest")
        speed = np.linalg.norm(np.gradient(pose, 1 / TRACE_FPS, axis=0), axis=1)
        at = _peaks(ndimage.gaussian_filter1d(speed, SMOOTH, mode="nearest"))
    else:
        at = np.zeros(0)
    away = np.outer(tempi, [-REACH_S, 0, REACH_S]) * TRACE_FPS
    time = np.clip(at[:, None, None] + away, 0, len(pose) - 1)
    low = np.minimum(time.astype(np.int64), max(len(pose) - 2, 0))
    share = (time - low)[..., None]
    looks = pose[low] * (1 - share) + pose[np.minimum(low + 1, len(pose) - 1)] * share
    return at / TRACE_FPS, looks.reshape(len(at), len(tempi), 3 * len(pose_channels(trace.shape[1])))


def _peaks(speed: Float[np.ndarray, " T"]) -> Float[np.ndarray, " A"]:
    """Where it is highest for a moment, between samples [samples]; not within two samples of the ends."""
    middle = speed[2:-2]
    at = np.flatnonzero((middle > speed[1:-3]) & (middle >= speed[3:-1]) & (middle >= LEAST_SPEED)) + 2
    before, here, after = speed[at - 1], speed[at], speed[at + 1]
    return at + 0.5 * (before - after) / (before - 2 * here + after)
