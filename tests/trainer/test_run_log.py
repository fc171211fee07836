"""What a run tells, after a stop too, and how it is asked to stop."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading

import pytest

from corpus.errors import MotionloomError
from trainer import run_log
from trainer.run_log import Interrupt, RunLog, duration, read_log


def test_numbers_are_lines_of_json(tmp_path):
    with RunLog(tmp_path, 10, tensorboard=False) as told:
        told.write(1, loss=0.5, success=float("nan"))
        told.write(2, loss=0.25)
        assert [row["step"] for row in read_log(tmp_path)] == [1, 2]  # at once, not at the end
    first, second = read_log(tmp_path)
    assert (first["loss"], first["success"], second["loss"]) == (0.5, None, 0.25)
    assert 0 <= first["elapsed_s"] <= second["elapsed_s"]


def test_two_processes_do_not_write_one_run(tmp_path):
    with RunLog(tmp_path, 10, tensorboard=False) as told:
        told.write(1, loss=1)
        with pytest.raises(MotionloomError, match="Another process trains in"):
            RunLog(tmp_path, 10, tensorboard=False)
    with RunLog(tmp_path, 10, step=1, tensorboard=False):
        assert len(read_log(tmp_path)) == 1


@pytest.mark.parametrize("line", ['{"step": "a"}', '{"step": 1, "elapsed_s": "a"}'])
def test_a_log_of_words_is_told(tmp_path, line):
    (tmp_path / "log.jsonl").write_text(line + "\n")
    with pytest.raises(MotionloomError, match="should be numbers"):
        RunLog(tmp_path, 10, step=1, tensorboard=False)


def test_a_run_that_goes_on_cuts_what_came_later(tmp_path):
    with RunLog(tmp_path, 10, tensorboard=False) as told:
        for step in range(1, 6):
            told.write(step, loss=step)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')  # killed while writing
    assert len(read_log(tmp_path)) == 5
    with RunLog(tmp_path, 10, step=3, tensorboard=False) as told:
        told.write(4, loss=40)
    assert [row["loss"] for row in read_log(tmp_path)] == [1, 2, 3, 40]
    with RunLog(tmp_path, 10, tensorboard=False):
        assert read_log(tmp_path) == []


def test_a_damaged_line_is_told_by_its_number(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n{"stop": 2}\n')
    with pytest.raises(MotionloomError, match=r"log\.jsonl, line 2"):
        RunLog(tmp_path, 10, step=1)


def test_tensorboard_reads_the_scalars_and_hides_what_was_cut(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with RunLog(tmp_path, 10) as told:
        for step in range(1, 6):
            told.write(step, **{"reward/position": step / 2})
    with RunLog(tmp_path, 10, step=3) as told:
        told.write(4, **{"reward/position": 9.0})
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(point.step, point.value) for point in events.Scalars("reward/position")] == [
        (1, 0.5),
        (2, 1.0),
        (3, 1.5),
        (4, 9.0),
    ]


def test_progress_tells_rate_and_time_left(tmp_path, monkeypatch, caplog):
    now = [100.0]
    monkeypatch.setattr(run_log.time, "monotonic", lambda: now[0])
    caplog.set_level(logging.INFO, "trainer")
    with RunLog(tmp_path, 1000, step=200, tensorboard=False) as told:
        for step in range(210, 1001, 10):
            now[0] += 1.0
            told.write(step, loss=0.5)
    assert caplog.messages[0] == "step 300/1,000, 10 steps/s, 70 s left, loss 0.5"
    assert caplog.messages[-1] == "step 1,000/1,000, 10 steps/s, loss 0.5"
    assert len(caplog.messages) == 8


def test_durations_are_told_as_people_do():
    assert [duration(s) for s in (5, 600, 36_000)] == ["5 s", "10 min", "10.0 h"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_handlers_come_back(number):
    before = signal.getsignal(number)
    with Interrupt() as interrupt:
        assert not interrupt.asked
        os.kill(os.getpid(), number)
        assert interrupt.asked
        assert signal.getsignal(number) == before
    assert signal.getsignal(number) == before


def test_the_second_ctrl_c_goes_through():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in the background ignore it
    try:
        with pytest.raises(KeyboardInterrupt), Interrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGINT)
            assert interrupt.asked
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_outside_the_main_thread_signals_are_left_alone():
    asked = []

    def work():
        with Interrupt() as interrupt:
            asked.append(interrupt.asked)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert asked == [False]


def test_opening_a_log_does_not_load_tensorboard_before_it_is_wanted():
    code = "import sys, trainer.run_log; sys.exit('torch' in sys.modules or 'tensorboard' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
