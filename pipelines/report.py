"""A corpus on one page: how its number is made up, what was left out and why, how its motion measures, how it looks.

One HTML file with everything inside it: no scripts, no fonts, nothing fetched.
"""

from __future__ import annotations

import json
import os
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
from pipelines.inventory import ledger_of, reject_reasons

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

KEPT, REJECTED = "#2f6fb0", "#d08a3e"
NAMES = {"stage", "source", "reason", "what"}
"""Columns of short words of our own, which are not broken."""
REJECT_ROWS = 60
"""Most left-out clips listed one by one."""

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1d2329; max-width: 68rem; margin: 2rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.7rem; margin-bottom: 0; } h2 { font-size: 1.2rem; margin-top: 2.4rem; }
p.note { color: #5b6670; margin-top: .2rem; }
table { border-collapse: collapse; font-size: .9rem; } td, th { padding: .25rem .8rem .25rem 0; text-align: left; }
th { border-bottom: 1px solid #9aa3ad; } td { border-bottom: 1px solid #e4e8ec; vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
tr.total td { font-weight: 600; border-top: 1px solid #9aa3ad; }
div.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1.2rem; }
figure { margin: 0 0 1.2rem; } figcaption { color: #39424b; font-size: .85rem; } svg { max-width: 100%; height: auto; }
pre { background: #f3f5f7; padding: .8rem; overflow-x: auto; } .path { overflow-wrap: anywhere; } .name { white-space: nowrap; }
"""


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
        _section("How its number of frames is made up", _stage_table(book, clock)),
        _section("What it is made of", _ledger_table(book, clock), "In = passed + rejected + cut away."),
        _section("What was left out, and why", _reason_table(reject_reasons(out, limit=40), clock)),
        _section("Clips that gave nothing", *_rejected_clips(corpus)),
        _section("How it looks", _pictures(corpus, picture_count, fps), PICTURE_NOTE),
        _section("How it measures", _histograms(segments, gate, fps), HISTOGRAM_NOTE),
        _section("How to go on", f"<pre>{escape(chr(10).join(commands))}</pre>") if commands else "",
    ]
    _write(path, _page(f"Motion corpus {out.name}", sections))


PICTURE_NOTE = (
    "Poses at equal steps through a segment. Blue is the robot's left, orange its right; green marks touch the ground."
)
HISTOGRAM_NOTE = (
    "Segments by measure. Blue is kept, orange rejected; the dashed line is the gate's limit. "
    "The last bar holds all beyond."
)


def histogram(
    kept: Float[np.ndarray, " N"], rejected: Float[np.ndarray, " M"], *, limit: float | None = None, bins: int = 24
) -> str:
    """Bars as an SVG: kept at the bottom, rejected on top, all counts to one scale."""
    kept, rejected = kept[np.isfinite(kept)], rejected[np.isfinite(rejected)]
    both = np.concatenate([kept, rejected])
    if not len(both):
        return "<p class='note'>not measured</p>"
    edges = _edges(both, limit, bins)
    low, high = (np.histogram(np.clip(x, edges[0], edges[-1]), edges)[0] for x in (kept, rejected))
    scale = 70 / max(int((low + high).max()), 1)
    bars = "".join(
        _bar(i, 0, n * scale, KEPT) + _bar(i, n * scale, m * scale, REJECTED)
        for i, (n, m) in enumerate(zip(low, high, strict=True))
    )
    mark = ""
    if limit is not None and edges[0] <= limit <= edges[-1]:
        x = 240 * (limit - edges[0]) / (edges[-1] - edges[0])
        mark = f'<line x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="80" stroke="#333" stroke-dasharray="3 3"/>'
    ticks = [(0, "start", edges[0]), (120, "middle", (edges[0] + edges[-1]) / 2), (240, "end", edges[-1])]
    labels = "".join(f'<text x="{x}" y="94" text-anchor="{anchor}">{value:.3g}</text>' for x, anchor, value in ticks)
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="-2 0 244 98" width="244" height="98" font-size="10" '
        f'fill="#39424b">'
        f'{bars}<line x1="0" x2="240" y1="80" y2="80" stroke="#9aa3ad"/>{mark}{labels}</svg>'
    )


def _edges(values: Float[np.ndarray, " N"], limit: float | None, bins: int) -> Float[np.ndarray, " E"]:
    """From zero (or below) to where nearly all values lie, the limit in sight."""
    top = float(np.quantile(values, 0.98))
    if limit is not None:
        top = min(max(top, 1.2 * limit), max(4 * limit, float(np.median(values))))
    bottom = min(0.0, float(values.min()))
    return np.linspace(bottom, top if top > bottom else bottom + 1.0, bins + 1)


def _bar(index: int, bottom: float, height: float, colour: str) -> str:
    if not height:
        return ""
    x, y = 10 * index + 0.5, 80 - bottom - height
    return f'<rect x="{x:.1f}" y="{y:.2f}" width="9" height="{height:.2f}" fill="{colour}"/>'


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
    return _table(columns, cells, numeric=2)


def _ledger_table(book: Ledger, clock: _Clock) -> str:
    """A row per source and licence; the last one is the total."""
    names = ("frames", "frames_kept", "frames_rejected", "frames_cut", "frames_unique", "frames_virtual")
    cells = [
        [row["source"], row["licence"], f"{row['clips']:,}", *(clock(row[name]) for name in names)]
        for row in book.lines()
    ]
    times = [f"{word} [{clock.unit}]" for word in ("in", "passed", "rejected", "cut", "unique", "virtual")]
    return _table(["source", "licence", "clips", *times], cells, numeric=2, total=True)


def _reason_table(reasons: Iterable[tuple[str, str, int, int]], clock: _Clock) -> str:
    cells = [[kind, reason, f"{count:,}", clock(frames)] for kind, reason, count, frames in reasons]
    return _table(["what", "reason", "count", f"lost [{clock.unit}]"], cells, numeric=2) if cells else "<p>Nothing.</p>"


def _rejected_clips(corpus: Corpus) -> tuple[str, str]:
    """The clips by name, and how many there are."""
    rejected = corpus.clips.filter(pl.col("status") == "rejected")
    count = rejected.select(pl.len()).collect().item()
    columns = ["source", "path", "reason", "detail", "numbers"]
    shown = rejected.sort("reason", "source", "path").select(columns).head(REJECT_ROWS).collect()
    cells = [[*row[:3], row[3] or "", _plain_numbers(row[4])] for row in shown.rows()]
    note = f"{count:,} clips" + (f"; the first {REJECT_ROWS} by reason" if count > REJECT_ROWS else "")
    return _table(columns, cells), note


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
    figures = [_figure("Length", "s", histogram(_floats(kept, "frames") / fps, _floats(rejected, "frames") / fps))]
    for name, (title, unit) in MEASURES.items():
        limit = gate.get(f"{name}_limit")
        drawing = histogram(
            _floats(kept, name), _floats(rejected, name), limit=limit if isinstance(limit, float) else None
        )
        figures.append(_figure(title, unit, drawing))
    return f"<div class='grid'>{''.join(figures)}</div>"


def _floats(table: pl.DataFrame, column: str) -> Float[np.ndarray, " N"]:
    return table[column].cast(pl.Float64).fill_null(np.nan).to_numpy()


def _figure(title: str, unit: str, drawing: str) -> str:
    return f"<figure><figcaption>{escape(title)}{f' [{unit}]' if unit else ''}</figcaption>{drawing}</figure>"


def _table(columns: list[str], rows: list[list[str]], *, numeric: int | None = None, total: bool = False) -> str:
    """Columns from `numeric` on are numbers; the last row may be a total."""
    kinds = [
        " class='number'"
        if numeric is not None and i >= numeric
        else f" class='{'name' if column in NAMES else 'path'}'"
        for i, column in enumerate(columns)
    ]
    head = "".join(f"<th{kind}>{escape(column)}</th>" for kind, column in zip(kinds, columns, strict=True))
    body = []
    for index, row in enumerate(rows):
        cells = "".join(f"<td{kind}>{escape(cell)}</td>" for kind, cell in zip(kinds, row, strict=True))
        body.append(f"<tr{' class=total' if total and index == len(rows) - 1 else ''}>{cells}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _section(title: str, body: str, note: str = "") -> str:
    return f"<h2>{escape(title)}</h2>{f'<p class=note>{escape(note)}</p>' if note else ''}{body}"


def _page(title: str, sections: list[str]) -> str:
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style></head><body><h1>{escape(title)}</h1>{''.join(sections)}</body></html>\n"
    )


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".tmp-{path.name}-{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
