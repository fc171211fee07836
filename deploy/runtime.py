"""Keep time: fifty control periods a second on absolute deadlines, from the first damping to the last."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from deploy.controller import Controller
from deploy.report import Report

LAST_COMMANDS = 10
"""Damping commands that a program which goes wrong leaves behind, a tenth of a second in all."""


class Operator(Protocol):
    def wish(self, now_s: float, report: Report | None) -> str | None:
        """One of `deploy.modes.WISHES`; None when the run is over."""
        ...


@dataclass
class Automatic:
    """Stand, follow the motion to its end, stand again, damp, and that is all."""

    seconds: float | None = None
    """Follow for so long at most [s]; to the motion's end otherwise."""
    stand_s: float = 1.0
    """Stand so long after it [s]."""
    damping_s: float = 0.5
    wait_s: float = 30.0
    """Wait so long for the robot's first state and for the motion's first frame [s]."""
    lasting: bool = False
    """Where a motion ends another may come, as of live sources: stand meanwhile, and wait for as long as it takes, or at most for
    `seconds` and `wait_s`. Else the end of the motion is the end of the run."""
    asked: Callable[[], int] = lambda: 0
    """How often somebody has asked to end it: once for a stand and damping, twice for an emergency stop."""
    _begun_s: float | None = None
    _tracked_s: float | None = None
    _over: bool = False

    def wish(self, now_s: float, report: Report | None) -> str | None:
        if self._begun_s is None:
            self._begun_s = now_s
        asked = self.asked()
        if report is None:
            return "track"
        modes = report.modes
        if modes.mode == "damping" and (modes.stopped or self._over or asked):
            return "damping" if now_s - modes.since_s < self.damping_s else None
        if modes.mode == "track" and self._tracked_s is None:
            self._tracked_s = now_s
        self._over = self._over or asked > 0 or self._enough(now_s, report)
        if asked > 1:
            return "stop"
        if not self._over:
            return "track"
        if modes.mode == "stand" and now_s - modes.since_s < (min(self.stand_s, 1.0) if asked else self.stand_s):
            return "stand"
        return "damping"

    def _enough(self, now_s: float, report: Report) -> bool:
        """Waited, or followed, for long enough?"""
        assert self._begun_s is not None
        if self._tracked_s is not None:
            long_enough = self.seconds is not None and now_s - self._tracked_s >= self.seconds
            return long_enough or (report.ended and not self.lasting)
        wait_s = self.wait_s
        if self.lasting and report.state is not None:
            wait_s = np.inf if self.seconds is None else wait_s + self.seconds
        return now_s - self._begun_s > wait_s


@dataclass
class Run:
    """What a run came to."""

    periods: int = 0
    tracked: int = 0
    """Control periods in which the policy followed the motion."""
    misses: int = 0
    """Control periods whose command was written later than one period after they should have begun."""
    worst_late_s: float = 0.0
    seconds: float = 0.0
    fault: str = ""
    """The first fault that ended it, or why nothing was followed; empty where it came to its end."""
    stages: dict[str, dict[str, float]] = field(default_factory=dict)


def run(
    controller: Controller,
    operator: Operator,
    *,
    beat: Callable[[int], None] | None = None,
    told: Callable[[float, Report], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Run:
    """Until the operator ends it. `beat` is called with the robot's machine every period (the guard's heartbeat); `told` after it.

    A period that could not begin in time begins at once, and those that it swallowed are not made up for.
    """
    outcome, report, period = Run(), None, controller.period_s
    late_count, behind = 0, 0.0
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()  # a collection takes longer than a control period may be late
    start = due = clock()
    try:
        while (wish := operator.wish(due, report)) is not None:
            begun = clock()
            late = begun - due
            late_count, behind = (late_count + 1, behind + late) if late > period / 2 else (0, 0.0)
            report = controller.step(begun, wish, late_s=behind, late_count=late_count)
            done = clock()
            outcome.periods += 1
            outcome.tracked += report.modes.mode == "track"
            outcome.misses += done - due > period
            outcome.worst_late_s = max(outcome.worst_late_s, done - due)
            outcome.fault = report.modes.fault if report.modes.stopped else ""
            if beat is not None:
                beat(report.command.mode_machine)
            if told is not None:
                told(done, report)
            due = max(due, begun - period) + period
            if (left := due - clock()) > 0:
                sleep(left)
    except BaseException:
        for _ in range(
            LAST_COMMANDS
        ):  # whatever it was: the robot would go on under the last command, and one may be lost
            controller.damp()
            sleep(period / 2)
        raise
    finally:
        if collecting:
            gc.enable()
    if not (outcome.tracked or outcome.fault):
        outcome.fault = report.faults[0].name if report is not None and report.faults else "nothing_followed"
    outcome.seconds = clock() - start
    # A stand takes less: what counts is how long a period takes in which the policy acts.
    outcome.stages = controller.stages.summary("infer") or controller.stages.summary()
    return outcome
