"""Fingerprints of all anchors of a corpus, laid out so that near ones are found without looking at all.

They lie in cells about k-means centres, as inverted lists do; a fingerprint is compared with those of the few cells nearest to it.
There are so many cells that choosing them costs what looking through them does, so a query costs the square root of all anchors.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from sklearn.cluster import MiniBatchKMeans
from threadpoolctl import threadpool_limits

from corpus.errors import MotionloomError
from hme.duplicates.traces import Anchors

SAMPLE_PER_CELL = 64
"""Fingerprints per cell by which the cells' centres are found."""
BLOCK = 1 << 22
"""Distances reckoned at once."""


@dataclass(frozen=True)
class SearchOptions:
    radius: float = 0.25
    """Fingerprints further apart than this are not looked at: a pose, three times, in radians."""
    neighbours: int = 12
    """So many of an anchor's nearest are kept from each cell, as it is and mirrored and at each tempo. More find copies among more
    motions that are nearly the same."""
    cells_from: int = 4000
    """Fewer anchors than this are compared with each other, without cells."""
    probes: int = 4
    """Cells looked into, the nearest ones."""
    agreeing: float = 0.34
    """Share of the anchors that two motions would share which must agree on tempo and shift."""
    most: int = 32
    """Candidates per motion that are aligned, those with the most anchors agreeing; others are lost, and counted."""

    def __post_init__(self) -> None:
        if self.radius <= 0 or min(self.neighbours, self.probes, self.most) < 1 or not 0 < self.agreeing <= 1:
            raise MotionloomError(f"{self}: radius, neighbours, probes, most should be positive, agreeing in (0, 1].")


@dataclass(frozen=True)
class Index:
    """Anchors of all motions, by cells."""

    motion: Int[np.ndarray, " A"]
    time_s: Float[np.ndarray, " A"]
    looks: Float[np.ndarray, "A D"]
    """Fingerprints, cell by cell and in a cell by motion; may be of half precision, and mapped."""
    starts: Int[np.ndarray, " K+1"]
    centres: Float[np.ndarray, "K D"]

    @property
    def shape(self) -> tuple[int, int]:
        """How many anchors, in how many cells."""
        return len(self.motion), len(self.centres)

    def save(self, folder: Path) -> None:
        """A file per array, so that many processes map the same memory; the folder appears whole."""
        temporary = folder.with_name(f".tmp-{folder.name}")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        for field in fields(self):
            np.save(temporary / f"{field.name}.npy", getattr(self, field.name), allow_pickle=False)
        temporary.rename(folder)

    @classmethod
    def load(cls, folder: Path) -> Index:
        paths = (folder / f"{field.name}.npy" for field in fields(cls))
        return cls(*(np.asarray(np.load(path, mmap_mode="r", allow_pickle=False)) for path in paths))


def build_index(anchors: Anchors, options: SearchOptions = SearchOptions(), *, seed: int = 0) -> Index:
    """Of anchors in the order of their motions."""
    looks = anchors.prints[:, 0]
    centres = find_centres(looks, options, seed=seed)
    return lay_out(anchors.motion, anchors.time_s, looks, nearest_cells(looks, centres, 1)[:, 0], centres)


def lay_out(
    motion: Int[np.ndarray, " A"], time_s: Float[np.ndarray, " A"], looks: Float[np.ndarray, "A D"],
    cell: Int[np.ndarray, " A"], centres: Float[np.ndarray, "K D"],
) -> Index:  # fmt: skip
    order = np.argsort(cell, kind="stable")
    starts = np.searchsorted(cell[order], np.arange(len(centres) + 1))
    return Index(motion[order], time_s[order], looks[order], starts, centres)


def find_centres(looks: Float[np.ndarray, "A D"], options: SearchOptions, *, seed: int = 0) -> Float[np.ndarray, "K D"]:
    """So many that finding a fingerprint's cells costs about what looking through them does."""
    if len(looks) < options.cells_from:
        return np.zeros((1, looks.shape[1]), np.float32)
    count = int(np.sqrt(options.probes * len(looks)))
    sample = np.random.default_rng(seed).choice(len(looks), min(len(looks), count * SAMPLE_PER_CELL), replace=False)
    sample = np.asarray(looks[np.sort(sample)], np.float32)
    how: dict[str, Any] = {"init": "random", "n_init": 1, "max_iter": 3, "batch_size": 8192, "random_state": seed}
    with threadpool_limits(1):
        return np.asarray(MiniBatchKMeans(count, **how).fit(sample).cluster_centers_, np.float32)


