"""Contacts, measures, the gate and the cutter, judged by constructed motions and by MuJoCo's own contacts."""

from __future__ import annotations

from dataclasses import replace

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus import rotations
from corpus.contact import detect_contacts
from corpus.errors import Rejected
from corpus.motion import RobotMotion
from corpus.quality import FrameMeasures, Gate, frame_measures, measure, segment_distance
from corpus.robot import forward_kinematics
from corpus.segment import CutOptions, cut


def standing(g1, frame_count: int = 100) -> RobotMotion:
    qpos = np.zeros((frame_count, 36))
    qpos[:, 2], qpos[:, 3] = 1.0, 1.0
    position, rotation = forward_kinematics(g1, qpos)
    body, points = g1.ground_points["left_heel"]
    low = position[0, g1.body(body)] + rotations.rotate(rotation[0, g1.body(body)], points[0])
    qpos[:, 2] -= low[2]
    return RobotMotion(qpos, 50.0)


def moved(motion: RobotMotion, shift: np.ndarray) -> RobotMotion:
    qpos = motion.qpos.copy()
    qpos[:, :3] += shift
    return replace(motion, qpos=qpos)


def test_a_standing_robot_touches_with_heels_and_toes_and_does_nothing_wrong(g1):
    motion = standing(g1)
    assert detect_contacts(g1, motion, forward_kinematics(g1, motion.qpos)).all()
    quality = measure(g1, motion)
    assert (quality.foot_slide, quality.airborne_s, quality.contact_share) == (0, 0, 1)
    assert quality.floating < 1e-6 and quality.penetration < 1e-6 and quality.jerk == 0
    Gate().check(quality)


def test_a_robot_pulled_over_the_floor_slides_at_its_speed(g1):
    motion = standing(g1)
    pulled = moved(motion, np.outer(np.arange(100) / 50, [0.5, 0.3, 0]))
    assert measure(g1, pulled).foot_slide == pytest.approx(np.hypot(0.5, 0.3), rel=1e-6)


def test_a_foot_that_rolls_about_its_toe_does_not_slide(g1):
    """The trap of velocities taken at a body's centre of mass: they read about 0.9 m/s here."""
    motion = standing(g1, 50)
    position, _ = forward_kinematics(g1, motion.qpos)
    body, toe = g1.ground_points["left_toe"]
    pivot = position[0, g1.body(body)] + toe[0]
    qpos = motion.qpos.copy()
    turn = rotations.from_rotation_vector(np.outer(np.arange(50) / 50 * 1.0, [0, 1.0, 0]))
    qpos[:, :3] = pivot + rotations.rotate(turn, qpos[:, :3] - pivot)
    qpos[:, 3:7] = rotations.multiply(turn, qpos[:, 3:7])
    rolling = RobotMotion(qpos, 50.0)
    assert measure(g1, rolling).foot_slide < 0.02


def test_a_foot_that_swings_low_beside_a_standing_one_does_not_count(g1):
    motion = standing(g1)
    qpos = motion.qpos.copy()
    qpos[:, 7] = 0.2 * np.sin(np.arange(100) / 5)  # the left hip swings the leg
    assert measure(g1, replace(motion, qpos=qpos)).foot_slide < 1e-6


@pytest.mark.parametrize(
    ("reason", "change"),
    [
        ("foot_slide", lambda m: moved(m, np.outer(np.arange(100) / 50, [0.8, 0, 0]))),
        ("floating", lambda m: moved(m, np.array([0, 0, 0.07]) + np.outer(np.arange(100) % 40 == 0, [0, 0, -0.05]))),
        ("penetration", lambda m: moved(m, np.array([0, 0, -0.35]))),
        ("root_speed", lambda m: moved(m, np.outer(np.arange(100) / 50, [0, 0, 12.0]))),
    ],
)
def test_each_fault_of_the_root_is_named(g1, reason, change):
    quality = measure(g1, change(standing(g1)))
    lenient = {
        f"{other}_limit": 1e9
        for other in ("foot_slide", "floating", "airborne_s", "penetration", "root_speed")
        if other != reason
    }
    with pytest.raises(Rejected) as caught:
        Gate(**lenient).check(quality)
    assert caught.value.reason == reason
    assert caught.value.numbers["value"] > caught.value.numbers["limit"]


def test_flying_for_longer_than_a_jump_lasts_is_named(g1):
    high = moved(standing(g1), np.outer((np.arange(100) > 20) & (np.arange(100) < 90), [0, 0, 0.5]))
    assert measure(g1, high).airborne_s == pytest.approx(69 / 50)


@pytest.mark.parametrize(
    ("joint", "course", "reason"),
    [
        ("left_knee_joint", lambda t: 0.5 + 0.4 * np.sin(2 * np.pi * 12 * t), "speed_use"),
        ("left_shoulder_yaw_joint", lambda t: 0.15 * (-1.0) ** np.round(t * 50), "jerk"),
        ("left_elbow_joint", lambda t: 2.0944 + 0 * t, "limit_use"),
        ("right_shoulder_roll_joint", lambda t: 1.5 + 0 * t, "self_collision"),
    ],
)
def test_each_fault_of_the_joints_is_named(g1, joint, course, reason):
    motion = standing(g1)
    qpos = motion.qpos.copy()
    qpos[:, 7 + g1.joint_names.index(joint)] = course(np.arange(100) / 50)
    quality = measure(g1, replace(motion, qpos=qpos))
    limits = {
        f"{name}_limit": 1e9
        for name in ("speed_use", "jerk", "limit_use", "self_collision", "penetration", "floating", "foot_slide")
        if name != reason
    }
    limits |= {"self_collision_limit": 0.01} if reason == "self_collision" else {}
    with pytest.raises(Rejected) as caught:
        Gate(**limits).check(quality)
    assert caught.value.reason == reason


