"""What the clusters hold: the long tail, and one cluster by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Int

from corpus.errors import MotionloomError
from hme.cluster import Clusters
from hme.traits import TRAITS
from pipelines.ask.answer import Answer, part, said, share_of
from pipelines.ask.asked import Asked

LISTED = 10
"""Labels, neighbours and typical segments of a cluster."""


def tail(asked: Asked, *, hours: float | None = None) -> Answer:
    """Clusters, the smallest first, and what lifting each to `hours` would take (default: to what they have on average)."""
    rows = asked.kept("frames", "clusters.cluster")
    count = _clusters(asked).count
    cluster = rows["cluster"].to_numpy()
    held = np.bincount(cluster, rows["frames"].to_numpy(), count) / asked.fps / 3600
    goal = float(held.mean()) if hours is None else hours
    if not goal >= 0:
        raise MotionloomError(f"Clusters of {goal:g} hours? Name a number of at least 0.")
    table = pl.DataFrame({
        "cluster": np.arange(count), "segments": np.bincount(cluster, minlength=count), "hours": held,
        "share": held / max(held.sum(), 1e-12), "missing_hours": np.maximum(goal - held, 0),
    }).sort("hours", "cluster")  # fmt: skip
    poor = table[: count // 2]
    below = int((table["missing_hours"] > 0).sum())
    line = (
        f"The smaller half of {count} clusters holds {said(float(poor['hours'].sum()))} of {said(held.sum())} "
        f"({part(float(poor['share'].sum()))}); to lift every cluster to {said(goal)}, {said(float(table['missing_hours'].sum()))} "
        f"are missing in {below} of them."
    )
    return Answer(line, table)


def cluster(asked: Asked, *, number: int) -> Answer:
    """What is in one cluster, beside the corpus."""
    clusters = _clusters(asked)
    if not 0 <= number < clusters.count:
        raise MotionloomError(f"No cluster {number}. There are 0 to {clusters.count - 1}.")
    rows = asked.kept("number", "frames", "owner", "clip", "clusters.cluster")
    mine = rows.filter(pl.col("cluster") == number)
    near = _neighbours(clusters, number)
    if not len(mine):
        return Answer(f"Cluster {number} holds no segment.", pl.DataFrame(), (), {"nearest clusters": near})
    hours, whole = (asked.hours(int(some["frames"].sum())) for some in (mine, rows))
    labels, typical = _labels(asked, mine), _typical(asked, mine["number"].to_numpy())
    most = labels.filter(pl.col("label") != "")
    told = f", most often “{most['label'][0]}” ({part(most['share'][0])})" if len(most) else ""
    nearest = f", its nearest cluster {near['cluster'][0]}" if len(near) else ""
    line = (
        f"Cluster {number} holds {said(hours)} in {len(mine):,} segments ({part(share_of(hours, whole))} of the hours){told}; "
        f"its medoid is {typical['segment'][0]}{nearest}."
    )
    more = {"labels": labels.head(LISTED), "sources": _sources(asked, mine)}
    more |= {"nearest to its middle": typical, "nearest clusters": near}
    return Answer(line, _beside(asked, mine), (), more)


def _clusters(asked: Asked) -> Clusters:
    """The centres that the table tells of."""
    about = asked.about("clusters")
    clusters = Clusters.load(asked.path("clusters.npz"))
    if about.get("clusters") != clusters.id:
        raise MotionloomError(f"{asked.path('clusters.parquet')} was made with other centres: run `loom cluster`.")
    return clusters


def _labels(asked: Asked, mine: pl.DataFrame) -> pl.DataFrame:
    """How many of the segments carry which label."""
    label = asked.corpus.clips.select("label").collect()["label"].gather(mine["clip"])
    counts = label.fill_null("").value_counts().rename({"count": "segments"})
    return counts.with_columns(share=pl.col("segments") / len(mine)).sort("segments", "label", descending=[True, False])


def _sources(asked: Asked, mine: pl.DataFrame) -> pl.DataFrame:
    counts = {"segments": pl.len(), "hours": pl.col("frames").sum() / asked.fps / 3600}
    found = asked.by_owner(mine.group_by("owner").agg(**counts)).group_by("source")
    return found.agg(pl.col(list(counts)).sum()).sort("hours", "source", descending=[True, False])


def _typical(asked: Asked, numbers: Int[np.ndarray, " n"]) -> pl.DataFrame:
    """The segments nearest to the mean of all; the first is the medoid: the least mean square distance to the others."""
    vectors = asked.vectors.take("vector", numbers).astype(np.float64)
    off = np.linalg.norm(vectors - vectors.mean(0), axis=1)
    first = np.argsort(off, kind="stable")[:LISTED]
    return asked.places(numbers[first]).with_columns(distance=pl.Series(off[first]))


def _neighbours(clusters: Clusters, number: int) -> pl.DataFrame:
    distance = np.linalg.norm(clusters.centres - clusters.centres[number], axis=1)
    order = np.argsort(distance, kind="stable")
    order = order[order != number][:LISTED]
    return pl.DataFrame({"cluster": order, "distance": distance[order]})


def _beside(asked: Asked, mine: pl.DataFrame) -> pl.DataFrame:
    """Every trait's mean in the cluster and in the corpus, by frames, and how far they are apart in the corpus's deviations."""
    owner = asked.owners["owner"].to_numpy()
    sums = {name: float(asked.sums.take(name, owner).sum()) for name in asked.sums.names if name != "at_limit"}
    frames, rows = mine["frames"].to_numpy().astype(np.float64), []
    for name in TRAITS:
        mean = sums[name] / sums["frames"]
        deviation = np.sqrt(max(sums[f"{name}²"] / sums["frames"] - mean**2, 0))
        here = float(asked.traits.take(name, mine["number"].to_numpy()) @ frames / frames.sum())
        rows.append(_trait(name, here, mean, deviation))
    return pl.DataFrame(rows)


def _trait(name: str, here: float, mean: float, deviation: float) -> dict[str, Any]:
    apart = (here - mean) / deviation if deviation > 1e-6 else 0.0
    return {"trait": name, "cluster": here, "corpus": mean, "deviations_apart": apart, "meaning": TRAITS[name]}
