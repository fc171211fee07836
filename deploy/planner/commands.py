"""What a planner is told: where to go and how; and a script as one who tells it. `keyboard` and `gamepad` are others."""

from __future__ import annotations

import csv
import io
import json
import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from corpus.errors import MotionloomError


@dataclass(frozen=True)
class Command:
    """Where to go and how. The world is that of the reference: it starts at its origin, facing along x."""

    velocity: tuple[float, float] = (0.0, 0.0)
    """Of the pelvis over the ground, in the world [m/s]."""
    facing: float | None = None
    """Heading in the world [rad]; None faces the way it goes, and stays as it is at rest."""
    height: float | None = None
    """Of the pelvis [m]; None is upright, or as the style has it."""
    style: str | None = None
    """One of the index's styles; None is any. An unknown one is taken as None. With a style and nothing else its motions are played
    as they come, wherever they go."""


STAND = Command()


class Commander(Protocol):
    """Who tells the planner: a script, a keyboard, a gamepad."""

    def now(self, now_s: float) -> Command:
        """Never waits; `now_s` on the clock of `time.monotonic`."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Limits:
    """What a person or a script may ask for at most."""

    speed: float = 1.5
    """[m/s]"""
    side_speed: float = 0.6
    """To the side, of sticks and keys [m/s]."""
    turn_rate: float = 1.5
    """[rad/s]"""
    height: tuple[float, float] = (0.1, 1.0)
    """Of the pelvis [m]."""
    dead_zone: float = 0.1
    """Sticks nearer to their middle than this share count as let go."""


def sane(command: Command, limits: Limits = Limits()) -> Command:
    """The command within the limits; what is not a finite number counts as not said."""
    x, y = command.velocity if all(map(_finite, command.velocity)) else (0.0, 0.0)
    fast, (low, high) = math.hypot(x, y) / limits.speed, limits.height
    if fast > 1:
        x, y = x / fast, y / fast
    facing = None if command.facing is None or not _finite(command.facing) else math.remainder(command.facing, math.tau)
    height = None if command.height is None or not _finite(command.height) else min(max(command.height, low), high)
    return replace(command, velocity=(x, y), facing=facing, height=height)


class Script:
    """Commands at fixed times: each holds until the next one; before the first it stands."""

    def __init__(self, times_s: Sequence[float], commands: Sequence[Command]):
        self.times_s, self.commands, self.began_s = list(times_s), list(commands), None

    @classmethod
    def read(cls, path: Path) -> Script:
        """JSON lines such as `{"time": 1.5, "velocity": [0.5, 0], "facing": 0, "height": 0.7, "style": "walk"}`, or CSV with the columns
        time, vx, vy, facing, height, style; all but the time may be left out."""
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise MotionloomError(f"{path} cannot be read ({error}).") from None
        rows = _csv_rows(text) if path.suffix == ".csv" else _json_rows(text)
        times, commands = [], []
        for line, row in rows:
            try:
                time_s, command = _command(row() if callable(row) else row)
                if times and time_s <= times[-1]:
                    raise ValueError(f"time {time_s:g} should be later than {times[-1]:g}")
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                raise MotionloomError(f"{path}, line {line}: {error}.") from None
            times.append(time_s)
            commands.append(command)
        if not times:
            raise MotionloomError(f"{path} holds no command.")
        return cls(times, commands)

    def now(self, now_s: float) -> Command:
        """Times count from the first call."""
        self.began_s = now_s if self.began_s is None else self.began_s
        # A hair more: sums of periods fall short of round numbers.
        place = bisect_right(self.times_s, now_s - self.began_s + 1e-6) - 1
        return self.commands[place] if place >= 0 else STAND

    def close(self) -> None:
        pass


def _json_rows(text: str) -> list[tuple[int, Callable[[], Any]]]:
    lines = enumerate(text.splitlines(), 1)
    return [(number, lambda line=line: json.loads(line)) for number, line in lines if line.strip()]


def _csv_rows(text: str) -> list[tuple[int, Callable[[], Any]]]:
    reader = csv.reader(io.StringIO(text))
    try:
        rows = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise MotionloomError(f"No CSV: {error}.") from None
    names = [name.strip() for name in rows[0][1]] if rows else []
    return [(number, lambda row=row: _from_csv(names, row)) for number, row in rows[1:]]


def _from_csv(names: list[str], row: list[str]) -> dict[str, Any]:
    if len(row) != len(names):
        raise ValueError(f"{len(row)} values, expected {len(names)}: {', '.join(names)}")
    told: dict[str, Any] = {name: value.strip() for name, value in zip(names, row, strict=True) if value.strip()}
    told |= {name: float(value) for name, value in told.items() if name != "style"}
    if "vx" in told or "vy" in told:
        told["velocity"] = [told.pop("vx", 0.0), told.pop("vy", 0.0)]
    return told


def _command(row: Any) -> tuple[float, Command]:
    known = ("time", "velocity", "facing", "height", "style")
    if not isinstance(row, dict) or "time" not in row:
        raise ValueError(f"expected {', '.join(known)}, at least a time")
    if unknown := sorted(set(row) - set(known)):
        raise ValueError(f"unknown: {unknown[0]}; known are {', '.join(known)}")
    velocity, style = row.get("velocity", [0.0, 0.0]), row.get("style")
    if not isinstance(velocity, list) or len(velocity) != 2:
        raise ValueError("velocity should be two numbers, x and y [m/s]")
    x, y = (_number("velocity", value) for value in velocity)
    if style is not None and not isinstance(style, str):
        raise ValueError("style should be a name")
    facing, height = (None if row.get(name) is None else _number(name, row[name]) for name in ("facing", "height"))
    return _number("time", row["time"]), Command((x, y), facing, height, style)


def _number(name: str, value: Any) -> float:
    if not _finite(value):
        raise ValueError(f"{name} should be a finite number, got {str(value)[:40]!r}")
    return float(value)


def _finite(value: Any) -> bool:
    try:
        return not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False
