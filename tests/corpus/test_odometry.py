from __future__ import annotations

import numpy as np
import pytest

from corpus import rotations
from corpus.g1 import G1
from corpus.odometry import root_path
from corpus.posture import postures
from corpus.robot import forward_kinematics

FPS = 50.0


def joints(count: int, **angles) -> np.ndarray:
    """Joint angles of so many frames; those not named are 0."""
    found = np.zeros((count, 29))
    for name, value in angles.items():
        found[:, G1.joint_names.index(f"{name}_joint")] = value
    return found


def walk(seconds: float, *, turning: float = 0.0, lift: float = 0.5) -> np.ndarray:
    """Flat feet that are set down in turn, pelvis upright: qpos whose standing foot stays where it is, exactly."""
    t = np.arange(round(seconds * FPS)) / FPS
    phase = 2 * np.pi * t
    hips = {"left": 0.3 * np.sin(phase), "right": -0.3 * np.sin(phase)}
    bends = {"left": lift * np.maximum(np.cos(phase), 0), "right": lift * np.maximum(-np.cos(phase), 0)}
    angles = {}
    for side in ("left", "right"):
        hip, knee = -hips[side] - 0.3 - bends[side], 0.6 + 2 * bends[side]
        angles |= {f"{side}_hip_pitch": hip, f"{side}_knee": knee, f"{side}_ankle_pitch": -hip - knee}
    qpos = np.zeros((len(t), 36))
    qpos[:, 3:7], qpos[:, 7:] = rotations.about_z(turning * t), joints(len(t), **angles)
    feet = forward_kinematics(G1, qpos)[0][:, [G1.body("left_ankle_roll_link"), G1.body("right_ankle_roll_link")]]
    # The left foot swings while its bend is above 0.
    standing = np.where(bends["left"] > bends["right"], 1, 0)
    for i in range(1, len(t)):
        foot = standing[i - 1]
        qpos[i, :3] = qpos[i - 1, :3] - (feet[i, foot] - feet[i - 1, foot])
    qpos[:, 2] = -postures(G1, qpos * np.array([1, 1, 0, *[1] * 33])).lowest
    return qpos


def drift(qpos: np.ndarray, found: np.ndarray) -> tuple[float, float]:
    """Largest error of the place, and the way gone [m]."""
    error = np.linalg.norm((found - found[0]) - (qpos[:, :3] - qpos[0, :3]), axis=1).max()
    return float(error), float(np.linalg.norm(np.diff(qpos[:, :2], axis=0), axis=1).sum())


@pytest.mark.parametrize("turning", [0.0, 0.4])
def test_a_walk_is_followed_to_two_percent_of_its_way(turning):
    qpos = walk(6.0, turning=turning)
    error, way = drift(qpos, root_path(G1, qpos[:, 3:7], qpos[:, 7:], FPS))
    assert way > 3 and error < 0.02 * way


def test_a_robot_that_only_bends_its_knees_stays_where_it_is():
    t = np.arange(100) / FPS
    bend = 0.3 * (1 - np.cos(np.pi * t))
    angles = {f"{side}_{joint}": share * bend for side in ("left", "right") for joint, share in (("hip_pitch", -1), ("knee", 2), ("ankle_pitch", -1))}  # fmt: skip
    qpos = np.concatenate([np.tile([0, 0, 0, 1, 0, 0, 0], (100, 1)), joints(100, **angles)], 1)
    path = root_path(G1, qpos[:, 3:7], qpos[:, 7:], FPS)
    ankles = forward_kinematics(G1, np.concatenate([path, qpos[:, 3:]], 1))[0][:, [G1.body("left_ankle_roll_link")]]
    assert np.abs(ankles - ankles[0]).max() < 1e-4 and np.ptp(path[:, 2]) > 0.05


def test_a_jump_flies_by_gravity():
    """0.4 s in the air at 1.2 m/s: heights within 6 cm of the parabola (half a frame of it at 2 m/s, and its sharp corners rounded), the landing within 5 cm."""
    flight_s, speed = 0.4, 1.2
    t = np.arange(100) / FPS
    up = (t > 0.8 - 1e-9) & (t < 0.8 + flight_s - 1e-9)
    into = np.clip(t - 0.8, 0, flight_s)
    x = speed * t
    height = 9.81 / 2 * into * (flight_s - into)
    # On the ground both feet go backwards beneath the pelvis, as a treadmill's do in its own frame.
    ground = np.where(t < 0.8, speed * (t - 0.4), speed * 0.4)
    hip = np.arcsin(ground / 0.62)
    angles = {f"{side}_{joint}": share * hip for side in ("left", "right") for joint, share in (("hip_pitch", 1), ("ankle_pitch", -1))}  # fmt: skip
    qpos = np.concatenate([np.tile([0, 0, 0, 1, 0, 0, 0], (100, 1)), joints(100, **angles)], 1)
    acceleration = np.where(up[:, None], [0, 0, 0.0], [0, 0, 9.81])
    base = -postures(G1, qpos).lowest
    path = root_path(G1, qpos[:, 3:7], qpos[:, 7:], FPS, acceleration=acceleration)
    assert np.abs(path[:, 2] - base - height).max() < 0.06
    gone = np.flatnonzero(up)
    assert path[gone[-1], 0] - path[gone[0], 0] == pytest.approx(x[gone[-1]] - x[gone[0]], abs=0.05)


def test_one_who_lies_and_kicks_does_not_drift():
    rotation = rotations.from_rotation_vector(np.tile([0, -np.pi / 2, 0], (100, 1)))
    kick = -0.6 + 0.3 * np.sin(np.arange(100) / 5)
    path = root_path(G1, rotation, joints(100, left_hip_pitch=kick, right_hip_pitch=-1.2 - kick), FPS)
    assert np.ptp(path[:, :2], axis=0).max() == 0 and path[:, 2].max() < 0.2
