"""What a plan is expected to show is what is drawn; how even that is, and where it is too often."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.errors import MotionloomError
from corpus.loading.sampler import Sampler, exposure
from corpus.loading.sampling_plan import Plan, effective_sample_size
from hme.sampling.exposure import Exposure, effective_share, gini, overexposed
from hme.sampling.mixing import capped
from hme.sampling.policies import ByCluster, Pool, by_cluster

WINDOW = 20
FRAMES = np.random.default_rng(0).integers(10, 300, 500)
CLUSTER = np.minimum(np.random.default_rng(1).geometric(0.35, 500) - 1, 11)
POOL = Pool(FRAMES, WINDOW, cluster=CLUSTER)


def test_what_is_expected_is_what_is_drawn():
    plan = by_cluster(POOL, ByCluster(0.2))
    sampler = Sampler(plan, FRAMES, window=WINDOW, batch_size=4096, seed=0)
    expected = Exposure.expected(plan, FRAMES, WINDOW, 50 * 4096)
    drawn = Exposure(exposure(sampler, 0, 50).astype(float), FRAMES, WINDOW)
    assert drawn.windows.sum() == pytest.approx(expected.windows.sum()) == 50 * 4096
    assert np.abs(drawn.windows - expected.windows).max() < 6 * np.sqrt(expected.windows.max())
    assert drawn.by_group(CLUSTER).gini == pytest.approx(expected.by_group(CLUSTER).gini, abs=0.01)
    assert drawn.mean_epochs == pytest.approx(50 * 4096 * WINDOW / FRAMES.sum())


def test_epochs_are_frames_seen_over_frames_held():
    one = Exposure.expected(Plan(np.array([1.0, 3.0, 9.0])), np.array([40, 100, 10]), WINDOW, 8)
    assert np.allclose(one.windows, [2, 6, 0]) and np.allclose(one.epochs, [1, 1.2, 0])
    groups = one.by_group(np.array([0, 0, 1]))
    assert np.allclose(groups.epochs, [160 / 140, 0]) and groups.segments.tolist() == [2, 1]
    assert groups.gini == 0  # the other group holds no window
    table = groups.table(["a", "b"], fps=50.0)
    assert table["share_natural"].to_list() == [1, 0] and table["hours"][0] == pytest.approx(140 / 50 / 3600)
    with pytest.raises(MotionloomError, match="No segment with a weight is 20 frames long"):
        Exposure.expected(Plan(np.array([0.0, 0.0, 1.0])), np.array([40, 100, 10]), WINDOW, 8)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=40))
def test_gini_is_half_the_mean_difference_over_the_mean(amounts):
    x = np.array(amounts)
    if x.sum() == 0:
        assert gini(x) == 0
        return
    pairs = np.abs(x[:, None] - x).mean() / (2 * x.mean())
    assert gini(x) == pytest.approx(pairs, abs=1e-9)


def test_gini_at_both_ends():
    assert gini(np.ones(7)) == pytest.approx(0) and gini(np.eye(100)[3]) == pytest.approx(0.99)


def test_the_effective_share_is_kishs_over_windows():
    windows = np.array([3.0, 5.0, 2.0])
    per_window = np.repeat([0.2, 0.1, 0.4], windows.astype(int))
    plan = Plan(np.array([0.2, 0.1, 0.4]) * windows)
    assert effective_share(plan.weights, windows) == pytest.approx(effective_sample_size(per_window) / 10)
    assert effective_share(windows, windows) == pytest.approx(1)


def test_a_tail_that_is_seen_too_often_is_named_with_what_would_avoid_it():
    def groups(plan: Plan):
        return Exposure.expected(plan, FRAMES, WINDOW, 1e5).by_group(CLUSTER)

    plan = by_cluster(POOL, ByCluster(0.0))
    tail = overexposed(groups(plan), most_ratio=4)
    assert tail is not None and tail.tau is not None and tail.cap is not None
    epochs = groups(plan).epochs
    assert set(tail.groups) == set(np.flatnonzero(epochs > 4 * tail.mean_epochs)) and tail.groups[0] == epochs.argmax()
    assert str(tail.groups[0]) in str(tail) and f"tau {tail.tau:.2f} or a cap of " in str(tail)
    told = float(str(tail).split("a cap of ")[1].split()[0])
    assert told == pytest.approx(tail.cap, abs=0.01) and told <= tail.cap
    assert overexposed(groups(by_cluster(POOL, ByCluster(tail.tau))), most_ratio=4) is None
    assert overexposed(groups(by_cluster(POOL, ByCluster(tail.tau - 0.02))), most_ratio=4) is not None
    assert overexposed(groups(capped(plan, POOL.windows, tail.cap)), most_ratio=4) is None
    assert overexposed(groups(capped(plan, POOL.windows, tail.cap * 1.3)), most_ratio=4) is not None


def test_epochs_have_a_limit_of_their_own():
    plan = by_cluster(POOL, ByCluster(0.0))
    few, many = (Exposure.expected(plan, FRAMES, WINDOW, draws).by_group(CLUSTER) for draws in (1e3, 1e6))
    assert overexposed(few, most_ratio=1e9, most_epochs=100) is None
    tail = overexposed(many, most_ratio=1e9, most_epochs=100)
    assert tail is not None and tail.limit == 100 and tail.mean_epochs > 100
    assert tail.tau is None and tail.cap is None and "only fewer steps would avoid it" in str(tail)
    with pytest.raises(MotionloomError, match="should be at least 1"):
        overexposed(many, most_ratio=0.5)
