"""The robot standing on its own two feet: the posture that motions are joined by, and small moves around it."""

from __future__ import annotations

import functools

import numpy as np
from jaxtyping import Float

from corpus import rotations
from corpus.g1 import G1
from corpus.motion import CORPUS_FPS, RobotMotion
from corpus.robot import forward_kinematics
from deploy.contract import STANDING
from deploy.outline import lowest


def standing(
    level: Float[np.ndarray, " 2"] | tuple[float, float] = (0.0, 0.0),
    heading: float = 0.0,
    joints: Float[np.ndarray, " J"] = STANDING,
) -> Float[np.ndarray, " 36"]:
    """The robot upright at that place [m], facing that way [rad], its lowest point on the floor z = 0."""
    qpos = np.concatenate([[0.0, 0.0, 0.0], rotations.about_z(np.array(heading)), joints])
    qpos[:2] = level
    qpos[2] = stand_height() if joints is STANDING else -lowest(qpos[None])[0]
    return qpos


@functools.cache
def stand_height() -> float:
    """Of the pelvis over the floor, in `STANDING` [m]."""
    upright = np.concatenate([[0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0], STANDING])
    return -float(lowest(upright[None])[0])


def swaying(seconds: float, seed: int = 0) -> RobotMotion:
    """Standing in `STANDING`, at times quite still, at times giving in the knees, turning the trunk, moving the arms a little;
    feet stay flat where they are."""
    random = np.random.default_rng(seed)
    times = np.arange(max(2, round(seconds * CORPUS_FPS))) / CORPUS_FPS
    share = np.clip(1.5 * np.sin(2 * np.pi * times / seconds * 1.5) ** 2 - 0.25, 0, 1)  # at rest at both ends
    share = share * share * (3 - 2 * share)

    def wave(size: float) -> Float[np.ndarray, " T"]:
        return size * share * np.sin(2 * np.pi * random.uniform(0.2, 0.5) * times + random.uniform(0, 6))

    joints = np.tile(STANDING, (len(times), 1))
    bend = 1 + wave(0.35)
    for i, name in enumerate(G1.joint_names):
        if name.endswith(("hip_pitch_joint", "knee_joint", "ankle_pitch_joint")):
            joints[:, i] *= bend  # knees forward, hips back: soles stay level
        elif not name.startswith(("left_hip", "right_hip", "left_ankle", "right_ankle", "waist_roll", "waist_pitch")):
            joints[:, i] += wave(0.25)
    qpos = np.concatenate([np.zeros((len(times), 3)), np.tile([1.0, 0.0, 0.0, 0.0], (len(times), 1)), joints], 1)
    position, _ = forward_kinematics(G1, qpos)
    qpos[:, 0] = -position[:, G1.body("left_ankle_roll_link"), 0]  # the feet do not move, the pelvis does
    qpos[:, 2] = -lowest(qpos)
    return RobotMotion(qpos, CORPUS_FPS)


def can_be_stood_in(qpos: Float[np.ndarray, " 36"]) -> bool:
    """Upright, both soles about level with each other, joints not far from `STANDING`: stiff joints can hold it."""
    upright = rotations.rotate(qpos[3:7], np.array([0.0, 0.0, 1.0]))[2] > np.cos(0.15)
    position, _ = forward_kinematics(G1, qpos[None])
    left, right = (position[0, G1.body(f"{side}_ankle_roll_link")] for side in ("left", "right"))
    side_by_side = abs(left[2] - right[2]) < 0.02 and np.linalg.norm((left - right)[:2]) < 0.45
    forward = rotations.rotate(rotations.about_z(-rotations.heading(qpos[3:7])), left - right)[0]
    return bool(upright and side_by_side and abs(forward) < 0.08 and np.abs(qpos[7:] - STANDING)[:12].max() < 0.8)
