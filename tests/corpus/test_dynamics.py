"""Inverse dynamics against Pinocchio, and what it says of motions whose forces are known by formula."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pinocchio as pin
import pytest
from scipy.optimize import brentq, nnls

from corpus import dynamics as module
from corpus import rotations
from corpus.dynamics import GRAVITY, LEAST_PRESS, Dynamics, derivatives, dynamics, inverse_dynamics
from corpus.posture import Postures, join_postures, postures

FPS = 50.0
SECONDS = np.arange(60) / FPS
BOTH, LEFT, NEITHER = (1, 1, 1, 1), (1, 0, 0, 0), (0, 0, 0, 0)


@pytest.fixture(scope="module")
def model(g1):
    return pin.buildModelFromMJCF(str(g1.mjcf))


@pytest.fixture(scope="module")
def standing(g1) -> np.ndarray:
    qpos = np.zeros((60, 36))
    qpos[:, 3] = 1.0
    qpos[:, 2] -= postures(g1, qpos).soles[2].min()
    return qpos


def random_poses(g1, count: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    qpos = np.concatenate([rng.normal(size=(count, 7)), rng.uniform(g1.lower, g1.upper, (count, 29))], 1)
    qpos[:, 3:7] = rotations.normalise(qpos[:, 3:7])
    qpos[:, 2] += 5
    return qpos


def with_contact(g1, qpos: np.ndarray, contact: tuple[int, ...], starts=(0,), outside=None) -> Dynamics:
    outside = postures(g1, qpos) if outside is None else outside
    return dynamics(g1, qpos, FPS, outside, np.tile(np.uint8(contact), (len(qpos), 1)), starts)


def as_still(g1, qpos: np.ndarray, contact: tuple[int, ...], outside: Postures | None = None) -> Dynamics:
    """Every frame as a clip of its own."""
    return with_contact(g1, qpos, contact, range(len(qpos)), outside)


def pins(pose: np.ndarray) -> np.ndarray:
    return pose[[0, 1, 2, 4, 5, 6, 3, *range(7, 36)]]


def centre_of_mass(model, pose: np.ndarray) -> np.ndarray:
    return pin.centerOfMass(model, model.createData(), pins(pose))


# ---------------------------------------------------------------- torques


def test_torques_and_the_wrench_on_the_base_equal_pinocchios(g1, model):
    rng = np.random.default_rng(1)
    qpos = random_poses(g1, 50)
    rate, acceleration = rng.normal(size=(32, 50)) * 5, rng.normal(size=(35, 50)) * 30
    got = inverse_dynamics(g1, qpos, rate, acceleration)
    data = model.createData()
    for i, pose in enumerate(qpos):
        turn, drift = rotations.to_matrix(pose[3:7]), rng.normal(size=3)
        # Pinocchio's base moves in its own axes, and its linear acceleration is the spatial one.
        v = np.concatenate([turn.T @ drift, turn.T @ rate[:3, i], rate[3:, i]])
        linear, angular = acceleration[:3, i], acceleration[3:6, i]
        a = np.concatenate([turn.T @ linear - np.cross(v[3:6], v[:3]), turn.T @ angular, acceleration[6:, i]])
        tau = pin.rnea(model, data, pins(pose), v, a)
        wrench = np.concatenate([turn @ tau[:3], turn @ tau[3:6]])
        assert np.abs(got.torque[:, i] - tau[6:]).max() < 1e-5 * np.abs(tau[6:]).max()
        assert np.abs(got.wrench[:, i] - wrench).max() < 1e-5 * np.abs(wrench).max()


def test_a_foot_on_the_ground_takes_the_whole_wrench_off_its_leg(g1, model):
    """Still postures: the ground's wrench enters through the foot's Jacobian, and nothing is left at the base."""
    qpos = random_poses(g1, 30)
    got = as_still(g1, qpos, LEFT).torque_use
    data = model.createData()
    for i, pose in enumerate(qpos):
        tau = pin.computeGeneralizedGravity(model, data, pins(pose)).copy()
        tau -= under_foot(model, pose, "left", centre_of_mass(model, pose), g1.mass.sum() * GRAVITY)
        assert np.abs(tau[:6]).max() < 1e-6
        assert got[i] == pytest.approx(np.abs(tau[6:] / g1.effort_limit).max(), rel=1e-4)


def test_two_feet_share_by_where_the_centre_of_pressure_lies_between_them(g1, model):
    """Each is pressed as far off its sole's centre as the centre of pressure is off the line between the centres."""
    qpos = random_poses(g1, 200)
    outside = postures(g1, qpos)
    got = as_still(g1, qpos, (0, 1, 1, 0), outside).torque_use
    data = model.createData()
    shares = []
    for i, pose in enumerate(qpos):
        left, right = outside.soles[:2, :4, i].mean(1), outside.soles[:2, 4:, i].mean(1)
        pressure = centre_of_mass(model, pose)[:2]
        share = float(np.clip((pressure - left) @ (right - left) / ((right - left) @ (right - left)), 0, 1))
        off = pressure - (left + share * (right - left))
        tau = pin.computeGeneralizedGravity(model, data, pins(pose)).copy()
        weight = g1.mass.sum() * GRAVITY
        for side, sole, part in (("left", left, 1 - share), ("right", right, share)):
            tau -= under_foot(model, pose, side, np.append(sole + off, 0), part * weight)
        assert np.abs(tau[:6]).max() < 1e-3
        assert got[i] == pytest.approx(np.abs(tau[6:] / g1.effort_limit).max(), rel=1e-4)
        shares.append(share)
    assert min(shares) == 0 and max(shares) == 1 and 0.2 < np.median(shares) < 0.8


