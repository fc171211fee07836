"""What a run on the robot or in a simulator leaves behind: one file NAME.g1run, whole up to wherever its writer was stopped.

Magic (8 bytes), length and CRC-32 of the header (u32 each), the header (JSON); then chunks, each of a kind (4 bytes), the length and
the CRC-32 of what follows (u32 each), and its bytes. Kinds: `STEP`, one row of `RECORD`; `EVNT`, a JSON object with `time_s` and
`name`; `STGS`, a JSON list of the names of the timed stages, before the first step that has them. All little-endian. What comes
after the first chunk that is torn or damaged is left out, and counted.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt32

from corpus.errors import Rejected
from corpus.g1 import G1
from corpus.motion import FPS_RANGE

SUFFIX = ".g1run"
MAGIC = b"G1RUN\r\n\x00"
FORMAT = 1
HEADER_BYTES, EVENT_BYTES = 1 << 16, 1 << 12
"""The longest header, and the longest event or list of stages."""
FILE_BYTES = 1 << 31
"""A file larger than this is refused unread: eight hours at 50 Hz take less."""
STAGES = 16
"""Most stages that are timed."""
J = G1.joint_count

RECORD = np.dtype([
    ("time_s", "<f8"), ("number", "<u4"), ("tick", "<u4"), ("mode", "S12"), ("status", "S12"),
    ("joint_position", "<f4", (J,)), ("joint_speed", "<f4", (J,)), ("torque", "<f4", (J,)),
    ("root_rotation", "<f4", (4,)), ("angular_velocity", "<f4", (3,)), ("acceleration", "<f4", (3,)),
    ("temperature", "<f4", (J,)), ("motor_fault", "<u4", (J,)),
    ("reference_qpos", "<f4", (7 + J,)), ("action", "<f4", (J,)),
    ("target", "<f4", (J,)), ("kp", "<f4", (J,)), ("kd", "<f4", (J,)), ("stages", "<f4", (STAGES,)),
])  # fmt: skip
"""A control period. `number` counts them all, also those that did not reach the file; NaN stands for what there was none of."""

_CHUNK = struct.Struct("<4sII")
_MEASURED = ("joint_position", "joint_speed", "root_rotation", "angular_velocity", "acceleration")


@dataclass(frozen=True, eq=False)
class Recording:
    """A run as it was written down: T control periods, and what happened between them."""

    time_s: Float[np.ndarray, " T"]
    """When each began, on the clock of `time.monotonic`; rises."""
    number: UInt32[np.ndarray, " T"]
    """Counts control periods; a jump is what the disk was too slow for."""
    tick: UInt32[np.ndarray, " T"]
    """The robot's own clock [ms]; wraps."""
    mode: np.ndarray
    """What the controller did, as text: damping, stand, track."""
    status: np.ndarray
    """How the reference was, as text: live, held, ended."""
    joint_position: Float[np.ndarray, "T J"]
    joint_speed: Float[np.ndarray, "T J"]
    torque: Float[np.ndarray, "T J"]
    root_rotation: Float[np.ndarray, "T 4"]
    """As the sensor in the pelvis has it; heading from wherever it was switched on."""
    angular_velocity: Float[np.ndarray, "T 3"]
    acceleration: Float[np.ndarray, "T 3"]
    """Of the pelvis, in its own frame, gravity included [m/s²]."""
    temperature: Float[np.ndarray, "T J"]
    motor_fault: UInt32[np.ndarray, "T J"]
    reference_qpos: Float[np.ndarray, "T 7+J"]
    """What was to be followed; NaN where there was none. So of the action."""
    action: Float[np.ndarray, "T J"]
    target: Float[np.ndarray, "T J"]
    """Joint angles that the motors were sent [rad]; with `kp` and `kd`."""
    kp: Float[np.ndarray, "T J"]
    kd: Float[np.ndarray, "T J"]
    stages: Mapping[str, Float[np.ndarray, " T"]]
    """How long each part of a control period took [s]; NaN where it was left out."""
    events: tuple[dict[str, Any], ...]
    """Each with `time_s`, `name` and its numbers, in the order they came."""
    header: dict[str, Any]
    """contract, control_hz, facts, licence, subject, recording, started_utc."""
    cut_bytes: int = 0
    """At the file's end, torn or damaged, left out."""
    cut_count: int = 0
    """Of control periods, that these bytes can have held."""

    @property
    def lost_count(self) -> int:
        """Control periods that never reached the file, between those that did."""
        return int(self.number[-1]) - int(self.number[0]) + 1 - len(self.number) if len(self.number) else 0


def read_recording(path: Path) -> Recording:
    """The run in a file; `Rejected` where it is none, or says what cannot be."""
    data = _bytes_of(path)
    header, at = _header(data)
    steps, events, names = [], [], []
    for kind, payload, end in _chunks(data, at):
        if kind == b"STEP" and len(payload) == RECORD.itemsize:
            steps.append(payload)
        elif kind == b"EVNT" and (event := _event(payload)) is not None:
            events.append(event)
        elif kind == b"STGS" and (found := _names(payload)) is not None:
            names = found
        else:
            break
        at = end
    rows = np.frombuffer(b"".join(steps), RECORD)
    _check(rows)
    cut = len(data) - at
    return _recording(rows, tuple(events), names, header, cut)


def header_bytes(about: Mapping[str, Any]) -> bytes:
    """How a file begins; `ValueError` where that would be longer than anybody reads."""
    text = json.dumps({"format": FORMAT, "record": describe(RECORD), **about}, allow_nan=False).encode()
    if len(text) > HEADER_BYTES:
        raise ValueError(f"the header would have {len(text)} bytes; at most {HEADER_BYTES}")
    return MAGIC + struct.pack("<II", len(text), zlib.crc32(text)) + text


