"""What is drawn hangs on seed, step and plan; weights share out the windows; ranks and resumption change nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from corpus.errors import MotionloomError
from corpus.loading.sampler import PURPOSES, Sampler, Search, exposure, philox, slots_of
from corpus.loading.sampling_plan import Plan, effective_sample_size, window_count

FRAMES = np.array([60, 300, 25, 130, 64, 90, 1] * 3)


def sampler(plan: Plan | None = None, frames: np.ndarray = FRAMES, **options: Any) -> Sampler:
    given: dict[str, Any] = {"window": 20, "batch_size": 16, "seed": 0} | options
    return Sampler(plan or Plan.by_windows(frames, given["window"]), frames, **given)


def draws_of(one: Sampler, step: int) -> np.ndarray:
    """All that is drawn, a row per window."""
    draw = one.draw(step)
    return np.column_stack([draw.segment, draw.frame, draw.uniform])


# --- a global batch, whoever takes it


@pytest.mark.parametrize("epochs", [False, True])
@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_ranks_together_take_the_same_global_batch(world_size, epochs):
    options: dict[str, Any] = {"batch_size": 37, "epochs": epochs}
    alone = sampler(**options)
    for step in (0, 1, 2**40):
        ranks = [draws_of(sampler(**options, rank=r, world_size=world_size), step) for r in range(world_size)]
        assert np.array_equal(np.concatenate(ranks), draws_of(alone, step))


@given(st.integers(1, 50), st.integers(1, 300))
def test_slots_are_dealt_out_whole_and_evenly(world_size, batch_size):
    if world_size > batch_size:
        with pytest.raises(MotionloomError):
            slots_of(0, world_size, batch_size)
        return
    slots = [slots_of(rank, world_size, batch_size) for rank in range(world_size)]
    assert [i for s in slots for i in range(s.start, s.stop)] == list(range(batch_size))
    sizes = {s.stop - s.start for s in slots}
    assert max(sizes) - min(sizes) <= 1


@given(st.integers(0, 2**62), st.integers(0, 2**62), st.integers(0, 40), st.integers(1, 40))
def test_random_numbers_of_a_slot_are_its_own(seed, step, first, count):
    one = sampler(seed=seed, batch_size=100)
    whole = one.uniform(step, slice(0, 100))
    assert np.array_equal(one.uniform(step, slice(first, first + count)), whole[first : first + count])
    assert len(np.unique(whole)) == whole.size and (whole >= 0).all() and (whole < 1).all()


def test_no_two_steps_seeds_plans_or_purposes_share_random_numbers():
    streams = [
        sampler(seed=seed, frames=FRAMES + more).bits(purpose, index, 50)
        for seed in (0, 1) for more in (0, 1) for purpose in PURPOSES for index in (0, 1)
    ]  # fmt: skip
    assert len(np.unique(streams)) == 8 * len(PURPOSES) * 50


def test_a_state_is_a_few_integers_and_brings_the_step_back():
    state = sampler(seed=3).state(17)
    assert state.keys() == {"seed", "step", "plan", "batch_size"} and sampler(seed=3).step_of(state) == 17
    assert all(type(value) is int and 0 <= value < 2**63 for value in state.values())
    assert sampler(seed=3, rank=1, world_size=4).step_of(state) == 17


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 4},
        {"batch_size": 8},
        {"window": 21},
        {"plan": Plan(np.ones(21))},
        {"frames": FRAMES + 1},
        {"epochs": True},
    ],
)
def test_the_state_of_other_batches_is_refused(other):
    with pytest.raises(MotionloomError, match="its batches are others"):
        sampler(**other).step_of(sampler().state(1))
    with pytest.raises(MotionloomError, match="its batches are others"):
        sampler().step_of({})


# --- by weights


def test_weights_share_out_the_windows():
    rng = np.random.default_rng(0)
    weights = rng.uniform(0, 3, 21) * (rng.random(21) < 0.7)
    one = sampler(Plan(weights), batch_size=50_000)
    drawn = exposure(one, 3, 4)
    share = weights * (FRAMES >= 20)
    assert not drawn[share == 0].any() and (share > 0).sum() > 5
    assert np.allclose(one.share(), share / share.sum())
    assert stats.chisquare(drawn[share > 0], 50_000 * share[share > 0] / share.sum()).pvalue > 0.001


def test_without_weights_every_window_is_drawn_equally_often():
    draw = sampler(window=50, batch_size=100_000).draw(0)
    room = window_count(FRAMES, 50)
    drawn = np.bincount((np.cumsum(room) - room)[draw.segment] + draw.frame, minlength=room.sum())
    assert len(drawn) == room.sum() and stats.chisquare(drawn).pvalue > 0.001


def test_groups_have_their_shares_and_share_them_out_by_weight():
    group = np.array([0, 0, 0, 1, 1, 2, -1] * 3)
    plan = Plan.by_groups(group, np.array([2.0, 1.0, 1.0]), window_count(FRAMES, 20))
    share = sampler(plan).share()
    assert np.allclose(np.bincount(group + 1, share), [0, 0.5, 0.25, 0.25])
    room = window_count(FRAMES, 20)
    assert np.allclose(share[group == 0], 0.5 * room[group == 0] / room[group == 0].sum())


def test_a_group_of_nothing_leaves_its_share_to_the_others(caplog):
    group, share = np.array([0, 1, 2] * 7), np.array([1.0, 1.0, 2.0])
    with caplog.at_level("INFO"):
        plan = Plan.by_groups(group, share, np.where(group == 1, 0.0, 1.0))
    assert np.allclose(np.bincount(group, plan.weights), [1, 0, 2]) and "1 groups (0.25 of the share)" in caplog.text


@pytest.mark.parametrize("number", [0.0, np.nextafter(1.0, 0)])
def test_the_outermost_random_numbers_fall_on_segments_with_weight(number):
    """Sums of floats may end a hair below one; and no number may fall on a segment without weight at either end."""
    share = np.full(21, 0.1)
    share[[0, 20]] = 0
    assert Search(share)(np.array([number])) == [19 if number else 1]


@given(st.lists(st.sampled_from([0.0, 1e-12, 0.3, 1.0, 1e6]), min_size=1, max_size=60), st.integers(0, 2**32))
def test_the_search_finds_what_a_plain_search_finds(share, seed):
    if not sum(share):
        return
    search = Search(np.array(share))
    numbers = np.concatenate([np.random.default_rng(seed).random(50), search.cumulative[search.cumulative < 1], [0.0]])
    assert np.array_equal(search(numbers), np.searchsorted(search.cumulative, numbers, side="right"))


def test_segments_shorter_than_a_window_are_left_out_and_told(caplog):
    with caplog.at_level("INFO", logger="corpus.loading.sampler"):
        one = sampler(window=64, batch_size=2000)
    assert one.excluded_count == 9 and "9 of 21 segments (258 frames) are shorter than a window of 64" in caplog.text
    assert set(one.draw(0).segment % 7) == {1, 3, 4, 5}


@pytest.mark.parametrize("group", [np.zeros(20, int), np.full(21, 3)])
def test_groups_that_are_none_are_refused(group):
    with pytest.raises(MotionloomError, match="Groups should be 21 numbers below 3"):
        Plan.by_groups(group, np.ones(3), np.ones(21))


# --- in exact epochs


@pytest.mark.parametrize("stride", [None, 1, 7, 50])
def test_an_epoch_shows_each_window_once_and_every_frame(stride):
    """Batches of 16 do not divide the epoch: the last of it and the first of the next share one."""
    weights = np.where(np.arange(21) == 3, 0.0, 1.0)
    one = sampler(Plan(weights), epochs=True, stride=stride)
    steps = -(-3 * one.windows_per_epoch // 16)
    drawn = [one.draw(step) for step in range(steps)]
    windows = list(
        zip(np.concatenate([d.segment for d in drawn]), np.concatenate([d.frame for d in drawn]), strict=True)
    )
    epochs = [windows[i * one.windows_per_epoch : (i + 1) * one.windows_per_epoch] for i in range(3)]
    apart = stride or 20
    expected = {
        (s, min(start, FRAMES[s] - 20))
        for s in range(21) if FRAMES[s] >= 20 and s != 3
        for start in range(0, FRAMES[s] - 20 + apart, apart)
    }  # fmt: skip
    assert all(len(epoch) == len(expected) and set(epoch) == expected for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    if apart <= 20:
        assert {(s, f + k) for s, f in expected for k in range(20)} == {
            (s, f) for s in range(21) if FRAMES[s] >= 20 and s != 3 for f in range(FRAMES[s])
        }


def test_a_batch_may_hold_many_epochs():
    one = sampler(epochs=True, window=300, batch_size=10)
    segments = np.concatenate([one.draw(step).segment for step in range(6)]).reshape(-1, 3)
    assert one.windows_per_epoch == 3 and (np.sort(segments, 1) == [1, 8, 15]).all()


def test_longer_and_shorter_windows_stay_in_their_segment():
    """Windows warped in time take other numbers of frames; in epochs, shorter ones stay within the drawn window."""
    for epochs in (False, True):
        one = sampler(epochs=epochs, batch_size=2000)
        draw = one.draw(0)
        length = np.minimum(np.random.default_rng(0).integers(10, 30, 2000), FRAMES[draw.segment])
        first = one.place(draw, length)
        assert (first >= 0).all() and (first + length <= FRAMES[draw.segment]).all()
        assert np.array_equal(one.place(draw, np.full(2000, 20)), draw.frame)
        if epochs:
            shorter = length <= 20
            assert (first >= draw.frame)[shorter].all() and (first + length <= draw.frame + 20)[shorter].all()
            assert (first <= draw.frame).all() or shorter.any()


def test_a_shorter_window_stands_anywhere_in_its_segment():
    one = sampler(Plan(np.eye(21)[1]), batch_size=50_000)
    first = one.place(one.draw(0), np.full(50_000, 10))
    assert stats.chisquare(np.bincount(first, minlength=291)).pvalue > 0.001 and first.max() == 290


# --- reported


def test_the_effective_sample_size_is_kishs():
    assert effective_sample_size(np.ones(7)) == pytest.approx(7)
    assert effective_sample_size(np.array([5.0, 0, 0])) == pytest.approx(1)
    assert effective_sample_size(np.array([1.0, 2, 3]) * 1e-200) == pytest.approx(36 / 14)
    assert effective_sample_size(np.zeros(3)) == 0


def test_exposure_counts_what_was_drawn_by_all_ranks():
    drawn = np.concatenate([sampler().draw(step).segment for step in range(5, 9)])
    for rank in range(3):
        assert np.array_equal(exposure(sampler(rank=rank, world_size=3), 5, 9), np.bincount(drawn, minlength=21))


def test_millions_of_segments_take_no_lists():
    frames = np.full(1_000_000, 100)
    one = sampler(Plan(np.random.default_rng(0).random(1_000_000)), frames, batch_size=4096)
    draw = one.draw(0)
    u = one.uniform(0, slice(0, 4096))[:, 0]
    assert np.array_equal(draw.segment, np.searchsorted(one.search.cumulative, u, side="right"))


@given(
    key=st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)),
    counter=st.tuples(*[st.integers(0, 2**64 - 1)] * 4),
    count=st.integers(0, 40),
)
def test_bits_are_those_that_numpys_philox_gives(key, counter, count):
    numpys = np.random.Philox(key=np.array(key, np.uint64), counter=np.array(counter, np.uint64))
    np.testing.assert_array_equal(philox(key, counter, count), numpys.random_raw(count))
