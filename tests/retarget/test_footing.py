"""Feet that stand are found and held: by motions of one foot whose stands are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from corpus import rotations
from corpus.posture import postures
from corpus.robot import forward_kinematics
from retarget.footing import FootingOptions, hold_feet, hold_limbs
from retarget.solver import Targets, join_targets

FPS = 50.0


def standing(g1, frame_count: int) -> np.ndarray:
    qpos = np.zeros((frame_count, 36))
    qpos[:, 3] = 1.0
    qpos[:, 2] -= postures(g1, qpos).soles[2].min()
    return qpos


def feet_of(g1, qpos: np.ndarray) -> Targets:
    bodies = (0, g1.body("left_ankle_roll_link"), g1.body("right_ankle_roll_link"))
    position, rotation = (part[:, bodies] for part in forward_kinematics(g1, qpos))
    return Targets(bodies, position, rotation, np.ones(3), np.ones(3))


def step(g1, frame_count: int = 150) -> tuple[np.ndarray, Targets]:
    """The left foot stands, swings 0.4 m forward from frame 50 to 80, and stands again."""
    qpos = standing(g1, frame_count)
    targets = feet_of(g1, qpos)
    share = np.clip((np.arange(frame_count) - 50) / 30, 0, 1)
    targets.position[:, 1, 0] += 0.4 * share
    targets.position[:, 1, 2] += 0.15 * np.sin(np.pi * share)
    return qpos, targets


def sole_points(g1, targets: Targets) -> np.ndarray:
    """Left heel and toe of the targets, frame by frame."""
    ends = [g1.ground_points[name][1].mean(0) for name in ("left_heel", "left_toe")]
    turn = targets.rotation[:, 1].astype(float)
    return np.stack(
        [targets.position[:, 1] + rotations.rotate(turn, np.broadcast_to(end, (len(turn), 3))) for end in ends], 1
    )


def test_stands_are_found_where_the_foot_is_low_and_slow(g1):
    qpos, targets = step(g1)
    _, stands = hold_feet(targets, g1, FPS, postures(g1, qpos))
    assert stands[:48, :2].all() and stands[85:, :2].all() and not stands[56:75, :2].any()
    assert stands[:, 2:].all()


def test_noise_about_the_threshold_makes_no_contact_flicker(g1):
    qpos, targets = step(g1)
    rng = np.random.default_rng(0)
    targets.position[:, 1, 2] += rng.uniform(0.0, 0.004, 150) + 0.032
    _, stands = hold_feet(targets, g1, FPS, postures(g1, qpos))
    assert (np.diff(stands[:, 0].astype(int)) != 0).sum() <= 2


def test_a_held_foot_does_not_move_sink_or_tilt_though_the_persons_does(g1):
    qpos, targets = step(g1)
    wobble = np.arange(150) / FPS
    targets.position[:, 1, :2] += 0.006 * np.stack([np.sin(5 * wobble), np.cos(4 * wobble)], 1)
    targets.position[:, 1, 2] -= 0.01
    tilt = rotations.from_rotation_vector(np.array([0.0, 0.08, 0.0]) + np.zeros((150, 3)))
    targets.rotation[:, 1] = rotations.multiply(targets.rotation[:, 1], tilt)
    held, stands = hold_feet(targets, g1, FPS, postures(g1, qpos))
    points, flat = sole_points(g1, held), stands[:, 0] & stands[:, 1]
    still = flat[1:] & flat[:-1]
    assert flat.sum() > 80
    assert np.abs(np.diff(points, axis=0)[still]).max() < 1e-6
    assert np.abs(points[flat][:, :, 2]).max() < 1e-6
    assert points[:, :, 2].min() > -1e-9
    assert np.abs(np.diff(points, axis=0)).max() < 0.06  # the swing goes over into the holds without a jump
    assert (held.position_weight[:, 1] > 1.5).sum() > 80 and (held.position_weight[:, 1] < 1.01).any()


def test_who_creeps_along_is_not_nailed_to_the_floor(g1):
    qpos = standing(g1, 150)
    qpos[:, 0] += 0.1 * np.arange(150) / FPS  # 0.1 m/s, slower than any threshold
    targets = feet_of(g1, qpos)
    held, stands = hold_feet(targets, g1, FPS, postures(g1, qpos), FootingOptions(drift=0.02))
    assert np.abs(held.position[:, 1, 0] - targets.position[:, 1, 0]).max() < 0.03  # it goes along, by stands
    assert 0.5 < stands.mean() < 0.95


def test_clips_end_to_end_are_held_as_alone(g1):
    qpos, targets = step(g1)
    short = replace(targets, position=targets.position[40:120], rotation=targets.rotation[40:120])
    both, stands = hold_feet(
        join_targets([targets, short]), g1, FPS, postures(g1, np.concatenate([qpos, qpos[40:120]]))
    )
    alone, own = hold_feet(join_targets([short]), g1, FPS, postures(g1, qpos[40:120]))
    assert np.array_equal(stands[150:], own)
    assert np.abs(both.position[150:] - alone.position).max() == pytest.approx(0.0, abs=1e-12)


def test_a_hand_that_rests_on_the_floor_stays_there_and_comes_and_goes_smoothly(g1):
    """It comes down, creeps about by some millimetres for a second, and is taken up again."""
    wrist = g1.body("left_wrist_yaw_link")
    t = np.arange(150) / FPS
    height = 0.045 + 0.4 * np.clip(np.abs(t - 1.5) - 0.5, 0, None)
    creep = 0.008 * np.sin(2 * np.pi * t)
    position = np.zeros((150, 2, 3))
    position[:, 0, 2] = 0.3
    position[:, 1] = np.stack([0.4 + creep, 0.2 + 0 * t, height], 1)
    rotation = np.tile([1.0, 0.0, 0.0, 0.0], (150, 2, 1))
    targets = Targets((0, wrist), position, rotation, np.array([20.0, 25.0]), np.ones(2))
    held = hold_limbs(targets, g1, FPS)
    rests = np.abs(t - 1.5) < 0.45
    assert np.ptp(held.position[rests, 1, 0]) < 1e-9 < np.ptp(targets.position[rests, 1, 0])
    assert np.array_equal(held.position[:, 1, 2], targets.position[:, 1, 2])
    assert np.array_equal(held.position[:, 0], targets.position[:, 0])
    step = np.abs(np.diff(held.position[:, 1, 0])).max()
    assert step < 2 * np.abs(np.diff(creep)).max()
    assert held.position_weight[75, 1] > 50 and held.position_weight[0, 1] == 25.0


def test_who_stands_has_no_hands_to_hold(g1):
    _, targets = step(g1)
    assert hold_limbs(targets, g1, FPS) is targets
