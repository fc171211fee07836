from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from deploy.guard import DAMPING_S, SILENCE_S, Guard, Watch
from deploy.messages import STOP_KD, LowCmd

pytest.importorskip("cyclonedds")

BEAT, GOODBYE = bytes([1, 7]), bytes([2, 0])


def test_a_guard_is_silent_while_the_controller_beats():
    watch = Watch()
    for step in range(50):
        watch.hear(BEAT, step * 0.02)
        assert not watch.damps(step * 0.02 + 0.019)


def test_a_guard_damps_a_robot_whose_controller_hangs_until_it_is_back():
    watch = Watch()
    watch.hear(BEAT, 1.0)
    assert not watch.damps(1.0 + 0.99 * SILENCE_S)
    assert watch.damps(1.0 + SILENCE_S)
    assert watch.damps(1.0 + 1000)
    assert not watch.over(1.0 + 1000)
    watch.hear(BEAT, 5.0)
    assert not watch.damps(5.01)


def test_a_guard_damps_at_once_when_the_controller_is_gone_and_ends_some_time_later():
    watch = Watch()
    watch.hear(BEAT + BEAT, 1.0)
    watch.hear(b"", 1.001)
    assert watch.damps(1.001)
    assert watch.mode_machine == 7
    assert watch.damps(1.0 + DAMPING_S)
    assert watch.over(1.002 + DAMPING_S)
    assert not watch.damps(1.002 + DAMPING_S)


def test_a_guard_is_relieved_by_another_controller_but_not_by_the_last_words_of_its_own():
    watch = Watch()
    watch.hear(BEAT, 1.0)
    watch.relieve(1.5)
    assert watch.damps(1.5)
    watch.hear(b"", 2.0)
    watch.relieve(2.0 + 0.5 * SILENCE_S)
    assert watch.damps(2.2)
    watch.relieve(2.2)
    assert watch.over(2.2)
    assert not watch.damps(2.2)


@pytest.mark.parametrize("last", [GOODBYE, BEAT + GOODBYE])
def test_a_dismissed_guard_ends_without_damping(last):
    watch = Watch()
    watch.hear(BEAT, 1.0)
    watch.hear(last, 1.02)
    watch.hear(b"", 1.02)
    assert watch.over(1.02)
    assert not watch.damps(9.0)


def test_a_guard_whose_controller_never_began_ends_without_damping():
    watch = Watch()
    assert not watch.damps(100.0)
    assert not watch.over(100.0)
    watch.hear(b"", 100.0)
    assert watch.over(100.0)
    assert not watch.damps(100.0)


CONTROLLER = """
import sys, time
from deploy.dds import DdsLink
from deploy.guard import Guard
from deploy.messages import LowCmd
import numpy as np
domain = int(sys.argv[1])
link, guard = DdsLink(domain, "lo"), Guard.start(domain, "lo")
while True:
    guard.beat(9)
    link.write(LowCmd(np.full(29, 0.1), np.full(29, 40.0), np.ones(29), 9))
    time.sleep(0.02)
"""


def until(condition, seconds: float = 60.0):
    """What the condition gives, once it gives something."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if (value := condition()) is not None and value is not False:
            return value
        time.sleep(0.002)
    raise AssertionError("did not come in time")


def damped(robot) -> bool:
    got = robot.read_command()
    return got is not None and bool(
        (got[0].kp == 0).all() and (got[0].kd == STOP_KD).all() and got[0].mode_machine == 9
    )


def obeying(robot) -> bool:
    got = robot.read_command()
    return got is not None and bool((got[0].kp == 40).all())


@pytest.fixture
def robot(dds_domain):
    from deploy.dds import DdsRobot

    robot = DdsRobot(dds_domain, "lo")
    yield robot
    robot.close()


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_killed_or_hung_controllers_robot_is_damped(robot, dds_domain, how):
    controller = subprocess.Popen([sys.executable, "-c", CONTROLLER, str(dds_domain)])
    try:
        assert until(lambda: obeying(robot))
        os.kill(controller.pid, how)
        assert until(lambda: damped(robot), 10)
        if how == signal.SIGSTOP:
            os.kill(controller.pid, signal.SIGCONT)
            assert until(lambda: obeying(robot), 10)
    finally:
        controller.kill()
        controller.wait()
    assert until(lambda: damped(robot), 10)


@pytest.mark.slow
def test_a_new_controller_is_not_disturbed_by_the_guard_of_the_old(robot, dds_domain):
    from deploy.dds import DdsLink

    controller = subprocess.Popen([sys.executable, "-c", CONTROLLER, str(dds_domain)])
    try:
        assert until(lambda: obeying(robot))
    finally:
        controller.kill()
        controller.wait()
    assert until(lambda: damped(robot), 10)
    link, command = DdsLink(dds_domain, "lo"), LowCmd(np.zeros(29), np.full(29, 40.0), np.ones(29), 9)
    heard = []

    def undisturbed() -> bool:
        """Nothing but the new controller's commands for 30 of its periods."""
        link.write(command)
        time.sleep(0.02)
        heard.append(obeying(robot))
        return len(heard) > 30 and all(heard[-30:])

    assert until(undisturbed, 0.5 * DAMPING_S)
    link.close()


@pytest.mark.slow
def test_a_dismissed_guard_sends_nothing(robot, dds_domain):
    guard = Guard.start(dds_domain, "lo")
    guard.beat(9)
    guard.dismiss()
    assert robot.read_command() is None


def test_a_guard_that_cannot_start_is_told(dds_domain):
    from corpus.errors import MotionloomError

    with pytest.raises(MotionloomError, match="did not start"):
        Guard.start(dds_domain, "no-such-interface")


def test_a_dead_guard_is_noticed_by_the_next_heartbeat(dds_domain):
    from corpus.errors import MotionloomError

    guard = Guard.start(dds_domain, "lo")
    guard._process.kill()
    guard._process.wait()
    with pytest.raises(MotionloomError, match="guard has died"):
        guard.beat(9)
    guard.dismiss()


@pytest.mark.slow
def test_a_program_that_ends_by_an_error_leaves_its_guard_to_damp_the_robot(robot, dds_domain):
    with pytest.raises(ZeroDivisionError), Guard.start(dds_domain, "lo") as guard:
        guard.beat(9)
        raise ZeroDivisionError
    assert until(lambda: damped(robot), 10)
