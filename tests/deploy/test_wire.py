from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.deploy_fuzz import fuzz_wire
from deploy.messages import JOINTS, LowCmd, LowState, damping
from deploy.wire import (
    COMMAND,
    REASONS,
    STATE,
    BadMessage,
    crc32,
    decode_command,
    decode_state,
    encode_command,
    encode_state,
    wire_length,
)


def crc_bit_by_bit(words: bytes) -> int:
    """As Unitree's documentation has it: a register, shifted left by each bit of each word."""
    register = 0xFFFFFFFF
    for word in np.frombuffer(words, "<u4").tolist():
        for bit in range(31, -1, -1):
            top = (register >> 31) ^ (word >> bit & 1)
            register = (register << 1 & 0xFFFFFFFF) ^ (0x04C11DB7 * top)
    return register


def some_state(seed: int = 0, **changes) -> LowState:
    rng = np.random.default_rng(seed)
    rotation = rng.normal(size=4)
    values = {
        "tick": 123456,
        "mode_machine": 5,
        "joint_position": rng.normal(size=JOINTS),
        "joint_speed": rng.normal(size=JOINTS),
        "torque": rng.normal(size=JOINTS),
        "root_rotation": rotation / np.linalg.norm(rotation),
        "angular_velocity": rng.normal(size=3),
        "acceleration": rng.normal(size=3),
        "temperature": np.arange(JOINTS, dtype=float),
        "motor_fault": np.arange(JOINTS),
        "remote": bytes(range(40)),
    }
    return LowState(**(values | changes))


def some_command(seed: int = 0) -> LowCmd:
    rng = np.random.default_rng(seed)
    q, dq, tau = rng.normal(size=(3, JOINTS))
    return LowCmd(q, rng.uniform(0, 100, JOINTS), rng.uniform(0, 8, JOINTS), 5, dq, tau, rng.random(JOINTS) > 0.3)


def same(sent, got) -> bool:
    """To float32, in which the numbers travel."""
    numbers = {name: value for name, value in vars(got).items() if name != "remote"}
    return all(np.allclose(getattr(sent, name), value, rtol=1e-6, atol=1e-12) for name, value in numbers.items())


def test_the_structs_are_of_unitrees_size():
    # struct formats of unitree_sdk2_python: '<2B2x' + 'B3x5fI' * 35 + '5I' and '<2I2B2xI' + '13fh2x' + 'B3x4f2hf7I' * 35 + '40B5I'
    assert (COMMAND.itemsize, STATE.itemsize) == (1004, 2092)
    assert (wire_length(COMMAND), wire_length(STATE)) == (1000, 2088)


@given(st.binary(max_size=200).map(lambda data: data[: len(data) // 4 * 4]))
def test_the_crc_is_the_one_counted_bit_by_bit(words):
    assert crc32(words) == crc_bit_by_bit(words)


def test_the_crc_is_mpeg2s_for_swapped_words():
    """CRC-32/MPEG-2, whose catalogued check value is of the digits 1 to 9."""
    assert crc_mpeg2(b"123456789") == 0x0376E6E7
    assert crc32(b"43218765") == crc_mpeg2(b"12345678")


def crc_mpeg2(data: bytes) -> int:
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte << 24
        for _ in range(8):
            register = (register << 1 & 0xFFFFFFFF) ^ (0x04C11DB7 if register >> 31 else 0)
    return register


@given(st.integers(0, 1000))
@settings(max_examples=25)
def test_what_is_sent_arrives(seed):
    assert same(some_state(seed), decode_state(encode_state(some_state(seed))))
    assert same(some_command(seed), decode_command(encode_command(some_command(seed))))


def test_the_remotes_packet_arrives_as_it_is():
    assert decode_state(encode_state(some_state())).remote == bytes(range(40))


def test_the_hotter_part_of_a_motor_counts():
    struct = struct_of(encode_state(some_state()))
    struct[0]["motor_state"]["temperature"][3] = [20, 95]
    assert decode_state(sealed(struct)).temperature[3] == 95


def test_ticks_wrap():
    assert decode_state(encode_state(some_state(tick=2**32 + 7))).tick == 7


def test_a_robot_tells_roll_pitch_and_yaw_too():
    turned = np.array([math.cos(0.2), 0, 0, math.sin(0.2)])
    struct = struct_of(encode_state(some_state(root_rotation=turned)))
    assert struct[0]["imu_state"]["rpy"] == pytest.approx([0, 0, 0.4], abs=1e-6)


@pytest.mark.parametrize("message", [encode_state(some_state()), encode_command(some_command())])
def test_a_byte_that_is_not_as_sent_is_found(message):
    decode = decode_state if len(message) == wire_length(STATE) else decode_command
    rng = np.random.default_rng(0)
    for place in range(len(message)):
        broken = bytearray(message)
        broken[place] ^= int(rng.integers(1, 256))
        with pytest.raises(BadMessage) as caught:
            decode(bytes(broken))
        assert caught.value.reason == "crc"


@pytest.mark.parametrize("length", [0, 1, 999, 1001, 1004, 2087, 2092])
def test_messages_of_another_length_are_refused(length):
    for decode in (decode_state, decode_command):
        with pytest.raises(BadMessage, match="length"):
            decode(bytes(length))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "name", ["joint_position", "joint_speed", "torque", "root_rotation", "angular_velocity", "acceleration"]
)
def test_a_state_with_what_is_no_number_is_refused(name, value):
    numbers = getattr(some_state(), name).copy()
    numbers[1] = value
    with pytest.raises(BadMessage) as caught:
        decode_state(encode_state(some_state(**{name: numbers})))
    assert caught.value.reason == "not_finite"


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e300])
def test_a_command_with_what_is_no_number_is_not_sent(value):
    command = damping(np.zeros(JOINTS), 5)
    command.kd[7] = value
    with pytest.raises(BadMessage, match="not_finite"):
        encode_command(command)


