"""Which human segment drives which robot body, and how their axes lie to each other: one table per skeleton.

A segment's *anatomical frame* is x forward, y left, z up while the person stands with the arms hanging and the elbows bent
forward by 90°: the posture of the G1 at joint angle zero. A skeleton's table states these three axes in each joint's own
frame, so that `world orientation of the joint · table = world orientation of the segment`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from corpus import rotations
from corpus.errors import Rejected
from corpus.skeleton import Skeleton

SIDES = ("left", "right")


@dataclass(frozen=True)
class Correspondence:
    """A skeleton read as a human body."""

    joints: dict[str, str]
    """Role (see `corpus.skeleton.ROLES`) → joint name."""
    frames: dict[str, Float[np.ndarray, " 4"]]
    """Role → the segment's anatomical frame in the joint's own frame."""
    toe_height: float
    """Height of the toe joint above the sole [m]."""


def correspondence(skeleton: Skeleton) -> Correspondence:
    """The table for a skeleton; "generic" ones bring their roles and a rest posture with them."""
    if skeleton.name in CORRESPONDENCES:
        return CORRESPONDENCES[skeleton.name]
    if skeleton.rest_rotation is None or not skeleton.roles:
        raise Rejected(
            "unknown_skeleton", f"no table for {skeleton.name!r}; known: {', '.join(sorted(CORRESPONDENCES))}"
        )
    return _from_rest_posture(skeleton, dict(skeleton.roles), skeleton.rest_rotation)


def _axes(forward: str, left: str, pitch_deg: float = 0.0) -> Float[np.ndarray, " 4"]:
    """Anatomical frame from two signed local axes ("+x", "-z"), then turned about its own left axis."""
    x, y = (np.eye(3)["xyz".index(axis[1])] * (1 if axis[0] == "+" else -1) for axis in (forward, left))
    frame = rotations.from_matrix(np.stack([x, y, np.cross(x, y)], 1))
    return rotations.multiply(frame, rotations.from_rotation_vector(np.array([0.0, np.radians(pitch_deg), 0.0])))


def _both(
    forward: str, left: str, right_forward: str, right_left: str, roles: tuple[str, ...], pitch: float = 0.0
) -> dict:
    """The same row for several roles on both sides of the body."""
    return {
        **{f"left_{role}": _axes(forward, left, pitch) for role in roles},
        **{f"right_{role}": _axes(right_forward, right_left, pitch) for role in roles},
    }


LEG, ARM = ("hip", "knee", "ankle", "toe"), ("shoulder", "elbow", "wrist")

# SMPL's joint frames all equal the model's in the T-pose: x to the person's left, y up, z forward.
_SMPL = Correspondence(
    joints={
        "pelvis": "pelvis", "chest": "spine3", "neck": "neck", "head": "head",
        **{
            f"{side}_{role}": f"{side}_{joint}"
            for side in SIDES
            for role, joint in zip(LEG + ARM, ("hip", "knee", "ankle", "foot", "shoulder", "elbow", "wrist"), strict=True)
        },
    },
    frames={
        **{role: _axes("+z", "+x") for role in ("pelvis", "chest")},
        **_both("+z", "+x", "+z", "+x", ("hip", "knee", "ankle")),
        **_both("+z", "+y", "+z", "-y", ("shoulder",)),
        **_both("+x", "+y", "-x", "-y", ("elbow", "wrist")),
    },
    toe_height=0.02,
)  # fmt: skip

# LAFAN1's bones lie along local +x. The foot's frame follows the ankle-toe bone, 33° below the level on a flat foot, and the
# chest's leans 12° forward on an upright person: both read off standing and walking takes.
_LAFAN1 = Correspondence(
    joints={
        "pelvis": "Hips", "chest": "Spine2", "neck": "Neck", "head": "Head",
        **{
            f"{side}_{role}": f"{side.capitalize()}{joint}"
            for side in SIDES
            for role, joint in zip(LEG + ARM, ("UpLeg", "Leg", "Foot", "Toe", "Arm", "ForeArm", "Hand"), strict=True)
        },
    },
    frames={
        "pelvis": _axes("+y", "+z"),
        "chest": _axes("+y", "+z", -12.0),
        **_both("+y", "-z", "+y", "-z", ("hip", "knee")),
        **_both("+x", "-z", "+x", "-z", ("ankle",), -25.0),
        **_both("-y", "+z", "-y", "+z", ("shoulder",)),
        **_both("+x", "+z", "+x", "+z", ("elbow", "wrist")),
    },
    toe_height=0.0,
)  # fmt: skip

# Bandai-Namco's right-hand bones run along local -x: its right side is the left one turned by 180° about y.
_BANDAI = Correspondence(
    joints={
        "pelvis": "Hips", "chest": "Chest", "neck": "Neck", "head": "Head",
        **{
            f"{side}_{role}": f"{joint}_{side[0].upper()}"
            for side in SIDES
            for role, joint in zip(
                LEG + ARM, ("UpperLeg", "LowerLeg", "Foot", "Toes", "UpperArm", "LowerArm", "Hand"), strict=True
            )
        },
    },
    frames={
        "pelvis": _axes("+z", "-y"),
        "chest": _axes("+y", "+z", -10.0),
        **_both("+z", "+y", "-z", "+y", ("hip", "knee")),
        **_both("+x", "+y", "-x", "+y", ("ankle",), -39.0),
        **_both("+z", "+y", "-z", "+y", ("shoulder",)),
        **_both("+x", "+y", "-x", "+y", ("elbow", "wrist")),
    },
    toe_height=0.02,
)  # fmt: skip

CORRESPONDENCES: dict[str, Correspondence] = {"smpl": _SMPL, "lafan1": _LAFAN1, "bandai": _BANDAI}

# Anatomical frames of the arms in a T-pose, facing +x, palms down; every other segment's is the identity there.
_T_POSE_ARMS = {
    "left_shoulder": _axes("+x", "+z"),
    "right_shoulder": _axes("+x", "-z"),
    **{f"left_{role}": _axes("+y", "+z") for role in ("elbow", "wrist")},
    **{f"right_{role}": _axes("-y", "-z") for role in ("elbow", "wrist")},
}


def _from_rest_posture(skeleton: Skeleton, roles: dict[str, str], rest: Float[np.ndarray, "J 4"]) -> Correspondence:
    level = np.array([1.0, 0.0, 0.0, 0.0])
    frames = {
        role: rotations.multiply(rotations.conjugate(rest[skeleton.index(joint)]), _T_POSE_ARMS.get(role, level))
        for role, joint in roles.items()
    }
    return Correspondence(roles, frames, toe_height=0.02)
