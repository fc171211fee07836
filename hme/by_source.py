"""How varied each source is, and what each adds to the others; beside what sources of the same size drawn at random would."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int

from hme.coverage import TooFew, coverage
from hme.diversity import (
    LEAST_SAMPLE,
    UNKNOWN,
    Diversity,
    DiversityOptions,
    Figure,
    cluster_figures,
    diversity,
    drawn_pool,
    inner,
    interval,
    median_distance,
    moments,
    tells_volume,
)

log = logging.getLogger(__name__)


def by_source(
    vectors: Float[np.ndarray, "S D"],
    source: np.ndarray,
    *,
    label: Int[np.ndarray, " S"] | None = None,
    frames: Int[np.ndarray, " S"] | None = None,
    options: DiversityOptions = DiversityOptions(),
) -> dict[str, Diversity]:
    """Of each source alone, all at one sample size and bandwidth; sources too small for any sample are left out."""
    names = _large_enough(source, options)
    if not names:
        return {}
    least = min(int((source == name).sum()) for name in names)
    fixed = replace(options, sample=min(options.sample, (least - int(options.trim * least)) // 2))
    bandwidth = median_distance(vectors, options)
    cluster_count = None if label is None else int(label.max()) + 1
    found = {}
    for name in names:
        own = np.flatnonzero(source == name)
        told = {"label": None if label is None else label[own], "frames": None if frames is None else frames[own]}
        found[str(name)] = diversity(
            vectors[own], **told, cluster_count=cluster_count, bandwidth=bandwidth, options=fixed
        )
    return found


def leave_one_source_out(
    vectors: Float[np.ndarray, "S D"],
    source: np.ndarray,
    *,
    label: Int[np.ndarray, " S"] | None = None,
    frames: Int[np.ndarray, " S"] | None = None,
    options: DiversityOptions = DiversityOptions(),
) -> pl.DataFrame:
    """What each source adds to all others: source, control, count, measure, value, low, high.

    Measures: `log_volume` and `effective_clusters` that would be lost without it, at the same sample size; `uncovered`: share of
    it that nothing of the others is near. NaN where there is too little to tell. `control` rows are the same of shuffled
    sources: what size alone does.
    """
    rng = np.random.default_rng(options.seed)
    weight = np.ones(len(vectors)) if frames is None else np.asarray(frames, float)
    rows = []
    for control in (False, True):
        given = rng.permutation(source) if control else source
        for name in _large_enough(source, options):
            own = given == name
            if len(own) - own.sum() < 2 * LEAST_SAMPLE:
                continue
            found = _lost_without(vectors, own, label, weight, options)
            found["uncovered"] = _uncovered(vectors, own, options)
            rows += [
                (str(name), control, int(own.sum()), measure, figure.value, figure.low, figure.high)
                for measure, figure in found.items()
            ]
    return pl.DataFrame(rows, ["source", "control", "count", "measure", "value", "low", "high"], orient="row")


def _lost_without(
    vectors: Float[np.ndarray, "S D"],
    own: Bool[np.ndarray, " S"],
    label: Int[np.ndarray, " S"] | None,
    weight: Float[np.ndarray, " S"],
    options: DiversityOptions,
) -> dict[str, Figure]:
    """Samples of all, and the same with this source's vectors exchanged for others: what both have in common cancels."""
    rng = np.random.default_rng(options.seed)
    pool = drawn_pool(len(vectors), options, rng)
    # Each side by itself: beside the others a rare source would be taken for outliers as a whole.
    mine, others = (side[inner(vectors[side], options.trim)] for side in (pool[own[pool]], pool[~own[pool]]))
    pool = np.concatenate([mine, others])
    size = min(options.sample, len(others) // 2)
    count = 0 if label is None else int(label.max()) + 1
    lost: dict[str, list[float]] = {"log_volume": []} | ({} if label is None else {"effective_clusters": []})
    for _ in range(options.replicates):
        drawn = rng.permutation(pool)[:size]
        spare = rng.permutation(np.setdiff1d(others, drawn, assume_unique=True))
        instead = drawn.copy()
        instead[own[drawn]] = spare[: own[drawn].sum()]
        volume = [moments(np.asarray(vectors[rows], np.float64))["log_volume"] for rows in (drawn, instead)]
        lost["log_volume"].append(volume[0] - volume[1])
        if label is not None:
            kinds = [
                cluster_figures(label[rows], weight[rows], count)["effective_clusters"] for rows in (drawn, instead)
            ]
            lost["effective_clusters"].append(kinds[0] - kinds[1])
    found = {name: interval(np.array(values), options) for name, values in lost.items()}
    return found if tells_volume(size, vectors.shape[1]) else found | {"log_volume": UNKNOWN}


def _uncovered(vectors: Float[np.ndarray, "S D"], own: Bool[np.ndarray, " S"], options: DiversityOptions) -> Figure:
    try:
        covered = coverage(vectors[own], vectors[~own], options=options).share
    except TooFew:
        return UNKNOWN
    return Figure(1 - covered.value, 1 - covered.high, 1 - covered.low)


def _large_enough(source: np.ndarray, options: DiversityOptions) -> list[str]:
    names, counts = np.unique(source, return_counts=True)
    least = 2 * LEAST_SAMPLE / (1 - options.trim) + 1
    for name, count in zip(names, counts, strict=True):
        if count < least:
            log.info("%s has %d segments, too few to say how varied they are (%d)", name, count, int(least) + 1)
    return list(names[counts >= least])
