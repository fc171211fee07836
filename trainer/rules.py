"""When a tracker has failed: three rules in use, by name, of the robot's key bodies beside the reference's.

What is not a number has failed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float

from corpus import rotations
from corpus.g1 import KEY_BODIES
from trainer.kinematics import BodyStates
from trainer.metrics import heading_frame

HEIGHT_LIMIT = 0.25
"""[m]"""
TURN_LIMIT = 1.0
"""[rad]"""
PLACE_LIMIT = 0.25
"""[m]"""

PELVIS, TORSO = KEY_BODIES.index("pelvis"), KEY_BODIES.index("torso_link")
_TRUNK = [PELVIS, TORSO]


def trunk(robot: BodyStates, reference: BodyStates) -> Bool[np.ndarray, " N"]:
    """Humanoid-GPT's: pelvis or torso turned off by more than 1 rad, or its height off by more than 0.25 m.

    Turns are the world's, heading included. The public code takes each root's heading away first and measures heights along the
    robot's tilted axes; both forgive more.
    """
    turned = turn_between(robot.rotation[:, _TRUNK], reference.rotation[:, _TRUNK])
    height = abs(robot.position[:, _TRUNK, 2] - reference.position[:, _TRUNK, 2])
    return np.logical_not(((turned <= TURN_LIMIT) & (height <= HEIGHT_LIMIT)).all(1))


def whole_body(robot: BodyStates, reference: BodyStates) -> Bool[np.ndarray, " N"]:
    """As `trunk`; or any of the fourteen key bodies more than 0.25 m from its place, seen as in MPKPE: from each one's own root,
    without its x, y and heading, so that drift over the ground is no failure."""
    own, asked = (heading_frame(states.position, states.rotation) for states in (robot, reference))
    near = np.linalg.norm(own - asked, axis=-1) <= PLACE_LIMIT
    return trunk(robot, reference) | ~near.all(1)


def fall(robot: BodyStates, reference: BodyStates) -> Bool[np.ndarray, " N"]:
    """SONIC's looser one: the root's height off by more than 0.25 m, whatever else."""
    return ~(abs(robot.position[:, PELVIS, 2] - reference.position[:, PELVIS, 2]) <= HEIGHT_LIMIT)


RULES: dict[str, Callable[[BodyStates, BodyStates], np.ndarray]] = {
    "trunk": trunk,
    "whole_body": whole_body,
    "fall": fall,
}


def turn_between(a: Float[np.ndarray, "... 4"], b: Float[np.ndarray, "... 4"]) -> Float[np.ndarray, "..."]:
    """Angle of the turn from one orientation to the other [rad], in [0, π]."""
    across = rotations.multiply(a, rotations.conjugate(b))
    return 2 * np.arctan2(np.linalg.norm(across[..., 1:], axis=-1), abs(across[..., 0]))
