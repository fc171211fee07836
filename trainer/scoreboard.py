"""What the referee saw, summed up: success and errors of several policies, overall and by cluster, source and label, with intervals.

Intervals are bootstrapped over recordings (segments where a recording is not known), never over frames or starts: what varies from
one recording to the next is what another test set would change. Two policies' intervals come from the same draws.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from corpus.durable import replace_file
from corpus.errors import MotionloomError
from trainer.metrics import METRICS
from trainer.rules import RULES

GROUPS = ("cluster", "source", "label")
SUCCESSES = tuple(f"{rule}_success" for rule in RULES)
MEASURES = (*SUCCESSES, "completed", *METRICS, *(f"{name}_whole" for name in METRICS))
"""Columns of an outcome that are summed up; `completed` is the share of the frames done before `trunk` says failed."""
SCORE_COLUMNS = {
    **dict.fromkeys(("policy", "group", "value", "measure"), pl.String),
    **dict.fromkeys(("mean", "low", "high"), pl.Float64),
    **dict.fromkeys(("units", "starts"), pl.Int64),
}
MOST_VALUES = 30
"""Of a group that tables to read show."""


@dataclass(frozen=True)
class ScoreOptions:
    replicates: int = 1000
    """Bootstrap draws; more make the intervals' ends surer."""
    confidence: float = 0.95
    """Of the intervals."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.replicates >= 100 and 0 < self.confidence < 1):
            raise MotionloomError(
                "scoreboard: replicates should be at least 100 and confidence lie between 0 and 1; got "
                f"{self.replicates} and {self.confidence:g}."
            )


def scoreboard(outcomes: pl.DataFrame, options: ScoreOptions = ScoreOptions()) -> pl.DataFrame:
    """A row per policy, group and measure: policy, group ("overall", "cluster", …), value, measure, mean, low, high, units, starts.

    The mean is over starts. Where a measure could not be told (too few frames) the start is left out of it, and not counted in
    `starts`. With fewer than two units there is no interval. Where all units succeed, or none, a bootstrap would show no doubt at
    all: the exact binomial interval over units stands there.
    """
    rows = [
        (policy, group, value, measure, *figure)
        for group, value, own in _groups(outcomes)
        for policy in outcomes["policy"].unique(maintain_order=True)
        for measure, figure in _figures(own.filter(pl.col("policy") == policy), options).items()
    ]
    return pl.DataFrame(rows, SCORE_COLUMNS, orient="row")


def as_json(outcomes: pl.DataFrame, scores: pl.DataFrame, about: Mapping[str, Any]) -> str:
    """Everything: how it was measured, the scores, and a row per start. No times, so that equal results are equal bytes."""
    found = {"format": 1, "about": about, "scores": _rows(scores), "outcomes": _rows(outcomes)}
    return json.dumps(found, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"


def write_json(path: Path, outcomes: pl.DataFrame, scores: pl.DataFrame, about: Mapping[str, Any]) -> None:
    text = as_json(outcomes, scores, about)
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def as_text(scores: pl.DataFrame, *, markdown: bool = False) -> str:
    """Tables to read: all measures overall, of the executed part and of the whole; success and MPKPE by group, of the values with
    most starts."""
    form = _markdown if markdown else _plain
    executed, whole = _overall(scores, ""), _overall(scores, "_whole")
    if (
        not markdown
    ):  # policies side by side, a measure a line: a terminal is narrower than twelve columns with intervals
        executed, whole = (list(map(list, zip(*table, strict=True))) for table in (executed, whole))
    tables = [
        form("Overall, until the robot failed (trunk)", executed),
        form("Overall, the whole clip, though the robot may lie", whole),
    ]
    for group in GROUPS:
        own = scores.filter(pl.col("group") == group)
        known = own.group_by("value").agg(pl.col("starts").max()).sort(["starts", "value"], descending=[True, False])
        if len(known) > 1:
            shown = own.filter(pl.col("value").is_in(known["value"].head(MOST_VALUES).to_list()))
            part = "" if len(known) <= MOST_VALUES else f", {MOST_VALUES} of {len(known)}"
            tables.append(form(f"By {group}{part}", _by_group(shown, group)))
    return "\n\n".join(tables) + "\n"


def _groups(outcomes: pl.DataFrame) -> Iterator[tuple[str, str, pl.DataFrame]]:
    yield "overall", "", outcomes
    for group in GROUPS:
        for value in sorted(outcomes[group].drop_nulls().unique()):
            yield group, str(value), outcomes.filter(pl.col(group) == value)


def _figures(
    rows: pl.DataFrame, options: ScoreOptions
) -> dict[str, tuple[float | None, float | None, float | None, int, int]]:
    """Mean, low, high, units and starts of every measure."""
    if rows.is_empty():
        return {}
    unit = _units(rows)
    values = rows.select(pl.col(MEASURES).cast(pl.Float64)).to_numpy()
    known = np.isfinite(values)
    total, count = np.zeros((2, unit.max() + 1, len(MEASURES)))
    np.add.at(total, unit, np.where(known, values, 0))
    np.add.at(count, unit, known)
    low, high = _bootstrap(total, count, options)
    found = {}
    for i, measure in enumerate(MEASURES):
        units, starts = int((count[:, i] > 0).sum()), int(count[:, i].sum())
        mean = total[:, i].sum() / starts if starts else math.nan
        ends = (low[i], high[i]) if units > 1 else (math.nan, math.nan)
        if measure in SUCCESSES and units > 1 and mean in (0, 1):
            least = ((1 - options.confidence) / 2) ** (1 / units)  # Clopper and Pearson's, at the end of the scale
            ends = (least, 1.0) if mean else (0.0, 1 - least)
        found[measure] = (*(None if math.isnan(x) else float(x) for x in (mean, *ends)), units, starts)
    return found


def _units(rows: pl.DataFrame) -> Int[np.ndarray, " N"]:
    """For each start, the number of the recording it is of; of its segment where none is named."""
    segment = pl.lit("segment ") + pl.col("segment").cast(pl.String)
    told = pl.when(pl.col("recording").fill_null("") != "").then(
        pl.col("source").fill_null("") + "/" + pl.col("recording")
    )
    names = rows.select(told.otherwise(segment).alias("unit"))["unit"].to_numpy()
    return np.unique(names, return_inverse=True)[1]


def _bootstrap(
    total: Float[np.ndarray, "U M"], count: Float[np.ndarray, "U M"], options: ScoreOptions
) -> Float[np.ndarray, "2 M"]:
    """Low and high ends of the means when units are drawn with replacement; NaN where no draw tells one."""
    rng = np.random.default_rng(options.seed)
    drawn = rng.multinomial(len(total), np.full(len(total), 1 / len(total)), options.replicates).astype(float)
    with np.errstate(invalid="ignore"):
        means = (drawn @ total) / (drawn @ count)
    tail = 50 * (1 - options.confidence)
    return np.array(
        [np.percentile(known, [tail, 100 - tail]) if len(known := m[np.isfinite(m)]) else [np.nan] * 2 for m in means.T]
    ).T


def _overall(scores: pl.DataFrame, suffix: str) -> list[list[str]]:
    shares = () if suffix else (*SUCCESSES, "completed")
    keys = [*shares, *(f"{name}{suffix}" for name in METRICS), "units", "starts"]
    cells = _cells(scores.filter(pl.col("group") == "overall"))
    header = ["policy", *shares, *METRICS, "recordings", "starts"]
    return [header, *([policy, *(own[key] for key in keys)] for (policy, _), own in cells.items())]


def _by_group(scores: pl.DataFrame, group: str) -> list[list[str]]:
    names = (*SUCCESSES, "mpkpe_mm")
    rows = [
        [value, policy, *(own[name] for name in names), own["units"], own["starts"]]
        for (policy, value), own in _cells(scores).items()
    ]
    return [[group, "policy", *names, "recordings", "starts"], *rows]


def _cells(scores: pl.DataFrame) -> dict[tuple[str, str], dict[str, str]]:
    """Of each policy and value of the group, what stands in a table."""
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for row in scores.iter_rows(named=True):
        own = cells.setdefault((row["policy"], row["value"]), {})
        own[row["measure"]] = _figure(row)
        if row["measure"] == SUCCESSES[0]:
            own |= {"units": str(row["units"]), "starts": str(row["starts"])}
    return cells


def _figure(row: Mapping[str, Any]) -> str:
    if row["mean"] is None:
        return "–"
    share = row["measure"] in SUCCESSES or row["measure"] == "completed"

    def told(x: float) -> str:
        return f"{100 * x:.1f} %" if share else f"{x:.4g}"

    return told(row["mean"]) + ("" if row["low"] is None else f" [{told(row['low'])}, {told(row['high'])}]")


def _markdown(title: str, rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([f"### {title}", "", lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def _plain(title: str, rows: list[list[str]]) -> str:
    wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, wide, strict=True)).rstrip() for row in rows]
    return "\n".join([title, "=" * len(title), *lines])


def _rows(table: pl.DataFrame) -> list[dict[str, Any]]:
    finite = pl.when(pl.selectors.float().is_finite()).then(pl.selectors.float()).otherwise(None)
    return table.with_columns(finite).to_dicts()
