"""Terms of the physics score by formula and by MuJoCo, and what the score makes of them."""

from __future__ import annotations

from dataclasses import replace

import mujoco
import numpy as np
import pytest
from swinging import swinging

from corpus import rotations
from corpus.errors import MotionloomError
from corpus.motion import RobotMotion, velocity
from corpus.posture import postures
from corpus.quality import OFF_GROUND
from hme.physics_score import (
    PRESETS,
    TERMS,
    PhysicsTerms,
    Preset,
    _ankle_height,
    _ankles,
    _feet,
    _velocities,
    measure_terms,
    score,
    terms,
)

FPS = 50.0
SECONDS = np.arange(100) / FPS


@pytest.fixture(scope="module")
def model(g1):
    return mujoco.MjModel.from_xml_path(str(g1.mjcf))


def of(g1, motion: RobotMotion) -> PhysicsTerms:
    return terms(g1, motion, postures(g1, motion.qpos))


def shifted(motion: RobotMotion, **shift: np.ndarray | float) -> RobotMotion:
    qpos = motion.qpos.copy()
    for axis, by in shift.items():
        qpos[:, "xyz".index(axis)] += by
    return replace(motion, qpos=qpos)


def poses(g1, count: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    qpos = np.concatenate([rng.normal(size=(count, 7)), rng.uniform(g1.lower, g1.upper, (count, 29))], 1)
    qpos[:, 3:7] = rotations.normalise(qpos[:, 3:7])
    return qpos


def test_a_standing_robot_is_faultless(g1, standing):
    found = vars(of(g1, standing))
    assert max(found.values()) < 1e-6
    assert all(score(found, preset)[0] == pytest.approx(100) for preset in PRESETS.values())


def test_a_robot_pulled_at_0_3_metres_a_second_slides_by_0_2_too_much_on_each_foot(g1, standing):
    found = of(g1, shifted(standing, x=0.18 * SECONDS, y=0.24 * SECONDS))
    assert found.ankle_slide == pytest.approx(2 * 0.2 * 99 / 100, rel=1e-6)
    assert found.sole_slide == pytest.approx(0.2 * 99 / 100, rel=1e-6)


def test_a_slide_of_a_tenth_is_free(g1, standing):
    found = of(g1, shifted(standing, x=0.0999 * SECONDS))
    assert (found.ankle_slide, found.sole_slide) == (0, 0)


def test_a_raised_foot_does_not_slide_by_its_ankle(g1, standing):
    low, high = (of(g1, shifted(standing, x=SECONDS, z=height)).ankle_slide for height in (0.014, 0.016))
    assert (low > 1.7, high) == (True, 0)


@pytest.mark.parametrize(
    ("point", "site", "about"), [("left_toe", "left_toe_inner", 1.0), ("left_heel", "left_heel_inner", -1.0)]
)
def test_a_foot_that_rolls_does_not_slide_as_mujoco_has_its_point(g1, standing, model, point, site, about):
    body, corners = g1.ground_points[point]
    turn = rotations.from_rotation_vector(np.outer(SECONDS[:20], [0, about, 0]))
    pivot = postures(g1, standing.qpos).soles[:, 2 if point == "left_toe" else 0, 0] * [1, 0, 1]
    qpos = standing.qpos[:20].copy()
    qpos[:, :3] = pivot + rotations.rotate(turn, qpos[:, :3] - pivot)
    qpos[:, 3:7] = turn
    assert of(g1, RobotMotion(qpos, FPS)).ankle_slide < 1e-6
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[3:6] = qpos[10], [0, about, 0]
    data.qvel[:3] = np.cross([0, about, 0], qpos[10, :3] - pivot)
    mujoco.mj_forward(model, data)
    true = np.zeros(6)
    mujoco.mj_objectVelocity(model, data, mujoco.mjtObj.mjOBJ_SITE, model.site(site).id, true, 0)
    assert np.linalg.norm(true[3:5]) < 1e-6 < 0.3 < np.linalg.norm(data.cvel[model.body(body).id, 3:5])
    assert len(corners) == 2


def test_ankles_are_as_high_as_mujoco_has_them(g1, model):
    qpos = poses(g1, 20)
    outside, data = postures(g1, qpos), mujoco.MjData(model)
    for points, build, side in zip(_feet(outside), _ankles(g1), ("left", "right"), strict=True):
        height = _ankle_height(outside.soles[:, points], build)
        for i, pose in enumerate(qpos):
            data.qpos[:] = pose
            mujoco.mj_kinematics(model, data)
            assert height[i] == pytest.approx(data.body(f"{side}_ankle_roll_link").xpos[2], abs=2e-5)


def test_self_contacts_are_the_pairs_that_mujoco_finds(g1, model):
    qpos = poses(g1, 40)
    count, data = postures(g1, qpos).overlap_count, mujoco.MjData(model)
    for i, pose in enumerate(qpos):
        data.qpos[:] = pose
        mujoco.mj_forward(model, data)
        pairs = {tuple(sorted(contact.geom.tolist())) for contact in data.contact if contact.dist < -1e-6}
        own = {pair for pair in pairs if all(model.geom_bodyid[geom] > 0 for geom in pair)}
        assert count[i] == len(own)
    assert count.max() > 3


def test_contacts_count_no_more_than_ten(g1):
    crossed = np.repeat(poses(g1, 40)[[postures(g1, poses(g1, 40)).overlap_count.argmax()]], 2, 0)
    found = postures(g1, crossed)
    many = replace(found, overlap_count=np.array([25.0, 3.0]))
    assert terms(g1, RobotMotion(crossed, FPS), many).self_contacts == 6.5


def test_depth_counts_beyond_a_centimetre_as_mujoco_has_it(g1, standing):
    sunk = shifted(standing, z=-0.03)
    assert of(g1, sunk).sunk == pytest.approx(0.02, abs=1e-6)
    text = g1.mjcf.read_text().replace("<worldbody>", '<worldbody><geom name="floor" type="plane" size="9 9 1"/>', 1)
    with_floor = mujoco.MjModel.from_xml_string(text)
    data = mujoco.MjData(with_floor)
    data.qpos[:] = sunk.qpos[0]
    mujoco.mj_forward(with_floor, data)
    assert -min(contact.dist for contact in data.contact) - 0.01 == pytest.approx(0.02, abs=1e-6)


@pytest.mark.parametrize(("frames", "share", "middles"), [(49, 0, 0), (50, 0.5, 0.01), (80, 0.8, 0.31)])
def test_flights_of_a_second_and_more_count(g1, standing, frames, share, middles):
    found = of(g1, shifted(standing, z=np.where(np.arange(100) < frames, OFF_GROUND + 0.01, 0)))
    assert found.flight == pytest.approx(share)
    assert found.flight_middles == pytest.approx(middles)


def test_speed_beyond_the_limit_is_averaged_over_joints_and_frames(g1, standing):
    knee = g1.joint_names.index("left_knee_joint")
    qpos = standing.qpos.copy()
    qpos[:, 7 + knee] = 21.5 * SECONDS
    assert of(g1, RobotMotion(qpos, FPS)).over_speed == pytest.approx(1.5 / 29, rel=1e-5)


def test_acceleration_and_complexity_are_those_of_the_velocities(g1, standing):
    qpos = standing.qpos.copy()
    qpos[:, 7:] += 0.2 * np.sin(6 * SECONDS)[:, None]
    motion = RobotMotion(qpos, FPS)
    speed = velocity(motion)
    norm = np.linalg.norm(np.diff(speed, axis=0), axis=1) * FPS
    found = of(g1, motion)
    assert found.acceleration == pytest.approx(norm.sum() / 100, rel=1e-6)
    assert found.complexity == pytest.approx((speed**2).sum(1).mean() + 0.05 * (norm**2).mean(), rel=1e-6)
    # 29 joints at amplitude a and rate w: half of 29 (a w)², and 0.05 of half of 29 (a w²)².
    assert found.complexity == pytest.approx(29 / 2 * 0.2**2 * (6**2 + 0.05 * 6**4), rel=0.05)


@pytest.mark.parametrize(
    ("steps", "count"), [([0.3], 1), ([0.09], 0), ([0.3, 0.3], 0), ([0.3, 0, 0, 0.09], 1), ([0.3, 0, 0, 0.11], 0)]
)
def test_a_spike_stands_alone(g1, standing, steps, count):
    path = np.zeros(100)
    path[50 : 50 + len(steps)] = steps
    assert of(g1, shifted(standing, x=path.cumsum())).spikes == count


def test_segments_end_to_end_are_measured_each_by_itself(g1, standing):
    pulled = shifted(standing, x=SECONDS, z=0.2)
    found = measure_terms(g1, np.concatenate([standing.qpos, pulled.qpos[:70]]), np.array([100, 70]), fps=FPS)
    alone = [of(g1, standing), of(g1, pulled.slice(0, 70))]
    assert tuple(found) == TERMS
    for name in TERMS:
        assert np.allclose(found[name], [getattr(one, name) for one in alone], rtol=1e-4, atol=1e-6), name


def test_velocities_of_segments_are_those_of_each_motion():
    motions = [swinging(1.3, seconds, seed=seed) for seed, seconds in enumerate([1.0, 0.04, 3.0])]
    lengths = np.array([motion.frame_count for motion in motions])
    found = _velocities(np.concatenate([motion.qpos for motion in motions]), lengths, FPS)
    assert np.allclose(found, np.concatenate([velocity(motion) for motion in motions]), atol=1e-4)


@pytest.mark.parametrize("batch", [60, 150, 10_000])
def test_batches_do_not_show(g1, standing, batch, monkeypatch):
    qpos, lengths = np.concatenate([swinging(1.3, 1, seed=seed).qpos for seed in range(5)]), np.full(5, 50)
    whole = measure_terms(g1, qpos, lengths, fps=FPS)
    monkeypatch.setattr("hme.physics_score.BATCH_FRAMES", batch)
    found = measure_terms(g1, qpos, lengths, fps=FPS)
    assert all(np.allclose(found[name], whole[name], rtol=1e-5) for name in TERMS)


def test_the_published_score_is_the_published_sum():
    one = dict.fromkeys(TERMS, 0.0) | {
        "ankle_slide": 0.5, "over_speed": 0.02, "self_contacts": 3, "acceleration": 10, "sunk": 0.01, "flight_middles": 0.1,
    }  # fmt: skip
    assert score(one, PRESETS["published"])[0] == pytest.approx(100 - (0.85 + 0.8844 + 0.51 + 2.8 + 2.1662 + 2.419))
    assert score(dict.fromkeys(TERMS, 100.0), PRESETS["published"])[0] == 0


def test_fast_motion_and_self_contact_cost_nothing_by_contact_alone():
    fast = dict.fromkeys(TERMS, 0.0) | {"over_speed": 1.0, "self_contacts": 10, "acceleration": 500, "complexity": 1e4}
    assert score(fast)[0] == 100


def test_scores_of_many_come_in_one_call():
    many = {name: np.zeros(3) for name in TERMS} | {"sole_slide": np.array([0, 0.05, 9])}
    assert np.allclose(score(many), [100, 95, 0])


def test_a_term_that_was_not_measured_is_an_error_not_zero():
    with pytest.raises(MotionloomError, match="sunk is missing for 1 segments"):
        score({name: np.zeros(3) for name in TERMS} | {"sunk": np.array([0, np.nan, 0])})
    with pytest.raises(MotionloomError, match="needs spikes"):
        score({name: 0.0 for name in TERMS if name != "spikes"})
    with pytest.raises(MotionloomError, match="No terms jerk"):
        score(dict.fromkeys(TERMS, 0.0), Preset({"jerk": 1.0}))


def test_postures_of_other_frames_are_refused(g1, standing):
    with pytest.raises(MotionloomError, match="Postures of 50 frames for a motion of 100"):
        terms(g1, standing, postures(g1, standing.qpos[:50]))
    with pytest.raises(MotionloomError, match="Motion of 30 columns: g1 has 36"):
        terms(g1, RobotMotion(standing.qpos[:, :30], FPS), postures(g1, standing.qpos))
