from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from corpus.errors import MotionloomError
from trainer.scoreboard import MEASURES, SUCCESSES, ScoreOptions, as_json, as_text, scoreboard, write_json


def outcomes(
    mpkpe: list[float], *, recording: list[str | None] | None = None, policy: str = "p", **given
) -> pl.DataFrame:
    count = len(mpkpe)
    columns = {name: [1.0] * count for name in MEASURES} | {name: [True] * count for name in SUCCESSES}
    facts = {
        "policy": [policy] * count,
        "segment": [f"s{i}" for i in range(count)],
        "recording": recording or [None] * count,
        "source": ["lafan1"] * count,
        "label": [None] * count,
        "cluster": [None] * count,
    }
    types = {"recording": pl.String, "label": pl.String, "cluster": pl.Int64}
    return pl.DataFrame({**facts, **columns, "mpkpe_mm": mpkpe, **given}, schema_overrides=types)


def told(scores: pl.DataFrame, measure: str, group: str = "overall", value: str = "", policy: str = "p") -> dict:
    one = (pl.col("measure") == measure) & (pl.col("group") == group) & (pl.col("value") == value)
    return scores.filter(one & (pl.col("policy") == policy)).row(0, named=True)


def test_intervals_are_as_wide_as_the_mean_is_unsure():
    values = np.random.default_rng(0).normal(50, 10, 200)
    found = told(scoreboard(outcomes(list(values)), ScoreOptions(replicates=4000)), "mpkpe_mm")
    unsure = 1.96 * values.std() / np.sqrt(200)
    assert found["mean"] == pytest.approx(values.mean())
    assert found["low"] == pytest.approx(values.mean() - unsure, abs=0.1 * unsure)
    assert found["high"] == pytest.approx(values.mean() + unsure, abs=0.1 * unsure)


def test_more_starts_of_the_same_recordings_make_nothing_surer():
    values = list(np.random.default_rng(0).normal(50, 10, 20))
    names = [f"take{i}" for i in range(20)]
    once = told(scoreboard(outcomes(values, recording=names)), "mpkpe_mm")
    often = told(scoreboard(outcomes(values * 30, recording=names * 30)), "mpkpe_mm")
    assert (often["low"], often["high"]) == pytest.approx((once["low"], once["high"]))
    assert (once["units"], once["starts"], often["units"], often["starts"]) == (20, 20, 20, 600)


def test_recordings_of_one_name_in_two_sources_are_two():
    rows = outcomes([1.0, 2.0], recording=["take1", "take1"], source=["amass", "lafan1"])
    assert told(scoreboard(rows), "mpkpe_mm")["units"] == 2


def test_recordings_of_no_known_source_are_units_too():
    rows = outcomes([1.0, 2.0, 3.0], recording=["take1", "take1", None], source=pl.Series([None] * 3, dtype=pl.String))
    assert told(scoreboard(rows), "mpkpe_mm")["units"] == 2


def test_success_without_exception_has_the_exact_interval_not_none():
    found = told(scoreboard(outcomes([1.0] * 20)), "trunk_success")
    assert found["mean"] == found["high"] == 1
    assert found["low"] == pytest.approx(0.8316, abs=1e-4)  # Clopper and Pearson, 20 of 20
    never = told(scoreboard(outcomes([1.0] * 20, trunk_success=[False] * 20)), "trunk_success")
    assert (never["low"], never["high"]) == (0, pytest.approx(1 - found["low"]))


def test_one_recording_tells_no_interval():
    found = told(scoreboard(outcomes([1.0, 3.0], recording=["a", "a"])), "mpkpe_mm")
    assert (found["mean"], found["low"], found["high"]) == (2, None, None)


def test_what_could_not_be_told_is_left_out_and_not_counted():
    found = told(scoreboard(outcomes([10.0, float("nan"), 20.0])), "mpkpe_mm")
    assert (found["mean"], found["units"], found["starts"]) == (15, 2, 2)
    assert told(scoreboard(outcomes([float("nan")])), "mpkpe_mm")["mean"] is None


def test_groups_are_clusters_sources_and_labels_that_are_known():
    rows = outcomes([10.0, 20.0, 40.0], cluster=[0, 1, 1], label=["walk", None, "run"])
    scores = scoreboard(rows)
    assert told(scores, "mpkpe_mm", "cluster", "1")["mean"] == 30
    assert told(scores, "mpkpe_mm", "label", "run")["mean"] == 40
    assert told(scores, "mpkpe_mm", "source", "lafan1")["starts"] == 3
    assert set(scores.filter(pl.col("group") == "label")["value"]) == {"walk", "run"}


def test_several_policies_stand_in_one_table():
    rows = pl.concat([outcomes([10.0, 12.0], policy="student"), outcomes([100.0, 120.0], policy="pd_replay")])
    scores = scoreboard(rows)
    assert told(scores, "mpkpe_mm", policy="student")["high"] < told(scores, "mpkpe_mm", policy="pd_replay")["low"]
    text, table = as_text(scores), as_text(scores, markdown=True)
    for shown in (text, table):
        assert "student" in shown and "pd_replay" in shown and "11 [10, 12]" in shown and "100.0 %" in shown
    assert "| pd_replay | 100.0 %" in table
    assert "By source" not in text  # there is but one


def test_of_many_labels_the_most_frequent_are_shown():
    labels = [f"move {i:02}" for i in range(40) for _ in range(2 if i == 39 else 1)]
    text = as_text(scoreboard(outcomes([1.0] * 41, label=labels), ScoreOptions(replicates=100)))
    assert "By label, 30 of 40" in text and "move 39" in text and "move 35" not in text


def test_the_file_is_plain_json_and_equal_for_equal_results(tmp_path):
    rows = outcomes([10.0, float("nan")], label=["läuft | rennt", "steht"])
    write_json(tmp_path / "scores.json", rows, scoreboard(rows), {"seed": 0})
    text = (tmp_path / "scores.json").read_text(encoding="utf-8")
    assert text == as_json(rows, scoreboard(rows), {"seed": 0})
    found = json.loads(text)
    assert found["outcomes"][1]["mpkpe_mm"] is None and found["outcomes"][0]["mpkpe_mm"] == 10
    assert found["outcomes"][0]["label"] == "läuft | rennt" and "läuft \\| rennt" in as_text(
        scoreboard(rows), markdown=True
    )


def test_too_few_draws_are_refused():
    with pytest.raises(MotionloomError, match="at least 100"):
        ScoreOptions(replicates=10)
