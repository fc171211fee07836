"""Measures of an embedding: recall and information by labels, invariances, stability, rates."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from operator import attrgetter
from typing import Any

import numpy as np
from jaxtyping import Float
from sklearn.cluster import KMeans
from sklearn.metrics import normalized_mutual_info_score

from corpus import rotations
from corpus.motion import CORPUS_FPS, RobotMotion
from corpus.resample import resample
from hme.embedder import Embedder
from hme.embedding import Embedding

CLUSTERS, SEEDS = 30, (0, 1, 2)
TEMPI = (0.8, 0.9, 1.1, 1.25)
TRIALS = 4
"""Times that each clip is changed at random."""
ROUNDS = 5
"""Timings; the median counts."""
VECTORS = {"vectors": attrgetter("vectors")}


def recall(vectors: Float[np.ndarray, "S D"], content: np.ndarray, style: np.ndarray) -> float:
    """Share of clips whose nearest clip in another style has the same content."""
    apart = distances(vectors)
    other = style[:, None] != style
    asked = ((content[:, None] == content) & other).any(1)
    nearest = np.where(other, apart, np.inf).argmin(1)
    return float((content[nearest] == content)[asked].mean())


def information(vectors: Float[np.ndarray, "S D"], content: np.ndarray) -> float:
    return float(np.mean([normalized_mutual_info_score(content, clustered(vectors, seed)) for seed in SEEDS]))


def clustered(vectors: Float[np.ndarray, "S D"], seed: int) -> np.ndarray:
    return np.asarray(kmeans(vectors, CLUSTERS, seed).labels_)


def kmeans(vectors: Float[np.ndarray, "S D"], count: int, seed: int = 0, starts: Any = 10) -> KMeans:
    return KMeans(count, n_init=starts, random_state=seed).fit(vectors)


def distances(vectors: Float[np.ndarray, "S D"]) -> Float[np.ndarray, "S S"]:
    rows = vectors.astype(np.float64)
    square = (rows**2).sum(1)
    return np.sqrt(np.maximum(square[:, None] + square - 2 * rows @ rows.T, 0))


Moves = dict[str, tuple[float, float, int]]
"""By what is changed: the median and largest move as a share of the median nearest neighbour's distance, and of how many clips."""


def invariances(
    embedder: Embedder,
    found: Embedding,
    motions: list[RobotMotion],
    *,
    trials: int = TRIALS,
    views: Mapping[str, Callable[[Embedding], Float[np.ndarray, "S D"]]] = VECTORS,
) -> dict[str, Moves]:
    """How far clips move when only their place, start, rate or noise change, in each view of the embedding."""
    long = np.array([motion.frame_count >= 8 * CORPUS_FPS for motion in motions])
    nearest = {view: nearest_neighbour(rows_of(found)) for view, rows_of in views.items()}
    moves: dict[str, Moves] = {view: {} for view in views}
    for name, change in changes(np.random.default_rng(0)).items():
        asked = long if name == "phase_shift" else np.ones(len(motions), bool)
        numbers = np.repeat(np.flatnonzero(asked), trials)
        changed = embedder.embed([change(motions[number]) for number in numbers])
        for view, rows_of in views.items():
            moved = np.linalg.norm(rows_of(changed) - rows_of(found)[numbers], axis=1) / nearest[view]
            moves[view][name] = float(np.median(moved)), float(moved.max()), int(asked.sum())
    return moves


def nearest_neighbour(vectors: Float[np.ndarray, "S D"]) -> float:
    """Median distance to it."""
    apart = distances(vectors)
    np.fill_diagonal(apart, np.inf)
    return float(np.median(apart.min(1)))


def changes(rng: np.random.Generator) -> dict[str, Callable[[RobotMotion], RobotMotion]]:
    """What should not count."""

    def cropped(motion: RobotMotion) -> RobotMotion:
        return motion.slice(int(rng.uniform(0, 2) * CORPUS_FPS), motion.frame_count)

    def noisy(motion: RobotMotion) -> RobotMotion:
        qpos = motion.qpos.copy()
        qpos[:, 7:] += rng.normal(0, 0.02, motion.joint_position.shape)
        return replace(motion, qpos=qpos)

    return {
        "yaw_translation": lambda motion: elsewhere(motion, rng),
        "phase_shift": cropped,
        "rate": lambda motion: resample(resample(motion, 30.0), CORPUS_FPS),
        "noise": noisy,
    }


def elsewhere(motion: RobotMotion, rng: np.random.Generator) -> RobotMotion:
    """Turned about the vertical and set down metres away."""
    turn = rotations.about_z(rng.uniform(-np.pi, np.pi))
    place = rotations.rotate(turn, motion.root_position.astype(np.float64)) + [*rng.uniform(-5, 5, 2), 0]
    rotation = rotations.multiply(turn, motion.root_rotation.astype(np.float64))
    return replace(motion, qpos=np.concatenate([place, rotation, motion.joint_position], 1))


def tempo_error(embedder: Embedder, found: Embedding, motions: list[RobotMotion], ratio: float) -> float:
    """How far the frequencies' ratio lies off the tempi's, the median over clips."""
    faster = [resample(replace(motion, fps=motion.fps * ratio), CORPUS_FPS) for motion in motions]
    got = embedder.embed(faster).frequency / found.frequency
    return float(np.median(np.abs(got / ratio - 1)))


def rate(work: Callable[[], object], count: int) -> float:
    """So many per second of processor time."""
    spent = []
    for _ in range(ROUNDS):
        start = time.process_time()
        work()
        spent.append(time.process_time() - start)
    return count / float(np.median(spent))
