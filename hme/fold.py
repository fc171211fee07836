"""What questions need of a catalog, folded into mapped numbers beside it: strings are what takes time at five million rows.

facts.arrow    a row per judged segment, in the order of the catalog
kept.arrow     a row per kept segment
clips.arrow    a row per clip, by its key

Each may be deleted: whoever asks next folds it again, as after a corpus has grown. `write=False` leaves the corpus as it is.
"""

from __future__ import annotations

import errno
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Int

from corpus.catalog import Corpus
from corpus.ledger import count_stages
from corpus.schema import QUALITY
from hme.folded import Folded, read_folded, write_folded
from hme.space import hme_folder

VERSION = "1"
"""Raised by hand whenever the same catalog would give other numbers or columns than before."""
BATCH = 1_000_000
"""Rows of one batch of a folded file."""
OWNERS = {"owner": pl.UInt16, "source": pl.String, "licence": pl.String}
OF_KEPT = ("start", "frames", "owner", "clip", "key", "recording")
DIGITS = 16
KEY = pl.col("clip").str.head(DIGITS).str.to_integer(base=16, dtype=pl.UInt64).alias("key")

Columns = dict[str, np.ndarray]
Made = tuple[Iterator[Columns], dict[str, str]]
"""Batches of columns, and what is to be said of them besides."""


def facts(corpus: Corpus, *, write: bool = True) -> Folded:
    """Of every judged segment: `kept`, `start`, `frames`, `owner` (number in `owners`), `clip` (its clip's row in the catalog), `key` (first 16
    digits of its clip's), `recording` (the same number, the same take), `over` (bit i: over limit i of `gate_limits`), and its measures."""
    return current(corpus, hme_folder(corpus) / "facts.arrow", VERSION, lambda: _facts(corpus), write=write)


def kept(corpus: Corpus, *, write: bool = True) -> Folded:
    """Of every kept segment: `row` (its place among the judged ones) and the columns `OF_KEPT`."""
    return current(
        corpus, hme_folder(corpus) / "kept.arrow", VERSION, lambda: _kept(facts(corpus, write=write)), write=write
    )


def clip_keys(corpus: Corpus, *, write: bool = True) -> Folded:
    """Of every different clip, by rising `key`: `owner` and `frames_kept`."""
    return current(corpus, hme_folder(corpus) / "clips.arrow", VERSION, lambda: _clip_keys(corpus), write=write)


def owners(facts: Folded) -> pl.DataFrame:
    """Whose clips there are: `owner` (row i is number i), `source`, `licence`, and the columns of `corpus.ledger.count_stages`."""
    table = pl.DataFrame(json.loads(facts.about["owners"]))
    return table.cast({name: OWNERS.get(name, pl.Int64) for name in table.columns})


def gate_limits(corpus: Corpus) -> dict[str, float]:
    """Measure and limit, in the order of the bits of `over`."""
    gate = corpus.recipe.get("gate", {})
    limits = {name.removesuffix("_limit"): float(limit) for name, limit in gate.items()}
    return {name: limit for name, limit in limits.items() if name in QUALITY}


def current(corpus: Corpus, path: Path, made_by: str, make: Callable[[], Made], *, write: bool) -> Folded:
    """The file as it is, or folded now where it does not tell of what the corpus holds.

    Where nothing shall be written beside the corpus, or may be, what is folded lasts as long as it is mapped.
    """
    about = {"shards": corpus.stamp.decode(), "made_by": made_by}
    if (found := read_folded(path, about)) is not None:
        return found
    if write:
        try:
            return _written(path, make(), about)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
    with tempfile.TemporaryDirectory(prefix="motionloom-fold-") as folder:
        return _written(Path(folder) / path.name, make(), about)


def _written(path: Path, made: Made, about: dict[str, str]) -> Folded:
    batches, more = made
    write_folded(path, batches, about | more)
    found = read_folded(path, about)
    assert found is not None, "what was written just now can be read"
    return found