def chunk(kind: bytes, payload: bytes) -> bytes:
    """One chunk of the file."""
    return _CHUNK.pack(kind, len(payload), zlib.crc32(payload)) + payload


def describe(dtype: np.dtype) -> list[list[Any]]:
    """Name, type and shape of each field, as plain values."""
    return [[name, (part := dtype[name]).base.str, list(part.shape)] for name in dtype.names or ()]


def _bytes_of(path: Path) -> bytes:
    try:
        if (size := path.stat().st_size) > FILE_BYTES:
            raise Rejected("too_large", "no run is as long", bytes=size, limit=FILE_BYTES)
        with path.open("rb") as file:
            return file.read(FILE_BYTES)
    except OSError as error:
        raise Rejected("unreadable", f"{type(error).__name__}: {error.strerror or error}") from None


def _header(data: bytes) -> tuple[dict[str, Any], int]:
    """What stands in it, and where the chunks begin."""
    if data[: len(MAGIC)] != MAGIC:
        raise Rejected("not_motion", f"does not begin as {SUFFIX} files do")
    start = len(MAGIC) + 8
    if len(data) < start:
        raise Rejected("truncated", "ends before its header", bytes=len(data), minimum=start)
    length, checksum = struct.unpack_from("<II", data, len(MAGIC))
    if length > HEADER_BYTES:
        raise Rejected("bad_header", "the header is longer than any", bytes=length, limit=HEADER_BYTES)
    text = data[start : start + length]
    if len(text) < length:
        raise Rejected("truncated", "ends within its header", bytes=len(data), minimum=start + length)
    header = _json(text) if zlib.crc32(text) == checksum else None
    if not isinstance(header, dict):
        raise Rejected("bad_header", "the header is damaged")
    _check_header(header)
    return header, start + length


def _check_header(header: dict[str, Any]) -> None:
    if header.get("format") != FORMAT:
        raise Rejected("unknown_format", "of another version", format=str(header.get("format"))[:40], known=FORMAT)
    if header.get("record") != describe(RECORD):
        raise Rejected("unknown_format", "its records are laid out otherwise than this version's")
    for name, kind in (("contract", dict), ("facts", dict), *((name, str) for name in _TEXTS)):
        if not isinstance(header.get(name), kind):
            raise Rejected("bad_header", f"{name} should be {'a text' if kind is str else 'an object'}", key=name)
    rate, (low, high) = header.get("control_hz"), FPS_RANGE
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not low <= rate <= high:
        raise Rejected("bad_frame_rate", "control_hz is absent or absurd", fps=str(rate)[:40])


_TEXTS = ("licence", "subject", "recording", "started_utc")


def _chunks(data: bytes, at: int) -> Iterator[tuple[bytes, bytes, int]]:
    """Kind, bytes and end of each whole chunk, up to the first that is not."""
    while at + _CHUNK.size <= len(data):
        kind, length, checksum = _CHUNK.unpack_from(data, at)
        end = at + _CHUNK.size + length
        if length > max(EVENT_BYTES, RECORD.itemsize) or end > len(data):
            return
        payload = data[at + _CHUNK.size : end]
        if zlib.crc32(payload) != checksum:
            return
        yield kind, payload, end
        at = end


def _event(payload: bytes) -> dict[str, Any] | None:
    found = _json(payload)
    if not isinstance(found, dict) or not isinstance(found.get("name"), str):
        return None
    return found if isinstance(time_s := found.get("time_s"), float) and math.isfinite(time_s) else None


def _names(payload: bytes) -> list[str] | None:
    found = _json(payload)
    good = isinstance(found, list) and len(found) <= STAGES and all(isinstance(name, str) for name in found)
    return found if good and len(set(found)) == len(found) else None


def _json(text: bytes) -> Any:
    """None where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _check(rows: np.ndarray) -> None:
    """Rejected where the clock, or what the robot measured, cannot be."""
    if not np.isfinite(rows["time_s"]).all() or (np.diff(rows["time_s"]) <= 0).any():
        raise Rejected("bad_time", "time should rise from row to row")
    if (np.diff(rows["number"].astype(np.int64)) <= 0).any():
        raise Rejected("bad_time", "the numbers of control periods should rise")
    for name in _MEASURED:
        if bad := int((~np.isfinite(rows[name])).any(1).sum()):
            raise Rejected("not_finite", f"{name} holds NaN or infinity", bad_frames=bad)
    length = np.linalg.norm(rows["root_rotation"], axis=1)
    if len(rows) and (worst := float(np.abs(length - 1).max())) > 0.1:
        raise Rejected("bad_quaternion", "root quaternions are not of unit length", worst=worst)


def _recording(
    rows: np.ndarray, events: tuple[dict[str, Any], ...], names: list[str], header: dict[str, Any], cut: int
) -> Recording:
    known = ("mode", "status", "stages")
    arrays = {name: np.ascontiguousarray(rows[name]) for name in RECORD.names or () if name not in known}
    arrays |= {name: np.char.decode(rows[name], "ascii", "replace") for name in ("mode", "status")}
    stages = {name: np.ascontiguousarray(rows["stages"][:, i]) for i, name in enumerate(names)}
    about = {name: value for name, value in header.items() if name not in ("format", "record")}
    cut_count = -(-cut // (_CHUNK.size + RECORD.itemsize))
    return Recording(**arrays, stages=stages, events=events, header=about, cut_bytes=cut, cut_count=cut_count)
