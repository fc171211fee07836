"""Write robot motion as CSV of 36 columns, without a header, as Unitree (xyzw) and kimodo (wxyz) do.

Such a file tells neither its rate nor the order of its quaternions, so a small `.json` of the same stem goes beside it;
`corpus.sources.robot_files` reads it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import numpy as np

from corpus.motion import RobotMotion

QUATERNION_COLUMNS = {"wxyz": (3, 4, 5, 6), "xyzw": (4, 5, 6, 3)}
"""Where each of the file's four quaternion columns stands in our `qpos`."""


def write_csv(
    motion: RobotMotion, path: Path, *, quaternion: Literal["wxyz", "xyzw"] = "xyzw", decimals: int = 8
) -> Path:
    """Write `motion` to `path`, its rate and order of quaternions beside it; `xyzw` is Unitree's, `wxyz` kimodo's."""
    columns = [0, 1, 2, *QUATERNION_COLUMNS[quaternion], *range(7, motion.qpos.shape[1])]
    half_made = path.with_name(f".{path.name}.part")
    np.savetxt(half_made, motion.qpos[:, columns], delimiter=",", fmt=f"%.{decimals}f")
    told = {"fps": motion.fps, "quaternion": quaternion}
    path.with_suffix(".json").write_text(json.dumps(told, sort_keys=True) + "\n", encoding="utf-8")
    half_made.replace(path)
    return path
