"""SQL over a corpus's tables by DuckDB: it reads them and nothing else."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from corpus.catalog import Corpus
from corpus.errors import MotionloomError
from hme.fold_shards import folded_traits
from hme.space import default_id, hme_folder, ids
from hme.tables import read_about

log = logging.getLogger(__name__)

COMMANDS = {"clusters": "cluster", "duplicates": "dedup", "split": "split"}
"""Parquet files beside a corpus that become views where they exist, and who makes them."""
TABLES = tuple(COMMANDS)
VIEWS = ("clips", "segments", "kept", "traits", *TABLES)
LOCKS = (
    "temp_directory=''",
    "python_enable_replacements=false",
    "enable_external_access=false",
    "lock_configuration=true",
)
"""No files or addresses but those allowed before, no variables of this process, no way back."""


def query(corpus: Corpus, text: str, *, hme: str | None = None) -> pl.DataFrame:
    """The rows of one SELECT over `VIEWS`, those that exist: `clips` and `segments` as in the catalog; `kept`, its kept segments with their clips' source,
    licence and label; `traits`, `clusters`, `duplicates` and `split`, which join by `segment`.

    Raises `MotionloomError` where the text is something else than one SELECT, or is wrong.
    """
    duckdb = _duckdb()
    with duckdb.connect(":memory:") as base:
        try:
            _open(base, corpus, hme)
            statements = duckdb.extract_statements(text)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise MotionloomError("Expected one SELECT: this reads a corpus's tables and does nothing else.")
            return _frame(base.sql(statements[0].query).to_arrow_table())
        except RuntimeError as error:  # DuckDB's word for ctrl-C; its errors are others
            if isinstance(error, duckdb.Error) or "interrupted" not in str(error).lower():
                raise
            raise KeyboardInterrupt from None
        except duckdb.Error as error:
            known = base.execute("select view_name from duckdb_views() where not internal order by 1").fetchall()
            names = ", ".join(name for (name,) in known)
            raise MotionloomError(f"{error} Tables: {names}.") from None


def _frame(table: pa.Table) -> pl.DataFrame:
    """Names that come twice, as of `select *` from a join, get a number."""
    names: list[str] = []
    for name in table.column_names:
        taken = {*names, *table.column_names}
        free = (f"{name}_{number}" for number in range(1, len(taken) + 2))
        names.append(next(one for one in free if one not in taken) if name in names else name)
    try:
        return pl.DataFrame(table.rename_columns(names))
    except pl.exceptions.PolarsError as error:
        raise MotionloomError(
            f"The answer has a column that cannot be shown: {error} Cast it to text or number."
        ) from None


def _duckdb() -> Any:
    try:
        import duckdb
    except ImportError:
        raise MotionloomError("SQL needs DuckDB: pip install 'motionloom[sql]'.") from None
    return duckdb


def _open(base: Any, corpus: Corpus, hme: str | None) -> None:
    """Make the views, then lock the doors. The files that are allowed could be written too, but not by a SELECT."""
    files = _files(corpus, hme)
    for name, path in files.items():
        base.execute(f"create view {name} as select * from read_parquet({_quoted(path)})")
    base.execute(
        "create view kept as select segments.*, source, licence, label, path, subject, recording from segments "
        "left join clips on segments.clip = clips.clip and clips.frames > 0 where segments.status = 'kept'"
    )
    if (traits := _traits(corpus)) is not None:
        base.register("traits", traits)
    base.execute(f"set allowed_paths=[{', '.join(map(_quoted, files.values()))}]")
    for lock in LOCKS:
        base.execute(f"set {lock}")


def _files(corpus: Corpus, hme: str | None) -> dict[str, Path]:
    files = {name: corpus.path / "catalog" / f"{name}-00000.parquet" for name in ("clips", "segments")}
    folder = hme_folder(corpus)
    if hme and hme not in ids(corpus):
        raise MotionloomError(f"{corpus.path} has no embedder {hme}. Known: {', '.join(ids(corpus))}.")
    own = [folder / (hme or default_id(corpus))] if hme or (folder / "default.json").exists() else []
    for name in TABLES:
        there = [place / f"{name}.parquet" for place in (folder, *own) if (place / f"{name}.parquet").exists()]
        files |= {name: there[0]} if there else {}
        if there and read_about(there[0], command=f"loom {COMMANDS[name]}").get("shards", "").encode() != corpus.stamp:
            log.warning("%s is of the corpus as it was: run `loom %s` again", there[0], COMMANDS[name])
    return files


def _traits(corpus: Corpus) -> pa.Table | None:
    """With the names of the segments; None where there are none."""
    try:
        folded = folded_traits(corpus)
    except MotionloomError:
        return None
    names = corpus.segments.filter(pl.col("status") == "kept").select("segment").collect()["segment"]
    return folded.table.replace_schema_metadata().add_column(
        0, "segment", pa.chunked_array([names.to_arrow()]).cast(pa.large_string())
    )


def _quoted(path: Path) -> str:
    return "'" + str(path.absolute()).replace("'", "''") + "'"
