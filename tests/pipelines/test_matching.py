"""Rows are matched as a join by their values would match them, however badly their hashes are spread."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import matching

texts = st.sampled_from(["", "a", "b", "a\0", "walk", "\n"])
tables = st.lists(st.tuples(texts, texts, st.none() | st.integers(0, 2)), max_size=12).map(
    lambda rows: pl.DataFrame(rows, {"one": pl.String, "two": pl.String, "number": pl.Int64}, orient="row")
)
ON = ["one", "two", "number"]


def found(rows: pl.DataFrame, others: pl.DataFrame) -> list[tuple[int, int]]:
    return sorted(zip(*(numbers.tolist() for numbers in matching.pairs(rows, others, ON)), strict=True))


def expected(rows: pl.DataFrame, others: pl.DataFrame) -> list[tuple[int, int]]:
    return [
        (i, j)
        for i, row in enumerate(rows.rows())
        for j, other in enumerate(others.rows())
        if row == other and None not in row
    ]


@given(tables, tables)
def test_pairs_are_those_of_equal_values(rows, others):
    assert found(rows, others) == expected(rows, others)


@pytest.fixture
def one_hash_for_all(monkeypatch):
    monkeypatch.setattr(matching, "_hash", lambda on: pl.lit(7, pl.UInt64).repeat_by(pl.len()).explode())


def test_rows_of_the_same_hash_are_told_apart(one_hash_for_all):
    rows = pl.DataFrame([("a", "b", 1), ("b", "a", 1), ("a", "b", 2)], ON, orient="row")
    assert found(rows, rows.reverse()) == [(0, 2), (1, 1), (2, 0)]
    assert matching.has(rows, rows.head(2), ON).tolist() == [True, True, False]


def test_nothing_is_known_of_no_rows():
    rows = pl.DataFrame([("a", "b", 1)], ON, orient="row")
    assert matching.has(rows, rows.clear(), ON).tolist() == [False]
    assert matching.has(rows.clear(), rows, ON).tolist() == []
