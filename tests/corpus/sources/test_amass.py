"""AMASS: what names, keys and rates of either layout mean, where the joints lie, and whom the axis check lets lie down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus import rotations
from corpus.body_model import MEAN_PELVIS, mean_body
from corpus.errors import Rejected
from corpus.motion import Clip, HumanMotion
from corpus.sources import amass
from corpus.sources.options import LoadOptions
from corpus.sources.synthetic_files import write_amass_smplh, write_amass_smplx
from corpus.sources.synthetic_moves import human_motion

T = 40
WRITERS = {"smplh": write_amass_smplh, "smplx": write_amass_smplx}
UPRIGHT = [np.pi / 2, 0, 0]  # turns SMPL's y up to the world's z


def content(**changes) -> dict:
    """Somebody who stands and swings an arm, in the layout of SMPL+H; None takes a key away."""
    poses = np.zeros((T, 156))
    poses[:, :3] = UPRIGHT
    poses[:, 3 * 16 + 2] = np.sin(np.arange(T) / 10)
    file = {
        "poses": poses,
        "trans": np.tile([0.0, -0.03, 1.18], (T, 1)),
        "betas": np.zeros(16),
        "mocap_framerate": 60.0,
    }
    return {key: np.asarray(value) for key, value in (file | changes).items() if value is not None}


def read(root: Path, name: str = "take_poses.npz", *, options: LoadOptions = LoadOptions(), **changes) -> HumanMotion:
    if changes or not (root / name).exists():
        np.savez(root / name, **content(**changes))
    return amass.load(root, Clip("amass", name, ""), options)


def reason(root: Path, name: str = "take_poses.npz", **changes) -> str:
    with pytest.raises(Rejected) as caught:
        read(root, name, **changes)
    return caught.value.reason


# --- names


def test_folders_tell_subject_and_recording(tmp_path):
    for name in ("CMU/02/02_01_poses.npz", "CMU/02/02_01_stageii.npz", "KIT/3/walk_slow_stagei.npz", "LICENSE.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    clips = {clip.path: clip for clip in amass.scan(tmp_path)}
    assert list(clips) == sorted(clips) and len(clips) == 4
    either = [clips[f"CMU/02/02_01_{end}.npz"] for end in ("poses", "stageii")]
    assert {(clip.recording, clip.subject, clip.label) for clip in either} == {("CMU/02/02_01", "02", "02 01")}
    assert clips["KIT/3/walk_slow_stagei.npz"].label == "walk slow"
    assert {clip.licence for clip in clips.values()} == {"AMASS non-commercial research"}
    assert all(clip.byte_count == 1 and clip.key == "" for clip in clips.values())


@pytest.mark.parametrize(("name", "expected"), [
    ("female_stagei.npz", "not_motion"), ("shape.npz", "not_motion"), ("LICENSE.txt", "not_motion"),
    ("MPI/treadmill_slow_poses.npz", "treadmill"), ("BMLhandball/Treadmill/a_stageii.npz", "treadmill"),
])  # fmt: skip
def test_files_that_are_no_motion_are_refused_by_name(tmp_path, name, expected):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    np.savez((tmp_path / name).open("wb"), **content())
    assert reason(tmp_path, name) == expected


@pytest.mark.parametrize("key", ["joint_pos", "dof_pos", "qpos", "dof"])
def test_a_robot_named_as_a_take_is_refused_by_its_keys(tmp_path, key):
    robot: dict[str, Any] = {"fps": 50, "trans": np.zeros((T, 3)), key: np.zeros((T, 29))}
    np.savez(tmp_path / "run_stageii.npz", **robot)
    with pytest.raises(Rejected) as caught:
        read(tmp_path, "run_stageii.npz")
    assert caught.value.reason == "not_human" and key in caught.value.detail and "'robot'" in caught.value.detail


def test_an_error_names_the_keys_there_are(tmp_path):
    np.savez(tmp_path / "take_poses.npz", cats=np.zeros(3))
    with pytest.raises(Rejected, match="cats") as caught:
        read(tmp_path)
    assert caught.value.reason == "missing_key"


# --- both layouts


@pytest.mark.parametrize("layout", WRITERS)
@pytest.mark.parametrize("kind", ["walk", "lie", "kick"])
@pytest.mark.parametrize("fps", [60.0, 100.0, 120.0, 250.0])
def test_a_written_motion_comes_back(tmp_path, layout, kind, fps):
    motion = human_motion(kind, seconds=2.0, fps=fps)
    path = WRITERS[layout](motion, tmp_path / "a_poses.npz")
    got = read(tmp_path, path.name)
    assert got.fps == fps and got.skeleton.name == "smpl" and got.body_model == "mean"
    assert np.abs(got.position - motion.position).max() < 1e-9
    turn = rotations.multiply(got.rotation, rotations.conjugate(motion.rotation))
    assert np.abs(rotations.to_rotation_vector(turn)).max() < 1e-7


def test_the_pelvis_is_trans_and_its_own_place_in_the_body_which_does_not_turn(tmp_path):
    """For any root orientation: J0 is added as it is."""
    random = np.random.default_rng(0)
    poses = content()["poses"]
    poses[:, :3] = random.normal(0, 0.3, (T, 3)) + UPRIGHT
    trans = random.normal(0, 1, (T, 3)) + [0, 0, 1.18]
    for model in MEAN_PELVIS:
        got = read(tmp_path, surface_model_type=model, poses=poses, trans=trans)
        assert np.allclose(got.position[:, 0], trans + MEAN_PELVIS[model])


@pytest.mark.parametrize(("model", "changes"), [
    ("smplh", {}),
    ("smplx", {"poses": np.concatenate([content()["poses"], np.zeros((T, 9))], 1)}),
    ("smplh", {"mocap_framerate": None, "mocap_frame_rate": 60.0}),
    ("smplh", {"surface_model_type": b"smplh", "mocap_framerate": None, "mocap_frame_rate": 60.0}),
    ("smplx", {"poses": None, "root_orient": content()["poses"][:, :3], "pose_body": content()["poses"][:, 3:66]}),
])  # fmt: skip
def test_the_body_is_told_by_the_files_word_or_the_width_of_its_poses(tmp_path, model, changes):
    got = read(tmp_path, **changes)
    assert np.allclose(got.position[0, 0], content()["trans"][0] + MEAN_PELVIS[model])


def test_the_files_rate_goes_before_the_users(tmp_path):
    """`--fps` is for files that carry none."""
    options = LoadOptions(fps=30.0)
    assert read(tmp_path, options=options).fps == 60.0
    assert read(tmp_path, options=options, mocap_framerate=None).fps == 30.0
    assert read(tmp_path, mocap_framerate=[120]).fps == 120.0
    assert read(tmp_path, mocap_framerate=np.float32(59.99999)).fps == 60.0


@pytest.mark.parametrize("gender", ["female", b"female", np.array(["female"]), "Female "])
def test_gender_is_read_however_it_is_written(tmp_path, monkeypatch, gender):
    asked = []
    monkeypatch.setattr(amass, "body", lambda *args: asked.append(args) or mean_body())
    read(tmp_path, gender=gender, betas=np.arange(16.0), options=LoadOptions(body_models=tmp_path))
    betas, *rest = asked[0]
    assert np.array_equal(betas, np.arange(16)) and rest == ["female", "smplh", tmp_path]


def test_betas_of_every_frame_are_those_of_the_first(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(amass, "body", lambda *args: asked.append(args[0]) or mean_body())
    read(tmp_path, betas=np.tile(np.arange(10.0), (T, 1)))
    assert np.array_equal(asked[0], np.arange(10))


@pytest.mark.parametrize(("changes", "expected"), [
    ({"betas": np.array(["tall"])}, "wrong_shape"),
    ({"betas": np.full(16, np.nan)}, "not_finite"),
    ({"betas": np.array({"a": 1}, dtype=object)}, "object_array"),
    ({"mocap_framerate": np.array([60.0, 120.0])}, "bad_frame_rate"),
    ({"mocap_framerate": None, "fps": 0}, "bad_frame_rate"),
    ({"poses": np.zeros((T, 52, 3))}, "wrong_shape"),
    ({"poses": np.zeros((T, 156), complex)}, "wrong_shape"),
    ({"poses": np.full((T, 156), "a")}, "wrong_shape"),
    ({"trans": np.zeros((T, 4))}, "wrong_shape"),
    ({"trans": np.zeros(())}, "wrong_shape"),
    ({"poses": np.tile([*UPRIGHT, *[0.0] * 153], (T, 1))}, "all_zero_pose"),
])  # fmt: skip
def test_values_that_are_none_are_refused(tmp_path, changes, expected):
    assert reason(tmp_path, **changes) == expected


# --- which way is up


def turned(turn: list[float], trans: list[float], **changes) -> dict:
    poses = content()["poses"]
    poses[:, :3] = turn
    return {"poses": poses, "trans": np.tile(trans, (T, 1)), **changes}


@pytest.mark.parametrize("yaw", [0.0, 0.8, 1.6, 2.4, 3.1])
def test_a_person_standing_along_y_is_refused(tmp_path, yaw):
    changes = turned([0, yaw, 0], [0.4, 1.18, 2.0])
    assert reason(tmp_path, **changes) == "wrong_axis"


def test_a_walk_in_a_y_up_world_is_refused(tmp_path):
    """Even as it leads far away."""
    motion = human_motion("walk", seconds=4.0, fps=60.0)
    file = np.load(write_amass_smplh(motion, tmp_path / "a_poses.npz"))
    back = rotations.conjugate(rotations.Y_UP_TO_Z_UP)
    poses, trans = file["poses"].copy(), file["trans"]
    root = rotations.multiply(back, rotations.from_rotation_vector(poses[:, :3]))
    poses[:, :3] = rotations.to_rotation_vector(root)
    assert reason(tmp_path, poses=poses, trans=rotations.rotate(back, trans)) == "wrong_axis"


def test_hanging_head_down_is_refused_and_standing_on_the_hands_is_not(tmp_path):
    assert reason(tmp_path, **turned([-np.pi / 2, 0, 0], [0, 0, -0.7])) == "wrong_axis"
    poses = content()["poses"]
    poses[:, :3] = [-np.pi / 2, 0, 0]
    poses[:, 3 * 16 : 3 * 18] += [0, 0, 1.4, 0, 0, -1.4]  # arms overhead
    got = read(tmp_path, poses=poses, trans=np.tile([0, 0, 1.1], (T, 1)))
    assert got.position[:, got.skeleton.index("left_wrist"), 2].min() < 0.6 < got.position[0, 0, 2]


@pytest.mark.parametrize("heading", [0.0, 1.0, np.pi / 2, np.pi, -np.pi / 2])
@pytest.mark.parametrize("face", ["up", "down"])
def test_whoever_lies_on_the_floor_is_not_refused(tmp_path, heading, face):
    """Stretched out along any direction, the feet at the origin, where a y-up file would have them too."""
    lie = np.array([1.0, 0, 0, 0]) if face == "up" else rotations.from_rotation_vector(np.array([0, np.pi, 0]))
    turn = rotations.multiply(rotations.about_z(np.array(heading)), lie)
    along = rotations.rotate(turn, np.array([0, 1.0, 0]))
    poses = content()["poses"]
    poses[:, :3] = rotations.to_rotation_vector(turn)
    pelvis = along * 0.93 + [0, 0, 0.12]
    got = read(tmp_path, poses=poses, trans=np.tile(pelvis - MEAN_PELVIS["smplh"], (T, 1)))
    assert np.abs(got.position[0, got.skeleton.index("left_foot"), :2]).max() < 0.2


# --- real files


@pytest.mark.data
@pytest.mark.parametrize(("name", "markers", "labels"), [
    ("amass_smplx/CMU_UH1example_stageii.npz", "markers", "labels"),
    ("amass_smplh/amass_sample_B.npz", "markers", "labels"),
    ("amass_smplh/dmpl_sample.npz", "marker_data", "marker_labels"),
])  # fmt: skip
def test_recorded_markers_lie_within_fifteen_centimetres_of_the_bones(shared, name, markers, labels):
    """Each marker's distance to the nearest bone (a segment between parent and child joint), in every frame.

    The mean over all markers stays below 15 cm throughout; forgetting the pelvis' own place in the body breaks that.
    """
    path = shared / name
    motion = amass.load(path.parent, Clip("amass", path.name, ""), LoadOptions())
    with np.load(path) as file:
        assert motion.fps == 120.0 and motion.frame_count == len(file["trans"])
        points, count = file[markers], len(file[labels])
    assert points.shape == (motion.frame_count, count, 3)
    points = np.where((np.abs(points).sum(2, keepdims=True) > 0), points, np.nan)  # unseen markers are zero
    apart = distance_to_bones(points, motion.position, motion.skeleton.parents)
    assert np.nanmean(apart, axis=1).max() < 0.15
    sunk = distance_to_bones(points, motion.position - [0, 0, 0.35], motion.skeleton.parents)
    assert np.nanmean(sunk, axis=1).min() > 0.15


def distance_to_bones(points: np.ndarray, joints: np.ndarray, parents: tuple[int, ...]) -> np.ndarray:
    nearest = np.full(points.shape[:2], np.inf)
    for child, parent in enumerate(parents[1:], start=1):
        start, bone = joints[:, parent, None], (joints[:, child] - joints[:, parent])[:, None]
        along = np.clip(((points - start) * bone).sum(2) / (bone**2).sum(2), 0, 1)
        nearest = np.fmin(nearest, np.linalg.norm(points - start - along[..., None] * bone, axis=2))
    return np.where(np.isnan(points[..., 0]), np.nan, nearest)


@pytest.mark.data
def test_a_person_from_video_has_the_pelvis_where_the_file_says(shared):
    motion = amass.load(shared / "video_smplx", Clip("amass", "wall_flip_smplx_amass.npz", ""), LoadOptions())
    with np.load(shared / "video_smplx/wall_flip_smplx_amass.npz") as file:
        assert motion.fps == pytest.approx(30.0, abs=0.1)
        assert np.abs(motion.position[:, 0] - file["target_pelvis_world"]).max() < 0.03


# --- chance damage


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_damaged_take_is_read_or_refused(tmp_path_factory, data):
    """Damage that the zip's own checksum would not see: arrays of any kind and shape under the right names."""
    root = tmp_path_factory.getbasetemp()
    kinds = st.sampled_from(["f8", "f4", "f2", "i4", "?", "c8", "U3", "S2", "M8[s]", "V3"])
    shapes = st.lists(st.sampled_from([0, 1, 2, 3, 10, 40, 63, 66, 156, 165]), max_size=3)
    changes: dict[str, Any] = {
        key: np.zeros(data.draw(shapes), data.draw(kinds))
        for key in data.draw(st.sets(st.sampled_from(["betas", "gender", "mocap_framerate", "poses", "surface_model_type", "trans"])))
    }  # fmt: skip
    try:
        read(root, "made_poses.npz", **(changes or {"gender": "x"}))
    except Rejected as rejected:
        assert rejected.reason
