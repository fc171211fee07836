"""Which of several copies is kept: by pairs made up, so that every rule can be seen."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from hme.duplicates.find import PAIRS
from hme.duplicates.keepers import judge, together, unfinished


def pair(
    a: int, b: int, span_a: tuple[float, float], span_b: tuple[float, float], kind: str = "noisy", **other
) -> dict:
    tempo = (span_b[1] - span_b[0]) / (span_a[1] - span_a[0])
    told = {"mirrored": False, "tempo": tempo, "shift_s": span_b[0] - tempo * span_a[0], "distance": 0.004}
    spans = {"start_a": span_a[0], "stop_a": span_a[1], "start_b": span_b[0], "stop_b": span_b[1]}
    return {**dict.fromkeys(PAIRS), **told, **spans, "a": a, "b": b, "kind": kind, **other}


def table(*pairs: dict) -> pl.DataFrame:
    return pl.DataFrame(list(pairs), PAIRS)


def by_length(length_s) -> np.ndarray:
    rank = np.empty(len(length_s), int)
    rank[np.argsort(-np.asarray(length_s), kind="stable")] = np.arange(len(length_s))
    return rank


def verdict(length_s, *pairs: dict, **options) -> pl.DataFrame:
    return judge(table(*pairs), np.asarray(length_s, float), by_length(length_s), **options)


def test_the_first_by_rank_is_kept_and_the_copy_names_it():
    told = verdict([8, 5, 9], pair(0, 2, (0, 8), (0.5, 8.5)))
    assert told["keeper"].to_list() == [False, True, True]
    assert told.row(0, named=True) == {
        "group": 0, "keeper": False, "of": 2, "kind": "noisy", "distance": 0.004, "covered": 1.0,
    }  # fmt: skip
    assert told.row(1, named=True) == {
        "group": None, "keeper": True, "of": None, "kind": None, "distance": None, "covered": None,
    }  # fmt: skip


def test_a_copy_of_a_copy_is_kept_where_it_is_none_of_what_is_kept():
    """0 is like 1, 1 like 2, 0 and 2 have nothing in common: one chain, two kept."""
    told = verdict([10, 9, 8], pair(0, 1, (0, 9), (0, 9)), pair(1, 2, (0, 8), (0, 8)))
    assert told["keeper"].to_list() == [True, False, True]
    assert told["group"].to_list() == [0, 0, 0]


def test_two_kept_motions_that_cover_a_third_together_leave_it_out():
    halves = pair(0, 2, (6, 8), (0, 2), "overlap"), pair(1, 2, (0, 2), (2, 4), "overlap")
    told = verdict([8, 8, 4], *halves)
    assert told["keeper"].to_list() == [True, True, False]
    assert told.row(2, named=True)["kind"] == "chunk" and told.row(2, named=True)["covered"] == pytest.approx(1)
    assert verdict([8, 8, 4], halves[0])["keeper"].all()


def test_what_two_cover_alike_counts_once():
    told = verdict([8, 8, 4], pair(0, 2, (0, 2), (0, 2), "overlap"), pair(1, 2, (0, 2), (0.5, 2.5), "overlap"))
    assert told["keeper"].all()


@pytest.mark.parametrize(("overlap", "kept"), [(0.8, True), (0.7, False)])
def test_the_share_that_must_be_covered_is_an_option(overlap, kept):
    told = verdict([8, 4], pair(0, 1, (0, 3), (0, 3), "overlap"), overlap=overlap)
    assert told["keeper"][1] == kept


def test_groups_are_all_that_hang_together():
    pairs = table(pair(5, 6, (0, 1), (0, 1)), pair(1, 3, (0, 1), (0, 1)), pair(3, 4, (0, 1), (0, 1)))
    assert together(pairs, 8).tolist() == [-1, 0, -1, 0, 0, 1, 1, -1]
    assert together(table(), 3).tolist() == [-1, -1, -1]


def test_copies_of_one_that_is_left_out_are_proposed_with_their_place():
    """0 → 2 at half the time and mirrored, 1 → 2 shifted by 3 s: so 0 → 1 follows."""
    pairs = table(pair(0, 2, (0, 10), (0, 5), "retimed", mirrored=True), pair(1, 2, (3, 8), (0, 5)))
    told = judge(pairs, np.array([10.0, 9, 5]), np.array([0, 1, 2]))
    assert told["keeper"].to_list() == [True, True, False]
    proposed = unfinished(pairs, told)
    assert proposed.height == 1
    one = proposed.row(0, named=True)
    assert (one["a"], one["b"], one["mirrored"], one["tempo"]) == (0, 1, True, 0.5)
    assert one["other_s"] == pytest.approx(3 + one["time_s"] / 2)
    late = table(pair(0, 2, (2, 10), (0, 4), "retimed"), pair(1, 2, (3, 8), (0, 5)))
    one = unfinished(late, judge(late, np.array([10.0, 9, 5]), np.array([0, 1, 2]))).row(0, named=True)
    assert one["other_s"] == pytest.approx(3 + (one["time_s"] - 2) / 2) and 2 <= one["time_s"] <= 10
    assert unfinished(pl.concat([pairs, table(pair(0, 1, (0, 10), (3, 8)))]), told).is_empty()
