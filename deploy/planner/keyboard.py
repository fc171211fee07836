"""Keys of the terminal as commands. W S: faster, slower; A D: turn; Q E: sideways; R F: up, down; Tab: next style; space: stand."""

from __future__ import annotations

import math
import os
import select
import sys
import termios
import tty
from collections.abc import Sequence

from corpus.errors import MotionloomError
from deploy.planner.commands import Command, Limits, sane

SPEED_STEP, SIDE_STEP, TURN_STEP, HEIGHT_STEP = 0.1, 0.1, math.radians(10), 0.05
"""What one key changes [m/s, m/s, rad, m]."""


class Keys:
    """What was typed so far, as a command; without a terminal."""

    def __init__(self, styles: Sequence[str] = (), limits: Limits = Limits(), *, upright: float = 0.78):
        self.styles, self.limits, self.upright = (None, *styles), limits, upright
        self.forward = self.left = self.facing = self.lowered = 0.0
        self.style = 0

    def press(self, key: str) -> None:
        """Keys without a meaning do nothing."""
        limits = self.limits
        match key.lower():
            case "w" | "s":
                step = SPEED_STEP if key.lower() == "w" else -SPEED_STEP
                self.forward = min(max(self.forward + step, -limits.speed), limits.speed)
            case "q" | "e":
                step = SIDE_STEP if key.lower() == "q" else -SIDE_STEP
                self.left = min(max(self.left + step, -limits.side_speed), limits.side_speed)
            case "a" | "d":
                self.facing = math.remainder(self.facing + (TURN_STEP if key.lower() == "a" else -TURN_STEP), math.tau)
            case "r" | "f":
                self.lowered = min(
                    max(self.lowered + (HEIGHT_STEP if key.lower() == "f" else -HEIGHT_STEP), 0.0), self.upright
                )
            case "\t":
                self.style = (self.style + 1) % len(self.styles)
            case " ":
                self.forward = self.left = 0.0

    def command(self) -> Command:
        cosine, sine = math.cos(self.facing), math.sin(self.facing)
        velocity = cosine * self.forward - sine * self.left, sine * self.forward + cosine * self.left
        height = self.upright - self.lowered if self.lowered > 1e-6 else None
        style = self.styles[self.style]
        # A style at rest goes its own way.
        facing = self.facing if style is None or any(velocity) else None
        return sane(Command(velocity, facing, height, style), self.limits)


class Keyboard:
    """The terminal, key by key; as it was when closed. Control-C works as ever."""

    def __init__(self, keys: Keys | None = None, terminal: int | None = None):
        self.keys = keys or Keys()
        self.terminal = sys.stdin.fileno() if terminal is None else terminal
        if not os.isatty(self.terminal):
            raise MotionloomError("There is no terminal to read keys from: use a script or a gamepad.")
        self.before: list | None = termios.tcgetattr(self.terminal)
        tty.setcbreak(self.terminal)

    def now(self, now_s: float) -> Command:
        while select.select([self.terminal], [], [], 0)[0]:
            typed = os.read(self.terminal, 64)
            if not typed:
                break
            for key in typed.decode("utf-8", "ignore"):
                self.keys.press(key)
        return self.keys.command()

    def close(self) -> None:
        if self.before is not None:
            termios.tcsetattr(self.terminal, termios.TCSADRAIN, self.before)
            self.before = None

    def __enter__(self) -> Keyboard:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
