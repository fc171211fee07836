"""Measures and the gate, judged by constructed motions, by MuJoCo's own contacts, and by published robot motion."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import mujoco
import numpy as np
import pytest

from corpus import rotations
from corpus.errors import Rejected
from corpus.motion import RobotMotion
from corpus.posture import join_postures, postures
from corpus.quality import Fit, Gate, Quality, frame_measures, measure, summarise
from corpus.resample import resample
from corpus.schema import QUALITY
from corpus.segment import cut

FPS = 50.0
SECONDS = np.arange(100) / FPS


@pytest.fixture(scope="module")
def lying(g1, standing) -> RobotMotion:
    """On its back, the lowest part just on the floor."""
    qpos = standing.qpos.copy()
    qpos[:, 3:7] = rotations.from_rotation_vector(np.array([0, -np.pi / 2, 0]))
    qpos[:, 2] = 3.0
    qpos[:, 2] -= measure(g1, RobotMotion(qpos, FPS)).floating
    return RobotMotion(qpos, FPS)


def shifted(motion: RobotMotion, **shift: np.ndarray | float) -> RobotMotion:
    qpos = motion.qpos.copy()
    for axis, by in shift.items():
        qpos[:, "xyz".index(axis)] += by
    return replace(motion, qpos=qpos)


def with_joints(g1, motion: RobotMotion, **angles: np.ndarray | float) -> RobotMotion:
    qpos = motion.qpos.copy()
    for name, angle in angles.items():
        qpos[:, 7 + g1.joint_names.index(f"{name}_joint")] = angle
    return replace(motion, qpos=qpos)


def published(path: Path, fps: float) -> RobotMotion:
    table = np.loadtxt(path, delimiter=",")
    return resample(RobotMotion(np.concatenate([table[:, :3], table[:, [6, 3, 4, 5]], table[:, 7:]], 1), fps), FPS)


def test_the_columns_of_the_catalog_are_the_measures_in_their_order():
    assert tuple(field.name for field in fields(Quality)) == QUALITY
    assert {field.name.removesuffix("_limit") for field in fields(Gate)} <= set(QUALITY)


def test_a_standing_robot_does_nothing_wrong(g1, standing):
    quality = measure(g1, standing)
    assert (quality.foot_slide, quality.airborne_s, quality.contact_share) == (0, 0, 1)
    assert (quality.root_speed, quality.speed_use, quality.jerk, quality.limit_use) == (0, 0, 0, 0)
    assert quality.floating < 1e-6 and quality.penetration < 1e-6
    assert np.isnan(quality.position_error) and np.isnan(quality.orientation_error)
    Gate().check(quality)


# ---------------------------------------------------------------- slide


@pytest.mark.parametrize("height", [0.0, 0.03])
@pytest.mark.parametrize("speed", [0.2, 0.58, 3.0])
def test_a_robot_pulled_over_the_floor_slides_at_its_speed_however_fast(g1, standing, speed, height):
    pulled = shifted(standing, x=0.6 * speed * SECONDS, y=0.8 * speed * SECONDS, z=height)
    assert measure(g1, pulled).foot_slide == pytest.approx(speed, rel=1e-6)


def test_a_foot_that_rolls_about_its_toe_does_not_slide(g1, standing):
    """The trap of `cvel`, which refers to the centre of mass: it reads a speed here, the point's true velocity is zero."""
    body, _ = g1.ground_points["left_toe"]
    turn = rotations.from_rotation_vector(np.outer(SECONDS[:50], [0, 1.0, 0]))
    pivot = postures(g1, standing.qpos).soles[:, 2, 0] * [1, 0, 1]
    qpos = standing.qpos[:50].copy()
    qpos[:, :3] = pivot + rotations.rotate(turn, qpos[:, :3] - pivot)
    qpos[:, 3:7] = turn
    assert measure(g1, RobotMotion(qpos, FPS)).foot_slide < 1e-3
    model = mujoco.MjModel.from_xml_path(str(g1.mjcf))
    data = mujoco.MjData(model)
    data.qpos[:] = qpos[25]
    data.qvel[3:6] = [0, 1.0, 0]
    data.qvel[:3] = np.cross([0, 1.0, 0], qpos[25, :3] - pivot)
    mujoco.mj_forward(model, data)
    foot = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, body)
    assert np.linalg.norm(data.cvel[foot, 3:5]) > 0.3
    toe = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_SITE, "left_toe_inner")
    true = np.zeros(6)
    mujoco.mj_objectVelocity(model, data, mujoco.mjtObj.mjOBJ_SITE, toe, true, 0)
    assert np.linalg.norm(true[3:5]) < 1e-6


