"""One file in, one file out, and what a corpus build would make of it: the very same frames."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest

from corpus.catalog import Corpus
from corpus.errors import MotionloomError
from corpus.exports.csv import write_csv
from corpus.motion import RobotMotion
from corpus.sources import robot_files, synthetic_files
from corpus.sources.options import LoadOptions
from corpus.sources.synthetic_layouts import on_layout
from corpus.sources.synthetic_moves import human_motion, robot_motion
from pipelines import cli, one_file
from pipelines.build import build
from pipelines.one_file import read_file, retarget_file, verdicts
from pipelines.recipe import Recipe, with_choice

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def walk(tmp_path_factory) -> Path:
    """A made-up take of LAFAN1, long enough for two segments."""
    motion = on_layout(human_motion("walk", seed=3, seconds=14.0, fps=30.0), "lafan1")
    return synthetic_files.write_lafan1(motion, tmp_path_factory.mktemp("lafan1") / "walk1_subject1.bvh")


@pytest.fixture
def short(tmp_path) -> Path:
    folder = tmp_path / "in"
    return synthetic_files.write_amass_smplh(human_motion("reach", seed=1, seconds=2.0), folder / "reach_poses.npz")


@pytest.fixture
def library(tmp_path) -> Path:
    """A pickle with two motions by name."""
    motions = {}
    for name, seed in (("bend", 1), ("sway", 2)):
        motion = robot_motion(seed=seed, seconds=2.0)
        turned = np.roll(motion.root_rotation, -1, axis=1)
        motions[name] = {"root_pos": motion.root_position, "root_rot": turned, "dof": motion.joint_position, "fps": 50}
    path = tmp_path / "two.pkl"
    path.write_bytes(pickle.dumps(motions))
    return path


def read_robot(path: Path) -> RobotMotion:
    """What the robot's reader makes of a file."""
    (clip,) = (c for c in robot_files.scan(path.parent) if c.path == path.name)
    return robot_files.load(path.parent, clip, LoadOptions())


def loom(*arguments: object) -> int:
    return cli.main(["retarget", *map(str, arguments)])


# --- what comes out


def test_measures_frame_by_frame_are_what_the_segments_sum_up(walk, tmp_path):
    done = retarget_file(walk, tmp_path / "a.csv", frames=tmp_path / "a.parquet")
    table = pl.read_parquet(tmp_path / "a.parquet")
    assert done.motion is not None and len(table) == done.motion.frame_count
    assert table["time"].diff().drop_nulls().to_numpy() == pytest.approx(0.02)
    first = done.segments[0]
    own = table[first["start"] : first["start"] + first["frames"]]
    assert own["position_error"].mean() == pytest.approx(first["position_error"], rel=1e-4)
    assert own["torque_use"].quantile(0.99, "nearest") == pytest.approx(first["torque_use"], rel=1e-3)
    assert (own["contact"] == own.select(pl.max_horizontal(pl.col("^contact_(left|right)_.*$"))).to_series()).all()
    # Feet that were asked to be held are nearer to their targets than elbows of other arms' lengths.
    assert own["position_error_left_ankle"].mean() < 0.05
    assert 0 < own["orientation_error_chest"].mean() < 0.3


def test_robot_motion_has_no_errors_by_body(tmp_path):
    write_csv(robot_motion(seconds=2.0), tmp_path / "in.csv")
    retarget_file(tmp_path / "in.csv", tmp_path / "a.csv", frames=tmp_path / "a.parquet")
    table = pl.read_parquet(tmp_path / "a.parquet")
    assert "position_error_chest" not in table.columns and table["position_error"].is_nan().all()


