from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
from made_runs import squat, step_of, write_run

from corpus.errors import MotionloomError
from corpus.motion import velocity
from corpus.recording import read_recording
from deploy import log as deploy_log
from deploy.contract import Contract
from deploy.log import RunLog

MOTION = squat(0.4)
SPEED = velocity(MOTION)


def step(number: int, **options):
    i = number % MOTION.frame_count
    return step_of(number, MOTION.qpos[i], SPEED[i], MOTION.qpos[i], **options)


def test_steps_and_events_come_back_in_order(tmp_path):
    path = tmp_path / "a.g1run"
    with RunLog(path, Contract(), {"policy": "p"}) as log:
        log.event(99.5, "start", battery=0.9)
        for i in range(5):
            log.add(step(i))
        log.event(101.0, "fault", reason="tilt", limit=float("nan"), joints=(1, 2), angle=np.float32(0.5))
    found = read_recording(path)
    assert [event["name"] for event in found.events] == ["start", "fault"]
    assert found.events[1] == {
        "time_s": 101.0,
        "name": "fault",
        "reason": "tilt",
        "limit": None,
        "joints": "(1, 2)",
        "angle": 0.5,
    }
    assert list(found.number) == list(range(5)) and found.header["facts"] == {"policy": "p"}
    assert found.header["contract"]["hash"] == Contract().hash
    np.testing.assert_allclose(found.kp[0], Contract().gains.kp, rtol=1e-6)


def test_what_there_was_none_of_is_nan(tmp_path):
    still = step_of(0, MOTION.qpos[0], SPEED[0], None, mode="damping")
    with RunLog(tmp_path / "a.g1run", Contract(), {}) as log:
        log.add(still)
        log.add(step(1))
    found = read_recording(tmp_path / "a.g1run")
    assert np.isnan(found.reference_qpos[0]).all() and np.isnan(found.action[0]).all()
    assert np.isnan(found.stages["infer"][0]) and np.isfinite(found.stages["infer"][1])
    assert list(found.mode) == ["damping", "track"]


def test_a_state_beyond_all_reason_is_written_all_the_same(tmp_path):
    with RunLog(tmp_path / "a.g1run", Contract(), {}) as log:
        odd = step(0)
        odd = replace(odd, state=replace(odd.state, tick=2**40, motor_fault=np.full(29, -1)), mode="ünknown" * 9)
        log.add(replace(odd, action=np.full(29, np.nan), stages={f"s{i}": 1.0 for i in range(40)}))
        log.event(float("nan"), "x" * 9000)
    found = read_recording(tmp_path / "a.g1run")
    assert found.mode[0] == "?nknown?nkno" and len(found.stages) == 16 and len(found.events[0]["name"]) == 80


def test_a_file_that_is_there_is_not_written_over(tmp_path):
    write_run(tmp_path / "a.g1run", MOTION)
    with pytest.raises(MotionloomError, match="is there already"):
        RunLog(tmp_path / "a.g1run", Contract(), {})


@pytest.mark.parametrize("facts", [{"a": object()}, {"a": float("nan")}, {"a": "x" * 70000}])
def test_facts_that_are_no_plain_values_are_refused(tmp_path, facts):
    with pytest.raises(MotionloomError, match="plain values"):
        RunLog(tmp_path / "a.g1run", Contract(), facts)
    assert not (tmp_path / "a.g1run").exists()


def test_a_full_disk_stops_nothing_and_is_told(tmp_path, monkeypatch):
    """It takes half a record of the third step on, and has room again from the sixth."""
    calls, pwrite = [], os.pwrite

    def full(file, data, offset):
        calls.append(len(data))
        if 5 <= len(calls) <= 9:  # header, stages, two steps; then half a step and nothing, twice, and nothing once
            if len(calls) % 2:
                return pwrite(file, data[: len(data) // 2], offset) if len(calls) < 9 else _no_space()
            _no_space()
        return pwrite(file, data, offset)

    monkeypatch.setattr(deploy_log.os, "pwrite", full)
    with RunLog(tmp_path / "a.g1run", Contract(), {}) as log:
        for i in range(8):
            log.add(step(i))
    assert (log.dropped, log.failure) == (3, os.strerror(errno.ENOSPC))
    found = read_recording(tmp_path / "a.g1run")
    assert list(found.number) == [0, 1, 5, 6, 7] and found.lost_count == 3 and found.cut_bytes == 0


def _no_space():
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_hangs_never_holds_up_the_loop(tmp_path, monkeypatch):
    """While the disk takes nothing, what exceeds the room is dropped and counted; nothing waits for it."""
    goes_on, pwrite = threading.Event(), os.pwrite

    def hanging(file, data, offset):
        if data[:4] == b"STEP":
            goes_on.wait()
        return pwrite(file, data, offset)

    monkeypatch.setattr(deploy_log.os, "pwrite", hanging)
    monkeypatch.setattr(deploy_log, "WAITING", 20)
    log = RunLog(tmp_path / "a.g1run", Contract(), {})
    for i in range(50):
        log.add(step(i))
    assert 28 <= log.dropped <= 31
    goes_on.set()
    log.close()
    found = read_recording(tmp_path / "a.g1run")
    assert len(found.number) == 50 - log.dropped and list(found.number) == list(range(len(found.number)))


def test_closing_twice_is_closing_once(tmp_path):
    log = RunLog(tmp_path / "a.g1run", Contract(), {})
    log.close()
    log.close()
    log.add(step(0))
    assert log.dropped == 1


def test_a_killed_process_leaves_whole_steps(tmp_path):
    program = """
import sys, time
from pathlib import Path
from deploy.contract import Contract
from deploy.log import RunLog
from made_runs import squat, step_of
from corpus.motion import velocity
motion = squat(0.2)
speed = velocity(motion)
log = RunLog(Path(sys.argv[1]), Contract(), {})
for i in range(10**9):
    log.add(step_of(i, motion.qpos[i % 10], speed[i % 10], motion.qpos[i % 10]))
    if i == 40:
        print("going", flush=True)
    time.sleep(0.0005)
"""
    path = tmp_path / "a.g1run"
    paths = os.pathsep.join([*filter(None, sys.path)])
    with subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": paths}) as process:  # fmt: skip
        assert process.stdout is not None and process.stdout.readline() == b"going\n"
        process.send_signal(signal.SIGKILL)
    found = read_recording(path)
    assert len(found.number) >= 30 and list(found.number) == list(range(len(found.number)))
