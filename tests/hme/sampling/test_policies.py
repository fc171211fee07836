"""Policies share out windows as their formulas say, never to what is masked; mixtures and caps hold to the letter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.errors import MotionloomError
from corpus.loading.sampler import Sampler
from corpus.loading.sampling_plan import Plan, bin_count, window_count
from corpus.loading.starts import starts_in_bins
from hme.sampling.adaptive import AdaptiveBins
from hme.sampling.exposure import Exposure, effective_share
from hme.sampling.mixing import capped, capped_in_bins, in_bins, mixed
from hme.sampling.policies import (
    POLICIES,
    ByCluster,
    BySource,
    InverseDensity,
    Pool,
    Propensity,
    Quality,
    adaptive,
    by_cluster,
    by_source,
    inverse_density,
    propensity,
    quality,
    uniform,
)
from hme.sampling.policy_spec import Part, Spec

WINDOW = 20


def pool_of(seed: int = 0, count: int = 400, **given: Any) -> Pool:
    """Ten clusters of very different sizes, three sources, some segments shorter than a window, some masked."""
    rng = np.random.default_rng(seed)
    cluster = np.minimum(rng.geometric(0.4, count) - 1, 9)
    known: dict[str, Any] = {
        "frames": rng.integers(5, 300, count),
        "window": WINDOW,
        "source": rng.integers(0, 3, count),
        "source_names": ("amass", "lafan1", "phuma"),
        "cluster": cluster,
        "vectors": rng.normal(size=(count, 4)) + 3 * cluster[:, None],
        "score": np.where(rng.random(count) < 0.1, np.nan, rng.uniform(-20, 100, count)),
        "mask": rng.random(count) < 0.8,
    }
    frames = given.get("frames", known["frames"])
    return Pool(**known | {"feedback": AdaptiveBins(frames, window=WINDOW)} | given)


def shares(plan: Plan, group: np.ndarray, count: int) -> np.ndarray:
    return np.bincount(group, plan.weights, count) / plan.weights.sum()


# --- every policy


@pytest.mark.parametrize("name", POLICIES)
def test_nothing_masked_or_too_short_is_ever_drawn(name):
    """A hundred thousand windows, drawn."""
    pool = pool_of()
    plan = POLICIES[name].plan(pool, Part(name).made())
    assert pool.mask is not None and plan.weights.sum() == pytest.approx(1)
    assert not plan.weights[pool.windows == 0].any()
    drawn = Sampler(plan, pool.frames, window=WINDOW, batch_size=100_000, seed=0).draw(0).segment
    assert pool.mask[drawn].all() and (pool.frames[drawn] >= WINDOW).all()


@pytest.mark.parametrize("name", POLICIES)
@given(seed=st.integers(0, 2**32), count=st.integers(30, 200))
@settings(deadline=None, max_examples=15)
def test_weights_are_numbers_whatever_the_pool(name, seed, count):
    plan = POLICIES[name].plan(pool_of(seed, count), Part(name).made())
    assert np.isfinite(plan.weights).all() and (plan.weights >= 0).all()
    assert plan.weights.sum() == pytest.approx(1)


@pytest.mark.parametrize("name", ["source", "cluster", "density", "propensity", "quality", "adaptive"])
def test_what_a_policy_needs_and_lacks_is_told(name):
    bare = Pool(np.full(5, 100), WINDOW)
    with pytest.raises(MotionloomError, match="This policy needs"):
        POLICIES[name].plan(bare, Part(name).made())


def test_a_pool_of_nothing_is_refused():
    with pytest.raises(MotionloomError, match="Nothing is left to draw"):
        pool_of(mask=np.zeros(400, bool))
    with pytest.raises(MotionloomError, match="cluster has 3 rows, there are 400"):
        pool_of(cluster=np.zeros(3, int))


# --- one by one


def test_uniform_draws_every_window_equally_often():
    pool = pool_of(mask=None)
    count = window_count(pool.frames, WINDOW)
    assert np.allclose(uniform(pool, POLICIES["uniform"].options()).weights, count / count.sum())


def test_sources_have_the_shares_given_and_the_rest_by_their_windows():
    pool = pool_of()
    assert pool.source is not None
    natural = np.bincount(pool.source, pool.windows)
    assert np.allclose(shares(by_source(pool, BySource()), pool.source, 3), 1 / 3)
    got = shares(by_source(pool, BySource({"lafan1": 0.5})), pool.source, 3)
    assert np.allclose(
        got, [0.5 * natural[0] / (natural[0] + natural[2]), 0.5, 0.5 * natural[2] / (natural[0] + natural[2])]
    )
    assert np.allclose(shares(by_source(pool, BySource({"amass": 0.6, "phuma": 0.4})), pool.source, 3), [0.6, 0, 0.4])
    with pytest.raises(MotionloomError, match=r"No source 'amas'\. Known: amass, lafan1, phuma"):
        by_source(pool, BySource({"amas": 1.0}))
    with pytest.raises(MotionloomError, match=r"add up to 1\.2"):
        by_source(pool, BySource({"amass": 0.6, "phuma": 0.6}))


@pytest.mark.parametrize("tau", [0.0, 0.2, 0.5, 1.0])
def test_clusters_share_by_their_windows_to_the_power_of_tau(tau):
    pool = pool_of()
    assert pool.cluster is not None
    natural = np.bincount(pool.cluster, pool.windows)
    got = by_cluster(pool, ByCluster(tau))
    assert np.allclose(shares(got, pool.cluster, 10), natural**tau / (natural**tau).sum())
    inside = pool.windows[pool.cluster == 0]
    assert np.allclose(got.weights[pool.cluster == 0] / got.weights[pool.cluster == 0].sum(), inside / inside.sum())


@given(st.integers(0, 2**32), st.floats(0, 1), st.floats(0, 1))
@settings(deadline=None)
def test_the_warmer_the_less_even_are_clusters(seed, one, other):
    pool = pool_of(seed, 100)
    assert pool.cluster is not None
    ginis = [
        Exposure.expected(by_cluster(pool, ByCluster(tau)), pool.frames, WINDOW, 1e4)
        .by_group(np.where(pool.windows > 0, pool.cluster, -1))
        .gini
        for tau in sorted((one, other))
    ]
    assert ginis[0] <= ginis[1] + 1e-12


def test_segments_of_no_cluster_are_not_drawn_by_cluster():
    pool = pool_of(mask=None)
    assert pool.cluster is not None
    lost = pool_of(mask=None, cluster=np.where(pool.cluster == 2, -1, pool.cluster))
    assert not by_cluster(lost, ByCluster()).weights[pool.cluster == 2].any()


def test_inverse_density_evens_out_two_equal_squares_of_unequal_crowds():
    """Nine tenths of the windows in one square, one tenth in another of the same size: at power 1 each gets half."""
    rng = np.random.default_rng(0)
    crowd = rng.random(4000) < 0.9
    vectors = rng.random((4000, 2)) + np.where(crowd, 0, 5)[:, None]
    pool = Pool(np.full(4000, 100), WINDOW, vectors=np.c_[vectors, np.zeros((4000, 30))])
    for power, expected in ((0.0, 0.1), (0.5, 0.25), (1.0, 0.5)):
        plan = inverse_density(pool, InverseDensity(power))
        assert plan.weights[~crowd].sum() == pytest.approx(expected, abs=0.04)


def test_copies_of_one_motion_do_not_break_the_density():
    vectors = np.repeat(np.random.default_rng(0).normal(size=(40, 8)), 10, axis=0)
    plan = inverse_density(Pool(np.full(400, 100), WINDOW, vectors=vectors), InverseDensity())
    assert np.isfinite(plan.weights).all() and (plan.weights > 0).all()


def test_capped_propensity_is_inverse_up_to_the_cap():
    """No window above the cap, and of clusters below it each gets the same."""
    pool = pool_of(mask=None)
    assert pool.cluster is not None
    natural = np.bincount(pool.cluster, pool.windows) / pool.windows.sum()
    for cap in (1.0, 2.0, 3.0, 1e6):
        got = shares(propensity(pool, Propensity(cap)), pool.cluster, 10)
        assert (got <= cap * natural * (1 + 1e-9)).all()
        free = got < cap * natural * (1 - 1e-9)
        assert np.allclose(got[free], got[free][0]) if free.any() else np.allclose(got, natural)
        assert (got[~free] <= got[free].min() + 1e-9).all() if free.any() else True


@given(st.integers(0, 2**32), st.floats(1.0, 30))
@settings(deadline=None)
def test_a_cap_is_held_and_raises_the_effective_sample_size(seed, cap):
    rng = np.random.default_rng(seed)
    windows = rng.integers(1, 200, 60).astype(float)
    plan = Plan(windows * rng.lognormal(0, 3, 60))
    got = capped(plan, windows, cap)
    per_window = got.weights / windows * windows.sum()
    assert got.weights.sum() == pytest.approx(1) and per_window.max() <= cap * (1 + 1e-9)
    below = per_window < cap * (1 - 1e-9)
    ratio = got.weights[below] / plan.weights[below]
    assert np.allclose(ratio, ratio[0]) if below.any() else True
    assert effective_share(got.weights, windows) >= effective_share(plan.weights, windows) - 1e-12
    assert effective_share(got.weights, windows) >= 1 / cap - 1e-9


def test_a_cap_that_cannot_be_held_is_told():
    with pytest.raises(MotionloomError, match="should be at least 4"):
        capped(Plan(np.array([1.0, 0, 0, 0])), np.full(4, 10.0), 3)


@given(st.integers(0, 2**32))
@settings(deadline=None)
def test_the_least_cap_that_is_told_can_be_held_and_is_even(seed):
    rng = np.random.default_rng(seed)
    windows = rng.integers(1, 50, 8).astype(float)
    plan = Plan(rng.lognormal(0, 2, 8) * (np.arange(8) < 5))
    with pytest.raises(MotionloomError) as told:
        capped(plan, windows, 0.9)
    named = float(str(told.value).split("at least ")[1].rstrip("."))
    least = windows.sum() / windows[:5].sum()
    assert np.allclose(capped(plan, windows, least).weights[:5] / windows[:5] * windows.sum(), least)
    assert least <= named <= least + 0.0011
    assert (capped(plan, windows, named).weights[:5] / windows[:5] * windows.sum()).max() <= named * (1 + 1e-9)


@given(st.integers(0, 2**32), st.floats(1.05, 20))
@settings(deadline=None)
def test_a_cap_holds_for_every_start_where_there_are_bins(seed, cap):
    rng = np.random.default_rng(seed)
    frames = rng.integers(WINDOW, 300, 12)
    count = bin_count(frames, 50)
    plan = Plan(rng.lognormal(0, 2, 12), rng.lognormal(0, 3, count.sum()), 50)
    got = capped_in_bins(plan, frames, WINDOW, cap)
    drawn = starts_drawn(got, frames)
    assert drawn.max() * len(drawn) <= cap * (1 + 1e-5) and drawn.sum() == pytest.approx(1)
    before = starts_drawn(plan, frames)
    free = drawn * len(drawn) < cap * (1 - 1e-5)
    assert np.allclose(drawn[free] / before[free], (drawn[free] / before[free]).max(initial=0), rtol=1e-4)
    with pytest.raises(MotionloomError, match="use `capped_in_bins`"):
        capped(plan, frames.astype(float), cap)


def starts_drawn(plan: Plan, frames: np.ndarray) -> np.ndarray:
    """Chance of every frame at which a window can begin, by the documented rule."""
    assert plan.bins is not None
    chances, count = [], bin_count(frames, plan.bin_frames)
    for weight, bins, last in zip(
        plan.weights / plan.weights.sum(), np.split(plan.bins, np.cumsum(count)[:-1]), frames - WINDOW, strict=True
    ):
        place = np.minimum(np.arange(len(bins)), last // plan.bin_frames)
        shares = np.bincount(place, bins) / bins.sum() * weight
        for number, share in enumerate(shares):
            room = min(plan.bin_frames, last + 1 - number * plan.bin_frames)
            chances.append(np.full(room, share / room))
    return np.concatenate(chances)


def test_a_spec_caps_what_a_tracker_asks_for():
    pool = pool_of()
    assert pool.feedback is not None
    pool.feedback.update(np.array([0]), np.array([0]), np.array([True]))
    for _ in range(40):
        every = np.arange(len(pool.frames))
        pool.feedback.update(every, np.zeros_like(every), np.zeros(len(every), bool))
    plan = Spec((Part("adaptive", {"preset": "beyondmimic"}),), cap=3.0).plan(pool)
    starts = starts_in_bins(pool.frames, WINDOW, 50) * np.repeat(pool.windows > 0, bin_count(pool.frames, 50))
    share = in_bins(plan, 50, pool.frames, WINDOW)
    assert (share[starts == 0] == 0).all()
    assert (share[starts > 0] / starts[starts > 0] * starts.sum()).max() <= 3 * (1 + 1e-5)


def test_quality_counts_from_its_threshold_on():
    pool = pool_of(mask=None, score=np.array([np.nan, 50, 89, 90, 100] * 80))
    got = quality(pool, Quality(threshold=90, power=2)).weights / np.maximum(pool.windows, 1)
    assert not got.reshape(-1, 5)[:, :3].any()
    drawn = got.reshape(-1, 5)[:, 3:][(pool.windows.reshape(-1, 5)[:, 3:] > 0).all(1)]
    assert np.allclose(drawn[:, 0] / drawn[:, 1], 0.81)
    with pytest.raises(MotionloomError, match="every segment the weight 0"):
        quality(pool, Quality(threshold=101))


# --- mixtures


def test_a_mixture_is_the_sum_of_shares():
    pool = pool_of()
    one, other = by_cluster(pool, ByCluster()), by_source(pool, BySource())
    got = mixed([one, Plan(other.weights * 17)], [7, 3], pool.frames, WINDOW)
    assert np.allclose(got.weights, 0.7 * one.weights + 0.3 * other.weights) and got.bins is None
    with pytest.raises(MotionloomError, match="2 policies, shares 1"):
        mixed([one, other], [1], pool.frames, WINDOW)


def test_a_mixture_with_bins_places_each_parts_windows_as_that_part_would():
    """Chance of every start, drawn: uniform over windows in one half, in failed bins in the other."""
    pool = pool_of(frames=np.array([130, 90, 60]), source=None, cluster=None, vectors=None, score=None, mask=None)
    bins = pool.feedback
    assert bins is not None
    bins.update(np.array([0, 0, 1]), np.array([70, 70, 10]), np.array([True, False, True]))
    hard, even = adaptive(pool, POLICIES["adaptive"].options()), uniform(pool, POLICIES["uniform"].options())
    got = mixed([even, hard], [0.5, 0.5], pool.frames, WINDOW)
    assert got.bins is not None and hard.bins is not None
    owner = np.repeat(np.arange(3), bin_count(pool.frames, 50))

    def per_bin(plan: Plan) -> np.ndarray:
        assert plan.bins is not None
        return plan.bins / np.bincount(owner, plan.bins)[owner] * (plan.weights / plan.weights.sum())[owner]

    starts = np.array([50, 50, 11, 50, 21, 41, 0]) / 223  # of 111 + 71 + 41 windows
    assert np.allclose(per_bin(got), 0.5 * per_bin(hard) + 0.5 * starts, atol=1e-6)


def test_feedback_on_other_windows_is_refused():
    pool = pool_of(feedback=AdaptiveBins(pool_of().frames, window=WINDOW + 1))
    with pytest.raises(MotionloomError, match="of windows of 21 frames, the plan of 20"):
        adaptive(pool, POLICIES["adaptive"].options())


def test_a_spec_mixes_and_caps():
    pool = pool_of()
    spec = Spec((Part("cluster", {"tau": 0}, 3.0), Part("uniform", share=1.0)), cap=2.0)
    weights = spec.plan(pool).weights
    drawn = pool.windows > 0
    assert (weights[drawn] / pool.windows[drawn] * pool.windows.sum()).max() == pytest.approx(2.0)