def under_foot(model, pose: np.ndarray, side: str, point: np.ndarray, press: float) -> np.ndarray:
    """Generalised force of a vertical force on a foot through a point."""
    data = model.createData()
    frame = model.getFrameId(f"{side}_ankle_roll_link", pin.FrameType.BODY)
    J = pin.computeFrameJacobian(model, data, pins(pose), frame, pin.LOCAL_WORLD_ALIGNED)
    force = np.array([0, 0, press])
    return J.T @ np.concatenate([force, np.cross(point - data.oMf[frame].translation, force)])


def test_without_a_foot_in_contact_torques_are_those_of_a_robot_held_by_its_base(g1, model):
    qpos = random_poses(g1, 10)
    got = as_still(g1, qpos, NEITHER).torque_use
    data = model.createData()
    for i, pose in enumerate(qpos):
        tau = pin.computeGeneralizedGravity(model, data, pins(pose))[6:]
        assert got[i] == pytest.approx(np.abs(tau / g1.effort_limit).max(), rel=1e-4)


# ---------------------------------------------------------------- derivatives


def test_derivatives_are_those_of_the_formula(g1):
    """A base that yaws and rolls and flies, and a joint that swings; the error falls with the square of the step."""
    t = np.arange(200) / 200
    yaw, roll = 0.8 * np.sin(3 * t), 0.5 * np.cos(4 * t)
    yaw1, roll1 = 2.4 * np.cos(3 * t), -2.0 * np.sin(4 * t)
    yaw2, roll2 = -7.2 * np.sin(3 * t), -8.0 * np.cos(4 * t)
    qpos = np.zeros((200, 36))
    qpos[:, 0], qpos[:, 2], qpos[:, 10] = 100 + 2 * t, 1 + 3 * t - GRAVITY / 2 * t * t, np.sin(5 * t)
    along_x = rotations.from_rotation_vector(roll[:, None] * [1, 0, 0])
    qpos[:, 3:7] = rotations.multiply(rotations.about_z(yaw), along_x)
    qpos[::3, 3:7] *= -1
    rate, acceleration = derivatives(qpos, 200.0)
    x, y, z = np.stack([np.cos(yaw), np.sin(yaw), 0 * t]), np.stack([-np.sin(yaw), np.cos(yaw), 0 * t]), [[0], [0], [1]]
    inner = slice(1, -1)
    assert np.abs(rate[:3] - (yaw1 * z + roll1 * x))[:, inner].max() < 2e-3
    assert np.abs(acceleration[3:6] - (yaw2 * z + roll2 * x + yaw1 * roll1 * y))[:, inner].max() < 5e-3
    assert np.abs(acceleration[:3] - [[0], [0], [-GRAVITY]])[:, inner].max() < 1e-2
    assert np.abs(rate[3 + 3] - 5 * np.cos(5 * t))[inner].max() < 2e-3
    assert np.abs(acceleration[6 + 3] + 25 * np.sin(5 * t))[inner].max() < 1e-2


def test_a_motions_ends_have_what_their_neighbours_have(g1):
    rng = np.random.default_rng(2)
    qpos = rng.normal(size=(10, 36))
    qpos[:, 3:7] = rotations.normalise(qpos[:, 3:7])
    for values in derivatives(qpos, FPS, (0, 4, 7, 9)):
        for end, neighbour in ((0, 1), (3, 2), (4, 5), (6, 5)):
            assert np.array_equal(values[:, end], values[:, neighbour])
        assert (values[:, 7:] == 0).all() and (values[:, 1] != 0).all() and (values[:, 5] != 0).all()


# ---------------------------------------------------------------- the ground's force


