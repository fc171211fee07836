"""Damaged, stale or half-written clusters are made again, or left out where they are only shown."""

from __future__ import annotations

import numpy as np
import pytest
from small_corpus import write_small_corpus, write_small_shard

from corpus.catalog import Corpus, fold
from hme.cluster import read_clusters
from hme.space import Space
from pipelines import cli
from pipelines.cluster import Cluster
from pipelines.cluster_corpus import cluster_corpus
from pipelines.embed import embed
from pipelines.report_alike import alike_sections


@pytest.fixture
def space(tmp_path) -> Space:
    out = write_small_corpus(tmp_path / "corpus", *(f"{i:02x}" for i in range(5)))
    embed(out, cluster=Cluster("inline"))
    found = Space.open(Corpus.open(out))
    cluster_corpus(found, 2)
    return found


def test_damaged_centres_are_found_again(space):
    before = read_clusters(space).copy()
    path = space.path("clusters.npz")
    path.write_bytes(path.read_bytes()[:100])
    clusters, fitted = cluster_corpus(space, 2)
    assert fitted and clusters.count == 2
    np.testing.assert_array_equal(read_clusters(space), before)


def test_a_report_of_a_corpus_that_has_grown_lacks_what_is_stale(space, caplog):
    out = space.corpus.path
    assert len(alike_sections(Corpus.open(out))) == 3
    write_small_shard(out / "shards", "ff")
    fold(out)
    assert len(alike_sections(Corpus.open(out))) == 1
    assert "the report lacks a part" in caplog.text and "run `loom embed`" in caplog.text
    embed(out, cluster=Cluster("inline"))
    assert len(alike_sections(Corpus.open(out))) == 2
    assert "run `loom cluster` again" in caplog.text


@pytest.mark.parametrize(
    "options",
    [["cluster", "--clusters", "0"], ["cluster", "--seed", "-1"], ["cluster", "--seed", "99999999999"],
     ["diversity", "--sample", "-1"], ["balance", "--out", "p.parquet", "--window", "0"],
     ["balance", "--out", "p.parquet", "--steps", "-1"]],
)  # fmt: skip
def test_numbers_that_mean_nothing_are_refused_in_a_line(space, options, capsys):
    with pytest.raises(SystemExit):
        cli.main([options[0], str(space.corpus.path), *options[1:]])
    assert "must be" in capsys.readouterr().err


@pytest.mark.parametrize(("where", "why"), [("nowhere/hours.csv", "there is no such folder"), (".", "is a folder")])
def test_a_place_that_cannot_be_written_is_told_in_a_line(space, where, why, tmp_path, capsys):
    place = tmp_path / where
    assert cli.main(["ask", str(space.corpus.path), "hours", "--csv", str(place)]) == 1
    assert why in capsys.readouterr().err
