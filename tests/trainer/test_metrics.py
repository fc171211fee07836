from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from corpus import rotations
from trainer.metrics import METRICS, Track, measure

FRAMES = 12
RNG = np.random.default_rng(0)


@pytest.fixture
def track() -> Track:
    """Anything: bodies scattered about a tilted pelvis."""
    turn = rotations.from_rotation_vector(RNG.normal(0, 0.5, (FRAMES, 14, 3)))
    joints = RNG.normal(0, 0.3, (FRAMES, 29))
    return Track(joints, RNG.normal(0, 1, (FRAMES, 29)), RNG.normal(0, 0.4, (FRAMES, 14, 3)) + [3, -2, 0.8], turn)


def moved(track: Track, angle: float, by: tuple[float, float, float]) -> Track:
    """Turned about the world's vertical and shifted."""
    turn = rotations.about_z(np.full((FRAMES, 14), angle))
    return replace(
        track,
        position=rotations.rotate(turn, track.position) + by,
        rotation=rotations.multiply(turn, track.rotation),
    )


def test_a_robot_on_its_reference_is_off_by_nothing_but_its_own_jerk(track):
    found = measure(track, track, FRAMES - 1)
    assert all(value == 0 for name, value in found.items() if "jerk" not in name)
    assert found["jerk_rad_s3"] > 0


def test_joint_errors_are_mean_absolute_differences(track):
    robot = replace(track, joint_position=track.joint_position - 0.1, joint_speed=track.joint_speed + 0.5)
    found = measure(robot, track, FRAMES - 1)
    assert found["mpjpe_rad"] == pytest.approx(0.1)
    assert found["mpjve_rad_s"] == pytest.approx(0.5)


def test_place_and_heading_do_not_count_in_the_heading_frame_but_height_does(track):
    found = measure(moved(track, 2.0, (5.0, -1.0, 0.03)), track, FRAMES - 1)
    assert found["mpkpe_mm"] == pytest.approx(30)
    assert measure(moved(track, 2.0, (5.0, -1.0, 0.0)), track, FRAMES - 1)["mpkpe_per_axis_mm"] == pytest.approx(0)


def test_turning_both_changes_no_metric(track):
    robot = replace(track, position=track.position + RNG.normal(0, 0.05, track.position.shape))
    before = measure(robot, track, 5)
    after = measure(moved(robot, 1.2, (4, 4, 0)), moved(track, 1.2, (4, 4, 0)), 5)
    assert after == pytest.approx(before)


def test_root_relative_error_forgives_place_but_not_heading(track):
    assert measure(moved(track, 0.0, (5.0, -1.0, 0.3)), track, 5)["root_relative_mm"] == pytest.approx(0)
    turned = moved(track, np.pi, (0, 0, 0))
    arm = (track.position - track.position[:, :1])[1:, :, :2]
    expected = 2000 * np.linalg.norm(arm, axis=-1).mean()  # by half a turn each body lands on its mirror image
    assert measure(turned, track, FRAMES - 1)["root_relative_mm"] == pytest.approx(expected)


def test_steady_drift_is_a_velocity_error_and_no_acceleration_error(track):
    drift = np.arange(FRAMES)[:, None, None] * np.array([0.003, 0.004, 0])
    found = measure(replace(track, position=track.position + drift), track, FRAMES - 1)
    assert found["e_vel_mm_frame"] == pytest.approx(5)
    assert found["e_acc_mm_frame2"] == pytest.approx(0, abs=1e-9)
    found = measure(
        replace(track, position=track.position + drift * np.arange(FRAMES)[:, None, None]), track, FRAMES - 1
    )
    assert found["e_acc_mm_frame2"] == pytest.approx(2 * 5)


def test_jerk_is_the_third_derivative_of_the_joints(track):
    t = np.arange(FRAMES)[:, None] / 50
    robot = replace(track, joint_position=np.repeat(2 * t**3 - t**2 + 1, 29, 1))
    assert measure(robot, track, FRAMES - 1)["jerk_rad_s3"] == pytest.approx(12, rel=1e-6)


def test_per_axis_error_is_that_of_the_public_code(track):
    """Its way of saying it: homogeneous transforms of every body in the frame of the root's heading, inverted, multiplied."""
    reference = replace(track, position=track.position + RNG.normal(0, 0.05, track.position.shape))

    def pose(turn, place):
        T = np.tile(np.eye(4), (*place.shape[:-1], 1, 1))
        T[..., :3, :3], T[..., :3, 3] = rotations.to_matrix(turn), place
        return T

    def seen(one: Track):
        heading = rotations.about_z(rotations.heading(one.rotation[:, 0]))
        navigation = pose(heading, one.position[:, 0] * [1, 1, 0])
        return np.linalg.inv(navigation)[:, None] @ pose(one.rotation, one.position)

    error = (np.linalg.inv(seen(track)) @ seen(reference))[1:, :, :3, 3]
    found = measure(track, reference, FRAMES - 1)
    assert found["mpkpe_per_axis_mm"] == pytest.approx(1000 * abs(error).mean())
    assert found["mpkpe_mm"] == pytest.approx(1000 * np.linalg.norm(error, axis=-1).mean())


def test_the_executed_part_ends_with_the_frame_that_failed(track):
    off = np.zeros((FRAMES, 29))
    off[0], off[4], off[5:] = 9.0, 0.4, 5.0
    found = measure(replace(track, joint_position=track.joint_position + off), track, 4)
    assert found["mpjpe_rad"] == pytest.approx(0.1)  # frames 1 to 4; where it was put is not tracking
    assert found["mpjpe_rad_whole"] == pytest.approx((0.4 + 7 * 5) / 11)


def test_too_few_frames_for_a_difference_are_no_number(track):
    found = measure(track, track, 1)
    assert np.isnan(found["jerk_rad_s3"]) and np.isnan(found["e_acc_mm_frame2"])
    assert found["e_vel_mm_frame"] == 0 and found["jerk_rad_s3_whole"] > 0
    assert set(found) == set(METRICS) | {f"{name}_whole" for name in METRICS}
