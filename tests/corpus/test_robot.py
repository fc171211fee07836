"""Our G1 against the given model, against MuJoCo and against Pinocchio."""

from __future__ import annotations

import mujoco
import numpy as np
import pinocchio as pin
import pytest

from corpus import rotations
from corpus.g1 import JOINTS_23, KEY_BODIES, MUJOCO_TO_ISAACLAB
from corpus.robot import forward_kinematics


@pytest.fixture(scope="module")
def poses(g1) -> np.ndarray:
    rng = np.random.default_rng(0)
    qpos = np.concatenate([rng.normal(size=(20, 7)), rng.uniform(g1.lower, g1.upper, (20, 29))], 1)
    qpos[:, 3:7] = rotations.normalise(qpos[:, 3:7])
    return qpos


def test_kinematics_equal_mujocos(g1, poses):
    model = mujoco.MjModel.from_xml_path(str(g1.mjcf))
    data = mujoco.MjData(model)
    position, rotation = forward_kinematics(g1, poses)
    for i, qpos in enumerate(poses):
        data.qpos[:] = qpos
        mujoco.mj_kinematics(model, data)
        assert np.abs(position[i] - data.xpos[1:]).max() < 1e-9
        assert np.abs(rotations.to_matrix(rotation[i]).reshape(-1, 9) - data.xmat[1:]).max() < 1e-9


def test_kinematics_equal_pinocchios(g1, poses):
    model = pin.buildModelFromMJCF(str(g1.mjcf))
    assert (model.nq, model.nv) == (36, 35)
    data = model.createData()
    position, _ = forward_kinematics(g1, poses)
    for i, qpos in enumerate(poses):
        pin.framesForwardKinematics(model, data, qpos[[0, 1, 2, 4, 5, 6, 3, *range(7, 36)]])
        for body, name in enumerate(g1.body_names):
            frame = model.getFrameId(name, pin.FrameType.BODY)
            assert np.abs(data.oMf[frame].translation - position[i, body]).max() < 1e-6


def test_masses_and_inertias_equal_pinocchios(g1):
    model = pin.buildModelFromMJCF(str(g1.mjcf))
    assert g1.mass.sum() == pytest.approx(pin.computeTotalMass(model), rel=1e-9)
    for body, name in enumerate(g1.body_names):
        frame = model.frames[model.getFrameId(name, pin.FrameType.BODY)]
        seen = frame.placement.actInv(model.inertias[frame.parentJoint])
        assert g1.mass[body] == pytest.approx(seen.mass, rel=1e-9), name
        assert np.abs(g1.centre_of_mass[body] - seen.lever).max() < 1e-7, name
        assert np.abs(g1.inertia[body] - seen.inertia).max() < 1e-7, name


@pytest.mark.data
def test_our_model_equals_unitrees(g1, shared):
    ours, given = (mujoco.MjModel.from_xml_path(str(p)) for p in (g1.mjcf, shared / "g1_model" / "g1_29dof_nomesh.xml"))
    assert (ours.nq, ours.nv, ours.nbody, ours.ngeom) == (given.nq, given.nv, given.nbody, given.ngeom)
    for i in range(ours.nbody):
        assert ours.body(i).name == given.body(i).name
    for name in ("body_mass", "body_pos", "body_quat", "body_ipos", "body_inertia", "jnt_range", "jnt_axis", "jnt_pos",
                 "geom_size", "geom_pos", "geom_type", "geom_bodyid", "exclude_signature"):  # fmt: skip
        assert np.abs(getattr(ours, name) - getattr(given, name)).max() < 1e-6, name
    assert ours.body_mass.sum() == pytest.approx(33.341, abs=1e-3)
    # The principal axes of inertia may be named in another order, the tensor may not differ.
    for i in range(1, ours.nbody):
        a, b = (
            (rotations.to_matrix(m.body_iquat[i]) * m.body_inertia[i]) @ rotations.to_matrix(m.body_iquat[i]).T
            for m in (ours, given)
        )
        assert np.abs(a - b).max() < 1e-6


@pytest.mark.data
def test_our_model_moves_as_unitrees_does(g1, shared, poses):
    """Mass matrix and gravity torques, by MuJoCo."""
    results = []
    for path in (g1.mjcf, shared / "g1_model" / "g1_29dof_nomesh.xml"):
        model = mujoco.MjModel.from_xml_path(str(path))
        data = mujoco.MjData(model)
        data.qpos[:] = poses[0]
        mujoco.mj_forward(model, data)
        mass = np.zeros((35, 35))
        mujoco.mj_fullM(model, data, mass) if mujoco.__version__ >= "4" else mujoco.mj_fullM(model, mass, data.qM)
        results.append((mass, data.qfrc_bias.copy()))
    assert np.abs(results[0][0] - results[1][0]).max() < 1e-6
    assert np.abs(results[0][1] - results[1][1]).max() < 1e-6


def test_the_soles_points_lie_on_the_lowest_line_of_the_foot(g1):
    model = mujoco.MjModel.from_xml_path(str(g1.mjcf))
    for name, (body, points) in g1.ground_points.items():
        index = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, body)
        capsules = [g for g in range(model.ngeom) if model.geom_bodyid[g] == index]
        lowest = min(model.geom_pos[g, 2] - model.geom_size[g, 0] for g in capsules)
        assert np.allclose(points[:, 2], lowest), name


def test_names_and_orders(g1):
    assert g1.joint_names[0] == "left_hip_pitch_joint" and g1.joint_names[-1] == "right_wrist_yaw_joint"
    assert len(JOINTS_23) == 23 and all("wrist" not in g1.joint_names[i] for i in JOINTS_23)
    assert len(KEY_BODIES) == 14 and set(KEY_BODIES) <= set(g1.body_names)
    assert sorted(MUJOCO_TO_ISAACLAB) == list(range(29))


def test_isaaclabs_order_is_breadth_first(g1):
    """Level by level from the base, children in the order of their names' tree: left, right, waist at the hips."""
    depth = {0: 0}
    for body in range(1, 30):
        depth[body] = depth[g1.parents[body]] + 1
    by_place = sorted(range(29), key=lambda joint: MUJOCO_TO_ISAACLAB[joint])
    depths = [depth[joint + 1] for joint in by_place]
    assert depths == sorted(depths)
