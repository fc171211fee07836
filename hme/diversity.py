"""How varied motion is: spread, volume, dimensions, kinds and clusters of its vectors, each with an interval.

All figures are taken at a fixed sample size, for most of them grow with it: a pool is drawn and trimmed of outliers, and samples
of one size, at most half of the pool, are drawn from it without replacement. A figure is the mean over the samples; its
interval follows from how they vary, which is what it varies by from corpus to corpus where the sample is half of what there is,
and more where it is less. What a finite sample takes from a figure is taken back by comparing each sample with its half (except
for the Vendi score, which is defined by its sample).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

import numpy as np
import polars as pl
from jaxtyping import Float, Int
from scipy import linalg, stats

from corpus.errors import MotionloomError
from hme.sampling.exposure import gini


@dataclass(frozen=True)
class DiversityOptions:
    sample: int = 10_000
    """Vectors of a sample, at most; fewer where there are not twice as many."""
    kernel_sample: int = 1_000
    """The same for the Vendi score, whose time grows by its cube."""
    eigenvalues: int = 200
    """Of the kernel's eigenvalues so many are looked at; the score cannot exceed it."""
    trim: float = 0.01
    """Share of the vectors that lie farthest off (Mahalanobis) and are left out: noise has volume too."""
    replicates: int = 30
    """Samples; more make the interval's own width surer."""
    confidence: float = 0.95
    """Of the intervals."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not (0 <= self.trim < 1 and self.replicates >= 2 and 0 < self.confidence < 1 and self.eigenvalues >= 1):
            raise MotionloomError(
                "diversity: trim should lie in 0 to 1, confidence between them, replicates be at least 2 and eigenvalues 1; got "
                f"{self.trim:g}, {self.confidence:g}, {self.replicates} and {self.eigenvalues}."
            )


@dataclass(frozen=True)
class Figure:
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Diversity:
    """What a set of vectors is like; what was not asked for is NaN."""

    spread: Figure
    """Geometric mean of the axes' standard deviations (gstd)."""
    log_volume: Figure
    """½ log det(Σ + 10⁻⁶ I); NaN where half a sample has fewer than two vectors for each axis."""
    dimension_ratio: Figure
    """Share of the axes that principal components need to hold 95 % of the variance (EDR)."""
    participation: Figure
    """Participation ratio (Σλ)² / Σλ²: dimensions, each counted by its variance."""
    vendi: Figure
    """Truncated Vendi score: how many motions of no likeness would be as varied. Kernel exp(−d² / 2 b²), b the `bandwidth`."""
    cluster_entropy: Figure
    """Of the clusters' shares of frames [nats]."""
    effective_clusters: Figure
    """How many clusters of equal share would have that entropy (Hill number of order 1)."""
    cluster_gini: Figure
    """0 where all clusters have as many frames, near 1 where one has all."""
    count: int
    """Vectors there were."""
    sample: int
    kernel_sample: int
    bandwidth: float
    trimmed: float
    """Share of the vectors left out as outliers."""


MEASURES = tuple(field.name for field in fields(Diversity) if field.type == "Figure")
EPSILON = 1e-6
"""What is added to the covariance's diagonal: less than any axis of an embedding varies."""
POOL = 5
"""The pool is so many times the sample, at most."""
LEAST_SAMPLE = 20
"""Smaller samples tell nothing."""
UNKNOWN = Figure(np.nan, np.nan, np.nan)


