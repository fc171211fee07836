"""A motion by formula, which tests of features and embeddings share."""

from __future__ import annotations

import numpy as np

from corpus import rotations
from corpus.motion import RobotMotion


def swinging(hz: float, seconds: float, *, seed: int = 0, start_s: float = 0.0, joints: int = 29) -> RobotMotion:
    """Walking straight on in some direction, bobbing and swaying; all joints swing at `hz`, each in its own way."""
    rng = np.random.default_rng(seed)
    t = start_s + np.arange(round(seconds * 50)) / 50
    swing = 2 * np.pi * hz * t[:, None]
    angles = rng.normal(0, 0.3, joints) + rng.uniform(0.1, 0.8, joints) * np.sin(swing + rng.uniform(0, 6, joints))
    sway = rotations.from_rotation_vector(0.1 * np.sin(swing + [0.0, 1.0, 2.0]))
    rotation = rotations.multiply(rotations.about_z(np.array(rng.uniform(-3, 3))), sway)
    path = np.outer(t, rng.normal(0, 0.5, 3) * [1, 1, 0]) + [0, 0, 0.8] + 0.02 * np.sin(swing + [0.0, 1.0, 2.0])
    return RobotMotion(np.concatenate([path, rotation, angles], 1), 50.0)
