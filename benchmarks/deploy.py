"""The whole control step and its deadlines: an S-size policy at 50 Hz over DDS with a simulator of its own process.

    python -m benchmarks.deploy [--seconds S] [--size S] [--all [--run RUN] [--bundle BUNDLE --corpus CORPUS]]

The policy has random weights of a fresh network, so that its actions are small; the simulated robot hangs on its rope all the time:
what is timed is the program, not balance. `--all` then runs the other parts one after another (`PARTS`), each alone in
under 3 minutes, and joins their last lines. Keys of the JSON in the last line, of this part alone:

    step_ms_{p50,p99,max}      read, check, look, observe, infer, clamp, write, log; the 500 Hz or 200 Hz of states are read in it;
                               p50 and p99 of the control periods in which the policy acts, max of all
    {stage}_ms_{p50,p99}       of each of them
    deadline_misses            share of the control periods that were due whose command came later than one period after that, or
                               never, as those that a longer one swallowed
    worst_late_ms              the latest command, counted from when its period was due
    floor_late_ms_p99          how late a program that only sleeps wakes up, measured in the same minute: the machine's own part
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from corpus.errors import MotionloomError
from deploy.bundle import about
from deploy.contract import CONTROL_HZ, Contract
from deploy.controller import Controller, frames_of
from deploy.dds import DdsLink
from deploy.guard import Guard
from deploy.log import RunLog
from deploy.policy import StepPolicy
from deploy.reference import StandSource
from deploy.runtime import Automatic, Run, run
from pipelines.deploy_run import Wanted, simulator

DOMAIN = 90
PARTS = ("policy", "live", "faults", "planner", "fuzz", "fuzz_udp", "fuzz_controller")


def measure(seconds: float = 60.0, size: str = "S", precision: str = "int8") -> dict[str, float | str]:
    with tempfile.TemporaryDirectory() as folder:
        policy = fresh_policy(Path(folder), size, precision)
        contract = policy.contract
        wanted = Wanted(Path(), domain=DOMAIN)
        with (
            simulator(wanted, lambda line: None, options=("--rope", "always")),
            RunLog(Path(folder) / "timing.g1run", contract, {}) as journal,
        ):
            link, guard = DdsLink(DOMAIN, "lo"), Guard.start(DOMAIN, "lo")
            lateness = Lateness()
            try:
                controller = Controller(policy, StandSource(frames_of(contract)), link, journal=journal)
                outcome = run(controller, Automatic(seconds=seconds), beat=guard.beat)
            finally:
                guard.dismiss()
                link.close()
                late = lateness.stop()
    if outcome.fault:
        raise MotionloomError(
            f"The run was ended by {outcome.fault} after {outcome.tracked} control periods of following: nothing to time. "
            "Is the machine busy?"
        )
    figures: dict[str, float | str] = {
        "size": size,
        "precision": precision,
        "periods": outcome.periods,
    }
    for name, times in controller.stages.summary("infer").items():
        figures |= {f"{name}_ms_{rank}": round(times[f"{rank}_ms"], 3) for rank in ("p50", "p99", "max")}
    return figures | {
        "tracked": outcome.tracked,
        "deadline_misses": missed(outcome) / max(outcome.periods, int(outcome.seconds * CONTROL_HZ)),
        "worst_late_ms": round(1000 * outcome.worst_late_s, 2),
        "floor_late_ms_p99": round(1000 * float(np.percentile(late, 99)), 3),
        "floor_late_ms_max": round(1000 * max(late), 3),
    }


def missed(outcome: Run) -> int:
    """Control periods whose command came too late, and those that never were because another one took their time."""
    due = int(outcome.seconds * CONTROL_HZ)
    return outcome.misses + max(0, due - outcome.periods)


def fresh_policy(folder: Path, size: str, precision: str) -> StepPolicy:
    """Of an untrained network of that size: nearly no actions, all of the work."""
    import torch

    from trainer.gpt import SIZES, Gpt
    from trainer.step_graph import write_int8, write_step

    torch.set_num_threads(1)
    contract, shape = Contract(), SIZES[size]
    model = Gpt(contract.observation.size, len(contract.joint_names), shape).eval()
    told = about(contract, shape.window)
    step, small = folder / "step.onnx", folder / "step-int8.onnx"
    write_step(model, step, told)
    if precision == "int8":
        write_int8(step, small, told)
    return StepPolicy((small if precision == "int8" else step).read_bytes(), contract, shape.window)


class Lateness:
    """A thread that only sleeps until the next 20 ms: how late the machine wakes it."""

    def __init__(self) -> None:
        self._late: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sleep, daemon=True)
        self._thread.start()

    def stop(self) -> list[float]:
        self._over.set()
        self._thread.join()
        return self._late

    def _sleep(self) -> None:
        due = time.monotonic() + 0.01
        while not self._over.is_set():
            due += 0.02
            time.sleep(max(0.0, due - time.monotonic()))
            self._late.append(time.monotonic() - due)


def of_part(name: str, options: list[str]) -> dict[str, Any]:
    """The last line of another benchmark, run as a person would; its table passes through."""
    command = [sys.executable, "-m", f"benchmarks.deploy_{name}", *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    *table, last = done.stdout.strip().splitlines()
    print("\n".join(table), flush=True)
    return json.loads(last)


def joined(figures: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """With the other parts' figures; broken packets of the three fuzzers are added up."""
    own = {
        "policy": ["--run", str(options.run)] if options.run else [],
        "faults": ["--bundle", str(options.bundle)] if options.bundle else [],
    }
    packets = 0
    for name in PARTS:
        found = of_part(name, own.get(name, []))
        if name.startswith("fuzz"):
            packets += int(found["fuzz_packets"])
        figures |= {(key if key not in figures else f"{name}_{key}"): value for key, value in found.items()}
    figures["fuzz_packets"] = packets
    if options.bundle and options.corpus:
        figures |= of_part("closed_loop", [str(options.bundle), str(options.corpus)])
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--size", default="S", choices=("nano", "S", "B", "L"))
    parser.add_argument("--precision", default="int8", choices=("int8", "float32"))
    parser.add_argument("--all", action="store_true", help="the other parts too")
    parser.add_argument("--run", type=Path, help="a student's run, for the policy's part")
    parser.add_argument("--bundle", type=Path, help="a trained bundle, for faults and the closed loop")
    parser.add_argument("--corpus", type=Path, help="the corpus that it was trained on")
    options = parser.parse_args()
    figures: dict[str, Any] = measure(options.seconds, options.size, options.precision)
    table = Table("stage", "p50 [ms]", "p99 [ms]", "max [ms]")
    for key in [key.removesuffix("_ms_p50") for key in figures if key.endswith("_ms_p50")]:
        table.add_row(key, *(f"{figures[f'{key}_ms_{rank}']:.3f}" for rank in ("p50", "p99", "max")))
    Console(width=100).print(table)
    print(
        f"{figures['periods']} control periods with {options.size} ({options.precision}); {figures['deadline_misses']:.2%} late, "
        f"worst {figures['worst_late_ms']} ms; a sleeper wakes {figures['floor_late_ms_p99']} ms late (p99)"
    )
    if options.all:
        figures = joined(figures, options)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