def diversity(
    vectors: Float[np.ndarray, "S D"],
    *,
    label: Int[np.ndarray, " S"] | None = None,
    cluster_count: int | None = None,
    frames: Int[np.ndarray, " S"] | None = None,
    bandwidth: float | None = None,
    options: DiversityOptions = DiversityOptions(),
) -> Diversity:
    """Of these vectors; `label` is each one's cluster, `frames` its length (default: all alike).

    To compare sets give them all the same sample, `cluster_count` (default: as many as there are labels) and `bandwidth` (default:
    the median distance of two of the vectors).
    """
    rng = np.random.default_rng(options.seed)
    pool = trimmed_pool(vectors, options, rng)
    size = sample_size(len(pool), options)
    rows = np.asarray(vectors[pool], np.float64)
    bandwidth = bandwidth or median_distance(rows, options)
    draws = [rng.choice(len(pool), size, replace=False) for _ in range(options.replicates)]
    measured = {"moments": lambda drawn: moments(rows[drawn])}
    if label is not None:
        kind, weight = label[pool], _weights(frames, len(vectors))[pool]
        kinds = cluster_count or int(label.max()) + 1
        measured["clusters"] = lambda drawn: cluster_figures(kind[drawn], weight[drawn], kinds)
    found: dict[str, Figure] = {}
    for measure in measured.values():
        found |= _figures(measure, draws, options, corrected=True)
    if not tells_volume(size, rows.shape[1]):
        found["log_volume"] = UNKNOWN
    kernel_size = min(size, options.kernel_sample)
    kernel_draws = [drawn[:kernel_size] for drawn in draws]
    found |= _figures(
        lambda drawn: {"vendi": vendi(rows[drawn], bandwidth, options.eigenvalues)}, kernel_draws, options
    )
    return Diversity(
        **{name: found.get(name, UNKNOWN) for name in MEASURES},
        count=len(vectors), sample=size, kernel_sample=kernel_size, bandwidth=bandwidth, trimmed=options.trim,
    )  # fmt: skip


def moments(rows: Float[np.ndarray, "n D"]) -> dict[str, float]:
    """What follows from the covariance."""
    covariance = np.cov(rows.T).reshape(rows.shape[1], -1)
    widths = np.maximum(np.linalg.eigvalsh(covariance)[::-1], 0)
    total = max(widths.sum(), 1e-300)
    needed = int((np.cumsum(widths) < 0.95 * total * (1 - 1e-12)).sum()) + 1
    with np.errstate(divide="ignore"):
        return {
            "spread": float(np.exp(0.5 * np.log(np.diag(covariance)).mean())),
            "log_volume": float(0.5 * np.log(widths + EPSILON).sum()),
            "dimension_ratio": needed / len(widths),
            "participation": float(total**2 / max((widths**2).sum(), 1e-300)),
        }


def cluster_figures(label: Int[np.ndarray, " n"], weight: Float[np.ndarray, " n"], count: int) -> dict[str, float]:
    """Of the shares that clusters 0 to `count` − 1 have in the weight."""
    share = np.bincount(label, weight, count) / weight.sum()
    entropy = float(-(share * np.log(np.where(share > 0, share, 1))).sum())
    return {"cluster_entropy": entropy, "effective_clusters": float(np.exp(entropy)), "cluster_gini": gini(share)}


def vendi(rows: Float[np.ndarray, "n D"], bandwidth: float, eigenvalues: int) -> float:
    """exp of the entropy of the kernel's eigenvalues / n, of the largest so many, to each of which an equal part of the rest is
    added (Ospanov and Farnia's truncation: it settles with far fewer vectors than the whole score). All of them: Vendi's own."""
    square = (rows * rows).sum(1)
    apart = np.maximum(square[:, None] + square - 2 * rows @ rows.T, 0)
    kernel = np.exp(apart * (-0.5 / bandwidth**2)) / len(rows)
    kept = min(eigenvalues, len(rows))
    top = linalg.eigvalsh(
        kernel, subset_by_index=(len(rows) - kept, len(rows) - 1), overwrite_a=True, check_finite=False
    )
    top = np.maximum(top, 0)
    share = top + max(1 - top.sum(), 0) / kept
    return float(np.exp(-(share * np.log(np.where(share > 0, share, 1))).sum()))


