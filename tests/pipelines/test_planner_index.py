"""A corpus as an index for the planner."""

from __future__ import annotations

import argparse

import numpy as np
import pytest
from small_corpus import write_small_corpus, write_small_shard

from corpus.catalog import Corpus, fold
from corpus.errors import MotionloomError
from deploy.planner.index import Index
from pipelines.deploy_commands import styles
from pipelines.planner_index import planner_index


@pytest.fixture
def corpus(tmp_path):
    return write_small_corpus(tmp_path / "corpus", "a1", "b2")


def test_the_index_holds_the_corpus(corpus, tmp_path):
    index, built = planner_index(Corpus.open(corpus), tmp_path / "index")
    assert built and len(index.motions) == 2
    opened = Corpus.open(corpus)
    motions = {opened.motion(number).joint_position.tobytes() for number in range(2)}
    assert {index.qpos[start : start + frames, 7:].tobytes() for start, frames in index.motions} == motions


def test_it_is_built_again_only_when_the_corpus_grew(corpus, tmp_path):
    planner_index(Corpus.open(corpus), tmp_path / "index")
    assert not planner_index(Corpus.open(corpus), tmp_path / "index")[1]
    write_small_shard(corpus / "shards", "c3")
    fold(corpus)
    index, built = planner_index(Corpus.open(corpus), tmp_path / "index")
    assert built and len(index.motions) == 3


def test_a_damaged_index_is_built_again(corpus, tmp_path):
    planner_index(Corpus.open(corpus), tmp_path / "index")
    np.save(tmp_path / "index" / "order.npy", np.zeros(3))
    assert planner_index(Corpus.open(corpus), tmp_path / "index")[1]
    Index.open(tmp_path / "index")


def test_a_folder_with_other_things_is_left_alone(corpus, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(MotionloomError, match="something else"):
        planner_index(Corpus.open(corpus), tmp_path / "mine")
    assert (tmp_path / "mine" / "letter.txt").exists()


def test_clusters_that_are_asked_for_must_be_there(corpus, tmp_path):
    with pytest.raises(MotionloomError):
        planner_index(Corpus.open(corpus), tmp_path / "index", hme_id="unknown")


def test_the_command_lists_what_there_is(corpus, tmp_path, capsys):
    parser = argparse.ArgumentParser()
    styles.add_options(parser)
    folder = str(tmp_path / "index")
    assert styles.run(parser.parse_args([folder, "--corpus", str(corpus)])) == 0
    assert styles.run(parser.parse_args([folder])) == 0
    assert "2 motions" in capsys.readouterr().out
