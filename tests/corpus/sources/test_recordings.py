from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from made_runs import squat, write_run

from corpus import rotations
from corpus.errors import Rejected
from corpus.motion import Clip, RobotMotion
from corpus.recording import read_recording
from corpus.sources import SOURCES
from corpus.sources.options import LoadOptions
from corpus.sources.recordings import load_stretch
from corpus.stretches import reference_motion, stretches, unwrapped
from pipelines.build import build
from pipelines.one_file import read_file

MOTION = squat(4.0)


def load(root, clip: Clip) -> RobotMotion:
    motion = SOURCES["recordings"].load(root, clip, LoadOptions())
    assert isinstance(motion, RobotMotion)
    return motion


def test_a_run_is_a_clip_with_its_owners_licence(tmp_path):
    write_run(tmp_path / "a.g1run", MOTION, licence="CC0-1.0", subject="G1 no. 7", recording="run 12")
    (clip,) = SOURCES["recordings"].scan(tmp_path)
    assert (clip.licence, clip.subject, clip.recording, clip.part) == ("CC0-1.0", "G1 no. 7", "run 12", "")


def test_a_run_without_a_licence_says_to_ask(tmp_path):
    write_run(tmp_path / "a.g1run", MOTION)
    (clip,) = SOURCES["recordings"].scan(tmp_path)
    assert clip.licence == "unknown: ask the owner" and clip.recording.startswith("a-2")


def test_what_the_robot_did_comes_back(tmp_path):
    """Feet on one spot: the root's path too, though nothing in the file says where it was."""
    write_run(tmp_path / "a.g1run", MOTION)
    (clip,) = SOURCES["recordings"].scan(tmp_path)
    motion = load(tmp_path, clip)
    np.testing.assert_allclose(motion.qpos[:, 3:], MOTION.qpos[:, 3:], atol=1e-5)
    np.testing.assert_allclose(motion.qpos[:, 2], MOTION.qpos[:, 2], atol=1e-4)
    level = motion.qpos[:, :2] - motion.qpos[0, :2]
    assert motion.fps == 50 and np.abs(level).max() < 0.15


def test_only_stretches_of_tracking_are_clips(tmp_path):
    modes = ["stand"] * 20 + ["track"] * 60 + ["damping"] * 10 + ["track"] * 30 + ["stand"] * 20 + ["track"] * 60
    write_run(tmp_path / "a.g1run", MOTION, modes=modes, recording="r")
    clips = list(SOURCES["recordings"].scan(tmp_path))
    assert [clip.part for clip in clips] == ["track-0", "track-1"] and {clip.recording for clip in clips} == {"r"}
    for clip, first in zip(clips, (20, 140), strict=True):
        motion = load(tmp_path, clip)
        assert motion.frame_count == 60
        np.testing.assert_allclose(motion.qpos[:, 7:], MOTION.qpos[first : first + 60, 7:], atol=1e-5)


def test_late_steps_are_bridged_and_long_gaps_cut(tmp_path):
    """Steps at 0.02 s, one of them 0.06 s late; and a second's silence after frame 120."""
    time_s = 7 + MOTION_TIME
    kept = np.ones(len(time_s), bool)
    kept[[50, 51]] = False
    time_s = np.where(np.arange(len(time_s)) > 120, time_s + 1, time_s)
    write_run(tmp_path / "a.g1run", RobotMotion(MOTION.qpos[kept], 50.0), time_s=time_s[kept])
    first, second = SOURCES["recordings"].scan(tmp_path)
    motion = load(tmp_path, first)
    assert motion.frame_count == 121 and load(tmp_path, second).frame_count == 79
    np.testing.assert_allclose(motion.qpos[:, 7:], MOTION.qpos[:121, 7:], atol=0.01)


MOTION_TIME = np.arange(200) / 50


def test_uneven_steps_are_put_at_even_times(tmp_path):
    """Joints that move by a formula of time, sampled up to 4 ms off: back on the formula."""
    rng = np.random.default_rng(0)
    time_s = MOTION_TIME + rng.uniform(0, 0.004, 200)
    time_s -= time_s[0]
    qpos = np.tile(MOTION.qpos[:1], (200, 1))
    qpos[:, 10] += 0.3 * np.sin(3 * time_s)
    qpos[:, 3:7] = rotations.about_z(0.5 * time_s)
    write_run(tmp_path / "a.g1run", RobotMotion(qpos, 50.0), time_s=time_s)
    stretch = load_stretch(tmp_path / "a.g1run")
    at = np.arange(stretch.frame_count) / 50
    np.testing.assert_allclose(stretch.joint_position[:, 3], MOTION.qpos[0, 10] + 0.3 * np.sin(3 * at), atol=1e-3)
    np.testing.assert_allclose(stretch.root_rotation, rotations.about_z(0.5 * at), atol=1e-4)
    np.testing.assert_allclose(reference_motion(stretch).qpos[:, 7:], stretch.joint_position, atol=1e-6)


def test_a_wrapped_clock_goes_on():
    tick = np.array([2**32 - 20, 0, 20, 10, 40], np.uint32)
    np.testing.assert_array_equal(unwrapped(tick) - 2**32, [-20, 0, 20, 10, 40])


def test_a_run_without_tracking_is_rejected(tmp_path):
    write_run(tmp_path / "a.g1run", MOTION, modes=["stand"] * 200)
    (clip,) = SOURCES["recordings"].scan(tmp_path)
    with pytest.raises(Rejected, match="too_short"):
        load(tmp_path, clip)
    assert stretches(read_recording(tmp_path / "a.g1run")) == []


def test_a_part_that_is_not_there_is_rejected(tmp_path):
    write_run(tmp_path / "a.g1run", MOTION)
    with pytest.raises(Rejected, match="missing_key"):
        load_stretch(tmp_path / "a.g1run", "track-1")


def test_files_of_other_kinds_are_left_to_others(tmp_path):
    (tmp_path / "a.csv").write_text("1,2,3\n")
    (tmp_path / "b.g1run").write_bytes(b"PK\3\4")
    for clip in SOURCES["recordings"].scan(tmp_path):
        with pytest.raises(Rejected, match="not_motion"):
            load(tmp_path, clip)


def test_no_other_source_takes_a_run_for_its_own(tmp_path):
    write_run(tmp_path / "a.g1run", MOTION)
    assert read_file(tmp_path / "a.g1run", LoadOptions()).row["source"] == "recordings"


def test_runs_are_built_into_a_corpus(tmp_path):
    (tmp_path / "runs").mkdir()
    write_run(tmp_path / "runs" / "a.g1run", MOTION, licence="CC0-1.0", recording="run 12")
    (tmp_path / "runs" / "b.g1run").write_bytes(b"no run")
    build({"recordings": tmp_path / "runs"}, tmp_path / "corpus", scheduler="inline", workers=1)
    clips = pl.read_parquet(tmp_path / "corpus" / "shards" / "*" / "clips.parquet").sort("path")
    assert clips["status"].to_list() == ["kept", "rejected"] and clips["reason"].to_list()[1] == "not_motion"
    assert clips["recording"][0] == "run 12" and clips["licence"][0] == "CC0-1.0" and clips["frames_kept"][0] > 150
