"""Motion by formula obeys the formulas, and what is written in a data set's format comes back through its reader."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corpus import rotations
from corpus.errors import Rejected
from corpus.g1 import G1
from corpus.motion import HumanMotion
from corpus.robot import forward_kinematics
from corpus.sources import SOURCES, synthetic
from corpus.sources import synthetic_files as files
from corpus.sources.options import LoadOptions
from corpus.sources.synthetic_body import BALL_HEIGHT
from corpus.sources.synthetic_demo import HOSTILE_MARK, write_demo_data
from corpus.sources.synthetic_layouts import on_layout
from corpus.sources.synthetic_moves import KINDS, STYLES, human_motion, robot_motion
from retarget.correspondence import CORRESPONDENCES

ALL = [(kind, seed, style) for seed, style in enumerate(STYLES) for kind in KINDS]


def load(source: str, root: Path, name: str = "") -> Any:
    clips = [clip for clip in SOURCES[source].scan(root) if clip.path.endswith(name)]
    return SOURCES[source].load(root, clips[0], LoadOptions())


def joint(motion: HumanMotion, name: str) -> np.ndarray:
    return motion.position[:, motion.skeleton.index(name)]


# --- the movements


@pytest.mark.parametrize(("kind", "seed", "style"), ALL)
def test_a_standing_foot_does_not_slide_and_nothing_jumps(kind, seed, style):
    motion = human_motion(kind, seed=seed, seconds=6.0, fps=100.0, style=style)
    for side in ("left", "right"):
        ball = joint(motion, f"{side}_foot")
        standing = ball[:, 2] < BALL_HEIGHT + 1e-6
        assert standing.mean() > 0.3
        both = standing[1:] & standing[:-1]
        assert (np.linalg.norm(np.diff(ball, axis=0), axis=1)[both] * 100).max() < 0.02
    assert motion.position[:, :, 2].min() > 0.0
    speed = np.linalg.norm(np.diff(motion.position, axis=0), axis=2) * 100
    assert speed.max() < 7.0


@pytest.mark.parametrize("height", [1.5, 1.9])
def test_bones_keep_their_lengths_and_grow_with_the_person(height):
    motion = human_motion("kick", seconds=2.0, height=height)
    assert motion.skeleton.index("left_ankle") == 7
    for i, parent in enumerate(motion.skeleton.parents[1:], start=1):
        length = np.linalg.norm(motion.position[:, i] - motion.position[:, parent], axis=1)
        assert np.allclose(length, np.linalg.norm(motion.skeleton.offsets[i]), atol=1e-9)
    mean = human_motion("kick", seconds=2.0).skeleton.offsets
    assert np.allclose(motion.skeleton.offsets, mean * height / 1.7)


@pytest.mark.parametrize("kind", KINDS)
def test_a_take_is_the_same_at_every_frame_rate(kind):
    slow, fast = (human_motion(kind, seed=4, seconds=3.0, fps=fps) for fps in (30.0, 120.0))
    assert np.allclose(slow.position, fast.position[::4], atol=1e-12)
    same = np.abs((slow.rotation * fast.rotation[::4]).sum(2))
    assert np.allclose(same, 1, atol=1e-9)


def test_seed_and_style_change_a_take_and_nothing_else_does():
    one, again = (human_motion("walk", seed=1).position for _ in range(2))
    assert np.array_equal(one, again)
    assert not np.allclose(one, human_motion("walk", seed=2).position)
    assert not np.allclose(one, human_motion("walk", seed=1, style="tired").position)


def test_a_jump_flies_by_gravity():
    motion = human_motion("jump", seed=1, seconds=4.4, fps=200.0)
    height = joint(motion, "pelvis")[:, 2]
    air = np.minimum(joint(motion, "left_foot")[:, 2], joint(motion, "right_foot")[:, 2]) > BALL_HEIGHT + 0.02
    assert air.sum() > 50
    fall = np.diff(height, 2) * 200.0**2
    assert np.median(fall[air[1:-1]]) == pytest.approx(-9.81, abs=0.3)


def test_lying_down_is_level_and_getting_up_ends_upright():
    motion = human_motion("lie", seed=1, seconds=7.0)
    trunk = joint(motion, "neck") - joint(motion, "pelvis")
    steep = trunk[:, 2] / np.linalg.norm(trunk, axis=1)
    middle = len(steep) // 2
    assert abs(steep[middle]) < 0.2 and joint(motion, "pelvis")[middle, 2] < 0.15
    assert steep[0] > 0.95 and steep[-1] > 0.95


@pytest.mark.parametrize("kind", KINDS)
def test_knees_bend_forward(kind):
    motion = human_motion(kind, seed=2, seconds=5.0)
    for side in ("left", "right"):
        hip, knee, ankle = (joint(motion, f"{side}_{name}") for name in ("hip", "knee", "ankle"))
        left = rotations.rotate(motion.rotation[:, 0], np.tile([1.0, 0, 0], (motion.frame_count, 1)))
        # left × (shank − thigh) …: the knee lies in front of the line from hip to ankle.
        front = np.cross(ankle - hip, left)
        assert ((knee - hip) * front).sum(1).min() > -0.01


def test_a_walk_goes_where_the_pelvis_faces():
    motion = human_motion("walk", seed=3, seconds=5.0)
    path = joint(motion, "pelvis")
    forward = rotations.rotate(motion.rotation[:, 0], np.tile([0.0, 0, 1], (motion.frame_count, 1)))[:, :2]
    step = np.diff(path[:, :2], axis=0)
    along = (step * forward[:-1]).sum(1) / np.linalg.norm(step, axis=1)
    assert along.mean() > 0.97 and np.linalg.norm(path[-1] - path[0]) > 3.0


def test_the_made_robot_stands_still_on_flat_feet():
    motion = robot_motion(seed=1)
    position, rotation = forward_kinematics(G1, motion.qpos)
    name, sole = G1.ground_points["right_toe"]
    body = G1.body(name)
    point = position[:, body] + rotations.rotate(rotation[:, body], np.tile(sole[0], (motion.frame_count, 1)))
    assert np.abs(point[:, 2]).max() < 1e-9 and np.ptp(point, axis=0).max() < 1e-9


# --- other skeletons


@pytest.mark.parametrize("layout", ["lafan1", "bandai"])
def test_segments_face_alike_on_every_skeleton(layout):
    """By the retargeter's own tables, which were read off real files."""
    smpl = human_motion("walk", seed=1, seconds=2.0)
    other = on_layout(smpl, layout)
    ours, theirs = CORRESPONDENCES["smpl"], CORRESPONDENCES[layout]
    limits = {"pelvis": 0.1, "chest": 8, "hip": 10, "knee": 10, "ankle": 8, "shoulder": 16, "elbow": 16, "wrist": 8}
    for role in theirs.frames:
        worlds = []
        for motion, table in ((smpl, ours), (other, theirs)):
            rotation = motion.rotation[:, motion.skeleton.index(table.joints[role])]
            worlds.append(rotations.multiply(rotation, np.broadcast_to(table.frames[role], rotation.shape)))
        apart = rotations.to_rotation_vector(rotations.multiply(rotations.conjugate(worlds[0]), worlds[1]))
        degrees = np.degrees(np.linalg.norm(apart, axis=1)).max()
        assert degrees < limits[role.split("_")[-1]], role