def test_a_standing_robot_presses_its_weight_and_is_at_ease(g1, model, standing):
    wrench = inverse_dynamics(g1, standing, *derivatives(standing, FPS)).wrench
    force = np.array([0, 0, 33.341 * GRAVITY])
    moment = np.cross(centre_of_mass(model, standing[0]) - standing[0, :3], force)
    assert np.abs(wrench - np.concatenate([force, moment])[:, None]).max() < 0.01
    got = with_contact(g1, standing, BOTH)
    assert (got.support_distance == 0).all() and (got.pressure_distance == 0).all()
    assert got.unexplained_force.max() < 1e-5
    assert 0.05 < got.torque_use.max() < 0.3


def test_a_jump_needs_no_force_in_the_air_and_hanging_there_the_whole_weight(g1, standing):
    hanging = standing + np.eye(36)[2]
    assert with_contact(g1, hanging, NEITHER).unexplained_force == pytest.approx(1.0, abs=1e-5)
    jump = hanging.copy()
    jump[:, 0] += 1.5 * SECONDS
    jump[:, 2] += 3 * SECONDS - GRAVITY / 2 * SECONDS**2
    assert with_contact(g1, jump, NEITHER).unexplained_force.max() < 1e-3


def test_it_is_the_centre_of_mass_that_flies_whatever_the_robot_does(g1, model, standing):
    """Turning and waving about a centre of mass on a parabola."""
    flip = standing.copy()
    flip[:, 7:] += 0.3 * np.sin(5 * SECONDS)[:, None] * np.cos(np.arange(29))
    flip[:, 3:7] = rotations.from_rotation_vector(np.outer(SECONDS, [1.0, 4.0, 0.5]))
    path = np.outer(SECONDS, [1.0, 0, 3.0]) - np.outer(GRAVITY / 2 * SECONDS**2, [0, 0, 1]) + [0, 0, 9]
    flip[:, :3] += path - [centre_of_mass(model, pose) for pose in flip]
    # The first and last frame have their neighbours' accelerations in another posture.
    unexplained = with_contact(g1, flip, NEITHER).unexplained_force
    assert 0 < unexplained[1:-1].max() < 1e-3 and unexplained.max() < 0.05


@pytest.mark.parametrize(
    ("forwards", "upwards", "contact", "expected"),
    [
        (0.0, -1.5, BOTH, 0.5),  # falls faster than free: the floor would have to pull
        (0.0, 2.0, BOTH, 0.0),
        (0.6, 0.0, LEFT, 0.0),
        (1.3, 0.0, LEFT, 0.3),  # beyond friction
        (1.3, 0.5, BOTH, 0.0),  # … which grows with the press
        (0.3, -1.5, BOTH, 0.8),  # pulled, the floor holds nothing sideways
        (0.6, -0.2, NEITHER, 1.0),
    ],
)
def test_the_ground_can_neither_pull_nor_hold_beyond_friction(g1, standing, forwards, upwards, contact, expected):
    """Accelerations in g."""
    qpos = standing.copy()
    qpos[:, 0] += forwards * GRAVITY / 2 * SECONDS**2
    qpos[:, 2] += 20 + upwards * GRAVITY / 2 * SECONDS**2
    got = with_contact(g1, qpos, contact)
    assert got.unexplained_force == pytest.approx(expected, abs=2e-3)
    assert np.isnan(got.pressure_distance).all() == (upwards < -1 + LEAST_PRESS or contact == NEITHER)


# ---------------------------------------------------------------- balance


def test_leaning_until_the_centre_of_mass_is_ten_centimetres_beyond_the_toes(g1, model, standing):
    def lean(angle: float) -> np.ndarray:
        pose = standing[0].copy()
        pose[3:7] = rotations.from_rotation_vector(np.array([0, angle, 0]))
        return pose

    def beyond(angle: float) -> float:
        return centre_of_mass(model, lean(angle))[0] - postures(g1, lean(angle)[None]).soles[0].max()

    pose = lean(brentq(lambda angle: beyond(angle) - 0.1, 0.0, 0.6))
    got = as_still(g1, pose[None] + 10 * np.eye(36)[2], BOTH)
    assert got.support_distance == pytest.approx(0.1, abs=1e-4)
    assert got.pressure_distance == pytest.approx(0.1, abs=1e-4)


@pytest.mark.parametrize("forwards", [0.15, 0.4])
def test_the_centre_of_pressure_lags_by_the_height_times_the_acceleration_in_g(g1, model, standing, forwards):
    qpos = standing.copy()
    qpos[:, 0] += 30 + forwards * GRAVITY / 2 * SECONDS**2
    got = with_contact(g1, qpos, BOTH)
    centre = centre_of_mass(model, standing[0])
    behind = postures(g1, standing[:1]).soles[0].min() - (centre[0] - centre[2] * forwards)
    assert behind > 0.01
    assert got.pressure_distance == pytest.approx(behind, abs=2e-4)
    assert (got.support_distance == 0).all()


