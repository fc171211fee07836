"""Motion-X: columns and named keys, labels in another tree, files that sink, and files in a camera's frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus import rotations
from corpus.body_model import MEAN_PELVIS
from corpus.errors import Rejected
from corpus.motion import Clip, HumanMotion
from corpus.sources import amass, motionx
from corpus.sources.options import LoadOptions
from corpus.sources.synthetic_files import write_amass_smplx, write_motionx
from corpus.sources.synthetic_moves import KINDS, human_motion

T = 40


def rows(
    *, height: float = 0.954, turn: tuple[float, float, float] = (0, 0, 0), at: tuple[float, float] = (0, 0)
) -> np.ndarray:
    """Somebody who stands in a y-up world and swings an arm."""
    table = np.zeros((T, 322), np.float32)
    table[:, :3] = turn
    table[:, 3 * 16 + 2] = np.sin(np.arange(T) / 10)
    table[:, 309:312] = np.array([at[0], height, at[1]]) - MEAN_PELVIS["smplx"]
    return table


def read(root: Path, table: Any = None, *, name: str = "clip.npy", options: LoadOptions = LoadOptions()) -> HumanMotion:
    if table is not None:
        np.save(root / name, table)
    return motionx.load(root, Clip("motionx", name, ""), options)


def reason(root: Path, table: Any = None, **given: Any) -> str:
    with pytest.raises(Rejected) as caught:
        read(root, table, **given)
    return caught.value.reason


def keys(table: np.ndarray) -> dict[str, Any]:
    return {
        "root_orient": table[:, :3],
        "pose_body": table[:, 3:66],
        "trans": table[:, 309:312],
        "betas": table[:, 312:],
    }


# --- what is written comes back


@pytest.mark.parametrize("kind", KINDS)
def test_a_written_motion_comes_back(tmp_path, kind):
    motion = human_motion(kind, seconds=4.0, fps=30.0)
    write_motionx(motion, tmp_path / "clip.npy")
    got = read(tmp_path)
    assert got.fps == 30.0 and got.note == "" and got.body_model == "mean"
    assert np.abs(got.position - motion.position).max() < 1e-5
    turn = rotations.multiply(got.rotation, rotations.conjugate(motion.rotation))
    assert np.linalg.norm(rotations.to_rotation_vector(turn), axis=2).max() < 1e-4


def test_named_keys_read_as_columns_do(tmp_path):
    table = rows(height=0.96, turn=(0.0, 0.4, 0.1))
    np.savez(tmp_path / "a.npz", **keys(table))
    np.savez(tmp_path / "b.npz", poses=np.concatenate([table[:, :66], np.zeros((T, 99))], 1), trans=table[:, 309:312])
    expected = read(tmp_path, table)
    for name in ("a.npz", "b.npz"):
        got = read(tmp_path, name=name)
        assert got.fps == 30.0 and np.abs(got.position - expected.position).max() < 1e-6


def test_the_rate_is_30_unless_the_user_or_an_npz_says_otherwise(tmp_path):
    options = LoadOptions(fps=60.0)
    assert read(tmp_path, rows()).fps == 30.0
    assert read(tmp_path, rows(), options=options).fps == 60.0
    np.savez(tmp_path / "a.npz", **keys(rows()), mocap_frame_rate=20)
    assert read(tmp_path, name="a.npz", options=options).fps == 20.0


@pytest.mark.data
def test_the_same_take_from_amass_and_motionx_is_the_same_motion(shared):
    take = amass.load(shared / "amass_smplx", Clip("amass", "CMU_UH1example_stageii.npz", ""), LoadOptions())
    got = read(shared / "motionx_made", name="CMU_UH1example_322.npy")
    assert take.fps == 4 * got.fps and take.body_model == got.body_model and got.note == ""
    assert np.abs(take.position[::4] - got.position).max() < 1e-4
    turn = rotations.multiply(take.rotation[::4], rotations.conjugate(got.rotation))
    assert np.linalg.norm(rotations.to_rotation_vector(turn), axis=2).max() < 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_amass_and_motionx_files_of_any_take_agree(tmp_path, kind):
    motion = human_motion(kind, seed=3, seconds=3.0, fps=30.0)
    write_amass_smplx(motion, tmp_path / "a_stageii.npz")
    write_motionx(motion, tmp_path / "clip.npy")
    one, other = amass.load(tmp_path, Clip("amass", "a_stageii.npz", ""), LoadOptions()), read(tmp_path)
    assert np.abs(one.position - other.position).max() < 1e-4


# --- files that sink


@pytest.mark.data
def test_the_sinking_twin_of_a_real_take_is_raised_to_where_it_belongs(shared):
    right, sunk = (read(shared / "motionx_made", name=f"CMU_UH1example_322{end}.npy") for end in ("", "_naive"))
    assert "raised by 0.36 m" in sunk.note
    assert np.abs(right.position - sunk.position).max() < 1e-4


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("kind", KINDS)
def test_any_sinking_take_is_raised_to_where_it_belongs(tmp_path, kind, suffix):
    motion = human_motion(kind, seed=2, seconds=5.0, fps=30.0)
    write_motionx(motion, tmp_path / "clip.npy", sunk=True)
    if suffix == ".npz":
        np.savez(tmp_path / "clip.npz", **keys(np.load(tmp_path / "clip.npy")))
    got = read(tmp_path, name=f"clip{suffix}")
    assert "pelvis offset was missing" in got.note
    assert np.abs(got.position - motion.position).max() < 1e-5


@pytest.mark.parametrize("gap", [-0.1, -0.05, 0.05, 0.1, 0.3])
def test_a_floor_that_is_a_little_off_is_left_alone(tmp_path, gap):
    assert read(tmp_path, rows(height=0.954 + gap)).note == ""


# --- other worlds


@pytest.mark.parametrize(("table", "expected"), [
    (rows(turn=(np.pi, 0, 0), height=0.2, at=(0.3, 3.0)), "camera_space"),  # y points down
    (rows(turn=(np.pi, 0, 0), height=-0.9), "camera_space"),
    (rows(height=0.1, at=(0, 4.0)), "camera_space"),  # upright, a metre below the floor
    (rows(height=2.5), "camera_space"),
    (rows(turn=(np.pi / 2, 0, 0), height=0.4, at=(0.2, 0.954)), "wrong_axis"),  # z is up already
])  # fmt: skip
def test_worlds_without_our_floor_are_refused(tmp_path, table, expected):
    assert reason(tmp_path, table) == expected


def test_a_file_written_z_up_is_refused(tmp_path):
    motion = human_motion("turn", seconds=4.0, fps=30.0)
    file = np.load(write_amass_smplx(motion, tmp_path / "a.npz"))
    table = np.zeros((motion.frame_count, 322), np.float32)
    table[:, :66], table[:, 309:312] = file["poses"][:, :66], file["trans"]
    assert reason(tmp_path, table) == "wrong_axis"


def test_whoever_lies_on_the_floor_is_not_refused(tmp_path):
    for turn in ((-np.pi / 2, 0, 0), (np.pi / 2, 0, 0)):
        got = read(tmp_path, rows(turn=turn, height=0.12, at=(0.1, 0.93)))
        assert np.ptp(got.position[0, :, 2]) < 0.35


@pytest.mark.parametrize(("table", "expected"), [
    (np.zeros((T, 322), np.float32), "all_zero_pose"),
    (np.where(np.arange(322) >= 309, rows(), np.float32(0)), "all_zero_pose"),
    (rows()[:, :321], "wrong_shape"),
    (rows()[0], "wrong_shape"),
    (rows().astype(int), "wrong_shape"),
    (rows()[:1], "too_short"),
    (rows()[:0], "too_short"),
    (np.where(rows() == 0, np.float32(np.inf), rows()), "not_finite"),
])  # fmt: skip
def test_tables_that_are_no_motion_are_refused(tmp_path, table, expected):
    assert reason(tmp_path, table) == expected


def test_one_bad_frame_is_counted(tmp_path):
    table = rows()
    table[7, 5] = np.nan
    with pytest.raises(Rejected) as caught:
        read(tmp_path, table)
    assert caught.value.reason == "not_finite" and caught.value.numbers == {"bad_frames": 1}


def test_pickled_rows_are_refused(tmp_path):
    np.save(tmp_path / "clip.npy", np.array({"poses": rows()}, dtype=object), allow_pickle=True)
    assert reason(tmp_path) == "object_array"


def test_an_npz_of_unknown_keys_is_refused_by_name(tmp_path):
    np.savez(tmp_path / "a.npz", motion=rows())
    with pytest.raises(Rejected, match="has: motion") as caught:
        read(tmp_path, name="a.npz")
    assert caught.value.reason == "missing_key"


# --- names and labels


def tree(root: Path, files: dict[str, str]) -> dict[str, Clip]:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return {clip.path: clip for clip in motionx.scan(root)}


@pytest.mark.parametrize(("motion", "text"), [
    ("humanml/000012.npy", "humanml/000012.txt"),
    ("motion_data/smplx_322/humanml/000012.npy", "texts/semantic_label/humanml/000012.txt"),
    ("motion/smplx_322/humanml/000012.NPY", "text/humanml/000012.txt"),
    ("a/motion_data/humanml/000012.npz", "a/texts/humanml/000012.TXT"),
])  # fmt: skip
def test_a_text_beside_a_motion_or_in_the_sibling_tree_is_its_label(tmp_path, motion, text):
    clips = tree(tmp_path, {motion: "x", text: "a man waves\nwith the left hand\n"})
    assert list(clips) == [motion]
    assert clips[motion].label == "a man waves with the left hand"
    assert clips[motion].recording.removeprefix("a/") == "humanml/000012"
    assert clips[motion].licence == "Motion-X non-commercial"


def test_texts_of_no_motion_stand_for_themselves_and_say_why_they_are_none(tmp_path):
    clips = tree(tmp_path, {"motion_data/a/1.npy": "x", "texts/b/1.txt": "other take", "README.md": "hello"})
    assert set(clips) == {"motion_data/a/1.npy", "texts/b/1.txt", "README.md"}
    assert clips["motion_data/a/1.npy"].label == "1"
    for name in ("texts/b/1.txt", "README.md"):
        with pytest.raises(Rejected) as caught:
            motionx.load(tmp_path, clips[name], LoadOptions())
        assert caught.value.reason == "not_motion"


def test_a_label_that_leads_out_of_the_folder_is_not_read(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "in" / "take_one.npy").write_text("x")
    (tmp_path / "in" / "take_one.txt").symlink_to(tmp_path / "secret.txt")
    (clip,) = motionx.scan(tmp_path / "in")
    assert clip.label == "take one"


def test_a_label_in_another_encoding_is_still_text(tmp_path):
    (tmp_path / "a.npy").write_bytes(b"x")
    (tmp_path / "a.txt").write_bytes(b"caf\xe9 \x00" + b"x" * 5000)
    (clip,) = motionx.scan(tmp_path)
    assert clip.label.startswith("caf") and len(clip.label) <= 500
    clip.label.encode("utf-8")


# --- chance damage


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused(tmp_path_factory, data):
    """Bytes of the header or of a few numbers changed, or the end cut off."""
    path = tmp_path_factory.getbasetemp() / "damaged.npy"
    np.save(path, rows()[:4])
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1) | st.integers(0, 127))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content[: data.draw(st.integers(1, len(content)) | st.just(len(content)))]))
    try:
        with np.errstate(all="ignore"):
            read(path.parent, name=path.name)
    except Rejected as rejected:
        assert rejected.reason