def nearest_cells(
    looks: Float[np.ndarray, "Q D"], centres: Float[np.ndarray, "K D"], count: int
) -> Int[np.ndarray, "Q P"]:
    """The nearest first."""
    count = min(count, len(centres))
    cells, height = np.zeros((len(looks), count), np.int64), max(1, BLOCK // len(centres))
    across = _right(centres)
    for first in range(0, len(looks) if len(centres) > 1 else 0, height):
        apart = _left(looks[first : first + height]) @ across
        rows = np.arange(len(apart))
        for place in range(count):  # several times faster than a partial sort
            nearest = apart.argmin(1)
            cells[first : first + height, place] = nearest
            apart[rows, nearest] = np.inf
    return cells


Hits = tuple[Int[np.ndarray, " H"], Int[np.ndarray, " H"], Int[np.ndarray, " H"], Float[np.ndarray, " H"]]
"""Which query, its tempo's place in `TEMPI`, which row of the index, how far apart."""


def neighbours(
    index: Index, looks: Float[np.ndarray, "Q V D"], motion: Int[np.ndarray, " Q"], options: SearchOptions
) -> Hits:
    """Rows of the index within the radius of these fingerprints, of motions of higher numbers only."""
    # At another tempo an anchor looks nearly the same, so one choice of cells serves.
    cells = nearest_cells(looks[:, 0], index.centres, options.probes)
    order = np.argsort(cells.ravel(), kind="stable")
    first = np.searchsorted(cells.ravel()[order], np.arange(len(index.centres) + 1))
    nothing = np.zeros(0, np.int64)
    parts: list[Hits] = [(nothing, nothing, nothing, np.zeros(0, np.float32))]
    for cell in np.flatnonzero(np.diff(first)):
        mine = order[first[cell] : first[cell + 1]] // cells.shape[1]
        numbers = index.motion[index.starts[cell] : index.starts[cell + 1]]
        start = int(index.starts[cell] + np.searchsorted(numbers, motion[mine].min(), side="right"))
        rows = slice(start, int(index.starts[cell + 1]))
        across, height = _right(np.asarray(index.looks[rows], np.float32)), max(1, BLOCK // max(rows.stop - start, 1))
        for low in range(0, len(mine), height):
            some = mine[low : low + height]
            for variant in range(looks.shape[1]):
                query, row, apart = _near(looks[some, variant], motion[some], across, index.motion[rows], options)
                parts.append((some[query], np.full(len(query), variant), start + row, apart))
    query, variant, row, apart = (np.concatenate(part) for part in zip(*parts, strict=True))
    return query, variant, row, apart


def _near(
    looks: Float[np.ndarray, "Q D"], motion: Int[np.ndarray, " Q"],
    across: Float[np.ndarray, "D+2 R"], numbers: Int[np.ndarray, " R"], options: SearchOptions,
) -> tuple[Int[np.ndarray, " H"], Int[np.ndarray, " H"], Float[np.ndarray, " H"]]:  # fmt: skip
    """Within one block of products."""
    square = _left(looks) @ across
    query, row = np.nonzero(square <= options.radius**2)
    later = numbers[row] > motion[query]
    query, row = query[later], row[later]
    apart = np.sqrt(np.maximum(square[query, row], 0))
    order = np.lexsort((row, apart, query))
    query, row, apart = query[order], row[order], apart[order]
    kept = np.arange(len(query)) - np.searchsorted(query, query) < options.neighbours
    return query[kept], row[kept], apart[kept]


def _left(looks: Float[np.ndarray, "Q D"]) -> Float[np.ndarray, "Q D+2"]:
    """With `_right`, a product of matrices gives squared distances and nothing is left to add."""
    looks = np.asarray(looks, np.float32)
    return np.concatenate([-2 * looks, (looks * looks).sum(1)[:, None], np.ones((len(looks), 1), np.float32)], 1)


def _right(looks: Float[np.ndarray, "R D"]) -> Float[np.ndarray, "D+2 R"]:
    return np.concatenate([looks, np.ones((len(looks), 1), np.float32), (looks * looks).sum(1)[:, None]], 1).T
