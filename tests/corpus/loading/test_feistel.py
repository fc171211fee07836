"""A permutation without a table is a permutation, and looks like a random one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from corpus.loading.feistel import ROUNDS, permute


def keys(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**64, ROUNDS, np.uint64)


@given(count=st.integers(1, 5000), seed=st.integers(0, 2**32))
def test_every_number_comes_exactly_once(count, seed):
    assert np.array_equal(np.sort(permute(np.arange(count), count, keys(seed))), np.arange(count))


@given(count=st.integers(2**40, 2**62), seed=st.integers(0, 2**32))
def test_numbers_of_any_size_stay_below_the_count_and_apart(count, seed):
    index = np.unique(np.random.default_rng(seed).integers(0, count, 500))
    out = permute(index, count, keys(seed))
    assert out.min() >= 0 and out.max() < count and len(np.unique(out)) == len(index)


@given(count=st.integers(1, 3000), seed=st.integers(0, 1000), data=st.data())
def test_an_entry_does_not_hang_on_which_others_are_asked_for(count, seed, data):
    some = data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=20))
    whole = permute(np.arange(count), count, keys(seed))
    assert np.array_equal(permute(np.array(some), count, keys(seed)), whole[some])


def test_all_orders_of_four_come_equally_often():
    orders = {}
    for seed in range(4800):
        order = tuple(permute(np.arange(4), 4, keys(seed)))
        orders[order] = orders.get(order, 0) + 1
    assert len(orders) == 24 and stats.chisquare(list(orders.values())).pvalue > 0.001


@pytest.mark.parametrize("count", [1000, 1009, 4096])
def test_neighbours_go_anywhere(count):
    """Where a number goes, and where it goes from its neighbour, is spread evenly; nothing is left of the order."""
    first, step = [], []
    for seed in range(40):
        order = permute(np.arange(count), count, keys(seed))
        first.append(order[:100] * 20 // count)
        step.append((np.diff(order) % count * 20 // count)[:100])
        assert abs(stats.spearmanr(order, np.arange(count)).statistic) < 5 / np.sqrt(count)
    for places in (first, step):
        assert stats.chisquare(np.bincount(np.concatenate(places), minlength=20)).pvalue > 0.001
