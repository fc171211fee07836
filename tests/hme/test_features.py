"""Features: the channels by formula, nothing of place and heading, nothing faster than 10 Hz can show."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from swinging import swinging

from corpus import rotations
from corpus.errors import MotionloomError, Rejected
from corpus.motion import RobotMotion, velocity
from hme.features import FEATURE_FPS, GRAVITY, HEIGHT, JOINTS, TURN, VELOCITY, features


def test_slow_channels_are_those_of_the_motion():
    motion = swinging(0.3, 8)
    rotation = motion.root_rotation
    found, inner = features([motion])[0], slice(5, -5)
    speed = velocity(motion)[::5]
    ahead = rotations.rotate(rotations.about_z(-rotations.heading(rotation[::5])), speed[:, :3])
    down = rotations.rotate(rotations.conjugate(rotation[::5]), np.broadcast_to([0.0, 0.0, -1.0], (80, 3)))
    for channel, expected in (
        (HEIGHT, motion.root_position[::5, 2:]), (GRAVITY, down), (VELOCITY, ahead), (TURN, speed[:, 3:6]),
        (JOINTS, motion.joint_position[::5]),
    ):  # fmt: skip
        assert np.abs(found[:, channel] - expected)[inner].max() < 0.005


def test_there_are_39_channels_at_ten_hertz():
    assert features([swinging(1, 3)])[0].shape == (3 * FEATURE_FPS, 39)


def test_place_and_heading_do_not_show():
    motion = swinging(1, 5)
    turn = rotations.about_z(np.array(2.0))
    moved = np.concatenate(
        [rotations.rotate(turn, motion.root_position) + [3, -4, 0], rotations.multiply(turn, motion.root_rotation),
         motion.joint_position], 1,
    )  # fmt: skip
    assert np.abs(features([replace(motion, qpos=moved)])[0] - features([motion])[0]).max() < 2e-5


def test_the_sign_of_a_quaternion_does_not_show():
    motion = swinging(1, 3)
    qpos = motion.qpos.copy()
    qpos[::3, 3:7] *= -1
    assert np.abs(features([replace(motion, qpos=qpos)])[0] - features([motion])[0]).max() < 1e-5


@pytest.mark.parametrize(
    ("hz", "least", "most"), [(1.0, 0.99, 1.01), (2.0, 0.98, 1.02), (6.0, 0.0, 0.01), (9.0, 0.0, 0.01)]
)
def test_what_ten_hertz_cannot_show_is_gone(hz, least, most):
    motion = swinging(1, 20)
    qpos = motion.qpos.copy()
    qpos[:, 7] = np.sin(2 * np.pi * hz * np.arange(1000) / 50)
    seen = features([replace(motion, qpos=qpos)])[0][10:-10, JOINTS][:, 0]
    assert least <= np.sqrt(2) * seen.std() <= most


def test_many_motions_at_once_are_the_same_as_each_alone(motions):
    together = features(motions)
    assert together.motion_count == len(motions)
    assert all(np.array_equal(together[i], features([motion])[0]) for i, motion in enumerate(motions))


def test_another_rate_is_brought_to_fifty_hertz():
    slow = features([replace(swinging(0.5, 8), fps=25.0)])[0]
    assert abs(len(slow) - 160) <= 1


def test_motions_of_different_robots_are_refused():
    with pytest.raises(MotionloomError, match="Motion 1 has 23 joints, the others have 29"):
        features([swinging(1, 2), swinging(1, 2, joints=23)])


def test_no_motions_are_refused():
    with pytest.raises(MotionloomError, match="no motions"):
        features([])


def test_nan_never_becomes_a_motion():
    with pytest.raises(Rejected, match="not_finite"):
        RobotMotion(np.full((50, 36), np.nan), 50.0)


def test_frames_that_lie_in_columns_are_read_as_rows():
    motion = swinging(1.3, 4, seed=5)
    in_columns = RobotMotion(np.asfortranarray(motion.qpos, np.float32), 50.0)
    rows = RobotMotion(np.ascontiguousarray(motion.qpos, np.float32), 50.0)
    assert np.array_equal(features([in_columns]).values, features([rows]).values)


def test_fewer_frames_can_be_left_out():
    motion = swinging(1.3, 4, seed=5)
    assert np.array_equal(features([motion], step=1).values[::5], features([motion]).values)
