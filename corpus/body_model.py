"""From SMPL parameters to a moving skeleton: rest joints from the user's own body model, or from our mean skeleton.

SMPL-X and SMPL-H files may not be shipped; where a user points to them, `smplx` turns betas into rest joints. Otherwise
a mean skeleton, symmetric and rounded to the millimetre, stands in, scaled to the person's height over the floor.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from corpus import rotations
from corpus.errors import MotionloomError, Rejected
from corpus.motion import HumanMotion, differentiate
from corpus.skeleton import Skeleton, forward_kinematics

JOINT_NAMES = (
    "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle",
    "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head",
    "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
)  # fmt: skip
PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19)

# Bone offsets in SMPL's rest pose [m]: x to the person's left, y up, z forward; the left side of each pair.
_MEAN_OFFSETS = {
    "hip": (0.061, -0.098, -0.024), "knee": (0.049, -0.371, -0.013), "ankle": (-0.029, -0.407, -0.026),
    "foot": (0.043, -0.058, 0.119), "spine1": (0.0, 0.110, -0.028), "spine2": (0.0, 0.132, -0.006),
    "spine3": (0.0, 0.052, 0.028), "neck": (0.0, 0.165, -0.032), "head": (0.0, 0.160, 0.021),
    "collar": (0.047, 0.085, -0.010), "shoulder": (0.111, 0.056, -0.014), "elbow": (0.263, -0.054, -0.035),
    "wrist": (0.251, 0.009, -0.009),
}  # fmt: skip

MEAN_PELVIS = {"smplx": (0.0031, -0.3514, 0.0120), "smplh": (-0.0018, -0.2233, 0.0282)}
"""The pelvis in the rest pose of the mean body, J0 [m]: what `trans` leaves out."""

TOE_HEIGHT = 0.02
"""The toe joint above the sole [m]."""


@dataclass(frozen=True)
class Body:
    """A person's rest pose."""

    offsets: Float[np.ndarray, "22 3"]
    pelvis: Float[np.ndarray, " 3"]
    """J0 [m]."""
    name: str
    """What it came from, for the clip's row."""


def body(betas: Float[np.ndarray, " B"], gender: str, model: str, folder: Path | None) -> Body:
    """The body of these betas: from the user's model files where `folder` is given, else the mean one.

    `model` is "smplx" or "smplh"; `gender` "male", "female" or "neutral".
    """
    if folder is None:
        return mean_body(model)
    return _fitted_body(tuple(np.asarray(betas, float).tolist()), gender, model, folder)


def mean_body(model: str = "smplx") -> Body:
    """Our mean skeleton, at the height of the mean body."""
    offsets = np.zeros((22, 3))
    for i, name in enumerate(JOINT_NAMES[1:], 1):
        side, _, part = name.rpartition("_")
        offsets[i] = np.array(_MEAN_OFFSETS[part]) * ([-1, 1, 1] if side == "right" else [1, 1, 1])
    return Body(offsets, np.array(MEAN_PELVIS[model]), "mean")


@lru_cache(maxsize=4096)
def _fitted_body(betas: tuple[float, ...], gender: str, model: str, folder: Path) -> Body:
    layer = _layer(gender, model, folder)
    import torch  # after the layer, which says what to install

    shape = torch.zeros(1, layer.num_betas)
    known = min(len(betas), layer.num_betas)
    shape[0, :known] = torch.tensor(betas[:known])
    with torch.no_grad():
        joints = layer(betas=shape).joints[0, :22].numpy().astype(float)
    offsets = joints - joints[list(PARENTS)]
    offsets[0] = 0
    return Body(offsets, joints[0], f"{model} {gender}")


@lru_cache(maxsize=6)
def _layer(gender: str, model: str, folder: Path) -> Any:
    """The user's body model; each of its files holds a hundred megabytes, so it is read once."""
    try:
        import smplx  # pyright: ignore[reportMissingImports]
        import torch  # noqa: F401  # smplx needs it
    except ImportError:
        raise MotionloomError("Body models need the extra: pip install 'motionloom[smplx]'.") from None
    try:
        return smplx.create(str(folder), model_type=model, gender=gender, num_betas=16, use_pca=False, ext="npz")
    except (AssertionError, OSError, ValueError, KeyError) as error:
        raise MotionloomError(
            f"{folder}: no {model}/{model.upper()}_{gender.upper()}.npz that smplx can read ({error})."
        ) from None


