"""How crowded the space of embeddings is around each vector, from the distance to its neighbours in a sample."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from corpus.errors import MotionloomError

ROWS_AT_ONCE = 4096


def neighbour_density(
    vectors: Float[np.ndarray, "S D"],
    sample: Int[np.ndarray, " N"],
    neighbours: int,
) -> Float[np.ndarray, " S"]:
    """Density around each vector, of mean logarithm 0: distance to the k-th neighbour among the vectors `sample`, not counting
    itself, to the power of minus the dimension that the vectors fill.

    That dimension is estimated from the same distances (Levina and Bickel): volume grows as radius^dimension, so between the
    k/2-th and the k-th neighbour the radius grows by 2^(1/dimension).
    """
    if not 2 <= neighbours < len(sample):
        raise MotionloomError(f"{neighbours} neighbours: should be from 2 to below the sample's {len(sample)}.")
    near, far = _radii(np.asarray(vectors, np.float32), sample, neighbours)
    # Copies lie at distance 0: they are as crowded as the most crowded that are none.
    floor = max(float(np.quantile(far[far > 0], 0.001)) if (far > 0).any() else 1.0, 1e-12)
    near, far = np.maximum(near, floor), np.maximum(far, floor)
    growth = float(np.log(far / near).mean())
    dimension = np.log(neighbours / (neighbours // 2)) / max(growth, 1e-6)
    logarithm = -min(dimension, vectors.shape[1]) * np.log(far)
    return np.exp(logarithm - logarithm.mean())


def _radii(
    vectors: Float[np.ndarray, "S D"], sample: Int[np.ndarray, " N"], neighbours: int
) -> tuple[Float[np.ndarray, " S"], Float[np.ndarray, " S"]]:
    """Distances to the k/2-th and the k-th nearest of the sample."""
    among = vectors[sample]
    square = (among * among).sum(1)
    place = np.full(len(vectors), -1)
    place[sample] = np.arange(len(sample))
    half, last = neighbours // 2 - 1, neighbours - 1
    near, far = np.empty((2, len(vectors)))
    for start in range(0, len(vectors), ROWS_AT_ONCE):
        rows = vectors[start : start + ROWS_AT_ONCE]
        part = slice(start, start + len(rows))
        apart = square - 2 * rows @ among.T
        own = np.flatnonzero(place[part] >= 0)
        apart[own, place[part][own]] = np.inf
        nearest = np.partition(apart, (half, last), axis=1)[:, [half, last]] + (rows * rows).sum(1)[:, None]
        near[part], far[part] = np.sqrt(np.maximum(nearest, 0)).T
    return near, far
