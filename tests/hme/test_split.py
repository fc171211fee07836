"""Splits: shares, what stays together, what never moves, and that leaks are seen."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from corpus.errors import MotionloomError
from hme.split import SplitOptions, deal, leakage, units

COUNT = 6000


@pytest.fixture(scope="module")
def segments():
    """Units of very different sizes, in forty strata; some in several."""
    rng = np.random.default_rng(0)
    unit = np.unique((rng.pareto(1.0, COUNT) * 300).astype(int) % 1500, return_inverse=True)[1]
    stratum = (unit * 7 + rng.integers(0, 3, COUNT)) % 40
    order = rng.integers(0, 2**63, COUNT).astype(np.uint64)
    return unit, stratum, rng.integers(50, 900, COUNT), order


def test_shares_are_met_as_a_whole_and_in_every_stratum(segments):
    unit, stratum, frames, order = segments
    dealt = deal(unit, stratum, frames, order, SplitOptions((0.8, 0.1, 0.1)))
    assert np.bincount(dealt.split, frames) / frames.sum() == pytest.approx([0.8, 0.1, 0.1], abs=0.02)
    for part, share in enumerate((0.8, 0.1, 0.1)):
        within = np.bincount(stratum[dealt.split == part], frames[dealt.split == part], 40) / np.bincount(
            stratum, frames
        )
        assert np.median(np.abs(within - share)) < 0.03


def test_shares_are_met_as_a_whole_where_every_unit_is_a_stratum_of_its_own():
    """No stratum can be divided: each goes to one part as a whole."""
    frames, alone = np.random.default_rng(0).integers(50, 900, 400), np.arange(400)
    order = np.random.default_rng(1).integers(0, 2**63, 400).astype(np.uint64)
    dealt = deal(alone, alone, frames, order, SplitOptions((0.8, 0.1, 0.1)))
    assert np.bincount(dealt.split, frames, 3) / frames.sum() == pytest.approx([0.8, 0.1, 0.1], abs=0.02)


def test_a_unit_is_never_divided(segments):
    unit, stratum, frames, order = segments
    dealt = deal(unit, stratum, frames, order)
    parts = pl.DataFrame({"unit": unit, "split": dealt.split}).group_by("unit").agg(pl.col("split").n_unique())
    assert parts["split"].max() == 1
    assert not dealt.leaks.any()


def test_the_seed_decides_and_nothing_else(segments):
    unit, stratum, frames, order = segments
    assert np.array_equal(deal(unit, stratum, frames, order).split, deal(unit, stratum, frames, order).split)
    other = deal(unit, stratum, frames, order[::-1].copy()).split
    assert (other != deal(unit, stratum, frames, order).split).any()


def test_the_numbers_of_units_do_not_matter(segments):
    unit, stratum, frames, order = segments
    turned = deal(unit.max() - unit, stratum, frames, order).split
    assert np.array_equal(turned, deal(unit, stratum, frames, order).split)


def test_a_part_without_a_share_gets_nothing(segments):
    unit, stratum, frames, order = segments
    dealt = deal(unit, stratum, frames, order, SplitOptions((0.9, 0.1, 0.0)))
    assert set(dealt.split.tolist()) == {0, 1}


def test_growth_moves_nothing_and_new_segments_follow_their_unit(segments):
    unit, stratum, frames, order = segments
    half = COUNT // 2
    first = deal(np.unique(unit[:half], return_inverse=True)[1], stratum[:half], frames[:half], order[:half])
    before = np.concatenate([first.split, np.full(COUNT - half, -1)])
    dealt = deal(unit, stratum, frames, order, before=before)
    assert np.array_equal(dealt.split[:half], first.split)
    home = dict(zip(unit[:half].tolist(), first.split.tolist(), strict=True))
    assert all(dealt.split[i] == home[unit[i]] for i in range(half, COUNT) if unit[i] in home)
    assert np.bincount(dealt.split, frames)[0] / frames.sum() == pytest.approx(0.9, abs=0.03)


def test_new_data_that_joins_two_parts_is_withheld_and_told():
    unit, zeros = np.array([0, 0, 0, 1]), np.zeros(4, int)
    before = np.array([0, 2, -1, -1])
    dealt = deal(unit, zeros, np.full(4, 100), np.arange(4, dtype=np.uint64), before=before)
    assert dealt.split[:3].tolist() == [0, 2, -1] and dealt.split[3] >= 0
    assert dealt.leaks.tolist() == [True, True, True, False]


def test_recordings_and_pairs_make_units():
    pairs = pl.DataFrame({"a": [0, 4], "b": [3, 5]})
    assert units(np.array([0, 0, 1, 1, 2, 3, 4]), pairs).tolist() == [0, 0, 0, 0, 1, 1, 2]
    assert units(np.array([2, 1, 0]), pairs.clear()).tolist() == [0, 1, 2]


def test_leaks_are_pairs_across_parts():
    pairs = pl.DataFrame({"a": [0, 0, 1, 2], "b": [1, 2, 2, 3]})
    found = leakage(pairs, np.array([0, 0, 1, -1]))
    assert found.select("a", "b").rows() == [(0, 2), (1, 2)]
    assert found.select("split_a", "split_b").rows() == [(0, 1), (0, 1)]


@pytest.mark.parametrize("shares", [(0.9, 0.05, 0.06), (1.1, -0.1, 0.0), (0.5, 0.5)])
def test_shares_that_make_no_sense_are_refused(shares):
    with pytest.raises(MotionloomError, match="add up to 1"):
        SplitOptions(shares)
