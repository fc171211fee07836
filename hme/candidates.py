"""Which motions may be copies of which, told by their anchors' fingerprints alone.

Fingerprints lie in cells (inverted lists about k-means centres), so that each is compared with those of a few cells only; of an
anchor's neighbours within a radius the nearest are kept. Two motions are a candidate where enough of the anchors that they would
share agree on one tempo and shift. Memory: the fingerprints themselves, and a block of products at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int
from sklearn.cluster import MiniBatchKMeans
from threadpoolctl import threadpool_limits

from corpus.errors import MotionloomError
from hme.traces import TEMPI, Anchors

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


def build_index(anchors: Anchors, options: SearchOptions = SearchOptions(), *, seed: int = 0) -> Index:
    looks = anchors.prints[:, 0]
    centres = find_centres(looks, options, seed=seed)
    cell = nearest_cells(looks, centres, 1)[:, 0]
    order = np.argsort(cell, kind="stable")
    starts = np.searchsorted(cell[order], np.arange(len(centres) + 1))
    return Index(anchors.motion[order], anchors.time_s[order], looks[order], starts, centres)


def find_centres(looks: Float[np.ndarray, "A D"], options: SearchOptions, *, seed: int = 0) -> Float[np.ndarray, "K D"]:
    """So many that finding a fingerprint's cells costs about what looking through them does."""
    if len(looks) < options.cells_from:
        return np.zeros((1, looks.shape[1]), np.float32)
    count = int(np.sqrt(options.probes * len(looks)))
    sample = np.random.default_rng(seed).choice(len(looks), min(len(looks), count * SAMPLE_PER_CELL), replace=False)
    sample = np.asarray(looks[np.sort(sample)], np.float32)
    means = MiniBatchKMeans(count, n_init=1, random_state=seed, batch_size=8192, max_iter=3, init="random")
    with threadpool_limits(1):
        return means.fit(sample).cluster_centers_.astype(np.float32)


def nearest_cells(looks: Float[np.ndarray, "Q D"], centres: Float[np.ndarray, "K D"], count: int) -> Int[np.ndarray, "Q P"]:
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


def candidates(
    index: Index, asked: Anchors, odd: Bool[np.ndarray, " D"], length_s: Float[np.ndarray, " S"],
    options: SearchOptions = SearchOptions(),
) -> tuple[pl.DataFrame, int]:  # fmt: skip
    """For the motions of `asked` those of a higher number that may be copies: a row for each pair and mirror image, with a guess
    of where and at what tempo; and how many candidates were beyond `options.most`.

    `length_s` is of all motions, by number.
    """
    found = pl.concat([hits for hits in _hits(index, asked, odd, options)])
    pairs = _voted(found, asked, length_s, options)
    ranked = pairs.sort("votes", "apart", "b", "mirrored", descending=[True, False, False, False], maintain_order=True)
    chosen = ranked.filter(pl.int_range(pl.len()).over("a") < options.most).sort("a", "b", "mirrored")
    return chosen, len(ranked) - len(chosen)


def _hits(index: Index, asked: Anchors, odd: Bool[np.ndarray, " D"], options: SearchOptions) -> Iterator[pl.DataFrame]:
    """Neighbours of each anchor among motions of higher numbers, at every tempo, as it is and in the mirror."""
    for mirror in (False, True):
        looks = np.where(odd & mirror, -1, 1).astype(np.float32) * asked.prints
        query, variant, row, apart = neighbours(index, looks, asked.motion, options)
        yield pl.DataFrame({
            "a": asked.motion[query].astype(np.int64), "b": index.motion[row].astype(np.int64),
            "mirrored": np.full(len(row), mirror), "tempo": 1 / np.array(TEMPI)[variant],
            "time_s": asked.time_s[query].astype(float), "other_s": index.time_s[row].astype(float),
            "apart": apart.astype(float),
        })  # fmt: skip


Hits = tuple[Int[np.ndarray, " H"], Int[np.ndarray, " H"], Int[np.ndarray, " H"], Float[np.ndarray, " H"]]
"""Which query, its tempo's place in `TEMPI`, which row of the index, how far apart."""


def neighbours(index: Index, looks: Float[np.ndarray, "Q V D"], motion: Int[np.ndarray, " Q"], options: SearchOptions) -> Hits:
    """Rows of the index within the radius of these fingerprints, of motions of higher numbers only."""
    # At another tempo an anchor looks nearly the same, so one choice of cells serves.
    cells = nearest_cells(looks[:, 0], index.centres, options.probes)
    order = np.argsort(cells.ravel(), kind="stable")
    first = np.searchsorted(cells.ravel()[order], np.arange(len(index.centres) + 1))
    parts: list[Hits] = []
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


def _voted(hits: pl.DataFrame, asked: Anchors, length_s: Float[np.ndarray, " S"], options: SearchOptions) -> pl.DataFrame:
    """Pairs of which enough anchors agree, each by the hit that the most agree with."""
    hits = hits.sort("a", "b", "mirrored", "apart", "time_s", "other_s", "tempo").with_row_index("hit")
    pair = ["a", "b", "mirrored"]
    best = hits.filter(pl.int_range(pl.len()).over(pair) < 6)
    both = best.join(hits.select(*pair, "time_s", "other_s"), on=pair, suffix="_too")
    away = pl.col("time_s_too") - pl.col("time_s")
    off = (pl.col("other_s_too") - pl.col("other_s") - pl.col("tempo") * away).abs()
    # The tempo of a guess may be off by 6 %.
    votes = both.filter(off <= 0.1 + 0.06 * away.abs()).group_by("hit").agg(votes=pl.col("time_s_too").n_unique())
    voted = best.join(votes, on="hit")
    shared = _shared_anchors(voted, asked, length_s)
    voted = voted.with_columns(shared=shared).filter(pl.col("votes") >= (options.agreeing * pl.col("shared")).clip(1))
    voted = voted.sort(*pair, "votes", "apart", "hit", descending=[False, False, False, True, False, False])
    return voted.unique(pair, keep="first", maintain_order=True).drop("hit")


def _shared_anchors(hits: pl.DataFrame, asked: Anchors, length_s: Float[np.ndarray, " S"]) -> Int[np.ndarray, " H"]:
    """How many of the first motion's anchors the other would have too."""
    a, b, tempo = (hits[name].to_numpy() for name in ("a", "b", "tempo"))
    shift = hits["other_s"].to_numpy() - tempo * hits["time_s"].to_numpy()
    # Motions one after another on one axis of time, so that one search answers for all.
    day = 1e5
    axis = asked.motion * day + asked.time_s
    bounds = [a * day + np.clip(time, -1, day / 2) for time in (-shift / tempo, (length_s[b] - shift) / tempo)]
    first, last = (np.searchsorted(axis, bound) for bound in bounds)
    return last - first
