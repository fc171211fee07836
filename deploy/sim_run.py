"""A simulated robot on its topics in real time, until it is told to stop; and the truth of what it did, for those who judge."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from corpus.durable import save_arrays
from deploy.messages import LowCmd, LowState
from deploy.sim import Simulator


class RobotEnd(Protocol):
    """As `deploy.dds.DdsRobot`."""

    def read_command(self) -> tuple[LowCmd, float] | None: ...

    def write_state(self, state: LowState) -> None: ...

    @property
    def refused(self) -> Mapping[str, int]: ...


@dataclass
class Summary:
    """How a run went."""

    steps: int = 0
    """Physics steps."""
    commands: int = 0
    """New ones, also those ignored."""
    late: int = 0
    """Steps that began more than a step after they were due."""
    worst_lag_s: float = 0.0
    """Of any step."""
    lost_s: float = 0.0
    """By which the world has fallen behind real time for good."""
    refused: Counter[str] = field(default_factory=Counter)
    """Commands thrown away or ignored, by reason."""


BEHIND = 0.5
"""A world later than this does not try to catch up [s]."""


class Truth:
    """What really happened, one row per control period. It goes into a file, never to a controller."""

    def __init__(self) -> None:
        self._rows: list[tuple[float, float, np.ndarray, np.ndarray]] = []

    def add(self, simulator: Simulator, now_s: float) -> None:
        self._rows.append((simulator.time_s, now_s, simulator.qpos, simulator.qvel))

    def save(self, path: Path) -> None:
        """An npz: time_s of the simulation, clock_s of `time.monotonic`, qpos and qvel as MuJoCo has them."""
        time_s, clock_s, qpos, qvel = zip(*self._rows, strict=True) if self._rows else ((), (), (), ())
        arrays = {"time_s": np.array(time_s), "clock_s": np.array(clock_s)}
        arrays |= {"qpos": np.reshape(qpos, (-1, 36)), "qvel": np.reshape(qvel, (-1, 35))}
        save_arrays(path, arrays)


def run(
    simulator: Simulator,
    robot: RobotEnd,
    stopped: Callable[[], bool],
    *,
    seconds: float = float("inf"),
    realtime_factor: float = 1.0,
    truth: Truth | None = None,
) -> Summary:
    """One physics step, one state sent, at each deadline, until `stopped()` or for so many simulated seconds."""
    summary, last = Summary(), None
    period_s = simulator.options.physics.timestep_s / realtime_factor
    due_s = time.monotonic()
    while simulator.time_s < seconds and not stopped():
        due_s = _wait(due_s + period_s, period_s, summary)
        newest = robot.read_command()
        command = None if newest is None or newest[0] is last else newest[0]
        last = command or last
        summary.commands += command is not None
        robot.write_state(simulator.advance(command))
        if truth is not None and simulator.steps % simulator.options.physics.substeps == 0:
            truth.add(simulator, time.monotonic())
    summary.steps = simulator.steps
    summary.refused = Counter(robot.refused) + simulator.refused
    return summary


def _wait(due_s: float, period_s: float, summary: Summary) -> float:
    """Until then; when the step was really due: later, where the world has fallen far behind."""
    lag_s = time.monotonic() - due_s
    if lag_s < 0:
        time.sleep(-lag_s)
        return due_s
    summary.late += lag_s > period_s
    summary.worst_lag_s = max(summary.worst_lag_s, lag_s)
    if lag_s <= BEHIND:
        return due_s
    summary.lost_s += lag_s
    return due_s + lag_s
