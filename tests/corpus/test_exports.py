"""What the writers write, the readers read back."""

from __future__ import annotations

import numpy as np
import pytest

from corpus import rotations
from corpus.exports.beyondmimic import beyondmimic, write_beyondmimic
from corpus.exports.csv import write_csv
from corpus.motion import RobotMotion
from corpus.sources import robot_files
from corpus.sources.options import LoadOptions
from corpus.sources.synthetic_moves import robot_motion


@pytest.fixture
def motion() -> RobotMotion:
    """A robot that turns once about itself while it bends its knees."""
    still = robot_motion(seed=5, seconds=2.0, fps=50.0)
    turn = rotations.about_z(np.linspace(-3, 3, still.frame_count))
    return RobotMotion(np.concatenate([still.qpos[:, :3], turn, still.qpos[:, 7:]], 1), 50.0)


def read(folder) -> RobotMotion:
    (clip,) = robot_files.scan(folder)
    return robot_files.load(folder, clip, LoadOptions())


@pytest.mark.parametrize("order", ["wxyz", "xyzw"])
def test_csv_comes_back(motion, tmp_path, order):
    write_csv(motion, tmp_path / "a.csv", quaternion=order)
    found = read(tmp_path)
    assert found.fps == 50.0
    assert np.abs(found.qpos - motion.qpos).max() < 1e-6


def test_csv_has_unitrees_columns(motion, tmp_path):
    rows = np.loadtxt(write_csv(motion, tmp_path / "a.csv"), delimiter=",")
    assert rows.shape == (100, 36)
    assert np.allclose(rows[:, 3:6], motion.qpos[:, 4:7], atol=1e-8) and np.allclose(
        rows[:, 6], motion.qpos[:, 3], atol=1e-8
    )


def test_beyondmimic_comes_back(motion, tmp_path, g1):
    write_beyondmimic(motion, tmp_path / "a.npz", g1)
    found = read(tmp_path)
    assert found.fps == 50.0
    assert np.abs(found.qpos - motion.qpos).max() < 1e-6


def test_beyondmimic_comes_back_without_names_too(motion, tmp_path, g1):
    arrays = {name: a for name, a in beyondmimic(motion, g1).items() if not name.endswith("_names")}
    np.savez(tmp_path / "a.npz", **arrays)
    assert np.abs(read(tmp_path).qpos - motion.qpos).max() < 1e-6


def test_body_states_are_mujocos(motion, g1):
    """Positions by MuJoCo's own kinematics, angular speed by the formula the motion was made with."""
    import mujoco

    arrays = beyondmimic(motion, g1)
    model = mujoco.MjModel.from_xml_path(str(g1.mjcf))
    data = mujoco.MjData(model)
    for frame in (0, 37, 99):
        data.qpos[:] = motion.qpos[frame]
        mujoco.mj_kinematics(model, data)
        assert np.abs(data.xpos[1:] - arrays["body_pos_w"][frame]).max() < 1e-6
        assert np.abs(np.abs((data.xquat[1:] * arrays["body_quat_w"][frame]).sum(1)) - 1).max() < 1e-6
    assert np.allclose(arrays["body_ang_vel_w"][:, 0], [0, 0, 6 / 99 * 50], atol=1e-3)
    assert np.allclose(arrays["joint_vel"][1:-1], (arrays["joint_pos"][2:] - arrays["joint_pos"][:-2]) * 25, atol=1e-4)


def test_nothing_half_written_stays(motion, tmp_path, g1):
    write_csv(motion, tmp_path / "a.csv")
    write_beyondmimic(motion, tmp_path / "b.npz", g1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "a.json", "b.npz"]
