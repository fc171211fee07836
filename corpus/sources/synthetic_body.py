"""From where pelvis and feet are to a whole `HumanMotion`: legs by two-link IK in closed form, the rest by angles.

A foot is told by its ball (the joint the toes turn about), so a heel can rise while the ball stays planted.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from corpus import rotations
from corpus.body_model import JOINT_NAMES, PARENTS, TOE_HEIGHT, mean_body
from corpus.motion import HumanMotion
from corpus.skeleton import Skeleton, forward_kinematics

SMPL_AXES = rotations.from_matrix(np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
"""SMPL's zero pose (x left, y up, z forward) brought to x forward, y left, z up."""

BALL_HEIGHT = TOE_HEIGHT
"""Height of the ball joint above the sole [m]."""

REACH = 0.998
"""Largest share of its full length a leg may take: knees never lock."""

SOFTNESS = 0.008
"""How gently the pelvis yields where a leg would be stretched too far [m]."""


MEAN_HEIGHT = 1.70
"""Height of the person with the mean skeleton [m]."""


@dataclass
class Foot:
    ball: Float[np.ndarray, "T 3"]
    """World position of the ball joint [m]."""
    yaw: Float[np.ndarray, " T"]
    heel: Float[np.ndarray, " T"]
    """How far the heel is lifted about the ball [rad]; negative lifts the toes."""
    toes_flat: bool = True
    """Toes stay level while the heel rises; off for a foot in the air."""


@dataclass
class Take:
    """What a movement is made of: the world is z up, and the person faces +x at yaw zero."""

    pelvis: Float[np.ndarray, "T 3"]
    turn: Float[np.ndarray, "T 4"]
    """Orientation of the pelvis: identity when upright and facing +x."""
    feet: dict[str, Foot]
    bends: dict[str, Float[np.ndarray, "T 3"]] = field(default_factory=dict)
    """Rotation vectors of the joints above the legs, in SMPL's axes [rad]."""


def assemble(take: Take, skeleton: Skeleton, fps: float) -> HumanMotion:
    """The whole motion; the pelvis is lowered, smoothly, where a leg would not reach its foot."""
    frame_count = len(take.pelvis)
    root = rotations.multiply(take.turn, _repeat(SMPL_AXES, frame_count))
    pelvis = _within_reach(take, skeleton, root)
    local = np.zeros((frame_count, skeleton.joint_count, 4))
    local[..., 0] = 1
    local[:, 0] = root
    for joint, vector in take.bends.items():
        local[:, skeleton.index(joint)] = rotations.from_rotation_vector(vector)
    for side, foot in take.feet.items():
        for joint, rotation in _leg(side, foot, skeleton, pelvis, root).items():
            local[:, skeleton.index(joint)] = rotation
    position, rotation = forward_kinematics(skeleton, pelvis, local)
    return HumanMotion(skeleton, position, rotations.continuous(rotation), fps, body_model="mean")


def _leg(side: str, foot: Foot, skeleton: Skeleton, pelvis: np.ndarray, root: np.ndarray) -> dict[str, np.ndarray]:
    """Local rotations of hip, knee, ankle and foot that put the foot where it should be."""
    hip_to_knee, knee_to_ankle = (skeleton.offsets[skeleton.index(f"{side}_{name}")] for name in ("knee", "ankle"))
    hip, ankle, foot_rotation = _ends(side, foot, skeleton, pelvis, root)
    leftward = _repeat([1.0, 0.0, 0.0], len(root))
    left = rotations.rotate(root, leftward) + rotations.rotate(foot_rotation, leftward)
    reach = np.linalg.norm(ankle - hip, axis=1, keepdims=True)
    along = (ankle - hip) / reach
    left = _unit(left - (left * along).sum(1, keepdims=True) * along)
    front = np.cross(along, left)
    thigh, shank = np.linalg.norm(hip_to_knee), np.linalg.norm(knee_to_ankle)
    cosine = np.clip((thigh**2 + reach**2 - shank**2) / (2 * thigh * reach), -1, 1)
    knee = hip + thigh * (cosine * along + np.sqrt(1 - cosine**2) * front)
    thigh_rotation = _aim(hip_to_knee, knee - hip, left)
    shank_rotation = _aim(knee_to_ankle, ankle - knee, left)
    level = rotations.multiply(rotations.about_z(foot.yaw), _repeat(SMPL_AXES, len(root)))
    back = rotations.conjugate
    return {
        f"{side}_hip": rotations.multiply(back(root), thigh_rotation),
        f"{side}_knee": rotations.multiply(back(thigh_rotation), shank_rotation),
        f"{side}_ankle": rotations.multiply(back(shank_rotation), foot_rotation),
        f"{side}_foot": rotations.multiply(back(foot_rotation), level if foot.toes_flat else foot_rotation),
    }