def smpl_motion(
    pelvis: Float[np.ndarray, "T 3"],
    pose: Float[np.ndarray, "T 66"],
    fps: float,
    person: Body,
    *,
    y_up: bool,
    note: str = "",
) -> HumanMotion:
    """World motion (z up) from the pelvis' path [m] and 22 rotation vectors [rad] in the file's own axes.

    The mean body is scaled so that the planted feet stand on the floor at height zero, in steps of 2 %, where the clip
    shows planted feet and the scale is a grown person's.
    """
    if len(pelvis) < 2:
        raise Rejected("too_short", "fewer than two frames", frames=len(pelvis), minimum=2)
    if not (np.isfinite(pelvis).all() and np.isfinite(pose).all()):
        raise Rejected("not_finite", "NaN or infinity in the poses")
    if not np.any(np.abs(pose[:, 3:]) > 1e-9):
        raise Rejected("all_zero_pose", "every joint rotation of every frame is zero: a placeholder, not a motion")
    local = rotations.from_rotation_vector(np.asarray(pose, np.float64).reshape(len(pose), 22, 3))
    pelvis = np.asarray(pelvis, np.float64)
    if y_up:
        turn = np.broadcast_to(rotations.Y_UP_TO_Z_UP, (len(pose), 4))
        local[:, 0] = rotations.multiply(turn, local[:, 0])
        pelvis = rotations.rotate(turn, pelvis)
    skeleton = Skeleton("smpl", JOINT_NAMES, PARENTS, person.offsets)
    position, rotation = forward_kinematics(skeleton, pelvis, local)
    motion = HumanMotion(skeleton, position, rotation, float(fps), person.name, note)
    return _scaled_to_height(motion) if person.name == "mean" else motion


def require_z_up(motion: HumanMotion, *, level_axis: int, sign: float) -> None:
    """Refuse a clip whose whole course says that its vertical is another one than z.

    `level_axis` and `sign` name the direction that would be up if the file followed the field's other convention.
    Lying, crawling and standing on the hands are motions like others: refused is a person who stands at full height
    along that direction, feet at zero, without lying on the floor; and one who hangs head down, not on the hands.
    """
    spine, pelvis, feet = (np.median(part, axis=0) for part in _trunk_and_feet(motion))
    spine = spine / max(float(np.linalg.norm(spine)), 1e-9)
    if spine[2] < -0.7 and not _on_hands(motion):
        raise Rejected(
            "wrong_axis", "the person hangs upside down for most of the clip", spine_up=round(float(spine[2]), 3)
        )
    along, height, floor = (float(sign * part[level_axis]) for part in (spine, pelvis, feet))
    if along > 0.9 and 0.45 < height < 1.4 and abs(floor) < 0.4 and height - floor > 0.7 and not _lies(motion):
        axis = "xyz"[level_axis]
        raise Rejected("wrong_axis", f"the person stands along {axis}, not along z", spine_level=round(along, 3))


def _trunk_and_feet(motion: HumanMotion) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pelvis to neck, the pelvis, and the middle of both feet, frame by frame."""
    neck, *feet = (motion.position[:, motion.skeleton.index(name)] for name in ("neck", "left_foot", "right_foot"))
    pelvis = motion.position[:, 0]
    return neck - pelvis, pelvis, (feet[0] + feet[1]) / 2


def _lies(motion: HumanMotion) -> bool:
    """Does the body rest on a floor at height zero?"""
    lowest = float(np.median(motion.position[..., 2].min(1)))
    return -0.08 < lowest < 0.12 and 0.05 < float(np.median(motion.position[:, 0, 2])) < 0.35


def _on_hands(motion: HumanMotion) -> bool:
    """Do hands or head rest on a floor near height zero, the pelvis above them?"""
    ends = [motion.skeleton.index(name) for name in ("left_wrist", "right_wrist", "head")]
    lowest = float(np.median(motion.position[:, ends, 2].min(1)))
    return abs(lowest) < 0.35 and float(np.median(motion.position[:, 0, 2])) > 0.5


def sole_heights(motion: HumanMotion) -> Float[np.ndarray, "T 2"]:
    """Height of both soles, by the toe joint [m]."""
    toes = [motion.skeleton.index(f"{side}_foot") for side in ("left", "right")]
    return motion.position[:, toes, 2] - TOE_HEIGHT


def planted_height(motion: HumanMotion) -> float | None:
    """Median height of the lower sole while it stands still [m]; None where too little of the clip shows it."""
    toes = [motion.skeleton.index(f"{side}_foot") for side in ("left", "right")]
    speed = np.linalg.norm(differentiate(motion.position[:, toes], motion.fps), axis=2)
    soles = sole_heights(motion)
    lower = soles.argmin(1)
    rows = np.arange(len(lower))
    still = speed[rows, lower] < 0.3
    return float(np.median(soles[rows, lower][still])) if still.sum() >= max(2, 0.1 * len(lower)) else None


def _scaled_to_height(motion: HumanMotion) -> HumanMotion:
    sole = planted_height(motion)
    pelvis = float(np.median(motion.position[:, 0, 2]))
    upright = pelvis > 0.6
    if sole is None or not upright:
        return motion
    scale = round(pelvis / (pelvis - sole) * 50) / 50
    if scale == 1.0 or not 0.84 <= scale <= 1.16:
        return motion
    root = motion.position[:, :1]
    skeleton = replace(motion.skeleton, offsets=motion.skeleton.offsets * scale)
    position = root + (motion.position - root) * scale
    return replace(motion, skeleton=skeleton, position=position, body_model=f"mean × {scale:.2f}")
