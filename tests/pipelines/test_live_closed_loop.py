"""A person's take, streamed, to a robot in MuJoCo that follows it: the whole way in one process, on a made-up clock; once by processes.

No policy is learned here: the robot hangs on a rope, and replays its reference by stiff joints.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from corpus.catalog import Corpus
from corpus.g1 import G1
from corpus.sources.synthetic_files import write_amass_smplx
from corpus.sources.synthetic_moves import human_motion
from deploy.contract import Contract
from deploy.controller import Controller, frames_of
from deploy.link import Received
from deploy.live import LiveSource
from deploy.log import RunLog
from deploy.packets import encode_qpos
from deploy.report import Report
from deploy.runtime import Automatic, run
from deploy.sim import SimOptions, Simulator
from deploy.stance import swaying
from pipelines.build import build
from pipelines.streaming.player import held, human_schedule, robot_schedule, smpl_take
from pipelines.streaming.retargeter import LiveRetargeter

ROOT = Path(__file__).resolve().parents[2]
FRAMES = frames_of(Contract())
NETWORK_S = 0.004
"""From person to robot, besides the retargeting [s]."""
ARMS = [i for i, name in enumerate(G1.joint_names) if "shoulder" in name or "elbow" in name]
Arrivals = list[tuple[float, bytes]]


class Replay:
    """A policy that asks for the reference itself."""

    contract = Contract()

    def act(self, observation: np.ndarray) -> np.ndarray:
        return np.zeros(G1.joint_count, np.float32)

    def forget(self) -> None:
        pass


@dataclass
class World:
    """Simulator and link in one, the clock, and the packets on their way; keeps what the controller reported."""

    source: LiveSource
    arrivals: Arrivals
    now_s: float = 0.0
    refused: Counter[str] = field(default_factory=Counter)
    reports: list[tuple[float, Report]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.simulator = Simulator(SimOptions(rope="always", heading=2.0))
        self.state, self.command, self.waiting = self.simulator.measure(), None, sorted(self.arrivals)

    def read(self) -> Received:
        return Received(self.state, self.now_s)

    def write(self, command) -> None:
        self.command = command

    def close(self) -> None:
        pass

    def sleep(self, seconds: float) -> None:
        """One control period passes."""
        self.now_s += 0.02
        self.state = self.simulator.advance(self.command, steps=self.simulator.options.physics.substeps)
        while self.waiting and self.waiting[0][0] <= self.now_s:
            arrived_s, data = self.waiting.pop(0)
            self.source.hear(data, arrived_s)

    def modes(self) -> list[str]:
        return [name for name, _ in itertools.groupby(report.modes.mode for _, report in self.reports)]

    def when(self, mode: str) -> list[float]:
        """At which times it began."""
        told = [(now_s, report.modes.mode) for now_s, report in self.reports]
        before = ["", *(name for _, name in told)]
        return [now_s for (now_s, name), last in zip(told, before, strict=False) if name == mode != last]


def live(arrivals: Arrivals, seconds: float, journal: RunLog | None = None) -> World:
    """The world after a controller has run in it; it is asked to end after so long."""
    source = LiveSource(0, FRAMES)
    world = World(source, arrivals)
    controller = Controller(Replay(), source, world, posture=None, journal=journal)
    operator = Automatic(lasting=True, asked=lambda: int(world.now_s > seconds))
    told = lambda now_s, report: world.reports.append((now_s, report))  # noqa: E731
    run(controller, operator, told=told, clock=lambda: world.now_s, sleep=world.sleep)
    source.close()
    return world


def take(kind: str, start_s: float, stream: int, hold_s: float, seconds: float = 3.0) -> Arrivals:
    """What comes to the robot of a person who does that, standing still before and after."""
    sent = smpl_take(human_motion(kind, seed=1, seconds=seconds, fps=50.0))
    sent = replace(sent, frames=held(sent.frames, 50.0, hold_s))
    retargeter = LiveRetargeter(seed=stream)
    return [
        (at_s + NETWORK_S, encode_qpos(packet))
        for at_s, data in human_schedule(sent, start_s, stream)
        for packet in retargeter.hear(data, at_s)
    ]


@pytest.fixture(scope="module")
def reach() -> Arrivals:
    return take("reach", 2.0, 7, hold_s=5.0)


@pytest.fixture(scope="module")
def followed(reach, tmp_path_factory) -> World:
    """A take that begins before the robot stands, and another one later."""
    file = tmp_path_factory.mktemp("run") / "run.g1run"
    log = RunLog(file, Contract(), {"follow": "live"})
    world = live([*reach, *take("reach", 20.0, 8, hold_s=3.0)], 34.0, log)
    log.close()
    world.file = file  # type: ignore[attr-defined]
    return world


def test_takes_are_followed_one_after_another_and_asked_to_end_it_damps(followed):
    track = ["track", "settle", "stand"]
    assert followed.modes() == ["stand", *track, *track, "damping"]
    assert not followed.reports[-1][1].modes.stopped


def test_a_person_who_was_there_first_is_joined_once_the_robot_stands(followed):
    assert 5.0 < followed.when("track")[0] < 6.5
    assert followed.when("settle")[0] == pytest.approx(2.0 + 5.0 + 3.0 + 5.0, abs=0.4)


def test_the_reference_begins_in_the_posture_that_the_robot_stands_in(followed):
    for began_s in followed.when("track"):
        (report,) = [report for now_s, report in followed.reports if now_s == began_s]
        assert report.reference is not None and report.state is not None
        assert np.abs(report.reference.qpos[0, 7:] - report.state.joint_position)[ARMS].max() < 0.2
        assert np.abs(report.reference.velocity).max() < 1.5


def test_the_robot_does_what_the_person_does(followed):
    pairs = [
        (report.reference.qpos[0, 7:][ARMS], report.state.joint_position[ARMS])
        for _, report in followed.reports
        if report.modes.mode == "track" and report.reference is not None and report.state is not None
    ]
    wanted, found = (np.array(each) for each in zip(*pairs, strict=True))
    assert wanted.std(0).max() > 0.3
    assert np.abs(wanted - found).mean() < 0.1


def test_a_cut_stream_brings_the_robot_to_a_stand_and_back_when_it_returns():
    whole = take("reach", 2.0, 7, hold_s=10.0)
    world = live([(at_s, data) for at_s, data in whole if not 11.0 < at_s < 12.0], 22.0)
    assert world.modes()[:5] == ["stand", "track", "settle", "stand", "track"]
    assert 11.0 < world.when("settle")[0] < 11.0 + 0.23 + 0.3  # what was seen of the future, then patience
    faults = [fault.name for now_s, report in world.reports for fault in report.faults if report.modes.mode == "settle"]
    assert set(faults) == {"stale_reference"}


def test_whoever_walks_is_not_joined():
    world = live(take("walk", 5.0, 7, hold_s=0.0, seconds=4.0), 12.0)
    assert world.modes() == ["stand", "damping"]


def test_a_robots_motion_is_followed_the_same_way():
    world = live(robot_schedule(swaying(4.0), 5.0, 9), 14.0)
    assert world.modes() == ["stand", "track", "settle", "stand", "damping"]


def test_a_run_enters_a_corpus(followed, tmp_path):
    outcome = build({"recordings": followed.file.parent}, tmp_path / "corpus", scheduler="inline", workers=1)
    assert outcome.complete
    clips = Corpus.open(tmp_path / "corpus").clips.collect()
    assert clips["source"].to_list() == ["recordings"] * 2
    assert sum(clips["frames"]) == pytest.approx(
        sum(report.modes.mode in ("track", "settle") for _, report in followed.reports), abs=250
    )


@pytest.fixture
def replay_bundle(tmp_path) -> Path:
    """Of a student that answers nothing but 0, and so replays its reference."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    from toy_bundle import toy_student, write_toy_run  # pyright: ignore[reportMissingImports]

    from trainer.export import export_bundle

    student = toy_student()
    with torch.no_grad():
        student.model.head.weight.mul_(1e-3)
        student.model.head.bias.zero_()
    return export_bundle(write_toy_run(tmp_path / "run", student), tmp_path / "bundle")


