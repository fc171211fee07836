"""Motion-X and Motion-X++: npy of 322 columns, or npz with SMPL-X keys; y up, 30 Hz; non-commercial."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from corpus import rotations
from corpus.body_model import body, planted_height, require_z_up, smpl_motion, sole_heights
from corpus.errors import Rejected
from corpus.motion import Clip, HumanMotion
from corpus.sources.amass import Parameters, read_parameters
from corpus.sources.files import demand_suffix, list_files, open_path, scan_files
from corpus.sources.options import LoadOptions
from corpus.sources.safe_files import read_npy

LICENCE = "Motion-X non-commercial"
FPS = 30.0
"""The release's rate; no file says it."""

SUNK = -0.22
"""Planted soles below this tell a file written without the pelvis offset from one that is right [m].

Such a file sinks by 0.36 m; soles of right ones lie within 0.1 m of the floor, so either kind has 0.1 m to spare.
"""

FAR_FLOOR = 0.5
"""Soles further than this from height zero stand on no floor of this world [m]."""

_GROUPING_FOLDERS = {
    "motion", "motions", "motion_data", "smplx_322", "text", "texts", "semantic_label", "semantic_labels",
    "semantic_texts",
}  # fmt: skip
"""Folders that only tell motions from texts; what is left of a path names the take in both trees."""


def scan(root: Path) -> Iterator[Clip]:
    """Every file; a txt with a motion's stem is its label, others stand as files of their own."""
    paths = [path for path, _ in list_files(root)]
    motions = {_take(path) for path in paths if path.lower().endswith((".npy", ".npz"))}
    labels = {_take(path): path for path in paths if path.lower().endswith(".txt")}
    for clip in scan_files(root, "motionx", LICENCE):
        take = _take(clip.path)
        if clip.path.lower().endswith(".txt") and take in motions:
            continue
        label = _label(root, replace(clip, path=labels[take])) if take in labels else ""
        yield replace(clip, recording=take, label=label or PurePosixPath(take).name.replace("_", " "))


def load(root: Path, clip: Clip, options: LoadOptions) -> HumanMotion:
    """A clip turned z up; files without the pelvis offset are mended and say so."""
    demand_suffix(clip, ".npy", ".npz")
    path = open_path(root, clip)
    if clip.path.lower().endswith(".npz"):
        return _motion(read_parameters(path, options, default_fps=FPS))
    rows = read_npy(path)
    if rows.ndim != 2 or rows.shape[1] != 322 or rows.dtype.kind != "f":
        raise Rejected("wrong_shape", "a Motion-X npy is (T, 322) float", shape=str(rows.shape))
    if not np.isfinite(rows).all():
        raise Rejected("not_finite", "NaN or infinity", bad_frames=int((~np.isfinite(rows).all(1)).sum()))
    if len(rows) < 2:
        raise Rejected("too_short", "fewer than two frames", frames=len(rows), minimum=2)
    rows = rows.astype(np.float64)
    person = body(rows[0, 312:322], "neutral", "smplx", options.body_models)
    return _motion(Parameters(rows[:, :66], rows[:, 309:312], options.fps or FPS, person))


def _motion(given: Parameters) -> HumanMotion:
    motion = smpl_motion(given.trans + given.person.pelvis, given.pose, given.fps, given.person, y_up=True)
    if -FAR_FLOOR < _sole(motion) < SUNK:
        # Written as A·trans where A·(trans + J0) − J0 is right: so the pelvis lies A·J0 from there, not J0.
        offset = rotations.rotate(rotations.conjugate(rotations.Y_UP_TO_Z_UP), given.person.pelvis)
        note = f"pelvis offset was missing: raised by {offset[1] - given.person.pelvis[1]:.2f} m"
        motion = smpl_motion(given.trans + offset, given.pose, given.fps, given.person, y_up=True, note=note)
    _require_world(motion)
    return motion


def _require_world(motion: HumanMotion) -> None:
    """Refuse what is not a person over a level floor: camera space, other axes."""
    try:
        require_z_up(motion, level_axis=1, sign=-1.0)  # data that was z up already, turned once too often
    except Rejected as rejected:
        if "upside down" in rejected.detail:
            raise Rejected("camera_space", "y points down, as in a camera's frame", **rejected.numbers) from None
        raise
    spine = np.median(motion.position[:, motion.skeleton.index("neck")] - motion.position[:, 0], axis=0)
    sole = _sole(motion)
    if spine[2] > 0.7 * np.linalg.norm(spine) and abs(sole) > FAR_FLOOR:
        raise Rejected("camera_space", "an upright person's feet are nowhere near the floor", sole_m=round(sole, 3))


def _sole(motion: HumanMotion) -> float:
    """Height of the planted soles, or of the lowest where none is planted [m]."""
    planted = planted_height(motion)
    return float(np.percentile(sole_heights(motion).min(1), 5)) if planted is None else planted


def _take(path: str) -> str:
    """What a motion and its text share: the path without suffix and without the folders that tell them apart."""
    parts = PurePosixPath(path).with_suffix("").parts
    return "/".join([part for part in parts[:-1] if part.lower() not in _GROUPING_FOLDERS] + [parts[-1]])


def _label(root: Path, clip: Clip) -> str:
    try:
        text = open_path(root, clip).read_bytes()[:2000].decode("utf-8", "replace")
    except (Rejected, OSError):
        return ""
    return " ".join(text.split())[:500]
