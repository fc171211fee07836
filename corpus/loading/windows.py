"""Batches of windows: what a sampler draws, gathered from the rows of shards, warped, mirrored and turned as told."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import warp as wp
from jaxtyping import Int, UInt64

from corpus.augment import Augment, Choice, frames_needed, mirror_columns
from corpus.catalog import Corpus
from corpus.errors import MotionloomError
from corpus.loading.sampler import Draw, Sampler
from corpus.loading.weave import build_weave
from corpus.loading.window_kernels import RATE, SHOW, Task, Window, copy, window_array
from corpus.mapped import expect_random
from corpus.robot import Robot
from corpus.store import CONTACT_COLUMNS

FIELDS = ("qpos", "velocity", "contact")
"""What a batch may hold of every frame."""

Array = Any  # a NumPy array, or a torch tensor where a device was named


@dataclass(frozen=True)
class Batch:
    """Windows of L = history + window + future frames. What was not asked for is None."""

    qpos: Array
    """(B, L, 36) float32: root xyz [m], root quaternion `[w x y z]`, joint angles [rad]."""
    velocity: Array
    """(B, L, 35) float32: as `corpus.motion.velocity` of the whole segment, warped, mirrored and turned as the window is."""
    contact: Array
    """(B, L, 4) uint8: left heel, left toe, right heel, right toe on the ground."""
    valid: Array
    """(B, L) bool: False where history or future reach beyond the segment; the edge frame stands there, at rest."""
    segment: Array
    """(B,) int64: row in `corpus.kept`."""
    frame: Array
    """(B,) int64: the segment's frame that the window, without history, begins with."""
    speed: Array
    """(B,) float64: the segment's frames per frame of the window."""
    mirrored: Array
    """(B,) bool"""
    yaw: Array
    """(B,) float32: turn about the vertical through the root of the window's first frame [rad]."""


@dataclass(frozen=True)
class Addresses:
    """Where shards lie in memory, by their numbers; 0 for those that were not asked for."""

    qpos: UInt64[np.ndarray, " K"]
    contact: UInt64[np.ndarray, " K"]
    """Of each shard's first row."""
    held: Any = None
    """What must live as long as the addresses are used."""


class Rows(Protocol):
    """The frames of shards in memory."""

    columns: int
    """Of `qpos`."""

    def addresses(self, step: int, shard: Int[np.ndarray, " B"]) -> Addresses:
        """Where these shards lie; `step` tells what will be asked for next."""
        ...


class MappedRows:
    """All shards, mapped when first asked for, and for good: what a cache evicts stays on the disk as long as it is mapped here."""

    def __init__(self, corpus: Corpus, *, read_ahead: bool = True):
        """Without `read_ahead`, the disk reads what a window needs and no more: for corpora that memory cannot hold."""
        self.corpus, self.read_ahead = corpus, read_ahead
        self.columns = corpus.shard(0).qpos.shape[1]
        self._all = Addresses(*np.zeros((2, len(corpus.shard_ids)), np.uint64), held={})

    def addresses(self, step: int, shard: Int[np.ndarray, " B"]) -> Addresses:
        for number in set(shard[self._all.contact[shard] == 0].tolist()):
            opened = self.corpus.shard(number)
            # Another thread may have been first, and its kernel is reading there.
            arrays = self._all.held.setdefault(number, (opened.qpos, opened.contact))
            if not self.read_ahead:
                for array in arrays:
                    expect_random(array)
            self._all.qpos[number], self._all.contact[number] = (array.ctypes.data for array in arrays)
        return self._all

    def __reduce__(self):
        # Another process maps for itself.
        return functools.partial(MappedRows, read_ahead=self.read_ahead), (self.corpus,)


@dataclass(frozen=True)
class Placed:
    """A draw's windows, found in memory."""

    table: np.ndarray
    """A `Window` for each, as the kernels take it."""
    choice: Choice
    frame: Int[np.ndarray, " B"]
    """The segment's frame that each begins with."""
    held: Any
    """What must live until they are gathered."""


