"""Windows mirrored, warped in time and turned are motions that could have been recorded so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.transform import Rotation, Slerp

from corpus import rotations
from corpus.augment import Augment, allowed, frames_needed, mirror_columns, virtual_frames
from corpus.errors import MotionloomError
from corpus.loader import batches, open_windows
from corpus.motion import RobotMotion, velocity
from corpus.robot import forward_kinematics

LENGTHS = np.array([60, 300, 25, 130, 64, 90, 1] * 3)
SPEED_USE = np.array([0.5, 0.95, 0.8, np.nan, 0.1, 1.0, 0.3] * 3, np.float32)

AT_50 = 50.5 / 281
"""Of the 281 windows of 20 frames in 300, the one that begins at frame 50."""

NONE = Augment(mirror=0, speeds=(1.0,), heading=False)
MIRROR = Augment(mirror=1, speeds=(1.0,), heading=False)
TURN = Augment(mirror=0, speeds=(1.0,), heading=True)


def speed_only(speed: float) -> Augment:
    return Augment(mirror=0, speeds=tuple(sorted({1.0, speed})), heading=False)


def uniform(count: int, **columns: float) -> np.ndarray:
    """Random numbers that choose: where in the segment, mirror, speed, heading."""
    numbers = np.zeros((count, 4))
    for name, value in columns.items():
        numbers[:, ("place", "mirror", "speed", "heading").index(name)] = value
    return numbers


def windows(small, augment: Augment | None, window: int = 20, **options: Any):
    return open_windows(small.corpus, batch_size=1, window=window, seed=0, augment=augment, **options)


def reconciled(q: np.ndarray, like: np.ndarray) -> np.ndarray:
    return q * np.sign((q * like).sum(-1, keepdims=True))


# --- mirror


def test_nothing_asked_for_changes_nothing(small, gather_at, same):
    assert same(gather_at(windows(small, NONE), 1, 50, uniform(1, place=AT_50)), gather_at(windows(small, None), 1, 50))


def test_the_mirrored_robots_bodies_are_the_bodies_mirrored(small, gather_at, g1):
    """By forward kinematics: each body where its twin's mirror image is, turned as that is turned."""
    plain, mirrored = (gather_at(windows(small, a), 1, 50, uniform(1, place=AT_50)) for a in (NONE, MIRROR))
    (p, r), (pm, rm) = (forward_kinematics(g1, batch.qpos[0]) for batch in (plain, mirrored))
    flip = {"left": "right", "right": "left"}
    twins = [
        g1.body("_".join([flip.get(first, first), *rest])) for first, *rest in (n.split("_") for n in g1.body_names)
    ]
    assert np.abs(pm - p[:, twins] * [1, -1, 1]).max() < 1e-5
    image = np.asarray(r)[:, twins] * [1, -1, 1, -1]
    assert np.abs(reconciled(np.asarray(rm), image) - image).max() < 1e-5


def test_mirroring_twice_gives_the_motion_back(g1):
    columns = np.array(mirror_columns(g1))
    source, sign = np.abs(columns) - 1, np.sign(columns)
    assert np.array_equal(source[source], np.arange(36)) and np.array_equal(sign * sign[source], np.ones(36))


def test_the_kernel_mirrors_as_the_table_says_and_feet_change_sides(small, gather_at, g1):
    plain, mirrored = (gather_at(windows(small, a), 1, 50, uniform(1, place=AT_50)) for a in (NONE, MIRROR))
    columns = np.array(mirror_columns(g1))
    assert np.array_equal(mirrored.qpos, plain.qpos[..., np.abs(columns) - 1] * np.sign(columns))
    assert np.array_equal(mirrored.contact, plain.contact[..., [2, 3, 0, 1]])


def test_a_robot_that_is_not_its_own_mirror_image_is_refused(g1):
    from dataclasses import replace

    axis = g1.joint_axis.copy()
    axis[0] = [1, 0, 0]
    with pytest.raises(MotionloomError, match="left_hip_pitch_joint and right_hip_pitch_joint are not"):
        mirror_columns(replace(g1, joint_axis=axis))
    with pytest.raises(MotionloomError, match="has no twin right_hip"):
        mirror_columns(replace(g1, joint_names=("left_hip", *g1.joint_names[1:])))


# --- speed


