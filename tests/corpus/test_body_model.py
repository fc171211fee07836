"""The mean skeleton lies where public figures put it; a user's body model is used, cached, and missed with a clear word."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from corpus import body_model, rotations
from corpus.body_model import JOINT_NAMES, MEAN_PELVIS, PARENTS, TOE_HEIGHT, body, mean_body, smpl_motion
from corpus.errors import MotionloomError, Rejected
from corpus.skeleton import Skeleton

T = 60
MJCF_NAMES = (
    "Pelvis", "L_Hip", "R_Hip", "Torso", "L_Knee", "R_Knee", "Spine", "L_Ankle", "R_Ankle", "Chest", "L_Toe", "R_Toe", "Neck",
    "L_Thorax", "R_Thorax", "Head", "L_Shoulder", "R_Shoulder", "L_Elbow", "R_Elbow", "L_Wrist", "R_Wrist",
)  # fmt: skip
needs_smplx = pytest.mark.skipif(importlib.util.find_spec("smplx") is None, reason="the extra [smplx] is not installed")


def standing(height: float = 0.954) -> tuple[np.ndarray, np.ndarray]:
    """Pelvis and pose of somebody who stands in a y-up world and swings an arm."""
    pose = np.zeros((T, 66))
    pose[:, 3 * 16 + 2] = 0.5 * np.sin(np.arange(T) / 10)
    return np.tile([0.0, height, 0.0], (T, 1)), pose


def rest_joints(offsets: np.ndarray) -> np.ndarray:
    joints = np.zeros((22, 3))
    for joint, parent in enumerate(PARENTS[1:], start=1):
        joints[joint] = joints[parent] + offsets[joint]
    return joints


# --- the mean body


def test_the_mean_body_is_symmetric_and_as_tall_as_a_person():
    joints = rest_joints(mean_body().offsets)
    for i, name in enumerate(JOINT_NAMES):
        if name.startswith("left_"):
            twin = joints[JOINT_NAMES.index(name.replace("left", "right"))]
            assert np.allclose(joints[i] * [-1, 1, 1], twin) and joints[i, 0] > 0
    leg = joints[0, 1] - joints[JOINT_NAMES.index("left_foot"), 1] + TOE_HEIGHT
    assert 0.9 < leg < 1.0
    assert 1.5 < leg + joints[JOINT_NAMES.index("head"), 1] < 1.65  # the head joint is where the neck ends


def test_joints_bear_smpls_names_and_come_after_their_parents():
    Skeleton("smpl", JOINT_NAMES, PARENTS, mean_body().offsets)
    assert JOINT_NAMES[:4] == ("pelvis", "left_hip", "right_hip", "spine1") and JOINT_NAMES[-1] == "right_wrist"
    assert PARENTS == (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19)


@pytest.mark.data
def test_the_mean_body_lies_within_two_centimetres_of_the_public_skeleton(shared):
    world = ET.parse(shared / "smpl_skeletons/smplx_humanoid.xml").getroot().find("worldbody")
    assert world is not None
    theirs = {}

    def visit(element: ET.Element, parent: np.ndarray) -> None:
        at = parent + np.array([float(x) for x in element.get("pos", "0 0 0").split()])
        theirs[element.get("name")] = at
        for child in element.findall("body"):
            visit(child, at)

    visit(world.findall("body")[0], np.zeros(3))
    assert theirs["Pelvis"] == pytest.approx(MEAN_PELVIS["smplx"], abs=1e-9)
    joints = np.array([theirs[name] - theirs["Pelvis"] for name in MJCF_NAMES])[:, [1, 2, 0]]  # x forward, z up there
    assert np.linalg.norm(joints - rest_joints(mean_body().offsets), axis=1).max() < 0.022


# --- from parameters to motion


def test_the_zero_pose_of_a_y_up_world_stands_on_the_floor_facing_minus_y():
    pelvis, pose = standing()
    motion = smpl_motion(pelvis, pose, 30.0, mean_body(), y_up=True)
    up, left, front = (rotations.rotate(motion.rotation[0, 0], axis) for axis in np.eye(3)[[1, 0, 2]])
    assert np.allclose(up, [0, 0, 1]) and np.allclose(left, [1, 0, 0]) and np.allclose(front, [0, -1, 0])
    assert np.allclose(motion.position[:, 0], [0, 0, 0.954])
    assert abs(motion.position[:, motion.skeleton.index("left_foot"), 2] - TOE_HEIGHT).max() < 0.01


def test_y_up_and_z_up_worlds_give_one_motion():
    pelvis, pose = standing()
    pose[:, :3] = [0.1, 0.8, -0.2]
    turn = rotations.Y_UP_TO_Z_UP
    upright = pose.copy()
    upright[:, :3] = rotations.to_rotation_vector(rotations.multiply(turn, rotations.from_rotation_vector(pose[0, :3])))
    one = smpl_motion(pelvis, pose, 30.0, mean_body(), y_up=True)
    other = smpl_motion(pelvis[:, [0, 2, 1]] * [1, -1, 1], upright, 30.0, mean_body(), y_up=False)
    assert np.allclose(one.position, other.position, atol=1e-12)
    assert np.allclose(np.abs((one.rotation * other.rotation).sum(-1)), 1)


@pytest.mark.parametrize("scale", [0.9, 1.1])
def test_the_mean_body_is_scaled_until_its_feet_stand_on_the_floor(scale):
    pelvis, pose = standing(height=0.934 * scale + TOE_HEIGHT)
    motion = smpl_motion(pelvis, pose, 30.0, mean_body(), y_up=True)
    assert np.abs(motion.position[:, motion.skeleton.index("left_foot"), 2] - TOE_HEIGHT).max() < 1e-6
    assert np.allclose(motion.skeleton.offsets, mean_body().offsets * scale)
    assert motion.body_model == f"mean × {scale:.2f}"


def test_a_giant_is_not_believed():
    pelvis, pose = standing(height=1.6)
    assert smpl_motion(pelvis, pose, 30.0, mean_body(), y_up=True).body_model == "mean"


@pytest.mark.parametrize(("change", "reason"), [
    (lambda pelvis, pose: (pelvis[:1], pose[:1]), "too_short"),
    (lambda pelvis, pose: (pelvis * np.nan, pose), "not_finite"),
    (lambda pelvis, pose: (pelvis, np.where(pose == 0, np.inf, pose)), "not_finite"),
    (lambda pelvis, pose: (pelvis, pose * 1e300), "not_finite"),
    (lambda pelvis, pose: (pelvis, pose * 0), "all_zero_pose"),
    (lambda pelvis, pose: (pelvis, pose * 0 + (np.arange(66) < 3)), "all_zero_pose"),  # only the root is turned
])  # fmt: skip
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_parameters_that_are_no_motion_are_refused(change, reason):
    pelvis, pose = change(*standing())
    with pytest.raises(Rejected) as caught:
        smpl_motion(pelvis, pose, 30.0, mean_body(), y_up=True)
    assert caught.value.reason == reason


# --- the user's own body model


def test_without_a_folder_neither_smplx_nor_torch_is_imported():
    code = (
        "import sys, numpy; from corpus.body_model import body; body(numpy.zeros(10), 'male', 'smplx', None); "
        "assert not {'smplx', 'torch'} & set(sys.modules)"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "smplx", None)
    body_model._layer.cache_clear()
    with pytest.raises(MotionloomError, match=r"motionloom\[smplx\]"):
        body(np.zeros(10), "male", "smplx", tmp_path)


@needs_smplx
@pytest.mark.parametrize("folder", ["", "absent"])
def test_a_missing_model_file_is_named(tmp_path, folder):
    with pytest.raises(MotionloomError, match=r"SMPLX_MALE\.npz"):
        body(np.zeros(10), "male", "smplx", tmp_path / folder)


@pytest.fixture
def smplx_files(tmp_path) -> Path:
    """A stand-in for the licensed file: eleven vertices per joint, the first coefficient of betas stretches them upwards."""
    joints = rest_joints(mean_body().offsets) + MEAN_PELVIS["smplx"]
    joints = np.concatenate([joints, np.tile(joints[20:21], (33, 1))])  # jaw, eyes, fingers
    vertices = np.repeat(joints, 200, 0)
    regressor = np.repeat(np.eye(55), 200, 1) / 200
    directions = np.zeros((len(vertices), 3, 400))
    directions[:, :, 0] = 0.03 * vertices * [0, 1, 0]
    tree = np.array([-1, *PARENTS[1:], 15, 15, 15, *[20] * 15, *[21] * 15])
    (tmp_path / "smplx").mkdir()
    np.savez(
        tmp_path / "smplx" / "SMPLX_FEMALE.npz",
        v_template=vertices, J_regressor=regressor, shapedirs=directions, posedirs=np.zeros((len(vertices), 3, 486)),
        weights=regressor.T * 200, kintree_table=np.stack([tree, np.arange(55)]), f=np.array([[0, 1, 2]]),
        hands_componentsl=np.zeros((45, 45)), hands_componentsr=np.zeros((45, 45)), hands_meanl=np.zeros(45),
        hands_meanr=np.zeros(45), lmk_faces_idx=np.zeros(51, int), lmk_bary_coords=np.ones((51, 3)) / 3,
        dynamic_lmk_faces_idx=np.zeros((79, 17), int), dynamic_lmk_bary_coords=np.ones((79, 17, 3)) / 3,
    )  # fmt: skip
    return tmp_path


@needs_smplx
def test_betas_change_the_users_body_and_the_file_is_read_once(smplx_files, monkeypatch):
    import smplx

    calls, create = [], smplx.create
    monkeypatch.setattr(smplx, "create", lambda *args, **options: calls.append(args) or create(*args, **options))
    plain = body(np.zeros(16), "female", "smplx", smplx_files)
    tall = body(np.array([2.0, *np.zeros(15)]), "female", "smplx", smplx_files)
    assert len(calls) == 1
    assert plain.name == "smplx female"
    assert np.allclose(plain.offsets, mean_body().offsets, atol=1e-5)
    assert np.allclose(plain.pelvis, MEAN_PELVIS["smplx"], atol=1e-5)
    assert np.allclose(tall.offsets, plain.offsets * [1, 1.06, 1], atol=1e-5)


@needs_smplx
def test_a_users_body_is_not_scaled_again(smplx_files):
    pelvis, pose = standing(height=0.85)
    person = body(np.zeros(10), "female", "smplx", smplx_files)
    motion = smpl_motion(pelvis, pose, 30.0, person, y_up=True)
    assert motion.body_model == "smplx female"
    assert np.allclose(motion.skeleton.offsets, mean_body().offsets, atol=1e-5)
