"""LAFAN1: kinematics against the published joint positions, takes told by their names, what is no such take refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from corpus import rotations
from corpus.errors import Rejected
from corpus.motion import Clip, HumanMotion
from corpus.sources import lafan1
from corpus.sources.options import LoadOptions
from corpus.sources.synthetic import human_motion
from corpus.sources.synthetic_files import write_bandai, write_lafan1
from corpus.sources.synthetic_layouts import on_layout

TAKE = "dance1_subject1__f0_1800.bvh"


def load(path: Path) -> HumanMotion:
    return lafan1.load(path.parent, Clip("lafan1", path.name, ""), LoadOptions())


def reason(path: Path) -> str:
    with pytest.raises(Rejected) as rejected:
        load(path)
    return rejected.value.reason


@pytest.fixture(scope="module")
def walk() -> HumanMotion:
    return on_layout(human_motion("walk", seed=5, seconds=1.5, fps=30.0), "lafan1")


@pytest.fixture
def take(tmp_path, walk) -> Path:
    return write_lafan1(walk, tmp_path / "walk1_subject1.bvh")


@pytest.mark.data
def test_kinematics_equal_the_ground_truth(shared):
    motion = load(shared / "lafan1_bvh" / TAKE)
    truth = np.load(shared / "lafan1_jointpos" / "dance1_subject1.npy")[:1800]
    z_up = np.stack([truth[..., 0], -truth[..., 2], truth[..., 1]], -1)
    assert np.abs(motion.position - z_up).max() < 1e-9
    assert motion.fps == 30.0
    assert motion.skeleton.name == "lafan1"


@pytest.mark.data
def test_bones_keep_their_length_and_turn_with_their_joint(shared):
    motion = load(shared / "lafan1_bvh" / TAKE)
    for joint, parent in enumerate(motion.skeleton.parents[1:], start=1):
        bone = motion.position[:, joint] - motion.position[:, parent]
        local = rotations.rotate(rotations.conjugate(motion.rotation[:, parent]), bone)
        assert np.abs(local - motion.skeleton.offsets[joint]).max() < 1e-9


@pytest.mark.data
def test_every_shared_take_is_upright_or_on_the_floor_in_metres(shared):
    clips = [clip for clip in lafan1.scan(shared / "lafan1_bvh") if clip.path.endswith(".bvh")]
    assert len(clips) == 4
    for clip in clips:
        motion = lafan1.load(shared / "lafan1_bvh", clip, LoadOptions())
        assert -0.15 < motion.position[..., 2].min() < 0.15
        assert 1.2 < motion.position[..., 2].max() < 2.5


def test_a_written_motion_comes_back(take, walk):
    motion = load(take)
    assert motion.skeleton.joint_names == walk.skeleton.joint_names
    assert np.abs(motion.position - walk.position).max() < 1e-5
    assert np.abs(np.abs((motion.rotation * walk.rotation).sum(-1)) - 1).max() < 1e-8
    assert np.allclose(motion.skeleton.offsets, walk.skeleton.offsets, atol=1e-6)
    assert (motion.fps, motion.body_model, motion.note) == (30.0, "file", "")


@pytest.mark.parametrize(
    "change", [("LeftToe", "LeftToeBase"), ("JOINT ", "JOINT actor:"), ("\n", "\r\n"), (" ", "  "), (" ", "\t")]
)
def test_copies_in_use_read_the_same(take, change):
    before = load(take)
    take.write_bytes(
        take.read_bytes().replace(change[0].encode(), change[1].encode()).replace(b"Frame\tTime", b"Frame Time")
    )
    take.write_bytes(take.read_bytes().replace(b"Frame  Time", b"Frame Time").replace(b"End  Site", b"End Site"))
    after = load(take)
    assert after.skeleton.joint_names == before.skeleton.joint_names
    assert np.array_equal(after.position, before.position)


def test_a_take_shares_its_recording_with_its_parts(tmp_path):
    for name in ("walk1_subject1", "walk1_subject1__f0_1800", "fallAndGetUp3_subject12__f150_1950", "myOwn"):
        (tmp_path / f"{name}.bvh").touch()
    (tmp_path / "README.md").touch()
    told = {clip.path: (clip.recording, clip.label, clip.subject) for clip in lafan1.scan(tmp_path)}
    assert told == {
        "README.md": ("README", "", ""),
        "walk1_subject1.bvh": ("walk1_subject1", "walk", "subject1"),
        "walk1_subject1__f0_1800.bvh": ("walk1_subject1", "walk", "subject1"),
        "fallAndGetUp3_subject12__f150_1950.bvh": ("fallAndGetUp3_subject12", "fallAndGetUp", "subject12"),
        "myOwn.bvh": ("myOwn", "", ""),
    }
    assert {clip.licence for clip in lafan1.scan(tmp_path)} == {"CC BY-NC-ND 4.0"}


def test_obstacle_takes_need_terrain(take):
    assert reason(take.rename(take.with_name("obstacles3_subject4.bvh"))) == "needs_terrain"


def test_other_skeletons_and_files_are_refused_by_name(tmp_path, take):
    other = write_bandai(on_layout(human_motion("reach", seconds=1.0, fps=30.0), "bandai"), tmp_path / "other.bvh")
    assert reason(other) == "unknown_skeleton"
    assert reason(take.rename(take.with_suffix(".txt"))) == "not_motion"


@pytest.mark.parametrize(("unit", "factor"), [("m", 0.01), ("inch", 1 / 2.54), ("mm", 10.0)])
def test_a_copy_in_another_unit_is_the_same_person(tmp_path, take, walk, unit, factor):
    lines = take.read_text().split("\n")
    start = lines.index("MOTION") + 3
    for i, line in enumerate(lines):
        words = line.split()
        count = 3 if i >= start and words else 0
        if words and words[0] == "OFFSET":
            lines[i] = "OFFSET " + " ".join(f"{float(word) * factor:.9f}" for word in words[1:])
        elif count:
            lines[i] = " ".join([f"{float(word) * factor:.9f}" for word in words[:count]] + words[count:])
    (tmp_path / f"{unit}.bvh").write_text("\n".join(lines))
    assert np.abs(load(tmp_path / f"{unit}.bvh").position - walk.position).max() < 1e-4
