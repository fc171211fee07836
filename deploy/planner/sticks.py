"""Sticks as commands: a Linux joystick, or the robot's own remote. Left stick: where to go; right stick: turn, and how high."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from corpus.errors import MotionloomError
from deploy.planner.commands import Command, Limits, sane
from deploy.remote import AT_REST, Remote, decode_remote

LONGEST_S = 0.1
"""Between two looks at the sticks more time than this does not turn the facing further: somebody was away."""


class Steering:
    """What sticks say, as a command in the world: they steer from where the robot faces, and the facing is theirs to keep.

    `style` is set by whoever has buttons for it.
    """

    def __init__(self, limits: Limits = Limits(), *, lowest: float = 0.35, upright: float = 0.78):
        self.limits, self.lowest, self.upright = limits, lowest, upright
        self.facing = 0.0
        self.last_s: float | None = None
        self.style: str | None = None

    def command(self, sticks: Remote, now_s: float) -> Command:
        """`ly` forward, `lx` to the side, `rx` turns, `ry` pulled down lowers the pelvis."""
        gone = 0.0 if self.last_s is None else min(max(now_s - self.last_s, 0.0), LONGEST_S)
        self.last_s = now_s
        lx, ly, rx, ry = (self._past_dead_zone(value) for value in (sticks.lx, sticks.ly, sticks.rx, sticks.ry))
        self.facing = math.remainder(self.facing - rx * self.limits.turn_rate * gone, math.tau)
        forward, left = ly * self.limits.speed, -lx * self.limits.side_speed
        cosine, sine = math.cos(self.facing), math.sin(self.facing)
        velocity = cosine * forward - sine * left, sine * forward + cosine * left
        height = self.upright + ry * (self.upright - self.lowest) if ry < 0 else None
        # A style at rest goes its own way.
        facing = self.facing if self.style is None or any(velocity) else None
        return sane(Command(velocity, facing, height, self.style), self.limits)

    def _past_dead_zone(self, value: float) -> float:
        """From 0 where the dead zone ends to 1."""
        zone = self.limits.dead_zone
        return math.copysign(max(abs(value) - zone, 0.0) / (1 - zone), value)


class RemoteCommander:
    """The G1's own remote: `read` gives the newest 40 bytes of `LowState.remote`."""

    def __init__(self, read: Callable[[], bytes], steering: Steering | None = None):
        self.read, self.steering = read, steering or Steering()

    def now(self, now_s: float) -> Command:
        return self.steering.command(decode_remote(self.read()), now_s)

    def close(self) -> None:
        pass


class Gamepad:
    """A Linux joystick (`/dev/input/js0`). One that is unplugged is at rest."""

    def __init__(self, device: Path, steering: Steering | None = None, axes: Axes | None = None):
        self.steering, self.axes, self.sticks, self.rest = steering or Steering(), axes or Axes(), AT_REST, b""
        try:
            self.file = os.open(device, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            raise MotionloomError(f"{device} is no joystick that can be read ({error.strerror}).") from None

    def now(self, now_s: float) -> Command:
        self._read()
        return self.steering.command(self.sticks, now_s)

    def close(self) -> None:
        if self.file >= 0:
            os.close(self.file)
            self.file = -1

    def _read(self) -> None:
        """All events that have come; what is left of one waits for its rest."""
        try:
            fresh = os.read(self.file, EVENTS * _EVENT.size) if self.file >= 0 else b""
        except BlockingIOError:
            return
        except OSError:
            self.sticks, self.rest = AT_REST, b""
            return
        told = self.rest + fresh
        whole = len(told) // _EVENT.size * _EVENT.size
        self.rest = told[whole:]
        for _, value, kind, number in _EVENT.iter_unpack(told[:whole]):
            name = self.axes.name_of(number)
            if kind & ~_INITIAL == _AXIS and name is not None:
                # The kernel counts down and right as positive.
                self.sticks = replace(
                    self.sticks, **{name: max(value / 32767, -1.0) * (-1 if name in ("ly", "ry") else 1)}
                )


Stick = Literal["lx", "ly", "rx", "ry"]


@dataclass(frozen=True)
class Axes:
    """Numbers of a joystick's axes; these are of most pads."""

    lx: int = 0
    ly: int = 1
    rx: int = 3
    ry: int = 4

    def name_of(self, number: int) -> Stick | None:
        return next((name for name in ("lx", "ly", "rx", "ry") if getattr(self, name) == number), None)


EVENTS = 64
"""Read at most at a time."""
_EVENT = struct.Struct("<IhBB")  # time [ms], value, kind, number: linux/joystick.h
_AXIS, _INITIAL = 0x02, 0x80