def median_distance(rows: Float[np.ndarray, "n D"], options: DiversityOptions) -> float:
    """Of two of them."""
    rng = np.random.default_rng(options.seed)
    one, other = (rng.permutation(len(rows))[:5000] for _ in range(2))
    apart = np.linalg.norm(np.asarray(rows[one], float) - rows[other], axis=1)
    return max(float(np.median(apart[one != other])), 1e-9)


def trimmed_pool(
    vectors: Float[np.ndarray, "S D"], options: DiversityOptions, rng: np.random.Generator
) -> Int[np.ndarray, " P"]:
    """Numbers of the vectors that samples are drawn from."""
    pool = drawn_pool(len(vectors), options, rng)
    return pool[inner(vectors[pool], options.trim)]


def drawn_pool(count: int, options: DiversityOptions, rng: np.random.Generator) -> Int[np.ndarray, " P"]:
    return np.sort(rng.choice(count, min(count, POOL * options.sample), replace=False))


def inner(rows: Float[np.ndarray, "n D"], trim: float) -> Int[np.ndarray, " m"]:
    """Which rows are left when so large a share, those farthest off (Mahalanobis), is taken away."""
    rows = np.asarray(rows, np.float64) - rows.mean(0, dtype=np.float64)
    covariance = rows.T @ rows / max(len(rows), 1) + EPSILON * np.eye(rows.shape[1])
    far = np.einsum("nd,nd->n", rows @ np.linalg.inv(covariance), rows)
    return np.sort(np.argsort(far, kind="stable")[: len(rows) - int(trim * len(rows))])


def sample_size(pool: int, options: DiversityOptions) -> int:
    size = min(options.sample, pool // 2)
    if size < LEAST_SAMPLE:
        raise MotionloomError(
            f"{pool} vectors are too few to say how varied they are: at least {2 * LEAST_SAMPLE} are needed, and a sample of "
            f"{LEAST_SAMPLE} (here {options.sample})."
        )
    return size


def tells_volume(size: int, axes: int) -> bool:
    """Does half of the sample hold two vectors for each axis? With fewer the covariance is mostly chance."""
    return size >= 4 * axes


def interval(values: Float[np.ndarray, " R"], options: DiversityOptions, centre: float | None = None) -> Figure:
    """Of a figure by its values in replicates; by Student's t, since these are few."""
    middle = float(values.mean()) if centre is None else centre
    reach = float(stats.t.ppf(0.5 + options.confidence / 2, len(values) - 1) * values.std(ddof=1))
    return Figure(middle, middle - reach, middle + reach)


def table(found: Mapping[str, Diversity]) -> pl.DataFrame:
    """A row per set and measure: group, measure, value, low, high, sample."""
    rows = [
        (
            group,
            name,
            figure.value,
            figure.low,
            figure.high,
            one.kernel_sample if name == "vendi" else one.sample,
            one.count,
        )
        for group, one in found.items()
        for name in MEASURES
        if np.isfinite((figure := getattr(one, name)).value)
    ]
    return pl.DataFrame(rows, ["group", "measure", "value", "low", "high", "sample", "count"], orient="row")


def _figures(
    measure: Callable[[Int[np.ndarray, " n"]], dict[str, float]],
    draws: list[Int[np.ndarray, " n"]],
    options: DiversityOptions,
    *,
    corrected: bool = False,
) -> dict[str, Figure]:
    """Over the samples; `corrected` for what half a sample shows that a whole one lacks as well (a bias that falls as 1/n)."""
    whole = [measure(drawn) for drawn in draws]
    halves = [measure(drawn[: len(drawn) // 2]) for drawn in draws] if corrected else whole
    found = {}
    for name in whole[0]:
        values, half = (np.array([one[name] for one in many]) for many in (whole, halves))
        found[name] = interval(values, options, float((2 * values - half).mean()))
    return found


def _weights(frames: Int[np.ndarray, " S"] | None, count: int) -> Float[np.ndarray, " S"]:
    return np.ones(count) if frames is None else np.asarray(frames, np.float64)
