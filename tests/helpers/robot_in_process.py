"""A simulated robot on a made-up clock, as a `Link`; and policies and sources that do what a test wants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from deploy.contract import CONTROL_HZ, STANDING, Contract
from deploy.controller import Controller
from deploy.link import Received
from deploy.messages import JOINTS, LowCmd, LowState
from deploy.reference import Preview
from deploy.report import Report
from deploy.sim import SimOptions, Simulator

PERIOD_S = 1 / CONTROL_HZ


def still_state(tick: int = 0, **changes: Any) -> LowState:
    """A robot that stands upright in its stance."""
    state = LowState(
        tick, 5, STANDING.copy(), np.zeros(JOINTS), np.zeros(JOINTS), np.array([1.0, 0, 0, 0]), np.zeros(3),
        np.array([0, 0, 9.81]), np.full(JOINTS, 30.0), np.zeros(JOINTS, int),
    )  # fmt: skip
    return replace(state, **changes)


class StillLink:
    """A robot that says the same whatever it is told; `said` changes what it says, `cut` the cable."""

    def __init__(self) -> None:
        self.now_s, self.heard_s = 0.0, 0.0
        self.said: Callable[[LowState], LowState] = lambda state: state
        self.cut = self.frozen = self.closed = False
        self.refused: Counter[str] = Counter()
        self.commands: list[LowCmd] = []
        self.state = still_state()

    def read(self) -> Received | None:
        return Received(self.said(self.state), self.heard_s)

    def write(self, command: LowCmd) -> None:
        self.commands.append(command)

    def close(self) -> None:
        self.closed = True

    def pass_time(self, now_s: float) -> None:
        """The robot obeys until then."""
        self.now_s = now_s
        if not self.cut:
            self.heard_s = now_s
            self.state = self.moved()

    def moved(self) -> LowState:
        return self.state if self.frozen else replace(self.state, tick=self.state.tick + 20)


class SimulatedLink(StillLink):
    """The simulator's robot."""

    def __init__(self, options: SimOptions = SimOptions()):
        super().__init__()
        self.simulator = Simulator(options)
        self.state = self.simulator.measure()

    def moved(self) -> LowState:
        return self.simulator.advance(self.commands[-1] if self.commands else None, steps=4)


class MadeUpPolicy:
    """Answers by whatever `answer` makes of the observation; zeros follow the reference."""

    contract = Contract()

    def __init__(self) -> None:
        self.answer: Callable[[np.ndarray], np.ndarray] = lambda seen: np.zeros(JOINTS, np.float32)
        self.seen: list[np.ndarray] = []
        self.forgot = 0

    def act(self, observation: np.ndarray) -> np.ndarray:
        self.seen.append(observation.copy())
        return self.answer(observation)

    def forget(self) -> None:
        self.forgot += 1
        self.seen.clear()


class ChangedSource:
    """Shows another source's motion; `change` does something to it."""

    def __init__(self, source: Any):
        self.source, self.name = source, "changed"
        self.change: Callable[[Preview], Preview | None] = lambda preview: preview

    def begin(self) -> None:
        self.source.begin()

    def look(self, now_s: float) -> Preview | None:
        preview = self.source.look(now_s)
        return None if preview is None else self.change(preview)

    def close(self) -> None:
        self.source.close()


class Loop:
    """A controller and a robot that take turns."""

    def __init__(self, controller: Controller, link: StillLink):
        self.controller, self.link = controller, link
        self.now_s = 0.0
        self.report: Report | None = None

    def step(self, wish: str = "track", **late: Any) -> Report:
        self.link.pass_time(self.now_s)
        self.report = self.controller.step(self.now_s, wish, **late)
        self.now_s += PERIOD_S
        return self.report

    def until(self, mode: str, wish: str = "track", seconds: float = 20.0) -> Report:
        """Go on until the controller is in that mode."""
        for _ in range(round(seconds / PERIOD_S)):
            if (report := self.step(wish)).modes.mode == mode:
                return report
        raise AssertionError(f"{mode} was not reached; {self.report and (self.report.modes, self.report.faults)}")
