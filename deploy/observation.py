"""What a policy sees of the robot and of the motion to follow: one function, in training and on the robot.

Only what the robot can measure: joint encoders, the gyroscope and the orientation of its pelvis. Where it stands, and how fast
it moves over the ground, it does not know.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from corpus import rotations
from corpus.errors import MotionloomError
from corpus.g1 import G1

if TYPE_CHECKING:
    from deploy.contract import Contract

VERSION = 1
"""Of the terms' meaning: part of every hash."""


@dataclass(frozen=True)
class RobotState:
    """What the robot measures, of N robots at once."""

    joint_position: Float[np.ndarray, "N J"]
    joint_speed: Float[np.ndarray, "N J"]
    root_rotation: Float[np.ndarray, "N 4"]
    """Of the pelvis in the world, its heading aligned with the reference's at the start."""
    angular_velocity: Float[np.ndarray, "N 3"]
    """Of the pelvis, in its own frame [rad/s]."""
    last_action: Float[np.ndarray, "N J"]
    """As the policy gave it, in the contract's units."""


@dataclass(frozen=True)
class Reference:
    """The motion to follow, at the frames that `ObservationSpec.frames` asks for."""

    qpos: Float[np.ndarray, "N F 7+J"]
    velocity: Float[np.ndarray, "N F 6+J"]
    """As `corpus.motion.velocity` gives it."""


@dataclass(frozen=True)
class ObservationSpec:
    """Which terms make an observation, in which order."""

    robot: tuple[str, ...] = ("joint_position", "joint_speed", "angular_velocity", "gravity", "last_action")
    """Names out of `ROBOT_TERMS`."""
    reference: tuple[str, ...] = ("joints", "orientation", "height", "tilt", "velocity", "turning")
    """Names out of `REFERENCE_TERMS`, each seen at all `frames`."""
    frames: tuple[int, ...] = (1, 4, 10)
    """Which frames of the reference are seen, counted from now [control periods]; an action leads to frame 1."""

    def __post_init__(self) -> None:
        for names, known in ((self.robot, ROBOT_TERMS), (self.reference, REFERENCE_TERMS)):
            if unknown := [name for name in names if name not in known]:
                raise MotionloomError(f"No term {unknown[0]!r} of an observation. Known: {', '.join(known)}.")
        if not self.frames or list(self.frames) != sorted(set(self.frames)) or self.frames[0] < 0:
            raise MotionloomError(f"Frames {self.frames}: should rise, from 0 or later.")

    @property
    def size(self) -> int:
        """Numbers in an observation."""
        robot = sum(ROBOT_TERMS[name][0] for name in self.robot)
        return robot + len(self.frames) * sum(REFERENCE_TERMS[name][0] for name in self.reference)

    @property
    def hash(self) -> str:
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        return {
            "robot": list(self.robot),
            "reference": list(self.reference),
            "frames": list(self.frames),
            "version": VERSION,
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> ObservationSpec:
        if values["version"] != VERSION:
            raise MotionloomError(f"An observation of version {values['version']}; this program makes {VERSION}.")
        return cls(tuple(values["robot"]), tuple(values["reference"]), tuple(int(f) for f in values["frames"]))


def observe(contract: Contract, state: RobotState, reference: Reference) -> Float[np.ndarray, "N D"]:
    """Observations, float32: the robot's terms, then each of the reference's at all frames."""
    spec, count = contract.observation, len(state.joint_position)
    parts = [ROBOT_TERMS[name][1](contract, state) for name in spec.robot]
    parts += [REFERENCE_TERMS[name][1](contract, state, reference).reshape(count, -1) for name in spec.reference]
    return np.concatenate(parts, 1, dtype=np.float32)


def gravity(rotation: Float[np.ndarray, "... 4"]) -> Float[np.ndarray, "... 3"]:
    """The direction of gravity in a turned frame: how it leans, whatever its heading."""
    w, x, y, z = np.moveaxis(rotation, -1, 0)
    return np.stack([2 * (w * y - x * z), -2 * (y * z + w * x), 2 * (x * x + y * y) - 1], -1)


def lean(down: Float[np.ndarray, " 3"]) -> tuple[float, float]:
    """Forward and to the right, of what sees gravity in this direction [rad]."""
    return float(np.arctan2(down[0], -down[2])), float(np.arctan2(-down[1], -down[2]))


ROBOT_TERMS: dict[str, tuple[int, Callable[[Contract, RobotState], np.ndarray]]] = {
    "joint_position": (G1.joint_count, lambda contract, state: state.joint_position - contract.default),
    "joint_speed": (G1.joint_count, lambda contract, state: state.joint_speed),
    "angular_velocity": (3, lambda contract, state: state.angular_velocity),
    "gravity": (3, lambda contract, state: gravity(state.root_rotation)),
    "last_action": (G1.joint_count, lambda contract, state: state.last_action),
}
"""Name → width, function."""


def _orientation(contract: Contract, state: RobotState, reference: Reference) -> np.ndarray:
    """The reference's root seen from the robot's: the first two columns of the rotation between them."""
    between = rotations.multiply(rotations.conjugate(state.root_rotation)[:, None], reference.qpos[..., 3:7])
    w, x, y, z = np.moveaxis(between, -1, 0)
    return np.stack(
        [
            1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y),
            2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x),
        ],
        -1,
    )  # fmt: skip


def _velocity(contract: Contract, state: RobotState, reference: Reference) -> np.ndarray:
    """Of the reference's root, in the frame of its own heading."""
    away = rotations.about_z(-rotations.heading(reference.qpos[..., 3:7]))
    return rotations.rotate(away, reference.velocity[..., :3])


REFERENCE_TERMS: dict[str, tuple[int, Callable[[Contract, RobotState, Reference], np.ndarray]]] = {
    "joints": (G1.joint_count, lambda contract, state, reference: reference.qpos[..., 7:] - contract.default),
    "joint_speeds": (G1.joint_count, lambda contract, state, reference: reference.velocity[..., 6:]),
    "orientation": (6, _orientation),
    "height": (1, lambda contract, state, reference: reference.qpos[..., 2:3]),
    "tilt": (3, lambda contract, state, reference: gravity(reference.qpos[..., 3:7])),
    "velocity": (3, _velocity),
    "turning": (3, lambda contract, state, reference: reference.velocity[..., 3:6]),
}