@pytest.mark.parametrize("contact", [BOTH, LEFT])
def test_distances_from_the_hull_of_the_soles_that_touch_are_the_least_there_are(g1, model, contact):
    """Sole points on a coarse grid about the centre of mass: in line, in one place, around it or aside; still postures,
    where the centre of pressure is below that of mass."""
    count = 150
    qpos = random_poses(g1, count)
    centres = np.array([centre_of_mass(model, pose)[:2] for pose in qpos])
    rng = np.random.default_rng(3)
    soles = postures(g1, qpos).soles.copy()
    reach = rng.choice([1, 2, 4], count)
    soles[:2] = centres.T[:, None] + 0.05 * (
        rng.integers(-reach, reach + 1, (2, 8, count)) + rng.integers(-2, 3, (2, 1, count))
    )
    got = as_still(g1, qpos, contact, replace(postures(g1, qpos), soles=soles))
    touching = slice(8) if contact == BOTH else slice(4)
    expected = [hull_distance(soles[:2, touching, i].T - centres[i]) for i in range(count)]
    assert 20 < np.sum(np.array(expected) < 1e-4) < count - 20
    assert np.abs(got.support_distance - expected).max() < 1e-4
    assert np.abs(got.pressure_distance - expected).max() < 1e-4


def hull_distance(points: np.ndarray) -> float:
    """Of the origin, by non-negative least squares over the points' weights; that these sum to one weighs a thousandfold."""
    stacked = np.concatenate([points.T, np.full((1, len(points)), 1e3)])
    weights, _ = nnls(stacked, np.array([0, 0, 1e3]))
    return float(np.linalg.norm(points.T @ (weights / weights.sum())))


def test_where_another_body_rests_on_the_floor_balance_is_unknown(g1, standing):
    outside = postures(g1, standing)
    lying = replace(outside, lowest_besides_feet=np.full(60, 0.01))
    for contact in (BOTH, NEITHER):
        got = with_contact(g1, standing, contact, outside=lying)
        assert np.isnan(got.support_distance).all() and np.isnan(got.pressure_distance).all()
        assert got.unexplained_force.max() < 1e-5
        assert np.array_equal(got.torque_use, with_contact(g1, standing, NEITHER).torque_use)


def test_without_a_foot_in_contact_there_is_no_balance(g1, standing):
    got = with_contact(g1, standing, NEITHER)
    assert np.isnan(got.support_distance).all() and np.isnan(got.pressure_distance).all()


# ---------------------------------------------------------------- frames and lanes


def waving(g1, standing, count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    t = SECONDS[:count, None]
    qpos = standing[:count].copy()
    qpos[:, 7:] += 0.3 * np.sin(6 * t + rng.uniform(0, 6, 29))
    qpos[:, :3] += 0.05 * np.sin(5 * t + rng.uniform(0, 6, 3))
    qpos[:, 3:7] = rotations.from_rotation_vector(0.3 * np.sin(4 * t + rng.uniform(0, 6, 3)))
    return qpos


def test_motions_end_to_end_measure_as_each_alone(g1, standing):
    parts = [waving(g1, standing, count, seed) for seed, count in enumerate((37, 2, 1, 3, 50))]
    starts = [0, 37, 39, 40, 43]
    rng = np.random.default_rng(4)
    contact = rng.integers(0, 2, (93, 4)).astype(np.uint8)
    outside = [postures(g1, part) for part in parts]
    together = dynamics(g1, np.concatenate(parts), FPS, join_postures(outside), contact, starts)
    for part, own, start in zip(parts, outside, starts, strict=True):
        there = slice(start, start + len(part))
        alone = dynamics(g1, part, FPS, own, contact[there])
        for name, value in vars(alone).items():
            assert np.array_equal(value, getattr(together, name)[there], equal_nan=True), name


def test_one_lane_gives_what_sixteen_give(g1, standing, monkeypatch):
    """The width a GPU uses, on the CPU."""
    qpos = waving(g1, standing, 50, 0)
    contact = np.random.default_rng(5).integers(0, 2, (50, 4)).astype(np.uint8)
    outside = postures(g1, qpos)
    wide = dynamics(g1, qpos, FPS, outside, contact)
    monkeypatch.setattr(module, "LANES_CPU", 1)
    narrow = dynamics(g1, qpos, FPS, outside, contact)
    for name, value in vars(narrow).items():
        np.testing.assert_allclose(value, getattr(wide, name), rtol=1e-5, atol=1e-5, err_msg=name)
