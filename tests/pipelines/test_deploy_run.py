"""`loom deploy run`: the whole command against a simulator of its own, over DDS; and what it says of what there is not."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cyclonedds")
pytest.importorskip("mujoco")

from small_corpus import write_small_corpus

from corpus.errors import MotionloomError
from corpus.motion import RobotMotion
from corpus.recording import read_recording
from deploy.contract import STANDING
from deploy.messages import damping
from deploy.modes import Modes
from deploy.reference import ClipSource, StandSource
from deploy.report import Report
from deploy.situation import Fault
from deploy.stance import standing
from pipelines.deploy_commands import run as command
from pipelines.deploy_motion import motion_source
from pipelines.deploy_run import Telling, Wanted, deploy_run, posture_of

ROOT = Path(__file__).resolve().parents[2]
FRAMES = (0, 1, 4, 10)


def options(*words: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_options(parser)
    return parser.parse_args([str(word) for word in words])


@pytest.mark.slow
def test_a_policy_that_was_never_trained_falls_and_the_run_says_so(exported, tmp_path, capsys, dds_domain):
    path, truth = tmp_path / "run.g1run", tmp_path / "truth.npz"
    asked = options(
        exported,
        "--follow",
        "stand",
        "--seconds",
        4,
        "--with-sim",
        "--domain",
        dds_domain,
        "--log",
        path,
        "--truth",
        truth,
    )
    assert command.run(asked) == 1
    told = capsys.readouterr().out
    found = read_recording(path)
    assert found.header["facts"]["follow"] == "stand"
    modes = [event["now"] for event in found.events if event["name"] == "mode"]
    assert modes == ["stand", "track", "damping"]
    end = found.events[-1]
    assert end["name"] == "end"
    assert f"ended by {end['fault']}" in told
    assert end["fault"] in {event["name"] for event in found.events}
    assert not found.kp[-1].any()
    with np.load(truth, allow_pickle=False) as there:
        assert len(there["qpos"]) > 100


RUN = """
import sys
from pathlib import Path
from pipelines.deploy_commands import run
import argparse
parser = argparse.ArgumentParser()
run.add_options(parser)
sys.exit(run.run(parser.parse_args()))
"""


@pytest.mark.slow
def test_ctrl_c_while_it_stands_ends_in_damping(exported, tmp_path, dds_domain):
    path = tmp_path / "run.g1run"
    words = [exported, "--with-sim", "--domain", dds_domain, "--log", path]
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, *map(str, words)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        assert process.stdout is not None
        assert any(line.startswith("stand") for line in process.stdout)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        told, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert "damping" in told
    found = read_recording(path)
    assert [event["now"] for event in found.events if event["name"] == "mode"] == ["stand", "damping"]
    assert not found.kp[-1].any()


def test_a_bundle_that_is_none_is_refused_before_anything_starts(tmp_path, dds_domain):
    with pytest.raises(MotionloomError, match="is no policy bundle"):
        deploy_run(Wanted(tmp_path / "nothing", domain=dds_domain, with_sim=True))


def test_the_truth_is_a_simulators(exported, tmp_path, dds_domain):
    with pytest.raises(MotionloomError, match="--with-sim"):
        deploy_run(Wanted(exported, domain=dds_domain, truth=tmp_path / "truth.npz"))


def test_a_log_that_is_there_already_is_kept(exported, tmp_path, dds_domain):
    path = tmp_path / "run.g1run"
    path.write_bytes(b"mine")
    with pytest.raises(MotionloomError, match="is there already"):
        deploy_run(Wanted(exported, domain=dds_domain, log=path))
    assert path.read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--robot", "g1"), "--interface"),
        (("--robot", "g1", "--interface", "lo", "--with-sim"), "--with-sim is for"),
        (("--robot", "g1", "--interface", "lo"), "Not begun"),
    ],
)
def test_the_real_robot_needs_an_interface_and_a_confirmation(words, text, capsys):
    with pytest.raises(MotionloomError, match=text):
        command.run(options("nowhere", *words))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("live:elsewhere", "should be live:PORT"),
        ("live:65536", "should be live:PORT"),
        ("nothing.csv", "nothing.csv"),
        ("nowhere#3", "nowhere"),
        ("plan:nowhere", "nowhere"),
    ],
)
def test_a_motion_that_there_is_not_is_named(name, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MotionloomError, match=text) as error:
        motion_source(name, FRAMES)
    assert "\n" not in str(error.value)


def test_a_segment_that_the_corpus_has_not_is_named(corpus_with_one_clip):
    for segment in ("7", "nobody", "-1"):
        with pytest.raises(MotionloomError, match=segment):
            motion_source(f"{corpus_with_one_clip}#{segment}", FRAMES)
    assert isinstance(motion_source(f"{corpus_with_one_clip}#0", FRAMES), ClipSource)


@pytest.fixture
def corpus_with_one_clip(tmp_path) -> Path:
    return write_small_corpus(tmp_path / "corpus", "a1")


def test_the_robot_waits_in_the_motions_own_posture_where_it_can_be_stood_in():
    bent = standing(joints=1.1 * STANDING)
    lying = standing()
    lying[3:7] = [np.sqrt(0.5), 0, np.sqrt(0.5), 0]
    assert posture_of(StandSource(FRAMES)) is STANDING
    assert posture_of(ClipSource(RobotMotion(np.tile(bent, (9, 1)), 50.0), FRAMES)) == pytest.approx(1.1 * STANDING)
    assert posture_of(ClipSource(RobotMotion(np.tile(lying, (9, 1)), 50.0), FRAMES)) is STANDING


def test_standing_is_what_is_followed_unless_told():
    assert isinstance(motion_source(options("bundle").follow, FRAMES), StandSource)
    assert Wanted(Path("bundle")).follow == "stand"


def test_a_person_is_told_of_modes_and_of_what_keeps_the_robot_down():
    lines = []
    telling = Telling(lines.append)
    hot, late = Fault("hot_motor", "a knee has 99 °C"), Fault("late", "too late")
    for mode, stopped, faults in (
        ("damping", False, [hot]), ("damping", False, [hot]), ("damping", False, []), ("stand", False, []),
        ("stand", False, []), ("damping", True, [late]), ("damping", True, [hot]),
    ):  # fmt: skip
        command = damping(STANDING, 5)
        telling(0.0, Report(Modes(mode, 0.0, stopped), faults, "", False, command, {}))
    assert lines == ["damping (hot_motor: a knee has 99 °C)", "damping", "stand", "damping (late: too late)"]
