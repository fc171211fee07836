"""What is done to a window while it is loaded: mirrored, slowed or hurried within the joints' speed limits, turned.

Which of these a window gets follows from its slot's random numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from corpus.errors import MotionloomError
from corpus.robot import Robot

SNAP = 1.0e-6
"""A time this near to a row is that row [rows]: multiples of 1.1 miss whole numbers by rounding."""


@dataclass(frozen=True)
class Augment:
    mirror: float = 0.5
    """Share of the windows that are mirrored about the x–z plane, left for right."""
    speeds: tuple[float, ...] = (0.8, 0.9, 1.0, 1.1, 1.25)
    """How many times as fast a window may be shown: each of those equally often that its segment allows. A ladder, not a range,
    so that what it adds can be counted. Segments keep below their joints' speed limits, and have the frames for it."""
    heading: bool = True
    """Turn each window about the vertical by a random angle, through its first frame's root: so it stays where it is, and
    far from the origin nothing is lost to rounding."""

    def __post_init__(self) -> None:
        speeds = np.asarray(self.speeds, float)
        if not 0 <= self.mirror <= 1:
            raise MotionloomError(f"mirror {self.mirror}: should be a share from 0 to 1.")
        if speeds.ndim != 1 or not ((speeds >= 0.1) & (speeds <= 10)).all() or (np.diff(speeds) <= 0).any():
            raise MotionloomError(f"speeds {self.speeds}: should be numbers from 0.1 to 10 that rise.")
        if 1 not in speeds:
            raise MotionloomError(f"speeds {self.speeds}: 1 should be among them, for segments that allow no other.")

    def choose(
        self,
        uniform: Float[np.ndarray, "B 3"],
        frames: Int[np.ndarray, " B"],
        speed_use: Float[np.ndarray, " B"],
        window: int,
    ) -> Choice:
        """For windows of segments of so many frames, with their `speed_use` from the catalog."""
        return Choice(
            mirrored=uniform[:, 0] < self.mirror,
            speed=self._speed(uniform[:, 1], frames, speed_use, window),
            yaw=(2 * np.pi * uniform[:, 2] - np.pi if self.heading else np.zeros(len(uniform))).astype(np.float32),
        )

    def _speed(
        self, uniform: Float[np.ndarray, " B"], frames: Int[np.ndarray, " B"], speed_use: np.ndarray, window: int
    ) -> Float[np.ndarray, " B"]:
        if self.speeds == (1.0,):
            return np.ones(len(frames))
        # What a segment allows is the ladder up to some rung.
        count = allowed(self.speeds, frames, speed_use, window).sum(1)
        return np.array(self.speeds, float)[(uniform * count).astype(np.int64)]


@dataclass(frozen=True)
class Choice:
    """What each window of a batch gets."""

    mirrored: np.ndarray
    speed: Float[np.ndarray, " B"]
    """Frames of the segment per frame of the window."""
    yaw: Float[np.ndarray, " B"]
    """[rad]"""


def frames_needed(speed: Float[np.ndarray, "..."] | float, window: int) -> Int[np.ndarray, "..."]:
    """How many of a segment's frames a window takes at this speed."""
    return np.ceil((window - 1) * np.asarray(speed, float) - SNAP).astype(np.int64) + 1


def allowed(
    speeds: tuple[float, ...], frames: Int[np.ndarray, " S"], speed_use: Float[np.ndarray, " S"], window: int
) -> np.ndarray:
    """Which speeds (columns) each segment (row) allows: no joint faster than its limit, and frames enough.

    Where `speed_use` is not known (NaN), none above 1.
    """
    # Single precision made 0.8 a little more than it was.
    in_limits = np.multiply.outer(np.asarray(speed_use, float), speeds) <= 1 + 1e-6
    return (in_limits | (np.array(speeds) <= 1)) & (frames_needed(np.array(speeds), window) <= frames[:, None])


def virtual_frames(
    augment: Augment, frames: Int[np.ndarray, " S"], speed_use: Float[np.ndarray, " S"], *, window: int = 1
) -> int:
    """Frames that segments make with all that is done to them: at every speed that each allows, as they are and mirrored.

    Headings are not counted: they are as many as one likes. Segments shorter than a window count nothing.
    """
    frames, total = np.asarray(frames), 0
    for number, speed in enumerate(augment.speeds):
        shown = np.floor((frames - 1) / speed + SNAP).astype(np.int64) + 1
        usable = allowed(augment.speeds, frames, speed_use, window)[:, number] & (frames >= window)
        total += int(shown[usable].sum())
    return total * (2 if 0 < augment.mirror < 1 else 1)


def mirror_columns(robot: Robot) -> tuple[int, ...]:
    """For each column of the mirrored robot's `qpos` the column it comes from, counted from 1 and with its sign.

    About the x–z plane: y and the quaternion's x and z change sign; left joints are right ones; turns about x and z are
    the other way round, those about y are not. Assumes a robot built symmetrically.
    """
    columns = [1, -2, 3, 4, -5, 6, -7]
    for joint, name in enumerate(robot.joint_names):
        twin = _twin(robot, name)
        same = float(robot.joint_axis[twin] @ (robot.joint_axis[joint] * [-1, 1, -1]))
        if abs(abs(same) - 1) > 1e-3:
            raise MotionloomError(
                f"{robot.name}: joints {name} and {robot.joint_names[twin]} are not each other's mirror image."
            )
        columns.append((8 + twin) * (1 if same > 0 else -1))
    return tuple(columns)


def _twin(robot: Robot, name: str) -> int:
    """The joint that takes this one's place in the mirror."""
    swap = {"left_": "right_", "right_": "left_"}
    twin = next((new + name.removeprefix(old) for old, new in swap.items() if name.startswith(old)), name)
    if twin not in robot.joint_names:
        raise MotionloomError(f"{robot.name}: joint {name} has no twin {twin}, so the robot cannot be mirrored.")
    return robot.joint_names.index(twin)
