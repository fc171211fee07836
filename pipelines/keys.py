"""Know each clip by its content: the hash of its file, remembered by path, size and time of change."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import polars as pl
from jaxtyping import Int

from corpus.durable import replace_file
from corpus.errors import Rejected
from corpus.motion import Clip
from corpus.sources.files import open_path
from pipelines.matching import pairs
from pipelines.plan import UNREADABLE

T = TypeVar("T")

CACHE_COLUMNS: dict[str, type[pl.DataType]] = {
    "path": pl.String,
    "size": pl.Int64,
    "mtime_ns": pl.Int64,
    "digest": pl.String,
}
"""What is remembered of a file; `path` is absolute."""

FILE = ["source", "path"]
"""What makes a file of the sources."""

STAMP = ["path", "size", "mtime_ns"]
"""What tells that a file is still the one whose hash is remembered."""

HANDFUL = 64
"""Files that a thread looks at in one go: each is done in less time than it takes to hand it over."""
HANDFULS = 64
"""… and so many of these are in hand at once."""

Look = Callable[[Path, str, str], tuple[str, int, int] | None]
"""Root, source and path of a file to its `STAMP`; None where it cannot be read."""


def look_at_file(root: Path, source: str, path: str) -> tuple[str, int, int] | None:
    try:
        place = open_path(root, Clip(source, path, licence=""))
        stat = place.stat()
    except (Rejected, OSError):
        return None
    return os.fsencode(place).decode("utf-8", "backslashreplace"), stat.st_size, stat.st_mtime_ns


def add_keys(
    clips: pl.DataFrame, roots: dict[str, Path], cache: Path, *, threads: int = 4, look: Look = look_at_file
) -> pl.DataFrame:
    """The clips with a column `clip`: the hash of each file's content.

    Hashes are remembered in the file `cache`, so that only new files are read.
    """
    # Motions of one file follow each other; a file that came twice would only be looked at twice.
    another = pl.any_horizontal(pl.col(name).ne_missing(pl.col(name).shift()) for name in FILE)
    files = clips.select(FILE).filter(another)
    known = _read_cache(cache)
    with ThreadPoolExecutor(threads) as pool:
        stamps = _stamps(files, roots, pool, look)
        digests = _taken(known["digest"], pairs(stamps, known, STAMP), len(files))
        unknown = digests.is_null().arg_true()
        fresh: list[pl.DataFrame] = []
        try:
            fresh += _hashed(files[unknown], stamps[unknown], roots, pool)
        finally:
            _write_cache(cache, known, fresh)
    del known, stamps
    if fresh:
        digests.scatter(unknown, pl.concat(fresh)["digest"])
    keys = _taken(digests, pairs(clips, files, FILE), len(clips))
    return _with_keys_of_parts(clips.with_columns(clip=keys))


def _stamps(files: pl.DataFrame, roots: dict[str, Path], pool: ThreadPoolExecutor, look: Look) -> pl.DataFrame:
    """`STAMP` of each file, nulls where it cannot be read."""
    schema = {name: CACHE_COLUMNS[name] for name in STAMP}
    nothing = (None, None, None)
    found = _each(pool, lambda source, path: look(roots[source], source, path) or nothing, files)
    return pl.concat([pl.DataFrame(schema=schema), *(pl.DataFrame(some, schema, orient="row") for some in found)])


def _taken(texts: pl.Series, matches: tuple[Int[np.ndarray, " P"], Int[np.ndarray, " P"]], count: int) -> pl.Series:
    """`count` texts: those at the second of the matching numbers where the first say, the others null."""
    row, place = matches
    return pl.Series([None], dtype=pl.String).new_from_index(0, count).scatter(row, texts.gather(place))


def _hashed(
    files: pl.DataFrame, stamps: pl.DataFrame, roots: dict[str, Path], pool: ThreadPoolExecutor
) -> Iterator[pl.DataFrame]:
    """`CACHE_COLUMNS` of these files, some thousand at a time; without a path where it could not be read after all."""

    def digest(source: str, path: str, *stamp) -> tuple:
        if stamp[0] is not None:
            try:
                return *stamp, _file_digest(open_path(roots[source], Clip(source, path, licence="")))
            except (Rejected, OSError):
                pass
        # Nobody can read it, so its name has to do; loading it says why.
        return None, None, None, text_digest(f"unreadable\0{source}\0{path}")

    rows = pl.DataFrame([*files, *(stamps[name].alias(f"stamped {name}") for name in STAMP)])
    for some in _each(pool, digest, rows):
        yield pl.DataFrame(some, CACHE_COLUMNS, orient="row")


def _each(pool: ThreadPoolExecutor, function: Callable[..., T], rows: pl.DataFrame) -> Iterator[list[T]]:
    """`function` of the values of every row, in order, some thousand at a time: all of them as Python objects would take
    gigabytes."""
    for some in rows.iter_slices(HANDFULS * HANDFUL):
        handfuls = (part.rows() for part in some.iter_slices(HANDFUL))
        done = pool.map(lambda handful: [function(*row) for row in handful], handfuls)
        yield [one for handful in done for one in handful]


def _with_keys_of_parts(clips: pl.DataFrame) -> pl.DataFrame:
    """Of a file that holds several motions, each has a key of its own."""
    parts = clips.with_row_index("row").filter(pl.col("part") != "").select("row", "clip", "part")
    keys = [text_digest(f"{clip}\0{part}") for _, clip, part in parts.iter_rows()]
    return clips.with_columns(clip=clips["clip"].scatter(parts["row"], pl.Series(keys, dtype=pl.String)))


def _file_digest(path: Path) -> str:
    with path.open("rb", buffering=0) as stream:
        # The first half of SHA-256, which processors have instructions for.
        return hashlib.file_digest(stream, "sha256").hexdigest()[:32]


def text_digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _read_cache(cache: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(cache).select(pl.col(name).cast(kind) for name, kind in CACHE_COLUMNS.items())
    except UNREADABLE:
        return pl.DataFrame(schema=CACHE_COLUMNS)  # none yet, or damaged: the files are read again


def _write_cache(cache: Path, known: pl.DataFrame, fresh: list[pl.DataFrame]) -> None:
    new = pl.concat([pl.DataFrame(schema=CACHE_COLUMNS), *fresh]).filter(pl.col("path").is_not_null())
    if new.is_empty():
        return
    new = new.unique("path", keep="last")  # two names may lead to one file
    table = pl.concat([known.join(new, on="path", how="anti"), new]).sort("path")
    cache.parent.mkdir(parents=True, exist_ok=True)
    replace_file(cache, lambda path: table.write_parquet(path))
