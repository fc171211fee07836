"""How much there is: hours at every stage, by licence, by reason of what was left out, and lost to windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from corpus.errors import MotionloomError
from pipelines.ask.answer import Answer, part, said, share_of
from pipelines.ask.asked import Asked

BY = {
    "source": ["source"],
    "licence": ["licence"],
    "cluster": ["cluster"],
    "source-cluster": ["source", "cluster"],
}
WINDOWS = (16, 32, 64, 128, 256, 512)
"""Frames."""


def hours(asked: Asked, *, by: str = "source") -> Answer:
    """Hours at every stage; clusters are known of what passed only."""
    if by not in BY:
        raise MotionloomError(f"Hours by {by!r}? Known: {', '.join(BY)}.")
    passed = _passed(asked, BY[by])
    table, notes = passed, []
    if "cluster" not in BY[by]:
        stages = asked.owners.group_by(BY[by]).agg(pl.exclude("owner", "source", "licence").sum())
        told = {"clips": "clips", "loaded": "frames_loaded", "retargeted": "frames", "passed": "frames_kept"}
        table = stages.select(*BY[by], **told).with_columns(pl.col(list(told)[1:]) / asked.fps / 3600)
        table = table.join(passed.drop("segments", "passed"), on=BY[by], how="left").with_columns(
            pl.col("unique").fill_null(0)
        )
    if not asked.has("duplicates"):
        table = table.with_columns(unique=pl.lit(None, pl.Float64))
        notes = ["unique is not known: near-duplicates have not been looked for (`loom dedup`)"]
    table = table.sort("passed", *BY[by], descending=[True, *[False] * len(BY[by])])
    return Answer(_line_of_hours(table, by), table, tuple(notes))


def licences(asked: Asked) -> Answer:
    """Hours by licence."""
    table = asked.owners.group_by("licence").agg(
        sources=pl.col("source").unique().sort().str.join(", "),
        clips=pl.col("clips").sum(),
        retargeted=pl.col("frames").sum() / asked.fps / 3600,
        passed=pl.col("frames_kept").sum() / asked.fps / 3600,
    )
    table = table.with_columns(share=pl.col("passed") / pl.col("passed").sum()).sort(
        "passed", "licence", descending=[True, False]
    )
    total = float(table["passed"].sum())
    if not len(table):
        return Answer("There are no clips.", table)
    first = table.row(0, named=True)
    line = f"{said(total)} passed under {(table['passed'] > 0).sum()} licences, most under “{first['licence']}”: {said(first['passed'])}."
    return Answer(line, table)


def rejects(asked: Asked) -> Answer:
    """What was left out by reason: clips that gave no motion, segments over a limit, and what was cut away between segments."""
    clips = asked.clips.filter((pl.col("status") == "rejected") & (pl.col("frames").fill_null(0) == 0))
    unread = clips.group_by("reason").agg(count=pl.len()).collect()
    unread = unread.select(what=pl.lit("clip"), reason="reason", count="count", hours=pl.lit(None, pl.Float64))
    segments = _rejected_segments(asked)
    whole, cut = (asked.hours(int(asked.owners[name].sum())) for name in ("frames", "frames_cut"))
    gone = pl.DataFrame({"what": ["cut away"], "reason": ["too short, or at a jump"], "hours": [cut]})
    table = pl.concat([segments, gone, unread], how="diagonal_relaxed")
    table = table.with_columns(share=pl.col("hours") / whole if whole else pl.lit(None, pl.Float64))
    table = table.sort("hours", "count", "reason", descending=[True, True, False], nulls_last=True)
    lost = float(segments["hours"].sum())
    most = f", most for {segments['reason'][0]} ({said(segments['hours'][0])})" if len(segments) else ""
    line = (
        f"Of {said(whole)} retargeted, {said(lost)} ({part(share_of(lost, whole))}) were rejected{most}; {said(cut)} "
        f"({part(share_of(cut, whole))}) were cut away; {unread['count'].sum():,} clips gave no motion."
    )
    notes = ("alone: segments that are over this one limit only, and would be kept without it",)
    return Answer(line, table, notes)


def windows(asked: Asked, *, frames: Sequence[int] = WINDOWS) -> Answer:
    """Hours in segments that are shorter than a window, for several lengths of windows."""
    if any(length < 1 for length in frames):
        raise MotionloomError(f"Windows of {min(frames)} frames? They have at least 1.")
    lengths = asked.kept("frames")["frames"].to_numpy()
    total = int(lengths.sum(dtype=np.int64))
    of_length = np.bincount(lengths)
    size = np.arange(len(of_length))
    rows: list[dict[str, Any]] = []
    for window in sorted(frames):
        short = of_length[:window]
        lost = int((short * size[:window][: len(short)]).sum())
        rows.append({
            "window": window, "seconds": window / asked.fps, "segments_lost": int(short.sum()),
            "hours_lost": asked.hours(lost), "share_lost": share_of(lost, total),
            "windows": int((of_length[window:] * (size[window:] - window + 1)).sum()),
        })  # fmt: skip
    table = pl.DataFrame(rows)
    told = "; ".join(f"{row['window']} frames: {said(row['hours_lost'])} ({part(row['share_lost'])})" for row in rows)
    notes = ("the loader never draws from a segment that is shorter than its window",)
    return Answer(f"Of {said(asked.hours(total))}, segments shorter than a window hold – {told}.", table, notes)


def _passed(asked: Asked, by: list[str]) -> pl.DataFrame:
    """Segments and hours that passed, and those that are left without near-duplicates, by columns."""
    names = ["frames", "owner"]
    names += ["clusters.cluster"] * ("cluster" in by) + ["duplicates.keeper"] * asked.has("duplicates")
    rows = asked.kept(*names)
    keys = [name for name in ("owner", "cluster") if name in rows.columns]
    unique = pl.col("frames").filter(pl.col("keeper")) if "keeper" in rows.columns else pl.col("frames")
    found = rows.group_by(keys).agg(
        segments=pl.len(), passed=_hours(asked, pl.col("frames")), unique=_hours(asked, unique)
    )
    return asked.by_owner(found).group_by(by).agg(pl.col("segments", "passed", "unique").sum())


def _hours(asked: Asked, frames: pl.Expr) -> pl.Expr:
    return frames.sum().cast(pl.Float64) / asked.fps / 3600


def _line_of_hours(table: pl.DataFrame, by: str) -> str:
    passed = float(table["passed"].sum())
    if not passed:
        return "Nothing passed."
    told = f"{said(passed)} passed"
    if "retargeted" in table.columns:
        whole = float(table["retargeted"].sum())
        told += f" of {said(whole)} retargeted ({part(share_of(passed, whole))})"
    if table["unique"].null_count() < len(table):
        told += f", {said(float(table['unique'].sum()))} of it unique"
    first = table.row(0, named=True)
    name = " in cluster ".join(str(first[column]) for column in BY[by])
    name = f"cluster {name}" if by == "cluster" else name
    return f"{told}; most is {name}: {said(first['passed'])}, of {len(table)} rows by {by}."


def _rejected_segments(asked: Asked) -> pl.DataFrame:
    rows = asked.judged("kept", "frames", "reason", "over").filter(pl.col("kept") == 0)
    over = pl.col("over").cast(pl.UInt32)
    alone = ((over & (over - 1)) == 0).sum()  # one bit alone
    found = rows.group_by("reason").agg(count=pl.len(), hours=_hours(asked, pl.col("frames")), alone=alone)
    found = found.select(what=pl.lit("segment"), reason="reason", count="count", hours="hours", alone="alone")
    return found.sort("hours", "reason", descending=[True, False])
