"""Parts of a corpus for training, validation and test, so that no motion of one is told by another.

What must stay together is a unit: all segments of one recording, and all that are copies of each other or share a part of their
motion. Units are dealt out so that every stratum (source and cluster) is divided by the same shares as far as units allow. What
was dealt out before stays where it is when a corpus grows; new segments follow the unit they join. Where they join two that lie
in different parts they are `withheld`, for they would tell each of the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int, UInt64
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from corpus.errors import MotionloomError

SPLITS = ("train", "validation", "test")
WITHHELD = "withheld"
WHOLE_WEIGHT = 8.0
"""How much more it counts that a part as a whole is as full as the others than that it is in a unit's strata. Strata too small for
all parts to have some of them would else leave the small parts short."""
MOST_FILL = 2.0
"""A unit counts as filling what a part is to hold of a stratum so many times over at most. Strata of one or two units, which cannot be
divided, would else all go to the largest part."""
LARGE = 0.02
"""Units with a larger share of the frames are dealt out first, the largest at the beginning."""


@dataclass(frozen=True)
class SplitOptions:
    shares: tuple[float, float, float] = (0.9, 0.05, 0.05)
    """Of the frames: for training, validation and test."""
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.shares) != 3 or min(self.shares) < 0 or abs(sum(self.shares) - 1) > 1e-6:
            raise MotionloomError(f"shares {self.shares}: should be three numbers of at least 0 that add up to 1.")


@dataclass(frozen=True)
class Dealt:
    """A row per segment."""

    split: Int[np.ndarray, " S"]
    """Place in `SPLITS`; −1 where withheld."""
    unit: Int[np.ndarray, " S"]
    leaks: Bool[np.ndarray, " S"]
    """Lies in a unit of which another segment lies in another part, as only growth can bring about."""


def deal(
    unit: Int[np.ndarray, " S"], stratum: Int[np.ndarray, " S"], frames: Int[np.ndarray, " S"], order: UInt64[np.ndarray, " S"],
    options: SplitOptions = SplitOptions(), before: Int[np.ndarray, " S"] | None = None,
) -> Dealt:  # fmt: skip
    """Units are numbered from 0. `order` is a random number for each segment, the same at any time; a unit's is its least one.
    `before` is what a segment was dealt to already, −1 for a new one."""
    before = np.full(len(unit), -1) if before is None else before
    count = int(unit.max(initial=-1)) + 1
    least, most = np.full(count, len(SPLITS)), np.full(count, -1)
    known = before >= 0
    np.minimum.at(least, unit[known], before[known])
    np.maximum.at(most, unit[known], before[known])
    torn = (most >= 0) & (least != most)
    home = np.where(torn, -1, most)
    rows = _units(unit, stratum, frames, count)
    fill = _Fill(rows, options.shares)
    for number in np.flatnonzero(home >= 0).tolist():
        fill.add(number, int(home[number]))
    fresh = np.flatnonzero((home < 0) & ~torn)
    for number in fresh[_queue(unit, frames, order, count)[fresh].argsort(kind="stable")].tolist():
        home[number] = part = fill.best(number)
        fill.add(number, part)
    return Dealt(np.where(known, before, home[unit]), unit, torn[unit])


class _Fill:
    """How full each part is, in each stratum and (last column) as a whole, as a share of what it is to hold."""

    def __init__(self, rows: tuple[np.ndarray, np.ndarray, np.ndarray], shares: Sequence[float]):
        self.starts, self.stratum, self.frames = rows
        self.parts = np.flatnonzero(np.asarray(shares) > 0)
        total = np.append(np.bincount(self.stratum, self.frames), self.frames.sum())
        self.per_frame = 1 / np.maximum(np.asarray(shares)[self.parts, None] * total, 1e-9)
        self.filled = np.zeros_like(self.per_frame)

    def best(self, unit: int) -> int:
        """The part that would be the least full with it: in its strata, and as a whole."""
        columns, frames = self._rows(unit)
        more = frames * self.per_frame[:, columns]
        more[:, :-1] = np.minimum(more[:, :-1], MOST_FILL)
        after = self.filled[:, columns] + more
        weight = frames / frames[-1]
        weight[-1] = WHOLE_WEIGHT
        return int(self.parts[(after @ weight).argmin()])

    def add(self, unit: int, part: int) -> None:
        columns, frames = self._rows(unit)
        place = np.flatnonzero(self.parts == part)
        self.filled[place[:, None], columns] += frames * self.per_frame[place[:, None], columns]

    def _rows(self, unit: int) -> tuple[Int[np.ndarray, " R"], Float[np.ndarray, " R"]]:
        """Columns that a unit has frames in, and how many; the last are all it has."""
        rows = slice(self.starts[unit], self.starts[unit + 1])
        frames = self.frames[rows]
        return np.append(self.stratum[rows], self.filled.shape[1] - 1), np.append(frames, frames.sum())


def _units(
    unit: Int[np.ndarray, " S"], stratum: Int[np.ndarray, " S"], frames: Int[np.ndarray, " S"], count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit i has rows `starts[i]` to `starts[i + 1]`: a stratum, and its frames there."""
    width = int(stratum.max(initial=-1)) + 1
    key, which = np.unique(unit.astype(np.int64) * width + stratum, return_inverse=True)
    starts = np.searchsorted(key, np.arange(count + 1) * width)
    return starts, key % max(width, 1), np.bincount(which, frames, len(key))


def _queue(
    unit: Int[np.ndarray, " S"], frames: Int[np.ndarray, " S"], order: UInt64[np.ndarray, " S"], count: int
) -> Float[np.ndarray, " U"]:
    """Small numbers come first: large units by size, then the others at random."""
    first = np.full(count, np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(first, unit, order)
    size = np.bincount(unit, frames, count) / max(frames.sum(), 1)
    return np.where(size > LARGE, -size, first / 2.0**64)


def units(recording: Int[np.ndarray, " S"], pairs: pl.DataFrame) -> Int[np.ndarray, " S"]:
    """Segments that share a recording, or are in a pair, directly or by others, numbered from 0."""
    count, ends = len(recording), int(recording.max(initial=-1)) + 1
    a, b = (pairs[name].to_numpy() for name in ("a", "b"))
    left = np.concatenate([np.arange(count), a])
    right = np.concatenate([count + recording, b])
    graph = coo_array((np.ones(len(left), np.int8), (left, right)), shape=(count + ends, count + ends))
    return np.unique(connected_components(graph, directed=False)[1][:count], return_inverse=True)[1]


def leakage(pairs: pl.DataFrame, split: Int[np.ndarray, " S"]) -> pl.DataFrame:
    """Those pairs whose motions lie in different parts, withheld ones aside, with the parts as `split_a` and `split_b`."""
    a, b = (split[pairs[name].to_numpy()] for name in ("a", "b"))
    return pairs.with_columns(split_a=pl.Series(a), split_b=pl.Series(b)).filter((a != b) & (a >= 0) & (b >= 0))
