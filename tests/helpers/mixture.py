"""Made-up vectors like an embedding's: clusters of unequal width and, unless told otherwise, share, axes that fall off."""

from __future__ import annotations

import numpy as np


def mixture(
    count: int, dimensions: int = 16, kinds: int = 30, *, even: bool = False, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors, float32, and the cluster of each; `even` gives all clusters the same share."""
    rng = np.random.default_rng(seed)
    scale = np.arange(1, dimensions + 1) ** -0.7
    share = np.ones(kinds) if even else rng.pareto(1.2, kinds) + 0.2
    centre, width = rng.normal(size=(kinds, dimensions)) * scale, rng.uniform(0.2, 0.6, kinds)
    kind = rng.choice(kinds, count, p=share / share.sum())
    noise = rng.normal(size=(count, dimensions)) * scale * width[kind][:, None]
    return (centre[kind] + noise).astype(np.float32), kind
