"""What is known of a corpus's duplicates, as it lies beside it; of no embedder, since motion itself is compared.

hme/duplicates.parquet          a row per kept segment: what it is a copy of, where it is one
hme/duplicate_pairs.parquet     a row per verified pair, by the segments' names
hme/duplicates/                 anchors and unfinished work of `loom dedup`
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Bool

from corpus.catalog import Corpus
from corpus.durable import replace_file
from corpus.errors import MotionloomError
from hme.space import hme_folder
from hme.tables import read_about, read_segment_table, write_segment_table

COMMAND = "loom dedup"


def table_path(corpus: Corpus) -> Path:
    return hme_folder(corpus) / "duplicates.parquet"


def pairs_path(corpus: Corpus) -> Path:
    return hme_folder(corpus) / "duplicate_pairs.parquet"


def work_folder(corpus: Corpus) -> Path:
    return hme_folder(corpus) / "duplicates"


def write_duplicates(corpus: Corpus, pairs: pl.DataFrame, verdict: pl.DataFrame, made_by: str) -> None:
    """Both tables, pairs first; `made_by` is a hash of all that decided."""
    names = corpus.kept["segment"]
    named = pairs.with_columns(a=names.gather(pairs["a"]), b=names.gather(pairs["b"]))
    replace_file(pairs_path(corpus), named.write_parquet)
    of = names.gather(verdict["of"])
    columns = verdict.with_columns(
        of=of, distance=pl.col("distance").cast(pl.Float32), covered=pl.col("covered").cast(pl.Float32)
    )
    write_segment_table(corpus, table_path(corpus), columns, about={"made_by": made_by})


def read_duplicates(corpus: Corpus, *, complete: bool = True) -> pl.DataFrame:
    """Row i is segment number i: `segment`; `group`, the same for all that hang together, null for one that is alone; `keeper`;
    and where it is none `of` (name of the kept segment that shares most), `kind`, `distance` [rad], `covered` (share of it)."""
    return read_segment_table(corpus, table_path(corpus), command=COMMAND, complete=complete)


def read_pairs(corpus: Corpus) -> pl.DataFrame:
    """Columns of `hme.duplicates.find.PAIRS`, `a` and `b` as numbers of the corpus as it is now."""
    path = pairs_path(corpus)
    if not path.exists():
        raise MotionloomError(f"There is no {path} yet: run `{COMMAND}` first.")
    numbers = corpus.kept.select("segment").with_row_index("number")
    pairs = pl.read_parquet(path)
    for side in ("a", "b"):
        found = pairs.select(segment=side).join(numbers, on="segment", how="left", maintain_order="left")["number"]
        pairs = pairs.with_columns(found.cast(pl.Int64).alias(side))
    return pairs.drop_nulls(["a", "b"])


def unique_segments(corpus: Corpus) -> Bool[np.ndarray, " S"]:
    """Which kept segments are no copies of others. Raises `MotionloomError` where nobody has looked at all of them."""
    return read_duplicates(corpus)["keeper"].to_numpy().astype(bool)


def made_by(corpus: Corpus) -> str:
    """Hash of what decided; empty where there is no table."""
    path = table_path(corpus)
    return read_about(path, command=COMMAND).get("made_by", "") if path.exists() else ""
