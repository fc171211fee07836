"""Densities are those of the distances to neighbours, found here one by one."""

from __future__ import annotations

import numpy as np
import pytest

from corpus.errors import MotionloomError
from hme.sampling.density import neighbour_density


@pytest.mark.parametrize("dimension", [2, 5])
def test_density_falls_with_the_distance_to_the_kth_other_by_the_dimension_filled(dimension):
    rng = np.random.default_rng(0)
    vectors = np.zeros((600, 12), np.float32)
    vectors[:, :dimension] = rng.normal(size=(600, dimension))
    sample = np.arange(0, 600, 2)
    apart = np.linalg.norm(vectors[:, None] - vectors[sample], axis=2)
    apart[sample, np.arange(300)] = np.inf
    far = np.log(np.sort(apart, axis=1)[:, 7])
    logarithm = np.log(neighbour_density(vectors, sample, 8))
    assert logarithm.mean() == pytest.approx(0, abs=1e-6)
    # The very nearest count as no nearer than a thousandth of all are.
    most = far > np.quantile(far, 0.01)
    x, y = far[most] - far[most].mean(), logarithm[most] - logarithm[most].mean()
    slope = x @ y / (x @ x)
    assert np.allclose(y, slope * x, atol=1e-3) and -slope == pytest.approx(dimension, rel=0.3)


def test_a_sample_of_too_few_is_refused():
    with pytest.raises(MotionloomError, match="8 neighbours: should be from 2 to below the sample's 8"):
        neighbour_density(np.zeros((20, 2)), np.arange(8), 8)
