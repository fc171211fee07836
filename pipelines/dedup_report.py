"""What `loom dedup` tells of the duplicates it found: by kind, by sources, and the pairs that are the least alike."""

from __future__ import annotations

import polars as pl

from corpus.catalog import Corpus
from hme.duplicates.find import KINDS
from hme.duplicates.tables import read_duplicates, read_pairs

ORDER = ("kept", *KINDS)


def by_kind(corpus: Corpus) -> pl.DataFrame:
    """`kind` ("kept", or why left out), `segments`, `frames`, `share` of the frames."""
    told = (
        read_duplicates(corpus)
        .select(kind=pl.col("kind").fill_null("kept"))
        .with_columns(frames=pl.Series(corpus.frames))
    )
    found = told.group_by("kind").agg(segments=pl.len(), frames=pl.col("frames").sum())
    return _in_order(found.with_columns(share=pl.col("frames") / pl.col("frames").sum()), "kind")


def by_sources(corpus: Corpus) -> pl.DataFrame:
    """Pairs within a source and across two: `source`, `other`, `kind`, `pairs`, `hours` that they share."""
    source = corpus.of_clips("source")
    pairs = read_pairs(corpus)
    two = pl.DataFrame({"x": source.gather(pairs["a"]), "y": source.gather(pairs["b"]), "kind": pairs["kind"],
                        "shared": pairs["stop_a"] - pairs["start_a"]})  # fmt: skip
    grouped = two.group_by(source=pl.min_horizontal("x", "y"), other=pl.max_horizontal("x", "y"), kind=pl.col("kind"))
    return _in_order(grouped.agg(pairs=pl.len(), hours=pl.col("shared").sum() / 3600), "source", "other", "kind")


def farthest(corpus: Corpus, count: int) -> pl.DataFrame:
    """Verified pairs that are the furthest apart, with the segments' names: those to look at."""
    names, pairs = corpus.kept["segment"], read_pairs(corpus).sort("distance", descending=True).head(count)
    return pairs.with_columns(segment_a=names.gather(pairs["a"]), segment_b=names.gather(pairs["b"]))


def _in_order(frame: pl.DataFrame, *columns: str) -> pl.DataFrame:
    return (
        frame.with_columns(pl.col("kind").cast(pl.Enum(ORDER)))
        .sort(*columns)
        .with_columns(pl.col("kind").cast(pl.String))
    )
