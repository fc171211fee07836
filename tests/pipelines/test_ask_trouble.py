"""Where something is missing, has grown or is hostile, the answer says so, or what to run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from asked_corpus import FIRST, HME, HOSTILE, write_catalog, write_embedding, write_tables

from corpus.catalog import Corpus
from corpus.catalog import fold as fold_catalog
from corpus.errors import MotionloomError
from hme import fold
from hme.cluster import Clusters, write_clusters
from hme.folded import read_folded, write_folded
from hme.space import Space
from pipelines import cli
from pipelines.ask import QUESTIONS, ask
from pipelines.ask.alike import nearest_segments
from pipelines.ask.drift import ks_by_chance, ks_distance, stability_index
from pipelines.ask.spread import quantiles

NEEDS = {"tail": "loom cluster", "duplicates": "loom dedup", "leakage": "loom split", "speed": "loom embed"}


@pytest.fixture
def out(tmp_path) -> Path:
    return write_catalog(tmp_path / "corpus")


@pytest.fixture
def whole(out) -> Path:
    write_tables(write_embedding(out))
    return out


@pytest.mark.parametrize("question", NEEDS)
def test_what_is_not_there_yet_is_named_with_its_command(out, question):
    if question != "speed":
        write_embedding(out)
    with pytest.raises(MotionloomError, match=NEEDS[question]):
        ask(out, question)


def test_a_corpus_that_is_not_embedded_answers_what_its_catalog_knows(out):
    for question in ("hours", "licences", "rejects", "windows", "airborne"):
        assert ask(out, question).line


def test_an_empty_corpus_answers_or_says_that_it_is_empty(tmp_path):
    out = write_catalog(tmp_path / "empty", FIRST)
    for shard in (out / "shards").iterdir():
        shard.rename(tmp_path / shard.name)
    fold_catalog(out)
    for question in ("hours", "licences", "rejects", "windows", "airborne"):
        assert ask(out, question).line
    assert ask(out, "what-if", set=["gate.jerk_limit=1"]).table["segments"].sum() == 0
    with pytest.raises(MotionloomError):
        ask(out, "speed")


def test_after_growth_the_tables_ask_to_be_made_again(tmp_path):
    out = write_catalog(tmp_path / "corpus", FIRST)
    before = ask(out, "windows").table
    corpus = write_embedding(out)
    clusters = Clusters(np.zeros((1, 2), np.float32), HME, 0)
    clusters.save(out / "hme" / HME / "clusters.npz")
    write_clusters(Space.open(corpus), clusters)
    assert ask(out, "tail").table["segments"].to_list() == [2]
    write_catalog(out)
    assert not ask(out, "windows").table.equals(before)
    with pytest.raises(MotionloomError, match="loom embed"):
        ask(out, "speed")
    with pytest.raises(MotionloomError, match="loom cluster"):
        ask(out, "tail")
    write_embedding(out)
    assert ask(out, "speed").table["segments"].sum() == 4


def test_clusters_by_other_centres_are_refused(whole):
    Clusters(np.zeros((2, 2), np.float32), HME, 0).save(whole / "hme" / HME / "clusters.npz")
    with pytest.raises(MotionloomError, match="loom cluster"):
        ask(whole, "tail")


def test_a_folded_file_may_be_cut_off_or_deleted(whole):
    before = ask(whole, "speed").table
    path = whole / "hme" / "traits.arrow"
    path.write_bytes(path.read_bytes()[:1000])
    assert ask(whole, "speed").table.equals(before)
    path.unlink()
    assert ask(whole, "speed").table.equals(before)


def test_a_corpus_that_may_not_be_written_is_answered_all_the_same(whole, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    expected = ask(whole, "windows").table
    for path in (whole / "hme").glob("*.arrow"):
        path.unlink()
    written = fold.write_folded
    monkeypatch.setattr(
        fold, "write_folded", lambda path, *rest: refuse() if whole in path.parents else written(path, *rest)
    )
    assert ask(whole, "windows").table.equals(expected)
    assert not list((whole / "hme").glob("*.arrow"))


def test_a_corpus_that_is_compared_with_is_left_as_it_is(whole, tmp_path):
    other = write_catalog(tmp_path / "other", FIRST)
    write_embedding(other)
    before = {path: path.stat().st_mtime_ns for path in other.rglob("*")}
    assert "3 clips" in ask(whole, "drift", against=other).line
    assert before == {path: path.stat().st_mtime_ns for path in other.rglob("*")}


def test_unknown_questions_and_options_list_what_is_known(whole):
    with pytest.raises(MotionloomError, match="hours, licences"):
        ask(whole, "'; drop table clips")
    with pytest.raises(MotionloomError, match="Known: by"):
        ask(whole, "hours", number=1)
    with pytest.raises(MotionloomError, match="needs the option set"):
        ask(whole, "what-if")
    for name in ("zz" * 16, "'; drop", "face", "../../etc/passwd", "a1a1a1a1a1a1a1a1-000007"):
        with pytest.raises(MotionloomError, match="segment"):
            ask(whole, "like", clip=name)


def test_the_command_prints_hostile_names_as_they_are(whole, capsys):
    assert cli.main(["ask", str(whole), "licences"]) == 0
    assert HOSTILE in capsys.readouterr().out
    assert cli.main(["ask", str(whole), "saturation", "--json", "--licence", HOSTILE]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["more"]["segments longest at a limit"][0]["label"] == HOSTILE


def test_the_command_lists_questions_and_writes_tables(whole, tmp_path, capsys):
    assert cli.main(["ask"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in QUESTIONS)
    files = tmp_path / "t.csv", tmp_path / "t.parquet"
    assert cli.main(["ask", str(whole), "tail", "--rows", "1", "--csv", str(files[0]), "--parquet", str(files[1])]) == 0
    assert "1 more rows" in capsys.readouterr().out
    assert pl.read_parquet(files[1]).equals(ask(whole, "tail").table) and pl.read_csv(files[0]).height == 2
    assert cli.main(["ask", str(whole), "nothing"]) == 1


def test_quantiles_are_those_of_sorted_values():
    rng = np.random.default_rng(0)
    for values in (rng.lognormal(0, 2, 5000), rng.normal(0, 1, 5000), np.zeros(10), np.array([-3.0, 5.0])):
        weights = rng.integers(1, 100, len(values))
        order = np.argsort(values)
        below = np.cumsum(weights[order])
        expected = values[order][np.searchsorted(below, np.array([0.1, 0.5, 0.9]) * below[-1])]
        np.testing.assert_allclose(quantiles(values.astype(np.float32), weights, (0.1, 0.5, 0.9)), expected, rtol=3e-4)


def test_the_search_in_parts_finds_what_the_whole_matrix_does(tmp_path):
    rng = np.random.default_rng(0)
    vectors, queries = rng.normal(size=(1000, 8)).astype(np.float32), rng.normal(size=(3, 8)).astype(np.float32)
    parts = np.split(vectors, [3, 500])
    batches = ({"vector": part, "square": (part * part).sum(1)} for part in parts)
    write_folded(tmp_path / "v.arrow", batches, {})
    folded = read_folded(tmp_path / "v.arrow", {})
    assert folded is not None
    distance = np.linalg.norm(vectors - queries[:, None].astype(np.float64), axis=2)
    allowed = rng.random(1000) < 0.5
    distance[:, ~allowed] = np.inf
    distance[:, 7] = np.inf
    number, found = nearest_segments(folded, queries, 5, allowed=allowed, without=np.array([7]))
    np.testing.assert_array_equal(number, np.argsort(distance, axis=1)[:, :5])
    np.testing.assert_allclose(found, np.sort(distance, axis=1)[:, :5], rtol=1e-6)


def test_distances_of_distributions_by_formula():
    uniform = np.linspace(0, 1, 10_001)
    assert ks_distance(uniform, uniform + 0.25) == pytest.approx(0.25, abs=1e-3)
    assert ks_distance(np.zeros(5), np.zeros(9)) == 0
    assert stability_index(uniform, uniform) == pytest.approx(0, abs=1e-6)
    # All of the new in the lower half: five bins of 0.2 against 0.1, five of 0.0001 against 0.1.
    expected = 5 * 0.1 * np.log(2) + 5 * (1e-4 - 0.1) * np.log(1e-3)
    assert stability_index(uniform / 2, uniform) == pytest.approx(expected, rel=0.02)


def test_many_measures_seldom_raise_a_false_alarm():
    assert ks_by_chance(10**6, 10**6, 1) == pytest.approx(1.628 * np.sqrt(2e-6), rel=1e-3)
    rng, alarms = np.random.default_rng(0), 0
    for _ in range(200):
        here, there = (np.sort(rng.random((40, count))) for count in (300, 500))
        apart = [ks_distance(one, other) for one, other in zip(here, there, strict=True)]
        alarms += max(apart) > ks_by_chance(300, 500, 40)
    assert alarms <= 6  # 2 are to be expected; were each measure judged alone, 66


def test_nothing_folded_is_stale_after_another_corpus_took_the_place(whole):
    corpus = Corpus.open(whole)
    assert read_folded(whole / "hme" / "facts.arrow", {"shards": "other"}) is None
    assert len(fold.facts(corpus)) == 6 and len(fold.kept(corpus)) == 4