def test_lying_on_the_floor_is_neither_floating_nor_flying(g1):
    motion = standing(g1)
    qpos = motion.qpos.copy()
    qpos[:, 3:7] = rotations.from_rotation_vector(np.array([0, -np.pi / 2, 0]))
    qpos[:, 2] = 0.12
    quality = measure(g1, replace(motion, qpos=qpos))
    assert quality.airborne_s == 0 and quality.floating < 0.05


def test_self_collision_depth_agrees_with_mujocos_contacts(g1):
    """Against the deepest MuJoCo contact between capsules other than the soles', over random postures."""
    rng = np.random.default_rng(3)
    qpos = np.zeros((60, 36))
    qpos[:, 2], qpos[:, 3] = 5.0, 1.0
    qpos[:, 7:] = rng.uniform(g1.lower, g1.upper, (60, 29))
    motion = RobotMotion(qpos, 50.0)
    states = forward_kinematics(g1, qpos)
    motion = replace(motion, contact=detect_contacts(g1, motion, states))
    ours = frame_measures(g1, motion, states).self_collision
    model = mujoco.MjModel.from_xml_path(str(g1.mjcf))
    data = mujoco.MjData(model)
    soles = {g for g in range(model.ngeom) if "foot" in model.geom(g).name}
    theirs, with_soles = np.zeros(60), np.zeros(60, bool)
    for i in range(60):
        data.qpos[:] = qpos[i]
        mujoco.mj_forward(model, data)
        for contact in data.contact:
            if soles & {int(contact.geom1), int(contact.geom2)}:
                with_soles[i] = True
            else:
                theirs[i] = max(theirs[i], -contact.dist)
    clear = ~with_soles
    assert clear.sum() > 20 and (theirs[clear] > 0.01).sum() > 5
    # A bundled sole may touch where its thin capsules do not, so ours is never shallower.
    assert (ours[clear] >= theirs[clear] - 1e-4).all()
    assert (np.abs(ours - theirs)[clear] < 1e-4).mean() > 0.7


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(-1, 1), min_size=12, max_size=12))
def test_segment_distance_is_the_least_over_a_fine_grid(numbers):
    a0, a1, b0, b1 = np.array(numbers).reshape(4, 3)
    t = np.linspace(0, 1, 61)[:, None]
    grid = np.linalg.norm((a0 + t * (a1 - a0))[:, None] - (b0 + t * (b1 - b0))[None], axis=2).min()
    got = float(segment_distance(a0, a1, b0, b1))
    step = (np.linalg.norm(a1 - a0) + np.linalg.norm(b1 - b0)) / 60
    assert grid - step - 1e-9 <= got <= grid + 1e-9


# ---------------------------------------------------------------- cutting


def measures(frame_count: int, **changes: np.ndarray) -> FrameMeasures:
    zero = np.zeros(frame_count)
    content = dict.fromkeys(
        ("slide", "lowest", "at_limit", "speed_use", "jerk", "self_collision", "root_speed", "joint_step", "root_step",
         "position_error", "orientation_error", "contact"), zero,
    )  # fmt: skip
    return FrameMeasures(fps=50.0, **content | changes)


@settings(deadline=None, max_examples=100)
@given(st.integers(2, 4000), st.lists(st.integers(1, 3999), max_size=6), st.integers(0, 10**6))
def test_spans_tile_the_clip_and_segments_have_an_allowed_length(frame_count, jumps, seed):
    step = np.zeros(frame_count)
    step[[j for j in jumps if j < frame_count]] = 2.0
    activity = np.random.default_rng(seed).uniform(0, 1, frame_count)
    spans = cut(measures(frame_count, joint_step=step, speed_use=activity))
    assert [s.start for s in spans] == [0, *[s.stop for s in spans[:-1]]] and spans[-1].stop == frame_count
    for span in spans:
        if span.reason is None:
            assert 50 <= span.stop - span.start <= 1000
        assert not (step[span.start + 1 : span.stop] > 0).any()


def test_a_long_clip_is_cut_where_it_is_calm():
    activity = np.ones(1500)
    activity[780:800] = 0
    (first, second) = cut(measures(1500, speed_use=activity))
    assert 780 <= first.stop <= 800 and second.start == first.stop


def test_a_spike_of_the_root_is_cut_out_but_a_fast_run_is_not():
    run = np.full(300, 6.0 / 50)
    assert len(cut(measures(300, root_step=run))) == 1
    spike = np.zeros(300)
    spike[150] = 6.0 / 50
    assert len(cut(measures(300, root_step=spike))) == 2


def test_a_piece_that_is_too_short_is_cut_away_with_its_reason():
    assert [s.reason for s in cut(measures(30))] == ["too_short"]
    assert [s.reason for s in cut(measures(30), CutOptions(min_s=0.5))] == [None]
