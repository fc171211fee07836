"""A G1 that goes somewhere by formula, its lowest point on the floor, and an index of such motions, for tests of the planner."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from corpus import rotations
from corpus.g1 import G1
from deploy.outline import lowest
from deploy.planner.index import Index, build_index


def stroll(speed: float, turning: float = 0.0, *, seconds: float = 6.0, bent: float = 0.2, seed: int = 0) -> np.ndarray:
    """At so many metres and radians a second; legs swing, and the knees are bent by twice `bent` [rad]."""
    t = np.arange(round(seconds * 50)) / 50
    rng = np.random.default_rng(seed)
    heading = rng.uniform(-3, 3) + turning * t
    step = np.stack([np.cos(heading), np.sin(heading)], 1) * speed / 50
    qpos = np.zeros((len(t), 36))
    qpos[:, :2] = rng.uniform(-2, 2, 2) + np.cumsum(step, 0)
    qpos[:, 3:7] = rotations.about_z(heading)
    for side, phase in (("left", 0.0), ("right", np.pi)):
        swing = 0.35 * min(speed, 1.2) * np.sin(2 * np.pi * t / 1.1 + phase)
        lift = 0.25 * min(speed, 1.0) * np.maximum(np.cos(2 * np.pi * t / 1.1 + phase), 0) ** 2
        angles = {"hip_pitch": -bent - swing - lift, "knee": 2 * (bent + lift), "ankle_pitch": -bent + swing - lift}
        for joint, angle in angles.items():
            qpos[:, 7 + G1.joint_names.index(f"{side}_{joint}_joint")] = angle
    qpos[:, 2] -= lowest(qpos)
    return qpos


def walks_and_squats(path: Path) -> Index:
    """Standing, walking straight and in curves at several speeds, standing deep down and walking so."""
    motions = [(stroll(0.0, seed=seed), ("stand",)) for seed in range(2)]
    for speed in (0.3, 0.6, 0.9, 1.2):
        motions += [(stroll(speed, turning, seed=1), ("walk",)) for turning in (-0.8, 0.0, 0.8)]
    motions += [(stroll(0.0, bent=1.0), ("squat", "low")), (stroll(0.4, bent=1.0), ("creep", "low"))]
    return build_index(path, motions)
