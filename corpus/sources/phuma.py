"""PHUMA: human poses as npy of 69, 73 or 79 columns (y up), robot poses as a pickled dictionary (z up); 30 Hz."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from corpus.body_model import body, require_z_up, smpl_motion
from corpus.errors import Rejected
from corpus.motion import Clip, HumanMotion, RobotMotion
from corpus.sources.files import demand_suffix, open_path, scan_files, stem
from corpus.sources.options import LoadOptions
from corpus.sources.robot_checks import g1_motion
from corpus.sources.safe_files import is_object_npy, read_npy, read_npy_object

LICENCE = "PHUMA: Apache-2.0 code, data under its sources' licences"
FPS = 30.0
"""By the README; human files do not say it."""


def scan(root: Path) -> Iterator[Clip]:
    """Every file; `<take>_chunk_0003.npy` are pieces of one recording."""
    for clip in scan_files(root, "phuma", LICENCE):
        recording = re.sub(r"_chunk_\d+$", "", stem(clip))
        yield replace(clip, recording=recording, label=recording.replace("_", " "))


def load(root: Path, clip: Clip, options: LoadOptions) -> HumanMotion | RobotMotion:
    """A human clip turned z up, or a robot clip as it is."""
    demand_suffix(clip, ".npy")
    path = open_path(root, clip)
    if is_object_npy(path):
        return _robot(read_npy_object(path), options)
    rows = read_npy(path)
    if rows.ndim != 2 or rows.shape[1] not in (69, 73, 79) or rows.dtype.kind != "f":
        raise Rejected("wrong_shape", "a PHUMA human pose is (T, 69), (T, 73) or (T, 79)", shape=str(rows.shape))
    if not np.isfinite(rows).all():
        raise Rejected("not_finite", "NaN or infinity", bad_frames=int((~np.isfinite(rows).all(1)).sum()))
    rows = rows.astype(np.float64)
    if len(rows) < 2:
        raise Rejected("too_short", "fewer than two frames", frames=len(rows), minimum=2)
    betas = rows[0, 69:79] if rows.shape[1] == 79 else np.zeros(10)
    person = body(betas, "neutral", "smplx", options.body_models)
    motion = smpl_motion(rows[:, :3] + person.pelvis, rows[:, 3:69], options.fps or FPS, person, y_up=True)
    require_z_up(motion, level_axis=1, sign=-1.0)
    return motion


def _robot(content: object, options: LoadOptions) -> RobotMotion:
    if not isinstance(content, dict):
        raise Rejected("wrong_shape", "expected a dictionary of root_trans, root_ori, dof_pos, fps")
    for key in ("root_trans", "root_ori", "dof_pos"):
        if key not in content:
            raise Rejected("missing_key", f"has: {', '.join(map(str, content))[:200]}", key=key)
    fps = content.get("fps", options.fps or FPS)
    return g1_motion(content["root_trans"], content["root_ori"], content["dof_pos"], fps, order="xyzw")
