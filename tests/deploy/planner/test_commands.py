from __future__ import annotations

import contextlib
import math
import os
import pty
import struct
import termios

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.errors import MotionloomError
from deploy.planner.commands import STAND, Command, Limits, Script, sane
from deploy.planner.keyboard import Keyboard, Keys
from deploy.planner.sticks import Gamepad, RemoteCommander, Steering
from deploy.remote import AT_REST, BUTTONS, Remote, decode_remote, encode_remote


def script(tmp_path, text: str, name: str = "s.jsonl") -> Script:
    (tmp_path / name).write_text(text)
    return Script.read(tmp_path / name)


def test_a_script_holds_each_command_until_the_next(tmp_path):
    told = script(tmp_path, '{"time": 1, "velocity": [0.5, 0]}\n\n{"time": 2.5, "style": "squat", "height": 0.5}\n')
    assert [told.now(100 + t) for t in (0.0, 0.99, 1.0, 2.4, 2.5, 99.0)] == [
        STAND, STAND, *[Command((0.5, 0.0))] * 2, *[Command(height=0.5, style="squat")] * 2,
    ]  # fmt: skip


def test_a_table_says_the_same(tmp_path):
    told = script(tmp_path, "time,vx,vy,facing,style\n0,0.5,,,\n2,,1,1.5,box\n", "s.csv")
    assert told.now(0.0) == Command((0.5, 0.0)) and told.now(2.0) == Command((0.0, 1.0), 1.5, None, "box")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no command"),
        ("{", "line 1"),
        ("[1]", "at least a time"),
        ('{"velocity": [0, 0]}', "at least a time"),
        ('{"time": 0}\n{"time": 0}', "line 2.*later"),
        ('{"time": NaN}', "finite"),
        ('{"time": 0, "velocity": [1]}', "two numbers"),
        ('{"time": 0, "velocity": [1, "x"]}', "finite"),
        ('{"time": 0, "velocity": [1, 1e999]}', "finite"),
        ('{"time": 0, "height": 1' + "0" * 400 + "}", "finite"),
        ('{"time": 0, "style": 7}', "name"),
        ('{"time": 0, "hieght": 7}', "unknown: hieght"),
        ("[" * 100_000, "line 1"),
    ],
)
def test_a_bad_script_is_refused_with_its_line(tmp_path, text, why):
    with pytest.raises(MotionloomError, match=why):
        script(tmp_path, text)


@pytest.mark.parametrize("text", ["time,vx\n0\n", "time,vx\n0,x\n", "vx\n1\n", "time\n", "time,vx\n0,nan\n"])
def test_a_bad_table_is_refused(tmp_path, text):
    with pytest.raises(MotionloomError):
        script(tmp_path, text, "s.csv")


@given(st.binary(max_size=200), st.sampled_from(["s.csv", "s.jsonl"]))
def test_any_bytes_are_a_script_or_an_error(tmp_path_factory, told, name):
    path = tmp_path_factory.mktemp("s") / name
    path.write_bytes(told)
    with contextlib.suppress(MotionloomError):
        assert isinstance(Script.read(path).now(0.0), Command)


anything = st.floats(allow_nan=True, allow_infinity=True)


@given(anything, anything, anything, anything)
def test_a_sane_command_is_finite_and_no_faster_than_allowed(x, y, facing, height):
    command = sane(Command((x, y), facing, height))
    assert math.hypot(*command.velocity) <= Limits().speed + 1e-9
    for value in (command.facing, command.height):
        assert value is None or math.isfinite(value)
    again = sane(command)
    assert again.velocity == pytest.approx(command.velocity) and (again.facing, again.height) == (
        command.facing,
        command.height,
    )


# --- the robot's own remote


def test_the_remote_is_read_where_its_maker_puts_things():
    packet = bytearray(40)
    packet[2], packet[3] = 0b0000_0010, 0b1000_0001  # L1; A, left
    for place, value in ((4, 0.25), (8, -0.5), (12, 0.75), (16, 9.0), (20, -1.0)):
        struct.pack_into("<f", packet, place, value)
    assert decode_remote(bytes(packet)) == Remote(0.25, -1.0, -0.5, 0.75, frozenset({"L1", "A", "left"}))


unit = st.floats(-1, 1, width=32)


@given(st.builds(Remote, unit, unit, unit, unit, st.frozensets(st.sampled_from(BUTTONS))))
def test_a_remote_goes_there_and_back(remote):
    assert decode_remote(encode_remote(remote)) == remote


@given(st.binary(max_size=80) | st.binary(min_size=40, max_size=40))
def test_any_bytes_are_a_remote_within_its_range(packet):
    remote = decode_remote(packet)
    assert all(-1 <= value <= 1 for value in (remote.lx, remote.ly, remote.rx, remote.ry))
    assert remote.pressed <= set(BUTTONS)


