"""The catalog: the rows of all shards folded into two Parquet files; and the corpus as a person or a loader opens it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, Int

from corpus import schema
from corpus.durable import sync
from corpus.errors import CorruptShard, MotionloomError, RecipeMismatch
from corpus.motion import RobotMotion
from corpus.remote.bucket import is_url
from corpus.store import Shard

if TYPE_CHECKING:
    from corpus.remote.shard_cache import ShardCache

ROW_GROUP = 100_000
"""Rows of one Parquet row group of the catalog."""


@dataclass(frozen=True)
class Corpus:
    """An opened corpus: tables are read lazily, motions are views of mapped files."""

    path: Path
    about: dict[str, Any]
    """`corpus.json`: format, recipe, robot, joint names, rate."""
    shards: ShardCache | None = None
    """Where shards come from that lie on object storage."""
    stamp: bytes = b""
    """Which shards the catalog told of when it was opened: numbers of segments and shards are theirs."""

    @classmethod
    def open(cls, path: Path | str, *, cache: Path | None = None, cache_limit: float | None = None) -> Corpus:
        """Raises `MotionloomError` where the folder is no corpus, or its catalog was not folded to its end.

        Of a corpus on object storage (s3://…) copies are kept in the folder `cache`, of at most `cache_limit` [10⁹ bytes].
        """
        if is_url(path):
            from corpus.remote.shard_cache import ShardCache

            shards = ShardCache.open(str(path), cache, cache_limit)
            return replace(cls.open(shards.folder), shards=shards)
        path = Path(path)
        try:
            about = json.loads((path / "corpus.json").read_text())
        except (OSError, ValueError) as error:
            raise MotionloomError(f"{path} is no corpus ({error}). `loom build` makes one.") from None
        try:
            clips, segments = (pq.read_schema(_file(path, name)).metadata or {} for name in ("clips", "segments"))
        except FileNotFoundError:
            raise MotionloomError(
                f"{path} has no catalog yet: its build was interrupted; run the same build again."
            ) from None
        except (OSError, pa.ArrowException) as error:
            raise MotionloomError(
                f"{path / 'catalog'} is damaged ({error}): delete it and run the build again."
            ) from None
        if clips.get(_OF_SHARDS) != segments.get(_OF_SHARDS):
            raise MotionloomError(f"{path / 'catalog'} was folded by half: run the same build again.")
        return cls(path, about, stamp=segments.get(_OF_SHARDS, b""))

    @property
    def fps(self) -> float:
        """Rate of every motion [Hz]."""
        return float(self.about["fps"])

    @property
    def recipe(self) -> dict[str, Any]:
        """Every choice that made the corpus, as stored."""
        return self.about["recipe"]

    @property
    def clips(self) -> pl.LazyFrame:
        """A row per clip; columns in `corpus.schema.CLIPS`."""
        return pl.scan_parquet(_file(self.path, "clips"), glob=False, hive_partitioning=False)

    @property
    def segments(self) -> pl.LazyFrame:
        """A row per segment; columns in `corpus.schema.SEGMENTS`. Joins `clips` by `clip` where `frames` > 0 there."""
        return pl.scan_parquet(_file(self.path, "segments"), glob=False, hive_partitioning=False)

    @cached_property
    def kept(self) -> pl.DataFrame:
        """The kept segments in catalog order: a segment's row here is its number everywhere else."""
        columns = ["segment", "clip", "shard", "row", "start", "frames"]
        return self._kept(columns)

    def motion(self, segment: int | str) -> RobotMotion:
        """The motion of a kept segment by number or name, as views of the mapped shard."""
        number = self._number_of(segment) if isinstance(segment, str) else segment
        if not -len(self.frames) <= number < len(self.frames):
            raise MotionloomError(f"No kept segment {number}: they are numbered 0 to {len(self.frames) - 1}.")
        shard = self.shard(int(self.shard_of[number]))
        start, stop = int(self.row[number]), int(self.row[number] + self.frames[number])
        return RobotMotion(shard.qpos[start:stop], self.fps, shard.contact[start:stop])

    @property
    def shard_ids(self) -> tuple[str, ...]:
        """Shards that hold kept segments, sorted."""
        return self._places[0]

    @property
    def shard_of(self) -> Int[np.ndarray, " S"]:
        """For each kept segment, its shard's place in `shard_ids`."""
        return self._places[1]

    @property
    def row(self) -> Int[np.ndarray, " S"]:
        """For each kept segment, its first row in the shard's arrays."""
        return self._places[2]

    @property
    def frames(self) -> Int[np.ndarray, " S"]:
        """For each kept segment, how many frames it has."""
        return self._places[3]

    def measure(self, name: str) -> Float[np.ndarray, " S"]:
        """A measure of every kept segment, by its column in `corpus.schema.QUALITY`; NaN where it has none."""
        if name not in schema.QUALITY:
            raise MotionloomError(f"No measure {name!r}. Known: {', '.join(schema.QUALITY)}.")
        return self._kept([name])[name].fill_null(np.nan).to_numpy()

    def of_clips(self, column: str) -> pl.Series:
        """What the clips' rows say in this column, for every kept segment; of rows of the same bytes the one that gave a motion."""
        told = self.clips.filter(pl.col("frames") > 0).select("clip", column).collect()
        return self.kept.select("clip").join(told, on="clip", how="left", maintain_order="left")[column]

    def shard(self, number: int) -> Shard:
        """The shard at this place in `shard_ids`, opened once."""
        name, shard = self.shard_ids[number], self._opened.get(number)
        if self.shards is not None:
            self.shards.note_use(name)
        if shard is None:
            shard, expected = self._open_shard(name), self._frames_of_shard[number]
            if shard.frame_count != expected:
                raise CorruptShard(
                    f"{shard.path}: {shard.frame_count} frames, the catalog says {expected}: fold it anew."
                )
            self._opened[number] = shard
        return shard

    def _open_shard(self, name: str) -> Shard:
        if self.shards is None:
            return Shard.open(self.path / "shards" / name)
        shard = self.shards.shard(name)
        # A shard that was evicted keeps its place on the disk as long as it is mapped here.
        for number, opened in list(self._opened.items()):
            if not opened.path.exists():
                self._opened.pop(number, None)
        return shard

    def __reduce__(self):
        # Another process opens the files itself: mapped arrays would travel as gigabytes.
        if self.shards is not None:
            return _open_again, (self.stamp, self.shards.url, self.shards.root, self.shards.limit / 1e9)
        return _open_again, (self.stamp, self.path)

    def _kept(self, columns: list[str]) -> pl.DataFrame:
        """Columns of all kept segments, as long as the catalog is the one that was opened."""
        kept = self.segments.filter(pl.col("status") == "kept").select(columns).collect()
        _check_same(self, stamp_of(self.path))
        return kept

    def _number_of(self, name: str) -> int:
        if name not in self._numbers:
            raise MotionloomError(f"No kept segment named {name!r}.")
        return self._numbers[name]

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.kept["segment"])}

    @cached_property
    def _places(self) -> tuple[tuple[str, ...], np.ndarray, np.ndarray, np.ndarray]:
        """`shard_ids`, `shard_of`, `row` and `frames`: all that a loader needs, read without the names of the segments."""
        kept = self._kept(["shard", "row", "frames"])
        runs = kept["shard"].rle().struct.unnest()
        ids = runs["value"].unique().sort()
        number = ids.search_sorted(runs["value"]).to_numpy().astype(np.int64)
        shard, row, frames = np.repeat(number, runs["len"]), kept["row"].to_numpy(), kept["frames"].to_numpy()
        # Rows are read by their address: of a shard's frames, which `shard` counts, and of nothing beyond them.
        if ((frames < 1) | (row < 0) | (row + frames > np.bincount(shard, frames, len(ids))[shard])).any():
            raise MotionloomError(f"{self.path / 'catalog'} is damaged: delete it and run the build again.")
        return tuple(ids), shard, row, frames

    @cached_property
    def _frames_of_shard(self) -> Int[np.ndarray, " K"]:
        return np.bincount(self.shard_of, self.frames, len(self.shard_ids)).astype(np.int64)

    @cached_property
    def _opened(self) -> dict[int, Shard]:
        return {}


