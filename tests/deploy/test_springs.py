from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from deploy.springs import drive, half_life_for, rate, spring

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


@given(offset=st.floats(-3, 3), speed=st.floats(-10, 10))
def test_a_blend_keeps_to_speed_and_acceleration(offset, speed):
    limits = {"speed": 3.0, "acceleration": 200.0, "shortest_s": 0.01, "longest_s": 9.0}
    slow = half_life_for(np.array([offset]), np.array([0.0]), **limits)
    times = np.linspace(0, 3, 3000)
    assert np.abs(spring(offset, 0.0, 0.0, slow, times)[1]).max() <= 3.0 + 1e-6
    soft = half_life_for(np.array([offset]), np.array([speed]), **limits)
    y = rate(soft)
    assert abs(y * y * offset + 2 * y * speed) <= 200.0 + 1e-6
