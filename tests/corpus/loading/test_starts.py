"""Windows begin where a plan's bins say: by weight among bins, evenly within one, on any number of ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from corpus.errors import MotionloomError
from corpus.loader import Loader
from corpus.loading.rotating import RotatingSampler
from corpus.loading.sampler import Sampler
from corpus.loading.sampling_plan import Plan, bin_count
from corpus.loading.starts import Starts, starts_in_bins

FRAMES = np.array([60, 300, 25, 130, 64, 90, 1] * 3)
LENGTH, WINDOW = 50, 20


def plan_of_bins(seed: int = 0, zeros: float = 0.3) -> Plan:
    rng = np.random.default_rng(seed)
    count = bin_count(FRAMES, LENGTH).sum()
    return Plan(rng.random(len(FRAMES)), rng.random(count) * (rng.random(count) > zeros), LENGTH)


def sampler(plan: Plan, **options: Any) -> Sampler:
    given: dict[str, Any] = {"window": WINDOW, "batch_size": 16, "seed": 0} | options
    return Sampler(plan, FRAMES, **given)


def expected_starts(plan: Plan) -> dict[tuple[int, int], float]:
    """The chance of every window, counted out one by one."""
    assert plan.bins is not None
    chance: dict[tuple[int, int], float] = {}
    ends = np.cumsum(bin_count(FRAMES, LENGTH))
    share = plan.weights * (FRAMES >= WINDOW)
    for segment, frames in enumerate(FRAMES):
        room = frames - WINDOW
        if room < 0:
            continue
        bins = plan.bins[ends[segment] - -(-frames // LENGTH) : ends[segment]].astype(float)
        last = room // LENGTH
        bins = np.append(bins[:last], bins[last:].sum())
        for number, weight in enumerate(bins if bins.any() else np.zeros(0)):
            begins = np.arange(number * LENGTH, room + 1 if number == last else (number + 1) * LENGTH)
            for frame in begins:
                chance[segment, int(frame)] = share[segment] / share.sum() * weight / bins.sum() / len(begins)
        if not bins.any():
            for frame in range(room + 1):
                chance[segment, frame] = share[segment] / share.sum() / (room + 1)
    return chance


@pytest.mark.parametrize("seed", [0, 1])
def test_every_window_is_drawn_as_often_as_its_bin_says(seed):
    plan = plan_of_bins(seed)
    draw = sampler(plan, batch_size=200_000).draw(3)
    chance = expected_starts(plan)
    assert sum(chance.values()) == pytest.approx(1)
    drawn = dict.fromkeys(chance, 0)
    for window in zip(draw.segment.tolist(), draw.frame.tolist(), strict=True):
        drawn[window] += 1  # a window of no chance, or out of its segment, is a KeyError
    never = [window for window, p in chance.items() if p == 0]
    assert not any(drawn[window] for window in never) and never
    asked = [window for window, p in chance.items() if p * 200_000 >= 5]
    counts, means = np.array([drawn[w] for w in asked]), np.array([chance[w] for w in asked])
    rest = 200_000 - counts.sum(), 1 - means.sum()
    counts, means = (np.append(a, b) for a, b in zip((counts, means), rest, strict=True))
    assert stats.chisquare(counts[means > 1e-9], 200_000 * means[means > 1e-9] / means.sum()).pvalue > 0.001


@given(st.integers(0, 2**32), st.integers(1, 80), st.integers(1, 130))
@settings(deadline=None, max_examples=60)
def test_starts_lie_in_their_segments_and_in_bins_with_weight(seed, length, window):
    rng = np.random.default_rng(seed)
    count = bin_count(FRAMES, length)
    bins = rng.choice([0.0, 1e-30, 1.0, 1e30], count.sum()).astype(np.float32)
    starts = Starts(bins, length, FRAMES, window)
    segment = rng.choice(np.flatnonzero(window <= FRAMES), 300)
    room = FRAMES[segment] - window
    for number in (rng.random(300), np.zeros(300), np.full(300, np.nextafter(1, 0))):
        frame = starts(segment, number, room)
        assert (frame >= 0).all() and (frame <= room).all()
        first = (np.cumsum(count) - count)[segment]
        last = room // length
        alone = [bins[f : f + n + 1].any() for f, n in zip(first, last, strict=True)]
        has = bins[first + frame // length] > 0
        assert (has | (frame // length == last) | ~np.array(alone)).all()


def test_bins_of_the_number_of_their_windows_change_nothing():
    bins = starts_in_bins(FRAMES, WINDOW, LENGTH)
    assert bins.sum() == np.maximum(FRAMES - WINDOW + 1, 0).sum()
    rng = np.random.default_rng(0)
    segment, number = rng.choice(np.flatnonzero(FRAMES >= WINDOW), 5000), rng.random(5000)
    room = FRAMES[segment] - WINDOW
    found = Starts(bins.astype(np.float32), LENGTH, FRAMES, WINDOW)(segment, number, room)
    assert np.abs(found - (number * (room + 1)).astype(int)).max() <= 1  # float32 at a frame's edge


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
@pytest.mark.parametrize("rotating", [False, True])
def test_ranks_together_draw_the_same_batch_with_bins(world_size, rotating):
    def make(rank: int, of: int) -> Sampler:
        share: dict[str, Any] = {"window": WINDOW, "batch_size": 37, "seed": 5, "rank": rank, "world_size": of}
        if not rotating:
            return Sampler(plan_of_bins(), FRAMES, **share)
        return RotatingSampler(plan_of_bins(), FRAMES, shard_of=np.repeat([0, 1, 2], 7), resident=2, stay=3, **share)

    for step in (0, 1, 2**40):
        whole = make(0, 1).draw(step)
        parts = [make(rank, world_size).draw(step) for rank in range(world_size)]
        for name in ("segment", "frame", "uniform"):
            together = np.concatenate([getattr(part, name) for part in parts])
            assert np.array_equal(together, getattr(whole, name))


def test_bins_are_part_of_the_plans_hash():
    plan = plan_of_bins()
    assert plan.bins is not None
    other = plan.bins.copy()
    other[3] += 0.5
    plans = plan, Plan(plan.weights), Plan(plan.weights, other, LENGTH), Plan(plan.weights, plan.bins, LENGTH - 1)
    assert len({one.hash for one in plans}) == 4
    with pytest.raises(MotionloomError, match="its batches are others"):
        sampler(plans[2]).step_of(sampler(plan).state(3))


def test_a_run_with_bins_goes_on_where_it_stopped(small, same):
    count = bin_count(small.corpus.frames, 25).sum()
    plan = Plan(np.ones(21), np.random.default_rng(0).random(count), 25)
    options: dict[str, Any] = {"batch_size": 6, "window": 20, "seed": 1, "weights": plan, "mode": "mapped"}
    whole = list(Loader(small.corpus, steps=6, **options))
    first = Loader(small.corpus, prefetch=0, **options)
    for _, batch in zip(range(3), first, strict=False):
        assert batch is not None
    rest = Loader(small.corpus, steps=6, prefetch=0, **options)
    rest.load_state_dict(first.state_dict())
    assert all(same(a, b) for a, b in zip(rest, whole[3:], strict=True))


def test_warped_windows_stay_in_the_drawn_bin_and_in_their_segment():
    one = sampler(plan_of_bins(zeros=0), batch_size=3000)
    draw = one.draw(0)
    assert np.array_equal(one.place(draw, np.full(3000, WINDOW)), draw.frame)
    length = np.minimum(np.random.default_rng(0).integers(10, 40, 3000), FRAMES[draw.segment])
    frame, room = one.place(draw, length), FRAMES[draw.segment] - length
    assert (frame >= 0).all() and (frame <= room).all()
    drawn = draw.frame // LENGTH
    # The last bin's windows begin up to the segment's end; and a bin may begin where a longer window has no room.
    free = (drawn == (FRAMES[draw.segment] - WINDOW) // LENGTH) | (drawn * LENGTH > room)
    assert (frame // LENGTH == drawn)[~free].all() and not free.all()


def test_shorter_windows_in_the_last_bin_reach_the_segments_end():
    """Of 60 frames, windows of 20 all begin in the first bin; those of 5 may begin in the second."""
    one = sampler(Plan(np.eye(21)[0], np.ones(51), LENGTH), batch_size=3000)
    frame = one.place(one.draw(0), np.full(3000, 5))
    assert frame.min() == 0 and frame.max() == 55


def test_exact_epochs_have_no_bins():
    with pytest.raises(MotionloomError, match="Exact epochs show every window once"):
        sampler(plan_of_bins(), epochs=True)


@pytest.mark.parametrize("bins", [[1.0, -1.0], [np.nan], [[1.0]]])
def test_bins_that_are_none_are_refused(bins):
    with pytest.raises(MotionloomError, match="Bins should be finite numbers"):
        Plan(np.ones(1), np.array(bins), 50)


def test_bins_of_other_segments_are_refused():
    with pytest.raises(MotionloomError, match="has 3 bins; the segments have 51 of 50 frames"):
        sampler(Plan(np.ones(21), np.ones(3), 50))
