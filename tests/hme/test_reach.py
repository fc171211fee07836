"""Where hands and feet are, against the robot's kinematics and MuJoCo."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from corpus import rotations
from corpus.augment import mirror_columns
from corpus.errors import MotionloomError
from corpus.g1 import G1
from corpus.robot import forward_kinematics
from hme.reach import ENDS, Limbs, reach


def some_angles(count: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(G1.lower, G1.upper, (count, 29))


def test_it_is_what_forward_kinematics_give():
    angles = some_angles(200)
    root = np.tile([0, 0, 0, 1.0, 0, 0, 0], (200, 1))
    position, _ = forward_kinematics(G1, np.concatenate([root, angles], 1))
    bodies = [G1.body(G1.segments[end]) for end in ENDS]
    np.testing.assert_allclose(reach(Limbs.of(G1), angles).reshape(200, 4, 3), position[:, bodies], atol=2e-6)


def test_it_is_what_mujoco_gives_wherever_the_root_is():
    model = mujoco.MjModel.from_xml_path(str(G1.mjcf))
    data = mujoco.MjData(model)
    turn = rotations.from_rotation_vector(np.array([0.3, -2.0, 1.0]))
    data.qpos[:3], data.qpos[3:7], data.qpos[7:] = [4, 5, 6], turn, some_angles(1)[0]
    mujoco.mj_kinematics(model, data)
    for end, found in zip(ENDS, reach(Limbs.of(G1), data.qpos[None, 7:]).reshape(4, 3), strict=True):
        in_world = rotations.rotate(turn, found.astype(float)) + [4, 5, 6]
        np.testing.assert_allclose(in_world, data.body(G1.segments[end]).xpos, atol=1e-5)


def test_a_mirrored_posture_reaches_the_mirrored_places():
    angles = some_angles(20)
    columns = np.array(mirror_columns(G1))[7:]
    qpos = np.concatenate([np.zeros((20, 7)), angles], 1)
    other = qpos[:, np.abs(columns) - 1] * np.sign(columns)
    ours, theirs = (reach(Limbs.of(G1), x).reshape(20, 2, 2, 3) for x in (angles, other))
    np.testing.assert_allclose(theirs[:, :, ::-1] * [1, -1, 1], ours, atol=2e-5)  # so far the model is symmetric


def test_limbs_come_back_from_their_arrays():
    limbs = Limbs.of(G1)
    again = Limbs.from_arrays(vars(limbs))
    np.testing.assert_array_equal(reach(again, some_angles(5)), reach(limbs, some_angles(5)))


def test_a_robot_with_too_few_joints_is_refused():
    with pytest.raises(MotionloomError, match="12 joints"):
        reach(Limbs.of(G1), np.zeros((3, 12)))
