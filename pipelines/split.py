"""Divide a corpus into parts for training, validation and test, beside it; again after it has grown, without moving what is dealt out."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Int, UInt64

from corpus.catalog import Corpus
from corpus.errors import MotionloomError
from hme.cluster import read_clusters
from hme.duplicates.tables import read_duplicates, read_pairs
from hme.space import Space, hme_folder
from hme.split import SPLITS, WITHHELD, Dealt, SplitOptions, deal, leakage, units
from hme.tables import read_about, read_segment_table, write_segment_table
from pipelines.place import locked

log = logging.getLogger(__name__)

COMMAND = "loom split"


@dataclass(frozen=True)
class Divided:
    """What a run found and wrote."""

    table: pl.DataFrame
    """Row i is segment number i: `segment`; `split`, one of `SPLITS` or "withheld"; `unit`; `leaks`; `source`, `frames`."""
    leaks: pl.DataFrame
    """Pairs of motions that are copies or share a part, of which one part of the corpus tells another."""
    kept_count: int
    """Segments that were dealt out before and stay where they were."""
    by_cluster: bool
    """Were clusters known, to be divided evenly too?"""


def split(
    corpus: Corpus, options: SplitOptions = SplitOptions(), *, hme_id: str | None = None, anew: bool = False
) -> Divided:
    """Deal out what is not dealt out yet; with `anew`, everything. Needs `loom dedup` to have looked at all segments."""
    read_duplicates(corpus)  # raises where some are not known
    pairs, owners = read_pairs(corpus), recordings(corpus)
    about = {"shares": json.dumps(options.shares), "seed": str(options.seed)}
    with locked(hme_folder(corpus)):
        before = None if anew or not table_path(corpus).exists() else _before(corpus, about)
        stratum, by_cluster = _strata(corpus, owners, hme_id)
        frames = corpus.frames
        order = random_order(owners["recording"], options.seed)
        unit = units(owners["recording"].rank("dense").to_numpy().astype(np.int64) - 1, pairs)
        dealt = deal(unit, stratum, frames, order, options, before)
        columns = pl.DataFrame({"split": _named(dealt), "unit": unit, "leaks": dealt.leaks})
        write_segment_table(corpus, table_path(corpus), columns, about=about)
    table = columns.with_columns(owners["source"], frames=pl.Series(frames))
    kept_count = 0 if before is None else int((before >= 0).sum())
    return Divided(table, leakage(pairs, dealt.split), kept_count, by_cluster)


def table_path(corpus: Corpus) -> Path:
    """Of no embedder: a split outlives those."""
    return hme_folder(corpus) / "split.parquet"


def read_split(corpus: Corpus, *, complete: bool = True) -> pl.DataFrame:
    """Row i is segment number i: `segment`, `split`, `unit`, `leaks`."""
    return read_segment_table(corpus, table_path(corpus), command=COMMAND, complete=complete)


def recordings(corpus: Corpus) -> pl.DataFrame:
    """For each kept segment its `source` and its original take, `recording`, a text that no other take has."""
    clips = corpus.clips.filter(pl.col("frames") > 0).select("clip", "source", "subject", "recording").collect()
    take = pl.when(pl.col("recording").fill_null("") == "").then("clip").otherwise("recording")
    named = pl.concat_str([pl.col("source"), pl.col("subject").fill_null(""), take], separator="\0")
    told = clips.select("clip", "source", recording=named)
    return corpus.kept.select("clip").join(told, on="clip", how="left", maintain_order="left")


def random_order(names: pl.Series, seed: int) -> UInt64[np.ndarray, " S"]:
    """A random number for each name, the same on every machine and at any time."""
    unique = names.unique()
    digests = [hashlib.blake2b(f"{seed}\0{name}".encode(), digest_size=8).digest() for name in unique]
    numbers = pl.DataFrame({"name": unique, "number": np.frombuffer(b"".join(digests), "<u8")})
    found = pl.DataFrame({"name": names}).join(numbers, on="name", how="left", maintain_order="left")
    return found["number"].to_numpy()


def _before(corpus: Corpus, about: dict[str, str]) -> Int[np.ndarray, " S"]:
    """Where segments lie already, as places in `SPLITS`; −1 for new ones, and for those that were withheld."""
    had = read_about(table_path(corpus), command=COMMAND)
    if any(had.get(name) != value for name, value in about.items()):
        raise MotionloomError(
            f"{corpus.path} is split already, by shares {had.get('shares')} and seed {had.get('seed')}: use the same, or `--anew` "
            "to deal everything out again, after which no old test result compares."
        )
    split = read_split(corpus, complete=False)["split"]
    return split.replace_strict(list(SPLITS), list(range(len(SPLITS))), default=-1, return_dtype=pl.Int64).to_numpy()


def _strata(corpus: Corpus, owners: pl.DataFrame, hme_id: str | None) -> tuple[Int[np.ndarray, " S"], bool]:
    """A number for each segment's source and cluster, and whether there are clusters."""
    try:
        cluster, known = read_clusters(Space.open(corpus, hme_id)), True
    except MotionloomError as error:
        if hme_id is not None:
            raise
        log.warning("divided by source alone: %s", error)
        cluster, known = np.zeros(len(corpus.frames), np.int64), False
    strata = pl.DataFrame({"source": owners["source"], "cluster": cluster})
    return strata.select(pl.struct("source", "cluster").rank("dense")).to_series().to_numpy().astype(
        np.int64
    ) - 1, known


def _named(dealt: Dealt) -> np.ndarray:
    return np.array([*SPLITS, WITHHELD])[dealt.split]