def test_lafan1_bones_lie_along_local_x_and_legs_stay_put():
    smpl = human_motion("kick", seed=1, seconds=2.0)
    motion = on_layout(smpl, "lafan1")
    offsets = dict(zip(motion.skeleton.joint_names, motion.skeleton.offsets, strict=True))
    for name in ("LeftLeg", "RightFoot", "LeftToe", "RightForeArm", "LeftHand", "RightArm", "Neck", "Head"):
        assert offsets[name][0] > 0.08 and np.abs(offsets[name][1:]).max() < 1e-12, name
    assert offsets["LeftUpLeg"][2] > 0.05 > -0.05 > offsets["RightUpLeg"][2]
    for name, twin in {"LeftUpLeg": "left_hip", "RightLeg": "right_knee", "LeftFoot": "left_ankle"}.items():
        assert np.allclose(joint(motion, name), joint(smpl, twin), atol=1e-12)
    toe = joint(motion, "LeftToe"), joint(motion, "RightToe")
    low = [t[:, 2] < BALL_HEIGHT + 1e-6 for t in toe]
    for t, standing in zip(toe, low, strict=True):
        both = standing[1:] & standing[:-1]
        assert both.any() and (np.linalg.norm(np.diff(t, axis=0), axis=1)[both] * 50).max() < 0.02


