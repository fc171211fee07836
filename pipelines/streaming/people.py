"""A hello and a frame's numbers → a person's joints in the world, z up: as the file readers do it for whole files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Float

from corpus import rotations
from corpus.body_model import JOINT_NAMES, MEAN_PELVIS, PARENTS, Body, body
from corpus.errors import Rejected
from corpus.skeleton import Skeleton, forward_kinematics
from corpus.sources.bvh_live import LiveBvh, live_bvh, read_hierarchy
from corpus.sources.bvh_skeleton import SkeletonFile
from pipelines.streaming.human_packets import JOINTS, HumanHello

Pose = tuple[Float[np.ndarray, "J 3"], Float[np.ndarray, "J 4"]]
MODELS = {"smpl": "smplh", "smplx": "smplx"}
"""Whose body a kind has."""


class Person(Protocol):
    """Somebody whose frames can be read."""

    @property
    def skeleton(self) -> Skeleton: ...

    def pose(self, numbers: Float[np.ndarray, " N"]) -> Pose:
        """World positions [m] and orientations of the skeleton's joints; `Rejected` for numbers that are none of hers."""
        ...


def person(
    hello: HumanHello,
    first: Float[np.ndarray, " N"],
    *,
    body_models: Path | None = None,
    skeleton: SkeletonFile | None = None,
) -> Person:
    """Whoever says this hello and then moves like this `first`; `Rejected` where nobody can."""
    if hello.kind == "bvh":
        file = read_hierarchy(hello.hierarchy)
        _check_count(first, file.values.shape[1])
        return BvhPerson(live_bvh(file, first, skeleton, hello.up))
    model = MODELS[hello.kind]
    if hello.bones:
        return SmplPerson(
            Body(np.array(hello.bones).reshape(JOINTS, 3), np.array(MEAN_PELVIS[model]), "sent"), y_up=hello.up == "y"
        )
    betas = np.array(hello.betas or [0.0] * 10)
    return SmplPerson(body(betas, hello.gender, model, body_models), y_up=hello.up == "y")


class SmplPerson:
    """By `trans` and a rotation vector for each joint."""

    def __init__(self, who: Body, *, y_up: bool):
        self.skeleton = Skeleton("smpl", JOINT_NAMES, PARENTS, who.offsets)
        self.pelvis, self.y_up = who.pelvis, y_up

    def pose(self, numbers: Float[np.ndarray, " N"]) -> Pose:
        if len(numbers) < 3 + 3 * JOINTS or len(numbers) % 3:
            raise Rejected("wrong_shape", f"a frame is 3 + 3 × {JOINTS} numbers or more", numbers=len(numbers))
        if np.abs(numbers[: 3 + 3 * JOINTS]).max() > 1000.0:
            raise Rejected("absurd_size", "a place beyond 1 km or a turn beyond 1000 rad")
        local = rotations.from_rotation_vector(numbers[3 : 3 + 3 * JOINTS].reshape(1, JOINTS, 3))
        pelvis = numbers[None, :3] + self.pelvis
        if self.y_up:
            local[:, 0] = rotations.multiply(rotations.Y_UP_TO_Z_UP, local[:, 0])
            pelvis = rotations.rotate(rotations.Y_UP_TO_Z_UP, pelvis)
        position, rotation = forward_kinematics(self.skeleton, pelvis, local)
        return position[0], rotation[0]


@dataclass(frozen=True)
class BvhPerson:
    """By the values of a BVH's channels."""

    live: LiveBvh

    @property
    def skeleton(self) -> Skeleton:
        return self.live.skeleton

    def pose(self, numbers: Float[np.ndarray, " N"]) -> Pose:
        _check_count(numbers, self.live.file.values.shape[1])
        position, rotation = self.live.pose(numbers)
        if np.abs(position).max() > 1000.0:
            raise Rejected("absurd_size", "a joint beyond 1 km")
        return position, rotation


def _check_count(numbers: Float[np.ndarray, " N"], count: int) -> None:
    if len(numbers) != count:
        raise Rejected("wrong_shape", "a number for each channel", numbers=len(numbers), channels=count)


def between(a: Pose, b: Pose, share: float) -> Pose:
    """From one pose towards another; for a frame that was lost."""
    return a[0] + share * (b[0] - a[0]), rotations.slerp(a[1], b[1], np.full(len(a[1]), share))