def _ends(side: str, foot: Foot, skeleton: Skeleton, pelvis: np.ndarray, root: np.ndarray) -> tuple:
    """World positions of hip and ankle, and the foot's orientation."""
    hip, ball = (skeleton.offsets[skeleton.index(f"{side}_{name}")] for name in ("hip", "foot"))
    lifted = rotations.from_rotation_vector(foot.heel[:, None] * np.array([0.0, 1.0, 0.0]))
    rotation = rotations.multiply(
        rotations.multiply(rotations.about_z(foot.yaw), lifted), _repeat(SMPL_AXES, len(root))
    )
    ankle = foot.ball - rotations.rotate(rotation, _repeat(ball, len(root)))
    return pelvis + rotations.rotate(root, _repeat(hip, len(root))), ankle, rotation


def _within_reach(take: Take, skeleton: Skeleton, root: np.ndarray) -> Float[np.ndarray, "T 3"]:
    """The pelvis, lowered by a smooth minimum of its own height and those at which each leg is just long enough."""
    heights = [take.pelvis[:, 2]]
    for side, foot in take.feet.items():
        hip, ankle, _ = _ends(side, foot, skeleton, take.pelvis, root)
        length = REACH * sum(np.linalg.norm(skeleton.offsets[skeleton.index(f"{side}_{n}")]) for n in ("knee", "ankle"))
        level = np.linalg.norm((ankle - hip)[:, :2], axis=1)
        if (level > length).any():
            raise ValueError(f"The {side} foot is {level.max():.2f} m away from its hip, farther than the leg is long.")
        heights.append(ankle[:, 2] + np.sqrt(length**2 - level**2) - (hip[:, 2] - take.pelvis[:, 2]))
    lowest = -SOFTNESS * np.logaddexp.reduce(-np.array(heights) / SOFTNESS, axis=0)
    return np.concatenate([take.pelvis[:, :2], lowest[:, None]], 1)


def _aim(
    bone: np.ndarray, direction: Float[np.ndarray, "T 3"], left: Float[np.ndarray, "T 3"]
) -> Float[np.ndarray, "T 4"]:
    """The rotation that lays `bone` along `direction` and the local left axis along `left` (at right angles to it)."""
    here = _basis(_unit(bone), np.array([1.0, 0.0, 0.0]))
    there = _basis(_unit(direction), left)
    return rotations.from_matrix(there @ np.swapaxes(here, -1, -2))


def _basis(bone: np.ndarray, left: np.ndarray) -> np.ndarray:
    left = _unit(left - (left * bone).sum(-1, keepdims=True) * bone)
    return np.stack([left, bone, np.cross(left, bone)], -1)


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


def _repeat(value: object, count: int) -> np.ndarray:
    array = np.asarray(value, float)
    return np.broadcast_to(array, (count, *array.shape))


def skeleton_of(height: float = MEAN_HEIGHT) -> Skeleton:
    """SMPL's 22 joints with the mean body's proportions, for a person of that height [m]."""
    return Skeleton("smpl", JOINT_NAMES, PARENTS, mean_body().offsets * (height / MEAN_HEIGHT))


def rest_position(skeleton: Skeleton) -> dict[str, Float[np.ndarray, " 3"]]:
    """Each joint from the pelvis in the zero pose, x forward, y left, z up [m]."""
    still = np.zeros((1, skeleton.joint_count, 4))
    still[..., 0] = 1
    still[:, 0] = SMPL_AXES
    position, _ = forward_kinematics(skeleton, np.zeros((1, 3)), still)
    return dict(zip(skeleton.joint_names, position[0], strict=True))
