"""Curves as an SVG: lines and dots over two axes, each linear or logarithmic. Nothing need be installed to draw or to see it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from jaxtyping import Float

COLOURS = ("#2f6fb0", "#c96e2a", "#1a7f4b", "#8a4fa3", "#b03a48", "#6b7280")
WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, BOTTOM = 64, 150, 28, 44
"""Room around the axes [px]; names of the curves stand on the right."""


@dataclass(frozen=True, eq=False)
class Curve:
    name: str
    """Stands beside the picture; curves without one do not."""
    x: Float[np.ndarray, " K"]
    y: Float[np.ndarray, " K"]
    colour: str
    dots: bool = False
    """Dots instead of a line."""
    dashed: bool = False
    low: Float[np.ndarray, " K"] | None = None
    """With `high`: an upright bar at each point."""
    high: Float[np.ndarray, " K"] | None = None


@dataclass(frozen=True)
class Axis:
    label: str
    logarithmic: bool = False


def draw_curves(curves: Sequence[Curve], x: Axis, y: Axis, *, title: str = "") -> str:
    """All curves to one scale; what is not finite, or not above 0 on a logarithmic axis, is left out."""
    curves = [_shown(curve, x, y) for curve in curves]
    across = _Scale.of([curve.x for curve in curves], x.logarithmic, LEFT, WIDTH - RIGHT)
    up = _Scale.of(
        [part for curve in curves for part in (curve.y, curve.low, curve.high)], y.logarithmic, HEIGHT - BOTTOM, TOP
    )
    parts = [_axes(across, up, x.label, y.label), *(_drawn(curve, across, up) for curve in curves)]
    names = [(curve.name, curve.colour) for curve in curves if curve.name]
    for row, (name, colour) in enumerate(names):
        parts.append(f'<text x="{WIDTH - RIGHT + 14}" y="{TOP + 8 + 18 * row}" fill="{colour}">{escape(name)}</text>')
    if title:
        parts.append(f'<text x="{LEFT}" y="16" font-weight="bold">{escape(title)}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'font-family="sans-serif" font-size="12"><rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


@dataclass(frozen=True)
class _Scale:
    """From numbers to pixels."""

    low: float
    high: float
    logarithmic: bool
    start_px: float
    stop_px: float

    @staticmethod
    def of(values: Sequence[np.ndarray | None], logarithmic: bool, start_px: float, stop_px: float) -> _Scale:
        every = np.concatenate([np.zeros(0), *(part for part in values if part is not None)])
        low, high = (float(every.min()), float(every.max())) if len(every) else (1.0, 2.0)
        if logarithmic:
            return _Scale(low / 1.1, high * 1.1, True, start_px, stop_px)
        room = 0.05 * (high - low) or 0.5
        return _Scale(low - room, high + room, False, start_px, stop_px)

    def __call__(self, value: float) -> float:
        low, high, value = (math.log(v) if self.logarithmic else v for v in (self.low, self.high, value))
        return self.start_px + (self.stop_px - self.start_px) * (value - low) / (high - low)

    def ticks(self) -> list[float]:
        """Round numbers, about six."""
        if self.logarithmic and self.high > 10 * self.low:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            for steps in ((1, 2, 5), (1, 3), (1,)):
                found = [m * 10.0**k for k in decades for m in steps if self.low <= m * 10.0**k <= self.high]
                if len(found) <= 6:
                    break
            return found[:: 1 + len(found) // 7]
        step = 10.0 ** math.floor(math.log10((self.high - self.low) / 2))
        step *= next(m for m in (1, 2, 5) if (self.high - self.low) / (m * step) <= 6 or m == 5)
        first = math.ceil(self.low / step)
        return [step * k for k in range(first, math.floor(self.high / step) + 1)]


def _shown(curve: Curve, x: Axis, y: Axis) -> Curve:
    held = np.isfinite(curve.x) & np.isfinite(curve.y)
    for axis, values in ((x, curve.x), (y, curve.y), (y, curve.low)):
        if axis.logarithmic and values is not None:
            held &= values > 0
    low, high = (None if side is None else side[held] for side in (curve.low, curve.high))
    return Curve(curve.name, curve.x[held], curve.y[held], curve.colour, curve.dots, curve.dashed, low, high)


def _drawn(curve: Curve, across: _Scale, up: _Scale) -> str:
    points = [(across(a), up(b)) for a, b in zip(curve.x, curve.y, strict=True)]
    parts = []
    if curve.low is not None and curve.high is not None:
        for (px, _), low, high in zip(points, curve.low, curve.high, strict=True):
            parts.append(f'<path d="M{px:.1f} {up(low):.1f}V{up(high):.1f}" stroke="{curve.colour}" stroke-width="2"/>')
    if curve.dots:
        parts += [f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3.5" fill="{curve.colour}"/>' for px, py in points]
    elif points:
        line = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
        dashes = ' stroke-dasharray="4 4"' if curve.dashed else ""
        parts.append(f'<polyline points="{line}" fill="none" stroke="{curve.colour}" stroke-width="1.6"{dashes}/>')
    return "".join(parts)


def _axes(across: _Scale, up: _Scale, x_label: str, y_label: str) -> str:
    left, right, top, bottom = LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM
    parts = [f'<path d="M{left} {top}V{bottom}H{right}" fill="none" stroke="#9aa3ad"/>']
    for tick in across.ticks():
        parts.append(f'<path d="M{across(tick):.1f} {top}V{bottom}" stroke="#e4e8ec"/>')
        parts.append(f'<text x="{across(tick):.1f}" y="{bottom + 16}" text-anchor="middle">{_number(tick)}</text>')
    for tick in up.ticks():
        parts.append(f'<path d="M{left} {up(tick):.1f}H{right}" stroke="#e4e8ec"/>')
        parts.append(f'<text x="{left - 6}" y="{up(tick) + 4:.1f}" text-anchor="end">{_number(tick)}</text>')
    middle = (top + bottom) / 2
    parts.append(f'<text x="{(left + right) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text>')
    parts.append(f'<text transform="translate(14 {middle}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>')
    return "".join(parts)


def _number(value: float) -> str:
    """As 0.02, 300, 5 k, 20 M."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"
