"""What one condition gains on others, by outcomes per cluster of paired runs over a few seeds: intervals, a table, and what may be said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from rich.console import Console
from rich.table import Table
from scipy import stats

Outcome = dict[str, list[float]]
"""By measure, a number for each cluster."""
Interval = tuple[float, float, float]
"""Mean, low and high end."""
WAYS = {
    "worst_tenth": "worst tenth",
    "rarest_tenth": "rarest tenth",
    "clusters": "all clusters alike",
    "by_size": "all by size",
}
"""How clusters are summed up. The worst tenth is found anew in every run; the rarest are the same in all."""


@dataclass(frozen=True)
class Measure:
    name: str
    unit: str
    better: int
    """1 where more is better, −1 where less is."""
    digits: int


@dataclass(frozen=True)
class Question:
    """What is compared with what."""

    candidate: str
    others: tuple[str, ...]
    measures: tuple[Measure, ...]
    """The first one's worst tenth is what is asked for; the rest is told beside it."""
    size: Float[np.ndarray, " K"]
    """How much of the corpus each cluster is."""

    @property
    def conditions(self) -> tuple[str, ...]:
        return (*self.others[:1], self.candidate, *self.others[1:])


def figures(outcome: Mapping[tuple[str, int], Outcome], asked: Question) -> dict[str, Any]:
    """Of outcomes by condition and seed: intervals of each condition, and of the candidate's gain on the others, seed by seed."""
    seeds = sorted({seed for _, seed in outcome})
    found: dict[str, Any] = {"seeds": len(seeds), "clusters": len(asked.size), "worst_tenth_is": tenth(len(asked.size))}
    for measure in asked.measures:
        for way in WAYS:
            of = {
                name: np.array([summed(way, measure, outcome[name, seed][measure.name], asked.size) for seed in seeds])
                for name in asked.conditions
            }
            gain = {f"gain_on_{name}": measure.better * (of[asked.candidate] - of[name]) for name in asked.others}
            found[f"{measure.name}.{way}"] = {name: interval(values) for name, values in (of | gain).items()}
    return found | {"says": {other: statement(found, asked, other) for other in asked.others}}


def summed(way: str, measure: Measure, of_clusters: Sequence[float], size: Float[np.ndarray, " K"]) -> float:
    """One number of all clusters' numbers."""
    values = np.array(of_clusters)
    chosen = {
        "worst_tenth": np.argsort(measure.better * values, kind="stable")[: tenth(len(size))],
        "rarest_tenth": np.argsort(size, kind="stable")[: tenth(len(size))],
    }.get(way, np.arange(len(size)))
    return float(np.average(values[chosen], weights=size[chosen] if way == "by_size" else None))


def tenth(clusters: int) -> int:
    """Of so many clusters; one at least."""
    return max(1, round(clusters / 10))


def interval(values: Float[np.ndarray, " N"]) -> Interval:
    """Mean and the ends of its 95 % interval by Student's t, to four digits."""
    mean, half = values.mean(), stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return float(f"{mean:.4g}"), float(f"{mean - half:.4g}"), float(f"{mean + half:.4g}")


def statement(found: Mapping[str, Any], asked: Question, other: str) -> str:
    """What the interval of the gain in the worst tenth allows to say."""
    measure = asked.measures[0]
    gain = found[f"{measure.name}.worst_tenth"][f"gain_on_{other}"]
    says = {1: "is better", -1: "is worse", 0: "no difference could be shown"}[sign(gain)]
    which = f"worst {found['worst_tenth_is']} of {found['clusters']} clusters by {measure.name}"
    return f"{asked.candidate} against {other}, {which}: {says} (gain {told(gain, measure)})"


def sign(gain: Interval) -> int:
    """1 or −1 where the whole interval lies on one side of 0."""
    return int(gain[1] > 0) - int(gain[2] < 0)


def told(gain: Interval, measure: Measure) -> str:
    mean, low, high = (f"{number:+.{measure.digits}f}" for number in gain)
    return f"{mean} [{low}, {high}]"


def show(found: Mapping[str, Any], asked: Question, about: str) -> None:
    """Table and statements."""
    console = Console(width=150, highlight=False, markup=False)
    table = Table(box=None, pad_edge=False)
    for column in ("measure, over", *asked.conditions, *(f"gain on {other}" for other in asked.others)):
        table.add_column(column, justify="left" if column == "measure, over" else "right")
    for measure in asked.measures:
        for way, name in WAYS.items():
            row = found[f"{measure.name}.{way}"]
            means = [f"{row[condition][0]:.{measure.digits}f}" for condition in asked.conditions]
            gains = [told(row[f"gain_on_{other}"], measure) for other in asked.others]
            unit = f" [{measure.unit}]" if measure.unit else ""
            table.add_row(f"{measure.name}{unit}, {name}", *means, *gains)
    console.print(about)
    console.print(
        f"{found['seeds']} seeds; a gain is positive where {asked.candidate} is better, with its 95 % interval. "
        "Rows below the first are no tests: many intervals, some will miss 0 by chance."
    )
    console.print(table)
    for says in found["says"].values():
        console.print(says)
