"""Retarget one file: what a corpus build does with it, written as a file of robot motion.

`loom retarget FILE --out OUT` calls `retarget_file` and prints what it found.
"""

# MuJoCo's package tells a type checker nothing of its classes.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from corpus.durable import replace_file
from corpus.errors import MotionloomError
from corpus.exports.beyondmimic import write_beyondmimic
from corpus.exports.csv import write_csv
from corpus.g1 import G1
from corpus.motion import Clip, HumanMotion, RobotMotion
from corpus.pictures import draw_poses, pick_frames
from corpus.posture import GROUND_POINTS
from corpus.quality import Quality, summarise
from corpus.robot import Robot
from corpus.sources import SOURCES
from corpus.sources.options import LoadOptions
from pipelines import plan
from pipelines.clips import Loaded, Processed, finish, load_clip
from pipelines.recipe import Recipe, with_reading
from retarget.retarget import body_errors

log = logging.getLogger(__name__)

WRITERS: dict[str, Callable[[RobotMotion, Path], Path]] = {
    ".csv": write_csv,
    ".npz": lambda motion, path: write_beyondmimic(motion, path, G1),
}
"""By suffix: 36 columns as Unitree's, or BeyondMimic's arrays."""

OTHER_KIND = {"not_motion", "not_human", "not_g1"}
"""Reasons by which a source says that a file is not its business."""

POSE_COUNT = 9
"""Poses in a picture."""


@dataclass(frozen=True)
class Verdict:
    """What a corpus build does with a piece of the motion."""

    start: int
    stop: int
    status: Literal["kept", "rejected", "cut"]
    why: str
    """Reason and numbers; empty for what is kept."""


def retarget_file(
    path: Path, out: Path, recipe: Recipe | None = None, load: LoadOptions | None = None, *,
    name: str | None = None, part: str | None = None, frames: Path | None = None,
) -> Processed:  # fmt: skip
    """Write the motion in `path` on the robot to `out`, whose suffix says how (`WRITERS`), and all measures frame by frame to the
    Parquet file `frames`; gives what a build would make of it.

    `name` is the source that reads it, else it is found; of several motions in a file `part` names one, else it is the
    first. Bad data raises with its reason, and nothing is written.
    """
    recipe, load = recipe or Recipe(), load or LoadOptions()
    recipe = with_reading(recipe, load)
    write = _writer(path, out)
    if frames is not None and (frames.suffix.lower() != ".parquet" or not frames.parent.is_dir()):
        raise MotionloomError(f"{frames}: measures go to a file NAME.parquet in a folder that there is.")
    loaded = read_file(path, load, name=name, part=part)
    (done,) = finish([loaded], recipe)
    if done.motion is None:
        raise _refused(path, [done.row])
    write(done.motion, out)
    if frames is not None:
        table = frame_table(done, loaded.raw if isinstance(loaded.raw, HumanMotion) else None, recipe)
        replace_file(frames, table.write_parquet)
    return done


def frame_table(done: Processed, human: HumanMotion | None, recipe: Recipe) -> pl.DataFrame:
    """A row per frame: time [s], the columns of `FrameMeasures`, contacts, and each body's distance [m] and angle [rad] from its
    target, where it followed a person."""
    assert done.motion is not None and done.motion.contact is not None and done.measures is not None
    columns: dict[str, np.ndarray] = {"time": np.arange(done.motion.frame_count) / done.motion.fps}
    columns |= {name: value for name, value in vars(done.measures).items() if name != "fps"}
    columns |= {f"contact_{end}": done.motion.contact[:, i] for i, end in enumerate(GROUND_POINTS)}
    if human is not None:
        distance, angle = body_errors(human, done.motion, G1, recipe.retarget)
        columns |= {f"position_error_{role}": value for role, value in distance.items()}
        columns |= {f"orientation_error_{role}": value for role, value in angle.items()}
    return pl.DataFrame(columns)


def read_file(path: Path, load: LoadOptions, *, name: str | None = None, part: str | None = None) -> Loaded:
    """The motion in a file, by the source of that name, or by the first in `SOURCES` that reads it, as builds have it.

    Raises where none does, or where another one makes a different motion of it.
    """
    if not path.is_file():
        raise MotionloomError(f"{path} is not a file.")
    if name is None and load.skeleton is not None:
        name = "bvh"  # the only source that a skeleton file can be meant for
    clips = _clips(path, [name] if name else list(SOURCES), part, load)
    tried = [load_clip(clip, path.absolute().parent, load) for clip in clips]
    read = [(loaded, loaded.raw) for loaded in tried if loaded.raw is not None]
    if not read:
        hint = "" if name else f" – known sources: {', '.join(SOURCES)}"
        raise _refused(path, [loaded.row for loaded in tried], hint)
    first, raw = read[0]
    if differ := [loaded.row["source"] for loaded, other in read if not _same(raw, other)]:
        names = ", ".join([first.row["source"], *differ])
        raise MotionloomError(f"{path}: {names} read it, each in its own way; name one with --source.")
    return first


