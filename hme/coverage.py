"""What one set of motion has that another lacks: coverage both ways, and how new a batch would be to a corpus."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from corpus.errors import MotionloomError
from hme.diversity import (
    LEAST_SAMPLE,
    POOL,
    UNKNOWN,
    DiversityOptions,
    Figure,
    cluster_figures,
    interval,
    moments,
    sample_size,
    tells_volume,
    trimmed_pool,
)
from hme.nearest import nearest

NEIGHBOUR = 5
"""A vector's neighbourhood reaches to this neighbour (Naeem et al.)."""
PAIR_SAMPLE = 2_000
"""Vectors of each side that are compared, at most."""
QUERIES = 4_000
"""New vectors looked up in the corpus, and vectors of the corpus looked up in it for comparison, at most."""


class TooFew(MotionloomError):
    """Not enough distinct vectors to say how much is covered."""


@dataclass(frozen=True)
class Coverage:
    """How much of one set lies near another; both at the same sample size."""

    share: Figure
    """Of its vectors, those with one of the other set within the radius."""
    own: Figure
    """The same by a sample of the set itself: what a set of the same kind would reach."""
    radius: float
    """Median distance to the fifth nearest neighbour within the set."""
    sample: int


@dataclass(frozen=True)
class Novelty:
    """What vectors would add to a corpus."""

    ratio: Float[np.ndarray, " Q"]
    """Of each looked up: distance to the nearest in the corpus, by what is usual there (`typical`). NaN for those that were not."""
    typical: float
    """Median distance within the corpus to the nearest other vector."""
    beyond: float
    """Share of ratios above 1; of the corpus's own it is half."""
    far: float
    """Share farther off than 95 % of the corpus's own are from each other."""
    covered: Coverage | None
    """How much of the new the corpus covers already; None where the new, or the distinct among them, are too few."""
    log_volume_gain: Figure
    """By which log-volume grows, each of the two with its weight by number; it shrinks where the new fill what was full. NaN where
    the corpus is too small."""
    effective_clusters_gain: float
    """By which the effective number of clusters grows; NaN without clusters."""


def coverage(
    of: Float[np.ndarray, "S D"],
    by: Float[np.ndarray, "R D"],
    *,
    sample: int = PAIR_SAMPLE,
    options: DiversityOptions = DiversityOptions(),
) -> Coverage:
    """How much of the one set the other covers. Copies are of no use: they take places in the sample."""
    rng = np.random.default_rng(options.seed)
    of, by = (_distinct(rows, POOL * sample, rng) for rows in (of, by))
    size = min(sample, len(of) // 2, len(by) // 2)
    if size < LEAST_SAMPLE:
        raise TooFew(f"Coverage of {len(of)} distinct vectors by {len(by)}: both need at least {2 * LEAST_SAMPLE}.")
    first = of[rng.permutation(len(of))[:size]]
    radius = float(np.median(nearest(first, first, k=NEIGHBOUR + 1)))
    shares, own = [], []
    for _ in range(options.replicates):
        order = rng.permutation(len(of))
        asked = of[order[:size]]
        shares.append((nearest(asked, by[rng.permutation(len(by))[:size]]) <= radius).mean())
        own.append((nearest(asked, of[order[size : 2 * size]]) <= radius).mean())
    return Coverage(_share(shares, options), _share(own, options), radius, size)


def novelty(
    new: Float[np.ndarray, "Q D"],
    corpus: Float[np.ndarray, "S D"],
    *,
    labels: tuple[Int[np.ndarray, " Q"], Int[np.ndarray, " S"]] | None = None,
    frames: tuple[Int[np.ndarray, " Q"], Int[np.ndarray, " S"]] | None = None,
    options: DiversityOptions = DiversityOptions(),
) -> Novelty:
    """Of vectors that are not in the corpus yet; `labels` and `frames` are clusters and lengths, the new ones' first."""
    if not len(new) or len(corpus) < 2 * LEAST_SAMPLE:
        raise MotionloomError(
            f"Novelty of {len(new)} vectors to {len(corpus)}: at least 1 and {2 * LEAST_SAMPLE} are needed."
        )
    rng = np.random.default_rng(options.seed)
    asked, known = (np.sort(rng.permutation(len(rows))[:QUERIES]) for rows in (new, corpus))
    # The second nearest: the first is the vector itself.
    usual = nearest(corpus[known], corpus, k=2)
    typical, far = max(float(np.median(usual)), 1e-9), float(np.quantile(usual, 0.95))
    distance = nearest(new[asked], corpus)
    ratio = np.full(len(new), np.nan)
    ratio[asked] = distance / typical
    try:
        covered = coverage(new, corpus, options=options)
    except TooFew:
        covered = None
    return Novelty(
        ratio,
        typical,
        beyond=float((distance > typical).mean()),
        far=float((distance > far).mean()),
        covered=covered,
        log_volume_gain=_volume_gain(new, corpus, rng, options),
        effective_clusters_gain=np.nan if labels is None else _clusters_gain(labels, frames),
    )


def _share(values: list[float], options: DiversityOptions) -> Figure:
    found = interval(np.array(values), options)
    return Figure(found.value, max(found.low, 0.0), min(found.high, 1.0))


def _volume_gain(
    new: Float[np.ndarray, "Q D"],
    corpus: Float[np.ndarray, "S D"],
    rng: np.random.Generator,
    options: DiversityOptions,
) -> Figure:
    """Samples of the corpus, and the same with the share of the new exchanged for them: what both have in common cancels."""
    pool = trimmed_pool(corpus, options, rng)
    size = sample_size(len(pool), options)
    if not tells_volume(size, new.shape[1]):
        return UNKNOWN
    count = round(size * len(new) / (len(new) + len(corpus)))
    gains = []
    for _ in range(options.replicates):
        rows = np.asarray(corpus[rng.permutation(pool)[:size]], np.float64)
        before = moments(rows)["log_volume"]
        rows[:count] = new[rng.permutation(len(new))[:count]]
        gains.append(moments(rows)["log_volume"] - before)
    return interval(np.array(gains), options)


def _clusters_gain(
    labels: tuple[Int[np.ndarray, " Q"], Int[np.ndarray, " S"]],
    frames: tuple[Int[np.ndarray, " Q"], Int[np.ndarray, " S"]] | None,
) -> float:
    count = int(max(label.max() for label in labels)) + 1
    new, old = frames or tuple(np.ones(len(label), np.int64) for label in labels)
    both = cluster_figures(np.concatenate(labels), np.concatenate([new, old]).astype(float), count)
    return both["effective_clusters"] - cluster_figures(labels[1], old.astype(float), count)["effective_clusters"]


def _distinct(rows: Float[np.ndarray, "S D"], most: int, rng: np.random.Generator) -> Float[np.ndarray, "R D"]:
    """At most so many of them, each once."""
    drawn = rows if len(rows) <= most else rows[np.sort(rng.choice(len(rows), most, replace=False))]
    return np.unique(np.asarray(drawn, np.float32), axis=0)
