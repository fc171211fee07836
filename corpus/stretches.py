"""The stretches of a run in which the robot followed something, as motions at an even rate: what it did, and what it was to do."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float, UInt32

from corpus import rotations
from corpus.errors import Rejected
from corpus.g1 import G1
from corpus.motion import CORPUS_FPS, RobotMotion
from corpus.odometry import root_path
from corpus.recording import Recording

TRACKING = "track"
"""The mode of the controller in which it follows."""


@dataclass(frozen=True)
class StretchOptions:
    gap_s: float = 0.1
    """Where no step was written for longer than this the stretch ends [s]; shorter gaps are bridged in a straight line."""
    shortest_s: float = 1.0
    """Stretches shorter than this are left out [s]."""


@dataclass(frozen=True, eq=False)
class Stretch:
    """A stretch of a run at 50 Hz, in the sensor's own world: heading from wherever it was switched on."""

    start_s: float
    """On the run's clock."""
    first: int
    """Row of the recording that it begins with."""
    tick_ms: Float[np.ndarray, " T"]
    """The robot's clock, without its wraps."""
    joint_position: Float[np.ndarray, "T J"]
    joint_speed: Float[np.ndarray, "T J"]
    root_rotation: Float[np.ndarray, "T 4"]
    angular_velocity: Float[np.ndarray, "T 3"]
    acceleration: Float[np.ndarray, "T 3"]
    reference_qpos: Float[np.ndarray, "T 7+J"]
    """NaN where there was none."""

    @property
    def frame_count(self) -> int:
        return len(self.joint_position)


def stretches(recording: Recording, options: StretchOptions = StretchOptions()) -> list[Stretch]:
    """All that are long enough, in order."""
    return [_evenly(recording, start, stop) for start, stop in spans(recording, options)]


def spans(recording: Recording, options: StretchOptions = StretchOptions()) -> list[tuple[int, int]]:
    """Rows of each stretch: the first, and the one after the last."""
    tracked = recording.mode == TRACKING
    found = []
    for first, stop in _runs(tracked):
        breaks = first + 1 + np.flatnonzero(np.diff(recording.time_s[first:stop]) > options.gap_s)
        ends = [first, *breaks.tolist(), stop]
        found += pairwise(ends)
    length = [recording.time_s[b - 1] - recording.time_s[a] for a, b in found]
    return [span for span, seconds in zip(found, length, strict=True) if seconds >= options.shortest_s - 1e-6]


def measured_motion(stretch: Stretch) -> RobotMotion:
    """What the robot did, its path over the floor from odometry: it begins at x = y = 0, and drifts."""
    path = root_path(G1, stretch.root_rotation, stretch.joint_position, CORPUS_FPS, acceleration=stretch.acceleration)
    note = "root path by odometry"
    return RobotMotion(np.concatenate([path, stretch.root_rotation, stretch.joint_position], 1), CORPUS_FPS, note=note)


def reference_motion(stretch: Stretch) -> RobotMotion:
    """What it was to do; `Rejected` where nobody said."""
    if not np.isfinite(stretch.reference_qpos).all():
        missing = int((~np.isfinite(stretch.reference_qpos).all(1)).sum())
        raise Rejected("no_reference", "some frames have nothing to follow", bad_frames=missing)
    return RobotMotion(stretch.reference_qpos, CORPUS_FPS, note="the reference of a run")


def unwrapped(tick: UInt32[np.ndarray, " T"]) -> Float[np.ndarray, " T"]:
    """The robot's clock without its wraps at 2**32 [ms]; small steps back stay steps back."""
    step = np.diff(tick).astype(np.int32)  # modulo 2**32, to the nearer side
    return float(tick[0]) + np.concatenate([[0.0], np.cumsum(step, dtype=np.float64)]) if len(tick) else np.zeros(0)


def _evenly(recording: Recording, start: int, stop: int) -> Stretch:
    time = recording.time_s[start:stop] - recording.time_s[start]
    at = np.arange(int(time[-1] * CORPUS_FPS + 1e-3) + 1) / CORPUS_FPS
    low = np.clip(np.searchsorted(time, at, side="right") - 1, 0, len(time) - 2)
    share = np.clip((at - time[low]) / (time[low + 1] - time[low]), 0, 1)

    def cut(rows: np.ndarray) -> np.ndarray:
        return rows[start:stop].astype(np.float64)

    def straight(rows: np.ndarray) -> np.ndarray:
        part = share.reshape(-1, *[1] * (rows.ndim - 1))
        return rows[low] * (1 - part) + rows[low + 1] * part

    def turned(rows: np.ndarray) -> np.ndarray:
        return rotations.continuous(rotations.normalise(rotations.slerp(rows[low], rows[low + 1], share)))

    asked = cut(recording.reference_qpos)
    with np.errstate(invalid="ignore"):
        reference = np.concatenate([straight(asked[:, :3]), turned(asked[:, 3:7]), straight(asked[:, 7:])], 1)
    reference[~np.isfinite(reference).all(1)] = np.nan
    names = ("joint_position", "joint_speed", "angular_velocity", "acceleration")
    return Stretch(
        start_s=float(recording.time_s[start]),
        first=start,
        tick_ms=straight(unwrapped(recording.tick[start:stop])),
        root_rotation=turned(cut(recording.root_rotation)),
        reference_qpos=reference,
        **{name: straight(cut(getattr(recording, name))) for name in names},
    )


def _runs(flags: Bool[np.ndarray, " T"]) -> list[tuple[int, int]]:
    edge = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return [(int(a), int(b)) for a, b in edge.reshape(-1, 2)]
