from __future__ import annotations

import numpy as np
import pytest

from corpus import rotations
from corpus.g1 import G1
from deploy.contract import STANDING
from deploy.outline import lowest
from deploy.stance import can_be_stood_in, stand_height, standing, swaying

KNEES = [i for i, name in enumerate(G1.joint_names) if "knee" in name]
LEFT_HIP_PITCH = G1.joint_names.index("left_hip_pitch_joint")


def test_soles_are_on_the_floor_wherever_the_robot_stands():
    for joints in (STANDING, 1.3 * STANDING, np.zeros(29)):
        assert lowest(standing((1.0, -2.0), 0.7, joints)[None])[0] == pytest.approx(0.0, abs=1e-9)
    assert standing()[2] == stand_height() == pytest.approx(0.75, abs=0.05)


def test_it_stands_where_and_as_it_is_told():
    qpos = standing((1.0, -2.0), 0.7)
    assert qpos[:2] == pytest.approx([1.0, -2.0])
    assert rotations.heading(qpos[3:7]) == pytest.approx(0.7)
    assert (qpos[7:] == STANDING).all()


def test_the_stance_can_be_stood_in():
    assert can_be_stood_in(standing((3.0, 1.0), 2.0))


@pytest.mark.parametrize("what", ["leaning", "squatting", "stepping"])
def test_what_cannot_be_held_by_stiff_joints_is_told(what):
    qpos = standing()
    if what == "leaning":
        qpos[3:7] = rotations.from_rotation_vector(np.array([0.0, 0.2, 0.0]))
    elif what == "squatting":
        qpos[7:][KNEES] += 1.0
    else:
        qpos[7 + LEFT_HIP_PITCH] -= 0.3
    assert not can_be_stood_in(qpos)


def test_swaying_keeps_the_soles_on_the_floor_and_the_feet_where_they_are():
    motion = swaying(6.0, seed=2)
    assert len(motion.qpos) == round(6.0 * motion.fps)
    assert [lowest(row[None])[0] for row in motion.qpos[::20]] == pytest.approx(
        [0.0] * len(motion.qpos[::20]), abs=1e-9
    )
    assert motion.qpos[0, 7:] == pytest.approx(STANDING)
    assert np.ptp(motion.qpos[:, 7:], axis=0).max() > 0.05
    assert (swaying(6.0, seed=2).qpos == motion.qpos).all()
    assert (swaying(6.0, seed=3).qpos != motion.qpos).any()
