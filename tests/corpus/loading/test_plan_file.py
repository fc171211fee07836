"""A plan comes back from its file as it was; damage, other corpora and growth are noticed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_corpus import write_small_corpus, write_small_shard

from corpus.catalog import Corpus, fold
from corpus.errors import MotionloomError
from corpus.loader import open_windows
from corpus.loading.plan_file import load_plan, read_plan, save_plan
from corpus.loading.sampling_plan import Plan

POLICY = {"policy": [{"name": "cluster", "share": 1.0, "tau": 0.2}], "cap": 5.0}


@pytest.fixture
def corpus(tmp_path) -> Corpus:
    return Corpus.open(write_small_corpus(tmp_path / "corpus", "b" * 16, "d" * 16, "f" * 16))


def plan_of(corpus: Corpus, *, bins: bool) -> Plan:
    rng = np.random.default_rng(0)
    count = len(corpus.frames)
    return Plan(rng.random(count) / 3, rng.random(6 * count), 50) if bins else Plan(rng.random(count) / 3)


def grown(corpus: Corpus, *names: str) -> Corpus:
    for name in names:
        write_small_shard(corpus.path / "shards", name)
    fold(corpus.path)
    return Corpus.open(corpus.path)


@pytest.mark.parametrize("bins", [False, True])
def test_a_plan_comes_back_to_the_last_bit(corpus, tmp_path, bins):
    plan, path = plan_of(corpus, bins=bins), tmp_path / "deep" / "plan.parquet"
    told = save_plan(plan, path, corpus, policy=POLICY, hme_id="abc")
    back = load_plan(path, corpus)
    assert np.array_equal(back.weights, plan.weights) and back.hash == plan.hash and back.bin_frames == plan.bin_frames
    assert np.array_equal(back.bins, plan.bins) if bins else back.bins is None
    found = read_plan(path)
    assert (found.hash, found.hme_id, found.policy, found.stamp) == (told, "abc", POLICY, corpus.stamp)
    assert [entry.name for entry in path.parent.iterdir()] == ["plan.parquet"]


def test_the_file_is_a_table_of_segments_and_weights(corpus, tmp_path):
    save_plan(plan_of(corpus, bins=True), tmp_path / "plan.parquet", corpus)
    table = pq.read_table(tmp_path / "plan.parquet")
    assert table.column_names == ["segment", "weight", "bins"]
    assert table["segment"].to_pylist() == corpus.kept["segment"].to_list()
    assert [len(row) for row in table["bins"].to_pylist()] == [6, 6, 6]


def test_equal_plans_have_equal_hashes_and_others_others(corpus, tmp_path):
    def told(plan: Plan, **options: Any) -> str:
        return save_plan(plan, tmp_path / "plan.parquet", corpus, **options)

    plan = plan_of(corpus, bins=True)
    hashes = [
        told(plan),
        told(plan, hme_id="x"),
        told(plan, policy=POLICY),
        told(Plan(plan.weights)),
        told(Plan(plan.weights[::-1])),
    ]
    assert len(set(hashes)) == 5 and told(plan_of(corpus, bins=True)) == hashes[0]


def test_the_hash_is_of_the_names_too(corpus, tmp_path):
    save_plan(plan_of(corpus, bins=False), tmp_path / "plan.parquet", corpus)
    found = read_plan(tmp_path / "plan.parquet")
    moved = [f"{found.names[0]}{found.names[1]}"[:24], *found.names.to_pylist()[1:]]
    assert replace(found, names=pa.array(moved)).hash != found.hash


def test_the_loader_takes_the_file(corpus, tmp_path):
    plan, path = plan_of(corpus, bins=True), tmp_path / "plan.parquet"
    save_plan(plan, path, corpus)
    options: dict[str, Any] = {"batch_size": 8, "window": 64, "seed": 0, "mode": "mapped"}
    by_file, by_plan = (open_windows(corpus, weights=weights, **options) for weights in (path, plan))
    assert by_file.sampler.state(0) == by_plan.sampler.state(0)
    assert np.array_equal(by_file[5].qpos, by_plan[5].qpos)


@pytest.mark.parametrize("bins", [False, True])
def test_any_flipped_byte_is_noticed_or_changes_nothing(corpus, tmp_path, bins):
    plan, path = plan_of(corpus, bins=bins), tmp_path / "plan.parquet"
    save_plan(plan, path, corpus, policy=POLICY)
    whole, noticed = path.read_bytes(), 0
    for place in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            back = load_plan(path, corpus)
        except MotionloomError as error:
            assert str(path) in str(error) or str(corpus.path) in str(error)
            noticed += 1
        else:
            assert back.hash == plan.hash and np.array_equal(back.weights, plan.weights)
    assert noticed > len(whole) / 6


def test_what_is_no_plan_is_told(corpus, tmp_path):
    with pytest.raises(MotionloomError, match="`loom balance` writes one"):
        load_plan(tmp_path / "none.parquet", corpus)
    for path in (corpus.path / "catalog" / "segments-00000.parquet", corpus.path / "corpus.json"):
        with pytest.raises(MotionloomError, match="is no plan, or damaged"):
            load_plan(path, corpus)


@pytest.mark.parametrize("bins", [False, True])
def test_after_growth_new_segments_are_left_out_only_where_that_is_wanted(corpus, tmp_path, caplog, bins):
    """New shards come before, between and after the old ones in the catalog."""
    plan, path = plan_of(corpus, bins=bins), tmp_path / "plan.parquet"
    save_plan(plan, path, corpus)
    larger = grown(corpus, "a" * 16, "c" * 16, "e" * 16)
    with pytest.raises(MotionloomError, match="3 of 6 segments are new and would never be drawn"):
        open_windows(larger, weights=path, batch_size=8, window=64, seed=0)
    back = load_plan(path, larger, allow_new=True)
    assert "3 of 6 segments are newer" in caplog.text
    assert np.array_equal(back.weights, np.stack([np.zeros(3), plan.weights], 1).ravel())
    if plan.bins is not None:
        assert back.bins is not None
        rows = np.stack([np.zeros((3, 6)), plan.bins.reshape(3, 6)], 1).reshape(6, 6)
        assert np.array_equal(back.bins.reshape(6, 6), rows.astype(np.float32))


def test_another_corpus_is_refused(corpus, tmp_path):
    save_plan(plan_of(corpus, bins=False), tmp_path / "plan.parquet", corpus)
    other = Corpus.open(write_small_corpus(tmp_path / "other", "b" * 16, "e" * 16))
    with pytest.raises(MotionloomError, match="is of another corpus: 2 of its 3 segments are not in"):
        load_plan(tmp_path / "plan.parquet", other, allow_new=True)


def test_a_plan_of_another_length_is_not_written(corpus, tmp_path):
    for plan, why in ((Plan(np.ones(2)), "2 weights"), (Plan(np.ones(3), np.ones(4), 50), "4 bins")):
        with pytest.raises(MotionloomError, match=why):
            save_plan(plan, tmp_path / "plan.parquet", corpus)
    assert not list(Path(tmp_path).glob("*.parquet"))


def test_windows_of_another_length_than_the_plan_was_made_for_are_told(corpus, tmp_path, caplog):
    path = tmp_path / "plan.parquet"
    save_plan(Plan(np.ones(len(corpus.frames))), path, corpus, policy={"window": 32})
    load_plan(path, corpus, window=32)
    assert not caplog.messages
    load_plan(path, corpus, window=64)
    assert "made for windows of 32 frames, these have 64" in caplog.text
