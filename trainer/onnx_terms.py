"""The vocabulary of observations that other people's trackers are described in: name → what it is, frame by frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from corpus import rotations
from corpus.g1 import KEY_BODIES
from deploy.observation import Reference, gravity
from trainer.kinematics import body_states
from trainer.policies import Sight


@dataclass(frozen=True)
class Seen:
    """What terms are made of, of N robots at F frames of the reference."""

    sight: Sight
    reference: Reference
    last_action: Float[np.ndarray, "N J"]
    """As the model gave it, in its own order of joints."""
    order: Int[np.ndarray, " J"]
    """Number in MuJoCo's order of each of the model's joints."""
    default: Float[np.ndarray, " J"]
    """In MuJoCo's order [rad]."""
    anchor: int
    """Which key body; its number."""


def _joint_position(seen: Seen) -> np.ndarray:
    return seen.sight.state.joint_position[:, seen.order]


def _joint_offset(seen: Seen) -> np.ndarray:
    return (seen.sight.state.joint_position - seen.default)[:, seen.order]


def _linear_velocity(seen: Seen) -> np.ndarray:
    away = rotations.conjugate(seen.sight.state.root_rotation)
    return rotations.rotate(away, seen.sight.qvel[:, :3])


ROBOT_TERMS: dict[str, Callable[[Seen], np.ndarray]] = {
    "joint_position": _joint_position,
    "joint_offset": _joint_offset,
    "joint_speed": lambda seen: seen.sight.state.joint_speed[:, seen.order],
    "angular_velocity": lambda seen: seen.sight.state.angular_velocity,
    "gravity": lambda seen: gravity(seen.sight.state.root_rotation),
    "last_action": lambda seen: seen.last_action,
    "linear_velocity": _linear_velocity,
    "height": lambda seen: seen.sight.qpos[:, 2:3],
}
"""(N, width): joint angles [rad], the same from `default`, joint speeds [rad/s], the pelvis's angular velocity in its own frame
[rad/s], the direction of gravity there, the model's last output; then what no robot measures, as the simulator has it: the
pelvis's velocity in its own frame [m/s] and its height [m]."""


def _anchors(seen: Seen) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Position and rotation of the anchor, the robot's (N, 1, …) and the reference's (N, F, …)."""
    qpos, velocity = seen.reference.qpos, seen.reference.velocity
    own = body_states(seen.sight.qpos, seen.sight.qvel)
    asked = body_states(qpos.reshape(-1, qpos.shape[-1]), velocity.reshape(-1, velocity.shape[-1]))
    i, shape = seen.anchor, qpos.shape[:2]
    return (
        own.position[:, None, i],
        own.rotation[:, None, i],
        asked.position[:, i].reshape(*shape, 3),
        asked.rotation[:, i].reshape(*shape, 4),
    )


def _anchor_position(seen: Seen) -> np.ndarray:
    place, turn, asked, _ = _anchors(seen)
    return rotations.rotate(rotations.conjugate(turn), asked - place)


def _anchor_orientation(seen: Seen) -> np.ndarray:
    _, turn, _, asked = _anchors(seen)
    matrix = rotations.to_matrix(rotations.multiply(rotations.conjugate(turn), asked))
    return matrix[..., :2].reshape(*matrix.shape[:2], 6)


def _reference_velocity(seen: Seen) -> np.ndarray:
    return rotations.rotate(rotations.conjugate(seen.reference.qpos[..., 3:7]), seen.reference.velocity[..., :3])


REFERENCE_TERMS: dict[str, Callable[[Seen], Float[np.ndarray, "N F W"]]] = {
    "reference_joint_position": lambda seen: seen.reference.qpos[..., 7:][..., seen.order],
    "reference_joint_offset": lambda seen: (seen.reference.qpos[..., 7:] - seen.default)[..., seen.order],
    "reference_joint_speed": lambda seen: seen.reference.velocity[..., 6:][..., seen.order],
    "reference_height": lambda seen: seen.reference.qpos[..., 2:3],
    "reference_gravity": lambda seen: gravity(seen.reference.qpos[..., 3:7]),
    "reference_linear_velocity": _reference_velocity,
    "reference_angular_velocity": lambda seen: seen.reference.velocity[..., 3:6],
    "anchor_position": _anchor_position,
    "anchor_orientation": _anchor_orientation,
}
"""(N, F, width): the reference's joints; its pelvis's height [m], gravity, velocity [m/s] and angular velocity [rad/s] in its own
frame; the reference's anchor body in the frame of the robot's: its place [m], and the first two columns of its matrix, row by row
(as BeyondMimic has it). Where the robot stands is as the simulator has it."""

TERMS = (*ROBOT_TERMS, *REFERENCE_TERMS)
ANCHORS = KEY_BODIES
