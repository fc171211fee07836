"""Contacts, judged by motions made so that the answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from corpus import rotations
from corpus.contact import CONTACT_HEIGHT, CONTACT_SPEED, detect_contacts
from corpus.motion import RobotMotion
from corpus.posture import join_postures, postures


@pytest.fixture
def standing(g1) -> RobotMotion:
    qpos = np.zeros((100, 36))
    qpos[:, 2], qpos[:, 3] = 1.0, 1.0
    qpos[:, 2] -= postures(g1, qpos).soles[2].min()
    return RobotMotion(qpos, 50.0)


def contacts(g1, motion: RobotMotion, **root_shift: np.ndarray | float) -> np.ndarray:
    qpos = motion.qpos.copy()
    for axis, shift in root_shift.items():
        qpos[:, "xyz".index(axis)] += shift
    return detect_contacts(50.0, postures(g1, qpos))


def test_both_feet_of_a_standing_robot_touch_with_heel_and_toe(g1, standing):
    touch = contacts(g1, standing)
    assert touch.shape == (100, 4) and touch.dtype == np.uint8 and touch.all()


def test_feet_higher_than_the_bound_do_not_touch(g1, standing):
    assert contacts(g1, standing, z=CONTACT_HEIGHT - 1e-3).all()
    assert not contacts(g1, standing, z=CONTACT_HEIGHT + 1e-3).any()


def test_feet_that_pass_fast_over_the_floor_do_not_touch(g1, standing):
    seconds = np.arange(100) / 50
    assert contacts(g1, standing, x=seconds * (CONTACT_SPEED - 0.01)).all()
    assert not contacts(g1, standing, x=seconds * (CONTACT_SPEED + 0.01)).any()


def test_columns_are_left_heel_left_toe_right_heel_right_toe(g1, standing):
    """Leaning about the y axis lifts heels or toes; a bent left knee lifts the left foot."""
    for pitch, expected in ((0.4, [0, 1, 0, 1]), (-0.4, [1, 0, 1, 0])):
        qpos = standing.qpos.copy()
        qpos[:, 3:7] = rotations.from_rotation_vector(np.array([0, pitch, 0]))
        qpos[:, 2] -= postures(g1, qpos).soles[2].min()
        assert (detect_contacts(50.0, postures(g1, qpos)) == expected).all()
    qpos = standing.qpos.copy()
    qpos[:, 7 + g1.joint_names.index("left_knee_joint")] = 1.0
    assert (detect_contacts(50.0, postures(g1, qpos)) == [0, 0, 1, 1]).all()


def test_a_flicker_of_two_frames_is_no_change_but_five_frames_are(g1, standing):
    for frames, lost in ((2, 0), (5, 5)):
        hop = np.zeros(100)
        hop[50 : 50 + frames] = 0.2
        # Fast frames next to the hop are slow on their other side, so they still touch.
        assert (~contacts(g1, standing, z=hop).astype(bool)).sum() == 4 * lost


def test_contacts_do_not_depend_on_where_the_clip_begins(g1, standing):
    qpos = standing.qpos.copy()
    qpos[:, 2] += np.maximum(0.15 * np.sin(np.arange(100) / 8), 0)
    whole = detect_contacts(50.0, postures(g1, qpos))
    part = detect_contacts(50.0, postures(g1, qpos[30:]))
    assert 0 < whole.mean() < 1
    assert (whole[33:] == part[3:]).all()


def test_motions_end_to_end_touch_as_each_alone(g1, standing):
    sliding = standing.qpos.copy()
    sliding[:, 0] += np.linspace(0, 2, 100) ** 2
    lifted = standing.qpos + np.eye(36)[2] * np.linspace(0, 0.2, 100)[:, None]
    parts = [postures(g1, qpos) for qpos in (sliding, lifted[:37], standing.qpos[:3])]
    together = detect_contacts(50.0, join_postures(parts), starts=(0, 100, 137))
    assert (together == np.concatenate([detect_contacts(50.0, part) for part in parts])).all()
