"""The BVH format: a strict parser, and forward kinematics of what it holds, in the file's own unit and axes.

Position channels replace a joint's OFFSET, on the root and on every other joint; rotations are intrinsic, in the order
of the channels, any number of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float

from corpus.errors import Rejected
from corpus.motion import check_fps
from corpus.sources.bvh_kernels import JointTree, read_table

MAX_JOINTS, MAX_DEPTH = 1000, 128
MAX_HEADER_BYTES, MAX_FILE_BYTES = 1 << 20, 1 << 30

COMMON_RATES = (24, 25, 30, 48, 50, 60, 72, 75, 90, 100, 120, 144, 150, 180, 200, 240, 250, 300, 360, 480, 500, 1000)
"""Whole frame rates that a rounded frame time may stand for [Hz]."""


@dataclass(frozen=True)
class BvhFile:
    """What a BVH holds, in its own unit and axes."""

    joint_names: tuple[str, ...]
    """In the file's order: every parent comes before its children."""
    parents: tuple[int, ...]
    offsets: Float[np.ndarray, "J 3"]
    end_sites: dict[int, tuple[float, ...]]
    """Joint → offset of its end site."""
    channels: tuple[tuple[str, ...], ...]
    """Per joint, in the file's order: "Xposition", …, "Zrotation"."""
    values: Float[np.ndarray, "T C"]
    """Positions in the file's unit, angles in degrees."""
    fps: float

    @property
    def frame_count(self) -> int:
        return len(self.values)


def read_bvh(path: Path) -> BvhFile:
    """Parse a file strictly; what does not fit is `Rejected` with what was expected."""
    byte_count = path.stat().st_size
    if byte_count > MAX_FILE_BYTES:
        raise Rejected("absurd_size", "too large for one take", bytes=byte_count, limit=MAX_FILE_BYTES)
    return parse_bvh(path.read_bytes())


def parse_bvh(data: bytes) -> BvhFile:
    """The same from the file's bytes."""
    data = data.removeprefix(b"\xef\xbb\xbf")
    if b"\0" in data[:MAX_HEADER_BYTES]:
        raise Rejected("not_motion", "a BVH is a text; this holds NUL bytes")
    if not data[:4096].lstrip().startswith(b"HIERARCHY"):
        raise Rejected("truncated", "a BVH begins with HIERARCHY")
    mark = re.compile(rb"^[ \t]*MOTION[ \t]*\r?$", re.MULTILINE).search(data, 0, MAX_HEADER_BYTES)
    if mark is None:
        raise Rejected("truncated", "no line MOTION after the HIERARCHY")
    names, parents, offsets, end_sites, channels = _hierarchy(data[: mark.start()])
    frame_count, fps, start = _timing(data, mark.end())
    values = _values(data[start:], frame_count, sum(map(len, channels)))
    return BvhFile(names, parents, offsets, end_sites, channels, values, fps)


def world_motion(
    file: BvhFile, root_turn: Float[np.ndarray, " 4"], joints: Collection[int] | None = None
) -> tuple[Float[np.ndarray, "T K 3"], Float[np.ndarray, "T K 4"]]:
    """World positions [the file's unit] and orientations of `joints` (default: all), all turned by `root_turn`."""
    wanted = range(len(file.parents)) if joints is None else joints
    tree, columns = _joint_tree(file.parents, file.offsets.tobytes(), file.channels, tuple(sorted(wanted)))
    position, rotation = tree.poses(file.values if columns is None else file.values[:, columns], root_turn)
    return position[:, : len(wanted)], rotation[:, : len(wanted)]


