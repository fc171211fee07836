"""How the number of frames of a corpus is made up, from the files of its sources to what a trainer can draw."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import polars as pl

from corpus.augment import Augment, virtual_frames
from corpus.errors import CorruptShard

FRAMES = ("frames", "frames_kept", "frames_rejected", "frames_cut")
"""Columns of a clip's row: what was retargeted, and what became of it; the first is the sum of the others."""


@dataclass(frozen=True)
class Stage:
    """What is left of a corpus after one step on its way."""

    name: str
    """"source", "loaded", "retargeted", "passed", "unique", "virtual"."""
    clips: int | None
    """Clips of which something is left; None for virtual frames, which are no clips."""
    frames: int | None
    """At the rate of the corpus; None for the source: nobody knows how much a file holds that cannot be read."""
    gone: str
    """What fell out at this step, in words."""


@dataclass(frozen=True)
class Ledger:
    """Clips and frames by source and licence at every stage; each stage is part of the one before, and the sums agree."""

    rows: pl.DataFrame
    """By source and licence: `clips`, of which `clips_loaded`, `clips_retargeted`, `clips_passed`, `clips_unique`;
    `frames_loaded`; `frames` retargeted = `frames_kept` + `frames_rejected` + `frames_cut`; `frames_unique`, `frames_virtual`."""
    augment: Augment
    """What the virtual frames are counted for."""
    compared: bool
    """Have near-duplicates been looked for? Otherwise only files of the same bytes count once."""

    @cached_property
    def total(self) -> dict[str, int]:
        """The same over all sources."""
        return self.rows.select(pl.exclude("source", "licence").sum()).row(0, named=True)

    def lines(self) -> list[dict[str, Any]]:
        """Its rows and, last, their sum as source "all"."""
        return [*self.rows.to_dicts(), {"source": "all", "licence": "", **self.total}]

    def stages(self) -> Iterator[Stage]:
        """The way of the whole corpus, a line for each step."""
        n = self.total
        yield Stage("source", n["clips"], None, "")
        yield Stage(
            "loaded", n["clips_loaded"], n["frames_loaded"], f"{n['clips'] - n['clips_loaded']:,} clips not read"
        )
        lost = n["clips_loaded"] - n["clips_retargeted"], n["frames_loaded"] - n["frames"]
        yield Stage("retargeted", n["clips_retargeted"], n["frames"], f"{lost[0]:,} clips, {lost[1]:,} frames")
        told = f"{n['frames_rejected']:,} frames rejected, {n['frames_cut']:,} cut away"
        yield Stage("passed", n["clips_passed"], n["frames_kept"], told)
        told = "files of the same bytes were left out unread; near-duplicates have not been looked for (loom dedup)"
        if self.compared:
            told = f"{n['frames_kept'] - n['frames_unique']:,} frames of segments that are copies of others"
        yield Stage("unique", n["clips_unique"], n["frames_unique"], told)
        yield Stage("virtual", None, n["frames_virtual"], _in_words(self.augment))


def ledger(
    clips: pl.LazyFrame,
    segments: pl.LazyFrame,
    fps: float,
    augment: Augment | None = None,
    *,
    copies: pl.LazyFrame | None = None,
) -> Ledger:
    """Count clips and frames at every stage; raises `CorruptShard` where a clip's frames do not add up.

    `clips` and `segments` are the tables of a corpus at `fps` [Hz]; virtual frames are those that `augment` gives. `copies` has the names
    (`segment`) of kept segments that are copies of others; None where nobody has looked for them.
    """
    check(clips)
    kept = segments.filter(pl.col("status") == "kept")
    unique = kept if copies is None else kept.join(copies, on="segment", how="anti")
    augment = augment or Augment()
    of_clip = unique.group_by("clip").agg(frames_unique=pl.col("frames").sum())
    known = clips.join(of_clip, on="clip", how="left")
    # Of several rows with one key only that which made a motion has segments.
    known = known.with_columns(pl.when(pl.col("frames") > 0).then("frames_unique").fill_null(0).alias("frames_unique"))
    left = (pl.col("frames_kept") > 0) & (pl.col("frames_unique") > 0)
    counted = count_stages(known, fps, clips_unique=left.sum(), frames_unique=pl.col("frames_unique").sum())
    rows = counted.join(_virtual(clips, unique, augment), on=["source", "licence"], how="left")
    numbers = pl.exclude("source", "licence").fill_null(0).cast(pl.Int64)
    return Ledger(rows.with_columns(numbers).sort("source", "licence").collect(), augment, copies is not None)


def count_stages(clips: pl.LazyFrame, fps: float, **more: pl.Expr) -> pl.LazyFrame:
    """Clips and frames by source and licence, up to what passed; and `more` sums."""
    moved, passed = pl.col("frames") > 0, pl.col("frames_kept") > 0
    counts = {"clips": pl.len(), "clips_loaded": pl.col("source_frames").count(), "clips_retargeted": moved.sum()}
    frames = {"frames_loaded": pl.col("frames_loaded").sum(), **{name: pl.col(name).sum() for name in FRAMES}}
    return (
        clips.with_columns(pl.col(FRAMES).fill_null(0))
        .with_columns(frames_loaded=pl.when(moved).then(pl.col("frames")).otherwise(_frames_at(fps)))
        .group_by("source", "licence")
        .agg(**counts, clips_passed=passed.sum(), **frames, **more)
    )


def check(clips: pl.LazyFrame) -> None:
    """Every clip's frames are kept, rejected or cut away; raises `CorruptShard` that names one of which this is not so."""
    clips = clips.with_columns(pl.col(FRAMES).fill_null(0))
    adds_up = pl.col("frames") == pl.sum_horizontal(FRAMES[1:])
    wrong = clips.filter(~(adds_up & (pl.min_horizontal(FRAMES) >= 0))).select("source", "path", *FRAMES).collect()
    if len(wrong):
        source, path, *numbers = wrong.sort("source", "path").row(0)
        raise CorruptShard(
            f"The ledger does not add up for {len(wrong)} clips, such as {source}:{path}: "
            f"{numbers[0]} frames ≠ {numbers[1]} kept + {numbers[2]} rejected + {numbers[3]} cut."
        )


def _frames_at(fps: float) -> pl.Expr:
    """How many frames a clip that was read would have at the rate of the corpus, as `corpus.resample` counts."""
    intervals = (pl.col("source_frames") - 1).clip(0) * fps / pl.col("source_fps")
    return (intervals + 1 + 1e-3).floor().cast(pl.Int64).fill_null(0)


def _virtual(clips: pl.LazyFrame, unique: pl.LazyFrame, augment: Augment) -> pl.LazyFrame:
    """Virtual frames of these segments by source and licence."""
    # Of several rows with one key only that which made a motion has segments.
    owners = clips.filter(pl.col("frames") > 0).select("clip", "source", "licence")
    mine = (
        unique.select("clip", "frames", "speed_use")
        .join(owners, on="clip")
        .select("source", "licence", "frames", "speed_use")
        .collect()
    )
    rows = [
        (*who, virtual_frames(augment, group["frames"].to_numpy(), group["speed_use"].to_numpy()))
        for who, group in mine.group_by("source", "licence")
    ]
    return pl.LazyFrame(rows, {"source": pl.String, "licence": pl.String, "frames_virtual": pl.Int64}, orient="row")


def _in_words(augment: Augment) -> str:
    mirrored = "as they are and mirrored, " if 0 < augment.mirror < 1 else ""
    speeds = ", ".join(f"{speed:g}" for speed in augment.speeds)
    return f"{mirrored}at {speeds} times their speed where the joints' limits allow it; headings not counted"
