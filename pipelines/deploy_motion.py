"""What a controller can follow, by its name on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from corpus.errors import MotionloomError
from corpus.motion import RobotMotion
from deploy.contract import CONTROL_HZ
from deploy.link import Link
from deploy.reference import ClipSource, ReferenceSource, StandSource

if TYPE_CHECKING:
    from deploy.planner.commands import Commander, Script
    from deploy.planner.index import Index


def motion_source(
    name: str, frames: tuple[int, ...], commands: str | None = None, source: str | None = None, link: Link | None = None
) -> ReferenceSource:
    """`stand`; `live` or `live:PORT`; `plan:INDEX` with `commands`; `CORPUS#SEGMENT`; a motion file, which `source` reads.

    `link` is where the robot's own remote is heard. Raises `MotionloomError` for what there is not.
    """
    if name == "stand":
        return StandSource(frames)
    if name == "live" or name.startswith("live:"):
        return _live(name, frames)
    if name.startswith("plan:"):
        return _planned(Path(name.removeprefix("plan:")), frames, commands, link)
    corpus, mark, segment = name.rpartition("#")
    if mark and Path(corpus, "corpus.json").is_file():
        return ClipSource(_of_corpus(Path(corpus), segment), frames, name)
    if Path(name, "corpus.json").is_file():
        raise MotionloomError(f"{name} is a corpus: which segment of it? {name}#0, say.")
    return ClipSource(_of_file(Path(name), source), frames, Path(name).name)


def _live(name: str, frames: tuple[int, ...]) -> ReferenceSource:
    from deploy.live import PORT, LiveSource

    text = name.removeprefix("live").removeprefix(":")
    if text and not (text.isdecimal() and int(text) < 65536):
        raise MotionloomError(f"{name}: should be live:PORT, as in live:{PORT}.")
    return LiveSource(int(text) if text else PORT, frames)


def _planned(index: Path, frames: tuple[int, ...], commands: str | None, link: Link | None) -> ReferenceSource:
    from deploy.planner.index import Index
    from deploy.planner.source import PlannedSource

    opened = Index.open(index)
    return PlannedSource(opened, _commander(commands, opened, link), frames)


def _commander(commands: str | None, opened: Index, link: Link | None) -> Commander:
    from deploy.planner.commands import Script
    from deploy.planner.keyboard import Keyboard, Keys
    from deploy.planner.sticks import Gamepad, RemoteCommander
    from deploy.planner.styles import describe

    if commands == "keyboard":
        return Keyboard(Keys([style.name for style in describe(opened)], upright=opened.about["upright"]))
    if commands == "remote" and link is not None:
        return RemoteCommander(lambda: bytes(40) if (seen := link.read()) is None else seen.state.remote)
    if commands is None:
        raise MotionloomError("A plan needs --commands: keyboard, remote, a gamepad's device, or a script.")
    if commands.startswith("/dev/"):
        return Gamepad(Path(commands))
    return _known(Script.read(Path(commands)), opened, commands)


def _known(script: Script, index: Index, name: str) -> Script:
    """The script, where the index has all styles that it asks for."""
    for command in script.commands:
        if command.style is not None and command.style not in index.style_names:
            known = ", ".join(sorted(index.style_names))
            raise MotionloomError(f"{name}: no style {command.style!r}. Known: {known}.")
    return script


def _of_corpus(path: Path, segment: str) -> RobotMotion:
    from corpus.catalog import Corpus

    corpus = Corpus.open(path)
    if segment.isdecimal() and not int(segment) < len(corpus.frames):
        raise MotionloomError(f"{path} holds {len(corpus.frames)} segments, from #0 on; there is no #{segment}.")
    motion = corpus.motion(int(segment) if segment.isdecimal() else segment)
    return _at_control_rate(motion)


def _of_file(path: Path, source: str | None) -> RobotMotion:
    from corpus.sources.options import LoadOptions
    from pipelines.clips import finish
    from pipelines.one_file import read_file
    from pipelines.recipe import Recipe

    (done,) = finish([read_file(path, LoadOptions(), name=source)], Recipe())
    if done.motion is None:
        raise MotionloomError(f"{path}: {done.row.get('reason', 'no motion')} {done.row.get('detail', '')}".strip())
    return _at_control_rate(done.motion)


def _at_control_rate(motion: RobotMotion) -> RobotMotion:
    from corpus.resample import resample

    return motion if abs(motion.fps - CONTROL_HZ) < 1e-6 else resample(motion, CONTROL_HZ)
