"""What goes over UDP to the controller: one posture of the reference in each datagram; nothing absurd comes out of `decode`.

A datagram, little-endian: "LOOM", version u8, kind u8, flags u16, sequence u32, stream u32, sent_s f64, the payload, and
zlib's CRC-32 of all before it. The payload of a posture: made_s f64, time_s f64, qpos 36 × f32. 188 bytes.

The CRC finds damage, not malice: who can send to the port and knows the stream can move the robot.
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from corpus.errors import MotionloomError
from corpus.g1 import G1

MAGIC, VERSION = b"LOOM", 1
QPOS, HELLO, FRAME = 1, 2, 3
"""Kinds: a robot's posture; what person will move, and how she moves (`pipelines.streaming.human_packets`)."""
LAST = 1
"""Flag: the take ends here."""
QPOS_SIZE = 7 + G1.joint_count

REASONS = ("magic", "version", "length", "crc", "kind", "not_finite", "quaternion", "range")
FARTHEST = 1000.0
"""A root beyond is no motion's [m]."""
WIDEST = 4 * np.pi
"""Joint angles beyond are no joint's [rad]; what lies within is cut to the robot's limits later."""
LATEST = 1e10
"""Times beyond are on no clock [s]."""

_HEAD, _TIMES, _CRC = struct.Struct("<4sBBHIId"), struct.Struct("<dd"), struct.Struct("<I")
_SMALLEST = _HEAD.size + _CRC.size
_QPOS_BYTES = _TIMES.size + 4 * QPOS_SIZE
_BOUND = np.array([FARTHEST] * 3 + [2.0] * 4 + [WIDEST] * G1.joint_count, np.float32)


class BadPacket(MotionloomError):
    """A datagram that is none of ours, or broken; `reason` is one of `REASONS`, to be counted."""

    def __init__(self, reason: str, detail: str):
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


@dataclass(frozen=True, eq=False)
class QposPacket:
    """One posture of the reference. All times are on the sender's monotonic clock."""

    sequence: int
    """Counts a stream's packets; wraps at 2**32."""
    made_s: float
    """When the human frame that it was made of came to the sender [s]."""
    sent_s: float
    """When it was sent [s]."""
    time_s: float
    """The moment of the take that it stands for [s]: postures are played out as far apart as these lie; may run on a clock of
    its own."""
    qpos: Float[np.ndarray, " Q"]
    stream: int = 0
    """Drawn at random by each sender at its start."""
    last: bool = False
    """The take ends here."""


class Datagram(NamedTuple):
    """A whole datagram of any kind; what its payload holds is not yet judged."""

    kind: int
    flags: int
    sequence: int
    stream: int
    sent_s: float
    payload: memoryview


def decode(data: bytes) -> QposPacket:
    """The posture in a datagram; raises `BadPacket`."""
    kind, flags, sequence, stream, sent_s, payload = open_datagram(data)
    if kind != QPOS:
        raise BadPacket("kind", f"a posture is of kind {QPOS}, this is {kind}")
    if len(payload) != _QPOS_BYTES:
        raise BadPacket("length", f"a posture has {_QPOS_BYTES} bytes, this {len(payload)}")
    made_s, time_s = _TIMES.unpack_from(payload)
    check_times(made_s, time_s)
    told = np.frombuffer(payload, "<f4", QPOS_SIZE, _TIMES.size)
    if not (np.abs(told) <= _BOUND).all():  # also where something is NaN
        raise _absurd(told)
    qpos = told.astype(np.float64)
    turn = qpos[3:7]
    norm = float(turn @ turn)
    if not 0.98 <= norm <= 1.02:
        raise BadPacket("quaternion", f"the root's quaternion has length {norm**0.5:.3f}, not 1")
    turn /= norm**0.5
    return QposPacket(sequence, made_s, sent_s, time_s, qpos, stream, bool(flags & LAST))


def encode_qpos(packet: QposPacket) -> bytes:
    """Its bytes; the posture in single precision."""
    payload = _TIMES.pack(packet.made_s, packet.time_s) + np.asarray(packet.qpos, "<f4").tobytes()
    return seal(QPOS, payload, packet.sequence, packet.stream, packet.sent_s, LAST if packet.last else 0)


def seal(kind: int, payload: bytes, sequence: int, stream: int, sent_s: float, flags: int = 0) -> bytes:
    """A datagram around a payload of any kind."""
    data = _HEAD.pack(MAGIC, VERSION, kind, flags, sequence & 0xFFFFFFFF, stream, sent_s) + payload
    return data + _CRC.pack(zlib.crc32(data))


def open_datagram(data: bytes) -> Datagram:
    """Take off what every kind has in common; raises `BadPacket` where it is not whole."""
    if data[:4] != MAGIC:
        raise BadPacket("magic", f"a datagram begins with {MAGIC!r}")
    if len(data) < _SMALLEST:
        raise BadPacket("length", f"a datagram has at least {_SMALLEST} bytes, this {len(data)}")
    _, version, kind, flags, sequence, stream, sent_s = _HEAD.unpack_from(data)
    if version != VERSION:
        raise BadPacket("version", f"this program speaks version {VERSION}, the datagram {version}")
    whole = memoryview(data)
    if zlib.crc32(whole[: -_CRC.size]) != _CRC.unpack_from(data, len(data) - _CRC.size)[0]:
        raise BadPacket("crc", "the checksum does not fit")
    check_times(sent_s)
    return Datagram(kind, flags, sequence, stream, sent_s, whole[_HEAD.size : -_CRC.size])


def check_times(*times_s: float) -> None:
    for time_s in times_s:
        if not -LATEST <= time_s <= LATEST:
            raise BadPacket("range" if math.isfinite(time_s) else "not_finite", f"no clock says {time_s}")


def _absurd(qpos: Float[np.ndarray, " Q"]) -> BadPacket:
    if not np.isfinite(qpos).all():
        return BadPacket("not_finite", "NaN or infinity in the posture")
    if not (np.abs(qpos[3:7]) <= _BOUND[3:7]).all():
        return BadPacket("quaternion", "the root's quaternion is no rotation")
    return BadPacket("range", f"the root is beyond {FARTHEST:.0f} m or a joint beyond {WIDEST:.1f} rad")
