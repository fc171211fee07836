"""Alignment: tempo and shift that are known come back, and what is not alike is given up."""

from __future__ import annotations

import numpy as np
import pytest
from wandering import in_the_mirror, noisy, retimed, wandering

from hme.duplicates.alignment import Cubic, Guess, align
from hme.duplicates.traces import mirrored, traces

MOTION = wandering(20, seed=3)


def aligned(a, b, guess: Guess):
    given = traces([a, b])
    return align(given[0], given[1], guess)


@pytest.mark.parametrize("speed", [0.88, 0.95, 1.0, 1.13])
@pytest.mark.parametrize("start", [0, 111, 400])
def test_tempo_and_shift_that_are_known_come_back(speed, start):
    other = retimed(MOTION.slice(start, 1000), speed)
    # Guessed a little off, as anchors guess.
    middle = 10.0
    guess = Guess((middle - start / 50) / speed, middle + 0.03, speed + 0.04)
    found = aligned(other, MOTION, guess)
    assert found is not None
    assert found.tempo == pytest.approx(speed, abs=1e-3)
    assert found.shift_s == pytest.approx(start / 50, abs=5e-3)
    assert found.joint_distance < 0.004 and found.root_distance < 0.004
    assert (found.start_s, found.stop_s) == pytest.approx((0, (1000 - start) / 50 / speed), abs=0.06)


def test_the_distance_is_that_of_the_noise_that_a_low_pass_leaves():
    found = aligned(noisy(MOTION, 0.01), MOTION, Guess(8.0, 8.0))
    assert found is not None
    # Of white noise the low-pass leaves the sum of its squared weights.
    from hme.features import low_pass

    assert found.joint_distance == pytest.approx(0.01 * np.sqrt((low_pass() ** 2).sum()), rel=0.05)


def test_a_mirrored_motion_lies_over_the_mirrored_trace():
    given = traces([in_the_mirror(MOTION), MOTION])
    found = align(given[0], mirrored(given[1]), Guess(5.0, 5.02))
    assert found is not None and found.joint_distance < 1e-3


def test_a_steady_turn_of_one_joint_is_told_as_distance():
    """A joint that is off by d throughout is d / √29 off on average over the joints."""
    other = MOTION.qpos.copy()
    other[:, 20] += 0.05
    found = aligned(MOTION, type(MOTION)(other, 50.0), Guess(8.0, 8.0))
    assert found is not None
    assert found.joint_distance == pytest.approx(0.05 / np.sqrt(29), rel=0.02)


def test_walking_on_the_spot_is_not_walking():
    other = MOTION.qpos.copy()
    other[:, :2] = 0
    found = aligned(MOTION, type(MOTION)(other, 50.0), Guess(8.0, 8.0))
    assert found is not None
    assert found.joint_distance < 1e-6 and found.root_distance > 0.005


def test_what_is_not_alike_is_given_up():
    assert aligned(MOTION, wandering(20, seed=4), Guess(8.0, 8.0)) is None
    assert aligned(MOTION, MOTION, Guess(8.0, 3.0)) is None


def test_motions_that_share_nothing_are_given_up():
    assert aligned(MOTION, MOTION, Guess(0.0, 19.99)) is None


def test_the_curve_through_a_parabola_is_the_parabola():
    t = np.arange(30.0)
    x = np.stack([t, 0.1 * t**2 - t], 1)
    at = np.linspace(1, 27.9, 101)
    value, slope = Cubic(x)(at)
    assert np.allclose(value, np.stack([at, 0.1 * at**2 - at], 1))
    assert np.allclose(slope, np.stack([np.ones(101), 0.2 * at - 1], 1))
