"""Faults of whole processes and of the network, over DDS in real time: controller, guard and simulator each a process of its own.

Part of `benchmarks.deploy_faults`. This process listens to the commands on the robot's topic, and meddles. As the controller it is
started by `python -m benchmarks.deploy_faults_dds DOMAIN [BUNDLE]`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from corpus.errors import MotionloomError
from deploy.bundle import open_bundle
from deploy.contract import Contract
from deploy.controller import Controller, frames_of
from deploy.dds import DdsLink, DdsRobot
from deploy.guard import Guard
from deploy.messages import JOINTS, LowCmd, LowState
from deploy.reference import StandSource
from deploy.report import Report
from deploy.runtime import Automatic, run
from deploy.stand import StandOptions
from deploy.wire import encode_state
from pipelines.deploy_run import Wanted, interrupts, simulator

FOLLOWED_S = 0.5
TRIES = 4
MEDDLE_S = 0.004
"""Between false messages [s]: about as many as the robot sends."""


@dataclass(frozen=True)
class Scene:
    """What a fault may happen to."""

    simulator: subprocess.Popen[str]
    controller: subprocess.Popen[str]
    robot: DdsRobot
    link: DdsLink
    """Hears what the simulated robot says."""
    over: threading.Event

    def said(self) -> LowState:
        while (received := self.link.read()) is None:
            time.sleep(0.001)
        return received.state

    def meddle(self, made: Callable[[], bytes]) -> None:
        """Send such messages in the robot's name until all is over."""

        def send() -> None:
            while not self.over.wait(MEDDLE_S):
                self.robot.write_bytes(made())

        threading.Thread(target=send, daemon=True).start()


def inject_dds(name: str, bundle: Path | None = None, *, domain: int) -> tuple[str, float]:
    """The mode that the robot is commanded to be in after this fault, and after how many milliseconds.

    A machine that is busy may make the controller stop by itself, for it is late; then all begins anew.
    """
    for _ in range(TRIES):
        if (outcome := _injected(PROCESS_FAULTS[name], bundle, domain)) is not None:
            return outcome
    raise MotionloomError(f"The controller has stopped before there was a fault, {TRIES} times: a busy machine?")


def _injected(fault: Callable[[Scene], None], bundle: Path | None, domain: int) -> tuple[str, float] | None:
    with scene(domain, bundle) as there:
        commands = Commands(there.robot)
        commands.wait(lambda command: not stops(command), 5.0)
        if commands.wait(stops, FOLLOWED_S) is not None:
            return None
        begun = time.monotonic()
        fault(there)
        ended = commands.wait(stops, 3.0)
        return ("damping", 1000 * (ended - begun)) if ended is not None else ("track", float("inf"))


class Commands:
    """What is sent to the robot."""

    def __init__(self, robot: DdsRobot):
        self._robot = robot

    def wait(self, wanted: Callable[[LowCmd], bool], seconds: float) -> float | None:
        """When such a command came; None where none did."""
        until = time.monotonic() + seconds
        while (now := time.monotonic()) < until:
            newest = self._robot.read_command()
            if newest is not None and wanted(newest[0]):
                return now
            time.sleep(0.001)
        return None


def stops(command: LowCmd) -> bool:
    return not command.kp.any()


@contextlib.contextmanager
def scene(domain: int, bundle: Path | None) -> Iterator[Scene]:
    """Both processes, once the motion is followed."""
    robot, link, over = DdsRobot(domain, "lo"), DdsLink(domain, "lo"), threading.Event()
    command = [sys.executable, "-m", "benchmarks.deploy_faults_dds", str(domain), *([str(bundle)] if bundle else [])]
    with contextlib.ExitStack() as stack:
        stack.callback(link.close)
        stack.callback(robot.close)
        hung = stack.enter_context(simulator(Wanted(Path(), domain=domain), lambda line: None, ("--rope", "always")))
        controller = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        stack.callback(_end, controller)
        stack.callback(over.set)
        assert controller.stdout is not None
        if not any(line.startswith("track") for line in controller.stdout):
            raise MotionloomError("The controller has not come to follow its motion.")
        yield Scene(hung, controller, robot, link, over)


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def corrupt(there: Scene) -> None:
    """Messages with one bit turned."""
    data = bytearray(encode_state(there.said()))
    data[200] ^= 4
    there.meddle(lambda: bytes(data))


def late_messages(there: Scene) -> None:
    """What the robot said a second ago comes again, whole."""
    state = there.said()
    old = encode_state(replace(state, tick=(state.tick - 1000) % 2**32))
    there.meddle(lambda: old)


PROCESS_FAULTS: dict[str, Callable[[Scene], None]] = {
    "DDS: the simulator killed": lambda there: there.simulator.kill(),
    "DDS: the controller killed": lambda there: there.controller.kill(),
    "DDS: the controller hung": lambda there: os.kill(there.controller.pid, signal.SIGSTOP),
    "DDS: SIGINT twice": lambda there: _interrupt_twice(there.controller),
    "DDS: corrupt messages between the good": corrupt,
    "DDS: old messages between the new": late_messages,
}


def _interrupt_twice(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGINT)
    time.sleep(0.025)  # two of a kind at once are one
    process.send_signal(signal.SIGINT)


class Still:
    """A policy that does nothing but follow."""

    contract = Contract()

    def act(self, observation: np.ndarray) -> np.ndarray:
        return np.zeros(JOINTS, np.float32)

    def forget(self) -> None:
        pass


def control(domain: int, bundle: Path | None) -> None:
    """Be the controller; a line for each mode."""
    policy, mode = Still() if bundle is None else open_bundle(bundle).policy(), ""

    def told(now_s: float, report: Report) -> None:
        nonlocal mode
        if report.modes.mode != mode:
            mode = report.modes.mode
            print(mode, *(fault.text for fault in report.faults), flush=True)

    link = DdsLink(domain, "lo")
    with contextlib.closing(link), Guard.start(domain, "lo") as guard, interrupts() as asked:
        source = StandSource(frames_of(policy.contract))
        controller = Controller(policy, source, link, stand=StandOptions(0.5, 0.5))
        run(controller, Automatic(asked=asked), beat=guard.beat, told=told)


if __name__ == "__main__":
    control(int(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
