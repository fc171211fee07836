"""What the robot's protocol costs: reading and writing messages, two processes over loopback, and how soon a guard steps in.

    python -m benchmarks.deploy_dds [--kills N]

The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from deploy.messages import JOINTS, LowCmd, LowState
from deploy.wire import decode_command, decode_state, encode_command, encode_state

DOMAIN = 201
ROUNDS, CALLS = 7, 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=5, help="controllers killed under a guard (default 5)")
    figures = measure(kills=parser.parse_args().kills)
    for name, value in figures.items():
        print(f"{name:>24} {value:10.1f}")
    print(json.dumps(figures))


def measure(*, kills: int = 5) -> dict[str, float]:
    """Medians, in µs and ms as the names say."""
    return _codec() | _link() | _guard(kills)


def _codec() -> dict[str, float]:
    state, command = _state(1), _command(np.zeros(JOINTS))
    state_bytes, command_bytes = encode_state(state), encode_command(command)
    return {
        "encode_state_us": _microseconds(lambda: encode_state(state)),
        "decode_state_us": _microseconds(lambda: decode_state(state_bytes)),
        "encode_command_us": _microseconds(lambda: encode_command(command)),
        "decode_command_us": _microseconds(lambda: decode_command(command_bytes)),
    }


def _microseconds(call: Callable[[], object]) -> float:
    rounds = []
    for _ in range(ROUNDS):
        start_s = time.perf_counter()
        for _ in range(CALLS):
            call()
        rounds.append((time.perf_counter() - start_s) / CALLS * 1e6)
    return round(statistics.median(rounds), 1)


ROBOT = """
import sys, time
from benchmarks.deploy_dds import _state
from deploy.dds import DdsRobot
robot, tick = DdsRobot(int(sys.argv[1]), "lo"), 0
due_s = time.monotonic()
while True:
    tick += 1
    got = robot.read_command()
    robot.write_state(_state(tick, 0.0 if got is None else got[0].joint_position[0]))
    due_s += 0.002
    time.sleep(max(0.0, due_s - time.monotonic()))
"""


def _link() -> dict[str, float]:
    """A controller at 50 Hz, a robot at 500 Hz in another process; a round trip is up to 2 ms of the robot's own step."""
    from deploy.dds import DdsLink

    robot = subprocess.Popen([sys.executable, "-c", ROBOT, str(DOMAIN)])
    link, reads, writes, trips = DdsLink(DOMAIN, "lo"), [], [], []
    try:
        _until(link.read)
        for i in range(1, 151):
            command = _command(np.full(JOINTS, float(i)))
            reads.append(_taken(link.read))
            writes.append(_taken(lambda command=command: link.write(command)))
            start_s = time.perf_counter()
            _until(lambda i=i: (got := link.read()) and got.state.joint_position[0] == i)
            trips.append(time.perf_counter() - start_s)
            time.sleep(0.02)
    finally:
        robot.kill()
        robot.wait()
        link.close()
    return {
        "link_read_us": round(statistics.median(reads) * 1e6, 1),
        "link_write_us": round(statistics.median(writes) * 1e6, 1),
        "link_write_p99_us": round(float(np.percentile(writes, 99)) * 1e6, 1),
        "round_trip_ms": round(statistics.median(trips) * 1e3, 2),
        "round_trip_p99_ms": round(float(np.percentile(trips, 99)) * 1e3, 2),
    }


CONTROLLER = """
import sys, time
from benchmarks.deploy_dds import _command
from deploy.dds import DdsLink
from deploy.guard import Guard
import numpy as np
domain = int(sys.argv[1])
link, guard = DdsLink(domain, "lo"), Guard.start(domain, "lo")
while True:
    guard.beat(5)
    link.write(_command(np.ones(29)))
    time.sleep(0.02)
"""


def _guard(kills: int) -> dict[str, float]:
    """From SIGKILL or SIGSTOP of the controller to the first damping command at the robot."""
    from deploy.dds import DdsRobot

    taken = {signal.SIGKILL: [], signal.SIGSTOP: []}
    for number, (how, times) in enumerate(taken.items()):
        for kill in range(kills):
            domain = 50 + number * 50 + kill % 50  # the last one's guard still speaks in its own
            robot = DdsRobot(domain, "lo")
            controller = subprocess.Popen([sys.executable, "-c", CONTROLLER, str(domain)])
            _until(lambda robot=robot: _stiff(robot))
            time.sleep(0.3)
            os.kill(controller.pid, how)
            start_s = time.perf_counter()
            _until(lambda robot=robot: not _stiff(robot))
            times.append(time.perf_counter() - start_s)
            controller.kill()
            controller.wait()
            robot.close()
    names = {signal.SIGKILL: "killed", signal.SIGSTOP: "hung"}
    return {
        f"damped_after_{names[how]}_{kind}_ms": round(of(times) * 1e3, 1)
        for how, times in taken.items()
        if times
        for kind, of in (("median", statistics.median), ("worst", max))
    }


def _stiff(robot: Any) -> bool:
    got = robot.read_command()
    return got is not None and got[0].kp[0] > 0


def _taken(call: Callable[[], object]) -> float:
    start_s = time.perf_counter()
    call()
    return time.perf_counter() - start_s


def _until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    end_s = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end_s:
            raise TimeoutError("the other process did not answer")
        time.sleep(0.0002)


def _command(joint_position: np.ndarray) -> LowCmd:
    return LowCmd(joint_position, np.full(JOINTS, 40.0), np.ones(JOINTS), 5)


def _state(tick: int, position: float = 0.0) -> LowState:
    zeros, up = np.zeros(JOINTS), np.array([1.0, 0, 0, 0])
    return LowState(tick, 5, zeros + position, zeros, zeros, up, up[1:], up[1:], zeros, zeros)


if __name__ == "__main__":
    main()
