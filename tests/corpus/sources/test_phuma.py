"""PHUMA: chunks of one recording, human poses of three widths, and robot poses that are unpickled without being run."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus import rotations
from corpus.body_model import MEAN_PELVIS, mean_body
from corpus.errors import Rejected
from corpus.g1 import G1, JOINTS_23
from corpus.motion import Clip, HumanMotion, RobotMotion
from corpus.sources import motionx, phuma
from corpus.sources.options import LoadOptions
from corpus.sources.synthetic_files import write_phuma_human, write_phuma_robot
from corpus.sources.synthetic_moves import human_motion, robot_motion

T = 40


def rows(
    columns: int = 69, *, turn: tuple[float, float, float] = (0, 0, 0), pelvis: tuple[float, ...] = (0, 0.954, 0)
) -> np.ndarray:
    """Somebody who stands in a y-up world and swings an arm."""
    table = np.zeros((T, columns), np.float32)
    table[:, :3], table[:, 3:6] = np.array(pelvis) - MEAN_PELVIS["smplx"], turn
    table[:, 3 + 3 * 16 + 2] = np.sin(np.arange(T) / 10)
    return table


def robot(joint_count: int = 29, **changes: Any) -> dict[str, Any]:
    """A robot that stands and turns about the vertical."""
    file = {
        "root_trans": np.tile([0, 0, 0.79], (T, 1)),
        "root_ori": np.roll(rotations.about_z(np.linspace(0, 1, T)), -1, axis=1),
        "dof_pos": np.random.default_rng(0).uniform(0, 0.1, (T, joint_count)).astype(np.float32),
        "fps": 30,
    }
    return {key: value for key, value in (file | changes).items() if value is not None}


def save(root: Path, content: Any, name: str = "clip.npy") -> str:
    if isinstance(content, dict):
        holder = np.empty((), object)
        holder[()] = content
        content = holder
    np.save(root / name, content, allow_pickle=True)
    return name


def read(root: Path, content: Any = None, *, options: LoadOptions = LoadOptions(), name: str = "clip.npy") -> Any:
    if content is not None:
        save(root, content, name)
    return phuma.load(root, Clip("phuma", name, ""), options)


def reason(root: Path, content: Any = None, **given: Any) -> str:
    with pytest.raises(Rejected) as caught:
        read(root, content, **given)
    return caught.value.reason


# --- names


def test_chunks_share_the_recording_they_were_cut_from(tmp_path):
    paths = write_phuma_human(human_motion("walk", seconds=9.0, fps=30.0), tmp_path / "aist", "a_dance")
    assert [path.name for path in paths] == [f"a_dance_chunk_000{i}.npy" for i in range(3)]
    clips = list(phuma.scan(tmp_path))
    assert [clip.path for clip in clips] == [f"aist/{path.name}" for path in paths]
    assert {(clip.recording, clip.label) for clip in clips} == {("a_dance", "a dance")}
    assert all("PHUMA" in clip.licence and "sources' licences" in clip.licence for clip in clips)


def test_lists_and_the_like_are_refused_by_name(tmp_path):
    (tmp_path / "phuma_test.txt").write_text("a\n")
    (clip,) = phuma.scan(tmp_path)
    with pytest.raises(Rejected) as caught:
        phuma.load(tmp_path, clip, LoadOptions())
    assert caught.value.reason == "not_motion"


# --- people


@pytest.mark.parametrize("contact", [False, True])
@pytest.mark.parametrize("kind", ["walk", "kick", "lie"])
def test_a_written_motion_comes_back_in_chunks(tmp_path, kind, contact):
    motion = human_motion(kind, seconds=6.0, fps=30.0)
    paths = write_phuma_human(motion, tmp_path, "take", contact=contact)
    chunks = [read(tmp_path, name=path.name) for path in paths]
    assert all(isinstance(chunk, HumanMotion) and chunk.fps == 30.0 for chunk in chunks)
    position = np.concatenate([chunk.position for chunk in chunks])
    assert {chunk.body_model for chunk in chunks} == {"mean"}
    assert np.abs(position - motion.position).max() < 1e-5


@pytest.mark.data
def test_the_real_file_is_motionxs_file_of_the_same_take(shared):
    kick = read(shared / "phuma", name="kick.npy")
    assert kick.frame_count == 146 and kick.fps == 30.0
    other = motionx.load(shared / "motionx_made", Clip("motionx", "kick_from_phuma_322.npy", ""), LoadOptions())
    assert np.abs(kick.position - other.position).max() < 1e-5
    feet = kick.position[:, [kick.skeleton.index(f"{side}_foot") for side in ("left", "right")], 2]
    assert -0.02 < np.median(feet.min(1)) < 0.06


def test_betas_stand_in_the_last_ten_of_79_columns(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(phuma, "body", lambda *args: asked.append(args) or mean_body())
    options = LoadOptions(body_models=tmp_path)
    table = rows(79)
    table[:, 69:] = np.arange(10)
    for content in (table, table[:, :69], table[:, :73]):
        read(tmp_path, content, options=options)
    assert [args[0].tolist() for args in asked] == [list(range(10)), [0] * 10, [0] * 10]
    assert all(args[1:] == ("neutral", "smplx", tmp_path) for args in asked)


def test_the_rate_is_30_unless_the_user_or_the_file_says_otherwise(tmp_path):
    options = LoadOptions(fps=60.0)
    assert read(tmp_path, rows()).fps == 30.0 and read(tmp_path, rows(), options=options).fps == 60.0
    assert read(tmp_path, robot(fps=None)).fps == 30.0 and read(tmp_path, robot(fps=None), options=options).fps == 60.0
    assert read(tmp_path, robot(fps=25), options=options).fps == 25.0


@pytest.mark.parametrize(("content", "expected"), [
    *[(rows(columns), "wrong_shape") for columns in (66, 68, 70, 72, 78, 80, 156)],
    (rows()[None], "wrong_shape"),
    (rows().astype(int), "wrong_shape"),
    (rows()[:1], "too_short"),
    (rows()[:0], "too_short"),
    (np.where(rows() == 0, np.float32(np.nan), rows()), "not_finite"),
    (np.where(np.arange(69) < 3, rows(), np.float32(0)), "all_zero_pose"),
    (rows(turn=(np.pi, 0, 0), pelvis=(0, -0.9, 0)), "wrong_axis"),
    (rows(turn=(np.pi / 2, 0, 0), pelvis=(0.3, 0.5, 0.954)), "wrong_axis"),
])  # fmt: skip
def test_tables_that_are_no_motion_are_refused(tmp_path, content, expected):
    assert reason(tmp_path, content) == expected


# --- robots


def test_a_written_robot_comes_back(tmp_path):
    motion = robot_motion(seed=1, fps=30.0)
    write_phuma_robot(motion, tmp_path / "clip.npy")
    got = read(tmp_path)
    assert isinstance(got, RobotMotion) and got.fps == 30.0 and got.note == ""
    assert np.abs(got.qpos - motion.qpos).max() < 1e-6


def test_quaternions_are_turned_from_xyzw(tmp_path):
    got = read(tmp_path, robot())
    assert np.abs(rotations.heading(got.root_rotation) - np.linspace(0, 1, T)).max() < 1e-6


def test_23_joints_are_lifted_to_29_with_still_wrists_and_the_clip_says_so(tmp_path):
    got, joints = read(tmp_path, robot(23)), robot(23)["dof_pos"]
    assert got.qpos.shape == (T, 36) and "lifted" in got.note and "23" in got.note
    assert np.array_equal(got.joint_position[:, list(JOINTS_23)], joints)
    wrists = [i for i in range(G1.joint_count) if i not in JOINTS_23]
    assert [G1.joint_names[i] for i in wrists] == [n for n in G1.joint_names if "wrist" in n]
    assert not got.joint_position[:, wrists].any()


@pytest.mark.parametrize(("content", "expected"), [
    (robot(27), "not_g1"),
    (robot(fps=0), "bad_frame_rate"),
    (robot(fps=1e9), "bad_frame_rate"),
    (robot(fps="thirty"), "bad_frame_rate"),
    (robot(root_trans=None), "missing_key"),
    (robot(root_ori=None), "missing_key"),
    (robot(dof_pos=None), "missing_key"),
    (robot(dof_pos="none"), "wrong_shape"),
    (robot(dof_pos=np.full((T, 29), np.nan)), "not_finite"),
    (robot(root_trans=np.zeros((T - 1, 3))), "wrong_shape"),
    (robot(root_ori=np.roll(robot()["root_ori"], 1, axis=1)), "not_upright"),
    (np.array([robot(), robot()], dtype=object), "wrong_shape"),
    (np.array("text", dtype=object), "wrong_shape"),
])  # fmt: skip
def test_robots_that_are_no_motion_are_refused(tmp_path, content, expected):
    assert reason(tmp_path, content) == expected


class Payload:
    """Would make a folder if it were unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def test_a_robot_file_that_would_run_code_does_not_run(tmp_path):
    for i, extra in enumerate((Payload(tmp_path / "victim"), [Payload(tmp_path / "victim")])):
        name = save(tmp_path, robot(extra=extra), f"{i}.npy")
        with pytest.raises(Rejected) as caught:
            read(tmp_path, name=name)
        assert caught.value.reason == "unsafe_pickle" and "mkdir" in str(caught.value.numbers["name"])
    assert not (tmp_path / "victim").exists()
    np.load(tmp_path / "0.npy", allow_pickle=True)  # as NumPy itself would have
    assert (tmp_path / "victim").exists()


