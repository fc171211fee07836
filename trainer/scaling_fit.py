"""The law by which a loss falls with the size of the network and of the data: L = E + A/N^α + B/D^β.

    found = fit_scaling(parameters, frames, loss)         # N, D and L of finished runs
    found.law.at(80e6, 2e9), found.intervals["alpha"], found.held_out.inside

E is what no network and no data would take away. As in Chinchilla's third approach, log L is fitted under Huber's loss, which a few
bad runs do not bend, from many starts. Everything is scaled by the runs' own means first, so that the units of N, D and L do not
matter. The largest run is held out: what the others say of it, beside what it measured, is the test of the law.

Intervals are from fits to runs drawn again with replacement. They tell how unsure the law is if it holds; they do not tell whether it
does, and nothing of a loss that differs because other data, options or longer training would have been used.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from corpus.errors import MotionloomError
from trainer.scaling_law import NAMES, Law, Scaled, bounds, descend, log_loss, starts

_FEW = 3
"""Sizes, and amounts of data, that a curve takes at least."""


@dataclass(frozen=True)
class FitOptions:
    huber: float = 1e-3
    """Errors of log L beyond this count by their size, not its square: smaller lets outliers bend the law less."""
    powers: tuple[float, float] = (0.02, 2.0)
    """Least and most that α and β may be."""
    bootstraps: int = 200
    confidence: float = 0.9
    """Share of the bootstraps that an interval holds."""
    spare_points: int = 3
    """Pairs of size and data beyond the five numbers of the law, without which it is not fitted."""
    least_span: float = 4.0
    """The largest N, and the largest D, should be so many times the smallest."""
    seed: int = 0

    def __post_init__(self) -> None:
        low, high = self.powers
        if not (0 < low < high and self.huber > 0 and self.bootstraps >= 10 and 0 < self.confidence < 1):
            raise MotionloomError(
                f"{self}: powers should be 0 < least < most, huber above 0, bootstraps ≥ 10, confidence between 0 and 1."
            )


@dataclass(frozen=True)
class HeldOut:
    """The largest network on all data, which the law was not fitted to."""

    parameters: float
    frames: float
    measured: float
    """Its loss, the geometric mean where there were several runs."""
    predicted: float
    low: float
    high: float
    """Between these the measured loss was to be expected: as unsure as the law, and as runs scatter."""

    @property
    def inside(self) -> bool:
        return self.low <= self.measured <= self.high


@dataclass(frozen=True)
class ScalingFit:
    law: Law
    intervals: dict[str, tuple[float, float]]
    """Of each number of the law."""
    held_out: HeldOut | None
    scatter: float
    """Standard deviation of log L about the law."""
    notes: tuple[str, ...]
    """Numbers that lie at their bound."""
    options: FitOptions
    laws: tuple[Law, ...] = field(repr=False)
    """One for each bootstrap."""

    def interval_at(self, parameters: float, frames: float) -> tuple[float, float]:
        """Of the law's value there."""
        return _interval(np.array([law.at(parameters, frames) for law in self.laws]), self.options.confidence)

    def to_json(self) -> dict[str, Any]:
        held = self.held_out and {**asdict(self.held_out), "inside": self.held_out.inside}
        options = {name: value for name, value in asdict(self.options).items() if name != "spare_points"}
        return {"law": asdict(self.law), "intervals": self.intervals, "held_out": held, "scatter": self.scatter,
                "notes": self.notes, "options": options}  # fmt: skip