@pytest.mark.slow
def test_loom_play_stream_and_run_as_processes(tmp_path, replay_bundle):
    dds_domain = 20 + os.getpid() % 200
    person = human_motion("reach", seed=1, seconds=2.0, fps=50.0)
    file = write_amass_smplx(person, tmp_path / "reach_stageii.npz")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def loom(*options: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "pipelines.cli", *map(str, options)]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    log = tmp_path / "run.g1run"
    robot = loom("deploy", "sim", "--domain", dds_domain, "--rope", "always")
    controller = loom("deploy", "run", replay_bundle, "--follow", "live:0", "--domain", dds_domain, "--log", log)
    processes = [robot, controller]
    try:
        port = _until(controller, "listening").split("port ")[1].split(";")[0]
        stream = loom("stream", "--listen", "0", "--to", f"127.0.0.1:{port}")
        processes.append(stream)
        where = _until(stream, "listening").split()[-1]
        _until(controller, "stand")
        processes.append(loom("play", file, "--to", where, "--hold", "8"))
        _until(controller, "track")
        time.sleep(1.0)
        controller.send_signal(signal.SIGINT)
        rest = controller.communicate(timeout=60)[0]
        if "(late" in rest:
            pytest.skip("this machine is too busy for real time")
        assert "settle" in rest and "damping" in rest and controller.returncode == 0, rest
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert log.stat().st_size > 10_000


def _until(process: subprocess.Popen[str], word: str, seconds: float = 90.0) -> str:
    """The first line that begins so."""
    assert process.stdout is not None
    until_s, told = time.monotonic() + seconds, []
    while time.monotonic() < until_s and (line := process.stdout.readline()):
        if line.startswith(word):
            return line.strip()
        told.append(line)
    if "(late" in "".join(told):
        pytest.skip("this machine is too busy for real time")
    raise AssertionError(f"no {word!r}, but: {''.join(told)}")
