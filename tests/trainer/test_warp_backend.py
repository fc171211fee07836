"""The Warp backend moves robots as MuJoCo does, in single precision; here on the CPU, where its kernels take half a minute to compile.

Measured after 50 control periods: 3e-6 in flight, 5e-7 on both feet, 2e-6 after a fall. A contact that merely grazes may be
felt by one and not by the other, which can cost 1e-3: these robots start one millimetre deep, or in the air.
"""

from __future__ import annotations

import logging

import numpy as np
import pytest

from corpus.errors import MotionloomError
from deploy.contract import GAINS, STANDING
from deploy.physics import build_model
from trainer.backend import CpuBackend
from trainer.randomise import TRAINING, varied_fields, vary_model

pytestmark = pytest.mark.slow

STEPS = 50
HEIGHT = 0.757
"""Of the pelvis, where the soles of the stance touch the floor [m]."""
TOLERANCE = 2e-5
"""[m], [rad] and of quaternions, after 50 control periods."""
SPEED_TOLERANCE = 1e-3
"""[m/s] and [rad/s]."""


@pytest.fixture(scope="module")
def warp_backend():
    pytest.importorskip("mujoco_warp")
    from trainer.warp_backend import WarpBackend

    return WarpBackend


@pytest.fixture(scope="module")
def model():
    return build_model(GAINS)


@pytest.fixture(scope="module")
def pair(warp_backend, model):
    """Two robots that differ in everything that randomisation draws, on both backends."""
    models = [vary_model(model, TRAINING, 0, env) for env in range(2)]
    fields = varied_fields(model, TRAINING, 0, range(2))
    return CpuBackend(models, 2), warp_backend(model, 2, device="cpu", fields=fields)


def standing(height: float, count: int = 2) -> tuple[np.ndarray, np.ndarray]:
    qpos = np.tile([0.0, 0.0, height, 1.0, 0.0, 0.0, 0.0, *STANDING], (count, 1))
    return qpos, np.zeros((count, 35))


def waves(step: int) -> np.ndarray:
    """Targets about the stance, other ones for each robot."""
    amplitude = np.random.default_rng(0).uniform(0.05, 0.15, (2, 29))
    return STANDING + amplitude * np.sin(2 * np.pi * step / 50)


def go(backends, qpos: np.ndarray, qvel: np.ndarray, steps: int = STEPS) -> None:
    for backend in backends:
        backend.reset(np.arange(len(qpos)), qpos, qvel)
        for step in range(steps):
            backend.step(waves(step)[: len(qpos)])


def assert_alike(cpu, other) -> None:
    np.testing.assert_allclose(other.qpos, cpu.qpos, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(other.qvel, cpu.qvel, rtol=0, atol=SPEED_TOLERANCE)


def test_both_backends_agree_in_flight(pair):
    qpos, qvel = standing(8.0)
    qvel[:] = np.random.default_rng(1).normal(0, 0.5, qvel.shape)
    go(pair, qpos, qvel)
    assert pair[0].qpos[0, 2] < 7  # it fell
    assert_alike(*pair)


def test_both_backends_agree_on_the_ground(pair):
    go(pair, *standing(HEIGHT - 0.001))
    assert (pair[0].qpos[:, 2] > 0.65).all()  # they stand
    assert np.abs(pair[0].qpos[0] - pair[0].qpos[1]).max() > 1e-3  # as two different robots
    assert_alike(*pair)


def test_both_backends_agree_through_a_fall(pair):
    qpos, qvel = standing(HEIGHT - 0.001)
    qvel[:, :2] = -1.0, 0.5
    go(pair, qpos, qvel)
    assert (pair[0].qpos[:, 2] < 0.2).all()
    assert_alike(*pair)


def test_resetting_one_robot_leaves_the_other_alone(pair):
    warp = pair[1]
    warp.reset(np.arange(2), *standing(HEIGHT))
    warp.step(waves(3))
    before = warp.qpos.copy(), warp.qvel.copy()
    qpos, qvel = standing(2.0, 1)
    warp.reset(np.array([1]), qpos, qvel + 0.5)
    assert np.allclose(warp.qpos[1], qpos[0], atol=1e-6)
    assert np.allclose(warp.qvel[1], 0.5)
    assert all((now[0] == then[0]).all() for now, then in zip((warp.qpos, warp.qvel), before, strict=True))


def test_position_and_velocity_are_all_that_there_is_to_save(pair):
    warp = pair[1]
    go([warp], *standing(HEIGHT - 0.001), steps=2)
    state = warp.qpos.copy(), warp.qvel.copy()
    warp.step(waves(2))
    first = warp.qpos.copy()
    warp.reset(np.arange(2), *state)
    warp.step(waves(2))
    assert (warp.qpos == first).all()


def test_torch_sees_the_device_without_a_copy(pair):
    torch = pytest.importorskip("torch")
    warp = pair[1]
    warp.reset(np.arange(2), *standing(HEIGHT))
    tensors = warp.tensors()
    tensors["targets"].copy_(torch.as_tensor(waves(5)))
    warp.advance()
    by_tensor = tensors["qpos"].numpy().copy()
    assert (by_tensor == warp.qpos).all()
    warp.reset(np.arange(2), *standing(HEIGHT))
    warp.step(waves(5))
    assert (tensors["qpos"].numpy() == by_tensor).all()


def test_contacts_for_which_there_is_no_room_are_told_once(warp_backend, model, caplog):
    from trainer.warp_backend import Room

    warp = warp_backend(model, 1, device="cpu", room=Room(contacts=2))
    warp.reset(np.arange(1), *standing(HEIGHT - 0.001, 1))
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            warp.step(waves(0)[:1])
            assert np.isfinite(warp.qpos).all()
    assert [record.message for record in caplog.records] == [
        "1 of 1 robots had contacts for which there is no Room(contacts=2, constraints=240); make more"
    ]


def test_fields_need_a_row_for_each_robot(warp_backend, model):
    with pytest.raises(MotionloomError, match=r"body_mass is \(3, 31\).*2 robots"):
        warp_backend(model, 2, device="cpu", fields={"body_mass": np.ones((3, 31))})


def test_a_graph_on_the_gpu_agrees_with_mujoco(warp_backend, model):
    import warp as wp

    if not wp.is_cuda_available():
        pytest.skip("no GPU")
    fields = varied_fields(model, TRAINING, 0, range(2))
    cpu = CpuBackend([vary_model(model, TRAINING, 0, env) for env in range(2)], 2)
    go(pair := (cpu, warp_backend(model, 2, fields=fields)), *standing(HEIGHT - 0.001))
    assert_alike(*pair)
