"""Motions that tests of embeddings share."""

from __future__ import annotations

import numpy as np
import pytest
from swinging import swinging

from corpus.motion import RobotMotion


@pytest.fixture(scope="session")
def motions() -> list[RobotMotion]:
    """Forty, of many tempi and lengths, some shorter than a window."""
    rng = np.random.default_rng(1)
    return [swinging(rng.uniform(0.3, 3), rng.uniform(1, 12), seed=seed) for seed in range(40)]
