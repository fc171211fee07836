from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from corpus.g1 import G1
from deploy.clamps import clamped
from deploy.contract import GAINS, STANDING
from deploy.messages import JOINTS

reachable = hnp.arrays(float, JOINTS, elements=st.floats(-10, 10))


@given(target=reachable, before=reachable, q=reachable, speed=reachable)
def test_targets_stay_in_the_soft_range(target, before, q, speed):
    result = clamped(target, before, q, speed, GAINS.kp, GAINS.kd, GAINS.effort, period_s=0.02)
    spare = 0.01 * (G1.upper - G1.lower)
    assert (result >= G1.lower + spare - 1e-12).all()
    assert (result <= G1.upper - spare + 1e-12).all()


@given(share=hnp.arrays(float, JOINTS, elements=st.floats(0.05, 0.95)), target=reachable)
def test_targets_move_no_faster_and_pull_no_harder_than_they_may(share, target):
    """From a robot at rest in its range, whose targets are where it is."""
    q = G1.lower + share * (G1.upper - G1.lower)
    result = clamped(target, q, q, np.zeros(JOINTS), GAINS.kp, GAINS.kd, GAINS.effort, period_s=0.02)
    assert (np.abs(result - q) <= 40 * 0.02 + 1e-12).all()
    assert (np.abs(GAINS.kp * (result - q)) <= GAINS.effort + 1e-9).all()


@given(share=hnp.arrays(float, JOINTS, elements=st.floats(0.1, 0.9)), speed=reachable)
def test_damping_counts_in_the_torque(share, speed):
    """kp·(target − q) − kd·speed lies within the effort wherever the range lets it."""
    q, spare = G1.lower + share * (G1.upper - G1.lower), 0.01 * (G1.upper - G1.lower)
    result = clamped(q, q, q, speed, GAINS.kp, GAINS.kd, GAINS.effort, period_s=0.02)
    torque = GAINS.kp * (result - q) - GAINS.kd * speed
    at_end = (result <= G1.lower + spare + 1e-9) | (result >= G1.upper - spare - 1e-9)
    assert ((np.abs(torque) <= GAINS.effort + 1e-6) | at_end).all()


def test_a_target_within_all_limits_is_left_alone():
    wanted = STANDING + 0.01
    result = clamped(wanted, STANDING, STANDING, np.zeros(JOINTS), GAINS.kp, GAINS.kd, GAINS.effort, period_s=0.02)
    assert result == pytest.approx(wanted)
