"""Offsets fade as springs do; a posture in motion comes to rest in the stance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from corpus import rotations
from corpus.motion import RobotMotion, velocity
from deploy.contract import STANDING
from deploy.reference import Preview
from deploy.settle import HALF_LIFE_S, Offset, Settling, faded
from deploy.stance import stand_height, standing

FRAMES = (0, 1, 4, 10)
FINE = 1e-3


def posture(seed: int, lean: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Somewhere in motion."""
    random = np.random.default_rng(seed)
    rotation = rotations.multiply(
        rotations.about_z(np.array(random.uniform(-3, 3))),
        rotations.from_rotation_vector(random.uniform(-lean, lean, 3)),
    )
    place, joints = random.uniform(-2, 2, 2), STANDING + random.uniform(-0.5, 0.5, 29)
    return np.concatenate([place, [0.6], rotation, joints]), random.uniform(-1, 1, 35)


def test_an_offset_solves_the_equation_of_a_critically_damped_spring():
    x, v, tau = np.array([1.0, -0.3, 0.0]), np.array([0.0, 4.0, -2.0]), np.linspace(0, 1, 21)
    omega = 1.67834699 / HALF_LIFE_S  # (1 + u)·exp(−u) = ½
    solved = solve_ivp(
        lambda t, y: np.concatenate([y[3:], -2 * omega * y[3:] - omega**2 * y[:3]]),
        (0, 1), np.concatenate([x, v]), t_eval=tau, rtol=1e-9, atol=1e-11,
    ).y.T  # fmt: skip
    found, rate = faded(x, v, tau)
    assert found == pytest.approx(solved[:, :3], abs=1e-6)
    assert rate == pytest.approx(solved[:, 3:], abs=1e-6)


def test_an_offset_at_rest_halves_in_its_half_life():
    found, _ = faded(np.array([2.0]), np.zeros(1), np.array([HALF_LIFE_S]))
    assert found == pytest.approx(np.ones((1, 1)))


def at(settling: Settling, tau: float) -> tuple[np.ndarray, np.ndarray]:
    preview = settling.preview(tau, FRAMES)
    return preview.qpos[0], preview.velocity[0]


@given(st.integers(0, 10_000))
def test_settling_begins_where_the_motion_was_and_as_fast(seed):
    qpos, speed = posture(seed)
    found, rate = at(Settling(qpos, speed), 0.0)
    sign = np.sign(found[3:7] @ qpos[3:7])
    assert np.concatenate([found[:3], sign * found[3:7], found[7:]]) == pytest.approx(qpos, abs=1e-9)
    assert rate[:3] == pytest.approx(speed[:3])
    assert rate[6:] == pytest.approx(speed[6:])


@pytest.mark.parametrize("tau", [0.0, 0.1, 0.4])
@pytest.mark.parametrize("seed", range(5))
def test_the_velocities_of_settling_are_those_of_its_postures(seed, tau):
    settling = Settling(*posture(seed, lean=0.3))
    postures = np.stack([at(settling, tau + step * FINE)[0] for step in range(3)])
    numeric = velocity(RobotMotion(postures, 1 / FINE))[1]
    rate = at(settling, tau + FINE)[1]
    assert rate[:3] == pytest.approx(numeric[:3], abs=0.01)
    assert rate[6:] == pytest.approx(numeric[6:], abs=0.01)
    # The rate of a rotation vector is the angular velocity to first order in the angle.
    assert np.linalg.norm(rate[3:6] - numeric[3:6]) < 0.4 * np.linalg.norm(numeric[3:6]) + 0.02


@pytest.mark.parametrize("seed", range(5))
def test_settling_ends_at_rest_in_the_stance_facing_the_same_way(seed):
    qpos, speed = posture(seed)
    way = Settling(qpos, speed)
    found, rate = at(way, 2 * way.settled_s)
    assert found[7:] == pytest.approx(STANDING, abs=1e-4)
    assert found[2] == pytest.approx(stand_height(), abs=1e-4)
    assert np.abs(rate).max() < 1e-3
    assert rotations.heading(found[3:7]) == pytest.approx(rotations.heading(qpos[3:7]), abs=1e-3)
    upright = rotations.rotate(found[3:7], np.array([0.0, 0.0, 1.0]))
    assert upright[2] == pytest.approx(1.0, abs=1e-6)


def test_settling_shows_the_frames_it_is_asked_for():
    settling = Settling(*posture(3))
    preview = settling.preview(0.2, FRAMES)
    for row, frame in enumerate(FRAMES):
        assert preview.qpos[row] == pytest.approx(at(settling, 0.2 + frame / 50)[0])
    assert preview.status == "settling"


@given(st.integers(0, 10_000))
def test_an_offset_makes_a_motion_begin_where_the_robot_is(seed):
    """But for place and heading, which are the motion's own."""
    (here, speed), (wanted, wanted_speed) = posture(seed), posture(seed + 1)
    offset = Offset.between(here, speed, wanted, wanted_speed)
    preview = Preview(np.tile(wanted, (4, 1)), np.tile(wanted_speed, (4, 1)), "live")
    found = offset.added(preview, np.array(FRAMES) / 50)
    assert found.qpos[0, :2] == pytest.approx(wanted[:2])
    assert found.qpos[0, 2] == pytest.approx(here[2])
    assert found.qpos[0, 7:] == pytest.approx(here[7:])
    assert found.velocity[0, 6:] == pytest.approx(speed[6:])
    assert found.velocity[0, 2] == pytest.approx(speed[2])
    upright = np.array([0.0, 0.0, 1.0])
    for row, rotation in enumerate(found.qpos[:, 3:7]):
        assert np.linalg.norm(rotation) == pytest.approx(1.0), row
    tilt = rotations.rotate(rotations.conjugate(found.qpos[0, 3:7]), upright)
    assert tilt == pytest.approx(rotations.rotate(rotations.conjugate(here[3:7]), upright), abs=1e-9)
    late = offset.added(preview, np.full(4, 3.0))
    assert late.qpos == pytest.approx(preview.qpos, abs=1e-5)
    assert late.velocity == pytest.approx(preview.velocity, abs=1e-4)


def test_an_offset_leaves_the_preview_it_is_added_to_alone():
    here, wanted = posture(1)[0], standing()
    preview = Preview(np.tile(wanted, (4, 1)), np.zeros((4, 35)))
    Offset.between(here, np.zeros(35), wanted, np.zeros(35)).added(preview, np.array(FRAMES) / 50)
    assert (preview.qpos == wanted).all()
    assert not preview.velocity.any()


def test_the_farther_away_the_longer_it_takes():
    near, far = standing(), standing()
    near[10] += 0.1
    far[10] += 1.2
    assert Settling(near, np.zeros(35)).settled_s == pytest.approx(1.5)
    assert Settling(far, np.zeros(35)).settled_s == pytest.approx(3.0)