@pytest.mark.parametrize("order", ["zyx", "zxy"])
def test_euler_angles_turn_back(order):
    q = rotations.normalise(np.random.default_rng(0).normal(size=(500, 4)))
    again = rotations.from_euler(np.radians(files.euler_degrees(q, order)), order)
    assert np.allclose(np.abs((q * again).sum(1)), 1, atol=1e-12)


# --- round trips


def agree(written: HumanMotion, found: HumanMotion, metres: float = 1e-4) -> None:
    assert found.frame_count == written.frame_count and found.fps == pytest.approx(written.fps, rel=1e-4)
    assert set(found.skeleton.joint_names) == set(written.skeleton.joint_names)
    places = [found.skeleton.index(name) for name in written.skeleton.joint_names]
    assert np.abs(found.position[:, places] - written.position).max() < metres
    assert (1 - np.abs((found.rotation[:, places] * written.rotation).sum(2))).max() < 1e-6


@pytest.mark.parametrize("kind", ["walk", "kick", "lie"])
def test_amass_files_come_back(kind, tmp_path):
    motion = human_motion(kind, seed=1, seconds=2.0, fps=120.0)
    files.write_amass_smplh(motion, tmp_path / "h" / "a_poses.npz", gender=b"female")
    files.write_amass_smplx(motion, tmp_path / "x" / "a_stageii.npz")
    agree(motion, load("amass", tmp_path / "h"), 1e-9)
    agree(motion, load("amass", tmp_path / "x"), 1e-9)


def test_a_taller_person_comes_back_at_that_height(tmp_path):
    motion = human_motion("squat", seed=1, seconds=3.0, fps=120.0, height=1.7 * 1.06)
    files.write_amass_smplx(motion, tmp_path / "a_stageii.npz")
    agree(motion, load("amass", tmp_path), 1e-9)


@pytest.mark.parametrize("kind", ["turn", "lie"])
def test_motionx_files_come_back(kind, tmp_path):
    motion = human_motion(kind, seed=2, seconds=4.0, fps=30.0)
    path = files.write_motionx(motion, tmp_path / "a.npy", text="somebody moves")
    assert np.load(path).shape == (120, 322) and np.load(path).dtype == np.float32
    agree(motion, load("motionx", tmp_path))
    (clip,) = SOURCES["motionx"].scan(tmp_path)
    assert clip.label == "somebody moves"


def test_sunk_motionx_files_do_not_come_back_buried(tmp_path):
    motion = human_motion("walk", seed=2, seconds=4.0, fps=30.0)
    files.write_motionx(motion, tmp_path / "a.npy", sunk=True)
    found = load("motionx", tmp_path)
    assert found.position[:, :, 2].min() > -0.02


@pytest.mark.parametrize("contact", [False, True])
def test_phuma_human_files_come_back_in_chunks(contact, tmp_path):
    motion = human_motion("jump", seed=2, seconds=6.0, fps=30.0)
    paths = files.write_phuma_human(motion, tmp_path, "take", contact=contact)
    assert [path.name for path in paths] == ["take_chunk_0000.npy", "take_chunk_0001.npy"]
    found = [load("phuma", tmp_path, path.name) for path in paths]
    assert [part.frame_count for part in found] == [120, 60]
    position = np.concatenate([part.position for part in found])
    assert np.abs(position - motion.position).max() < 1e-4
    assert {clip.recording for clip in SOURCES["phuma"].scan(tmp_path)} == {"take"}


def test_phuma_robot_files_come_back(tmp_path):
    motion = robot_motion(seed=3)
    files.write_phuma_robot(motion, tmp_path / "a_chunk_0000.npy")
    found = load("phuma", tmp_path)
    assert found.fps == 30.0 and np.abs(found.qpos - motion.qpos).max() < 1e-6


@pytest.mark.parametrize("kind", ["walk", "kick", "lie"])
def test_lafan1_files_come_back(kind, tmp_path):
    motion = on_layout(human_motion(kind, seed=3, seconds=2.0, fps=30.0), "lafan1")
    path = files.write_lafan1(motion, tmp_path / f"{kind}1_subject1.bvh")
    lines = path.read_text().splitlines()
    assert lines[-1].endswith(" ") and len(lines[-1].split()) == 69 and "OFFSET 0.000000" not in lines[3]
    agree(motion, load("lafan1", tmp_path))