def verdicts(done: Processed) -> list[Verdict]:
    """Every frame of a motion, piece by piece in order: kept, rejected, or cut away, and why."""
    cut = [Verdict(span.start, span.stop, "cut", str(span.reason)) for span in done.lost]
    judged = [Verdict(s["start"], s["start"] + s["frames"], s["status"], why(s)) for s in done.segments]
    return sorted([*cut, *judged], key=lambda verdict: verdict.start)


def why(row: dict[str, Any]) -> str:
    """Reason, numbers and detail of a clip's or a segment's row, in words."""
    numbers = ", ".join(f"{name} {value}" for name, value in json.loads(row["numbers"] or "{}").items())
    told = f"{row['reason'] or ''}{f' ({numbers})' if numbers else ''}"
    return f"{told}: {row['detail']}" if row.get("detail") else told


def whole_quality(done: Processed) -> Quality:
    """The measures of the whole motion; those of the segments are in their rows."""
    assert done.measures is not None, "a motion that was retargeted has been measured"
    return summarise(done.measures, 0, done.row["frames"])


def write_picture(motion: RobotMotion, path: Path, *, title: str = "") -> Path:
    """Poses spread over the motion, side by side as an SVG; what touches the ground is marked."""
    frames = pick_frames(motion.frame_count, POSE_COUNT)
    contact = None if motion.contact is None else motion.contact[frames]
    replace_file(path, lambda made: made.write_text(draw_poses(G1, motion.qpos[frames], contact=contact, title=title)))
    return path


def has_display() -> bool:
    """Can a window open here?"""
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY"))


def play(motion: RobotMotion, robot: Robot = G1) -> None:
    """Show the motion in MuJoCo's viewer, over and over, until its window is closed."""
    import mujoco
    import mujoco.viewer

    model = mujoco.MjModel.from_xml_path(str(robot.mjcf))
    data = mujoco.MjData(model)
    with mujoco.viewer.launch_passive(model, data) as viewer:
        start = time.monotonic()
        while viewer.is_running():
            frame = int((time.monotonic() - start) * motion.fps) % motion.frame_count
            data.qpos[:] = motion.qpos[frame]
            mujoco.mj_forward(model, data)
            viewer.sync()
            time.sleep(1 / motion.fps)


def _writer(path: Path, out: Path) -> Callable[[RobotMotion, Path], Path]:
    """The writer of `out`, once all is known to be in order: what takes long comes after."""
    if out.suffix.lower() not in WRITERS:
        raise MotionloomError(f"No writer for {out.name!r}. Known suffixes: {', '.join(sorted(WRITERS))}.")
    if not out.parent.is_dir():
        raise MotionloomError(f"{out.parent} is not a folder.")
    if path.resolve() in (out.with_suffix(suffix).resolve() for suffix in (out.suffix, ".json", ".svg")):
        raise MotionloomError(f"{out} and what lies beside it would take the place of {path}: name another file.")
    return WRITERS[out.suffix.lower()]


def _clips(path: Path, names: list[str], part: str | None, load: LoadOptions) -> list[Clip]:
    """What each source's scan finds in the file: the part asked for, or the first."""
    found = [clip for name in names for clip in plan.scan(name, path, load.skeleton)]
    parts = [clip.part for clip in found if clip.part]
    if part is not None and part not in parts:
        raise MotionloomError(f"{path} has no part {part!r}. Known: {', '.join(parts) or 'none, it is one motion'}.")
    first: dict[str, Clip] = {}
    for clip in found:
        if part in (None, clip.part):
            first.setdefault(clip.source, clip)
    if part is None and parts:
        log.info("%s holds %d motions: this is %s, --part names another", path, len(parts), parts[0])
    return list(first.values())


def _same(a: HumanMotion | RobotMotion, b: HumanMotion | RobotMotion) -> bool:
    """Do two sources make the same motion of a file? Told by the root's path: other axes or units show there."""
    one, other = (raw.position[:, 0] if isinstance(raw, HumanMotion) else raw.root_position for raw in (a, b))
    return type(a) is type(b) and a.fps == b.fps and one.shape == other.shape and np.allclose(one, other)


def _refused(path: Path, rows: list[dict[str, Any]], hint: str = "") -> MotionloomError:
    """An error with the reasons; those of sources for files of another kind only where there are no others."""
    rows = [row for row in rows if row["reason"] not in OTHER_KIND] or rows
    said: dict[str, list[str]] = {}
    for row in rows:
        said.setdefault(why(row), []).append(row["source"])
    told = "; ".join(f"{text} [{', '.join(names)}]" for text, names in said.items())
    return MotionloomError(f"{path}: {told}{hint}")
