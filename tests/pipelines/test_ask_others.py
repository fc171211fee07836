"""What another corpus, or a file of motion, has that this one lacks: made-up vectors far apart, and files that are in it already."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from asked_corpus import HME, write_catalog, write_embedding

from corpus.errors import MotionloomError
from pipelines.ask import ask
from pipelines.build import build
from pipelines.cluster import Cluster
from pipelines.embed import embed

COUNT = 300


def cloud(out: Path, key: str, offset: float) -> Path:
    """A corpus of one clip whose segments lie about a point."""
    segments = [(100 * number, 100, None, 0.1, 9, 0.0) for number in range(COUNT)]
    write_catalog(out, {key: [(key, "bvh", "A", "take", "walk", 100 * COUNT, segments)]})
    rng = np.random.default_rng(int(key, 16))
    write_embedding(out, {key: rng.normal(offset, 1, (COUNT, 4))})
    return out


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Path:
    return cloud(tmp_path_factory.mktemp("here") / "corpus", "33", 0)


@pytest.fixture(scope="module")
def far(tmp_path_factory) -> Path:
    return cloud(tmp_path_factory.mktemp("far") / "corpus", "44", 100)


@pytest.fixture(scope="module")
def near(tmp_path_factory) -> Path:
    return cloud(tmp_path_factory.mktemp("near") / "corpus", "55", 0)


def test_what_lies_far_away_is_not_covered_and_new(here, far):
    covered = ask(here, "coverage", against=far)
    assert covered.table["share"].to_list() == [0, 0] and (covered.table["own"] > 0.5).all()
    found = ask(here, "novelty", against=far)
    (measures,) = found.more.values()
    assert measures["beyond"][0] == measures["far"][0] == 1 and "100.0% lie farther" in found.line
    assert (found.table["ratio"] > 50).all()


def test_what_is_drawn_from_the_same_is_covered_and_nothing_new(here, near):
    covered = ask(here, "coverage", against=near).table
    assert abs(covered["share"] - covered["own"]).max() < 0.15
    (measures,) = ask(here, "novelty", against=near).more.values()
    assert measures["beyond"][0] == pytest.approx(0.5, abs=0.12)


def test_vectors_of_another_embedder_are_not_compared(here, tmp_path):
    other = cloud(tmp_path / "corpus", "66", 0)
    (other / "hme" / HME).rename(other / "hme" / "fedcba9876543210")
    with pytest.raises(MotionloomError, match=r"loom embed .* --embedder"):
        ask(here, "coverage", against=other)


def test_novelty_of_both_or_of_nothing_is_no_question(here):
    for given in ({}, {"against": here, "file": here}):
        with pytest.raises(MotionloomError, match="either"):
            ask(here, "novelty", **given)
        with pytest.raises(MotionloomError, match="either"):
            ask(here, "like", **{"clip": "a", "file": here} if given else {})


@pytest.fixture(scope="module")
def built(tmp_path_factory, motion_folder) -> tuple[Path, Path]:
    """A corpus of robot motion, embedded, and the folder that it was built from."""
    folder = motion_folder(tmp_path_factory.mktemp("files") / "robot", 42)
    out = tmp_path_factory.mktemp("built") / "corpus"
    build({"robot": folder}, out, scheduler="inline")
    embed(out, cluster=Cluster("inline"))
    return out, folder


def test_a_file_of_the_corpus_finds_itself(built):
    out, folder = built
    answer = ask(out, "like", file=folder / "take003.csv", count=2)
    assert answer.table["distance"][0] < 1e-3 < answer.table["distance"][1]
    own = ask(out, "like", clip="take003.csv", count=1).table
    assert answer.table["segment"][1] == own["segment"][0]
    assert own["distance"][0] == pytest.approx(answer.table["distance"][1], abs=1e-3)
    with pytest.raises(MotionloomError, match=r"notes\.txt"):
        ask(out, "like", file=folder / "notes.txt")


def test_a_folder_of_the_corpus_is_nothing_new_and_names_what_it_cannot_read(built):
    out, folder = built
    answer = ask(out, "novelty", file=folder)
    assert (answer.table["ratio"] < 0.05).all() and "0.0% lie farther" in answer.line
    assert any("notes.txt" in note for note in answer.notes)


def test_embedding_leaves_questions_nothing_to_fold(built):
    out, _ = built
    before = {path: path.stat().st_mtime_ns for path in (out / "hme").rglob("*.arrow")}
    assert {"facts.arrow", "kept.arrow", "clips.arrow", "traits.arrow", "trait_sums.arrow", "vectors.arrow"} <= {
        p.name for p in before
    }
    ask(out, "speed"), ask(out, "like", clip="take003.csv")
    assert before == {path: path.stat().st_mtime_ns for path in (out / "hme").rglob("*.arrow")}
