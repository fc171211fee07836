"""`loom deploy sim` as a process of its own."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from corpus.errors import MotionloomError
from deploy.messages import JOINTS, damping
from pipelines.deploy_commands import sim

pytest.importorskip("cyclonedds")

COMMAND = """
import argparse, sys
from pipelines.deploy_commands import sim
parser = argparse.ArgumentParser()
sim.add_options(parser)
sys.exit(sim.run(parser.parse_args()))
"""


@pytest.fixture
def start(dds_domain):
    """A simulator that is ready."""
    processes = []

    def started(*arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", COMMAND, "--domain", str(dds_domain), *map(str, arguments)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready: ")
        return process

    yield started
    for process in processes:
        process.kill()
        process.wait()


def parse(*arguments: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    sim.add_options(parser)
    return parser.parse_args([*map(str, arguments)])


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_simulator_that_is_ended_leaves_the_whole_truth(start, dds_domain, tmp_path, how):
    from deploy.dds import DdsLink

    process = start("--truth", tmp_path / "truth.npz", "--mode-machine", 6)
    link = DdsLink(dds_domain, "lo")
    end = time.monotonic() + 30
    while (received := link.read()) is None or received.state.tick < 200:
        assert time.monotonic() < end
        link.write(damping(np.zeros(JOINTS), 0 if received is None else received.state.mode_machine))
        time.sleep(0.02)
    assert received.state.mode_machine == 6
    process.send_signal(how)
    text, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "refused: " in text
    with np.load(tmp_path / "truth.npz", allow_pickle=False) as truth:
        assert len(truth["qpos"]) == len(truth["clock_s"]) >= 10
        assert np.diff(truth["time_s"]) == pytest.approx(0.02)
    assert [path.name for path in tmp_path.iterdir()] == ["truth.npz"]
    link.close()


@pytest.mark.slow
def test_a_simulator_ends_after_the_seconds_it_was_given(start):
    process = start("--seconds", 0.1, "--timestep", 0.002)
    text, _ = process.communicate(timeout=30)
    assert text.startswith("50 steps, ")
    assert text.endswith("; 0 commands; refused: none\n")


def test_a_truth_that_could_not_be_written_is_refused_at_the_start(tmp_path):
    with pytest.raises(MotionloomError, match="there is no folder"):
        sim.run(parse("--truth", tmp_path / "nowhere" / "truth.npz"))


@pytest.mark.parametrize(
    "arguments",
    [
        ("--domain", 233),
        ("--mode-machine", 256),
        ("--timestep", 0),
        ("--start-heading", "nan"),
        ("--seconds", -1),
        ("--realtime-factor", "inf"),
    ],
)
def test_options_that_make_no_sense_are_refused(arguments):
    with pytest.raises(SystemExit):
        parse(*arguments)
