"""How well the robot follows, as a number for each of its aspects: pure functions of two states.

Places and orientations of bodies are compared where the reference, moved over the ground and turned about the vertical, stands in
the robot's place: a robot that drifts still learns to move. Velocities are the world's. Terms, weights and widths are BeyondMimic's
(arXiv 2508.08241), about the pelvis where it takes the torso, with joint limits at 95 % and no penalty on contacts.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from corpus import rotations
from corpus.g1 import G1
from trainer.kinematics import BodyStates


@dataclass(frozen=True)
class Moment:
    """All that a reward looks at, of N robots at the end of a control period."""

    robot: BodyStates
    reference: BodyStates
    joint_position: Float[np.ndarray, "N J"]
    action: Float[np.ndarray, "N J"]
    last_action: Float[np.ndarray, "N J"]

    @functools.cached_property
    def placed(self) -> BodyStates:
        """The reference in the robot's place."""
        return in_place(self.robot, self.reference)


@dataclass(frozen=True)
class RewardOptions:
    """Weights by the names of `TERMS`, and how wide each bell is."""

    weights: dict[str, float] = field(
        default_factory=lambda: {
            "root_position": 0.5,
            "root_rotation": 0.5,
            "body_position": 1.0,
            "body_rotation": 1.0,
            "body_velocity": 1.0,
            "body_turning": 1.0,
            "action_rate": -0.1,
            "joint_limit": -10.0,
        }
    )
    """Per second; a term that is not named counts nothing."""
    widths: dict[str, float] = field(
        default_factory=lambda: {
            "root_position": 0.3,
            "root_rotation": 0.4,
            "body_position": 0.3,
            "body_rotation": 0.4,
            "body_velocity": 1.0,
            "body_turning": 3.14,
        }
    )
    """Error at which a term is 1/e of its best [m], [rad], [m/s], [rad/s]; wider is more forgiving."""


def reward(moment: Moment, options: RewardOptions, period_s: float) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """What each robot earned in a control period, and the terms it is the sum of."""
    terms = {
        name: period_s * weight * TERMS[name](moment, options.widths.get(name, 1.0))
        for name, weight in options.weights.items()
    }
    return np.sum(list(terms.values()), axis=0), terms


def root_position(moment: Moment, width: float) -> Float[np.ndarray, " N"]:
    """Where the pelvis is in the world."""
    return _bell(moment.robot.position[:, :1] - moment.reference.position[:, :1], width)


def root_rotation(moment: Moment, width: float) -> Float[np.ndarray, " N"]:
    return np.exp(-(_angle(moment.robot.rotation[:, 0], moment.reference.rotation[:, 0]) ** 2) / width**2)


def body_position(moment: Moment, width: float) -> Float[np.ndarray, " N"]:
    return _bell(moment.robot.position - moment.placed.position, width)


def body_rotation(moment: Moment, width: float) -> Float[np.ndarray, " N"]:
    return np.exp(-(_angle(moment.robot.rotation, moment.placed.rotation) ** 2).mean(1) / width**2)


def body_velocity(moment: Moment, width: float) -> Float[np.ndarray, " N"]:
    return _bell(moment.robot.velocity - moment.reference.velocity, width)


def body_turning(moment: Moment, width: float) -> Float[np.ndarray, " N"]:
    return _bell(moment.robot.turning - moment.reference.turning, width)


def action_rate(moment: Moment, width: float) -> Float[np.ndarray, " N"]:
    return np.square(moment.action - moment.last_action).sum(1)


def joint_limit(moment: Moment, width: float) -> Float[np.ndarray, " N"]:
    """How far joints are beyond 95 % of their range, added up [rad]."""
    middle, half = (G1.upper + G1.lower) / 2, 0.95 * (G1.upper - G1.lower) / 2
    return np.maximum(np.abs(moment.joint_position - middle) - half, 0).sum(1)


TERMS: dict[str, Callable[[Moment, float], np.ndarray]] = {
    "root_position": root_position,
    "root_rotation": root_rotation,
    "body_position": body_position,
    "body_rotation": body_rotation,
    "body_velocity": body_velocity,
    "body_turning": body_turning,
    "action_rate": action_rate,
    "joint_limit": joint_limit,
}


def in_place(robot: BodyStates, reference: BodyStates) -> BodyStates:
    """The reference, moved over the ground and turned about the vertical so that its pelvis stands where the robot's does; velocities
    stay as they are in the world."""
    turn = (rotations.heading(robot.rotation[:, 0]) - rotations.heading(reference.rotation[:, 0]))[:, None]
    level = np.array([1.0, 1.0, 0.0])
    position = about_vertical(turn, reference.position - reference.position[:, :1] * level)
    position += robot.position[:, :1] * level
    w, x, y, z = np.moveaxis(reference.rotation, -1, 0)
    cosine, sine = np.cos(turn / 2), np.sin(turn / 2)
    rotation = [cosine * w - sine * z, cosine * x - sine * y, cosine * y + sine * x, cosine * z + sine * w]
    return BodyStates(position, np.stack(rotation, -1), reference.velocity, reference.turning)


def about_vertical(angle: Float[np.ndarray, "N 1"], vectors: Float[np.ndarray, "N K 3"]) -> Float[np.ndarray, "N K 3"]:
    """Vectors turned about the vertical by each robot's angle [rad]."""
    x, y, z = vectors[..., 0], vectors[..., 1], vectors[..., 2]
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.stack([cosine * x - sine * y, sine * x + cosine * y, z], -1)


def _bell(error: Float[np.ndarray, "N B 3"], width: float) -> Float[np.ndarray, " N"]:
    return np.exp(-np.einsum("nbi,nbi->n", error, error) / (error.shape[1] * width**2))


def _angle(a: Float[np.ndarray, "... 4"], b: Float[np.ndarray, "... 4"]) -> Float[np.ndarray, "..."]:
    """Between two orientations [rad]."""
    return 2 * np.arccos(np.clip(np.abs((a * b).sum(-1)), 0, 1))
