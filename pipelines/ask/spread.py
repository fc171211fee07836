"""How a measure is spread over hours: quantiles and bins, each segment weighed by its length."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from jaxtyping import Float, Int

DROPPED_BITS = 10
"""Of the 23 after the point of a single: quantiles are told to 1/8,192 of their value, without sorting."""


def quantiles(values: Float[np.ndarray, " S"], weights: Int[np.ndarray, " S"], shares: Sequence[float]) -> list[float]:
    """Values below which these shares of the weight lie; NaN of nothing."""
    if not len(values):
        return [np.nan] * len(shares)
    # The bits of positive singles, read as whole numbers, are in the order of the singles; of negative ones the other way round.
    bits = np.ascontiguousarray(values, np.float32).view(np.int32) >> DROPPED_BITS
    place = np.where(bits < 0, ~bits ^ np.int32(-1 << (31 - DROPPED_BITS)), bits)
    least = int(place.min())
    below = np.cumsum(np.bincount(place - least, weights))
    found = np.searchsorted(below, np.array(shares) * below[-1]).clip(0, len(below) - 1)
    # The middle of those that share the bits that were kept.
    return [float(np.median(values[place - least == number])) for number in found]


def bins(
    values: Float[np.ndarray, " S"], frames: Int[np.ndarray, " S"], edges: Sequence[float], fps: float
) -> pl.DataFrame:
    """`from` (within) and `to` (beyond), `segments`, `hours`, `share`; the last bin has no end, the first no beginning."""
    place = np.searchsorted(edges, values, side="right")
    count = len(edges) + 1
    hours = np.bincount(place, frames, count) / fps / 3600
    return pl.DataFrame({
        "from": [None, *edges], "to": [*edges, None],
        "segments": np.bincount(place, minlength=count), "hours": hours, "share": hours / max(hours.sum(), 1e-12),
    }, schema_overrides={"from": pl.Float64, "to": pl.Float64})  # fmt: skip
