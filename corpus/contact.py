"""Which parts of the soles touch the ground, frame by frame, read off the robot's own motion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8

from corpus import rotations
from corpus.motion import RobotMotion, differentiate
from corpus.robot import Robot

GROUND_POINTS = ("left_heel", "left_toe", "right_heel", "right_toe")
"""The columns of `contact`."""

CONTACT_HEIGHT = 0.03
"""A heel or toe higher than this is in the air [m]."""
CONTACT_SPEED = 0.4
"""A heel or toe faster than this slides through and is no contact [m/s]."""

BodyStates = tuple[Float[np.ndarray, "T B 3"], Float[np.ndarray, "T B 4"]]
"""World positions [m] and orientations of all bodies, as `corpus.robot.forward_kinematics` gives them."""


@dataclass(frozen=True)
class SolePoints:
    """World positions of the points of both soles."""

    position: Float[np.ndarray, "T P 3"]
    group: tuple[int, ...]
    """Index into `GROUND_POINTS` of each point."""


def detect_contacts(robot: Robot, motion: RobotMotion, states: BodyStates) -> UInt8[np.ndarray, "T 4"]:
    """Left heel, left toe, right heel, right toe: 1 where one of its points is low and slow."""
    points = sole_points(robot, states)
    speed = np.linalg.norm(differentiate(points.position, motion.fps), axis=2)
    touching = (points.position[..., 2] < CONTACT_HEIGHT) & (speed < CONTACT_SPEED)
    return np.stack([_any(touching, points.group, column) for column in range(4)], 1).astype(np.uint8)


def sole_points(robot: Robot, states: BodyStates) -> SolePoints:
    """Heels and toes of both feet."""
    position, rotation = states
    parts, group = [], []
    for column, name in enumerate(GROUND_POINTS):
        body, points = robot.ground_points[name]
        index = robot.body(body)
        turned = rotations.rotate(rotation[:, index, None], np.broadcast_to(points, (len(position), *points.shape)))
        parts.append(position[:, index, None] + turned)
        group += [column] * len(points)
    return SolePoints(np.concatenate(parts, 1), tuple(group))


def _any(touching: Bool[np.ndarray, "T P"], group: tuple[int, ...], column: int) -> Bool[np.ndarray, " T"]:
    return np.any(touching[:, [i for i, g in enumerate(group) if g == column]], axis=1)