def test_a_foot_that_pivots_slides_by_its_distance_from_the_pivot(g1, standing):
    points = postures(g1, standing.qpos).soles[:2, :, 0]
    turn = rotations.about_z(2.0 * SECONDS)
    qpos = standing.qpos.copy()
    qpos[:, :3] = rotations.rotate(turn, qpos[:, :3])
    qpos[:, 3:7] = turn
    # The chord between two frames is a little shorter than the arc.
    expected = 2 * np.sin(2.0 / FPS / 2) * FPS * np.linalg.norm(points, axis=0).mean()
    assert measure(g1, RobotMotion(qpos, FPS)).foot_slide == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("knee", [0.0, 0.55])
def test_a_foot_that_swings_low_beside_a_standing_one_does_not_count(g1, standing, knee):
    """With a straight knee the sole even passes through the floor; with a bent one it passes just above."""
    swing = -knee / 2 + 0.2 * np.sin(10 * SECONDS)
    motion = with_joints(g1, standing, left_knee=knee, left_ankle_pitch=-knee / 2, left_hip_pitch=swing)
    soles = postures(g1, motion.qpos).soles
    assert -0.02 < soles[2, :4].min() < 0.04 and np.abs(np.diff(soles[0, :4])).max() * FPS > 0.8
    assert measure(g1, motion).foot_slide < 1e-6


@pytest.mark.data
def test_the_published_walk_slides_about_as_its_peers_measure(g1, shared):
    """GMR's skate on walks is 0.02 to 0.09 m/s; counting swinging feet would read 0.2."""
    motion = published(shared / "lafan1_g1_csv/walk1_subject1.csv", 30)
    assert 0.02 < measure(g1, motion).foot_slide < 0.1


# ---------------------------------------------------------------- floor


@pytest.mark.parametrize("height", [0.02, 0.3])
def test_floating_is_the_height_above_the_floor(g1, standing, height):
    assert measure(g1, shifted(standing, z=height)).floating == pytest.approx(height, abs=1e-6)


def test_penetration_is_the_depth_below_the_floor(g1, standing):
    assert measure(g1, shifted(standing, z=-0.35)).penetration == pytest.approx(0.35, abs=1e-6)


def test_a_jump_is_airborne_but_not_floating(g1, standing):
    t = SECONDS - 1.0
    jump = shifted(standing, z=np.maximum(0.4 - 9.81 / 2 * t * t, 0))
    quality = measure(g1, jump)
    assert quality.floating < 0.005
    assert quality.airborne_s == pytest.approx(2 * np.sqrt(2 * (0.4 - 0.05) / 9.81), abs=0.04)
    Gate().check(quality)


def test_a_short_clip_wholly_in_the_air_floats(g1, standing):
    short = replace(standing, qpos=shifted(standing, z=0.3).qpos[:40])
    with pytest.raises(Rejected, match="floating"):
        Gate().check(measure(g1, short))


def test_a_flight_counts_whole_in_each_segment_it_reaches_into(g1, standing):
    high = shifted(standing, z=0.5 * ((SECONDS >= 0.4) & (SECONDS < 1.8)))
    measures = frame_measures(g1, high, postures(g1, high.qpos))
    parts = ((0, 20), (0, 50), (50, 100), (90, 100))
    assert [summarise(measures, *part).airborne_s for part in parts] == [0.0, 1.4, 1.4, 0.0]


def test_a_robot_that_lies_passes_though_no_foot_touches(g1, lying):
    quality = measure(g1, lying)
    assert quality.contact_share == 0
    Gate().check(quality)


def test_feet_may_drag_while_the_robot_lies(g1, lying):
    assert measure(g1, shifted(lying, x=0.8 * SECONDS)).foot_slide == 0


# ---------------------------------------------------------------- joints


def test_speed_use_is_the_speed_over_the_joints_own_limit(g1, standing):
    assert measure(g1, with_joints(g1, standing, left_knee=0.1 + SECONDS)).speed_use == pytest.approx(1.0 / 20)


def test_limit_use_is_the_share_of_frames_at_or_beyond_a_limit(g1, standing):
    upper = g1.upper[g1.joint_names.index("left_elbow_joint")]
    angle = np.where(SECONDS < 0.5, upper, np.where(SECONDS < 1.0, upper + 0.2, 0.0))
    assert measure(g1, with_joints(g1, standing, left_elbow=angle)).limit_use == pytest.approx(0.5)


