import subprocess
import sys
import time
from dataclasses import dataclass

import numpy as np
import pytest

pytest.importorskip("cyclonedds")

from cyclonedds.idl import IdlStruct
from cyclonedds.idl.annotations import autoid, final
from cyclonedds.idl.types import array, float32, int16, uint8, uint32

from corpus.errors import MotionloomError
from deploy.dds import COMMAND_TOPIC, STATE_TOPIC, DdsLink, DdsRobot
from deploy.dds_types import HEADER, LowCmd_, LowState_
from deploy.messages import JOINTS, LowCmd, LowState, damping
from deploy.wire import COMMAND, STATE, encode_command, encode_state, wire_length


# Unitree's types as CycloneDDS's own Python would have them, to read our bytes member by member.
@dataclass
@final
@autoid("sequential")
class MotorCommand(IdlStruct, typename="unitree_hg.msg.dds_.MotorCmd_"):
    mode: uint8
    q: float32
    dq: float32
    tau: float32
    kp: float32
    kd: float32
    reserve: uint32


@dataclass
@final
@autoid("sequential")
class Command(IdlStruct, typename="unitree_hg.msg.dds_.LowCmd_"):
    mode_pr: uint8
    mode_machine: uint8
    motor_cmd: array[MotorCommand, 35]
    reserve: array[uint32, 4]
    crc: uint32


@dataclass
@final
@autoid("sequential")
class Imu(IdlStruct, typename="unitree_hg.msg.dds_.IMUState_"):
    quaternion: array[float32, 4]
    gyroscope: array[float32, 3]
    accelerometer: array[float32, 3]
    rpy: array[float32, 3]
    temperature: int16


@dataclass
@final
@autoid("sequential")
class Motor(IdlStruct, typename="unitree_hg.msg.dds_.MotorState_"):
    mode: uint8
    q: float32
    dq: float32
    ddq: float32
    tau_est: float32
    temperature: array[int16, 2]
    vol: float32
    sensor: array[uint32, 2]
    motorstate: uint32
    reserve: array[uint32, 4]


@dataclass
@final
@autoid("sequential")
class State(IdlStruct, typename="unitree_hg.msg.dds_.LowState_"):
    version: array[uint32, 2]
    mode_pr: uint8
    mode_machine: uint8
    tick: uint32
    imu_state: Imu
    motor_state: array[Motor, 35]
    wireless_remote: array[uint8, 40]
    reserve: array[uint32, 4]
    crc: uint32


def a_state(tick: int = 1) -> LowState:
    numbers = np.arange(JOINTS) / 10
    rotation, vector = np.array([0.5, 0.5, -0.5, 0.5]), np.array([1.0, 2.0, 3.0])
    faults = np.arange(JOINTS) + 100
    return LowState(tick, 5, numbers, numbers + 10, numbers + 20, rotation, vector, -vector, numbers * 10, faults)


def a_command() -> LowCmd:
    numbers = np.arange(JOINTS) / 10
    return LowCmd(numbers, numbers + 10, numbers + 20, 5, numbers + 30, numbers + 40, np.arange(JOINTS) % 2 == 0)


