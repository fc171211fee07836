from __future__ import annotations

import mujoco
import numpy as np
import pinocchio as pin
import pytest

from corpus.g1 import KEY_BODIES
from trainer.kinematics import body_states

COUNT = 6


@pytest.fixture(scope="module")
def states(g1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    turn = rng.normal(size=(COUNT, 4))
    turn /= np.linalg.norm(turn, axis=1, keepdims=True)
    place = np.concatenate([rng.normal(0, 50, (COUNT, 3)), turn, rng.uniform(g1.lower, g1.upper, (COUNT, 29))], 1)
    return place, rng.normal(0, 3, (COUNT, 35))


def test_bodies_stand_and_move_where_mujoco_has_them(g1, states):
    model = mujoco.MjModel.from_xml_path(str(g1.mjcf))
    found = body_states(*states)
    for i, (qpos, qvel) in enumerate(zip(*states, strict=True)):
        data = mujoco.MjData(model)
        data.qpos[:], data.qvel[:] = qpos, qvel
        mujoco.mj_forward(model, data)
        for b, name in enumerate(KEY_BODIES):
            body, moving = model.body(name).id, np.zeros(6)
            mujoco.mj_objectVelocity(model, data, mujoco.mjtObj.mjOBJ_XBODY, body, moving, 0)
            assert np.allclose(found.position[i, b], data.xpos[body], atol=1e-9)
            assert abs(found.rotation[i, b] @ data.xquat[body]) == pytest.approx(1, abs=1e-12)
            assert np.allclose(found.turning[i, b], moving[:3], atol=1e-9)
            assert np.allclose(found.velocity[i, b], moving[3:], atol=1e-9)


def test_bodies_stand_where_pinocchio_has_them(g1, states):
    model = pin.buildModelFromMJCF(str(g1.mjcf))
    data, found = model.createData(), body_states(*states)
    for i, qpos in enumerate(states[0]):
        pin.framesForwardKinematics(model, data, np.concatenate([qpos[:3], qpos[[4, 5, 6, 3]], qpos[7:]]))
        for b, name in enumerate(KEY_BODIES):
            assert np.allclose(found.position[i, b], data.oMf[model.getFrameId(name)].translation, atol=1e-6)


def test_velocities_are_the_change_of_positions(g1, states):
    """Half a microsecond to either side along qvel, as MuJoCo moves it."""
    model, dt = mujoco.MjModel.from_xml_path(str(g1.mjcf)), 1e-6
    qpos, qvel = states
    ends = []
    for way in (-dt / 2, dt / 2):
        moved = qpos.copy()
        for place, rate in zip(moved, qvel, strict=True):
            mujoco.mj_integratePos(model, place, rate, way)
        ends.append(body_states(moved, qvel).position)
    assert np.allclose((ends[1] - ends[0]) / dt, body_states(qpos, qvel).velocity, atol=1e-6)


def test_a_quaternion_of_any_length_is_an_orientation(states):
    qpos, qvel = states
    longer = qpos.copy()
    longer[:, 3:7] *= 1.001
    for a, b in zip(vars(body_states(qpos, qvel)).values(), vars(body_states(longer, qvel)).values(), strict=True):
        assert np.allclose(a, b, atol=1e-12)


def test_robots_do_not_depend_on_one_another(states):
    qpos, qvel = states
    together, alone = body_states(qpos, qvel), body_states(qpos[3:4], qvel[3:4])
    for a, b in zip(vars(together).values(), vars(alone).values(), strict=True):
        assert (a[3] == b[0]).all()
