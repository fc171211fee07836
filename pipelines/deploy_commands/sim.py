"""`loom deploy sim`."""

from __future__ import annotations

import argparse
import math
import signal
import threading
from collections.abc import Callable
from pathlib import Path

from pipelines.options import seed


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--domain", type=_within(0, 232), default=0, metavar="N", help="of DDS, 0 to 232 (default 0)")
    add("--interface", default="lo", metavar="NAME", help="network the topics are on (default lo, this machine alone)")
    add("--rope", choices=("auto", "never", "always"), default="auto", help="what the robot hangs on (default auto)")
    about = "auto lets the robot down once its legs' motors have held for so long (default 3)"
    add("--release", type=_seconds, default=3.0, metavar="S", help=about)
    add("--timestep", type=_timestep, default=0.005, metavar="S", help="of MuJoCo (default 0.005, as in training)")
    add("--start-heading", type=_degrees, default=0.0, metavar="DEG", help="which way the robot looks (default 0)")
    add(
        "--mode-machine",
        type=_within(0, 255),
        default=5,
        metavar="N",
        help="what commands have to echo, 0 to 255 (default 5)",
    )
    add("--noise", action="store_true", help="sensors err as much as training lets them")
    add("--seed", type=seed, default=0, metavar="N", help="of the noise (default 0)")
    add("--realtime-factor", type=_seconds, default=1.0, metavar="X", help="2: twice as fast as the world (default 1)")
    add("--seconds", type=_seconds, default=math.inf, metavar="S", help="end after so much simulated time")
    add("--truth", type=Path, metavar="FILE", help="at the end, where the robot really was, as npz")


def run(options: argparse.Namespace) -> int:
    """A G1 in MuJoCo that takes rt/lowcmd and publishes rt/lowstate, as the robot does, in real time. It hangs on a rope, which
    lets it down once its motors hold. Commands that stop coming leave the last one in force. Ctrl-C or SIGTERM ends it."""
    from corpus.errors import MotionloomError
    from deploy.dds import DdsRobot
    from deploy.sim import Simulator
    from deploy.sim_run import Truth
    from deploy.sim_run import run as run_simulator

    if options.truth and not options.truth.parent.is_dir():
        raise MotionloomError(f"--truth {options.truth}: there is no folder {options.truth.parent}.")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    simulator = Simulator(_sim_options(options))
    truth = Truth() if options.truth else None
    robot = DdsRobot(options.domain, options.interface)
    print(f"ready: a G1 on domain {options.domain}, interface {options.interface}", flush=True)
    factor = options.realtime_factor
    try:
        summary = run_simulator(
            simulator, robot, stop.is_set, seconds=options.seconds, realtime_factor=factor, truth=truth
        )
    finally:
        robot.close()
        if truth is not None:
            truth.save(options.truth)
    print(_as_text(summary))
    return 0


def _sim_options(options: argparse.Namespace):
    from deploy.contract import CONTROL_HZ
    from deploy.physics import Physics
    from deploy.sim import SensorNoise, SimOptions

    substeps = max(1, round(1 / CONTROL_HZ / options.timestep))
    return SimOptions(
        physics=Physics(timestep_s=options.timestep, substeps=substeps),
        mode_machine=options.mode_machine,
        heading=options.start_heading,
        rope=options.rope,
        release_s=options.release,
        noise=SensorNoise() if options.noise else None,
        seed=options.seed,
    )


def _as_text(summary) -> str:
    refused = ", ".join(f"{count} {reason}" for reason, count in sorted(summary.refused.items())) or "none"
    return (
        f"{summary.steps} steps, {summary.late} late (worst {summary.worst_lag_s * 1000:.1f} ms, "
        f"{summary.lost_s:.1f} s lost); {summary.commands} commands; refused: {refused}"
    )


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} should be above 0")
    return value


def _timestep(text: str) -> float:
    value = float(text)
    if not 0.0005 <= value <= 0.01:
        raise argparse.ArgumentTypeError(f"{text} should be 0.0005 to 0.01")
    return value


def _degrees(text: str) -> float:
    value = math.radians(float(text))
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text} should be a number")
    return value


def _within(lowest: int, highest: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        value = int(text)
        if not lowest <= value <= highest:
            raise argparse.ArgumentTypeError(f"must be from {lowest} to {highest}")
        return value

    return number
