"""What a segment is like in plain terms, measured without an embedder: how fast, how high, on which feet, at which limits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike

from corpus import rotations
from corpus.catalog import Corpus
from corpus.errors import MotionloomError
from corpus.quality import AT_LIMIT
from corpus.robot import Robot
from hme.physics_score import TERMS, measure_terms
from hme.shard_rows import ShardRows
from hme.space import COMMAND, hme_folder, read_parts

VERSION = "2"
"""Raised by hand whenever the same frames would give other numbers or columns than before."""
STANDING = 0.6
"""The pelvis is at least this high while the robot stands or walks [m]: three quarters of its height with straight legs."""
LYING = 0.35
"""… and lower than this where it lies or sits on the floor [m]."""
UPRIGHT = np.pi / 4
"""Tilt of the pelvis below which a posture is upright [rad]."""

TRAITS: dict[str, str] = {
    "speed": "mean horizontal speed of the root [m/s]",
    "yaw_rate": "mean rate at which the root turns about the vertical, whichever way [rad/s]",
    "height": "mean height of the pelvis [m]",
    "lowest": "lowest height of the pelvis [m]",
    "highest": "highest height of the pelvis [m]",
    "tilt": "mean angle of the pelvis's axis from the vertical [rad]",
    "both_feet": "share of frames on both feet",
    "left_foot": "share of frames on the left foot alone",
    "right_foot": "share of frames on the right foot alone",
    "no_foot": "share of frames on neither foot",
    "standing": "share of frames upright and high",
    "crouching": "share of frames upright and lower: squatting, kneeling, sitting",
    "leaning": "share of frames tilted, the pelvis off the floor: bending, crawling",
    "lying": "share of frames tilted, the pelvis near the floor",
    "joint_speed": "root mean square of the joints' speeds [rad/s]",
    **dict.fromkeys(TERMS, "a term of the physics score: see `hme.physics_score.PhysicsTerms`"),
}
"""Name and meaning of every column but `at_limit`: by joint, the share of frames at an end of its range."""


def measure_traits(
    robot: Robot, qpos: Float[np.ndarray, "T Q"], contact: Bool[np.ndarray, "T 4"], lengths: Int[np.ndarray, " S"],
    *, fps: float,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Of segments that lie end to end: a number for each, in the order of `TRAITS`, and `at_limit` (S, joints).

    What lies between two frames belongs to the later one; a segment's first frame has none.
    """
    starts = np.cumsum(lengths) - lengths
    turn = rotations.normalise(qpos[:, 3:7].astype(np.float64))
    moves = _Steps(starts, lengths, fps)
    tilt = np.arccos(np.clip(1 - 2 * (turn[:, 1] ** 2 + turn[:, 2] ** 2), -1, 1))
    height = qpos[:, 2].astype(np.float64)
    joints = qpos[:, 7:].astype(np.float64)
    left, right = contact[:, :2].any(1), contact[:, 2:].any(1)
    upright, high, low = tilt < UPRIGHT, height >= STANDING, height < LYING
    at_limit = (joints <= robot.lower + AT_LIMIT) | (joints >= robot.upper - AT_LIMIT)

    def mean(values: ArrayLike) -> Float[np.ndarray, "S ..."]:
        total = np.add.reduceat(np.asarray(values), starts, 0, dtype=np.float64)
        return total / lengths.reshape(-1, *[1] * (total.ndim - 1))

    found = {
        "speed": moves.mean(np.linalg.norm(moves(qpos[:, :2].astype(np.float64)), axis=1)),
        "yaw_rate": moves.mean(np.abs(moves.turn(turn)[:, 2])),
        "height": mean(height),
        "lowest": np.minimum.reduceat(height, starts),
        "highest": np.maximum.reduceat(height, starts),
        "tilt": mean(tilt),
        "both_feet": mean(left & right),
        "left_foot": mean(left & ~right),
        "right_foot": mean(right & ~left),
        "no_foot": mean(~left & ~right),
        "standing": mean(upright & high),
        "crouching": mean(upright & ~high),
        "leaning": mean(~upright & ~low),
        "lying": mean(~upright & low),
        "joint_speed": np.sqrt(moves.mean((moves(joints) ** 2).mean(1))),
        **measure_terms(robot, qpos, lengths, fps=fps),
        "at_limit": mean(at_limit),
    }
    return {name: values.astype(np.float32) for name, values in found.items()}


class _Steps:
    """Differences between frames within segments that lie end to end."""

    def __init__(self, starts: Int[np.ndarray, " S"], lengths: Int[np.ndarray, " S"], fps: float):
        self.starts, self.lengths, self.fps = starts, lengths, fps

    def __call__(self, x: Float[np.ndarray, "T ..."]) -> Float[np.ndarray, "T ..."]:
        """Speed from the frame before [unit/s]; zero for the first frame of a segment."""
        speed = np.diff(x, axis=0, prepend=x[:1]) * self.fps
        speed[self.starts] = 0
        return speed

    def turn(self, q: Float[np.ndarray, "T 4"]) -> Float[np.ndarray, "T 3"]:
        """Angular velocity in the world from the frame before [rad/s]."""
        step = rotations.multiply(q, rotations.conjugate(np.concatenate([q[:1], q[:-1]])))
        speed = rotations.to_rotation_vector(step) * self.fps
        speed[self.starts] = 0
        return speed

    def mean(self, speed: Float[np.ndarray, " T"]) -> Float[np.ndarray, " S"]:
        """Over the steps of each segment."""
        return np.add.reduceat(speed, self.starts) / np.maximum(self.lengths - 1, 1)


def traits_folder(corpus: Corpus) -> Path:
    return hme_folder(corpus) / "traits"


def read_traits_parts(corpus: Corpus) -> tuple[ShardRows, ...]:
    """The files of all shards; raises `MotionloomError` where one holds what another version of this measured."""
    parts, folder = read_parts(corpus, traits_folder(corpus)), traits_folder(corpus)
    if any(part.made_by != VERSION for part in parts):
        raise MotionloomError(f"{folder} holds traits of another version: run `{COMMAND}` again.")
    return parts


def read_traits(corpus: Corpus) -> pl.DataFrame:
    """Row i is segment number i: `segment`, the columns of `TRAITS`, and `at_limit` as an array per row."""
    parts = read_traits_parts(corpus)
    if not parts:
        return pl.DataFrame(schema={"segment": pl.String, **dict.fromkeys(TRAITS, pl.Float32)})
    return pl.concat([pl.DataFrame(part.table) for part in parts])
