"""The rotating buffer draws as often as the plan says, the same for all numbers of ranks, and reads each shard in its turn."""

from __future__ import annotations

import contextlib
import gc
import pickle
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from corpus import loader
from corpus.augment import Augment
from corpus.errors import CorruptShard, MotionloomError
from corpus.loader import Loader, TorchWindows, batches, open_windows
from corpus.loading import rotating
from corpus.loading.rotating import RotatingSampler
from corpus.loading.sampler import exposure
from corpus.loading.sampling_plan import Plan

SHARDS = 10
FRAMES = np.array([50, 80, 30] * SHARDS)
SHARD_OF = np.repeat(np.arange(SHARDS), 3)


def sampler(plan: Plan | None = None, **options: Any) -> RotatingSampler:
    given: dict[str, Any] = {"window": 20, "batch_size": 24, "seed": 0, "resident": 4, "stay": 6} | options
    return RotatingSampler(plan or Plan(np.ones(30)), FRAMES, shard_of=SHARD_OF, **given)


def loads(one: RotatingSampler, generations: int) -> np.ndarray:
    """The shards in the order of their loading: generation after generation, slot after slot."""
    return np.concatenate([one._loaded(np.full(one.resident, g)) for g in range(generations)])


@pytest.fixture(scope="module")
def ten(tmp_path_factory, make_corpus, make_motion):
    """Ten shards of three segments."""
    names = [f"{i:04x}" for i in range(SHARDS)]
    lengths = FRAMES.reshape(SHARDS, 3).tolist()
    shards = {
        n: [(make_motion(f, i * 10 + j), {"speed_use": 0.5}) for j, f in enumerate(lengths[i])]
        for i, n in enumerate(names)
    }
    return make_corpus(tmp_path_factory.mktemp("ten"), shards)


OPTIONS: dict[str, Any] = {"batch_size": 24, "window": 20, "seed": 0, "mode": "rotating", "resident": 4, "stay": 6}


