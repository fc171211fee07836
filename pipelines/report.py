"""A corpus on one page: how its number is made up, what was left out and why, how its motion measures, how it looks.

One HTML file with everything inside it: no scripts, no fonts, nothing fetched.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float

from corpus.catalog import Corpus
from corpus.g1 import G1
from corpus.ledger import Ledger
from corpus.pictures import draw_poses, pick_frames
from pipelines.html import figure, histogram, page, section, table, write_page
from pipelines.inventory import ledger_of, reject_reasons
from pipelines.report_alike import alike_sections

MEASURES: dict[str, tuple[str, str]] = {
    "foot_slide": ("Slide of the bearing foot, mean", "m/s"),
    "floating": ("Height above the floor, median", "m"),
    "penetration": ("Depth below the floor, 99 %", "m"),
    "airborne_s": ("Longest time in the air", "s"),
    "limit_use": ("Frames with a joint at its limit, share", ""),
    "speed_use": ("Highest joint speed, of its limit", ""),
    "jerk": ("Joint jerk, median", "rad/s³"),
    "self_collision": ("Overlap with itself, 99 %", "m"),
    "root_speed": ("Highest root speed", "m/s"),
    "position_error": ("Off the targets, mean", "m"),
    "orientation_error": ("Off the targets, mean", "rad"),
    "contact_share": ("Frames with ground contact, share", ""),
    "contact_match": ("Contacts as the person's, share", ""),
    "smoothing": ("Changed by smoothing, mean", "rad"),
    "torque_use": ("Joint torque, of its limit, 99 %", ""),
    "unexplained_force": ("Force without a contact, 99 %", "body weights"),
    "support_distance": ("Centre of mass off the soles, median", "m"),
    "pressure_distance": ("Centre of pressure off the soles, median", "m"),
}
"""Title and unit of each column of `corpus.schema.QUALITY`; the exact definitions stand in `corpus/quality.py`."""

REJECT_ROWS = 60
"""Most left-out clips listed one by one."""


def write_report(out: Path, path: Path, *, commands: Sequence[str] = (), picture_count: int = 8) -> None:
    """Write the page on the corpus in `out` to `path`; `commands` are shown as the way to go on."""
    corpus = Corpus.open(out)
    book, fps = ledger_of(out)
    total = book.total
    segments = corpus.segments.select("status", "frames", *MEASURES).collect()
    gate = corpus.recipe.get("gate", {})
    clock = _Clock.for_length(total["frames"], fps)
    sections = [
        _headline(total, clock, segments),
        section("How its number of frames is made up", _stage_table(book, clock)),
        section("What it is made of", _ledger_table(book, clock), "In = passed + rejected + cut away."),
        section("What was left out, and why", _reason_table(reject_reasons(out, limit=40), clock)),
        section("Clips that gave nothing", *_rejected_clips(corpus)),
        section("How it looks", _pictures(corpus, picture_count, fps), PICTURE_NOTE),
        *alike_sections(corpus),
        section("How it measures", _histograms(segments, gate, fps), HISTOGRAM_NOTE),
        section("How to go on", f"<pre>{escape(chr(10).join(commands))}</pre>") if commands else "",
    ]
    write_page(path, page(f"Motion corpus {out.name}", sections))


PICTURE_NOTE = (
    "Poses at equal steps through a segment. Blue is the robot's left, orange its right; green marks touch the ground."
)
HISTOGRAM_NOTE = (
    "Segments by measure. Blue is kept, orange rejected; the dashed line is the gate's limit. "
    "The last bar holds all beyond."
)


@dataclass(frozen=True)
class _Clock:
    """Tells frames as time, all in one unit."""

    unit: str
    frames: float
    """Frames in one unit."""

    @staticmethod
    def for_length(frames: int, fps: float) -> _Clock:
        units = (("h", 3600.0), ("min", 60.0), ("s", 1.0))
        unit, seconds = next(((u, s) for u, s in units if frames / fps >= s), units[-1])
        return _Clock(unit, seconds * fps)

    def __call__(self, frames: int) -> str:
        return f"{frames / self.frames:,.2f}"


def _headline(total: dict[str, Any], clock: _Clock, segments: pl.DataFrame) -> str:
    kept, frames = total["frames_kept"], total["frames"]
    count = int((segments["status"] == "kept").sum())
    share = f"{kept / frames:.1%}" if frames else "none"
    return (
        f"<p><b>{clock(kept)} {clock.unit}</b> of G1 motion in {count:,} segments, {kept:,} frames: {share} of what was "
        f"read and put on the robot.</p>"
    )


def _stage_table(book: Ledger, clock: _Clock) -> str:
    """A row per stage, from the files to the frames that a trainer can draw."""
    cells = [
        [
            stage.name,
            stage.gone,
            "–" if stage.clips is None else f"{stage.clips:,}",
            "–" if stage.frames is None else clock(stage.frames),
        ]
        for stage in book.stages()
    ]
    columns = ["stage", "left out on the way, or how counted", "clips", f"length [{clock.unit}]"]
    return table(columns, cells, numeric=2)


def _ledger_table(book: Ledger, clock: _Clock) -> str:
    """A row per source and licence; the last one is the total."""
    names = ("frames", "frames_kept", "frames_rejected", "frames_cut", "frames_unique", "frames_virtual")
    cells = [
        [row["source"], row["licence"], f"{row['clips']:,}", *(clock(row[name]) for name in names)]
        for row in book.lines()
    ]
    times = [f"{word} [{clock.unit}]" for word in ("in", "passed", "rejected", "cut", "unique", "virtual")]
    return table(["source", "licence", "clips", *times], cells, numeric=2, total=True)


def _reason_table(reasons: Iterable[tuple[str, str, int, int]], clock: _Clock) -> str:
    cells = [[kind, reason, f"{count:,}", clock(frames)] for kind, reason, count, frames in reasons]
    return table(["what", "reason", "count", f"lost [{clock.unit}]"], cells, numeric=2) if cells else "<p>Nothing.</p>"


def _rejected_clips(corpus: Corpus) -> tuple[str, str]:
    """The clips by name, and how many there are."""
    rejected = corpus.clips.filter(pl.col("status") == "rejected")
    count = rejected.select(pl.len()).collect().item()
    columns = ["source", "path", "reason", "detail", "numbers"]
    shown = rejected.sort("reason", "source", "path").select(columns).head(REJECT_ROWS).collect()
    cells = [[*row[:3], row[3] or "", _plain_numbers(row[4])] for row in shown.rows()]
    note = f"{count:,} clips" + (f"; the first {REJECT_ROWS} by reason" if count > REJECT_ROWS else "")
    return table(columns, cells), note


def _plain_numbers(text: str | None) -> str:
    numbers = json.loads(text) if text else {}
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in numbers.items()
    )


def _pictures(corpus: Corpus, count: int, fps: float) -> str:
    chosen = _choose(corpus, count)
    figures = []
    for row in chosen.to_dicts():
        motion = corpus.motion(row["segment"])
        frames = pick_frames(motion.frame_count, 7)
        contact = None if motion.contact is None else np.asarray(motion.contact)[frames]
        what = row["label"] or Path(row["path"]).name
        svg = draw_poses(G1, np.asarray(motion.qpos)[frames], contact=contact, title=f"{row['source']}: {what}")
        text = (
            f"{row['source']}: {what} · {row['frames'] / fps:.1f} s, from {row['start'] / fps:.1f} s · {row['segment']}"
        )
        figures.append(f"<figure>{svg}<figcaption class='path'>{escape(text)}</figcaption></figure>")
    return "".join(figures) or "<p>No segment was kept.</p>"


def _choose(corpus: Corpus, count: int) -> pl.DataFrame:
    """Kept segments of as many sources as the count allows; within a source as the content's hash has it, so at random."""
    # A copy has its own row of the same key, without frames.
    clips = corpus.clips.filter(pl.col("frames") > 0).select("clip", "source", "path", "label")
    kept = corpus.segments.filter(pl.col("status") == "kept").select("segment", "clip", "start", "frames")
    longest = kept.join(clips, on="clip").sort("clip", "frames", "start", descending=[False, True, False])
    one_each = longest.unique("clip", keep="first", maintain_order=True)
    turn = one_each.with_columns(turn=pl.int_range(pl.len()).over("source"))
    return turn.sort("turn", "source").head(count).sort("source", "turn").collect()


def _histograms(segments: pl.DataFrame, gate: dict[str, Any], fps: float) -> str:
    kept = segments.filter(pl.col("status") == "kept")
    rejected = segments.filter(pl.col("status") != "kept")
    figures = [figure("Length", "s", histogram(_floats(kept, "frames") / fps, _floats(rejected, "frames") / fps))]
    for name, (title, unit) in MEASURES.items():
        limit = gate.get(f"{name}_limit")
        drawing = histogram(
            _floats(kept, name), _floats(rejected, name), limit=limit if isinstance(limit, float) else None
        )
        figures.append(figure(title, unit, drawing))
    return f"<div class='grid'>{''.join(figures)}</div>"


def _floats(table: pl.DataFrame, column: str) -> Float[np.ndarray, " N"]:
    return table[column].cast(pl.Float64).fill_null(np.nan).to_numpy()
