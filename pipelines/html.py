"""Pieces of a page: tables, bars, points, and the page itself; no scripts, no fonts, nothing fetched."""

from __future__ import annotations

from html import escape
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from corpus.durable import replace_file

KEPT, REJECTED = "#2f6fb0", "#d08a3e"
NAMES = {"stage", "source", "reason", "what", "question"}
"""Columns of short words of our own, which are not broken."""
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


def page(title: str, sections: list[str]) -> str:
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style></head><body><h1>{escape(title)}</h1>{''.join(sections)}</body></html>\n"
    )


def section(title: str, body: str, note: str = "") -> str:
    return f"<h2>{escape(title)}</h2>{f'<p class=note>{escape(note)}</p>' if note else ''}{body}"


def table(columns: list[str], rows: list[list[str]], *, numeric: int | None = None, total: bool = False) -> str:
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


def figure(title: str, unit: str, drawing: str) -> str:
    return f"<figure><figcaption>{escape(title)}{f' [{unit}]' if unit else ''}</figcaption>{drawing}</figure>"


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


COLOURS = ("#2f6fb0", "#d08a3e", "#3f8f5b", "#a04a6f", "#6b5fb3", "#7f8a2d", "#3a9ba6", "#8a5a3c")


def scatter(points: Float[np.ndarray, "N 2"], group: Int[np.ndarray, " N"], names: list[str]) -> str:
    """Points as an SVG, coloured by group, to one scale in both directions; a legend below."""
    low, high = points.min(0), points.max(0)
    scale = 560 / max(float((high - low).max()), 1e-9)
    width, height = (high - low) * scale
    place = (points - low) * scale
    radius = float(np.clip(40 / len(points) ** 0.5, 2, 6))
    marks = "".join(
        f'<circle cx="{x:.1f}" cy="{height - y:.1f}" r="{radius:.1f}" fill="{COLOURS[g % len(COLOURS)]}" fill-opacity=".55"/>'
        for (x, y), g in zip(place, group.tolist(), strict=True)
    )
    legend = " ".join(
        f'<span style="color:{COLOURS[i % len(COLOURS)]}">●</span> {escape(name)}' for i, name in enumerate(names)
    )
    box = f"-6 -6 {width + 12:.0f} {height + 12:.0f}"
    drawing = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" width="{width + 12:.0f}">{marks}</svg>'
    return f"{drawing}<p class='note'>{legend}</p>"


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


def write_page(path: Path, text: str) -> None:
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