def test_jerk_of_a_sine_is_its_third_derivative(g1, standing):
    w = 2 * np.pi
    qpos = standing.qpos.copy()
    qpos[:, 7:] += (0.2 * np.sin(w * SECONDS))[:, None]
    # The median of |cos| is 1/√2.
    assert measure(g1, RobotMotion(qpos, FPS)).jerk == pytest.approx(0.2 * w**3 / np.sqrt(2), rel=0.05)


def test_retargeting_errors_are_averaged_over_the_segment(g1, standing):
    errors = np.arange(100) / 1000
    states = postures(g1, standing.qpos)
    fit = Fit(errors, 2 * errors, 3 * errors, np.zeros((100, 4)))
    quality = summarise(frame_measures(g1, standing, states, fit), 10, 20)
    assert quality.position_error == pytest.approx(0.0145) and quality.orientation_error == pytest.approx(0.029)
    assert quality.smoothing == pytest.approx(0.0435)


def test_contacts_that_are_not_the_persons_are_counted(g1, standing):
    """The robot stands on both feet; the person's left toe is up all the time, and both feet in the last fifth."""
    stands = np.ones((100, 4))
    stands[:, 1] = 0.0
    stands[80:] = 0.0
    zero = np.zeros(100)
    measures = frame_measures(g1, standing, postures(g1, standing.qpos), Fit(zero, zero, zero, stands))
    assert summarise(measures, 0, 100).contact_match == pytest.approx(0.8 * 0.75)
    assert np.isnan(measure(g1, standing).contact_match)


def test_a_robot_that_stands_still_is_borne_by_its_feet(g1, standing):
    quality = measure(g1, standing)
    assert quality.unexplained_force == 0.0 and quality.torque_use < 0.5
    assert quality.support_distance == 0.0 and quality.pressure_distance == 0.0


def test_a_robot_that_hangs_in_the_air_has_its_weight_unexplained(g1, standing):
    quality = measure(g1, shifted(standing, z=0.5))
    assert quality.unexplained_force == pytest.approx(1.0, abs=0.01)
    assert np.isnan(quality.support_distance) and np.isnan(quality.pressure_distance)


def test_a_robot_that_leans_too_far_is_off_its_soles(g1, standing):
    """Turned about its ankles by 20°, feet level: the mass is some 0.25 m ahead, the toes 0.12 m."""
    qpos = standing.qpos.copy()
    ankles = [7 + i for i, name in enumerate(g1.joint_names) if name.endswith("ankle_pitch_joint")]
    lean = np.radians(20)
    qpos[:, ankles] -= lean
    qpos[:, 3:7] = rotations.multiply(
        np.broadcast_to(rotations.from_rotation_vector(np.array([0.0, lean, 0.0])), (100, 4)), qpos[:, 3:7]
    )
    qpos[:, 2] -= postures(g1, qpos).soles[2].min()
    quality = measure(g1, RobotMotion(qpos, FPS))
    assert 0.05 < quality.support_distance < 0.25
    assert quality.pressure_distance == pytest.approx(quality.support_distance, abs=0.01)


def test_a_jump_between_segments_belongs_to_neither(g1, standing):
    qpos = standing.qpos.copy()
    qpos[60:, 0] += 3.0
    qpos[60:, 7 + 15 :] += 0.2
    measures = frame_measures(g1, RobotMotion(qpos, FPS), postures(g1, qpos))
    for part in ((0, 60), (60, 100)):
        quality = summarise(measures, *part)
        assert (quality.root_speed, quality.speed_use, quality.jerk, quality.foot_slide) == (0, 0, 0, 0)


# ---------------------------------------------------------------- self-collision


