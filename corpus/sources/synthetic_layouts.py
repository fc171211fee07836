"""The same movement on the skeletons of LAFAN1 and Bandai-Namco: their joints and local frames, our proportions.

Legs keep their joints where SMPL has them, so planted feet stay planted; only the axes differ. The frames are those of
the real files: LAFAN1's bones run along local +x with the hinge along z; Bandai-Namco's right side runs along −x.
Directions below are in SMPL's axes: x left, y up, z forward.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from corpus import rotations
from corpus.motion import HumanMotion
from corpus.skeleton import Skeleton

LEFT, UP, FORWARD = np.eye(3)


@dataclass(frozen=True)
class Joint:
    name: str
    parent: str
    smpl: str
    """The SMPL joint whose orientation it follows."""
    x: Float[np.ndarray, " 3"] | str
    """Local x axis: a direction, or "bone" or "-bone": along or against the bone to `child`."""
    z: Float[np.ndarray, " 3"]
    """About where the local z axis points; it is set at right angles to x."""
    child: str = ""
    """The SMPL joint at the lower end, where x follows the bone."""
    offset: tuple[float, float, float] | None = None
    """Position in the parent's frame in units of leg length; None: where SMPL has it."""


def _lean(degrees: float) -> Float[np.ndarray, " 3"]:
    """Up, leaning forward."""
    return np.cos(np.radians(degrees)) * UP + np.sin(np.radians(degrees)) * FORWARD


def _trunk(
    names: tuple[str, ...],
    leans: tuple[float, ...],
    offsets: tuple[tuple[float, float, float], ...],
    smpl: tuple[str, ...],
) -> list[Joint]:
    rows = zip(names[1:], names[:-1], smpl, leans, offsets, strict=True)
    return [Joint(name, parent, joint, _lean(lean), LEFT, offset=offset) for name, parent, joint, lean, offset in rows]


def _lafan1_side(side: str, sign: float) -> list[Joint]:
    other = side.capitalize()
    leg = [
        ("UpLeg", "Hips", "hip", "knee"),
        ("Leg", f"{other}UpLeg", "knee", "ankle"),
        ("Foot", f"{other}Leg", "ankle", "foot"),
    ]
    return [
        *[Joint(f"{other}{n}", p, f"{side}_{s}", "bone", -LEFT, f"{side}_{c}") for n, p, s, c in leg],
        Joint(f"{other}Toe", f"{other}Foot", f"{side}_foot", FORWARD, -LEFT),
        Joint(
            f"{other}Shoulder", "Spine2", f"{side}_collar", sign * LEFT, sign * UP, offset=(0.23, -0.02, sign * 0.07)
        ),
        Joint(
            f"{other}Arm",
            f"{other}Shoulder",
            f"{side}_shoulder",
            "bone",
            sign * UP,
            f"{side}_elbow",
            offset=(0.14, 0.0, 0.0),
        ),
        Joint(f"{other}ForeArm", f"{other}Arm", f"{side}_elbow", "bone", sign * UP, f"{side}_wrist"),
        Joint(f"{other}Hand", f"{other}ForeArm", f"{side}_wrist", sign * LEFT, sign * UP),
    ]


def _bandai_side(side: str, sign: float) -> list[Joint]:
    end = side[0].upper()
    bone = "bone" if sign > 0 else "-bone"
    foot_x = sign * (np.cos(np.radians(39)) * FORWARD - np.sin(np.radians(39)) * UP)
    return [
        Joint(f"UpperLeg_{end}", "Hips", f"{side}_hip", bone, sign * FORWARD, f"{side}_knee"),
        Joint(f"LowerLeg_{end}", f"UpperLeg_{end}", f"{side}_knee", bone, sign * FORWARD, f"{side}_ankle"),
        Joint(f"Foot_{end}", f"LowerLeg_{end}", f"{side}_ankle", foot_x, sign * UP),
        Joint(f"Toes_{end}", f"Foot_{end}", f"{side}_foot", sign * FORWARD, sign * UP),
        Joint(f"Shoulder_{end}", "Chest", f"{side}_collar", LEFT, sign * FORWARD, offset=(0.2, -0.005, sign * 0.07)),
        Joint(
            f"UpperArm_{end}",
            f"Shoulder_{end}",
            f"{side}_shoulder",
            bone,
            sign * FORWARD,
            f"{side}_elbow",
            (sign * 0.1, 0, 0),
        ),
        Joint(f"LowerArm_{end}", f"UpperArm_{end}", f"{side}_elbow", bone, sign * FORWARD, f"{side}_wrist"),
        Joint(f"Hand_{end}", f"LowerArm_{end}", f"{side}_wrist", LEFT, sign * FORWARD),
    ]


def _in_file_order(joints: list[Joint], order: tuple[str, ...]) -> tuple[Joint, ...]:
    by_name = {joint.name: joint for joint in joints}
    return tuple(by_name[name] for name in order)


