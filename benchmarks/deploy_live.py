"""How long live human motion takes to the robot's motors: player, `loom stream`, controller and simulator, a process each.

    python -m benchmarks.deploy_live [--seconds S] [--size S] [--precision int8]

A made-up person goes from player to `loom stream` to a controller with a policy of that size over UDP, and from there over DDS to
`loom deploy sim`. The policy's weights are random, so the robot hangs on its rope all the time, and the controller's limits on
lean, turning, joints and their distance from the reference are off: nothing else differs from a run. Of each posture that a control
period is the first to look at:

    stream_to_command_ms_{p50,p99}   from the human frame's arrival at `loom stream` (in the kernel) until its posture has arrived at the
                                     controller, and from the beginning of the control period that uses it until its command is written
    stream_wait_ms_{p50,p99}         between the two: in the jitter buffer and for the next control period
    stream_total_ms_{p50,p99}        all of it
    stream_retarget_ms, stream_period_ms   the two parts
    stream_lag_ms, stream_step_ms_most     stated, not measured: frames of the future that the smoother waits for, and the step to 50 Hz
    stream_jitter_ms, stream_preview_ms    stated: what the buffer holds back, and how long a posture is seen before it is due

The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from benchmarks.deploy_stream import play, serve_to
from corpus.sources.synthetic_moves import human_motion
from deploy.bundle import about
from deploy.contract import Contract
from deploy.controller import Controller, frames_of
from deploy.dds import DdsLink
from deploy.live import LiveOptions, LiveSource
from deploy.messages import LowCmd
from deploy.policy import StepPolicy
from deploy.report import Report
from deploy.runtime import Automatic, run
from deploy.situation import Limits
from deploy.stand import StandOptions
from pipelines.streaming.player import HumanTake, smpl_take
from retarget.stream import StreamOptions
from trainer.gpt import SIZES, Gpt
from trainer.step_graph import write_int8, write_step

DOMAIN, FPS = 203, 60.0
UNLIMITED = Limits(
    lean=9.0, turn=1e3, joint_margin=9.0, joint_speed=1e3, far_joints=9.0, late_periods=10**6, late_s=9.0,
    stale_state_s=9.0, frozen_tick_s=9.0, stale_reference_s=9.0,
)  # fmt: skip
"""Of this benchmark alone: a policy that knows nothing makes the robot on its rope do anything."""
AT_ONCE = StandOptions(ramp_s=0.1, hold_s=0.1)
SETTLED_S = 1.0
"""A stream's beginning does not count [s]: its solver is made ready then."""


def measure(seconds: float = 20.0, size: str = "S", precision: str = "int8") -> dict[str, float]:
    """Figures by name, in ms."""
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that are begun here
    policy = random_policy(size, precision)
    command = [sys.executable, "-m", "pipelines.cli", "deploy", "sim", "--domain", str(DOMAIN), "--rope", "always"]
    simulator = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert simulator.stdout is not None
    try:
        assert simulator.stdout.readline().startswith("ready"), "the simulator is there"
        rows, outcome = _follow(policy, smpl_take(human_motion("walk", seed=1, seconds=seconds, fps=FPS)))
    finally:
        simulator.terminate()
        simulator.wait()
    figures = {"stream_frames": float(len(rows)), "stream_late_periods": float(outcome)}
    parts = {"retarget": rows[:, 0], "wait": rows[:, 1], "period": rows[:, 2], "total": rows.sum(1)}
    for share in (50, 99):
        figures[f"stream_to_command_ms_p{share}"] = float(np.percentile(rows[:, 0] + rows[:, 2], share))
        figures |= {f"stream_{name}_ms_p{share}": float(np.percentile(row, share)) for name, row in parts.items()}
    return figures | _stated()


def _stated() -> dict[str, float]:
    options = LiveOptions()
    return {
        "stream_lag_ms": 1e3 * StreamOptions().lag / FPS,
        "stream_step_ms_most": 1e3 / FPS,
        "stream_jitter_ms": 1e3 * options.jitter_s,
        "stream_preview_ms": 1e3 * (options.delay_s(frames_of(Contract())) - options.jitter_s),
    }


def random_policy(size: str, precision: str) -> StepPolicy:
    """A student that has learned nothing, as the runtime has it."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    contract, shape = Contract(), SIZES[size]
    model = Gpt(contract.observation.size, len(contract.joint_names), shape).eval()
    with tempfile.TemporaryDirectory() as folder:
        path, told = Path(folder) / "step.onnx", about(contract, shape.window)
        write_step(model, path, told)
        if precision == "int8":
            write_int8(path, path.with_name("int8.onnx"), told)
            path = path.with_name("int8.onnx")
        return StepPolicy(path.read_bytes(), contract, shape.window)


def _follow(policy: StepPolicy, take: HumanTake) -> tuple[np.ndarray, int]:
    """Rows [ms]: until the posture arrived, its wait, from the period's beginning to the command; and how many periods were late."""
    spawn = multiprocessing.get_context("spawn")
    link, source = TimedLink(DOMAIN, "lo"), LiveSource(0, frames_of(policy.contract))
    here, there = spawn.Pipe()
    server = spawn.Process(target=serve_to, args=(source.port, there), daemon=True)
    server.start()
    player = spawn.Process(target=play, args=(take, here.recv()), daemon=True)
    player.start()
    watch = Watch(link, source)
    try:
        controller = Controller(policy, source, link, limits=UNLIMITED, stand=AT_ONCE)
        outcome = run(controller, Automatic(stand_s=0.0, damping_s=0.1), told=watch)
    finally:
        server.terminate()
        player.terminate()
        source.close()
        link.close()
    assert not outcome.fault, outcome.fault
    rows = np.array(watch.rows)
    return 1e3 * rows[rows[:, 0] > rows[0, 0] + SETTLED_S][:, 1:], outcome.misses


class TimedLink(DdsLink):
    """Notes when a control period began, with its reading, and when its command was written."""

    read_s = written_s = 0.0

    def read(self):
        self.read_s = time.monotonic()
        return super().read()

    def write(self, command: LowCmd) -> None:
        super().write(command)
        self.written_s = time.monotonic()


@dataclass
class Watch:
    """Looks on after each control period."""

    link: TimedLink
    source: LiveSource
    rows: list[tuple[float, float, float, float]] = field(default_factory=list)

    def __call__(self, now_s: float, report: Report) -> None:
        used = self.source.newest_used
        if report.modes.mode == "track" and used is not None:
            link = self.link
            self.rows.append(
                (now_s, used.arrived_s - used.made_s, link.read_s - used.arrived_s, link.written_s - link.read_s)
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="of the person's motion")
    parser.add_argument("--size", choices=SIZES, default="S", help="of the policy (default S)")
    parser.add_argument("--precision", choices=("float32", "int8"), default="int8", help="(default int8)")
    options = parser.parse_args()
    figures = measure(options.seconds, options.size, options.precision)
    for name, value in figures.items():
        print(f"{name:32} {value:10.3f}")
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