@pytest.mark.parametrize("speed", [0.1, 0.8, 0.9, 1.1, 1.25, 2.0, 10.0])
def test_frames_lie_where_the_speed_puts_them(small, gather_at, speed):
    """Joints and places linear, orientations near spherical interpolation, contacts of the nearest frame."""
    # A segment that may not be hurried shows every speed when its use of the limits is forgotten.
    one = windows(small, speed_only(speed), window=15)
    one.speed_use = np.full(21, 0.01)
    batch = gather_at(one, 1, 30, uniform(1, place=0.3, speed=0.0 if speed < 1 else 0.99))
    assert batch.speed == [speed]
    whole, time = small.whole(1), batch.frame[0] + np.arange(15) * speed
    expected = np.stack([np.interp(time, np.arange(300), column) for column in whole.qpos.T.astype(float)], 1)
    rest = [0, 1, 2, *range(7, 36)]
    assert np.abs(batch.qpos[0][:, rest] - expected[:, rest]).max() < 2e-6
    between = Slerp(np.arange(300), Rotation.from_quat(whole.qpos[:, [4, 5, 6, 3]]))(time)
    angle = (Rotation.from_quat(batch.qpos[0][:, [4, 5, 6, 3]]) * between.inv()).magnitude()
    assert angle.max() < 1e-4 and np.allclose(np.linalg.norm(batch.qpos[0, :, 3:7], axis=1), 1, atol=1e-6)
    assert np.array_equal(batch.contact[0], whole.contact[np.floor(time + 0.5 + 1e-9).astype(int)])


@pytest.mark.parametrize("speed", [0.8, 0.9, 1.1, 1.25, 2.0])
@pytest.mark.parametrize("augment", [{}, {"mirror": 1.0}, {"heading": True}, {"mirror": 1.0, "heading": True}])
def test_velocities_are_those_of_the_motion_that_is_shown(small, gather_at, speed, augment):
    """The whole segment as it is shown, differentiated as any motion is; its ends are one-sided."""
    one = windows(
        small, Augment(**{"mirror": 0, "heading": False, "speeds": speed_only(speed).speeds} | augment), window=10
    )
    one.speed_use = np.full(21, 0.01)
    one.history = int(299 / speed) + 5
    one.length = 2 * one.history + 10
    batch = gather_at(one, 1, 30, uniform(1, place=0.0, speed=0.0 if speed < 1 else 0.99, heading=0.8))
    shown = batch.qpos[0][batch.valid[0]]
    # The first frame of the window stands at the segment's first: what lies before it is not there.
    assert batch.frame == [0] and batch.speed == [speed] and len(shown) == int(299 / speed + 1e-9) + 1
    expected = velocity(RobotMotion(shown.astype(np.float64), 50.0))
    assert np.abs(batch.velocity[0][batch.valid[0]] - expected).max() < 2e-3
    assert not batch.velocity[0][~batch.valid[0]].any()


def test_a_segment_is_hurried_only_within_its_limits_and_its_frames():
    speeds = (0.5, 1.0, 1.25, 2.0)
    # 60 frames and 31 to show: at 1.25 these take 39 frames, at 2.0 they take 61.
    assert frames_needed(np.array(speeds), 31).tolist() == [16, 31, 39, 61]
    use = np.array([0.1, 0.8, 0.81, 1.3, np.nan, 0.1, 0.5, 0.1], np.float32)
    frames = np.array([61, 61, 61, 61, 61, 60, 61, 31])
    expected = [
        [1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 0, 0],
    ]  # fmt: skip
    assert np.array_equal(allowed(speeds, frames, use, 31), np.array(expected, bool))


def test_no_window_leaves_its_segment_or_its_limits(small):
    augment = Augment(speeds=(0.5, 0.8, 1.0, 1.1, 1.25, 2.0, 2.5))
    for epochs in (False, True):
        for batch in batches(small.corpus, batch_size=3000, window=20, seed=0, augment=augment, epochs=epochs, steps=1):
            last = batch.frame + np.ceil(19 * batch.speed - 1e-6)
            assert batch.valid.all() and (batch.frame >= 0).all() and (last < LENGTHS[batch.segment]).all()
            use = np.nan_to_num(SPEED_USE[batch.segment], nan=1.0)
            assert (batch.speed * use <= 1 + 1e-6)[batch.speed > 1].all() and len(set(batch.speed)) == 7


def test_choices_come_as_often_as_told_and_hang_on_nothing_else(small):
    augment = Augment(mirror=0.3)
    batch = next(batches(small.corpus, batch_size=20_000, window=20, seed=0, augment=augment))
    assert stats.binomtest(int(batch.mirrored.sum()), 20_000, 0.3).pvalue > 0.001
    assert stats.kstest(batch.yaw, stats.uniform(-np.pi, 2 * np.pi).cdf).pvalue > 0.001
    of_one = batch.speed[batch.segment == 4]  # 64 frames, a tenth of its limits: all five speeds
    assert stats.chisquare(np.unique(of_one, return_counts=True)[1]).pvalue > 0.001 and len(set(of_one)) == 5
    assert abs(np.corrcoef(batch.mirrored, batch.yaw)[0, 1]) < 0.03
    assert abs(np.corrcoef(batch.mirrored, batch.speed)[0, 1]) < 0.03
    plain = next(batches(small.corpus, batch_size=20_000, window=20, seed=0))
    assert np.array_equal(plain.segment, batch.segment)