LAFAN1_NAMES = (
    "Hips", "LeftUpLeg", "LeftLeg", "LeftFoot", "LeftToe", "RightUpLeg", "RightLeg", "RightFoot", "RightToe",
    "Spine", "Spine1", "Spine2", "Neck", "Head", "LeftShoulder", "LeftArm", "LeftForeArm", "LeftHand",
    "RightShoulder", "RightArm", "RightForeArm", "RightHand",
)  # fmt: skip
BANDAI_NAMES = (
    "Hips", "Spine", "Chest", "Neck", "Head", "Shoulder_L", "UpperArm_L", "LowerArm_L", "Hand_L",
    "Shoulder_R", "UpperArm_R", "LowerArm_R", "Hand_R", "UpperLeg_L", "LowerLeg_L", "Foot_L", "Toes_L",
    "UpperLeg_R", "LowerLeg_R", "Foot_R", "Toes_R",
)  # fmt: skip

LAYOUTS: dict[str, tuple[Joint, ...]] = {
    "lafan1": _in_file_order(
        [
            Joint("Hips", "", "pelvis", UP, LEFT),
            *_trunk(
                ("Hips", "Spine", "Spine1", "Spine2", "Neck", "Head"),
                (5, 8, 12, 20, 20),
                ((0.09, -0.03, 0), (0.15, 0, 0), (0.14, 0, 0), (0.29, 0, 0), (0.14, 0, 0)),
                ("spine1", "spine2", "spine3", "neck", "head"),
            ),
            *_lafan1_side("left", 1.0),
            *_lafan1_side("right", -1.0),
        ],
        LAFAN1_NAMES,
    ),
    "bandai": _in_file_order(
        [
            Joint("Hips", "", "pelvis", UP, FORWARD),
            *_trunk(
                ("Hips", "Spine", "Chest", "Neck", "Head"),
                (4, 10, 15, 15),
                ((0.17, 0, 0), (0.13, -0.005, 0), (0.24, 0, 0), (0.1, 0, 0)),
                ("spine2", "spine3", "neck", "head"),
            ),
            *_bandai_side("left", 1.0),
            *_bandai_side("right", -1.0),
        ],
        BANDAI_NAMES,
    ),
}


def on_layout(motion: HumanMotion, layout: str) -> HumanMotion:
    """A motion of SMPL's 22 joints on another skeleton: a key of `LAYOUTS`."""
    joints, smpl = LAYOUTS[layout], motion.skeleton
    names = [joint.name for joint in joints]
    frames = [_frame(joint, smpl) for joint in joints]
    leg = sum(float(np.linalg.norm(smpl.offsets[smpl.index(f"left_{name}")])) for name in ("knee", "ankle"))
    parents = tuple(names.index(joint.parent) if joint.parent else -1 for joint in joints)
    offsets = np.zeros((len(joints), 3))
    for i, (joint, parent) in enumerate(zip(joints, parents, strict=True)):
        if joint.offset is not None:
            offsets[i] = np.array(joint.offset) * leg
        elif parent >= 0:
            offsets[i] = rotations.rotate(rotations.conjugate(frames[parent]), _offset(smpl, joint.smpl))
    rotation = np.stack(
        [
            rotations.multiply(motion.rotation[:, smpl.index(j.smpl)], f[None])
            for j, f in zip(joints, frames, strict=True)
        ],
        1,
    )
    position = np.zeros((motion.frame_count, len(joints), 3))
    position[:, 0] = motion.position[:, 0]
    for i, parent in enumerate(parents[1:], start=1):
        bone = np.broadcast_to(offsets[i], (motion.frame_count, 3))
        position[:, i] = position[:, parent] + rotations.rotate(rotation[:, parent], bone)
    skeleton = Skeleton(layout, tuple(names), parents, offsets)
    return replace(motion, skeleton=skeleton, position=position, rotation=rotation, body_model="file")


def _frame(joint: Joint, smpl: Skeleton) -> Float[np.ndarray, " 4"]:
    """The joint's axes in those of its SMPL joint."""
    if isinstance(joint.x, str):
        x = _offset(smpl, joint.child) * (-1 if joint.x.startswith("-") else 1)
    else:
        x = joint.x
    x = x / np.linalg.norm(x)
    z = joint.z - (joint.z @ x) * x
    z = z / np.linalg.norm(z)
    return rotations.from_matrix(np.stack([x, np.cross(z, x), z], 1))


def _offset(smpl: Skeleton, joint: str) -> Float[np.ndarray, " 3"]:
    """Where SMPL has the joint in its parent's frame; the ball lies straight ahead of the ankle, as in the real files.

    The heel turns about an axis through the ball from left to right, so this point of it stays put as well.
    """
    offset = smpl.offsets[smpl.index(joint)]
    return offset * np.array([0.0, 1.0, 1.0]) if joint.endswith("_foot") else offset
