"""Resampling against motions with a formula."""

from __future__ import annotations

import numpy as np
import pytest

from corpus import rotations
from corpus.motion import RobotMotion, velocity
from corpus.resample import resample


def turning(fps: float, seconds: float = 4.0, hz: float = 0.7) -> RobotMotion:
    t = np.arange(round(seconds * fps) + 1) / fps
    qpos = np.zeros((len(t), 36))
    qpos[:, 0] = np.sin(2 * np.pi * hz * t)
    qpos[:, 3:7] = rotations.about_z(2.0 * t)
    qpos[:, 7:] = 0.3 * np.sin(2 * np.pi * hz * t)[:, None]
    return RobotMotion(qpos, fps)


@pytest.mark.parametrize("fps", [24.0, 30.0, 60.0, 100.0, 120.0, 250.0])
def test_a_smooth_motion_keeps_its_course_at_any_rate(fps):
    got, expected = resample(turning(fps), 50.0).qpos, turning(50.0).qpos
    assert abs(len(got) - len(expected)) <= 1
    inner = slice(10, min(len(got), len(expected)) - 10)
    assert np.abs(got[inner, :3] - expected[inner, :3]).max() < 0.01
    assert np.abs(rotations.heading(got[inner, 3:7]) - rotations.heading(expected[inner, 3:7])).max() < 1e-3
    assert np.allclose(np.linalg.norm(got[:, 3:7], axis=1), 1)


def test_the_first_frame_stays_and_the_last_lies_not_past_the_end():
    motion = turning(30.0)
    got = resample(motion, 50.0)
    assert np.allclose(got.qpos[0], motion.qpos[0])
    assert (got.frame_count - 1) / 50 <= (motion.frame_count - 1) / 30 + 1e-9


def test_what_the_new_rate_cannot_carry_is_removed_before_thinning():
    fps, t = 200.0, np.arange(800) / 200.0
    qpos = np.zeros((800, 36))
    qpos[:, 3] = 1
    qpos[:, 7] = np.sin(2 * np.pi * 40 * t)  # would alias to 10 Hz
    motion = RobotMotion(qpos, fps)
    assert np.abs(resample(motion, 50.0).qpos[20:-20, 7]).max() < 0.02
    assert np.abs(resample(motion, 50.0, antialias=False).qpos[20:-20, 7]).max() > 0.5


def test_the_same_rate_changes_nothing():
    motion = turning(50.0)
    assert resample(motion, 50.0) is motion


def test_velocity_is_the_derivative_in_mujocos_convention():
    import mujoco

    from corpus.g1 import G1

    motion = turning(50.0)
    v = velocity(motion)
    model = mujoco.MjModel.from_xml_path(str(G1.mjcf))
    for i in (5, 50, 120):
        step = np.zeros(35)
        mujoco.mj_differentiatePos(model, step, 2 / 50, motion.qpos[i - 1], motion.qpos[i + 1])
        # MuJoCo takes the whole turn in the frame of the first pose; about one axis the two agree.
        assert np.allclose(v[i], step, atol=1e-6)
