"""Clusters: blobs that are known are found, and the tables tell of them what is there."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from corpus.errors import MotionloomError
from hme.cluster import (
    Clusters,
    _most_common,
    default_count,
    describe,
    fit_clusters,
    read_clusters,
    stability,
    write_clusters,
)


def blobs(count: int, each: int, *, seed: int = 0, apart: float = 20.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(count), each)
    return (apart * rng.normal(size=(count, 8))[label] + rng.normal(size=(len(label), 8))).astype(np.float32), label


def test_blobs_far_apart_are_found_whatever_the_seed():
    from sklearn.metrics import adjusted_rand_score

    vectors, label = blobs(7, 60)
    for seed in range(3):
        found, distance = fit_clusters(vectors, 7, hme_id="x", seed=seed).assign(vectors)
        assert adjusted_rand_score(label, found) == 1
        assert distance.max() < 8
    told = stability(vectors, 7)
    assert told.seeds == told.subsamples == 1


def test_mini_batches_find_them_too(monkeypatch):
    from sklearn.metrics import adjusted_rand_score

    from hme import cluster

    monkeypatch.setattr(cluster, "FEW", 0)
    vectors, label = blobs(5, 100)
    assert adjusted_rand_score(label, fit_clusters(vectors, 5, hme_id="x").assign(vectors)[0]) == 1


def test_noise_has_no_stable_clusters():
    noise = np.random.default_rng(0).normal(size=(600, 8)).astype(np.float32)
    assert stability(noise, 20).subsamples < 0.5


def test_each_vector_goes_to_the_nearest_centre():
    vectors, _ = blobs(4, 50, apart=1.0)
    clusters = fit_clusters(vectors, 9, hme_id="x")
    apart = np.linalg.norm(vectors[:, None] - clusters.centres, axis=2)
    cluster, distance = clusters.assign(vectors)
    np.testing.assert_array_equal(cluster, apart.argmin(1))
    np.testing.assert_allclose(distance, apart.min(1), rtol=1e-4, atol=1e-4)


def test_a_sample_finds_the_same_centres_again():
    vectors, _ = blobs(6, 500)
    a, b = (fit_clusters(vectors, 6, hme_id="x", seed=3, sample=400) for _ in range(2))
    assert a.id == b.id
    assert (np.bincount(a.assign(vectors)[0]) == 500).all()


@pytest.mark.parametrize(("segments", "count"), [(0, 1), (1, 1), (732, 27), (5_000_000, 384)])
def test_how_many_clusters_there_are_by_default(segments, count):
    assert default_count(segments) == count


@pytest.mark.parametrize("count", [0, -3, 11])
def test_more_clusters_than_segments_is_an_error(count):
    with pytest.raises(MotionloomError, match="name a number from 1 to 10"):
        fit_clusters(np.zeros((10, 3), np.float32), count, hme_id="x")


def test_saved_and_loaded_they_are_the_same(tmp_path):
    clusters = fit_clusters(blobs(3, 20)[0], 3, hme_id="abc", seed=4)
    clusters.save(tmp_path / "clusters.npz")
    loaded = Clusters.load(tmp_path / "clusters.npz")
    assert (loaded.id, loaded.hme_id, loaded.seed) == (clusters.id, "abc", 4)


@pytest.mark.parametrize("content", [b"", b"no npz", b"PK\x03\x04 cut off"])
def test_a_damaged_file_names_the_command(tmp_path, content):
    (tmp_path / "clusters.npz").write_bytes(content)
    with pytest.raises(MotionloomError, match="loom cluster"):
        Clusters.load(tmp_path / "clusters.npz")


def test_the_description_adds_up(space):
    write_clusters(space, fit_clusters(space.vectors, 3, hme_id=space.hme_id))
    cluster = read_clusters(space)
    about = describe(space)
    assert about["segments"].sum() == len(cluster) and about["share"].sum() == pytest.approx(1)
    assert about["hours"].sum() * 3600 * 50 == pytest.approx(space.corpus.frames.sum())
    for row in about.to_dicts():
        members = np.flatnonzero(cluster == row["cluster"])
        square = ((space.vectors[members][:, None] - space.vectors[members]) ** 2).sum(2).mean(1)
        assert space.corpus.kept["segment"][int(members[square.argmin()])] == row["medoid"]
        assert row["sources"] == "robot 100 %"


def test_clusters_of_another_embedder_are_refused(space):
    with pytest.raises(MotionloomError, match="of the embedder other"):
        write_clusters(space, fit_clusters(space.vectors, 2, hme_id="other"))


def test_centres_and_table_of_two_runs_are_told_apart(space):
    write_clusters(space, fit_clusters(space.vectors, 3, hme_id=space.hme_id))
    fit_clusters(space.vectors, 2, hme_id=space.hme_id).save(space.path("clusters.npz"))
    with pytest.raises(MotionloomError, match="other centres"):
        read_clusters(space)
    table = pl.read_parquet(space.path("clusters.parquet"))
    assert table.columns == ["segment", "cluster", "distance"]


def test_the_most_common_labels_are_shares_of_all_segments_named_or_not():
    rows = pl.DataFrame({"cluster": [0] * 8, "label": ["walk"] * 4 + ["run"] * 2 + ["", "jump"]})
    told = rows.group_by("cluster").agg(labels=_most_common("label", 2))
    assert told["labels"].to_list() == ["walk 50 %, run 25 %"]