def _facts(corpus: Corpus) -> Made:
    owner = _owners(corpus)
    clips = corpus.clips.with_row_index("number").join(_numbers(owner), on=["source", "licence"], how="left")
    take = pl.when(pl.col("recording") == "").then("clip").otherwise("recording")
    clips = clips.with_columns(recording=pl.struct("source", "subject", take).hash().rank("dense") - 1)
    # Of several rows with one key only that which made a motion has segments.
    made = clips.filter(pl.col("frames") > 0).select("clip", "number", "owner", "recording").collect()
    made = made.unique("clip", keep="first", maintain_order=True)
    rows = corpus.segments.select("clip").collect().join(made, on="clip", how="left", maintain_order="left")
    kinds = {"owner": np.uint16, "number": np.uint32, "recording": np.uint32}
    columns = {name: rows[name].to_numpy().astype(kind) for name, kind in kinds.items()}
    columns |= {"clip": columns.pop("number"), "key": rows.select(KEY)["key"].to_numpy()}
    return _judged(corpus, columns), {"owners": json.dumps(owner.to_dict(as_series=False))}


def _judged(corpus: Corpus, columns: Columns) -> Iterator[Columns]:
    """With what the catalog says of the segments themselves."""
    limits = gate_limits(corpus)
    for start, some in _batches(columns):
        rows = corpus.segments.slice(start, BATCH).select("start", "frames", "status", "reason", *QUALITY).collect()
        is_kept = (rows["status"] == "kept").to_numpy()
        # Frames are summed: 32 bits hold no more than two billion.
        own: Columns = {name: rows[name].to_numpy() for name in ("start", "frames")}
        own["kept"] = is_kept.astype(np.uint8)
        measures = {name: rows[name].fill_null(np.nan).to_numpy() for name in QUALITY}
        yield own | some | {"over": _over(rows, is_kept, limits)} | measures


def _over(rows: pl.DataFrame, is_kept: np.ndarray, limits: dict[str, float]) -> Int[np.ndarray, " N"]:
    """What was judged when the corpus was made counts: what was kept is over no limit, what was rejected over that of its reason."""
    over = np.zeros(len(rows), np.uint32)
    for bit, (name, limit) in enumerate(limits.items()):
        told = rows.select(((pl.col(name) > limit) | (pl.col("reason") == name)).fill_null(False)).to_series()
        over |= told.to_numpy() * np.uint32(1 << bit)
    return np.where(is_kept, np.uint32(0), over)


def _kept(judged: Folded) -> Made:
    rows = np.flatnonzero(judged.column("kept"))
    columns = {name: judged.column(name)[rows] for name in OF_KEPT}
    return (some for _, some in _batches({"row": rows.astype(np.uint32), **columns})), {}


def _clip_keys(corpus: Corpus) -> Made:
    clips = corpus.clips.select("clip", "frames", "frames_kept", "source", "licence")
    rows = clips.join(_numbers(_owners(corpus)), on=["source", "licence"], how="left")
    rows = rows.select(KEY, "owner", "frames", pl.col("frames_kept").fill_null(0)).collect()
    rows = rows.sort("key", "frames", descending=[False, True]).unique("key", keep="first", maintain_order=True)
    columns = {name: rows[name].to_numpy() for name in ("key", "owner", "frames_kept")}
    return (some for _, some in _batches(columns)), {}


def _owners(corpus: Corpus) -> pl.DataFrame:
    found = count_stages(corpus.clips, corpus.fps).sort("source", "licence").collect()
    return found.with_row_index("owner").cast({"owner": pl.UInt16})


def _numbers(owner: pl.DataFrame) -> pl.LazyFrame:
    return owner.lazy().select("owner", "source", "licence")


def _batches(columns: Columns) -> Iterator[tuple[int, Columns]]:
    """First row and rows of each, at least one."""
    count = len(next(iter(columns.values())))
    for start in range(0, max(count, 1), BATCH):
        yield start, {name: values[start : start + BATCH] for name, values in columns.items()}
