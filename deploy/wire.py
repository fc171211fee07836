"""Messages as they lie on the wire: Unitree's `LowCmd` and `LowState` of the G1 to bytes and back, with their CRC.

The bytes are what DDS sends after its header of 4 bytes (XCDR, little-endian). The CRC is not of them but of the C struct, which
differs in one place: a struct within a struct starts at a multiple of 4 bytes in C, and wherever its first member fits on the wire,
so the first motor's mode lies earlier there. What cannot be used is refused with a reason: a robot moves by these numbers.
"""

# Members and their order: unitreerobotics/unitree_sdk2_python, unitree_sdk2py/idl/unitree_hg (BSD-3, see NOTICE).
from __future__ import annotations

import math
import zlib

import numpy as np
from jaxtyping import Float

from corpus.errors import MotionloomError
from deploy.messages import JOINTS, LowCmd, LowState

WIRE_MOTORS = 35
"""On the wire; the G1 has the first 29."""
ENABLED = 1
"""A motor's mode when it is on; 0 is off."""

MOTOR_COMMAND = np.dtype(
    [
        ("mode", "u1"),
        ("q", "<f4"), ("dq", "<f4"), ("tau", "<f4"), ("kp", "<f4"), ("kd", "<f4"),
        ("reserve", "<u4"),
    ],
    align=True,
)  # fmt: skip
COMMAND = np.dtype(
    [
        ("mode_pr", "u1"), ("mode_machine", "u1"),
        ("motor_cmd", MOTOR_COMMAND, WIRE_MOTORS),
        ("reserve", "<u4", 4),
        ("crc", "<u4"),
    ],
    align=True,
)  # fmt: skip
IMU = np.dtype(
    [
        ("quaternion", "<f4", 4), ("gyroscope", "<f4", 3), ("accelerometer", "<f4", 3), ("rpy", "<f4", 3),
        ("temperature", "<i2"),
    ],
    align=True,
)  # fmt: skip
MOTOR_STATE = np.dtype(
    [
        ("mode", "u1"),
        ("q", "<f4"), ("dq", "<f4"), ("ddq", "<f4"), ("tau_est", "<f4"),
        ("temperature", "<i2", 2),
        ("vol", "<f4"),
        ("sensor", "<u4", 2),
        ("motorstate", "<u4"),
        ("reserve", "<u4", 4),
    ],
    align=True,
)  # fmt: skip
STATE = np.dtype(
    [
        ("version", "<u4", 2),
        ("mode_pr", "u1"), ("mode_machine", "u1"),
        ("tick", "<u4"),
        ("imu_state", IMU),
        ("motor_state", MOTOR_STATE, WIRE_MOTORS),
        ("wireless_remote", "u1", 40),
        ("reserve", "<u4", 4),
        ("crc", "<u4"),
    ],
    align=True,
)  # fmt: skip

FIRST_MOTOR = {COMMAND: 2, STATE: 70}
"""Where the first motor's mode lies on the wire [bytes]; in the C struct at the next multiple of 4."""
UNIT_TOLERANCE = 0.02
"""How far from 1 the length of a measured quaternion may be."""


class BadMessage(MotionloomError):
    """A message that cannot be used; `reason` is one of `REASONS`."""

    def __init__(self, reason: str, detail: str):
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


REASONS = ("length", "crc", "not_finite", "quaternion", "mode_pr")


def encode_command(command: LowCmd) -> bytes:
    """A command for all 29 motors; the other six are off."""
    message = np.zeros((), COMMAND)
    message["mode_machine"] = command.mode_machine
    motors = message["motor_cmd"][:JOINTS]
    motors["mode"] = np.where(command.enabled, ENABLED, 0)
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite, and is refused
        for name, numbers in zip(_COMMANDED, _numbers(command), strict=True):
            motors[name] = numbers
    if not all(np.isfinite(motors[name]).all() for name in _COMMANDED):
        raise BadMessage("not_finite", "a command should hold finite numbers only.")
    return sealed(message)


def decode_command(data: bytes) -> LowCmd:
    """What the bytes command; raises `BadMessage`."""
    message = _opened(data, COMMAND)
    if message["mode_pr"] != 0:
        raise BadMessage("mode_pr", f"{message['mode_pr']}; ankles should be commanded by pitch and roll (0).")
    motors = message["motor_cmd"][:JOINTS]
    q, dq, tau, kp, kd = _finite([motors[name] for name in _COMMANDED])
    return LowCmd(q, kp, kd, int(message["mode_machine"]), dq, tau, motors["mode"] == ENABLED)


