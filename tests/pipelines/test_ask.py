"""Every question gives the numbers that were worked out by hand, in its line and in its table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from asked_corpus import FIRST, HOSTILE, HOUR, write_catalog, write_embedding, write_tables

from corpus.catalog import Corpus
from corpus.errors import MotionloomError
from corpus.g1 import G1
from corpus.loading.sampler import Sampler
from corpus.loading.sampling_plan import Plan
from pipelines.ask import QUESTIONS, Answer, ask
from pipelines.ask.answer import said


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """Everything that can lie beside it."""
    out = write_catalog(tmp_path_factory.mktemp("asked") / "corpus")
    write_tables(write_embedding(out))
    return out


@pytest.fixture(scope="module")
def older(tmp_path_factory) -> Path:
    """The same without its second shard."""
    out = write_catalog(tmp_path_factory.mktemp("older") / "corpus", FIRST)
    write_embedding(out)
    return out


def row(table: pl.DataFrame, **where) -> dict:
    return table.row(
        by_predicate=pl.all_horizontal(*(pl.col(name) == value for name, value in where.items())), named=True
    )


def hours(frames: float):
    return pytest.approx(frames / HOUR, rel=1e-6)


def test_hours_fall_from_stage_to_stage(corpus):
    answer = ask(corpus, "hours")
    amass, bvh = (row(answer.table, source=name) for name in ("amass", "bvh"))
    assert (amass["clips"], bvh["clips"]) == (2, 3)
    assert [amass[stage] for stage in ("loaded", "retargeted", "passed", "unique")] == [
        hours(n) for n in (1500, 1500, 800, 800)
    ]
    assert [bvh[stage] for stage in ("loaded", "retargeted", "passed", "unique")] == [
        hours(n) for n in (1300, 1300, 900, 300)
    ]
    for frames in (2800, 1700, 1100):
        assert said(frames / HOUR) in answer.line


def test_hours_by_source_and_cluster_add_up_to_the_hours_by_source(corpus):
    table = ask(corpus, "hours", by="source-cluster").table
    assert row(table, source="amass", cluster=1)["passed"] == hours(400)
    assert row(table, source="bvh", cluster=0)["unique"] == 0
    assert table["passed"].sum() == hours(1700)


def test_without_duplicates_nobody_knows_what_is_unique(older):
    answer = ask(older, "hours")
    assert answer.table["unique"].to_list() == [None]
    assert "loom dedup" in answer.notes[0] and "unique" not in answer.line


def test_hours_by_licence(corpus):
    answer = ask(corpus, "licences")
    assert dict(answer.table.select("licence", "passed").rows()) == {
        "AMASS": hours(800),
        "CC BY-NC 4.0": hours(600),
        HOSTILE: hours(300),
    }
    assert answer.table["share"].sum() == pytest.approx(1) and "under 3 licences" in answer.line


def test_a_licence_under_which_nothing_passed_is_not_counted(tmp_path):
    """Its one clip lost all it had to the gate."""
    lost = [("c1", "bvh", "CC0", "c", "walk", 500, [(0, 500, "foot_slide", 0.5, 9, 0.0)])]
    answer = ask(write_catalog(tmp_path / "corpus", {**FIRST, "33": lost}), "licences")
    assert len(answer.table) == 2 and "passed under 1 licences" in answer.line


def test_rejects_are_counted_once(corpus):
    answer = ask(corpus, "rejects")
    over = row(answer.table, what="segment", reason="foot_slide")
    assert (over["count"], over["hours"], over["alone"], over["share"]) == (2, hours(900), 1, pytest.approx(900 / 2800))
    assert row(answer.table, what="cut away")["hours"] == hours(200)
    assert row(answer.table, reason="empty_file")["count"] == 1
    assert said(900 / HOUR) in answer.line and "1 clips gave no motion" in answer.line


@pytest.mark.parametrize(
    ("limits", "then", "gained", "lost"),
    [
        (["gate.foot_slide_limit=0.2"], 1300, 0, 400),
        (["gate.foot_slide_limit=0.6"], 2200, 500, 0),
        (["gate.foot_slide_limit=1", "gate.jerk_limit=6000"], 2600, 900, 0),
        (["gate.foot_slide_limit=0.4"], 1700, 0, 0),
        (["gate.jerk_limit=5"], 0, 0, 1700),
    ],
)
def test_other_limits_judge_by_the_stored_measures(corpus, limits, then, gained, lost):
    answer = ask(corpus, "what-if", set=limits)
    found = dict(answer.table.select("what", "hours").rows())
    assert found == {"now": hours(1700), "then": hours(then), "gained": hours(gained), "lost": hours(lost)}
    assert said(then / HOUR) in answer.line
    assert "1 clips that gave no motion were never measured" in answer.notes[0]
    assert any("build anew" in note for note in answer.notes) == (gained > 0)
    assert answer.more["hours by source"]["then"].sum() == hours(then)


def test_what_the_measures_cannot_tell_is_refused(corpus):
    for text in (
        "cut.min_s=2",
        "gate.speed=1",
        "gate.foot_slide_limit=often",
        "gate.foot_slide_limit=nan",
        "'; drop table",
    ):
        with pytest.raises(MotionloomError, match="foot_slide_limit"):
            ask(corpus, "what-if", set=[text])


def test_windows_lose_the_segments_that_are_shorter(corpus):
    answer = ask(corpus, "windows", frames=[401, 400])
    told = {one["window"]: (one["segments_lost"], one["hours_lost"], one["windows"]) for one in answer.table.to_dicts()}
    assert told == {400: (1, hours(300), 1 + 1 + 201), 401: (3, hours(1100), 200)}
    assert said(1100 / HOUR) in answer.line
    assert "never draws" in answer.notes[0]
    frames = Corpus.open(corpus).frames
    drawn = Sampler(Plan(np.ones(len(frames))), frames, window=400, batch_size=256, seed=0).draw(0).segment
    assert set(drawn.tolist()) == set(np.flatnonzero(frames >= 400))


def test_contacts_are_shares_of_the_time(corpus):
    answer = ask(corpus, "contacts")
    assert row(answer.table, mode="both_feet")["hours"] == hours(600)
    assert f"{600 / 1700:.1%} on both feet" in answer.line
    assert row(answer.more["hours by source"], source="bvh")["both_feet"] == 0


def test_postures_are_shares_of_the_time(corpus):
    assert row(ask(corpus, "posture").table, posture="standing")["share"] == pytest.approx((800 + 300) / 1700)


def test_flights_are_told_by_the_longest_of_each_segment(corpus):
    answer = ask(corpus, "airborne")
    assert answer.line.startswith("1 of 4 segments") and "0.30 s" in answer.line and said(600 / HOUR) in answer.line
    assert row(answer.table, to_s=0.4)["hours"] == hours(600)


@pytest.mark.parametrize("question", ["speed", "height", "yaw-rate"])
def test_a_trait_is_spread_over_hours(corpus, question):
    answer = ask(corpus, question)
    assert answer.table["hours"].sum() == hours(1700) and answer.table["segments"].sum() == 4
    (quantiles,) = answer.more.values()
    assert quantiles.row(2)[1] == pytest.approx(0.6, rel=1e-3)  # half of 1,700 frames is slower
    assert "0.6" in answer.line
    if question == "speed":
        assert row(answer.table, to=0.05)["hours"] == hours(300)


def test_saturation_is_told_by_joint_and_by_segment(corpus):
    answer = ask(corpus, "saturation")
    first = answer.table.row(0, named=True)
    assert (first["joint"], first["hours"]) == (G1.joint_names[3], hours(400))
    assert row(answer.table, joint=G1.joint_names[0])["share"] == pytest.approx(200 / 1700)
    worst = answer.more["segments longest at a limit"]
    assert worst["share"].to_list() == [1.0, 0.5, 0.25] and worst["label"][0] == HOSTILE
    assert answer.line.startswith(G1.joint_names[3]) and "1 segments" in answer.line


def test_the_tail_is_what_is_missing_to_the_goal(corpus):
    answer = ask(corpus, "tail")
    assert answer.table.select("cluster", "hours", "missing_hours").rows() == [
        (1, hours(700), hours(150)),
        (0, hours(1000), 0),
    ]
    assert ask(corpus, "tail", hours=1200 / HOUR).table["missing_hours"].sum() == hours(700)
    assert said(150 / HOUR) in answer.line
    assert f"half of 2 clusters holds {said(700 / HOUR)} of {said(1700 / HOUR)} (41.2%)" in answer.line


def test_a_cluster_is_told_by_its_medoid_labels_and_traits(corpus):
    answer = ask(corpus, "cluster", number=0)
    assert (
        "a1a1a1a1a1a1a1a1-000000" in answer.line
        and "“walk” (100.0%)" in answer.line
        and said(1000 / HOUR) in answer.line
    )
    speed = row(answer.table, trait="speed")
    assert speed["cluster"] == pytest.approx((400 * 0.1 + 600 * 0.6) / 1000)
    mean = (400 * 0.1 + 400 * 1.2 + 600 * 0.6 + 300 * 0.02) / 1700
    assert speed["corpus"] == pytest.approx(mean)
    square = (400 * 0.1**2 + 400 * 1.2**2 + 600 * 0.6**2 + 300 * 0.02**2) / 1700
    assert speed["deviations_apart"] == pytest.approx((speed["cluster"] - mean) / np.sqrt(square - mean**2), rel=1e-5)
    assert answer.more["nearest clusters"]["cluster"].to_list() == [1]
    with pytest.raises(MotionloomError, match="0 to 1"):
        ask(corpus, "cluster", number=2)


def test_duplicates_are_told_by_kind_and_by_both_sources(corpus):
    answer = ask(corpus, "duplicates")
    assert answer.table.rows() == [("exact", 1, hours(600))]
    assert answer.more["by source"].rows() == [("bvh", "amass", 1, hours(600))]
    assert answer.line.count(said(600 / HOUR)) == 2 and "1 groups" in answer.line


def test_a_copy_of_what_is_out_of_scope_stays_a_copy(corpus):
    assert ask(corpus, "duplicates", source="bvh").more["by source"]["of_source"].to_list() == ["amass"]
    assert ask(corpus, "duplicates", source="amass").table.is_empty()


def test_leaks_are_recordings_and_copies_in_several_parts(corpus):
    answer = ask(corpus, "leakage")
    assert answer.table.rows() == [("recordings", 1, 1, hours(400)), ("groups of near-duplicates", 1, 1, hours(400))]
    assert f"{said(400 / HOUR)} of {said(700 / HOUR)}" in answer.line
    assert answer.more["parts"]["part"].to_list() == ["train", "validation", "test"]


def test_drift_tells_what_was_added(corpus, older):
    answer = ask(corpus, "drift", against=older)
    assert answer.more["clips"].rows() == [
        ("added", 3, hours(900), None),
        ("removed", 0, 0, None),
        ("in both", 2, hours(800), 0),
    ]
    assert "3 clips" in answer.line and said(900 / HOUR) in answer.line
    back = ask(older, "drift", against=corpus)
    assert back.more["clips"].rows()[1] == ("removed", 3, hours(900), None)
    assert answer.table.height > 18 and "ks" in answer.table.columns


@pytest.mark.parametrize("name", ["a1a1a1a1a1a1a1a1-000000", "amass/a1.npz", "a1" * 16, "a1a1a1a1a1a1a1a1"])
def test_the_nearest_segments_come_first(corpus, name):
    answer = ask(corpus, "like", clip=name)
    first = answer.table.filter(pl.col("like") == "a1a1a1a1a1a1a1a1-000000")
    segments = [2, 1, 3] if name.endswith("000000") else [2, 3]
    assert first["distance"].to_list() == pytest.approx([{1: 5.0, 2: 1.0, 3: 10.0}[n] for n in segments])
    assert answer.line.endswith("at a distance of 1.000.") and "b1b1b1b1b1b1b1b1-000000" in answer.line


def test_every_question_can_be_narrowed(corpus, older):
    given = {
        "what-if": {"set": ["gate.jerk_limit=1"]}, "cluster": {"number": 0}, "like": {"clip": "a1" * 16}, "drift": {"against": older},
    }  # fmt: skip
    for name in QUESTIONS:
        if name not in ("coverage", "novelty"):
            assert isinstance(ask(corpus, name, licence="AMASS", source="amass", **given.get(name, {})), Answer)
    assert ask(corpus, "hours", licence="CC BY-NC 4.0").table["passed"].to_list() == [hours(600)]
    assert ask(corpus, "speed", source="bvh").table["hours"].sum() == hours(900)
    assert ask(corpus, "saturation", source="amass").table["hours"].sum() == hours(300)
    assert ask(corpus, "rejects", licence=HOSTILE).table["count"].drop_nulls().to_list() == [1]
    assert ask(corpus, "like", clip="amass/a1.npz", licence="CC BY-NC 4.0").table["segment"].unique().to_list() == [
        "b1" * 8 + "-000000"
    ]
    with pytest.raises(MotionloomError, match=r"No clip of licence '\.\*'.*AMASS"):
        ask(corpus, "hours", licence=".*")
    with pytest.raises(MotionloomError, match="No clip of licence 'CC BY'"):
        ask(corpus, "hours", licence="CC BY")
