"""The scaling law: planted ones are found again, and none is made up from too little."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from corpus.errors import MotionloomError
from trainer.scaling_fit import FitOptions, fit_scaling
from trainer.scaling_law import Law

LAW = Law(E=0.02, A=4.0, alpha=0.35, B=12.0, beta=0.4)
SIZES = np.array([1.2e6, 5.7e6, 22e6, 80e6])
FRAMES = 2e8 / 2.0 ** np.arange(7)
QUICK = FitOptions(bootstraps=20)


def planted(noise: float = 0.0, *, law: Law = LAW, sizes=SIZES, frames=FRAMES, seeds: int = 1, seed: int = 0):
    grid = np.meshgrid(sizes, frames, np.arange(seeds), indexing="ij")
    n, d = grid[0].ravel(), grid[1].ravel()
    return n, d, law.at(n, d) * np.exp(noise * np.random.default_rng(seed).normal(size=len(n)))


@pytest.mark.parametrize("law", [LAW, Law(0.5, 300.0, 0.6, 40.0, 0.25), Law(0.001, 1.0, 0.2, 2.0, 0.3)])
def test_a_planted_law_without_noise_is_found(law):
    found = fit_scaling(*planted(law=law), QUICK)
    assert dataclasses.astuple(found.law) == pytest.approx(dataclasses.astuple(law), rel=0.02)
    assert found.held_out is not None
    assert found.held_out.predicted == pytest.approx(found.held_out.measured, rel=1e-3)


def test_a_planted_law_is_found_under_noise():
    found = fit_scaling(*planted(0.02, seeds=3), QUICK)
    assert found.law.alpha == pytest.approx(LAW.alpha, abs=0.1)
    assert found.law.beta == pytest.approx(LAW.beta, abs=0.1)
    assert pytest.approx(LAW.E, rel=0.3) == found.law.E
    assert found.scatter == pytest.approx(0.02, rel=0.4)


def test_a_few_bad_runs_do_not_bend_the_law():
    n, d, loss = planted(0.002)
    loss[[3, 11]] *= 3
    found = fit_scaling(n, d, loss, QUICK)
    assert found.law.at(80e6, 2e8) == pytest.approx(LAW.at(80e6, 2e8), rel=0.01)


def test_a_loss_that_has_no_floor_has_none():
    found = fit_scaling(*planted(law=Law(0.0, 4.0, 0.35, 12.0, 0.4)), QUICK)
    assert 0 <= found.law.E < 1e-4


def test_the_held_out_run_is_not_fitted_to():
    n, d, loss = planted(0.01)
    largest = (n == n.max()) & (d == d.max())
    loss[largest] = LAW.at(n.max(), d.max())
    other = np.where(largest, 5 * loss, loss)
    first, second = fit_scaling(n, d, loss, QUICK), fit_scaling(n, d, other, QUICK)
    assert first.law == second.law
    assert first.held_out and second.held_out
    assert first.held_out.inside
    assert not second.held_out.inside
    assert second.held_out.measured == pytest.approx(5 * first.held_out.measured)


def test_units_do_not_matter():
    n, d, loss = planted(0.01)
    first = fit_scaling(n, d, loss, QUICK)
    second = fit_scaling(n / 1e6, d / (50 * 3600), 1000 * loss, QUICK)
    assert second.law.alpha == pytest.approx(first.law.alpha, rel=1e-3)
    assert pytest.approx(1000 * first.law.E, rel=1e-3) == second.law.E
    assert second.law.at(40.0, 1000.0) == pytest.approx(1000 * first.law.at(40e6, 1.8e8), rel=1e-4)
    assert second.intervals["beta"] == pytest.approx(first.intervals["beta"], rel=0.01)


def test_the_same_seed_gives_the_same_intervals():
    runs = planted(0.02)
    assert fit_scaling(*runs, QUICK) == fit_scaling(*runs, QUICK)
    assert fit_scaling(*runs, QUICK).intervals != fit_scaling(*runs, FitOptions(bootstraps=20, seed=1)).intervals


@pytest.mark.slow
def test_intervals_hold_the_truth_about_as_often_as_they_say():
    options = FitOptions(bootstraps=25, confidence=0.8)
    inside = []
    for seed in range(16):
        found = fit_scaling(*planted(0.02, seeds=2, seed=seed), options)
        low, high = found.interval_at(SIZES[-1], FRAMES[0])
        assert found.held_out
        alpha, beta = found.intervals["alpha"], found.intervals["beta"]
        inside.append(
            [
                alpha[0] <= LAW.alpha <= alpha[1],
                beta[0] <= LAW.beta <= beta[1],
                low <= LAW.at(SIZES[-1], FRAMES[0]) <= high,
                found.held_out.inside,
            ]
        )
    # Four answers of each of 16 fits, which hang together: two standard deviations of 16 independent ones are 0.2.
    assert 0.6 <= np.mean(inside) < 1


@pytest.mark.parametrize(
    ("sizes", "frames", "needed"),
    [
        (SIZES[:2], FRAMES, "3 network sizes .there are 2"),
        (SIZES, FRAMES[:2], "8 pairs .*there are 7.*3 amounts of data .there are 2.*factor of 4 .they span 2"),
        (SIZES[:3], FRAMES[[0, 3]], "8 pairs of size and data"),
        (np.array([1e6, 1.5e6, 2e6]), FRAMES, "network sizes that span a factor of 4 .they span 2"),
    ],
)
def test_too_few_runs_are_refused_with_what_is_needed(sizes, frames, needed):
    with pytest.raises(MotionloomError, match=needed):
        fit_scaling(*planted(sizes=sizes, frames=frames), QUICK)


def test_repeats_are_no_more_points():
    with pytest.raises(MotionloomError, match="there are 7"):
        fit_scaling(*planted(sizes=SIZES, frames=FRAMES[:2], seeds=9), QUICK)


def test_runs_that_diverged_or_lack_the_largest_are_refused():
    n, d, loss = planted()
    with pytest.raises(MotionloomError, match="leave out runs that diverged"):
        fit_scaling(n, d, np.where(n == n.max(), np.nan, loss), QUICK)
    corner = (n == n.max()) & (d == d.max())
    with pytest.raises(MotionloomError, match="one to be held out"):
        fit_scaling(n[~corner], d[~corner], loss[~corner], QUICK)
    with pytest.raises(MotionloomError, match="three rows of one length"):
        fit_scaling(n, d[1:], loss, QUICK)


def test_numbers_that_the_runs_do_not_tell_are_noted():
    n, d, _ = planted()
    found = fit_scaling(n, d, 0.3 + 2.0 * d**-0.4, QUICK)
    assert found.law.A * 1e6**-found.law.alpha < 1e-3 or any("alpha" in note or "A " in note for note in found.notes)
    assert found.law.at(1e9, 1e9) == pytest.approx(0.3 + 2.0 * 1e9**-0.4, rel=0.01)