def encode_state(state: LowState) -> bytes:
    """What a robot says of itself, as a simulator says it: members that a `LowState` does not have are 0."""
    message = np.zeros((), STATE)
    message["mode_machine"], message["tick"] = state.mode_machine, state.tick % 2**32
    imu = message["imu_state"]
    imu["quaternion"], imu["gyroscope"] = state.root_rotation, state.angular_velocity
    imu["accelerometer"], imu["rpy"] = state.acceleration, _roll_pitch_yaw(state.root_rotation)
    motors = message["motor_state"][:JOINTS]
    motors["mode"] = ENABLED
    motors["q"], motors["dq"], motors["tau_est"] = state.joint_position, state.joint_speed, state.torque
    motors["temperature"] = np.clip(state.temperature, -(2**15), 2**15 - 1)[:, None]
    motors["motorstate"] = state.motor_fault
    message["wireless_remote"] = np.frombuffer(state.remote, np.uint8)
    return sealed(message)


def decode_state(data: bytes) -> LowState:
    """What the bytes say of the robot; raises `BadMessage`. Only that numbers are numbers is judged here, not how large they are."""
    message = _opened(data, STATE)
    imu, motors = message["imu_state"], message["motor_state"][:JOINTS]
    measured = [motors["q"], motors["dq"], motors["tau_est"]]
    measured += [imu["quaternion"], imu["gyroscope"], imu["accelerometer"]]
    q, dq, torque, rotation, angular_velocity, acceleration = _finite(measured)
    length = math.sqrt(rotation @ rotation)
    if abs(length - 1) > UNIT_TOLERANCE:
        raise BadMessage("quaternion", f"of length {length:.3g}; should be of length 1.")
    return LowState(
        tick=int(message["tick"]),
        mode_machine=int(message["mode_machine"]),
        joint_position=q,
        joint_speed=dq,
        torque=torque,
        root_rotation=rotation / length,
        angular_velocity=angular_velocity,
        acceleration=acceleration,
        temperature=motors["temperature"].max(1).astype(float),
        motor_fault=motors["motorstate"].astype(np.int64),
        remote=message["wireless_remote"].tobytes(),
    )


def crc32(words: bytes) -> int:
    """Unitree's CRC of little-endian words of 32 bits: polynomial 0x04C11DB7, from FFFFFFFF, most significant bit first.

    zlib's has the same polynomial, least significant bit first: it gives the same number, mirrored, for words whose bytes
    are swapped and whose bits are mirrored.
    """
    mirrored = np.frombuffer(words, "<u4").byteswap().tobytes().translate(_MIRRORED)
    return int.from_bytes((zlib.crc32(mirrored) ^ 0xFFFFFFFF).to_bytes(4, "little").translate(_MIRRORED), "big")


def wire_length(dtype: np.dtype) -> int:
    """Bytes of such a message on the wire."""
    return dtype.itemsize - 4


def sealed(message: np.ndarray) -> bytes:
    """The wire's bytes of a struct of `COMMAND` or `STATE`, under its CRC."""
    struct, first = message.tobytes()[:-4], FIRST_MOTOR[message.dtype]
    return struct[:first] + struct[first + 2 : first + 4] + struct[first + 6 :] + crc32(struct).to_bytes(4, "little")


_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_COMMANDED = ("q", "dq", "tau", "kp", "kd")


def _numbers(command: LowCmd) -> tuple[Float[np.ndarray, " J"], ...]:
    """In the order of `_COMMANDED`."""
    return command.joint_position, command.joint_speed, command.torque, command.kp, command.kd


def _opened(data: bytes, dtype: np.dtype) -> np.ndarray:
    """The message, once its length and CRC are found right."""
    if len(data) != wire_length(dtype):
        raise BadMessage("length", f"{len(data)} bytes; should be {wire_length(dtype)}.")
    first = FIRST_MOTOR[dtype]
    # Padding counts in the CRC: zeros, in Unitree's structs as in what DDS writes.
    struct = data[:first] + b"\0\0" + data[first : first + 2] + b"\0\0" + data[first + 2 :]
    expected = crc32(struct[:-4])
    if int.from_bytes(struct[-4:], "little") != expected:
        raise BadMessage("crc", f"{struct[-4:].hex()}; should be {expected.to_bytes(4, 'little').hex()}.")
    return np.frombuffer(struct, dtype)[0]


def _finite(parts: list[np.ndarray]) -> list[Float[np.ndarray, "..."]]:
    """The same numbers in float64; raises where one is none."""
    together = np.concatenate(parts)  # to be judged before they are converted: a signalling NaN makes numpy warn
    if not np.isfinite(together).all():
        raise BadMessage("not_finite", "NaN or infinity where a number should be.")
    together, result, start = together.astype(float), [], 0
    for part in parts:
        result.append(together[start : start + len(part)])
        start += len(part)
    return result


def _roll_pitch_yaw(rotation: Float[np.ndarray, " 4"]) -> tuple[float, float, float]:
    w, x, y, z = map(float, rotation)
    roll = math.atan2(2 * (w * x + y * z), 1 - 2 * (x * x + y * y))
    yaw = math.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
    return roll, math.asin(max(-1.0, min(1.0, 2 * (w * y - z * x)))), yaw
