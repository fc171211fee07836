"""The catalog: the rows of all shards folded into two Parquet files, and the corpus as a person or a loader opens it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from corpus import schema
from corpus.errors import CorruptShard, MotionloomError
from corpus.motion import RobotMotion
from corpus.store import Shard


@dataclass(frozen=True)
class Corpus:
    """An opened corpus: tables are read lazily, motions are views of mapped files."""

    path: Path
    about: dict[str, Any]
    """`corpus.json`: format, recipe, robot, joint names, rate."""

    @classmethod
    def open(cls, path: Path | str) -> Corpus:
        """Raises `MotionloomError` where the folder is no corpus, or its catalog was not folded yet."""
        path = Path(path)
        try:
            about = json.loads((path / "corpus.json").read_text())
        except (OSError, ValueError) as error:
            raise MotionloomError(f"{path} is no corpus ({error}). `loom build` makes one.") from None
        if not (path / "catalog" / "clips-00000.parquet").exists():
            raise MotionloomError(f"{path} has no catalog yet: its build was interrupted; run the same build again.")
        return cls(path, about)

    @property
    def fps(self) -> float:
        return float(self.about["fps"])

    @property
    def recipe(self) -> dict[str, Any]:
        """Every choice that made the corpus, as stored."""
        return self.about["recipe"]

    @property
    def clips(self) -> pl.LazyFrame:
        """A row per clip; columns in `corpus.schema.CLIPS`."""
        return pl.scan_parquet(self.path / "catalog" / "clips-*.parquet")

    @property
    def segments(self) -> pl.LazyFrame:
        """A row per segment; columns in `corpus.schema.SEGMENTS`. Joins `clips` by `clip` where `frames` > 0 there."""
        return pl.scan_parquet(self.path / "catalog" / "segments-*.parquet")

    @cached_property
    def kept(self) -> pl.DataFrame:
        """The kept segments in catalog order: a segment's row here is its number everywhere else."""
        columns = ["segment", "clip", "shard", "row", "start", "frames"]
        return self.segments.filter(pl.col("status") == "kept").select(columns).collect()

    @cached_property
    def shard_ids(self) -> tuple[str, ...]:
        """Shards that hold kept segments, sorted."""
        return tuple(self.kept["shard"].unique().sort())

    def shard(self, shard_id: str) -> Shard:
        """A shard, opened once."""
        if shard_id not in self._opened:
            self._opened[shard_id] = Shard.open(self.path / "shards" / shard_id)
        return self._opened[shard_id]

    def motion(self, segment: int | str) -> RobotMotion:
        """The motion of a kept segment by number or name, as views of the mapped shard."""
        number = self._number_of(segment) if isinstance(segment, str) else segment
        shard_id, row, frames = self._places[0][number], self._places[1][number], self._places[2][number]
        shard = self.shard(shard_id)
        if row + frames > shard.frame_count:
            raise CorruptShard(f"{shard.path}: segment {number} ends at row {row + frames} of {shard.frame_count}.")
        return RobotMotion(shard.qpos[row : row + frames], self.fps, shard.contact[row : row + frames])

    def _number_of(self, name: str) -> int:
        if name not in self._numbers:
            raise MotionloomError(f"No kept segment named {name!r}.")
        return self._numbers[name]

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.kept["segment"])}

    @cached_property
    def _places(self) -> tuple[list[str], np.ndarray, np.ndarray]:
        return self.kept["shard"].to_list(), self.kept["row"].to_numpy(), self.kept["frames"].to_numpy()

    @cached_property
    def _opened(self) -> dict[str, Shard]:
        return {}


def fold(out: Path) -> None:
    """Write the catalog anew from the rows of all shards; readers see the old one or the new one."""
    # A temporary folder may hold a whole shard too, if its writer was killed just before the rename.
    shards = sorted(path for path in (out / "shards").glob("[!.]*") if (path / "shard.json").exists())
    folder = out / "catalog"
    folder.mkdir(exist_ok=True)
    for name, table_schema in (("segments", schema.SEGMENTS), ("clips", schema.CLIPS)):
        temporary = folder / f".tmp-{name}-{os.getpid()}"
        try:
            with pq.ParquetWriter(temporary, table_schema, compression="zstd") as writer:
                for path in shards:
                    shard = Shard.open(path)
                    table = shard.clips if name == "clips" else shard.segments
                    writer.write_table(table)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.rename(folder / f"{name}-00000.parquet")
        finally:
            temporary.unlink(missing_ok=True)


def ledger(clips: pl.LazyFrame) -> pl.DataFrame:
    """Clips and frames by source and licence: in, kept, rejected, cut away. Raises where they do not add up."""
    frames = ["frames", "frames_kept", "frames_rejected", "frames_cut"]
    table = (
        clips.group_by("source", "licence")
        .agg(
            clips=pl.len(),
            clips_kept=(pl.col("status") == "kept").sum(),
            **{name: pl.col(name).fill_null(0).sum() for name in frames},
        )
        .sort("source", "licence")
        .collect()
    )
    wrong = table.filter(pl.col("frames") != pl.col("frames_kept") + pl.col("frames_rejected") + pl.col("frames_cut"))
    if len(wrong):
        raise CorruptShard(
            f"The ledger does not add up for {wrong['source'].to_list()}: frames ≠ kept + rejected + cut."
        )
    return table