# --- heading


def test_a_turn_leaves_the_windows_first_root_where_it_is_and_all_else_follows(small, gather_at, g1):
    plain = gather_at(windows(small, NONE, history=4), 1, 50, uniform(1, place=AT_50))
    turned = gather_at(windows(small, TURN, history=4), 1, 50, uniform(1, place=AT_50, heading=0.9))
    assert turned.yaw == pytest.approx(2 * np.pi * 0.9 - np.pi)
    half = float(turned.yaw[0]) / 2
    yaw = np.broadcast_to([np.cos(half), 0, 0, np.sin(half)], (24, 4))
    (p, _), (pt, _) = (forward_kinematics(g1, batch.qpos[0]) for batch in (plain, turned))
    pivot = plain.qpos[0, 4, :3] * [1, 1, 0]
    around = rotations.rotate(yaw[:, None], p - pivot) + pivot
    assert np.abs(pt - around).max() < 1e-5
    assert np.allclose(turned.qpos[0, 4, :3], plain.qpos[0, 4, :3], atol=1e-6)
    assert np.allclose(turned.velocity[0, :, :3], rotations.rotate(yaw, plain.velocity[0, :, :3]), atol=2e-4)
    assert np.allclose(turned.velocity[0, :, 3:], plain.velocity[0, :, 3:], atol=2e-4)
    assert np.array_equal(turned.contact, plain.contact)


# --- the ledger


def test_virtual_frames_are_counted_segment_by_segment():
    """10 frames at half speed are 19, at double speed 5."""
    augment = Augment(mirror=0.5, speeds=(0.5, 1.0, 2.0))
    assert virtual_frames(augment, np.array([10]), np.array([0.5])) == 2 * (19 + 10 + 5)
    assert virtual_frames(augment, np.array([10]), np.array([0.6])) == 2 * (19 + 10)
    assert virtual_frames(Augment(mirror=1.0, speeds=(1.0,)), np.array([10]), np.array([0.6])) == 10
    assert virtual_frames(augment, np.array([10, 4]), np.array([0.5, 0.5]), window=5) == 2 * (19 + 10 + 5)
    assert virtual_frames(augment, np.array([10]), np.array([0.5]), window=6) == 2 * (19 + 10)


def test_virtual_frames_of_the_corpus_are_its_frames_shown_at_every_speed(small):
    speeds = (0.8, 0.9, 1.0, 1.1, 1.25)
    count = virtual_frames(Augment(), small.corpus.frames, small.corpus.measure("speed_use"))
    expected = sum(
        2 * len(np.arange(0, n - 1 + 1e-9, s)) if n > 1 else 2
        for n, use in zip(LENGTHS, SPEED_USE, strict=True)
        for s in speeds
        if s <= 1 or s * use <= 1 + 1e-6
    )  # fmt: skip
    assert count == expected


def test_measures_come_in_the_order_of_the_segments(small):
    assert np.array_equal(small.corpus.measure("speed_use"), SPEED_USE, equal_nan=True)
    with pytest.raises(MotionloomError, match="No measure 'speed'"):
        small.corpus.measure("speed")


@pytest.mark.parametrize(
    "wrong",
    [
        {"mirror": -0.1}, {"mirror": 1.1}, {"mirror": float("nan")}, {"speeds": ()}, {"speeds": (0.8, 0.9)},
        {"speeds": (1.0, 1.0)}, {"speeds": (1.1, 1.0)}, {"speeds": (0.0, 1.0)}, {"speeds": (1.0, float("nan"))},
        {"speeds": (1.0, float("inf"))}, {"speeds": (-1.0, 1.0)}, {"speeds": (1.0, 11.0)},
    ],
    ids=str,
)  # fmt: skip
def test_recipes_without_sense_are_refused(wrong):
    with pytest.raises(MotionloomError, match="should be"):
        Augment(**wrong)


def test_to_mirror_another_robot_it_must_be_named(tmp_path, make_corpus, make_motion):
    corpus = make_corpus(tmp_path, {"aaaa": [(make_motion(50, 0), {})]})
    corpus.about["robot"] = "h1"
    with pytest.raises(MotionloomError, match="name the robot: the corpus is of h1"):
        open_windows(corpus, batch_size=1, window=10, seed=0, augment=Augment())
    assert open_windows(corpus, batch_size=1, window=10, seed=0, augment=TURN)[0].qpos.shape == (1, 10, 36)
