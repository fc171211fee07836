"""Keeping time on a made-up clock: what takes too long is noticed, and whatever goes wrong leaves the robot damped."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from robot_in_process import PERIOD_S, MadeUpPolicy, StillLink

from corpus.motion import RobotMotion
from deploy.contract import Contract
from deploy.controller import Controller, frames_of
from deploy.messages import JOINTS
from deploy.reference import ClipSource, StandSource
from deploy.report import Report
from deploy.runtime import Automatic, Run, run
from deploy.stance import standing
from deploy.stand import StandOptions

FRAMES = frames_of(Contract())
SHORT = StandOptions(ramp_s=0.1, hold_s=0.1)


class Clock:
    """Time passes by sleeping, and by 1 ms with each command that is written."""

    def __init__(self) -> None:
        self.now_s = 5.0
        self.hooks: list[Callable[[float], None]] = []

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now_s += seconds


class ClockedLink(StillLink):
    def __init__(self, clock: Clock):
        super().__init__()
        self.clock, self.takes_s, self.written_s = clock, lambda: 0.001, []

    def read(self):
        self.pass_time(self.clock.now_s)
        return super().read()

    def write(self, command) -> None:
        self.clock.now_s += self.takes_s()
        self.written_s.append(self.clock.now_s)
        super().write(command)


class Plain:
    """A run on a made-up clock."""

    def __init__(self, source=None):
        self.clock, self.told = Clock(), []
        self.link, self.policy = ClockedLink(self.clock), MadeUpPolicy()
        self.controller = Controller(self.policy, source or StandSource(FRAMES), self.link, stand=SHORT)

    def run(self, operator=None, **options) -> Run:
        told = options.pop("told", lambda now, report: None)

        def tell(now: float, report: Report) -> None:
            self.told.append((now, report))
            told(now, report)

        return run(
            self.controller,
            operator or Automatic(seconds=1.0),
            clock=self.clock,
            sleep=self.clock.sleep,
            told=tell,
            **options,
        )

    @property
    def modes(self) -> list[str]:
        """One after another."""
        modes = [report.modes.mode for _, report in self.told]
        return [mode for i, mode in enumerate(modes) if i == 0 or modes[i - 1] != mode]


def test_a_run_stands_follows_stands_and_damps():
    plain, beats = Plain(), []
    outcome = plain.run(beat=beats.append)
    assert plain.modes == ["stand", "track", "settle", "stand", "damping"]
    assert (outcome.fault, outcome.misses) == ("", 0)
    assert outcome.tracked == pytest.approx(50, abs=2)
    assert beats == [5] * outcome.periods
    assert np.diff(plain.link.written_s) == pytest.approx(PERIOD_S)
    assert outcome.worst_late_s == pytest.approx(0.001)
    last = plain.link.commands[-1]
    assert not last.kp.any()


def test_a_run_ends_with_its_motion():
    clip = ClipSource(RobotMotion(np.tile(standing(), (30, 1)), 50.0), FRAMES)
    outcome = Plain(clip).run(Automatic())
    assert outcome.tracked == 30


def late_once(plain: Plain, seconds: float, at: int = 60) -> list[float]:
    """One control period takes so long."""
    plain.link.takes_s = lambda: seconds if len(plain.link.commands) == at else 0.001
    return [seconds]


@pytest.mark.parametrize(("seconds", "fault"), [(0.09, ""), (0.15, "late"), (1.0, "late")])
def test_a_step_that_hangs_is_noticed_by_the_next(seconds, fault):
    plain = Plain()
    late_once(plain, seconds)
    outcome = plain.run(Automatic(seconds=3.0))
    assert outcome.fault == fault
    assert outcome.worst_late_s == pytest.approx(seconds, abs=0.005)
    if fault:
        assert not plain.link.commands[61].kp.any()


def test_steps_that_are_all_too_slow_are_noticed():
    plain = Plain()
    plain.link.takes_s = lambda: 0.035 if len(plain.link.commands) > 60 else 0.001
    outcome = plain.run(Automatic(seconds=3.0))
    assert outcome.fault == "late"
    assert len(plain.link.commands) < 60 + 8 + round(0.5 / PERIOD_S)


def test_periods_that_were_swallowed_are_not_made_up_for():
    plain = Plain()
    late_once(plain, 0.09)
    plain.run(Automatic(seconds=2.0))
    gaps = np.diff(plain.link.written_s)
    assert gaps.max() == pytest.approx(0.09 + 0.019)
    assert (gaps < 0.9 * PERIOD_S).sum() <= 2
    assert gaps[70:] == pytest.approx(PERIOD_S)


@pytest.mark.parametrize(("asked", "modes"), [(1, ["settle", "stand", "damping"]), (2, ["damping"])])
def test_somebody_who_asks_once_gets_a_stand_and_twice_a_stop(asked, modes):
    plain, count = Plain(), [0]

    def told(now: float, report: Report) -> None:
        if report.modes.mode == "track" and len(plain.told) > 60:
            count[0] = asked

    outcome = plain.run(Automatic(asked=lambda: count[0]), told=told)
    assert plain.modes == ["stand", "track", *modes]
    assert outcome.fault == ("stop" if asked == 2 else "")


def test_an_error_on_the_way_leaves_the_robot_damped_and_travels_up():
    plain = Plain()

    def fail(seen: np.ndarray) -> np.ndarray:
        raise RuntimeError("a bug")

    plain.policy.answer = fail
    with pytest.raises(RuntimeError, match="a bug"):
        plain.run()
    assert plain.modes[-1] == "track" or plain.modes[-1] == "stand"
    assert not plain.link.commands[-1].kp.any()
    assert plain.link.commands[-1].mode_machine == 5


def test_a_robot_that_never_speaks_ends_the_run_after_a_while():
    plain = Plain()
    plain.link.read = lambda: None
    outcome = plain.run(Automatic(wait_s=2.0))
    assert outcome.seconds == pytest.approx(2.0, abs=0.1)
    assert (outcome.tracked, outcome.fault) == (0, "no_state")


def test_a_motion_that_never_comes_ends_the_run_in_damping():
    source = StandSource(FRAMES)
    source.look = lambda now_s: None
    plain = Plain(source)
    outcome = plain.run(Automatic(wait_s=2.0))
    assert plain.modes == ["stand", "damping"]
    assert (outcome.tracked, outcome.fault) == (0, "nothing_followed")


def test_a_robot_is_commanded_though_its_joints_are_unknown():
    """NaN is answered by a damping command that can be sent."""
    plain = Plain()

    def told(now: float, report: Report) -> None:
        if report.modes.mode == "track":
            from dataclasses import replace

            plain.link.said = lambda state: replace(state, joint_position=np.full(JOINTS, np.nan))

    assert plain.run(told=told).fault == "not_finite"
    assert all(np.isfinite(command.joint_position).all() for command in plain.link.commands)
