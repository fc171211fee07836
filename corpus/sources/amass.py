"""AMASS: SMPL+H and SMPL-X parameters in npz, z up, metres; non-commercial research licence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Float

from corpus.body_model import Body, body, require_z_up, smpl_motion
from corpus.errors import Rejected
from corpus.motion import Clip, HumanMotion, check_fps
from corpus.sources.files import demand_suffix, open_path, scan_files
from corpus.sources.options import LoadOptions
from corpus.sources.safe_files import npz_keys, read_npz

LICENCE = "AMASS non-commercial research"
_ROBOT_KEYS = {"joint_pos", "dof_pos", "dof", "dof_positions", "qpos", "body_pos_w", "root_pos", "joint_names"}
_WANTED = (
    "poses", "root_orient", "pose_body", "trans", "betas", "gender", "surface_model_type",
    "mocap_framerate", "mocap_frame_rate", "fps",
)  # fmt: skip


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
        found = ", ".join(sorted(keys & _ROBOT_KEYS))
        raise Rejected("not_human", f"holds a robot's motion (keys {found}); use the source 'robot'")
    given = read_parameters(path, options)
    motion = smpl_motion(given.trans + given.person.pelvis, given.pose, given.fps, given.person, y_up=False)
    require_z_up(motion, level_axis=1, sign=1.0)
    return motion


@dataclass(frozen=True)
class Parameters:
    """What an SMPL file holds, in the file's own axes."""

    pose: Float[np.ndarray, "T 66"]
    """Rotation vectors of 22 joints [rad]."""
    trans: Float[np.ndarray, "T 3"]
    """The pelvis' path without the pelvis' own place in the body [m]."""
    fps: float
    person: Body


def read_parameters(path: Path, options: LoadOptions, *, default_fps: float | None = None) -> Parameters:
    """Named SMPL(-X) parameters of an npz; Motion-X's npz have the same names.

    `default_fps` is the data set's rate [Hz], for files that carry none and users who name none.
    """
    file = read_npz(path, _WANTED)
    split = {"root_orient", "pose_body"} <= set(file)
    for key in ("trans", *([] if split else ["poses"])):
        if key not in file:
            has = ", ".join(sorted(npz_keys(path)))[:200]
            raise Rejected("missing_key", f"needs trans, and poses or root_orient and pose_body; has: {has}", key=key)
    pose, trans = _pose(file), _floats(file["trans"], "trans", 3)
    if len(trans) != len(pose):
        raise Rejected("wrong_shape", "poses and trans have different lengths", poses=len(pose), trans=len(trans))
    person = body(_betas(file), _gender(file), _model(file), options.body_models)
    return Parameters(pose, trans, _rate(file, options.fps or default_fps), person)


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


def _model(file: dict[str, np.ndarray]) -> str:
    """ "smplx" or "smplh", by the file's word, else by the width of its poses; split keys are SMPL-X's."""
    stated = _text(file.get("surface_model_type"))
    if stated in ("smplx", "smplh"):
        return stated
    return "smplh" if "poses" in file and file["poses"].shape[1] != 165 else "smplx"


def _betas(file: dict[str, np.ndarray]) -> Float[np.ndarray, " B"]:
    """Shape coefficients; where a file repeats them in every frame, the first frame's."""
    betas = file.get("betas", np.zeros(10))
    if betas.dtype.kind not in "fiu" or betas.ndim not in (1, 2) or not betas.size:
        raise Rejected("wrong_shape", "betas should be some 10 or 16 numbers", shape=str(betas.shape))
    betas = np.asarray(betas if betas.ndim == 1 else betas[0], np.float64)
    if not np.isfinite(betas).all():
        raise Rejected("not_finite", "NaN or infinity in betas")
    return betas[:16]


def _floats(array: np.ndarray, name: str, columns: int) -> np.ndarray:
    if array.ndim != 2 or array.shape[1] != columns or array.dtype.kind not in "fiu":
        raise Rejected("wrong_shape", f"{name} should be (T, {columns}) numbers", shape=str(array.shape))
    return array.astype(np.float64)


def _rate(file: dict[str, np.ndarray], default: float | None) -> float:
    found = [file[key] for key in ("mocap_frame_rate", "mocap_framerate", "fps") if key in file]
    if not found:
        if default is None:
            raise Rejected("bad_frame_rate", "neither mocap_frame_rate nor mocap_framerate: pass --fps")
        return default
    if found[0].size != 1 or found[0].dtype.kind not in "fiu":
        raise Rejected("bad_frame_rate", f"the frame rate is {found[0]!r}"[:80])
    fps = float(found[0].reshape(-1)[0])
    check_fps(fps)
    return float(round(fps)) if abs(fps - round(fps)) < 1e-3 else fps


def _gender(file: dict[str, np.ndarray]) -> str:
    text = _text(file.get("gender"))
    return text if text in ("male", "female") else "neutral"


def _text(value: np.ndarray | None) -> str:
    """A word that may be stored as text or as bytes."""
    if value is None or not value.size or value.dtype.kind not in "SU":
        return ""
    item = value.reshape(-1)[0]
    return (item.decode("latin1") if isinstance(item, bytes) else str(item)).strip().lower()
