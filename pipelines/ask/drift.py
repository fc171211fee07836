"""What changed between two corpora, or two versions of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float

from corpus.errors import MotionloomError
from corpus.schema import QUALITY
from hme.traits import TRAITS
from pipelines.ask.answer import Answer, said
from pipelines.ask.asked import Asked

SAMPLE = 10_000
"""Segments of each corpus whose measures are compared."""
DECILES = np.arange(0.1, 1, 0.1)
LEAST_SHARE = 1e-4
"""An empty bin counts as so much: the population stability index has the logarithm of its share."""
FALSE_ALARM = 0.01
"""How likely it is that any measure at all is called different by chance, were segments drawn one by one."""
LISTED = 20


def drift(asked: Asked, *, against: Path | str) -> Answer:
    """Clips that this corpus has and the other has not, and the other way round; measures that are spread differently."""
    other = asked.beside(against)
    clips = _clips(asked, other)
    table, notes = _measures(asked, other)
    changed = clips.row(by_predicate=pl.col("what") == "in both", named=True)
    added, removed = (clips.row(by_predicate=pl.col("what") == what, named=True) for what in ("added", "removed"))
    line = (
        f"Against {other.corpus.path}: {added['clips']:,} clips ({said(added['hours'])} kept) were added, {removed['clips']:,} "
        f"({said(removed['hours'])}) removed; of {changed['clips']:,} in both, {changed['changed']:,} kept another number of frames."
    )
    beyond = table.filter(pl.col("ks") > pl.col("ks_by_chance"))
    if len(beyond):
        first = beyond.row(0, named=True)
        line += f" {first['measure']} is spread most differently: KS {first['ks']:.3f}, median {first['median_there']:.4g} → {first['median']:.4g}."
    elif len(table):
        line += " No measure is spread differently beyond chance."
    notes = [
        *notes,
        f"KS above `ks_by_chance`, for any measure at all, comes by chance once in {1 / FALSE_ALARM:g} times; a stability index (psi) "
        "above 0.25 is commonly called a shift",
    ]
    clusters, said_of_them = _clusters(asked, other)
    return Answer(line, table, (*notes, *said_of_them), {"clips": clips, **clusters})


def _clips(asked: Asked, other: Asked) -> pl.DataFrame:
    here, there = (_keys(one) for one in (asked, other))
    both = here.join(there, on="key", suffix="_there")
    held, there_held = here["frames_kept"].sum(), there["frames_kept"].sum()
    shared = both.select(pl.col("frames_kept", "frames_kept_there").sum()).row(0)
    changed = both.filter(pl.col("frames_kept") != pl.col("frames_kept_there")).height
    rows = [
        ("added", len(here) - len(both), asked.hours(held - shared[0]), None),
        ("removed", len(there) - len(both), other.hours(there_held - shared[1]), None),
        ("in both", len(both), asked.hours(shared[0]), changed),
    ]
    return pl.DataFrame(
        rows, {"what": pl.String, "clips": pl.Int64, "hours": pl.Float64, "changed": pl.Int64}, orient="row"
    )


def _keys(asked: Asked) -> pl.DataFrame:
    """`key` of the clips in scope, sorted, and `frames_kept` of each."""
    clips = asked.keys
    table = pl.DataFrame({name: clips.column(name) for name in ("key", "frames_kept")})
    mine = asked.chosen(clips.column("owner"))
    return (table if mine is None else table.filter(pl.Series(mine))).set_sorted("key")


def _measures(asked: Asked, other: Asked) -> tuple[pl.DataFrame, list[str]]:
    """A row per measure, the most different first."""
    names: list[str] = [*QUALITY]
    notes: list[str] = []
    try:
        for one in (asked, other):
            one.traits  # noqa: B018  raises where there are none
        names += TRAITS
    except MotionloomError as error:
        notes.append(f"traits are not compared: {error}")
    here, there = (one.sample(names, SAMPLE) for one in (asked, other))
    values = {name: (here[name].to_numpy(), there[name].to_numpy()) for name in names}
    rows = [row for name, two in values.items() if (row := _compare(name, *two, measures=len(names)))]
    numbers = ("ks", "ks_by_chance", "psi", "median", "median_there")
    table = pl.DataFrame(rows, {"measure": pl.String, **dict.fromkeys(numbers, pl.Float64)})
    notes.append(f"measures by samples of {len(here):,} and {len(there):,} segments")
    return table.sort("ks", "measure", descending=[True, False]), notes


def _compare(
    name: str, here: Float[np.ndarray, " n"], there: Float[np.ndarray, " m"], *, measures: int
) -> dict[str, Any] | None:
    """As one of so many measures; None where one side has no value."""
    here, there = (np.sort(values[~np.isnan(values)]) for values in (here, there))
    if not len(here) or not len(there):
        return None
    return {
        "measure": name, "ks": ks_distance(here, there), "ks_by_chance": ks_by_chance(len(here), len(there), measures),
        "psi": stability_index(here, there), "median": float(np.median(here)), "median_there": float(np.median(there)),
    }  # fmt: skip


def ks_distance(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " m"]) -> float:
    """Largest distance of the two distribution functions; both are sorted."""
    both = np.concatenate([a, b])
    apart = np.searchsorted(a, both, side="right") / len(a) - np.searchsorted(b, both, side="right") / len(b)
    return float(np.abs(apart).max())


def ks_by_chance(n: int, m: int, measures: int) -> float:
    """The distance that none of so many measures exceeds by chance, but for `FALSE_ALARM` (Smirnov's limit, and Bonferroni's)."""
    return float(np.sqrt(-np.log(FALSE_ALARM / 2 / measures) / 2 * (1 / n + 1 / m)))


def stability_index(new: Float[np.ndarray, " n"], old: Float[np.ndarray, " m"]) -> float:
    """Population stability index over the old one's deciles: Σ (p − q) ln(p / q)."""
    edges = np.unique(np.quantile(old, DECILES))
    p, q = (
        np.diff(np.searchsorted(np.sort(values), edges, side="right"), prepend=0, append=len(values)) / len(values)
        for values in (new, old)
    )
    p, q = np.maximum(p, LEAST_SHARE), np.maximum(q, LEAST_SHARE)
    return float(((p - q) * np.log(p / q)).sum())


def _clusters(asked: Asked, other: Asked) -> tuple[dict[str, pl.DataFrame], tuple[str, ...]]:
    """Shares of the hours by cluster, the most changed first, where both have clusters by the same centres."""
    if not (asked.has("clusters") and other.has("clusters")):
        return {}, ("clusters are not compared: both corpora need them (`loom cluster`)",)
    if asked.about("clusters").get("clusters") != other.about("clusters").get("clusters"):
        return {}, ("clusters are not compared: their centres differ",)
    here, there = (_cluster_shares(one) for one in (asked, other))
    both = here.join(there, on="cluster", how="full", coalesce=True, suffix="_there").fill_null(0)
    both = both.with_columns(change=pl.col("share") - pl.col("share_there"))
    most = both.sort(pl.col("change").abs(), "cluster", descending=[True, False]).head(LISTED)
    return {"clusters by share of the hours": most}, ()


def _cluster_shares(asked: Asked) -> pl.DataFrame:
    rows = asked.kept("frames", "clusters.cluster")
    frames = np.bincount(rows["cluster"], rows["frames"])
    return pl.DataFrame({"cluster": np.arange(len(frames)), "share": frames / max(frames.sum(), 1)})
