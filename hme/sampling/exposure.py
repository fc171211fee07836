"""What a plan will show: windows and epochs of segments, clusters and sources, how evenly, and where too often.

An epoch of some frames is as many windows as hold that many frames. Everything is expected; what was drawn is counted by
`corpus.loading.sampler.exposure`, and can be put in its place.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from corpus.errors import MotionloomError
from corpus.loading.sampling_plan import Plan, window_count

log = logging.getLogger(__name__)

QUANTILES = (0.05, 0.5, 0.95, 0.99, 1.0)


@dataclass(frozen=True)
class Exposure:
    """Windows of each segment that so many draws give."""

    windows: Float[np.ndarray, " S"]
    frames: Int[np.ndarray, " S"]
    """Of each segment."""
    window: int
    """Frames of a window."""

    @classmethod
    def expected(cls, plan: Plan, frames: Int[np.ndarray, " S"], window: int, draws: float) -> Exposure:
        """Of that many windows drawn by a plan."""
        weights = plan.weights * (frames >= window)
        if not weights.sum() > 0:
            raise MotionloomError(f"No segment with a weight is {window} frames long.")
        return cls(draws * weights / weights.sum(), frames, window)

    @property
    def epochs(self) -> Float[np.ndarray, " S"]:
        """How often each segment's frames are seen."""
        return self.windows * self.window / self.frames

    @property
    def mean_epochs(self) -> float:
        """How often a frame of the corpus is seen on average."""
        return float(self.windows.sum() * self.window / self.frames.sum())

    def by_group(self, group: Int[np.ndarray, " S"], count: int | None = None) -> GroupExposure:
        """The same of groups, numbered from 0; segments of a negative number are in none."""
        inside = group >= 0
        count = int(group.max(initial=-1)) + 1 if count is None else count
        windows, frames, natural, segments = (
            np.bincount(group[inside], numbers[inside], count)
            for numbers in (self.windows, self.frames, window_count(self.frames, self.window), np.ones(len(group)))
        )
        return GroupExposure(windows, frames, natural, segments.astype(np.int64), self.window)


@dataclass(frozen=True)
class GroupExposure:
    """Windows of each group that so many draws give."""

    windows: Float[np.ndarray, " G"]
    frames: Float[np.ndarray, " G"]
    natural: Float[np.ndarray, " G"]
    """Windows that the group holds."""
    segments: Int[np.ndarray, " G"]
    window: int

    @property
    def epochs(self) -> Float[np.ndarray, " G"]:
        """How often the frames of each group are seen; 0 where it has none."""
        return self.windows * self.window / np.maximum(self.frames, 1)

    @property
    def gini(self) -> float:
        """Of the frames drawn per group, over groups that hold a window: 0 where all come alike, 1 where one takes all."""
        return gini(self.windows[self.natural > 0])

    def table(self, names: Sequence[str], fps: float) -> pl.DataFrame:
        """A row per group that has segments, by name: hours held, shares held and drawn, windows, epochs."""
        total, natural = max(self.windows.sum(), 1e-300), max(self.natural.sum(), 1)
        rows = pl.DataFrame(
            {
                "name": list(names),
                "segments": self.segments,
                "hours": self.frames / fps / 3600,
                "share_natural": self.natural / natural,
                "share": self.windows / total,
                "windows": self.windows,
                "epochs": self.epochs,
            }
        )
        return rows.filter(pl.col("segments") > 0)


@dataclass(frozen=True)
class Tail:
    """Groups that are seen more often than they should be, and what would keep all within the limit."""

    groups: Int[np.ndarray, " T"]
    """The most seen first."""
    epochs: Float[np.ndarray, " T"]
    limit: float
    """Epochs."""
    mean_epochs: float
    tau: float | None
    """The least cluster temperature that would do; None where none would."""
    cap: float | None
    """The cap on windows that would do; None where none would."""

    def __str__(self) -> str:
        named = ", ".join(f"{g} ({n:,.3g})" for g, n in zip(self.groups[:8].tolist(), self.epochs[:8], strict=True))
        more = f" and {len(self.groups) - 8} more" if len(self.groups) > 8 else ""
        ways = [
            None if self.tau is None else f"tau {self.tau:.2f}",
            # Rounded down: what is named does avoid it.
            None if self.cap is None else f"a cap of {np.floor(self.cap * 100) / 100:g}",
        ]
        advice = " or ".join(filter(None, ways)) or "only fewer steps"
        return (
            f"{len(self.groups)} clusters would be seen more than {self.limit:,.3g} epochs (the corpus {self.mean_epochs:,.3g} on "
            f"average): {named}{more}; {advice} would avoid it"
        )


def overexposed(groups: GroupExposure, *, most_ratio: float = 10.0, most_epochs: float = np.inf) -> Tail | None:
    """Groups seen more than `most_ratio` times as often as the mean, or for more than `most_epochs` epochs; None if none."""
    if not most_ratio >= 1:
        raise MotionloomError(f"most_ratio {most_ratio}: should be at least 1, for some group is above the mean.")
    mean = float(groups.windows.sum() * groups.window / max(groups.frames.sum(), 1))
    limit = min(most_ratio * mean, most_epochs)
    epochs = groups.epochs
    over = np.flatnonzero(epochs > limit * (1 + 1e-9))
    if not len(over):
        return None
    over = over[np.argsort(-epochs[over], kind="stable")]
    return Tail(over, epochs[over], limit, mean, _least_tau(groups, limit), _cap_within(groups, limit))


def gini(amounts: Float[np.ndarray, " G"]) -> float:
    """Gini coefficient: half the mean absolute difference between two groups, over the mean."""
    amounts = np.sort(np.asarray(amounts, float))
    total, count = amounts.sum(), len(amounts)
    if not total > 0:
        return 0.0
    return float((2 * np.arange(1, count + 1) - count - 1) @ amounts / (count * total))


def effective_share(weights: Float[np.ndarray, " N"], windows: Float[np.ndarray, " N"]) -> float:
    """Effective sample size as a share of the windows: how many drawn equally often would make an average as sure (Kish).

    Both are of segments, or of bins: how often they are drawn, and how many windows they hold.
    """
    drawn = np.flatnonzero(windows > 0)
    share, count = weights[drawn] / weights[drawn].sum(), windows[drawn]
    return float(1 / (share**2 / count).sum() / count.sum())


def _least_tau(groups: GroupExposure, limit: float) -> float | None:
    """The least temperature, in hundredths, at which no group is seen for more epochs than the limit."""
    held = groups.natural > 0
    natural, frames = groups.natural[held], groups.frames[held]
    for tau in np.linspace(0, 1, 101):
        share = natural**tau / (natural**tau).sum()
        if (groups.windows.sum() * groups.window * share / frames).max() <= limit:
            return float(tau)
    return None


def _cap_within(groups: GroupExposure, limit: float) -> float | None:
    """How many times as often as the mean a window may come, so that no group is seen for more epochs than the limit."""
    held = groups.natural > 0
    mean = groups.windows.sum() * groups.window / groups.natural.sum()
    # Groups of short segments hold more frames per window than others, and so are seen for fewer epochs.
    cap = limit / mean * float((groups.frames[held] / groups.natural[held]).min())
    return cap if cap >= 1 else None
