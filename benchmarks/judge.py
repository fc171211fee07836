"""How far a robot's motion ends from its targets: one measure for our solver and the peer's."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from corpus import rotations
from corpus.g1 import G1
from corpus.robot import forward_kinematics
from retarget.solver import Targets


def target_errors(
    targets: Targets, qpos: Float[np.ndarray, "T Q"]
) -> tuple[Float[np.ndarray, " T"], Float[np.ndarray, " T"]]:
    """Mean distance [m] and angle [rad] of bodies from those of their targets that have a weight, frame by frame."""
    position, rotation = (part[:, list(targets.bodies)] for part in forward_kinematics(G1, qpos))
    distance = np.linalg.norm(position - targets.position, axis=2)
    turn = rotations.multiply(rotation, rotations.conjugate(targets.rotation))
    angle = np.linalg.norm(rotations.to_rotation_vector(turn), axis=2)
    return distance[:, targets.position_weight > 0].mean(1), angle[:, targets.rotation_weight > 0].mean(1)
