"""Clusters of a corpus: K-means on a sample of its vectors, every segment assigned to the nearest centre."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float, Int
from scipy import sparse

from corpus.durable import load_arrays, save_arrays
from corpus.errors import MotionloomError
from hme.space import Space
from hme.tables import read_about, read_segment_table, write_segment_table

COMMAND = "loom cluster"
MOST_CLUSTERS = 384
"""Of a corpus at full scale: Humanoid-GPT found about 300 best, of 128 to 1,024."""
SAMPLE = 200_000
"""Vectors that the centres are found on."""
STARTS = 10
"""Of as many random starts the best counts: with one, other seeds give clusters that are far more different."""
FEW = 20_000
"""Up to so many vectors all of them make each step: that is quicker than mini-batches there, and more stable."""
BATCH = 4096
"""Vectors of a step of mini-batch K-means."""
CHUNK = 8192
"""Vectors assigned at once: their distances to all centres stay near the processor so."""


@dataclass(frozen=True)
class Clusters:
    """Centres among the vectors of one embedder."""

    centres: Float[np.ndarray, "K D"]
    hme_id: str
    seed: int

    @property
    def count(self) -> int:
        return len(self.centres)

    @property
    def id(self) -> str:
        """Hash of the centres."""
        return hashlib.blake2b(np.ascontiguousarray(self.centres, "<f4").tobytes(), digest_size=8).hexdigest()

    def assign(self, vectors: Float[np.ndarray, "S D"]) -> tuple[Int[np.ndarray, " S"], Float[np.ndarray, " S"]]:
        """The nearest centre of each vector, and its distance."""
        cluster, distance = np.empty(len(vectors), np.int32), np.empty(len(vectors), np.float32)
        half_square = (self.centres**2).sum(1) / 2
        for start in range(0, len(vectors), CHUNK):
            part = vectors[start : start + CHUNK]
            nearest = (half_square - part @ self.centres.T).argmin(1)
            cluster[start : start + CHUNK] = nearest
            distance[start : start + CHUNK] = np.linalg.norm(part - self.centres[nearest], axis=1)
        return cluster, distance

    def save(self, path: Path) -> None:
        save_arrays(path, {"centres": self.centres, "hme_id": np.array(self.hme_id), "seed": np.array(self.seed)})

    @classmethod
    def load(cls, path: Path) -> Clusters:
        try:
            arrays = load_arrays(path)
            return cls(arrays["centres"], str(arrays["hme_id"]), int(arrays["seed"]))
        except FileNotFoundError:
            raise MotionloomError(f"There is no {path} yet: run `{COMMAND}` first.") from None
        except (OSError, ValueError, KeyError) as error:
            raise MotionloomError(f"{path} holds no clusters ({error!r}): run `{COMMAND}` again.") from None


def default_count(segment_count: int) -> int:
    """Few segments, few clusters: the square root of their number, at most `MOST_CLUSTERS`."""
    return int(np.clip(round(segment_count**0.5), 1, MOST_CLUSTERS))


def fit_clusters(
    vectors: Float[np.ndarray, "S D"], count: int, *, hme_id: str, seed: int = 0, sample: int = SAMPLE
) -> Clusters:
    """Centres of `count` clusters; those of the same vectors and seed are the same."""
    from sklearn.cluster import KMeans, MiniBatchKMeans

    if not 0 < count <= len(vectors):
        raise MotionloomError(f"{count} clusters of {len(vectors)} segments: name a number from 1 to {len(vectors)}.")
    rng = np.random.default_rng(seed)
    chosen = vectors if len(vectors) <= sample else vectors[np.sort(rng.choice(len(vectors), sample, replace=False))]
    how: dict[str, Any] = {"n_init": STARTS, "random_state": seed}
    means = KMeans(count, **how) if len(chosen) <= FEW else MiniBatchKMeans(count, batch_size=BATCH, **how)
    return Clusters(np.asarray(means.fit(chosen).cluster_centers_, np.float32), hme_id, seed)


@dataclass(frozen=True)
class Stability:
    """Adjusted Rand index between clusterings of the same segments: 1 where they are the same, 0 by chance."""

    seeds: float
    """Between those of different seeds, on average."""
    subsamples: float
    """Between those found on different halves of the segments, on average."""


def stability(vectors: Float[np.ndarray, "S D"], count: int, *, seeds: Sequence[int] = (0, 1, 2)) -> Stability:
    from sklearn.metrics import adjusted_rand_score

    def agreement(labels: list[np.ndarray]) -> float:
        return float(np.mean([adjusted_rand_score(a, b) for a, b in combinations(labels, 2)]))

    whole = [fit_clusters(vectors, count, hme_id="", seed=seed).assign(vectors)[0] for seed in seeds]
    halves = []
    for seed in seeds:
        half = np.random.default_rng(seed).permutation(len(vectors))[: len(vectors) // 2]
        halves.append(fit_clusters(vectors[half], min(count, len(half)), hme_id="", seed=seed).assign(vectors)[0])
    return Stability(agreement(whole), agreement(halves))


def write_clusters(space: Space, clusters: Clusters) -> pl.DataFrame:
    """Assign every segment and write both files, the centres last; gives the table."""
    if clusters.hme_id != space.hme_id:
        raise MotionloomError(f"These clusters are of the embedder {clusters.hme_id}, the vectors of {space.hme_id}.")
    cluster, distance = clusters.assign(space.vectors)
    table = pl.DataFrame({"cluster": cluster, "distance": distance})
    about = {"clusters": clusters.id, "count": str(clusters.count)}
    write_segment_table(space.corpus, space.path("clusters.parquet"), table, hme_id=space.hme_id, about=about)
    clusters.save(space.path("clusters.npz"))
    return table


def read_clusters(space: Space) -> Int[np.ndarray, " S"]:
    """The cluster of every kept segment."""
    path = space.path("clusters.parquet")
    clusters = Clusters.load(space.path("clusters.npz"))
    if read_about(path, command=COMMAND).get("clusters") != clusters.id:
        raise MotionloomError(f"{path} was made with other centres than {path.with_suffix('.npz')}: run `{COMMAND}`.")
    return read_segment_table(space.corpus, path, command=COMMAND, hme_id=space.hme_id)["cluster"].to_numpy()


def describe(space: Space, *, labels: int = 3) -> pl.DataFrame:
    """A row per cluster, the largest first: `segments`, `hours`, `share` of the hours, `medoid` (the segment with the least
    mean square distance to the others), `labels` and `sources` (the most common, with their share of its segments)."""
    cluster = read_clusters(space)
    kept = space.corpus.kept.select("segment", "clip", "frames").with_columns(
        cluster=pl.Series(cluster), off=pl.Series(_off_mean(space.vectors, cluster))
    )
    owners = space.corpus.clips.filter(pl.col("frames") > 0).select("clip", "source", "label").collect()
    rows = kept.join(owners, on="clip", how="left", maintain_order="left")
    hours = pl.col("frames").sum() / space.corpus.fps / 3600
    about = rows.group_by("cluster").agg(
        segments=pl.len(),
        hours=hours,
        medoid=pl.col("segment").sort_by("off", "segment").first(),
        labels=_most_common("label", labels),
        sources=_most_common("source", labels),
    )
    share = (pl.col("hours") / pl.col("hours").sum()).alias("share")
    return about.with_columns(share).sort("hours", "cluster", descending=[True, False])


def _off_mean(vectors: Float[np.ndarray, "S D"], cluster: Int[np.ndarray, " S"]) -> Float[np.ndarray, " S"]:
    """Distance of each vector to the mean of its cluster."""
    # A product of matrices with a one for every member: summing row by row takes a minute for five million.
    member = sparse.csc_array((np.ones(len(cluster)), cluster, np.arange(len(cluster) + 1)))
    mean = (member @ vectors) / np.maximum(np.bincount(cluster), 1)[:, None]
    return np.linalg.norm(vectors - mean[cluster], axis=1)


def _most_common(column: str, count: int) -> pl.Expr:
    """As text: "walk 62 %, run 20 %"; without those that have no name."""
    counts = pl.col(column).filter(pl.col(column) != "").value_counts(sort=True).head(count)
    name, number = counts.struct.field(column), counts.struct.field("count")
    share = (number / pl.len() * 100).round(0).cast(pl.Int64)
    return pl.concat_str(name, pl.lit(" "), share.cast(pl.String), pl.lit(" %")).str.join(", ")
