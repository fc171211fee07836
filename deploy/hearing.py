"""What the robot's messages say by the way: its clock, its name, and how many were none."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from deploy.link import Received

TICKS = 2**32
"""At which the robot's clock begins anew."""
RECENT_S = 1.0


class Heard(NamedTuple):
    """In the order of `deploy.situation.Situation`'s fields."""

    refused: int
    tick_age_s: float
    tick_back_ms: int
    machine: int | None


class Hearing:
    """Asked once each control period."""

    def __init__(self, machine: int | None = None) -> None:
        """`machine` is the one that is expected; None: whichever is heard first."""
        self._machine = machine
        self._tick: tuple[int, float] | None = None
        self._refused: deque[tuple[float, int]] = deque(maxlen=64)

    def heard(self, received: Received | None, refused: Mapping[str, int], now_s: float) -> Heard:
        """`refused` counts since the start."""
        total = sum(refused.values())
        self._refused.append((now_s, total))
        earlier = next(count for when, count in self._refused if when > now_s - RECENT_S)
        if received is None:
            return Heard(total - earlier, 0.0, 0, self._machine)
        if self._machine is None:
            self._machine = received.state.mode_machine
        back = self._gone_back(received.state.tick, now_s)
        assert self._tick is not None
        return Heard(total - earlier, now_s - self._tick[1], back, self._machine)

    def _gone_back(self, tick: int, now_s: float) -> int:
        """By how many milliseconds; half of all ticks is the most that a clock can be ahead."""
        before = self._tick
        if before is not None and before[0] == tick:
            return 0
        self._tick = (tick, now_s)
        gone = 0 if before is None else (tick - before[0]) % TICKS
        return TICKS - gone if gone >= TICKS // 2 else 0
