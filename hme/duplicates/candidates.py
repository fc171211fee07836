"""Which motions may be copies of which, told by their anchors' fingerprints alone: votes for one tempo and shift."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int

from hme.duplicates.anchor_index import Index, SearchOptions, neighbours
from hme.duplicates.traces import TEMPI, Anchors

TRIED = 6
"""Of a pair's hits so many of the nearest are asked how many others agree."""
SLACK_S, SLACK = 0.1, 0.06
"""Hits agree where they are off by no more than this [s], and this share of the time between them, for a tempo is guessed."""


def candidates(
    index: Index, asked: Anchors, odd: Bool[np.ndarray, " D"], length_s: Float[np.ndarray, " S"],
    options: SearchOptions = SearchOptions(),
) -> tuple[pl.DataFrame, int]:  # fmt: skip
    """For the motions of `asked` those of a higher number that may be copies: a row for each pair and mirror image, with a guess
    of where and at what tempo; and how many candidates were beyond `options.most`.

    `length_s` is of all motions, by number.
    """
    found = pl.concat(list(_hits(index, asked, odd, options)))
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


def _voted(
    hits: pl.DataFrame, asked: Anchors, length_s: Float[np.ndarray, " S"], options: SearchOptions
) -> pl.DataFrame:
    """Pairs of which enough anchors agree, each by the hit that the most agree with."""
    hits = hits.sort("a", "b", "mirrored", "apart", "time_s", "other_s", "tempo").with_row_index("hit")
    pair = ["a", "b", "mirrored"]
    best = hits.filter(pl.int_range(pl.len()).over(pair) < TRIED)
    both = best.join(hits.select(*pair, "time_s", "other_s"), on=pair, suffix="_too")
    away = pl.col("time_s_too") - pl.col("time_s")
    off = (pl.col("other_s_too") - pl.col("other_s") - pl.col("tempo") * away).abs()
    votes = both.filter(off <= SLACK_S + SLACK * away.abs()).group_by("hit").agg(votes=pl.col("time_s_too").n_unique())
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
