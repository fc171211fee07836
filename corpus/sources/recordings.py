"""Runs on the robot or in a simulator, as `deploy.log` writes them: what the robot did while it followed something.

Each stretch of tracking is a clip of its own; all of a run are one recording. The robot does not know where it is: its path
comes from `corpus.odometry`. What it was to follow is read by `load_stretch`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath

from corpus.errors import Rejected
from corpus.motion import Clip, RobotMotion
from corpus.recording import SUFFIX, Recording, read_recording
from corpus.sources.files import demand_suffix, list_files, open_path
from corpus.sources.options import LoadOptions
from corpus.stretches import Stretch, StretchOptions, measured_motion, spans, stretches

UNKNOWN_LICENCE = "unknown: ask the owner"


def scan(root: Path) -> Iterator[Clip]:
    for path, byte_count in list_files(root):
        yield from _clips(root, Clip("recordings", path, UNKNOWN_LICENCE, byte_count=byte_count))


def load(root: Path, clip: Clip, options: LoadOptions) -> RobotMotion:
    demand_suffix(clip, SUFFIX)
    return measured_motion(load_stretch(open_path(root, clip), clip.part))


def load_stretch(path: Path, part: str = "") -> Stretch:
    """One stretch of a run by its name, "track-0", "track-1", …; the first where there is none."""
    found = stretches(_read(path))
    if not found:
        shortest = StretchOptions().shortest_s
        raise Rejected("too_short", "no stretch of tracking is long enough", minimum=shortest)
    names = [_name(i) for i in range(len(found))]
    if part and part not in names:
        raise Rejected("missing_key", f"has {names[0]} to {names[-1]}", key=part[:40])
    return found[names.index(part) if part else 0]


def _clips(root: Path, clip: Clip) -> Iterator[Clip]:
    """One for each stretch; what cannot be read is one clip, and `load` says why."""
    if not clip.path.lower().endswith(SUFFIX):
        yield clip
        return
    try:
        recording = _read(open_path(root, clip))
    except Rejected:
        yield clip
        return
    header = recording.header
    licence, subject = header["licence"] or UNKNOWN_LICENCE, header["subject"]
    name = header["recording"] or PurePosixPath(clip.path).stem
    label, count = str(header["facts"].get("label", "")), len(spans(recording))
    for part in [""] if count < 2 else map(_name, range(count)):
        yield Clip("recordings", clip.path, licence, subject, name, label, part, clip.byte_count)


def _name(number: int) -> str:
    return f"track-{number}"


def _read(path: Path) -> Recording:
    status = path.stat()
    return _read_once(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=1)
def _read_once(path: Path, changed_ns: int, byte_count: int) -> Recording:
    """The last file read: its stretches are asked for one after another."""
    return read_recording(path)
