"""What a controller can follow, by name: every kind of file comes at the control rate, and what is broken is told in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from corpus.errors import MotionloomError
from corpus.exports.csv import write_csv
from corpus.sources.synthetic_files import (
    write_amass_smplh,
    write_amass_smplx,
    write_lafan1,
    write_motionx,
    write_phuma_robot,
)
from corpus.sources.synthetic_layouts import on_layout
from corpus.sources.synthetic_moves import human_motion
from deploy.contract import Contract
from deploy.controller import frames_of
from deploy.planner.index import build_index
from deploy.reference import ClipSource, ReferenceSource, StandSource
from deploy.stance import swaying
from pipelines.build import build
from pipelines.deploy_motion import motion_source
from pipelines.deploy_run import posture_of

FRAMES = frames_of(Contract())
SECONDS = 2.0


def lasts(source: ReferenceSource) -> float:
    """Until it says that it has ended [s]; all that it shows is a motion."""
    source.begin()
    for count in range(10_000):
        preview = source.look(count * 0.02)
        assert preview is not None and np.isfinite(preview.qpos).all() and np.isfinite(preview.velocity).all()
        if preview.status == "ended":
            return count * 0.02
    raise AssertionError("it goes on for ever")


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """One of each format, of a person at 30 or 60 frames a second, or of a robot."""
    folder = tmp_path_factory.mktemp("takes")
    person = human_motion("reach", seconds=SECONDS, fps=60.0)
    slow = human_motion("reach", seconds=SECONDS, fps=30.0)
    return {
        "smplh": write_amass_smplh(person, folder / "reach_poses.npz"),
        "smplx": write_amass_smplx(person, folder / "reach_stageii.npz"),
        "bvh": write_lafan1(on_layout(slow, "lafan1"), folder / "reach.bvh"),
        "motionx": write_motionx(slow, folder / "reach.npy"),
        "phuma": write_phuma_robot(swaying(SECONDS), folder / "phuma.npy"),
        "csv": write_csv(swaying(SECONDS), folder / "sway.csv"),
    }


@pytest.mark.parametrize("kind", ["smplh", "smplx", "bvh", "motionx", "phuma", "csv"])
def test_a_file_of_each_format_is_followed_at_the_control_rate(files, kind):
    source = motion_source(str(files[kind]), FRAMES)
    assert isinstance(source, ClipSource)
    assert lasts(source) == pytest.approx(SECONDS, rel=0.7 if kind == "phuma" else 0.1)  # PHUMA's files state no rate


def test_a_robot_waits_in_a_motions_own_posture_where_it_can_be_stood_in(files):
    source = motion_source(str(files["csv"]), FRAMES)
    assert isinstance(source, ClipSource)
    posture = posture_of(source)
    assert posture is not None
    np.testing.assert_allclose(posture, swaying(SECONDS).qpos[0, 7:], atol=1e-4)
    live = motion_source("live:0", FRAMES)
    assert posture_of(live) is None
    live.close()


@pytest.mark.parametrize(
    "name, content, told",
    [
        ("cut.bvh", b"HIERARCHY\nROOT Hips\n{", "cut.bvh"),
        ("noise.npz", bytes(range(256)) * 20, "truncated"),
        ("empty.csv", b"", "empty_file"),
        ("nan.csv", b"\n".join([b",".join([b"nan"] * 36)] * 100), "not_finite"),
        ("notes.txt", b"recorded on a Tuesday", "notes.txt"),
    ],
)
def test_a_broken_file_is_told_in_one_line(tmp_path, name, content, told):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(MotionloomError, match=told) as caught:
        motion_source(str(path), FRAMES)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name, told",
    [
        ("/nowhere/take.bvh", "is not a file"),
        ("live:99999", "should be live:PORT"),
        ("live:x", "should be live:PORT"),
        ("plan:/nowhere", "is no planner index"),
    ],
)
def test_what_there_is_not_is_told(name, told):
    with pytest.raises(MotionloomError, match=told):
        motion_source(name, FRAMES)


def test_a_stand_is_followed_without_any_file():
    assert isinstance(motion_source("stand", FRAMES), StandSource)


def test_a_segment_of_a_corpus_is_followed_by_its_number(tmp_path):
    (tmp_path / "robot").mkdir()
    write_csv(swaying(4.0), tmp_path / "robot" / "sway.csv")
    assert build({"robot": tmp_path / "robot"}, tmp_path / "corpus", scheduler="inline", workers=1).kept_count
    corpus = str(tmp_path / "corpus")
    assert lasts(motion_source(f"{corpus}#0", FRAMES)) == pytest.approx(4.0, rel=0.1)
    for wrong, told in ((f"{corpus}#1", "holds 1 segments"), (f"{corpus}#x", "'x'"), (corpus, "which segment")):
        with pytest.raises(MotionloomError, match=told):
            motion_source(wrong, FRAMES)


def test_a_plan_asks_for_commands_and_for_styles_that_there_are(tmp_path):
    build_index(tmp_path / "index", [(swaying(4.0).qpos, ("sway",))])
    index, script = f"plan:{tmp_path / 'index'}", tmp_path / "script.csv"
    with pytest.raises(MotionloomError, match="needs --commands"):
        motion_source(index, FRAMES)
    script.write_text("time,style\n0,sway\n")
    assert motion_source(index, FRAMES, str(script)).name == "planner"
    script.write_text("time,style\n0,swim\n")
    with pytest.raises(MotionloomError, match=r"no style 'swim'.*: sway"):
        motion_source(index, FRAMES, str(script))


@pytest.mark.data
@pytest.mark.parametrize(
    "path",
    [
        "amass_smplh/amass_sample_B.npz",
        "amass_smplx/CMU_UH1example_stageii.npz",
        "lafan1_bvh/dance1_subject1__f0_1800.bvh",
        "lafan1_g1_csv/dance1_subject1.csv",
        "g1_formats/gmt/basic_walk.pkl",
    ],
)
def test_real_files_are_followed(shared, path):
    if not (shared / path).is_file():
        pytest.skip(f"no {path}")
    assert lasts(motion_source(str(shared / path), FRAMES)) > 2.0