def test_a_command_with_what_is_no_number_is_refused():
    struct = struct_of(encode_command(some_command()))
    struct[0]["motor_cmd"]["tau"][28] = np.nan
    with pytest.raises(BadMessage, match="not_finite"):
        decode_command(sealed(struct))


def test_motors_that_the_robot_lacks_may_say_anything():
    struct = struct_of(encode_state(some_state()))
    struct[0]["motor_state"]["q"][JOINTS:] = np.nan
    assert same(some_state(), decode_state(sealed(struct)))


@pytest.mark.parametrize("length", [0.0, 0.97, 1.03])
def test_a_quaternion_of_another_length_is_refused(length):
    rotation = some_state().root_rotation * length
    with pytest.raises(BadMessage, match="quaternion"):
        decode_state(encode_state(some_state(root_rotation=rotation)))


def test_a_command_of_ankle_motors_is_refused():
    struct = struct_of(encode_command(some_command()))
    struct[0]["mode_pr"] = 1
    with pytest.raises(BadMessage, match="mode_pr"):
        decode_command(sealed(struct))


@given(st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=100)
def test_broken_bytes_under_a_right_crc_are_read_or_refused(seed, command):
    """Whoever made the message, nothing but numbers comes out."""
    rng = np.random.default_rng(seed)
    data = bytearray(encode_command(some_command()) if command else encode_state(some_state()))
    for place in rng.integers(0, len(data), rng.integers(1, 40)):
        data[place] = rng.integers(0, 256)
    try:
        got = (decode_command if command else decode_state)(sealed(struct_of(data)))
    except BadMessage as error:
        assert error.reason in ("not_finite", "quaternion", "mode_pr")
    else:
        assert all(np.isfinite(value).all() for name, value in vars(got).items() if name != "remote")


def struct_of(payload: bytes | bytearray) -> np.ndarray:
    """Of the wire's bytes: the first motor stands two bytes later in C, and its first float four."""
    first, dtype = {1000: (2, COMMAND), 2088: (70, STATE)}[len(payload)]
    data = payload[:first] + bytes(2) + payload[first : first + 2] + bytes(2) + payload[first + 2 :]
    return np.frombuffer(bytearray(data), dtype)


def sealed(struct: np.ndarray) -> bytes:
    """The wire's bytes of a struct, under a new CRC."""
    data = struct.tobytes()
    first = {1004: 2, 2092: 70}[len(data)]
    crc = crc_bit_by_bit(data[:-4]).to_bytes(4, "little")
    return data[:first] + data[first + 2 : first + 4] + data[first + 6 : -4] + crc


def test_damaged_bytes_neither_crash_nor_bring_anything_but_numbers():
    outcomes = fuzz_wire(4000, seed=3)
    assert outcomes.pop("fuzz_packets") == 3500, "one kind in eight is unharmed"
    assert outcomes.pop("tried") == 4000 == sum(outcomes.values())
    assert {"accepted", "length", "crc", "not_finite"} <= set(outcomes) <= {"accepted", *REASONS}