def test_bandai_files_come_back(tmp_path):
    motion = on_layout(human_motion("turn", seed=3, seconds=2.0, fps=30.0), "bandai")
    path = files.write_bandai(motion, tmp_path / "dataset-2_walk-turn-left_happy_001.bvh")
    assert len(path.read_text().splitlines()[-1].split()) == 6 * 22
    agree(motion, load("bvh", tmp_path))


# --- the source


def spec(folder: Path, text: str) -> HumanMotion:
    (folder / "a.motion.json").write_text(text)
    return load("synthetic", folder)


def test_a_tiny_file_is_a_motion(tmp_path):
    found = spec(tmp_path, json.dumps({"kind": "kick", "seed": 7, "seconds": 2, "height": 1.8}))
    assert np.array_equal(found.position, human_motion("kick", seed=7, seconds=2.0, height=1.8).position)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "truncated"), ("[]", "wrong_shape"), ("{}", "missing_key"), ('{"kind": "fly"}', "not_motion"),
        ('{"kind": []}', "not_motion"), ('{"kind": "walk", "style": {}}', "not_motion"),
        ('{"kind": "walk", "seconds": 0}', "too_short"), ('{"kind": "walk", "seconds": 1e9}', "absurd_size"),
        ('{"kind": "walk", "seconds": NaN}', "wrong_shape"), ('{"kind": "walk", "height": 170}', "bad_unit"),
        ('{"kind": "walk", "seed": -1}', "wrong_shape"), ('{"kind": "walk", "fps": 0}', "bad_frame_rate"),
    ],
)  # fmt: skip
def test_a_bad_description_is_a_row(tmp_path, text, reason):
    with pytest.raises(Rejected) as caught:
        spec(tmp_path, text)
    assert caught.value.reason == reason


# --- the demo's folders


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> dict[str, Path]:
    return write_demo_data(tmp_path_factory.mktemp("demo"), seed=1, seconds=2.0, copies=1)


def test_every_demo_file_is_a_motion_or_a_reason(demo):
    reasons, good = {}, 0
    for source, root in demo.items():
        for clip in SOURCES[source].scan(root):
            try:
                SOURCES[source].load(root, clip, LoadOptions())
                good += 1
            except Rejected as rejected:
                reasons[clip.path.rsplit("/", 1)[-1]] = rejected.reason
    assert good >= 4 * len(KINDS)
    expected = {
        "nan_poses.npz": "not_finite", "one_frame_poses.npz": "too_short", "objects_poses.npz": "object_array",
        "cut_poses.npz": "truncated", "ten_gigabytes_poses.npz": "absurd_size", "robot_stageii.npz": "not_human",
        "notes.txt": "not_motion", "link_poses.npz": "outside_source", "no_rate_poses.npz": "bad_frame_rate",
        "cut1_subject9.bvh": "truncated", "short1_subject9.bvh": "truncated",
        "twice1_subject9.bvh": "joint_named_twice", "norate1_subject9.bvh": "bad_frame_rate",
        "empty1_subject9.bvh": "empty_file", "all_zero.npy": "all_zero_pose",
        "columns_300.npy": "wrong_shape", "one_frame.npy": "too_short", "cut.npy": "truncated",
        "camera_space.npy": "camera_space", "columns_64_chunk_0000.npy": "wrong_shape",
        "infinite_chunk_0000.npy": "not_finite", "hostile_chunk_0000.npy": "unsafe_pickle",
        "h1_2_chunk_0000.npy": "not_g1",
    }  # fmt: skip
    assert reasons == expected
    assert not list(demo["phuma"].rglob(HOSTILE_MARK)), "the pickle ran"


def test_the_demo_writes_the_same_bytes_again(demo, tmp_path):
    def digests(roots: dict[str, Path]) -> dict[str, str]:
        found = {}
        for name, root in roots.items():
            for path in root.rglob("*"):
                if path.is_file() and "hostile" not in path.name:  # it names its own folder
                    found[f"{name}/{path.relative_to(root)}"] = hashlib.sha256(path.read_bytes()).hexdigest()
        return found

    assert digests(write_demo_data(tmp_path, seed=1, seconds=2.0, copies=1)) == digests(demo)
    assert synthetic.write_demo_data is write_demo_data
