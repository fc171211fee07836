"""Rotations against scipy, in NumPy and in torch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from corpus import rotations

unit = (
    arrays(float, (5, 4), elements=st.floats(-1, 1))
    .filter(lambda q: (np.linalg.norm(q, axis=1) > 0.1).all())
    .map(rotations.normalise)
)
vectors = arrays(float, (5, 3), elements=st.floats(-3, 3))


def scipy(q: np.ndarray) -> Rotation:
    return Rotation.from_quat(q[..., [1, 2, 3, 0]])


def angle_between(a: np.ndarray, b: np.ndarray) -> float:
    return float((scipy(a) * scipy(b).inv()).magnitude().max())


@settings(deadline=None, max_examples=50)
@given(unit, unit, vectors)
def test_products_and_turned_vectors_are_scipys(a, b, v):
    assert angle_between(rotations.multiply(a, b), (scipy(a) * scipy(b)).as_quat()[:, [3, 0, 1, 2]]) < 1e-7
    assert np.allclose(rotations.rotate(a, v), scipy(a).apply(v), atol=1e-12)
    assert np.allclose(rotations.to_matrix(a), scipy(a).as_matrix(), atol=1e-12)


@settings(deadline=None, max_examples=50)
@given(unit)
def test_matrices_and_vectors_come_back(q):
    assert angle_between(rotations.from_matrix(rotations.to_matrix(q)), q) < 1e-7
    assert angle_between(rotations.from_rotation_vector(rotations.to_rotation_vector(q)), q) < 1e-7
    assert (np.linalg.norm(rotations.to_rotation_vector(q), axis=1) <= np.pi + 1e-9).all()


@settings(deadline=None, max_examples=50)
@given(vectors)
def test_rotation_vectors_are_scipys(v):
    assert angle_between(rotations.from_rotation_vector(v), Rotation.from_rotvec(v).as_quat()[:, [3, 0, 1, 2]]) < 1e-7


@pytest.mark.parametrize("order", ["zyx", "xyz", "zxy", "yxz"])
def test_euler_angles_are_intrinsic(order):
    angles = np.random.default_rng(0).uniform(-3, 3, (20, 3))
    expected = Rotation.from_euler(order.upper(), angles).as_quat()[:, [3, 0, 1, 2]]
    assert angle_between(rotations.from_euler(angles, order), expected) < 1e-9


def test_slerp_goes_the_shorter_way_at_constant_speed():
    a, b = rotations.about_z(np.array([0.0])), -rotations.about_z(np.array([1.0]))
    halves = [rotations.slerp(a, b, np.array([t])) for t in (0.25, 0.5, 1.0)]
    assert [float(rotations.heading(q)[0]) for q in halves] == pytest.approx([0.25, 0.5, 1.0])


def test_tiny_turns_lose_no_precision():
    v = np.array([[1e-9, 0, 0], [0, 1e-12, 0], [0, 0, 0.0]])
    assert np.allclose(rotations.to_rotation_vector(rotations.from_rotation_vector(v)), v, atol=1e-20)


def test_angular_velocity_of_a_steady_turn_is_its_rate():
    q = rotations.about_z(np.arange(30) / 50 * 3.0)
    q[10:] *= -1  # the sign of a quaternion means nothing
    assert np.allclose(rotations.angular_velocity(q, 50.0), [0, 0, 3.0])


def test_y_up_becomes_z_up():
    q = rotations.Y_UP_TO_Z_UP
    assert np.allclose(rotations.rotate(q, np.array([1.0, 2.0, 3.0])), [1.0, -3.0, 2.0])


def test_torch_gives_what_numpy_gives():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    a, b = (rotations.normalise(rng.normal(size=(7, 4))) for _ in range(2))
    v, t = rng.normal(size=(7, 3)), rng.uniform(size=7)
    for function, args in (
        (rotations.multiply, (a, b)), (rotations.rotate, (a, v)), (rotations.to_matrix, (a,)), (rotations.slerp, (a, b, t)),
        (rotations.from_rotation_vector, (v,)), (rotations.to_rotation_vector, (a,)), (rotations.heading, (a,)),
        (rotations.conjugate, (a,)), (rotations.about_z, (t,)), (rotations.normalise, (3 * a,)),
    ):  # fmt: skip
        got = function(*map(torch.from_numpy, args))
        assert isinstance(got, torch.Tensor)
        assert np.allclose(got.numpy(), function(*args), atol=1e-12)
