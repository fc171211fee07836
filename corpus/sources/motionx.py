"""Motion-X and Motion-X++: npy of 322 columns, or npz with SMPL-X keys; y up, 30 Hz; non-commercial."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from corpus import rotations
from corpus.body_model import Body, body, planted_height, smpl_motion
from corpus.errors import Rejected
from corpus.motion import Clip, HumanMotion
from corpus.sources.amass import smpl_from_npz
from corpus.sources.files import demand_suffix, list_files, open_path, scan_files
from corpus.sources.options import LoadOptions
from corpus.sources.safe_files import npz_keys, read_npy

LICENCE = "Motion-X non-commercial"
FPS = 30.0
"""The release's rate; no file says it."""

SUNK = -0.22
"""Planted soles below this tell a file written without the pelvis offset (0.35 m) from one that is right [m]."""


def scan(root: Path) -> Iterator[Clip]:
    """Every motion file with its text label; a txt of a motion's stem belongs to it, others stand as files of their own."""
    motions = {_stem(path) for path, _ in list_files(root) if path.endswith((".npy", ".npz"))}
    labels = {_stem(path): path for path, _ in list_files(root) if path.endswith(".txt")}
    for clip in scan_files(root, "motionx", LICENCE):
        own = _stem(clip.path)
        if clip.path.endswith(".txt") and own in motions:
            continue
        path = PurePosixPath(clip.path)
        label = _label(root, replace(clip, path=labels[own])) if own in labels else ""
        yield replace(clip, recording=own, subject="", label=label or path.stem.replace("_", " "))


def load(root: Path, clip: Clip, options: LoadOptions) -> HumanMotion:
    """A clip turned z up; files without the pelvis offset are mended and say so."""
    demand_suffix(clip, ".npy", ".npz")
    path = open_path(root, clip)
    if path.suffix.lower() == ".npz":
        return _checked(smpl_from_npz(path, set(npz_keys(path)), options, y_up=True, default_fps=FPS))
    rows = read_npy(path)
    if rows.ndim != 2 or rows.shape[1] != 322 or rows.dtype.kind != "f":
        raise Rejected("wrong_shape", "a Motion-X npy is (T, 322) float", shape=str(rows.shape))
    if not np.isfinite(rows).all():
        raise Rejected("not_finite", "NaN or infinity", bad_frames=int((~np.isfinite(rows).all(1)).sum()))
    rows = rows.astype(np.float64)
    person = body(rows[:1, 312:322].reshape(-1), "neutral", "smplx", options.body_models)
    return _motion(rows[:, :66], rows[:, 309:312], options.fps or FPS, person)


def _motion(pose: np.ndarray, trans: np.ndarray, fps: float, person: Body) -> HumanMotion:
    motion = smpl_motion(trans + person.pelvis, pose, fps, person, y_up=True)
    sole = planted_height(motion)
    if sole is not None and -0.5 < sole < SUNK:
        # Written as A·trans: the pelvis lies A·J0 from there, not J0.
        offset = rotations.rotate(rotations.conjugate(rotations.Y_UP_TO_Z_UP), person.pelvis)
        motion = smpl_motion(
            trans + offset, pose, fps, person, y_up=True, note="pelvis offset was missing: raised by 0.35 m"
        )
    return _checked(motion)


def _checked(motion: HumanMotion) -> HumanMotion:
    """Refuse what is not a person over a level floor: camera space, other axes, wrong floors."""
    spine = np.median(motion.position[:, motion.skeleton.index("neck")] - motion.position[:, 0], axis=0)
    spine = spine / max(float(np.linalg.norm(spine)), 1e-9)
    if spine[2] < -0.7:
        raise Rejected(
            "camera_space",
            "the person hangs upside down: y points down, as in a camera's frame",
            spine_up=round(float(spine[2]), 3),
        )
    sole = planted_height(motion)
    if sole is not None and not -0.5 < sole < 0.5 and spine[2] > 0.7:
        raise Rejected("camera_space", "an upright person's feet are not near the floor", sole_m=round(sole, 3))
    feet = motion.position[:, [motion.skeleton.index(f"{s}_foot") for s in ("left", "right")]].mean(1)
    stance = np.median(motion.position[:, 0] - feet, axis=0)
    if abs(spine[1]) > 0.9 and abs(stance[1]) > 0.7 and stance[1] * spine[1] > 0:
        raise Rejected(
            "wrong_axis",
            "the person stands along a level axis: this file is not y up",
            spine_level=round(float(spine[1]), 3),
        )
    return motion


def _stem(path: str) -> str:
    """The path below a top folder such as motion_data/ or texts/, without suffix: what a motion and its text share."""
    parts = PurePosixPath(path).with_suffix("").parts
    return "/".join(parts[1:] if len(parts) > 1 and parts[0] in _TOP_FOLDERS else parts)


_TOP_FOLDERS = ("motion_data", "motions", "motion", "smplx_322", "texts", "text", "semantic_label", "semantic_labels")


def _label(root: Path, clip: Clip) -> str:
    try:
        text = open_path(root, clip).read_bytes()[:2000].decode("utf-8", "replace")
    except (Rejected, OSError):
        return ""
    return " ".join(text.split())[:500]