@pytest.mark.parametrize("name", ["a.csv", "nowhere/a.parquet"])
def test_frames_go_to_a_parquet_file_in_a_folder_there_is(walk, tmp_path, name):
    with pytest.raises(MotionloomError, match="NAME"):
        retarget_file(walk, tmp_path / "b.csv", frames=tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.csv", "a.npz"])
def test_what_is_written_reads_back(walk, tmp_path, name):
    done = retarget_file(walk, tmp_path / name)
    found = read_robot(tmp_path / name)
    assert done.motion is not None and found.fps == 50.0
    assert np.abs(found.qpos - done.motion.qpos).max() < 1e-6


def test_the_frames_are_those_of_a_corpus_build(walk, tmp_path):
    short_segments = with_choice(Recipe(), "cut.target_s", "3")
    done = retarget_file(walk, tmp_path / "a.csv", short_segments)
    assert done.motion is not None and done.motion.contact is not None
    build({"lafan1": walk.parent}, tmp_path / "corpus", short_segments, scheduler="inline")
    corpus = Corpus.open(tmp_path / "corpus")
    kept = corpus.segments.select("start", "frames", "status").collect().rows()
    assert kept == [(v.start, v.stop - v.start, v.status) for v in verdicts(done)] and len(kept) > 1
    for number, (start, frames, _) in enumerate(kept):
        stored = corpus.motion(number)
        assert np.array_equal(stored.qpos, done.motion.qpos[start : start + frames])
        assert np.array_equal(stored.contact, done.motion.contact[start : start + frames])


def test_motion_of_the_robot_is_brought_to_the_corpus_rate(tmp_path, standing_file):
    standing_file(tmp_path / "in.csv", 1, seconds=3.0, fps=30.0)
    done = retarget_file(tmp_path / "in.csv", tmp_path / "out.npz", load=LoadOptions(fps=30.0))
    assert done.row["scale"] is None and done.motion is not None
    assert done.motion.frame_count == pytest.approx(150, abs=1)


def test_verdicts_tile_the_motion_and_say_why(walk, tmp_path):
    strict = with_choice(Recipe(), "gate.jerk_limit", "1e-6")
    told = verdicts(retarget_file(walk, tmp_path / "a.csv", strict))
    assert [v.start for v in told[1:]] == [v.stop for v in told[:-1]] and told[0].start == 0
    assert all(v.status == "rejected" and v.why.startswith("jerk (limit 1e-06, value ") for v in told)


def test_what_is_cut_away_has_its_reason(short, tmp_path):
    done = retarget_file(short, tmp_path / "a.csv", with_choice(Recipe(), "cut.min_s", "5"))
    assert [(v.start, v.status, v.why) for v in verdicts(done)] == [(0, "cut", "too_short")]


# --- who reads it


def test_of_sources_that_read_the_same_the_first_wins_as_in_a_build(walk):
    assert read_file(walk, LoadOptions()).row["source"] == "lafan1"
    assert read_file(walk, LoadOptions(), name="bvh").row["source"] == "bvh"


def test_sources_that_read_it_differently_are_named(tmp_path):
    """Lying, nothing tells z up from y up: AMASS and Motion-X, whose keys are the same, both take it."""
    lying = synthetic_files.write_amass_smplx(human_motion("lie", seed=101, seconds=6.0), tmp_path / "lie_stageii.npz")
    with pytest.raises(MotionloomError, match=r"amass, motionx read it, each in its own way; name one with --source"):
        read_file(lying, LoadOptions())
    assert read_file(lying, LoadOptions(), name="amass").row["source"] == "amass"


def test_a_skeleton_file_asks_for_the_bvh_reader(tmp_path):
    from corpus.sources.bvh_file import read_bvh
    from corpus.sources.bvh_skeleton import roles_by_name

    standing = on_layout(human_motion("reach", seed=1, seconds=2.0), "lafan1")
    path = synthetic_files.write_lafan1(standing, tmp_path / "reach1_subject1.bvh")
    file = read_bvh(path)
    roles = "\n".join(f'{role} = "{joint}"' for role, joint in roles_by_name(file.joint_names, file.parents).items())
    own = tmp_path / "own.toml"
    own.write_text(f"rest = 0\n[roles]\n{roles}\n")
    assert read_file(path, LoadOptions(skeleton=own)).row["note"].startswith("roles by skeleton file")


def test_neighbours_are_not_looked_at(walk, tmp_path, monkeypatch):
    """The file may lie in a folder of millions."""
    copy = tmp_path / walk.name
    copy.write_bytes(walk.read_bytes())
    (tmp_path / "beside.pkl").write_bytes(b"")

    def listed(folder):
        raise AssertionError(f"{folder} was listed")

    monkeypatch.setattr(os, "scandir", listed)
    assert read_file(copy, LoadOptions()).row["subject"] == "subject1"


# --- parts


def test_of_several_motions_the_first_or_the_one_asked_for(library, tmp_path):
    first, second, none = (retarget_file(library, tmp_path / "a.csv", part=part) for part in ("bend", "sway", None))
    assert all(done.motion is not None for done in (first, second, none))
    assert np.array_equal(none.motion.qpos, first.motion.qpos)
    assert not np.array_equal(none.motion.qpos, second.motion.qpos)


def test_a_part_that_is_not_there_is_told_with_those_that_are(library, short, tmp_path, capsys):
    assert loom(library, "--out", tmp_path / "a.csv", "--part", "jump") == 1
    assert "has no part 'jump'. Known: bend, sway." in capsys.readouterr().err
    assert loom(short, "--out", tmp_path / "a.csv", "--part", "jump") == 1
    assert "Known: none, it is one motion." in capsys.readouterr().err


# --- the command


def test_the_command_tells_measures_with_units_and_the_verdict(walk, tmp_path, capsys):
    assert loom(walk, "--out", tmp_path / "a.csv") == 0
    told = capsys.readouterr().out
    assert "read as lafan1: 420 frames at 30 Hz" in told and "CC BY-NC-ND 4.0" in told
    assert "rad/s³" in told and "Robot's leg, of the person's" in told and f"wrote {tmp_path / 'a.csv'}" in told
    assert "kept" in told


def test_choices_of_a_build_hold_here_too(walk, tmp_path, capsys):
    assert loom(walk, "--out", tmp_path / "a.csv", "--set", "gate.jerk_limit=1e-6") == 0
    words = capsys.readouterr().out.split()
    assert words[words.index("rejected") + 1 :][:3] == ["jerk", "(limit", "1e-06,"]


def test_a_broken_file_gives_its_reason_and_no_output(walk, tmp_path, capsys):
    broken = tmp_path / "in" / "cut1_subject9.bvh"
    broken.parent.mkdir()
    broken.write_bytes(walk.read_bytes()[:-3000])
    (tmp_path / "out").mkdir()
    assert loom(broken, "--out", tmp_path / "out" / "a.csv", "--view") == 1
    error = capsys.readouterr().err
    assert error.startswith(f"loom: {broken}: truncated (") and "[lafan1, bvh]" in error and error.count("\n") == 1
    assert list((tmp_path / "out").iterdir()) == []


def test_a_motion_that_cannot_be_retargeted_gives_its_reason_and_no_output(walk, tmp_path, capsys, monkeypatch):
    from retarget import retarget

    monkeypatch.setattr(retarget, "MAX_FRAMES", 10)
    (tmp_path / "out").mkdir()
    assert loom(walk, "--out", tmp_path / "out" / "a.csv") == 1
    assert "too_long (frames 420, maximum 10)" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["FILE", "--out", "a.txt"], "No writer for 'a.txt'. Known suffixes: .csv, .npz."),
        (["FILE", "--out", "a.csv", "--source", "amas"], "No source named 'amas'. Known: amass, bvh"),
        (["FILE", "--out", "none/a.csv"], "none is not a folder."),
        (["FILE", "--out", "FILE"], "would take the place of"),
        (["none.npz", "--out", "a.csv"], "none.npz is not a file."),
        (["notes.txt", "--out", "a.csv"], "known sources: amass, lafan1"),
        (["FILE", "--out", "a.csv", "--source", "lafan1"], "not_motion: lafan1 reads .bvh files [lafan1]"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_is_right(short, tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("recorded on a Tuesday")
    before = short.read_bytes()
    assert loom(*(short if word == "FILE" else word for word in arguments)) == 1
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1 and error.startswith("loom: ")
    assert short.read_bytes() == before and not (tmp_path / "a.csv").exists()


def test_the_json_beside_a_csv_does_not_take_the_files_place(tmp_path):
    path = tmp_path / "walk.motion.json"
    path.write_text('{"kind": "walk", "seed": 1, "seconds": 2}')
    with pytest.raises(MotionloomError, match="would take the place"):
        retarget_file(path, tmp_path / "walk.motion.csv")
    assert retarget_file(path, tmp_path / "walk.csv").row["source"] == "synthetic"


# --- looking at it


def test_view_draws_poses_with_contacts_beside_the_output(short, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(one_file, "has_display", lambda: False)
    assert loom(short, "--out", tmp_path / "a.csv", "--view") == 0
    assert f"wrote {tmp_path / 'a.svg'}" in capsys.readouterr().out
    picture = ElementTree.fromstring((tmp_path / "a.svg").read_text(encoding="utf-8"))
    poses = picture.findall(f"{SVG}g")
    assert len(poses) == one_file.POSE_COUNT
    assert any(line.get("class") == "contact" for pose in poses for line in pose.iter(f"{SVG}line"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "a.json", "a.svg", "in"]


def test_with_a_display_the_motion_is_played_until_the_window_closes(short, tmp_path, monkeypatch):
    shown = []

    class Viewer:
        def __init__(self, model, data):
            self.data = data

        def __enter__(self):
            return self

        def __exit__(self, *_):
            shown.append("closed")

        def is_running(self) -> bool:
            return len(shown) < 3

        def sync(self) -> None:
            shown.append(self.data.qpos.copy())

    import mujoco

    viewer = SimpleNamespace(launch_passive=Viewer)
    monkeypatch.setitem(sys.modules, "mujoco.viewer", viewer)
    monkeypatch.setattr(mujoco, "viewer", viewer, raising=False)
    monkeypatch.setenv("DISPLAY", ":0")
    assert loom(short, "--out", tmp_path / "a.csv", "--view") == 0
    *frames, last = shown
    assert last == "closed" and len(frames) == 3
    assert np.allclose(frames[0], read_robot(tmp_path / "a.csv").qpos[0], atol=1e-6)


def test_where_no_window_opens_the_picture_is_there_all_the_same(short, tmp_path, monkeypatch, capsys):
    def no_window(motion):
        raise RuntimeError("could not open a window")

    monkeypatch.setattr(one_file, "has_display", lambda: True)
    monkeypatch.setattr(one_file, "play", no_window)
    assert loom(short, "--out", tmp_path / "a.csv", "--view") == 0
    assert "no viewer: could not open a window" in capsys.readouterr().err
    assert (tmp_path / "a.svg").exists()


# --- real files


@pytest.mark.data
@pytest.mark.parametrize(
    ("file", "source"),
    [("lafan1_bvh/walk1_subject1__f0_1800.bvh", "lafan1"), ("amass_smplx/CMU_UH1example_stageii.npz", "amass")],
)
def test_a_real_file_is_put_on_the_robot(shared, tmp_path, file, source):
    done = retarget_file(shared / file, tmp_path / "a.csv")
    assert done.row["source"] == source and done.row["frames_kept"] > 0
    assert done.motion is not None and 0.6 < done.row["scale"] < 0.9
    assert np.abs(read_robot(tmp_path / "a.csv").qpos - done.motion.qpos).max() < 1e-6
