"""Read robot motion from CSV: 36 columns of Unitree, g1-moves and kimodo, or BONES-SEED's with a header.

36 columns carry neither their rate nor the order of their quaternions. The rate is `options.fps`; else that of a file
of the same stem beside it (`.json` or `.npz` with `fps`); else 60 Hz where folder or name tell g1-moves; else 30 Hz,
with a note. The order is `options.quaternion`; else the `.json`'s; else decided by the gravity test (`robot_checks`).
"""

from __future__ import annotations

import json
import re
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Float

from corpus import rotations
from corpus.errors import Rejected
from corpus.g1 import G1
from corpus.motion import Clip, RobotMotion
from corpus.sources import safe_files
from corpus.sources.options import LoadOptions
from corpus.sources.robot_checks import g1_motion, rate

G1_MOVES_FOLDERS, G1_MOVES_NAME = {"g1_moves", "g1-moves"}, re.compile(r"^[BJM]_[A-Z][A-Za-z]*\d*$")


def read_csv(path: Path, root: Path, clip: Clip, options: LoadOptions) -> RobotMotion:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        header = [cell.strip() for cell in file.readline(65536).split(",")]
    headed = not _is_number(header[0])
    values = _table(path, skip=int(headed))
    if headed:
        return _bones_seed(header, values)
    if values.shape[1] != 7 + G1.joint_count:
        raise Rejected("wrong_shape", "a G1 CSV has 36 columns: xyz, quaternion, 29 joints", columns=values.shape[1])
    sidecar = _sidecar(path)
    fps, note = _csv_rate(path, root, clip, options, sidecar)
    order = options.quaternion if options.quaternion != "auto" else str(sidecar.get("quaternion", "auto"))
    return g1_motion(values[:, :3], values[:, 3:7], values[:, 7:], fps, order=order, note=note)


def _csv_rate(path: Path, root: Path, clip: Clip, options: LoadOptions, sidecar: dict) -> tuple[float, str]:
    if options.fps is not None:
        return options.fps, ""
    if "fps" in sidecar:
        return rate(sidecar["fps"]), ""
    beside = path.with_suffix(".npz")
    if beside.is_file() and not beside.is_symlink():
        try:
            return rate(safe_files.read_npz(beside, ["fps"])["fps"]), f"rate from {beside.suffix} of the same name"
        except (Rejected, KeyError):
            pass  # that file is rejected in its own row
    if is_g1_moves(root, clip.path):
        return 60.0, "rate by g1-moves' name"
    return 30.0, "no rate in the file: 30 Hz assumed"


def _sidecar(path: Path) -> dict[str, Any]:
    beside = path.with_suffix(".json")
    if not beside.is_file() or beside.is_symlink() or beside.stat().st_size > 65536:
        return {}
    try:
        found = json.loads(beside.read_bytes())
    except ValueError:
        return {}
    known = isinstance(found, dict) and found.get("quaternion", "auto") in ("auto", "wxyz", "xyzw")
    return found if known else {}


def _bones_seed(header: list[str], values: Float[np.ndarray, "T C"]) -> RobotMotion:
    """BONES-SEED: centimetres, degrees, extrinsic xyz Euler angles, 120 fps."""
    if values.shape[1] != len(header):
        raise Rejected("wrong_shape", "rows and header differ in length", columns=values.shape[1], header=len(header))
    column = {name.lower(): i for i, name in enumerate(header)}

    def pick(*names: str) -> np.ndarray:
        for name in names:
            if name not in column:
                raise Rejected("missing_key", "expected BONES-SEED's header or none", key=name)
        return values[:, [column[name] for name in names]]

    position = pick("root_translatex", "root_translatey", "root_translatez") / 100
    turns = np.radians(pick("root_rotatex", "root_rotatey", "root_rotatez"))
    joints = np.radians(pick(*[f"{name.removesuffix('_joint') if f'{name}_dof' not in column else name}_dof"
                               for name in G1.joint_names]))  # fmt: skip
    # Extrinsic x, y, z is intrinsic z, y, x.
    return g1_motion(position, rotations.from_euler(turns[:, ::-1], "zyx"), joints, 120.0, order="wxyz")


def _table(path: Path, *, skip: int) -> Float[np.ndarray, "T C"]:
    with path.open("rb") as file:
        lines = sum(1 for line in file if line.strip()) - skip
    if lines < 2:
        raise Rejected("too_short", "fewer than two rows of numbers", frames=max(lines, 0), minimum=2)
    try:
        return np.loadtxt(path, delimiter=",", skiprows=skip, ndmin=2, encoding="utf-8-sig")
    except ValueError as error:
        told = re.sub(r"\s+", " ", str(error))[:160]
        if "columns changed" in told and f"at row {lines + skip}" in told:
            raise Rejected("truncated", "the last row ends early", rows=lines) from None
        raise Rejected("wrong_shape", f"not a table of numbers: {told}") from None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def is_g1_moves(root: Path, path: str) -> bool:
    """Do the folders or the name tell the g1-moves data set, whose CSV files run at 60 Hz?"""
    folders = {root.name, *PurePosixPath(path).parts[:-1]}
    return bool(G1_MOVES_FOLDERS & folders) or bool(G1_MOVES_NAME.match(PurePosixPath(path).stem))
