"""What an index holds, style by style: which poses and speeds a planner can be asked for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from corpus.motion import CORPUS_FPS
from deploy.planner.features import COLUMNS, HORIZON
from deploy.planner.index import Index

RANGE = (5, 95)
"""Percentiles that are called a range."""


@dataclass(frozen=True)
class Style:
    name: str
    motions: int
    seconds: float
    speed: tuple[float, float]
    """Over a second, `RANGE` of the frames [m/s]."""
    height: tuple[float, float]
    """Of the pelvis [m]."""


def describe(index: Index) -> list[Style]:
    """All styles, the longest first."""
    rows = np.sort(np.unique(index.order))
    raw = index.raw(index.features[rows])
    speed = np.hypot(*raw[:, COLUMNS["path"]][:, -2:].T) * CORPUS_FPS / HORIZON
    height, motion = raw[:, COLUMNS["height"]][:, 0], index.motion_of_row[rows]
    told = []
    for name, of_style in zip(index.style_names, index.styles, strict=True):
        mask = of_style[motion]
        seconds = float(index.motions[of_style, 1].sum()) / CORPUS_FPS
        told.append(Style(name, int(of_style.sum()), seconds, _range(speed[mask]), _range(height[mask])))
    return sorted(told, key=lambda style: (-style.seconds, style.name))


def _range(values: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(values, RANGE)
    return float(low), float(high)
