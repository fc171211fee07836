"""The nouns of motion: where it comes from (`Clip`), a person moving (`HumanMotion`), the robot moving (`RobotMotion`).

One convention everywhere: metres, radians, seconds, z up, quaternions `[w x y z]`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, UInt8

from corpus import rotations
from corpus.errors import Rejected
from corpus.skeleton import Skeleton

CORPUS_FPS = 50.0
"""The rate at which every motion is stored [Hz]: the robot's control rate."""

FPS_RANGE = (1.0, 1000.0)
"""Frame rates outside are no motion capture's [Hz]."""


@dataclass(frozen=True)
class Clip:
    """Where a motion comes from. Cheap to make: a scan reads names and sizes, never arrays."""

    source: str
    """Name of the reader, a key of `corpus.sources.SOURCES`."""
    path: str
    """POSIX path below the scanned folder; bytes that are not UTF-8 stand as `\\xNN`."""
    licence: str
    """The licence of the data set it belongs to."""
    subject: str = ""
    """Who moved; empty where the source does not say."""
    recording: str = ""
    """The original take: clips cut from one take share it, so that splits can keep them together."""
    label: str = ""
    """The content as the source tells it (a text, or words of the file's name)."""
    part: str = ""
    """Which motion of a file that holds several; empty where it holds one."""
    byte_count: int = 0
    """Size of the file [bytes]."""
    key: str = ""
    """Hash of the file's content (and `part`); filled when the file's bytes are first read."""


@dataclass(frozen=True)
class HumanMotion:
    """A person moving: world positions and orientations of every joint, frame by frame."""

    skeleton: Skeleton
    position: Float[np.ndarray, "T J 3"]
    """Joint positions in the world [m]."""
    rotation: Float[np.ndarray, "T J 4"]
    """Joint orientations in the world, unit quaternions."""
    fps: float
    body_model: str = ""
    """What gave the bones their lengths: a body-model file's name, "mean", or "file" (the motion file itself)."""
    note: str = ""
    """What the reader had to mend or assume; goes into the clip's row."""

    def __post_init__(self) -> None:
        check_fps(self.fps)
        _check("position", self.position, (len(self.position), self.skeleton.joint_count, 3))
        _check("rotation", self.rotation, (len(self.position), self.skeleton.joint_count, 4))

    @property
    def frame_count(self) -> int:
        return len(self.position)


@dataclass(frozen=True)
class RobotMotion:
    """The robot moving: `qpos` rows are root position xyz [m], root orientation `[w x y z]`, joint angles [rad]."""

    qpos: Float[np.ndarray, "T 7+N"]
    fps: float
    contact: UInt8[np.ndarray, "T 4"] | None = None
    """Does left heel, left toe, right heel, right toe touch the ground; None where nobody has looked yet."""
    note: str = ""

    def __post_init__(self) -> None:
        check_fps(self.fps)
        if self.qpos.ndim != 2 or self.qpos.shape[1] < 8:
            raise Rejected("wrong_shape", "a robot motion is (T, 7 + joints)", shape=str(self.qpos.shape))
        _check("qpos", self.qpos, self.qpos.shape)

    @property
    def frame_count(self) -> int:
        return len(self.qpos)

    @property
    def root_position(self) -> Float[np.ndarray, "T 3"]:
        return self.qpos[:, :3]

    @property
    def root_rotation(self) -> Float[np.ndarray, "T 4"]:
        return self.qpos[:, 3:7]

    @property
    def joint_position(self) -> Float[np.ndarray, "T N"]:
        return self.qpos[:, 7:]

    def slice(self, start: int, stop: int) -> RobotMotion:
        """Frames `start` to `stop`, as views."""
        contact = None if self.contact is None else self.contact[start:stop]
        return replace(self, qpos=self.qpos[start:stop], contact=contact)


def velocity(motion: RobotMotion) -> Float[np.ndarray, "T 6+N"]:
    """Generalised velocity in MuJoCo's convention: root linear in the world [m/s], root angular in the root's own
    frame [rad/s], joint speeds [rad/s]; central differences, one-sided at both ends."""
    turn = rotations.angular_velocity(motion.root_rotation, motion.fps)
    local_turn = rotations.rotate(rotations.conjugate(motion.root_rotation), turn)
    linear = differentiate(motion.root_position, motion.fps)
    return np.concatenate([linear, local_turn, differentiate(motion.joint_position, motion.fps)], 1)


def differentiate(x: Float[np.ndarray, "T ..."], fps: float) -> Float[np.ndarray, "T ..."]:
    """Central differences in time [unit/s], one-sided at both ends; zero for a single frame."""
    if len(x) < 2:
        return np.zeros_like(x)
    step = np.diff(x, axis=0) * x.dtype.type(fps)
    return np.concatenate([step[:1], (step[1:] + step[:-1]) / 2, step[-1:]])


def check_fps(fps: float) -> None:
    low, high = FPS_RANGE
    if not (np.isfinite(fps) and low <= fps <= high):
        raise Rejected(
            "bad_frame_rate", "the frame rate is absent or absurd", fps=float(fps), minimum=low, maximum=high
        )


def _check(name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise Rejected("wrong_shape", f"{name} should be {shape}", shape=str(array.shape))
    if len(array) < 2:
        raise Rejected("too_short", f"{name} has fewer than two frames", frames=len(array), minimum=2)
    if not np.isfinite(array.sum()) and not np.isfinite(array).all():  # a sum is finite only if all of it is
        bad = int((~np.isfinite(array.reshape(len(array), -1)).all(1)).sum())
        raise Rejected("not_finite", f"{name} holds NaN or infinity", bad_frames=bad)
