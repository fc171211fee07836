"""The smoother against the dense normal equations, and its promises: no limit broken, no lag, clips apart."""

from __future__ import annotations

import numpy as np
import pinocchio as pin
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus import rotations
from corpus.g1 import G1
from retarget.smooth import SmoothOptions, smooth

FPS = 50.0


def noisy(frame_count: int, amplitude: float = 0.01, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    qpos = rng.normal(size=(frame_count, 36)) * amplitude
    qpos[:, 3:7] = [1, 0, 0, 0]
    qpos[:, 7:] += np.clip(0.0, G1.lower + 0.2, G1.upper - 0.2)
    return qpos


@pytest.mark.parametrize("frame_count", [2, 3, 4, 5, 60])
def test_it_solves_the_normal_equations_of_its_cost(frame_count):
    options = SmoothOptions(cutoff=7.0, root_cutoff=3.0, speed_share=0.0)
    qpos = noisy(frame_count)
    second = np.diff(np.eye(frame_count), 2, axis=0)
    for columns, cutoff in ((slice(0, 3), 3.0), (slice(7, None), 7.0)):
        stiffness = (FPS / (2 * np.pi * cutoff)) ** 4
        expected = np.linalg.solve(np.eye(frame_count) + stiffness * second.T @ second, qpos[:, columns])
        assert np.abs(smooth(G1, qpos, [0], FPS, options)[:, columns] - expected).max() < 1e-9


def test_a_sine_at_the_cutoff_loses_half_its_amplitude_and_none_of_its_time():
    t = np.arange(1000) / FPS
    qpos = noisy(1000, 0.0)
    qpos[:, 0] = np.sin(2 * np.pi * 1.5 * t)
    got = smooth(G1, qpos, [0], FPS, SmoothOptions(root_cutoff=1.5))[:, 0]
    inner = slice(200, 800)
    assert got[inner] @ qpos[inner, 0] / (qpos[inner, 0] @ qpos[inner, 0]) == pytest.approx(0.5, abs=0.01)
    cosine = np.cos(2 * np.pi * 1.5 * t)
    assert abs(got[inner] @ cosine[inner]) / 300 < 1e-3


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.integers(2, 80), st.floats(0.0, 3.0))
def test_no_joint_leaves_its_range_or_exceeds_its_speed(seed, frame_count, amplitude):
    qpos = noisy(frame_count, amplitude, seed)
    qpos[:, 3:7] = rotations.normalise(qpos[:, 3:7] + [2.0, 0, 0, 0])
    qpos[:, 7:] = np.clip(qpos[:, 7:], G1.lower, G1.upper)
    got = smooth(G1, qpos, [0], FPS)
    assert (got[:, 7:] >= G1.lower - 1e-9).all() and (got[:, 7:] <= G1.upper + 1e-9).all()
    assert (np.abs(np.diff(got[:, 7:], axis=0)) * FPS <= 0.98 * G1.speed_limit + 1e-9).all()
    assert np.allclose(np.linalg.norm(got[:, 3:7], axis=1), 1)


def test_clips_end_to_end_are_smoothed_as_alone():
    parts = [noisy(count, 0.5, seed) for seed, count in enumerate((40, 2, 77))]
    together = smooth(G1, np.concatenate(parts), [0, 40, 42], FPS)
    assert np.array_equal(together, np.concatenate([smooth(G1, part, [0], FPS) for part in parts]))


def test_a_quaternion_and_its_negative_are_one_turn():
    qpos = noisy(50)
    qpos[:, 3:7] = rotations.about_z(np.linspace(0, 2, 50))
    flipped = qpos.copy()
    flipped[20:, 3:7] *= -1
    assert np.allclose(smooth(G1, flipped, [0], FPS), smooth(G1, qpos, [0], FPS))


@pytest.mark.parametrize("fps", [50.0, 120.0])
def test_glitches_keep_to_the_joints_accelerations(fps):
    """A joint thrown off by a radian for one frame, in a slow motion: about the bound there, nothing far from it."""
    qpos = noisy(200, 0.0)
    t = np.arange(200) / fps
    qpos[:, 7:] += 0.1 * np.sin(2 * np.pi * t)[:, None]
    clean = qpos.copy()
    qpos[100, [7 + 3, 7 + 15, 7 + 18]] += 1.0
    rough, got = (
        smooth(G1, qpos, [0], fps, SmoothOptions(cutoff=25.0, acceleration_share=share)) for share in (0.0, 1.0)
    )
    use = {
        name: (np.abs(np.diff(x[:, 7:], 2, axis=0)) * fps**2 / G1.acceleration_limit).max()
        for name, x in (("rough", rough), ("got", got))
    }
    assert use["rough"] > 1.3 and use["got"] < 1.15
    far = np.abs(np.arange(200) - 100) > 20
    assert np.abs(got[far] - smooth(G1, clean, [0], fps, SmoothOptions(cutoff=25.0))[far])[:, 7:].max() < 0.02


def test_acceleration_limits_are_torque_over_pinocchios_inertia():
    """In the rest posture the diagonal of the mass matrix is what hangs on each joint."""
    model = pin.buildModelFromMJCF(str(G1.mjcf))
    data = model.createData()
    q = np.concatenate([[0, 0, 0, 0, 0, 0, 1], G1.reference])
    mass = pin.crba(model, data, q)
    assert np.allclose(G1.acceleration_limit, G1.effort_limit / np.diag(mass)[6:], rtol=1e-3)