def _open_again(stamp: bytes, place: Path | str, cache: Path | None = None, cache_limit: float | None = None) -> Corpus:
    corpus = Corpus.open(place, cache=cache, cache_limit=cache_limit)
    _check_same(corpus, stamp)
    return corpus


def _check_same(corpus: Corpus, stamp: bytes) -> None:
    if stamp != corpus.stamp:
        raise MotionloomError(f"{corpus.path} holds other shards than when it was opened: open it anew.")


def fold(out: Path, folder: Path | None = None, *, rows_only: bool = False) -> None:
    """Write the catalog anew from the rows of all shards, to `folder` (default: its place in the corpus); readers see the
    old one or the new one.

    The bytes depend on the shards alone, not on the order in which they were written. `rows_only`: their frames lie elsewhere.
    """
    # No dot: a worker that died may have left a folder behind that it had not renamed yet.
    paths = [path for path in sorted((out / "shards").glob("[!.]*")) if (path / "shard.json").exists()]
    shards = [Shard.open(path, rows_only=rows_only) for path in paths]
    _check_recipes(out, shards)
    stamp = hashlib.blake2b("\n".join(shard.path.name for shard in shards).encode(), digest_size=16).hexdigest()
    folder = folder or out / "catalog"
    folder.mkdir(parents=True, exist_ok=True)
    temporary = {name: folder / f".tmp-{name}-{os.getpid()}" for name in ("segments", "clips")}
    try:
        _write_table(temporary["segments"], schema.SEGMENTS, stamp, (shard.segments for shard in shards))
        _write_table(temporary["clips"], schema.CLIPS, stamp, (shard.clips for shard in shards))
        # Clips last: a build that was killed in between finds them out of date and folds again.
        for name, path in temporary.items():
            path.rename(folder / _file(out, name).name)
        sync(folder)
    finally:
        for path in temporary.values():
            path.unlink(missing_ok=True)