@lru_cache(32)
def _joint_tree(
    parents: tuple[int, ...], offsets: bytes, channels: tuple[tuple[str, ...], ...], wanted: tuple[int, ...]
) -> tuple[JointTree, list[int] | None]:
    """The wanted joints, then those above them; and their columns, where those are not all.

    Kept: the takes of a data set share their skeleton.
    """
    needed = _with_ancestors(parents, wanted)
    place_of = {joint: i for i, joint in enumerate(needed)}
    first = _first_columns(channels)
    columns = [column for joint in needed for column in range(first[joint], first[joint + 1])]
    tree = JointTree(
        [place_of.get(parents[joint], -1) for joint in needed],
        np.frombuffer(offsets).reshape(-1, 3)[needed],
        [channels[joint] for joint in needed],
        [(*wanted, *(joint for joint in needed if joint not in wanted)).index(joint) for joint in needed],
    )
    return tree, None if len(needed) == len(parents) else columns


def bone_offsets(file: BvhFile) -> Float[np.ndarray, "J 3"]:
    """Each joint's place in its parent's frame: the OFFSET, or the median of some frames where channels replace it."""
    offsets = file.offsets.copy()
    joints, axes, columns = _position_channels(file.channels)
    if columns:
        some = file.values[:: max(1, file.frame_count // 32), columns]
        middle = len(some) // 2
        offsets[joints, axes] = np.partition(some, middle, axis=0)[middle]
    return offsets


# --- kinematics


def _with_ancestors(parents: Sequence[int], joints: Sequence[int]) -> list[int]:
    needed: set[int] = set()
    for joint in joints:
        while joint >= 0 and joint not in needed:
            needed.add(joint)
            joint = parents[joint]
    return sorted(needed)


def _first_columns(channels: Sequence[Sequence[str]]) -> list[int]:
    """Where each joint's channels begin in `values`."""
    return np.cumsum([0, *map(len, channels)]).tolist()


@lru_cache(32)
def _position_channels(channels: tuple[tuple[str, ...], ...]) -> tuple[list[int], list[int], list[int]]:
    """Joints, axes and columns of the channels that replace an offset."""
    first = _first_columns(channels)
    moving = [
        (joint, "XYZ".index(channel[0]), first[joint] + i)
        for joint, own in enumerate(channels)
        for i, channel in enumerate(own)
        if channel.endswith("position")
    ]
    return [joint for joint, _, _ in moving], [axis for _, axis, _ in moving], [column for _, _, column in moving]


# --- the header


_Hierarchy = tuple[
    tuple[str, ...],
    tuple[int, ...],
    Float[np.ndarray, "J 3"],
    dict[int, tuple[float, ...]],
    tuple[tuple[str, ...], ...],
]


@lru_cache(32)
def _hierarchy(data: bytes) -> _Hierarchy:
    """Kept: the takes of a data set share their header. Nobody writes to its arrays."""
    reader = _HierarchyReader()
    text = data.decode("utf-8", "backslashreplace").replace("{", "\n{\n").replace("}", "\n}\n")
    for line in text.splitlines():
        if words := line.split():
            reader.line(words)
    return reader.result()


class _HierarchyReader:
    """Takes the header line by line; no recursion, so that no depth can hurt."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.parents: list[int] = []
        self.offsets: list[tuple[float, ...] | None] = []
        self.channels: list[tuple[str, ...] | None] = []
        self.end_sites: dict[int, tuple[float, ...]] = {}
        self.open: list[int] = []  # joints whose braces are open; −1 stands for an end site
        self.pending: int | None = None  # named, its brace not yet open

    def line(self, words: list[str]) -> None:
        keyword = words[0].upper()
        if self.pending is not None and keyword != "{":
            raise _bad(words, "expected an opening brace")
        match keyword:
            case "HIERARCHY" if not self.names:
                pass
            case "ROOT" | "JOINT":
                self._joint(words, is_root=keyword == "ROOT")
            case "END" if self.open and self.open[-1] >= 0:
                self.pending = -1
            case "{" if self.pending is not None:
                self.open.append(self.pending)
                self.pending = None
            case "}" if self.open:
                self.open.pop()
            case "OFFSET" if self.open:
                self._offset(words)
            case "CHANNELS" if self.open and self.open[-1] >= 0 and self.channels[self.open[-1]] is None:
                self.channels[self.open[-1]] = _channels(tuple(words))
            case _:
                raise _bad(words, "unknown or misplaced")

    def result(self) -> _Hierarchy:
        if self.open or self.pending is not None:
            raise Rejected("bad_hierarchy", "the HIERARCHY ends with open braces")
        if not self.names or None in self.offsets or None in self.channels:
            raise Rejected("bad_hierarchy", "every joint has an OFFSET and CHANNELS, and there is at least one")
        offsets = np.array(self.offsets, float)
        channels = tuple(channel or () for channel in self.channels)
        return tuple(self.names), tuple(self.parents), offsets, self.end_sites, channels

    def _joint(self, words: list[str], *, is_root: bool) -> None:
        name = " ".join(words[1:])
        if not name or is_root != (not self.names) or (not is_root and (not self.open or self.open[-1] < 0)):
            raise _bad(words, "one ROOT, then JOINTs inside other joints, each with a name")
        if name in self.names:
            raise Rejected("joint_named_twice", f"joint {name[:40]!r} occurs more than once", joint=name[:40])
        if len(self.names) >= MAX_JOINTS or len(self.open) >= MAX_DEPTH:
            count, depth = len(self.names), len(self.open)
            raise Rejected("bad_hierarchy", f"at most {MAX_JOINTS} joints, {MAX_DEPTH} deep", joints=count, depth=depth)
        self.parents.append(self.open[-1] if self.open else -1)
        self.names.append(name)
        self.offsets.append(None)
        self.channels.append(None)
        self.pending = len(self.names) - 1

    def _offset(self, words: list[str]) -> None:
        offset = tuple(_number(word.encode()) for word in words[1:])
        if len(offset) != 3 or not all(map(math.isfinite, offset)):
            raise _bad(words, "an OFFSET has three numbers")
        if self.open[-1] < 0:
            self.end_sites[self.open[-2]] = offset
        elif self.offsets[self.open[-1]] is None:
            self.offsets[self.open[-1]] = offset
        else:
            raise _bad(words, "a second OFFSET")


@lru_cache(64)
def _channels(words: tuple[str, ...]) -> tuple[str, ...]:
    channels = tuple(word.capitalize() for word in words[2:])
    known = all(re.fullmatch(r"[XYZ](position|rotation)", channel) for channel in channels)
    if len(words) < 2 or words[1] != str(len(channels)) or not known or len(set(channels)) != len(channels):
        raise _bad(words, "CHANNELS has a count and as many names such as Xposition, Zrotation, each once")
    return channels


def _bad(words: Sequence[str], expected: str) -> Rejected:
    return Rejected("bad_hierarchy", f"{expected}: {' '.join(words)[:60]!r}")


# --- the motion


def _timing(data: bytes, start: int) -> tuple[int, float, int]:
    """Frames, frames per second [Hz], and where the values begin."""
    frames = re.compile(rb"\s*Frames:[ \t]*(\S+)[ \t\r]*\n").match(data, start)
    if frames is None or not re.fullmatch(rb"\d{1,18}", frames[1]):
        raise Rejected("truncated", "MOTION is followed by a line 'Frames: COUNT'")
    frame_count = int(frames[1])
    if frame_count < 2:
        raise Rejected("too_short", "a motion has at least two frames", frames=frame_count, minimum=2)
    time = re.compile(rb"\s*Frame Time:[ \t]*(\S+)[ \t\r]*(?:\n|$)").match(data, frames.end())
    seconds = time[1] if time else b""
    frame_time = _number(seconds)
    if time is None or not 0 < frame_time < math.inf:
        raise Rejected("bad_frame_rate", "'Frame Time:' is absent or no positive number of seconds", fps=0.0)
    fps = _nominal_rate(seconds.decode(), frame_time)
    check_fps(fps)
    return frame_count, fps, time.end()


def _nominal_rate(text: str, frame_time: float) -> float:
    """0.0333 s was 30 Hz before somebody rounded it: the common rate whose period the digits may stand for."""
    digits = re.fullmatch(r"\+?\d*\.(\d+)", text)
    last_digit = 10.0 ** -len(digits[1]) if digits else 0.0
    nearest = min(COMMON_RATES, key=lambda rate: abs(1 / rate - frame_time))
    off = 1 / nearest - frame_time
    # Rounded, or cut off; never so coarse that two rates would do.
    stands_for = -0.5 * last_digit <= off <= last_digit and abs(off) < 0.015 * frame_time
    return float(nearest) if stands_for else 1 / frame_time


def _values(text: bytes, frame_count: int, channel_count: int) -> Float[np.ndarray, "T C"]:
    if (table := read_table(text, frame_count, channel_count)) is not None:
        return table
    # Not plain: look closer, for what is wrong with it or for how else its numbers are written.
    _check_rows(text, frame_count, channel_count)
    values = _parse_numbers(text)
    if values.size != frame_count * channel_count:
        size = frame_count * channel_count
        reason = "truncated" if values.size < size else "wrong_shape"
        raise Rejected(
            reason, "frames × channels values", values=values.size, frames=frame_count, channels=channel_count
        )
    values = values.reshape(frame_count, channel_count)
    if not np.isfinite(values).all():
        bad = int((~np.isfinite(values).all(1)).sum())
        raise Rejected("not_finite", "NaN or infinity in the motion", bad_frames=bad)
    return values


def _check_rows(text: bytes, frame_count: int, channel_count: int) -> None:
    """As many lines as frames, each with as many values as channels."""
    if channel_count == 0:
        raise Rejected("bad_hierarchy", "no joint has a channel")
    lines = [line for line in text.split(b"\n") if line and not line.isspace()]
    counts = {line.count(b" ") for line in lines}
    # Files are regular: the same number of blanks in each line, and one line to look into. If not, count them all.
    looked_at = lines[:1] if len(counts) == 1 and b"\t" not in text else lines
    for number, line in enumerate(looked_at):
        if (found := len(line.split())) != channel_count:
            reason = "truncated" if found < channel_count else "wrong_shape"
            where = "the last line" if number == len(lines) - 1 else f"line {number + 1} of the motion"
            raise Rejected(reason, f"{where} has not one value per channel", values=found, channels=channel_count)
    if len(lines) != frame_count:
        reason = "truncated" if len(lines) < frame_count else "wrong_shape"
        raise Rejected(reason, "one line per frame", lines=len(lines), frames=frame_count)


# A line of its own for every number: one call then reads them all, several times faster than splitting the text.
_BLANKS_TO_NEWLINES = bytes.maketrans(b" \t\r\v\f", b"\n" * 5)


def _parse_numbers(text: bytes) -> Float[np.ndarray, " N"]:
    try:
        table = pl.read_csv(
            text.translate(_BLANKS_TO_NEWLINES),
            has_header=False,
            schema={"value": pl.Float64},
            separator="\x1f",
            quote_char=None,
        )
    except pl.exceptions.PolarsError:
        bad = next((word for word in text.split() if math.isnan(_number(word))), b"")
        # "-nan(ind)", "1.#INF": how some C libraries print them.
        reason = "not_finite" if re.search(rb"nan|inf|#", bad, re.IGNORECASE) else "truncated"
        raise Rejected(reason, f"{bad[:20].decode(errors='backslashreplace')!r} is no number") from None
    return table["value"].drop_nulls().to_numpy()


_DECIMAL = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def _number(word: bytes) -> float:
    """A decimal number; NaN for anything else (Python's own reading takes "1_0" as well)."""
    return float(word) if _DECIMAL.fullmatch(word) else math.nan
