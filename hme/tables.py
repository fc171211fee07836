"""Tables with a row for every kept segment of a corpus, in its order: clusters, duplicates, splits, selections."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from corpus.catalog import Corpus
from corpus.durable import replace_file
from corpus.errors import MotionloomError

_SHARDS, _HME = b"motionloom.shards", b"motionloom.hme"


def write_segment_table(
    corpus: Corpus, path: Path, columns: pl.DataFrame, *, hme_id: str = "", about: Mapping[str, str] | None = None
) -> None:
    """Parquet with the names of the kept segments and, beside them, `columns`, a row each; `about` goes into its metadata."""
    names = corpus.kept["segment"]
    if len(columns) != len(names):
        raise ValueError(f"{len(columns)} rows for {len(names)} kept segments.")
    table = columns.insert_column(0, names).to_arrow() if "segment" not in columns.columns else columns.to_arrow()
    metadata = {_SHARDS: corpus.stamp, _HME: hme_id.encode()}
    metadata |= {f"motionloom.{name}".encode(): value.encode() for name, value in (about or {}).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, lambda temporary: pq.write_table(table.replace_schema_metadata(metadata), temporary))


def read_segment_table(
    corpus: Corpus, path: Path, *, command: str, complete: bool = True, hme_id: str | None = None
) -> pl.DataFrame:
    """The table with a row per kept segment of the corpus as it is now, in its order.

    Where the corpus has grown since, `complete` asks for an error that names the `command` to run again; otherwise new
    segments have nulls. Raises `MotionloomError` too where there is no table, or it is of another embedder than `hme_id`.
    """
    metadata = read_about(path, command=command)
    if hme_id is not None and metadata.get("hme", "") != hme_id:
        raise MotionloomError(
            f"{path} was made with the embedder {metadata.get('hme')}, not {hme_id}: run `{command}` again."
        )
    table = pl.read_parquet(path)
    if metadata.get("shards", "").encode() == corpus.stamp and len(table) == corpus.kept.height:
        return table
    names = corpus.kept.select("segment")
    newer = names.join(table, on="segment", how="anti").height
    if newer and complete:
        raise MotionloomError(
            f"{corpus.path} has {newer:,} kept segments that {path.name} does not know: run `{command}` again."
        )
    return names.join(table, on="segment", how="left", maintain_order="left")


def read_about(path: Path, *, command: str) -> dict[str, str]:
    """Its metadata: "shards", "hme" and what else was said when it was written."""
    try:
        schema = pq.read_schema(path)
    except FileNotFoundError:
        raise MotionloomError(f"There is no {path} yet: run `{command}` first.") from None
    except (OSError, pa.ArrowException) as error:
        raise MotionloomError(f"{path} is damaged ({error}): delete it and run `{command}` again.") from None
    metadata = schema.metadata or {}
    if _SHARDS not in metadata or "segment" not in schema.names:
        raise MotionloomError(f"{path} is no table about a corpus's segments: delete it and run `{command}` again.")
    prefix = b"motionloom."
    return {key[len(prefix) :].decode(): value.decode() for key, value in metadata.items() if key.startswith(prefix)}