def test_a_remote_with_a_broken_stick_is_at_rest():
    assert decode_remote(struct.pack("<2xH5f16x", 0xFFFF, math.nan, 0, 0, 0, 0)) == AT_REST


# --- sticks


def test_small_movements_of_sticks_are_none():
    assert Steering().command(Remote(0.09, -0.09, 0.09, -0.09), 0.0) == Command(facing=0.0)


def test_sticks_steer_from_where_the_robot_faces():
    steering, limits = Steering(), Limits()
    for frame in range(101):
        command = steering.command(Remote(rx=-1.0), frame / 50)
    assert command.facing == pytest.approx(limits.turn_rate * 2)
    ahead = steering.command(Remote(ly=1.0), 2.02)
    angle = math.atan2(ahead.velocity[1], ahead.velocity[0])
    assert angle == pytest.approx(command.facing) and math.hypot(*ahead.velocity) == pytest.approx(limits.speed)
    left = steering.command(Remote(lx=-1.0), 2.04)
    assert math.atan2(left.velocity[1], left.velocity[0]) == pytest.approx(
        math.remainder(angle + math.pi / 2, math.tau)
    )


def test_time_away_does_not_turn_the_robot():
    steering = Steering()
    steering.command(AT_REST, 0.0)
    assert abs(steering.command(Remote(rx=1.0), 60.0).facing) <= Limits().turn_rate * 0.1 + 1e-9


def test_the_right_stick_pulled_down_lowers_the_pelvis():
    assert Steering().command(Remote(ry=-1.0), 0.0).height == pytest.approx(0.35)
    assert Steering().command(Remote(ry=1.0), 0.0).height is None


def test_the_robots_remote_commands():
    commander = RemoteCommander(lambda: encode_remote(Remote(ly=1.0)))
    assert commander.now(0.0).velocity == pytest.approx((Limits().speed, 0.0))


@pytest.fixture
def joystick(tmp_path):
    os.mkfifo(tmp_path / "js0")
    reader = Gamepad(tmp_path / "js0")
    writer = os.open(tmp_path / "js0", os.O_WRONLY)
    yield reader, writer
    reader.close()
    os.close(writer)


def test_a_joystick_is_read_event_by_event(joystick):
    pad, writer = joystick
    event = struct.pack("<IhBB", 5, -32767, 0x02, 1)
    os.write(writer, event[:3])
    assert pad.now(0.0).velocity == (0, 0)
    os.write(writer, event[3:] + struct.pack("<IhBB", 6, 1, 0x01, 1))
    assert pad.now(0.02).velocity == pytest.approx((Limits().speed, 0.0))


@given(told=st.binary(max_size=300))
def test_a_joystick_may_say_anything(told, tmp_path_factory):
    path = tmp_path_factory.mktemp("j") / "js0"
    path.write_bytes(told)
    pad = Gamepad(path)
    command = pad.now(0.0)
    pad.close()
    assert all(map(math.isfinite, command.velocity)) and math.hypot(*command.velocity) <= Limits().speed + 1e-9


def test_no_joystick_is_said(tmp_path):
    with pytest.raises(MotionloomError, match="joystick"):
        Gamepad(tmp_path / "js9")


# --- keys


def test_keys_change_the_command_step_by_step():
    keys = Keys(("walk", "squat"))
    for key in "wwwwwaq\tf":
        keys.press(key)
    command = keys.command()
    assert math.hypot(*command.velocity) == pytest.approx(math.hypot(0.5, 0.1))
    assert command.facing == pytest.approx(math.radians(10))
    assert (command.height, command.style) == (pytest.approx(0.73), "walk")
    keys.press(" ")
    assert keys.command().velocity == (0, 0)


@given(st.text(max_size=200))
def test_any_keys_give_a_command_within_limits(text):
    keys = Keys(("walk",))
    for key in text:
        keys.press(key)
    command = keys.command()
    assert math.hypot(*command.velocity) <= Limits().speed + 1e-9


def test_a_terminal_is_as_it_was_when_the_keyboard_is_closed():
    master, terminal = pty.openpty()
    before = termios.tcgetattr(terminal)
    with Keyboard(Keys(), terminal) as keyboard:
        os.write(master, b"ww\xff")
        assert keyboard.now(0.0).velocity == pytest.approx((0.2, 0.0))
    assert termios.tcgetattr(terminal) == before
    os.close(master)
    os.close(terminal)


def test_without_a_terminal_there_is_no_keyboard(tmp_path):
    with (tmp_path / "f").open("w") as file, pytest.raises(MotionloomError, match="terminal"):
        Keyboard(Keys(), file.fileno())