def stamp_of(out: Path) -> bytes:
    """Which shards the catalog tells of."""
    return (pq.read_schema(_file(out, "segments")).metadata or {}).get(_OF_SHARDS, b"")


_OF_SHARDS = b"motionloom.shards"
"""Metadata of both Parquet files: a hash of the shards they tell of, so that two halves of different folds are noticed."""


def _file(out: Path, name: str) -> Path:
    return out / "catalog" / f"{name}-00000.parquet"


def _write_table(path: Path, table_schema: pa.Schema, stamp: str, tables: Iterator[pa.Table]) -> None:
    """Tables in a row, in row groups of one size."""
    with pq.ParquetWriter(path, table_schema.with_metadata({_OF_SHARDS: stamp}), compression="zstd") as writer:
        waiting, count = [table_schema.empty_table()], 0
        for table in tables:
            waiting.append(table.replace_schema_metadata())
            count += len(table)
            if count < ROW_GROUP:
                continue
            rows, whole = pa.concat_tables(waiting), count - count % ROW_GROUP
            for start in range(0, whole, ROW_GROUP):
                writer.write_table(rows.slice(start, ROW_GROUP).combine_chunks(), row_group_size=ROW_GROUP)
            waiting, count = [rows.slice(whole)], count - whole
        if count:
            writer.write_table(pa.concat_tables(waiting).combine_chunks(), row_group_size=ROW_GROUP)
    sync(path)


def _check_recipes(out: Path, shards: list[Shard]) -> None:
    """A shard made by another recipe does not belong here."""
    try:
        recipe = json.loads((out / "corpus.json").read_text())["recipe_hash"]
    except FileNotFoundError:
        return
    except (ValueError, KeyError, TypeError) as error:
        raise MotionloomError(f"{out / 'corpus.json'} is damaged ({error!r}).") from None
    for shard in shards:
        if shard.recipe != recipe:
            raise RecipeMismatch(f"{shard.path} was made by recipe {shard.recipe}, this corpus by {recipe}.")