def test_self_collision_is_the_deepest_of_mujocos_contacts(g1):
    """All capsules, the soles' too, over random postures anywhere in the world, to 5 µm (float32)."""
    rng = np.random.default_rng(3)
    count = 150
    qpos = np.zeros((count, 36))
    qpos[:, :3] = rng.normal(size=(count, 3)) * [50, 50, 1]
    qpos[:, 3:7] = rotations.normalise(rng.normal(size=(count, 4)))
    qpos[:, 7:] = rng.uniform(g1.lower, g1.upper, (count, 29)) * np.where(np.arange(count)[:, None] % 2, 1, 0.3)
    # In a third of them straight legs just meet, so that feet meet feet.
    roll = rng.uniform(0.08, 0.2, count)
    qpos[::3, 7:] = 0
    qpos[::3, 8], qpos[::3, 14] = -roll[::3], roll[::3]
    qpos[::3, [11, 12, 17, 18]] = rng.uniform(-0.26, 0.26, (count // 3, 4))
    ours = frame_measures(g1, RobotMotion(qpos, FPS), postures(g1, qpos)).self_collision
    model = mujoco.MjModel.from_xml_path(str(g1.mjcf))
    data = mujoco.MjData(model)
    theirs, of_feet = np.zeros(count), 0
    for i, pose in enumerate(qpos):
        data.qpos[:] = pose
        mujoco.mj_forward(model, data)
        depths = [(-float(c.dist), model.geom(c.geom1).name + model.geom(c.geom2).name) for c in data.contact]
        theirs[i], names = max([(0.0, ""), *depths])
        of_feet += "foot" in names
    assert (theirs > 0.01).sum() > 30 and (theirs == 0).sum() > 5 and of_feet > 5
    assert np.abs(ours - theirs).max() < 5e-6


# ---------------------------------------------------------------- the gate

FAULTS = {
    "foot_slide": lambda g1, m: shifted(m, x=0.8 * SECONDS),
    "floating": lambda g1, m: shifted(m, z=0.3),
    "penetration": lambda g1, m: shifted(m, z=-0.35),
    "airborne_s": lambda g1, m: shifted(m, z=0.5 * ((SECONDS > 0.3) & (SECONDS < 1.7))),
    "limit_use": lambda g1, m: with_joints(g1, m, left_elbow=2.0944),
    "speed_use": lambda g1, m: with_joints(g1, m, left_knee=1 + 0.5 * np.sin(50 * SECONDS)),
    "jerk": lambda g1, m: with_joints(g1, m, left_wrist_roll=0.02 * (-1.0) ** np.arange(100)),
    "self_collision": lambda g1, m: with_joints(g1, m, left_hip_roll=-0.5, right_hip_roll=0.5),
    "root_speed": lambda g1, m: shifted(m, x=12 * SECONDS),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_named_with_its_value_and_limit(g1, standing, fault):
    quality = measure(g1, FAULTS[fault](g1, standing))
    # One fault may show in several measures: let only this one judge.
    others = {field.name: 1e9 for field in fields(Gate) if field.name != f"{fault}_limit"}
    with pytest.raises(Rejected) as caught:
        Gate(**others).check(quality)
    assert caught.value.reason == fault
    limit = getattr(Gate(), f"{fault}_limit")
    assert caught.value.numbers == {"value": round(getattr(quality, fault), 5), "limit": limit}
    with pytest.raises(Rejected):
        Gate().check(quality)


@pytest.mark.parametrize("name", ["position_error", "orientation_error"])
def test_a_motion_far_from_its_targets_is_named(g1, standing, name):
    with pytest.raises(Rejected, match=name):
        Gate().check(replace(measure(g1, standing), **{name: 2.0}))


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "fps", "least"),
    [
        ("lafan1_g1_csv/walk1_subject1", 30, 0.95),
        ("lafan1_g1_csv/dance1_subject1", 30, 0.9),
        ("lafan1_g1_csv/fallAndGetUp3_subject1", 30, 0.8),
        ("g1_moves/B_HandsUp", 60, 1.0),
        ("g1_moves/M_ShortMove12", 60, 1.0),
    ],
)
def test_published_robot_motion_is_mostly_kept(g1, shared, name, fps, least):
    motion = published(shared / f"{name}.csv", fps)
    measures = frame_measures(g1, motion, postures(g1, motion.qpos))
    kept, reasons = 0, []
    for span in cut(measures):
        try:
            if span.reason is None:
                Gate().check(summarise(measures, span.start, span.stop))
                kept += span.stop - span.start
        except Rejected as rejected:
            reasons.append(str(rejected))
    assert kept / motion.frame_count >= least, reasons


def test_motions_end_to_end_measure_as_each_alone(g1, standing):
    rng = np.random.default_rng(1)
    noisy = standing.qpos[:40] + np.concatenate([np.zeros((40, 7)), rng.normal(0, 0.05, (40, 29))], 1)
    moved = shifted(standing, x=2 * SECONDS, z=0.01 * SECONDS).qpos
    parts = [RobotMotion(qpos, FPS) for qpos in (moved, noisy, standing.qpos[:2])]
    outside = [postures(g1, part.qpos) for part in parts]
    whole = RobotMotion(np.concatenate([part.qpos for part in parts]), FPS)
    together = frame_measures(g1, whole, join_postures(outside), starts=(0, 100, 140))
    for part, own, start in zip(parts, outside, (0, 100, 140), strict=True):
        alone, cut = frame_measures(g1, part, own), together.slice(start, start + part.frame_count)
        for name in vars(alone):
            assert np.array_equal(getattr(alone, name), getattr(cut, name), equal_nan=True), name
