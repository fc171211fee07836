from __future__ import annotations

import time

import numpy as np
import pytest

from deploy.stages import STAGES, Stages


def made_up(monkeypatch) -> list[float]:
    """A clock that says what the list's only number is."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def test_times_go_to_the_stage_that_has_just_ended(monkeypatch):
    now, stages = made_up(monkeypatch), Stages()
    for period in range(100):
        stages.begin()
        for name, took in (("read", 0.001), ("infer", 0.002 * (period + 1)), ("read", 0.001)):
            now[0] += took
            stages.mark(name)
        assert stages.so_far()["infer"] == pytest.approx(0.002 * (period + 1))
        stages.end()
    summary = stages.summary()
    assert set(summary) == {*STAGES, "step"}
    assert summary["read"] == pytest.approx({"p50_ms": 2, "p99_ms": 2, "max_ms": 2})
    infer = 2.0 * np.arange(1, 101)
    assert summary["infer"]["p50_ms"] == pytest.approx(np.percentile(infer, 50))
    assert summary["infer"]["p99_ms"] == pytest.approx(np.percentile(infer, 99))
    assert summary["step"]["max_ms"] == pytest.approx(202.0)
    assert summary["write"]["max_ms"] == 0


def test_idle_periods_need_not_count(monkeypatch):
    """A policy that acts in every tenth period takes as long as it takes."""
    now, stages = made_up(monkeypatch), Stages()
    for period in range(100):
        stages.begin()
        for name, took in (("read", 0.001), ("infer", 0.004 if period % 10 == 0 else 0.0)):
            now[0] += took
            stages.mark(name)
        stages.end()
    assert stages.summary()["infer"]["p50_ms"] == 0
    assert stages.summary("infer")["infer"]["p50_ms"] == pytest.approx(4)
    assert stages.summary("infer")["step"]["p50_ms"] == pytest.approx(5)
    assert stages.summary("look") == {}


def test_nothing_measured_gives_no_summary():
    assert Stages().summary() == {}