# --- what is drawn


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_ranks_together_take_the_same_global_batch_and_each_reads_its_part(world_size):
    alone = sampler()
    for step in (0, 3, 100, 2**40):
        ranks = [sampler(rank=r, world_size=world_size) for r in range(world_size)]
        for name in ("segment", "frame", "uniform"):
            parts = np.concatenate([getattr(rank.draw(step), name) for rank in ranks])
            assert np.array_equal(parts, getattr(alone.draw(step), name))
        for rank in ranks:
            assert set(SHARD_OF[rank.draw(step).segment]) <= set(rank.shards(step))
            assert len(rank.shards(step)) <= -(-4 // world_size) + 1


def test_of_shards_of_equal_weight_each_comes_once_in_a_round():
    one = sampler(resident=5)
    order = loads(one, 20).reshape(-1, SHARDS)
    assert (np.sort(order, 1) == np.arange(SHARDS)).all() and len({tuple(row) for row in order}) == 10


def test_of_uneven_shards_each_comes_as_often_as_its_weight_rounded_up_or_down():
    weights = np.random.default_rng(0).uniform(0, 1, 30) * np.repeat([0, 1, 1, 1, 1, 1, 1, 1, 1, 6], 3)
    one = sampler(Plan(weights), resident=9)
    rounds = loads(one, 200).reshape(-1, 9)
    counts = np.stack([np.bincount(row, minlength=SHARDS) for row in rounds])
    expected = 9 * weights.reshape(SHARDS, 3).sum(1) / weights.sum()
    assert ((counts == np.floor(expected)) | (counts == np.ceil(expected))).all()
    assert np.abs(counts.mean(0) - expected).max() < 5 * 0.5 / np.sqrt(200)


def test_a_slot_keeps_its_shard_for_its_steps_and_one_slot_changes_after_the_other():
    one = sampler(resident=5, stay=10)
    held = np.stack([one._loaded(one._generation(step)) for step in range(200)])
    changes = np.stack([one._generation(step) for step in range(200)])
    changed = np.diff(changes, axis=0)
    assert set(changed.ravel()) == {0, 1} and changed.sum(1).max() == 1
    for slot in range(5):
        assert set(np.diff(np.flatnonzero(changed[:, slot]))) == {10}
        assert (np.diff(held[:, slot])[changed[:, slot] == 0] == 0).all()


def test_what_comes_next_is_what_will_be_needed_next():
    one = sampler(resident=5, stay=10)
    for step in range(50):
        upcoming = one.next_shards(step, 5)
        needed = []
        for later in range(step + 1, step + 11):
            before, after = one._loaded(one._generation(later - 1)), one._loaded(one._generation(later))
            needed += after[one._generation(later) != one._generation(later - 1)].tolist()
            assert set(after) <= set(before) | set(needed)
        assert upcoming == needed


def test_segments_are_drawn_by_weight_whatever_the_buffer():
    """Over many rounds: more than one shard's windows are of one load, so the judge is a round's mean."""
    weights = np.random.default_rng(1).uniform(0.5, 2, 30) * (np.arange(30) % 7 > 0)
    one = sampler(Plan(weights), batch_size=64, resident=8, stay=1)
    drawn = exposure(one, 0, 3000)
    share = weights / weights.sum()
    assert not drawn[weights == 0].any()
    # Shards come evenly; within them windows are independent, so the spread is below that of free draws.
    assert stats.chisquare(drawn[weights > 0], drawn.sum() * share[weights > 0]).pvalue > 0.001
    assert np.allclose(one.share(), share)


def test_random_numbers_at_a_shards_upper_end_stay_in_it(monkeypatch):
    one = sampler()
    monkeypatch.setattr(one, "uniform", lambda step, slots: np.full((24, 8), np.nextafter(1, 0)))
    assert np.array_equal(SHARD_OF[one.draw(0).segment], one._loaded(one._generation(0))[np.arange(24) * 4 // 24])


@pytest.mark.parametrize("wrong", [{"resident": 0}, {"resident": 25}, {"stay": 0}, {"epochs": True}])
def test_buffers_without_sense_are_refused(wrong):
    with pytest.raises(MotionloomError):
        sampler(**wrong)


# --- what is read


@pytest.mark.parametrize("augment", [None, Augment()])
def test_windows_are_what_the_mapped_shards_hold(ten, same, augment):
    rotating = open_windows(ten, **OPTIONS, augment=augment)
    mapped = open_windows(ten, **(OPTIONS | {"mode": "mapped"}), augment=augment)
    for step in (0, 1, 7, 30, 29, 1000):
        assert same(rotating[step], mapped.gather(rotating.sampler.draw(step)))


def test_shards_are_read_once_for_each_time_they_come_and_few_are_held(ten, monkeypatch):
    read = []
    whole = rotating.read_shard
    monkeypatch.setattr(rotating, "read_shard", lambda shard: read.append(shard.path.name) or whole(shard))
    windows = open_windows(ten, **OPTIONS)
    steps = 6 * 25
    for step in range(steps):
        windows[step]
        assert len(windows.rows._reads) <= 4 + 2
    came = loads(windows.sampler, 27)
    expected = [ten.shard_ids[i] for i in came[: 4 * 25]]
    # Where a shard comes again while it is still there, it is not read again.
    repeats = sum(expected[i] in expected[max(i - 7, 0) : i] for i in range(len(expected)))
    assert len(expected) - repeats <= len(read) <= len(expected) + 8


def test_shards_without_weight_are_never_read(ten, monkeypatch):
    read = []
    whole = rotating.read_shard
    monkeypatch.setattr(rotating, "read_shard", lambda shard: read.append(shard.path.name) or whole(shard))
    weights = (SHARD_OF % 2).astype(float)
    assert len(list(batches(ten, **OPTIONS, weights=weights, steps=100))) == 100
    assert {ten.shard_ids.index(name) % 2 for name in read} == {1}


def test_a_run_goes_on_from_its_state_on_another_number_of_ranks(ten, same):
    alone = list(batches(ten, **OPTIONS, steps=20))
    begun = Loader(ten, **OPTIONS, rank=0, world_size=2)
    for _, _ in zip(range(13), begun, strict=False):
        pass
    ranks = [Loader(ten, **OPTIONS, rank=r, world_size=3, prefetch=0) for r in range(3)]
    for rank in ranks:
        rank.load_state_dict(begun.state_dict())
    for parts, whole in zip(zip(*ranks, strict=True), alone[13:], strict=False):
        assert np.array_equal(np.concatenate([part.qpos for part in parts]), whole.qpos)


def test_a_buffer_of_unsaid_size_takes_the_states(ten, same):
    state = {**open_windows(ten, **OPTIONS).sampler.state(9)}
    unsaid = {name: value for name, value in OPTIONS.items() if name not in ("mode", "resident", "stay")}
    resumed = Loader(ten, **unsaid)
    resumed.load_state_dict(state)
    assert same(next(iter(resumed)), open_windows(ten, **OPTIONS)[9])
    back = Loader(ten, **unsaid, mode="rotating")
    back.load_state_dict(state)
    assert same(next(iter(back)), open_windows(ten, **OPTIONS)[9])
    for said in ({"mode": "mapped"}, {"mode": "rotating", "resident": 5}, {"mode": "rotating", "stay": 7}):
        with pytest.raises(MotionloomError, match="its batches are others"):
            Loader(ten, **unsaid, **said).load_state_dict(state)


@pytest.mark.parametrize(("free", "expected"), [(2 * 1600 * 148, "mapped"), (2 * 1600 * 148 - 2, "rotating")])
def test_corpora_of_up_to_half_the_free_memory_are_mapped(ten, monkeypatch, free, expected):
    """Ten shards of 160 frames, 148 bytes each."""
    monkeypatch.setattr(loader.psutil, "virtual_memory", lambda: SimpleNamespace(available=free, total=1 << 34))
    windows = open_windows(ten, batch_size=24, window=20, seed=0)
    assert isinstance(windows.sampler, RotatingSampler) == (expected == "rotating")
    assert not isinstance(open_windows(ten, batch_size=24, window=20, seed=0, epochs=True).sampler, RotatingSampler)


def test_a_shard_stays_until_its_frames_were_used_as_often_as_told(ten):
    """Four shards of 160 frames, 24 windows of 20 a step: 3 times after 4 steps."""
    windows = open_windows(ten, **{**OPTIONS, "stay": None}, reuse=3.0)
    assert windows.sampler.stay == round(3 * 4 * 160 / (24 * 20))


def test_a_file_that_ends_too_soon_is_told(tmp_path, make_corpus, make_motion):
    corpus = make_corpus(tmp_path, {"aaaa": [(make_motion(50, 0), {})]})
    shard = corpus.shard(0)
    assert len(shard.qpos) == 50 and len(shard.contact) == 50
    path = tmp_path / "shards" / "aaaa" / "contact" / "c" / "0" / "0"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CorruptShard, match="ends 100 bytes before its last row"):
        list(batches(corpus, batch_size=2, window=20, seed=0, mode="rotating", steps=1))


def test_a_shard_that_has_given_way_in_its_cache_since_it_was_opened_is_read_from_its_map(
    tmp_path, make_corpus, make_motion
):
    motion = make_motion(50, 0)
    shard = make_corpus(tmp_path, {"aaaa": [(motion, {})]}).shard(0)
    assert len(shard.qpos) == len(shard.contact) == 50
    shutil.rmtree(shard.path)
    qpos, contact = rotating.read_shard(shard)
    assert np.array_equal(qpos, motion.qpos) and np.array_equal(contact, motion.contact)


def test_a_read_that_failed_is_tried_again(ten, same, monkeypatch):
    whole, failed = rotating.read_shard, []

    def read(shard):
        if len(failed) < 2:
            failed.append(shard)
            raise OSError("the network is away")
        return whole(shard)

    monkeypatch.setattr(rotating, "read_shard", read)
    windows = open_windows(ten, **OPTIONS)
    with pytest.raises(OSError, match="the network is away"):
        windows[0]
    for _ in range(2):
        with contextlib.suppress(OSError):
            windows[0]
    assert same(windows[0], open_windows(ten, **OPTIONS)[0])


def test_batches_may_be_made_by_several_threads_at_once(ten, same):
    """Far apart, so that each throws out what the other holds."""
    windows, alone = open_windows(ten, **OPTIONS), open_windows(ten, **OPTIONS)
    steps = [7 * i for i in range(40)]
    with ThreadPoolExecutor(4) as threads:
        assert all(map(same, threads.map(windows.__getitem__, steps), map(alone.__getitem__, steps)))


def test_no_reader_is_left_behind(ten):
    assert len(list(batches(ten, **OPTIONS, steps=3))) == 3
    gc.collect()
    for thread in threading.enumerate():
        if thread.name.startswith("motionloom"):
            thread.join(5)
    assert not [t for t in threading.enumerate() if t.name.startswith("motionloom")]


def test_workers_read_for_themselves(ten, same):
    """Forked ones, and by pickle what spawned ones get."""
    torch = pytest.importorskip("torch")
    expected = list(batches(ten, **OPTIONS, steps=8))
    data = TorchWindows(ten, **OPTIONS, steps=8)
    next(iter(data))  # its threads are there before the workers are
    got = list(torch.utils.data.DataLoader(data, batch_size=None, num_workers=2, multiprocessing_context="fork"))
    assert all(np.array_equal(a["qpos"].numpy(), b.qpos) for a, b in zip(got, expected, strict=True))
    assert same(pickle.loads(pickle.dumps(data.windows))[5], expected[5])
