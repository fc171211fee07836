"""A second process that stops the robot softly when the controller no longer can: killed, hung, or out of memory.

It waits at a pipe for the controller's heartbeats. When the pipe breaks, or no heartbeat has come for `SILENCE_S`, it sends damping
commands on the robot's topic, until heartbeats are back, or for `DAMPING_S` where the controller has ended. As long as
the controller lives it sends nothing: the robot hears one voice. A controller that ends well damps the robot itself and dismisses it;
another controller that starts to move the robot relieves it.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from corpus.errors import MotionloomError
from deploy.messages import JOINTS, damping

SILENCE_S = 0.1
"""A controller without a heartbeat for so long hangs [s]: five control periods."""
DAMPING_S = 10.0
"""How long a robot is damped whose controller has ended [s]: by then it lies."""
PERIOD_S = 0.02
"""Of damping commands [s]."""
START_S = 60.0
"""A guard that is not ready by then will not be [s]."""
BEAT, GOODBYE = 1, 2
_READY = b"r"


class Guard:
    """The controller's side: start it, beat in each control period, dismiss it after the robot has been damped."""

    def __init__(self, process: subprocess.Popen[bytes]):
        assert process.stdin is not None
        self._process, self._pipe = process, process.stdin
        os.set_blocking(self._pipe.fileno(), False)

    @classmethod
    def start(cls, domain: int = 0, interface: str | None = None) -> Guard:
        """A guard that is ready to send. Takes a second or some: before the robot moves."""
        root = str(Path(__file__).resolve().parents[1])
        paths = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        process = subprocess.Popen(
            [sys.executable, "-m", "deploy.guard", str(domain), interface or ""],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": paths},
            start_new_session=True,  # ctrl-C in the controller's terminal must not take the guard along
        )
        assert process.stdout is not None
        came, _, _ = select.select([process.stdout], [], [], START_S)
        if not came or process.stdout.read(1) != _READY:
            process.kill()
            process.wait()
            raise MotionloomError(f"No guard on DDS domain {domain}, interface {interface}: it did not start.")
        return cls(process)

    def beat(self, mode_machine: int) -> None:
        """The controller lives. Never waits; raises `MotionloomError` where the guard does not live."""
        try:
            os.write(self._pipe.fileno(), bytes([BEAT, mode_machine]))
        except (BrokenPipeError, BlockingIOError):  # ended; or has not read for minutes
            raise MotionloomError("The guard has died: nothing would stop the robot if this program died.") from None

    def __enter__(self) -> Guard:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """A program that ends by an error leaves the guard behind, which damps the robot for a while."""
        if kind is None:
            self.dismiss()
        else:
            self._pipe.close()

    def dismiss(self) -> None:
        """The controller has damped the robot and ends: the guard ends too."""
        try:
            os.write(self._pipe.fileno(), bytes([GOODBYE, 0]))
        except (BrokenPipeError, BlockingIOError):
            self._process.kill()
        self._pipe.close()
        self._process.wait(START_S)


class Watch:
    """What a guard has heard, and what it therefore does."""

    def __init__(self) -> None:
        self.mode_machine = 0
        self._heard_s: float | None = None
        self._ended_s: float | None = None
        self._dismissed = False

    def hear(self, data: bytes, now_s: float) -> None:
        """What came through the pipe, b"" at its end."""
        if not data:
            self._ended_s = now_s if self._ended_s is None else self._ended_s
        for what, mode_machine in zip(data[::2], data[1::2], strict=False):
            self._dismissed |= what == GOODBYE
            if what == BEAT:
                self._heard_s, self.mode_machine = now_s, mode_machine

    def relieve(self, now_s: float) -> None:
        """Somebody else sends commands that hold the robot. Those of the controller that has just ended may still be on their way."""
        self._dismissed |= self._ended_s is not None and now_s - self._ended_s >= SILENCE_S

    def damps(self, now_s: float) -> bool:
        """Should the robot be damped now? Never before the first heartbeat: then nobody has moved it."""
        if self._heard_s is None or self.over(now_s):
            return False
        return self._ended_s is not None or now_s - self._heard_s >= SILENCE_S

    def over(self, now_s: float) -> bool:
        """Is there nothing left to do?"""
        if self._dismissed or self._ended_s is None:
            return self._dismissed
        return self._heard_s is None or now_s - self._ended_s >= DAMPING_S


def main(domain: int, interface: str | None) -> None:
    """Guard at standard input until there is nothing left to do."""
    from deploy.dds import COMMAND_TOPIC, Inbox, Outbox, join
    from deploy.dds_types import LowCmd_
    from deploy.wire import decode_command, encode_command

    participant = join(domain, interface)
    commands = Outbox(participant, COMMAND_TOPIC, LowCmd_)
    others = Inbox(participant, COMMAND_TOPIC, LowCmd_, decode_command)
    os.write(sys.stdout.fileno(), _READY)
    pipe, watch, open_ = sys.stdin.fileno(), Watch(), True
    while not watch.over(time.monotonic()):
        if watch.damps(time.monotonic()):
            commands.send(encode_command(damping(np.zeros(JOINTS), watch.mode_machine)))
        came, _, _ = select.select([pipe] if open_ else [], [], [], PERIOD_S)
        if came:
            data = os.read(pipe, 4096)
            open_ = bool(data)
            watch.hear(data, time.monotonic())
        others.look()
        if others.newest is not None and others.newest.kp.any():
            watch.relieve(others.newest_s)
    commands.close()
    others.close()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2] or None)
