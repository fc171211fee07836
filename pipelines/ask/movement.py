"""What the motion is like: how fast, how high, on which feet, in which posture, at which limits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import polars as pl

from corpus.g1 import G1
from pipelines.ask.answer import Answer, part, said, share_of
from pipelines.ask.asked import Asked
from pipelines.ask.spread import bins, quantiles

SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)
CONTACTS = {
    "both_feet": "on both feet",
    "left_foot": "on the left alone",
    "right_foot": "on the right alone",
    "no_foot": "on neither",
}
POSTURES = {"standing": "standing", "crouching": "crouching", "leaning": "leaning", "lying": "lying"}
FLIGHT = 0.1
"""Shorter flights are steps of a run, or noise [s]."""
WORST = 20
"""Segments listed."""


@dataclass(frozen=True)
class _Measure:
    column: str
    unit: str
    title: str
    edges: tuple[float, ...]


_MEASURES = {
    "speed": _Measure("speed", "m/s", "The root's mean speed", (0.05, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5)),
    "yaw-rate": _Measure("yaw_rate", "rad/s", "The mean rate of turning", (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1, 1.5, 2, 3)),
    "height": _Measure("height", "m", "The pelvis's mean height", (0.1, 0.2, 0.35, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.9)),
}  # fmt: skip


def _spread(asked: Asked, name: str) -> Answer:
    """How a trait is spread over the hours."""
    measure = _MEASURES[name]
    rows = asked.kept("frames", measure.column)
    values, frames = rows[measure.column].to_numpy(), rows["frames"].to_numpy()
    table = bins(values, frames, measure.edges, asked.fps)
    found = quantiles(values, frames, SHARES)
    spread = pl.DataFrame({"share_of_hours": SHARES, f"below_{measure.column}": found})
    if not len(rows):
        return Answer("No segment is kept.", table, (), {"quantiles": spread})
    most = table.row(int(np.argmax(table["hours"].to_numpy())), named=True)
    line = (
        f"{measure.title} is {found[2]:.3g} {measure.unit} in the median hour, 90 % lie between {found[0]:.3g} and "
        f"{found[-1]:.3g}; most hours ({said(most['hours'])}, {part(most['share'])}) lie {_between(most, measure.unit)}."
    )
    notes = ("a segment counts as a whole, by its mean and its length",)
    return Answer(line, table, notes, {f"quantiles [{measure.unit}]": spread})


speed, yaw_rate, height = (partial(_spread, name=name) for name in _MEASURES)


def contacts(asked: Asked) -> Answer:
    """Time on both feet, on one, on neither."""
    return _modes(asked, CONTACTS, "mode", ("on neither: in the air, or sitting, kneeling, lying",))


def posture(asked: Asked) -> Answer:
    """Time standing, crouching, leaning, lying."""
    notes = (
        "standing: the pelvis upright (45°) and above 0.6 m; crouching: upright, lower; leaning: tilted, above 0.35 m; lying: lower",
    )
    return _modes(asked, POSTURES, "posture", notes)


def airborne(asked: Asked) -> Answer:
    """Flights: the longest of every segment."""
    rows = asked.kept("frames", "airborne_s", "owner")
    values, frames = rows["airborne_s"].fill_null(0).to_numpy(), rows["frames"].to_numpy()
    table = bins(values, frames, (FLIGHT, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0), asked.fps)
    table = table.rename({"from": "longest_flight_from_s", "to": "to_s"})
    flying = rows.filter(pl.col("airborne_s") >= FLIGHT)
    flown = asked.hours(int(flying["frames"].sum()))
    share = share_of(flown, asked.hours(int(rows["frames"].sum())))
    longest = float(values.max(initial=0.0))
    line = (
        f"{len(flying):,} of {len(rows):,} segments ({said(flown)}, {part(share)} of the hours) leave "
        f"the ground for {FLIGHT:g} s or longer; the longest flight takes {longest:.2f} s."
    )
    sources = asked.by_owner(flying.group_by("owner").agg(pl.len().alias("segments"), pl.col("frames").sum()))
    hours = pl.col("frames").sum() / asked.fps / 3600
    sources = sources.group_by("source").agg(pl.col("segments").sum(), hours=hours).sort("source")
    notes = (
        "off the ground: no part of the robot within 5 cm of the floor; of each segment the longest flight is known",
    )
    return Answer(line, table, notes, {f"segments with flights of {FLIGHT:g} s or longer": sources})


def saturation(asked: Asked) -> Answer:
    """Time that joints spend at an end of their range."""
    rows = asked.kept("number", "worst", "worst_joint")
    owner = asked.owners["owner"].to_numpy()
    frames, total = (asked.sums.take(name, owner).sum(0) for name in ("at_limit", "frames"))
    names = G1.joint_names if len(frames) == len(G1.joint_names) else [f"joint {i}" for i in range(len(frames))]
    table = pl.DataFrame({"joint": names, "hours": frames / asked.fps / 3600})
    table = table.with_columns(share=pl.col("hours") / max(asked.hours(total), 1e-12)).sort(
        "hours", "joint", descending=[True, False]
    )
    if not total:
        return Answer("No segment is kept.", table)
    first, often = table.row(0, named=True), int((rows["worst"] > 0.5).sum())
    line = (
        f"{first['joint']} stands at its limit most: {said(first['hours'])} of {said(asked.hours(total))} ({part(first['share'])}); "
        f"{often:,} segments have a joint there for more than half of their time."
    )
    return Answer(line, table, (), {"segments longest at a limit": _worst(asked, rows)})


def _modes(asked: Asked, modes: dict[str, str], title: str, notes: tuple[str, ...]) -> Answer:
    """Hours in each of several modes, whose columns are shares of a segment's frames."""
    owner = asked.owners["owner"].to_numpy()
    sums = {name: asked.hours(1) * asked.sums.take(name, owner) for name in ("frames", *modes)}
    by_source = (
        pl.DataFrame({"source": asked.owners["source"], **sums}).group_by("source").agg(pl.all().sum()).sort("source")
    )
    whole, total = float(by_source["frames"].sum()), [float(by_source[name].sum()) for name in modes]
    table = pl.DataFrame({title: list(modes), "hours": total, "share": [share_of(hours, whole) for hours in total]})
    told = ", ".join(f"{part(share)} {words}" for share, words in zip(table["share"], modes.values(), strict=True))
    by_source = by_source.drop("frames")
    return Answer(f"Of {said(whole)}: {told}.", table, notes, {"hours by source": by_source})


def _worst(asked: Asked, rows: pl.DataFrame) -> pl.DataFrame:
    top = rows.filter(pl.col("worst") > 0).top_k(WORST, by="worst").sort("worst", "number", descending=[True, False])
    joints = [G1.joint_names[number] for number in top["worst_joint"]]
    told = asked.places(top["number"].to_numpy())
    return told.with_columns(joint=pl.Series(joints, dtype=pl.String), share=top["worst"])


def _between(row: dict[str, float | None], unit: str) -> str:
    low, high = row["from"], row["to"]
    if low is None:
        return f"below {high:g} {unit}"
    return f"above {low:g} {unit}" if high is None else f"between {low:g} and {high:g} {unit}"
