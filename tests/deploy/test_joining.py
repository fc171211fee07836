"""When a live motion may be joined, judged by postures and velocities that are made up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from corpus.g1 import G1
from deploy.contract import STANDING
from deploy.joining import Joining, JoinOptions, stands_still
from deploy.reference import Preview
from deploy.stance import standing

PERIOD = 0.02
OPTIONS = JoinOptions()


def person(joints: np.ndarray = STANDING, *, speed: float = 0.0, turn: float = 0.0) -> Preview:
    velocity = np.zeros((4, 35))
    velocity[2, 0], velocity[2, 6] = speed, turn
    return Preview(np.tile(standing(joints=joints), (4, 1)), velocity)


def straight() -> np.ndarray:
    """With straight arms, and knees less bent than in the stand."""
    joints = STANDING.copy()
    for i, name in enumerate(G1.joint_names):
        if name.endswith(("hip_pitch_joint", "knee_joint", "ankle_pitch_joint")):
            joints[i] *= 0.5
        if "elbow" in name:
            joints[i] = 0.0
    return joints


def follow(joining: Joining, preview: Preview | None, seconds: float, posture: np.ndarray = STANDING) -> np.ndarray:
    for _ in range(round(seconds / PERIOD)):
        posture = joining.follow(preview, posture, PERIOD)
    return posture


def test_the_robot_takes_the_posture_of_whoever_stands_and_is_then_ready():
    joining, wanted = Joining(), person(straight())
    far = np.abs(straight() - STANDING).max()
    assert not joining.ready(wanted, follow(joining, wanted, 0.5))
    posture = follow(joining, wanted, far / OPTIONS.pace + 0.1)
    np.testing.assert_allclose(posture, straight())
    assert joining.ready(wanted, posture)


def test_no_joint_moves_faster_than_the_pace():
    joining, posture = Joining(), STANDING
    for _ in range(50):
        before, posture = posture, joining.follow(person(straight()), posture, PERIOD)
        assert np.abs(posture - before).max() <= OPTIONS.pace * PERIOD + 1e-12


@pytest.mark.parametrize("moving", [{"speed": 0.3}, {"turn": 1.5}])
def test_whoever_moves_or_is_about_to_is_waited_for(moving):
    joining = Joining()
    assert not stands_still(person(**moving))
    assert follow(joining, person(**moving), 2.0) is STANDING
    assert not joining.ready(person(**moving), STANDING)


def test_standing_still_begins_anew_after_a_move():
    joining, calm = Joining(), person()
    follow(joining, calm, 1.0)
    assert joining.ready(calm, STANDING)
    follow(joining, person(speed=1.0), PERIOD)
    assert not joining.ready(calm, STANDING)
    follow(joining, calm, OPTIONS.still_s - 2 * PERIOD)
    assert not joining.ready(calm, STANDING)
    follow(joining, calm, 3 * PERIOD)
    assert joining.ready(calm, STANDING)


def test_nobody_is_joined_in_a_squat_nor_lying_nor_where_data_are_missing():
    squat = STANDING.copy()
    for i, name in enumerate(G1.joint_names):
        squat[i] = -1.4 if "hip_pitch" in name else 2.0 if "knee" in name else squat[i]
    lying = person()
    lying.qpos[:, 3:7] = [np.cos(0.8), 0.0, np.sin(0.8), 0.0]
    nan = person()
    nan.qpos[0, 9] = np.nan
    for preview in (
        person(squat),
        lying,
        nan,
        replace(person(), status="held"),
        replace(person(), status="ended"),
        None,
    ):
        joining = Joining()
        assert follow(joining, preview, 2.0) is STANDING
        assert preview is None or not joining.ready(preview, STANDING)
