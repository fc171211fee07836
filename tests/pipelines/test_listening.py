"""`loom deploy listen`."""

from __future__ import annotations

import math
import re
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from corpus import rotations
from corpus.g1 import G1
from deploy.contract import STANDING
from deploy.messages import JOINTS, LowState
from pipelines.cli import main
from pipelines.listening import Heard

STILL = LowState(
    tick=1000, mode_machine=5, joint_position=STANDING, joint_speed=np.zeros(JOINTS), torque=np.zeros(JOINTS),
    root_rotation=np.array([1.0, 0, 0, 0]), angular_velocity=np.zeros(3), acceleration=np.array([0.0, 0, 9.81]),
    temperature=np.full(JOINTS, 30.0), motor_fault=np.zeros(JOINTS, int),
)  # fmt: skip


def told(*states: LowState) -> str:
    """The lines after the last state; those after the first have been told before."""
    heard = Heard()
    heard.add(states[0])
    list(heard.lines({}))
    for state in states[1:]:
        heard.add(state)
    return "\n".join(heard.lines({}))


def turned(axis: int, angle: float) -> LowState:
    """The robot tilted about an axis of its own, as orientation and accelerometer both see it."""
    rotation = rotations.from_rotation_vector(angle * np.eye(3)[axis])
    felt = rotations.rotate(rotations.conjugate(rotation), np.array([0.0, 0, 9.81]))
    return replace(STILL, tick=2000, root_rotation=rotation, acceleration=felt)


def test_all_joints_are_told_first():
    heard = Heard()
    heard.add(STILL)
    text = "\n".join(heard.lines({}))
    assert "machine 5" in text
    assert all(f"{i:2} {name} " in text for i, name in enumerate(G1.joint_names))


def test_turning_about_y_leans_forward():
    text = told(STILL, turned(1, 0.2))
    assert "leans +11.5° forward" in text and "accelerometer +11.5°" in text


def test_turning_about_x_leans_to_the_right():
    found = re.search("leans .* forward (.*) right, accelerometer .* (.*), heading", told(STILL, turned(0, 0.1)))
    assert found is not None and found.groups() == ("+5.7°", "+5.7°")


def test_the_gyroscope_is_added_up_by_the_robots_own_clock():
    speed = np.array([0.0, math.radians(20), 0.0])
    states = [replace(STILL, tick=1000 + 10 * k, angular_velocity=speed) for k in range(51)]
    assert "gyroscope turned +10.0° forward +0.0° right" in told(*states)


def test_a_joint_that_was_moved_by_hand_is_told_of_and_no_other():
    joints = STANDING.copy()
    joints[3] += 0.3
    text = told(STILL, replace(STILL, tick=2000, joint_position=joints))
    assert "left_knee_joint" in text and "+0.669 → +0.969" in text
    assert text.count("→") == 1


def test_faults_are_told_as_words_of_bits():
    faults = np.zeros(JOINTS, int)
    faults[9] = 0x40
    assert "faults: right_knee_joint 0x40" in told(STILL, replace(STILL, tick=2000, motor_fault=faults))


def test_a_robot_whose_clock_stands_still_says_nothing_new():
    assert told(STILL, STILL).startswith("nothing new")


@pytest.mark.slow
def test_listening_sends_nothing(dds_domain, capsys):
    pytest.importorskip("cyclonedds")
    from deploy.dds import DdsRobot

    robot, over = DdsRobot(dds_domain, "lo"), threading.Event()

    def speak() -> None:
        tick = 0
        while not over.is_set():
            tick += 10
            robot.write_state(replace(STILL, tick=tick))
            time.sleep(0.01)

    speaking = threading.Thread(target=speak)
    speaking.start()
    try:
        assert main(["deploy", "listen", "--domain", str(dds_domain), "--seconds", "2.5"]) == 0
    finally:
        over.set()
        speaking.join()
        heard = robot.read_command()
        robot.close()
    assert heard is None
    text = capsys.readouterr().out
    assert "machine 5" in text and "clock +" in text