def until(condition, seconds: float = 60.0):
    """What the condition gives, once it gives something."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.005)
    raise AssertionError("did not come in time")


def test_cyclonedds_reads_our_command_as_it_was_meant_and_writes_the_same_bytes():
    data = HEADER + encode_command(a_command())
    read = Command.deserialize(data)
    assert (read.mode_pr, read.mode_machine) == (0, 5)
    assert [motor.mode for motor in read.motor_cmd] == [1, 0] * 14 + [1] + [0] * 6
    for first, name in ((0, "q"), (30, "dq"), (40, "tau"), (10, "kp"), (20, "kd")):
        assert [getattr(motor, name) for motor in read.motor_cmd[:JOINTS]] == pytest.approx(first + np.arange(29) / 10)
    assert read.serialize(use_version_2=False) == data


def test_cyclonedds_reads_our_state_as_it_was_meant_and_writes_the_same_bytes():
    data = HEADER + encode_state(a_state(77))
    read = State.deserialize(data)
    assert (read.mode_machine, read.tick) == (5, 77)
    assert read.imu_state.quaternion == [0.5, 0.5, -0.5, 0.5]
    assert (read.imu_state.gyroscope, read.imu_state.accelerometer) == ([1, 2, 3], [-1, -2, -3])
    for first, name in ((0, "q"), (10, "dq"), (20, "tau_est")):
        assert [getattr(motor, name) for motor in read.motor_state[:JOINTS]] == pytest.approx(
            first + np.arange(29) / 10
        )
    assert [motor.temperature for motor in read.motor_state[:JOINTS]] == [[i, i] for i in range(JOINTS)]
    assert [motor.motorstate for motor in read.motor_state[:JOINTS]] == list(range(100, 129))
    assert read.serialize(use_version_2=False) == data


@pytest.mark.parametrize(("ours", "theirs"), [(LowCmd_, Command), (LowState_, State)])
def test_our_types_are_unitrees_to_dds(ours, theirs):
    for kind in (ours, theirs):
        kind.__idl__.populate()
        kind.__idl__.fill_type_data()
    assert ours.__idl__.idl_transformed_typename == theirs.__idl__.idl_transformed_typename
    assert ours.__idl__._xt_bytedata == theirs.__idl__._xt_bytedata
    assert (COMMAND_TOPIC, STATE_TOPIC) == ("rt/lowcmd", "rt/lowstate")


def test_a_program_that_knows_cyclonedds_alone_hears_and_is_heard(dds_domain):
    from cyclonedds.domain import DomainParticipant
    from cyclonedds.pub import DataWriter
    from cyclonedds.sub import DataReader
    from cyclonedds.topic import Topic

    link = DdsLink(dds_domain, "lo")
    other = DomainParticipant(dds_domain)
    commands = DataReader(other, Topic(other, "rt/lowcmd", Command))
    states = DataWriter(other, Topic(other, "rt/lowstate", State))
    states.write(State.deserialize(HEADER + encode_state(a_state(3))))
    received = until(link.read)
    assert received.state.tick == 3
    assert received.state.joint_speed == pytest.approx(10 + np.arange(29) / 10)
    link.write(a_command())
    assert until(lambda: commands.take(1))[0].motor_cmd[1].kp == pytest.approx(10.1)
    link.close()


def test_the_newest_whole_state_is_kept_and_others_are_counted(dds_domain):
    link, robot = DdsLink(dds_domain, "lo"), DdsRobot(dds_domain, "lo")
    assert link.read() is None
    before = time.monotonic()
    robot.write_state(a_state(1))
    robot.write_state(a_state(2))
    broken = bytearray(encode_state(a_state(3)))
    broken[100] ^= 1
    robot.write_bytes(bytes(broken))

    def read_it_all():
        return link.read() if link.read() and link.refused else None

    first = until(read_it_all)
    assert first.state.tick == 2
    assert before <= first.arrived_s <= time.monotonic()
    again = link.read()
    assert again is not None
    assert (again.state.tick, again.arrived_s) == (2, first.arrived_s)
    assert dict(link.refused) == {"crc": 1}
    link.close()
    robot.close()


def test_a_command_reaches_the_robot(dds_domain):
    link, robot = DdsLink(dds_domain, "lo"), DdsRobot(dds_domain, "lo")
    link.write(damping(np.full(JOINTS, 0.3), 5))
    command, _ = until(robot.read_command)
    assert command.joint_position == pytest.approx(0.3)
    assert (command.kd == 8).all()
    assert command.enabled.all()
    link.close()
    robot.close()


def test_domains_do_not_meet(dds_domain):
    here, there = DdsRobot(dds_domain, "lo"), DdsLink((dds_domain + 1) % 230, "lo")
    for _ in range(10):
        here.write_state(a_state())
        time.sleep(0.01)
    assert there.read() is None
    here.close()
    there.close()


ROBOT = """
import sys, time
from deploy.dds import DdsRobot
from deploy.messages import LowState
import numpy as np
robot, tick = DdsRobot(int(sys.argv[1]), "lo"), 0
zeros, up = np.zeros(29), np.array([1.0, 0, 0, 0])
while (got := robot.read_command()) is None or got[0].mode_machine != 6:
    tick += 1
    robot.write_state(LowState(tick, 6, zeros, zeros, zeros, up, up[:3], up[:3], zeros, zeros))
    time.sleep(0.005)
print(got[0].joint_position[28])
"""


@pytest.mark.slow
def test_two_processes_talk_over_loopback(dds_domain):
    robot = subprocess.Popen([sys.executable, "-c", ROBOT, str(dds_domain)], stdout=subprocess.PIPE, text=True)
    link = DdsLink(dds_domain, "lo")
    try:
        state = until(link.read).state
        assert state.mode_machine == 6
        assert until(lambda: (newer := link.read()) and newer.state.tick > state.tick)
        command = damping(np.full(JOINTS, 0.25), state.mode_machine)

        def answered():
            link.write(command)
            return robot.poll() is not None

        until(answered)
        assert robot.communicate()[0].strip() == "0.25"
        assert robot.returncode == 0
    finally:
        robot.kill()
        robot.wait()
        link.close()


def test_an_interface_that_is_not_there_is_refused_with_those_that_are(dds_domain):
    with pytest.raises(MotionloomError, match=r"interface nowhere: .* interfaces here: .*lo"):
        DdsLink(dds_domain, "nowhere")


def test_messages_fit_the_lengths_that_dds_lets_through():
    assert len(encode_command(a_command())) == wire_length(COMMAND)
    assert len(encode_state(a_state())) == wire_length(STATE)


def test_a_link_hears_who_else_commands_the_robot(dds_domain):
    """Discovery takes its time, so the other one speaks in a process of its own for as long as it takes."""
    link = DdsLink(dds_domain, "lo")
    assert link.rivals(0.2) == 0
    link.write(damping(np.zeros(JOINTS), 5))
    assert link.rivals(0.2) == 0, "its own commands are no rival's"
    other = (
        "import sys, time, numpy as np; from deploy.dds import DdsLink; from deploy.messages import damping\n"
        "link = DdsLink(int(sys.argv[1]), 'lo')\n"
        "while True: link.write(damping(np.zeros(29), 5)); time.sleep(0.02)"
    )
    process = subprocess.Popen([sys.executable, "-c", other, str(dds_domain)])
    try:
        assert any(link.rivals(0.5) for _ in range(60))
    finally:
        process.kill()
        process.wait()
        link.close()
