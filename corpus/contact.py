"""Which parts of the soles touch the ground, frame by frame, read off the robot's own motion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from corpus.motion import RobotMotion
from corpus.robot import Robot

GROUND_POINTS = ("left_heel", "left_toe", "right_heel", "right_toe")
"""The columns of `contact`."""

CONTACT_HEIGHT = 0.03
"""A heel or toe higher than this is in the air [m]: what retargeting leaves between sole and floor, and no more."""
CONTACT_SPEED = 0.4
"""A heel or toe faster than this passes over the floor and is no contact [m/s]; the bound in use for human feet."""
VOTE_FRAMES = 5
"""A frame touches where most of this many frames around it do: no flicker of one or two frames."""

BodyStates = tuple[Float[np.ndarray, "T B 3"], Float[np.ndarray, "T B 4"]]
"""World positions [m] and orientations of all bodies, as `corpus.robot.forward_kinematics` gives them."""


@dataclass(frozen=True)
class SolePoints:
    """World positions of the points of both soles: the same material points all the time."""

    position: Float[np.ndarray, "3 P T"]
    """x, y and z of each point, frames last [m]."""
    group: Int[np.ndarray, " P"]
    """Index into `GROUND_POINTS` of each point."""


def detect_contacts(
    robot: Robot, motion: RobotMotion, states: BodyStates, *, soles: SolePoints | None = None
) -> UInt8[np.ndarray, "T 4"]:
    """Left heel, left toe, right heel, right toe: 1 where one of its points is low and slow.

    `soles` saves computing them again.
    """
    soles = sole_points(robot, states) if soles is None else soles
    step = np.linalg.norm(np.diff(soles.position, axis=2), axis=0) * motion.fps
    # The calmer of the steps to and from a frame: the first frame on the floor and the last one touch too.
    speed = np.minimum(np.concatenate([step[:, :1], step], 1), np.concatenate([step, step[:, -1:]], 1))
    touching = (soles.position[2] < CONTACT_HEIGHT) & (speed < CONTACT_SPEED)
    parts = [np.any(touching[soles.group == column], axis=0) for column in range(len(GROUND_POINTS))]
    return np.ascontiguousarray(_majority(np.stack(parts)).T)


def sole_points(robot: Robot, states: BodyStates) -> SolePoints:
    """Heels and toes of both feet."""
    places = [robot.ground_points[name] for name in GROUND_POINTS]
    bodies = np.concatenate([np.full(len(points), robot.body(body)) for body, points in places])
    group = np.concatenate([np.full(len(points), column) for column, (_, points) in enumerate(places)])
    return SolePoints(fixed_points(states, bodies, np.concatenate([points for _, points in places])), group)


def fixed_points(
    states: BodyStates, bodies: Int[np.ndarray, " P"], points: Float[np.ndarray, "P 3"]
) -> Float[np.ndarray, "3 P T"]:
    """Where points fixed in bodies (given in the body's frame) lie in the world [m]."""
    position, rotation = states
    # Each body's rotation matrix is made once, and everything is kept frames-last: long, contiguous rows.
    own, place = np.unique(bodies, return_inverse=True)
    w, x, y, z = np.ascontiguousarray(rotation.transpose(2, 1, 0)[:, own])
    matrix = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    local = points.astype(position.dtype)[:, :, None]
    result = np.ascontiguousarray(position.transpose(2, 1, 0)[:, bodies])
    for axis, row in enumerate(matrix):
        for column, entry in enumerate(row):
            result[axis] += entry[place] * local[:, column]
    return result


def _majority(touching: Bool[np.ndarray, "4 T"]) -> UInt8[np.ndarray, "4 T"]:
    half = VOTE_FRAMES // 2
    total = np.cumsum(np.pad(touching.astype(np.int32), ((0, 0), (half + 1, half)), mode="edge"), axis=1)
    return (total[:, VOTE_FRAMES:] - total[:, :-VOTE_FRAMES] > half).astype(np.uint8)
