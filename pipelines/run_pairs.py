"""What a robot did in a run, stretch by stretch, and what it was to do: motions that begin in one place, facing one way.

Where it was comes from odometry, or from a simulator that knows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from corpus import rotations
from corpus.errors import MotionloomError, Rejected
from corpus.motion import CORPUS_FPS, RobotMotion
from corpus.recording import Recording, read_recording
from corpus.sources.safe_files import read_npz
from corpus.stretches import Stretch, StretchOptions, measured_motion, reference_motion, spans, stretches

JUDGED = StretchOptions(shortest_s=0.1)
"""Also those who fall at once are judged."""


@dataclass(frozen=True, eq=False)
class Pair:
    """A stretch of a run: what the robot did, and what it was to do; both begin in one place, facing one way."""

    name: str
    stretch: Stretch
    stop: int
    """Row of the recording after it."""
    robot: RobotMotion
    joint_speed: Float[np.ndarray, "T J"]
    """The robot's [rad/s]."""
    asked: RobotMotion | None
    """None where some frames have no reference."""


def followed(path: Path, truth: Path | None = None) -> tuple[Recording, list[Pair]]:
    """A run and all its stretches of tracking, however short."""
    try:
        recording = read_recording(path)
        known = None if truth is None else read_truth(truth)
    except Rejected as rejected:
        raise MotionloomError(f"{path if truth is None else f'{path}, {truth}'}: {rejected}") from None
    pairs = []
    ends = [stop for _, stop in spans(recording, JUDGED)]
    for number, (stretch, stop) in enumerate(zip(stretches(recording, JUDGED), ends, strict=True)):
        robot, speed = (
            (measured_motion(stretch), stretch.joint_speed) if known is None else _true_motion(stretch, known)
        )
        try:
            asked = reference_motion(stretch)
        except Rejected:
            asked = None
        robot = robot if asked is None else _aligned(robot, asked)
        pairs.append(Pair(f"track-{number}", stretch, stop, robot, speed, asked))
    return recording, pairs


@dataclass(frozen=True, eq=False)
class Truth:
    """Where a simulated robot really was."""

    time_ms: Float[np.ndarray, " T"]
    """On the robot's own clock."""
    qpos: Float[np.ndarray, "T 36"]
    qvel: Float[np.ndarray, "T 35"]


def read_truth(path: Path) -> Truth:
    """What a simulator wrote down; `Rejected` where the file says what cannot be."""
    try:
        found = read_npz(path, ["time_s", "qpos", "qvel"])
    except OSError as error:
        raise Rejected("unreadable", str(error)) from None
    if len(found) < 3:
        raise Rejected("missing_key", "a simulator's truth has time_s, qpos and qvel", key="time_s, qpos or qvel")
    time_s, qpos, qvel = (found[name] for name in ("time_s", "qpos", "qvel"))
    shapes = [(len(time_s),), (len(time_s), 36), (len(time_s), 35)] if time_s.ndim == 1 and len(time_s) > 1 else []
    if [array.shape for array in (time_s, qpos, qvel)] != shapes or any(a.dtype.kind != "f" for a in found.values()):
        told = ", ".join(str(array.shape) for array in (time_s, qpos, qvel))
        raise Rejected("wrong_shape", "time_s (T,), qpos (T, 36) and qvel (T, 35) of two rows or more", shape=told)
    if not all(np.isfinite(array).all() for array in (time_s, qpos, qvel)) or (np.diff(time_s) <= 0).any():
        raise Rejected("not_finite", "qpos and qvel should be numbers, and time_s rise")
    return Truth(time_s * 1e3, qpos.astype(float), qvel.astype(float))


def _aligned(robot: RobotMotion, asked: RobotMotion) -> RobotMotion:
    """The robot's motion turned and moved over the ground so that it begins where, and as, the reference does."""
    start = float(rotations.heading(asked.root_rotation[0]) - rotations.heading(robot.root_rotation[0]))
    turn = np.broadcast_to(rotations.about_z(np.array(start)), (robot.frame_count, 4))
    place = rotations.rotate(turn, robot.root_position - robot.root_position[0] * [1, 1, 0])
    place = place + asked.root_position[0] * [1, 1, 0]
    turned = rotations.multiply(turn, robot.root_rotation)
    return replace(robot, qpos=np.concatenate([place, turned, robot.joint_position], 1))


def _true_motion(stretch: Stretch, truth: Truth) -> tuple[RobotMotion, Float[np.ndarray, "T 29"]]:
    """The robot's motion and its joints' speeds as a simulator knows them, at the moments of the run."""
    at, known = stretch.tick_ms, truth.time_ms
    period = 1e3 / CORPUS_FPS
    if at[0] < known[0] - period or at[-1] > known[-1] + period:
        raise MotionloomError(
            f"The truth goes from {known[0]:.0f} to {known[-1]:.0f} ms on the robot's clock, the run from {at[0]:.0f} to {at[-1]:.0f} ms."
        )
    low = np.clip(np.searchsorted(known, at, side="right") - 1, 0, len(known) - 2)
    share = np.clip((at - known[low]) / (known[low + 1] - known[low]), 0, 1)
    qpos, qvel = (
        rows[low] * (1 - share[:, None]) + rows[low + 1] * share[:, None] for rows in (truth.qpos, truth.qvel)
    )
    before, after = (rotations.normalise(truth.qpos[rows, 3:7]) for rows in (low, low + 1))
    qpos[:, 3:7] = rotations.continuous(rotations.slerp(before, after, share))
    return RobotMotion(qpos, CORPUS_FPS), qvel[:, 6:]