class Windows:
    """Batch number `step` is `windows[step]`: this rank's windows of it, in any order, as often as wanted."""

    def __init__(
        self,
        corpus: Corpus,
        sampler: Sampler,
        rows: Rows,
        *,
        history: int = 0,
        future: int = 0,
        fields: Iterable[str] = FIELDS,
        augment: Augment | None = None,
        robot: Robot | None = None,
    ):
        """`history` and `future` are frames before and after the window. `robot` tells what mirrors what; without one it is
        the G1, where the corpus is."""
        self.sampler, self.rows, self.fields, self.augment = sampler, rows, tuple(fields), augment
        if history < 0 or future < 0 or not self.fields or not set(self.fields) <= set(FIELDS):
            raise MotionloomError(
                f"history {history}, future {future}: at least 0; fields {', '.join(self.fields)}: of {', '.join(FIELDS)}."
            )
        self.history, self.length = history, history + sampler.window + future
        # All tables are read here: a forked worker must not start polars' threads.
        self.fps, self.frames, self.shard_of, self.row = corpus.fps, corpus.frames, corpus.shard_of, corpus.row
        self.is_plain = augment is None and "velocity" not in self.fields
        self.columns = tuple(range(1, rows.columns + 1))
        """What the mirrored robot takes from where, as `mirror_columns` says; all as it is where none is mirrored."""
        if augment and augment.mirror:
            self.columns = mirror_columns(robot or _robot_of(corpus))
            if len(self.columns) != rows.columns:
                raise MotionloomError(f"Rows have {rows.columns} columns, the robot {len(self.columns)}.")
        self.speed_use = corpus.measure("speed_use") if augment and augment.speeds != (1.0,) else None

    def __getitem__(self, step: int) -> Batch:
        return self.gather(self.sampler.draw(step))

    def gather(self, draw: Draw) -> Batch:
        """The windows of a draw."""
        placed = self.place(draw)
        count = len(placed.table)
        columns = self.rows.columns
        shapes = (columns, np.float32), (columns - 1, np.float32), (CONTACT_COLUMNS, np.uint8)
        out: dict[str, Any] = {
            name: np.empty((count, self.length, width), dtype) if name in self.fields else None
            for name, (width, dtype) in zip(FIELDS, shapes, strict=True)
        }
        if self.is_plain:
            out["valid"] = self._copy(placed.table, out)
        else:
            out["valid"] = self._weave(placed.table, out)
        return Batch(**out, segment=draw.segment, frame=placed.frame, **vars(placed.choice))

    def place(self, draw: Draw) -> Placed:
        """Choose what is done to each window, and find it."""
        segment, count = draw.segment, len(draw.segment)
        shard, frames, frame = self.shard_of[segment], self.frames[segment], draw.frame
        if (frame < 0).any() or (frame + self.sampler.window > frames).any():
            raise IndexError("A window reaches beyond its segment.")
        choice = Choice(np.zeros(count, bool), np.ones(count), np.zeros(count, np.float32))
        if self.augment is not None:
            use = np.ones(count) if self.speed_use is None else self.speed_use[segment]
            choice = self.augment.choose(draw.uniform[:, 1:], frames, use, self.sampler.window)
            frame = self.sampler.place(draw, frames_needed(choice.speed, self.sampler.window))
        at = self.rows.addresses(draw.step, shard)
        row = self.row[segment].astype(np.uint64)
        windows = np.zeros(count, _WINDOW)
        windows["rows"] = at.qpos[shard] + row * np.uint64(4 * self.rows.columns)
        windows["touches"] = at.contact[shard] + row * np.uint64(CONTACT_COLUMNS)
        windows["last"], windows["start"] = frames - 1, frame
        windows["mirrored"], windows["speed"], windows["yaw"] = choice.mirrored, choice.speed, choice.yaw
        return Placed(windows, choice, frame, at.held)

    def task(self, **addresses: int) -> Any:
        """What a launch makes, all frames of a window in one go."""
        task = cast(Any, Task)()
        task.length, task.history, task.fps = self.length, self.history, self.fps
        task.steps, task.frames_per_thread = SHOW | (RATE if addresses["velocity"] else 0), self.length
        for name, address in addresses.items():
            setattr(task, name, address)
        return task

    def _weave(self, windows: np.ndarray, out: dict[str, Any]) -> np.ndarray:
        valid = np.empty((len(windows), self.length), bool)
        # Velocities are differences of frames: there must be frames, wanted or not.
        qpos = np.empty((*valid.shape, self.rows.columns), np.float32) if out["qpos"] is None else out["qpos"]
        edges = np.empty((len(windows), 2, self.rows.columns), np.float32)
        addresses = {**out, "qpos": qpos, "edges": edges, "valid": valid}
        task = self.task(**{name: 0 if array is None else array.ctypes.data for name, array in addresses.items()})
        inputs = [window_array(windows.ctypes.data, len(windows)), task]
        wp.launch(build_weave(self.columns), dim=(len(windows), 1), inputs=inputs, device="cpu")
        return valid

    def _copy(self, windows: np.ndarray, out: dict[str, Any]) -> np.ndarray:
        if out["qpos"] is not None:
            copy_rows(windows, out["qpos"], self.history)
        if out["contact"] is not None:
            copy_rows(windows, out["contact"], self.history)
        if self.length == self.sampler.window:
            return np.ones((len(windows), self.length), bool)
        row = windows["start"][:, None] + np.arange(-self.history, self.length - self.history)
        return (row >= 0) & (row <= windows["last"][:, None])


def copy_rows(windows: np.ndarray, out: np.ndarray, history: int) -> None:
    """Fill `out` (B, L, columns), of `qpos` (float32) or `contact` (uint8), with rows as they are, from `history` before each
    window's start on."""
    row_bytes = out.shape[2] * out.itemsize
    of_contact = int(out.dtype == np.uint8)
    table = window_array(windows.ctypes.data, len(windows))
    inputs = [table, of_contact, row_bytes, out.shape[1], history, out.ctypes.data]
    wp.launch(copy, dim=len(windows), inputs=inputs, device="cpu")


_WINDOW = np.dtype(cast(Any, Window).numpy_dtype())


def _robot_of(corpus: Corpus) -> Robot:
    if corpus.about.get("robot", "g1") != "g1":
        raise MotionloomError(f"To mirror, name the robot: the corpus is of {corpus.about['robot']}.")
    from corpus.g1 import G1

    return G1
