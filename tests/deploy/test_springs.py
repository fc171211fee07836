from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.spatial.transform import Rotation

from corpus import rotations
from deploy.springs import drive, half_life_for, rate, spring, spring_rotation

numbers = st.floats(-5, 5)


def solved(slope, start, time_s):
    return solve_ivp(slope, (0, time_s), start, rtol=1e-10, atol=1e-12).y[:, -1]


@given(x=numbers, v=numbers, goal=numbers, half_life_s=st.floats(0.05, 2), time_s=st.floats(0.01, 2))
def test_a_spring_is_the_solution_of_its_equation(x, v, goal, half_life_s, time_s):
    y = rate(half_life_s)
    truth = solved(lambda t, s: [s[1], -y * y * (s[0] - goal) - 2 * y * s[1]], [x, v], time_s)
    np.testing.assert_allclose(spring(x, v, goal, half_life_s, time_s), truth, atol=1e-6)


@given(x=numbers, v=numbers, a=numbers, goal=numbers, half_life_s=st.floats(0.05, 2), time_s=st.floats(0.01, 2))
def test_a_driven_velocity_is_the_solution_of_its_equation(x, v, a, goal, half_life_s, time_s):
    y = rate(half_life_s)
    truth = solved(lambda t, s: [s[1], s[2], -y * y * (s[1] - goal) - 2 * y * s[2]], [x, v, a], time_s)
    np.testing.assert_allclose(drive(x, v, a, goal, half_life_s, time_s), truth, atol=1e-5)


def test_after_its_half_life_a_spring_has_gone_half_its_way():
    assert spring(0.0, 0.0, 4.0, 0.3, 0.3)[0] == pytest.approx(2.0)


@given(x=numbers, goal=numbers, half_life_s=st.floats(0.05, 1))
def test_a_spring_from_rest_never_passes_its_goal(x, goal, half_life_s):
    way, _ = spring(x, 0.0, goal, half_life_s, np.linspace(0, 5, 200))
    assert ((way - goal) * np.sign(x - goal) >= -1e-9).all()


def test_a_rotation_follows_the_same_equation_about_its_axis():
    axis = np.array([0.6, 0.0, 0.8])
    q, goal = rotations.from_rotation_vector(2.0 * axis), rotations.from_rotation_vector(0.5 * axis)
    turned, turning = spring_rotation(q, 0.7 * axis, goal, 0.2, 0.15)
    angle, speed = spring(2.0, 0.7, 0.5, 0.2, 0.15)
    np.testing.assert_allclose(turned, rotations.from_rotation_vector(angle * axis), atol=1e-12)
    np.testing.assert_allclose(turning, speed * axis, atol=1e-12)


@given(st.integers(0, 1000))
def test_a_rotation_comes_to_rest_at_its_goal_by_the_shorter_arc(seed):
    q, goal = Rotation.random(2, random_state=seed).as_quat()[:, [3, 0, 1, 2]]
    first, _ = spring_rotation(q, np.zeros(3), goal, 0.2, 0.05)
    last, _ = spring_rotation(q, np.zeros(3), -goal, 0.2, 10.0)
    assert abs(first @ goal) >= abs(q @ goal) - 1e-9
    assert abs(last @ goal) == pytest.approx(1.0)


@given(offset=st.floats(-3, 3), speed=st.floats(-10, 10))
def test_a_blend_keeps_to_speed_and_acceleration(offset, speed):
    limits = {"speed": 3.0, "acceleration": 200.0, "shortest_s": 0.01, "longest_s": 9.0}
    slow = half_life_for(np.array([offset]), np.array([0.0]), **limits)
    times = np.linspace(0, 3, 3000)
    assert np.abs(spring(offset, 0.0, 0.0, slow, times)[1]).max() <= 3.0 + 1e-6
    soft = half_life_for(np.array([offset]), np.array([speed]), **limits)
    y = rate(soft)
    assert abs(y * y * offset + 2 * y * speed) <= 200.0 + 1e-6
