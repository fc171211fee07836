"""Unitree's message types of the G1 as DDS knows them: names and members, by which two programs find out that they can talk.

CycloneDDS's own Python writes and reads messages member by member, which takes 0.6 to 1.5 ms each. Here they pass as bytes,
which `deploy.wire` reads: `payload` is the message without DDS's header, in XCDR, little-endian.
"""

# Names, members and their order: unitreerobotics/unitree_sdk2_python, unitree_sdk2py/idl/unitree_hg (BSD-3, see NOTICE).
# CycloneDDS reads these annotations, so they are no strings: no `from __future__ import annotations` here.
# pyright: reportInvalidTypeForm=false
from typing import Any

from cyclonedds.idl import IdlStruct
from cyclonedds.idl.annotations import autoid, final
from cyclonedds.idl.types import array, float32, int16, uint8, uint32

from deploy.wire import WIRE_MOTORS

HEADER = b"\x00\x01\x00\x00"
"""XCDR version 1, little-endian; version 2 would put a length before each array of motors."""


def as_bytes(kind: type) -> type:
    """The same type, whose values are made of their bytes. (Not a base class: CycloneDDS takes those for Unitree's.)"""

    def start(self: Any, payload: bytes) -> None:
        self.payload = payload

    def serialize(self: Any, *args: Any, **options: Any) -> bytes:
        return HEADER + self.payload

    def deserialize(cls: Any, data: bytes, *args: Any, **options: Any) -> Any:
        return cls(data[len(HEADER) :])

    reader = classmethod(deserialize)
    for name, method in (
        ("__init__", start),
        ("serialize", serialize),
        ("deserialize", reader),
        ("deserialize_key", reader),
    ):
        setattr(kind, name, method)
    return kind


@final
@autoid("sequential")
class MotorCmd_(IdlStruct, typename="unitree_hg.msg.dds_.MotorCmd_"):
    mode: uint8
    q: float32
    dq: float32
    tau: float32
    kp: float32
    kd: float32
    reserve: uint32


@as_bytes
@final
@autoid("sequential")
class LowCmd_(IdlStruct, typename="unitree_hg.msg.dds_.LowCmd_"):
    mode_pr: uint8
    mode_machine: uint8
    motor_cmd: array[MotorCmd_, WIRE_MOTORS]
    reserve: array[uint32, 4]
    crc: uint32


@final
@autoid("sequential")
class IMUState_(IdlStruct, typename="unitree_hg.msg.dds_.IMUState_"):
    quaternion: array[float32, 4]
    gyroscope: array[float32, 3]
    accelerometer: array[float32, 3]
    rpy: array[float32, 3]
    temperature: int16


@final
@autoid("sequential")
class MotorState_(IdlStruct, typename="unitree_hg.msg.dds_.MotorState_"):
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


@as_bytes
@final
@autoid("sequential")
class LowState_(IdlStruct, typename="unitree_hg.msg.dds_.LowState_"):
    version: array[uint32, 2]
    mode_pr: uint8
    mode_machine: uint8
    tick: uint32
    imu_state: IMUState_
    motor_state: array[MotorState_, WIRE_MOTORS]
    wireless_remote: array[uint8, 40]
    reserve: array[uint32, 4]
    crc: uint32