@pytest.mark.data
def test_another_robot_is_refused(shared):
    """An H1-2, in a pickled npy as PHUMA's are."""
    assert reason(shared / "g1_formats/uh1", name="h12_example.npy") in ("missing_key", "not_g1")


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "clip.npy"
    save(path.parent, data.draw(st.sampled_from([rows()[:3], {**robot(), "root_trans": np.zeros((2, 3))}])))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1) | st.integers(0, 400))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content[: data.draw(st.integers(1, len(content)) | st.just(len(content)))]))
    try:
        with np.errstate(all="ignore"):
            read(path.parent)
    except Rejected as rejected:
        assert rejected.reason


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_dictionary_of_anything_is_read_or_refused(tmp_path_factory, data):
    values = st.recursive(
        st.none()
        | st.integers()
        | st.floats()
        | st.text(max_size=3)
        | st.sampled_from([np.zeros((2, 3)), np.ones((2, 29))]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
        max_leaves=4,
    )
    changes = data.draw(st.dictionaries(st.sampled_from(["root_trans", "root_ori", "dof_pos", "fps"]), values))
    file = {**robot(), **changes}
    root = tmp_path_factory.getbasetemp()
    holder = np.lib.format.magic(1, 0)
    (root / "clip.npy").write_bytes(holder)
    with (root / "clip.npy").open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, {"descr": "|O", "fortran_order": False, "shape": ()})
        pickle.dump(file, stream)
    try:
        read(root)
    except Rejected as rejected:
        assert rejected.reason
