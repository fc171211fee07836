"""AMASS: SMPL+H and SMPL-X parameters in npz, z up, metres; non-commercial research licence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from corpus.body_model import body, smpl_motion
from corpus.errors import Rejected
from corpus.motion import Clip, HumanMotion, check_fps
from corpus.sources.files import demand_suffix, open_path, scan_files
from corpus.sources.options import LoadOptions
from corpus.sources.safe_files import npz_keys, read_npz

LICENCE = "AMASS non-commercial research"
_ROBOT_KEYS = {"joint_pos", "dof_pos", "qpos", "body_pos_w", "root_pos", "joint_names"}
_WANTED = (
    "poses",
    "trans",
    "betas",
    "gender",
    "mocap_framerate",
    "mocap_frame_rate",
    "surface_model_type",
    "root_orient",
    "pose_body",
)


def scan(root: Path) -> Iterator[Clip]:
    """Every file; the folders `…/<subject>/<take>_poses.npz` name subject and recording."""
    for clip in scan_files(root, "amass", LICENCE):
        path = PurePosixPath(clip.path)
        take = re.sub(r"_(poses|stageii|stagei)$", "", path.stem)
        subject = path.parent.name
        yield replace(
            clip, subject=subject, recording="/".join((*path.parent.parts, take)), label=take.replace("_", " ")
        )


def load(root: Path, clip: Clip, options: LoadOptions) -> HumanMotion:
    """A take at its own rate, as a moving skeleton of 22 joints."""
    demand_suffix(clip, ".npz")
    name = PurePosixPath(clip.path).name
    if name.endswith("_stagei.npz") or name == "shape.npz":
        raise Rejected("not_motion", "a body-shape file of AMASS holds no motion")
    if "treadmill" in clip.path.lower():
        raise Rejected("treadmill", "walking in place over a moving belt has no world motion")
    path = open_path(root, clip)
    keys = set(npz_keys(path))
    if keys & _ROBOT_KEYS and not keys & {"poses", "pose_body"}:
        raise Rejected(
            "not_human",
            f"holds a robot's motion (keys {', '.join(sorted(keys & _ROBOT_KEYS))}); use the source 'robot'",
        )
    return smpl_from_npz(path, keys, options)


def smpl_from_npz(
    path: Path, keys: set[str], options: LoadOptions, *, y_up: bool = False, default_fps: float | None = None
) -> HumanMotion:
    """Read named SMPL(-X) parameters; shared with Motion-X, whose npz has the same keys."""
    file = read_npz(path, _WANTED)
    if "poses" not in file and not {"root_orient", "pose_body"} <= set(file):
        raise Rejected(
            "missing_key", f"poses, or root_orient and pose_body; has: {', '.join(sorted(keys))[:200]}", key="poses"
        )
    if "trans" not in file:
        raise Rejected("missing_key", f"trans; has: {', '.join(sorted(keys))[:200]}", key="trans")
    pose = _pose(file)
    trans = _floats(file["trans"], "trans", 3)
    if len(trans) != len(pose):
        raise Rejected("wrong_shape", "poses and trans have different lengths", poses=len(pose), trans=len(trans))
    fps = options.fps or _rate(file, default_fps)
    model = (
        "smplx" if {"mocap_frame_rate", "surface_model_type", "pose_body"} & keys or _width(file) == 165 else "smplh"
    )
    betas = np.asarray(file.get("betas", np.zeros(10)), np.float64).reshape(-1)[:16]
    if not np.isfinite(betas).all():
        raise Rejected("not_finite", "NaN or infinity in betas")
    person = body(betas, _gender(file), model, options.body_models)
    motion = smpl_motion(trans + person.pelvis, pose, fps, person, y_up=y_up)
    if not y_up:
        _check_axes(motion)
    return motion


def _pose(file: dict[str, np.ndarray]) -> np.ndarray:
    if "poses" in file:
        pose = file["poses"]
        if pose.ndim != 2 or pose.shape[1] not in (156, 165, 72, 66):
            raise Rejected("wrong_shape", "poses should be (T, 156) or (T, 165)", shape=str(pose.shape))
        return _floats(pose, "poses", pose.shape[1])[:, :66]
    parts = _floats(file["root_orient"], "root_orient", 3), _floats(file["pose_body"], "pose_body", 63)
    if len(parts[0]) != len(parts[1]):
        raise Rejected("wrong_shape", "root_orient and pose_body have different lengths")
    return np.concatenate(parts, 1)


def _width(file: dict[str, np.ndarray]) -> int:
    return file["poses"].shape[1] if "poses" in file else 0


def _floats(array: np.ndarray, name: str, columns: int) -> np.ndarray:
    if array.ndim != 2 or array.shape[1] != columns or array.dtype.kind not in "fiu":
        raise Rejected("wrong_shape", f"{name} should be (T, {columns}) numbers", shape=str(array.shape))
    return array.astype(np.float64)


def _rate(file: dict[str, np.ndarray], default: float | None) -> float:
    value = file.get("mocap_frame_rate", file.get("mocap_framerate"))
    if value is None:
        if default is not None:
            return default
        raise Rejected("bad_frame_rate", "neither mocap_frame_rate nor mocap_framerate; give --fps")
    if value.size != 1 or value.dtype.kind not in "fiu":
        raise Rejected("bad_frame_rate", f"the frame rate is {value!r}"[:80])
    fps = float(value.reshape(-1)[0])
    check_fps(fps)
    return round(fps) if abs(fps - round(fps)) < 1e-3 else fps


def _gender(file: dict[str, np.ndarray]) -> str:
    value = file.get("gender", np.array("neutral"))
    item = value.reshape(-1)[0] if value.size else "neutral"
    text = item.decode("latin1") if isinstance(item, bytes) else str(item)
    return text if text in ("male", "female", "neutral") else "neutral"


def _check_axes(motion: HumanMotion) -> None:
    """Refuse files whose whole course says that z is not up: a person who is mostly upright along another axis."""
    spine = np.median(motion.position[:, motion.skeleton.index("neck")] - motion.position[:, 0], axis=0)
    spine = spine / max(float(np.linalg.norm(spine)), 1e-9)
    feet = motion.position[:, [motion.skeleton.index(f"{s}_foot") for s in ("left", "right")]].mean(1)
    stance = np.median(motion.position[:, 0] - feet, axis=0)
    for axis, name in ((1, "y"), (0, "x")):
        # A lying person's spine is level too; only a standing one has the legs along it, at full length.
        if (
            abs(spine[axis]) > 0.9
            and stance[axis] * np.sign(spine[axis]) > 0.7
            and np.ptp(motion.position[:, 0, axis]) < 0.5
        ):
            raise Rejected(
                "wrong_axis", f"the person stands along {name}: AMASS is z up", spine=round(float(spine[axis]), 3)
            )
    if spine[2] < -0.9:
        raise Rejected(
            "wrong_axis", "the person hangs upside down for most of the clip", spine=round(float(spine[2]), 3)
        )
