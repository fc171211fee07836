"""How crowded the space of embeddings is around each vector, from the distance to its neighbours in a sample."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from corpus.errors import MotionloomError
from hme.nearest import nearest


def neighbour_density(
    vectors: Float[np.ndarray, "S D"],
    sample: Int[np.ndarray, " N"],
    neighbours: int,
) -> Float[np.ndarray, " S"]:
    """Density around each vector, of mean logarithm 0: distance to the k-th neighbour among the vectors `sample`, not counting
    itself, to the power of minus the dimension that the vectors fill.

    That dimension is estimated from the distances within the sample (Levina and Bickel): volume grows as radius^dimension, so between the
    k/2-th and the k-th neighbour the radius grows by 2^(1/dimension).
    """
    if not 2 <= neighbours < len(sample):
        raise MotionloomError(f"{neighbours} neighbours: should be from 2 to below the sample's {len(sample)}.")
    vectors = np.asarray(vectors, np.float32)
    among = vectors[sample]
    far = nearest(vectors, among, k=neighbours).astype(np.float64)
    # The nearest of a vector of the sample is itself.
    far[sample] = nearest(among, among, k=neighbours + 1)
    near = nearest(among, among, k=neighbours // 2 + 1).astype(np.float64)
    # Copies lie at distance 0: they are as crowded as the most crowded that are none.
    floor = max(float(np.quantile(far[far > 0], 0.001)) if (far > 0).any() else 1.0, 1e-12)
    near, far = np.maximum(near, floor), np.maximum(far, floor)
    growth = float(np.log(far[sample] / near).mean())
    dimension = np.log(neighbours / (neighbours // 2)) / max(growth, 1e-6)
    logarithm = -min(dimension, vectors.shape[1]) * np.log(far)
    return np.exp(logarithm - logarithm.mean())
