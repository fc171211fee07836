"""Distances to the nearest of many vectors, by matrix products over tiles that stay near the processor."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

TILE_ROWS, TILE_COLUMNS = 512, 16_384
"""Of one tile of distances: 32 MB."""


def nearest(
    queries: Float[np.ndarray, "Q D"], among: Float[np.ndarray, "N D"], *, k: int = 1
) -> Float[np.ndarray, " Q"]:
    """Distance of each query to the k-th nearest of `among`; infinite where there are fewer. Good to 0.0005 of the vectors'
    own spread: single precision cannot tell closer ones from equal ones."""
    centre = among[: 100 * TILE_ROWS].mean(0, dtype=np.float64).astype(np.float32)
    queries = np.asarray(queries, np.float32) - centre
    own = np.einsum("qd,qd->q", queries, queries)
    found = np.full((len(queries), k), np.inf, np.float32)
    for start in range(0, len(among), TILE_COLUMNS):
        tile = np.asarray(among[start : start + TILE_COLUMNS], np.float32) - centre
        square = np.einsum("nd,nd->n", tile, tile)
        for row in range(0, len(queries), TILE_ROWS):
            part = slice(row, row + TILE_ROWS)
            apart = queries[part] @ (-2 * tile.T) + square
            # The farther it has got, the fewer rows find anything nearer in a tile.
            better = row + np.flatnonzero(apart.min(1) < found[part].max(1))
            both = np.concatenate([found[better], apart[better - row]], 1)
            found[better] = np.partition(both, k - 1, axis=1)[:, :k]
    return np.sqrt(np.maximum(found.max(1) + own, 0))