def fit_scaling(
    parameters: Float[np.ndarray, " R"],
    frames: Float[np.ndarray, " R"],
    loss: Float[np.ndarray, " R"],
    options: FitOptions = FitOptions(),
    *,
    hold_out: bool = True,
) -> ScalingFit:
    """Fit the law to runs, all but the largest unless told otherwise.

    Raises `MotionloomError`, with what is needed, where the runs are too few or too alike to tell five numbers.
    """
    runs = _checked(parameters, frames, loss)
    largest = (runs[0] == runs[0].max()) & (runs[1] == runs[1].max()) if hold_out else np.zeros(len(runs[0]), bool)
    if hold_out and not largest.any():
        raise MotionloomError("No run has both the largest network and all data: that is the one to be held out.")
    fitted = runs[:, ~largest]
    _refuse_too_few(fitted, options)
    scaled = Scaled.of(fitted)
    found = (descend(start, scaled, options.huber, options.powers) for start in starts(options.powers))
    best = min(found, key=lambda one: one[0])[1]
    error = scaled.loss - log_loss(best, scaled)[0]
    # Five numbers take the law nearer to the runs than the truth is.
    error *= np.sqrt(len(error) / (len(error) - len(NAMES)))
    random = np.random.default_rng(options.seed)
    drawn = (scaled.take(_drawn(fitted, random)) for _ in range(options.bootstraps))
    laws = tuple(scaled.law(descend(best, again, options.huber, options.powers)[1]) for again in drawn)
    intervals = {name: _interval(np.array([getattr(law, name) for law in laws]), options.confidence) for name in NAMES}
    law = scaled.law(best)
    held = _held_out(law, laws, runs[:, largest], error, random, options) if hold_out else None
    return ScalingFit(law, intervals, held, float(error.std()), _notes(best, options), options, laws)


def _drawn(runs: Float[np.ndarray, "3 R"], random: np.random.Generator) -> np.ndarray:
    """As many runs again, with replacement; of too few sizes or amounts no law could be told, so those are drawn anew."""
    count = runs.shape[1]
    while True:
        rows = random.integers(count, size=count)
        if all(len(np.unique(axis[rows])) >= _FEW for axis in runs[:2]):
            return rows


def _held_out(
    law: Law,
    laws: tuple[Law, ...],
    runs: Float[np.ndarray, "3 H"],
    error: Float[np.ndarray, " R"],
    random: np.random.Generator,
    options: FitOptions,
) -> HeldOut:
    parameters, frames = float(runs[0, 0]), float(runs[1, 0])
    # As many runs as were measured scatter about each bootstrap's law as the others did about theirs.
    scatter = random.choice(error, (len(laws), runs.shape[1])).mean(1)
    spread = np.array([other.at(parameters, frames) for other in laws]) * np.exp(scatter)
    measured = float(np.exp(np.log(runs[2]).mean()))
    return HeldOut(parameters, frames, measured, law.at(parameters, frames), *_interval(spread, options.confidence))


def _interval(values: Float[np.ndarray, " K"], confidence: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _checked(*columns: Float[np.ndarray, " R"]) -> Float[np.ndarray, "3 R"]:
    runs = [np.asarray(column, np.float64) for column in columns]
    if any(column.ndim != 1 or len(column) != len(runs[0]) for column in runs) or len(runs[0]) == 0:
        raise MotionloomError(f"N, D and L have shapes {[c.shape for c in runs]}; should be three rows of one length.")
    together = np.stack(runs)
    if not (np.isfinite(together) & (together > 0)).all():
        raise MotionloomError("N, D and L should all be finite and above 0; leave out runs that diverged.")
    return together


def _refuse_too_few(runs: Float[np.ndarray, "3 R"], options: FitOptions) -> None:
    """Say what is missing, all at once."""
    needed = []
    points, least = len(np.unique(runs[:2], axis=1).T), len(NAMES) + options.spare_points
    if points < least:
        needed.append(f"{least} pairs of size and data beside the one held out (there are {points})")
    for axis, name in zip(runs[:2], ("network sizes", "amounts of data"), strict=True):
        if len(np.unique(axis)) < _FEW:
            needed.append(f"{_FEW} {name} (there are {len(np.unique(axis))})")
        if axis.max() < options.least_span * axis.min():
            needed.append(
                f"{name} that span a factor of {options.least_span:g} (they span {axis.max() / axis.min():.3g})"
            )
    if needed:
        raise MotionloomError(f"Too few runs to fit a scaling law. It takes {'; '.join(needed)}.")


def _notes(x: Float[np.ndarray, " 5"], options: FitOptions) -> tuple[str, ...]:
    notes = []
    for name, value, (low, high) in zip(NAMES, x, bounds(options.powers), strict=True):
        if min(value - low, high - value) < 1e-6:
            notes.append(f"{name} lies at its bound: these runs do not tell it")
    return tuple(notes)
