"""Write a run down while it goes, without ever holding up the control loop: a thread does the writing, and what the disk is too
slow or too full for is dropped and counted. Read back by `corpus.recording.read_recording`."""

from __future__ import annotations

import json
import logging
import math
import os
import queue
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from corpus.errors import MotionloomError
from corpus.recording import EVENT_BYTES, RECORD, STAGES, SUFFIX, chunk, header_bytes
from deploy.contract import Contract
from deploy.messages import LowCmd, LowState

WAITING = 500
"""Chunks that wait for the disk at most, ten seconds; further ones are dropped."""
CLOSE_S = 10.0
"""How long `close` waits for the disk at most [s]."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Step:
    """What one control period saw and did."""

    time_s: float
    """When it began, on the clock of `time.monotonic`."""
    state: LowState
    mode: str
    """What the controller did: damping, stand, track. At most 12 letters, as `status`."""
    reference_qpos: Float[np.ndarray, " 36"] | None
    """What was to be followed now; None where nothing was."""
    action: Float[np.ndarray, " J"] | None
    """The policy's, in the contract's units; None where it was not asked."""
    command: LowCmd
    stages: Mapping[str, float]
    """How long each part took [s]: read, observe, infer, …"""
    status: str = ""
    """How the reference was: live, held, ended; empty without one."""


class RunLog:
    """Owns the file of a run. Everything but opening and `close` returns at once, whatever the disk does."""

    def __init__(
        self,
        path: Path,
        contract: Contract,
        facts: Mapping[str, Any],
        *,
        licence: str = "",
        subject: str = "",
        recording: str = "",
    ):
        """`facts` are whatever is worth knowing of the run, as plain values. `licence` and `subject` go with the run into a corpus;
        `recording` is what it is called there: the file's name and the time of day, unless given."""
        if path.suffix != SUFFIX:
            raise MotionloomError(f"{path}: a run goes to a file NAME{SUFFIX}.")
        started = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        about = {
            "contract": {**contract.to_json(), "hash": contract.hash},
            "control_hz": contract.control_hz,
            "facts": dict(facts),
            "licence": licence,
            "subject": subject,
            "recording": recording or f"{path.stem}-{started}",
            "started_utc": started,
        }
        begin = _begin(path, about)
        self._file = _create(path, begin)
        self._path, self._row, self._names = path, np.zeros(1, RECORD), []
        self._fields = {
            name: self._row[name] for name in RECORD.names or ()
        }  # found once: it costs more than filling them
        self._number, self._end = 0, len(begin)
        self._dropped = {"waiting": 0, "disk": 0}  # the loop counts the one, the thread the other
        self._waiting: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._failure, self._closed = "", False
        self._thread = threading.Thread(target=self._write_all, name="run-log", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Chunks (control periods, events) that did not reach the file."""
        return sum(self._dropped.values())

    @property
    def failure(self) -> str:
        """What the disk said when it last refused; empty while it has not."""
        return self._failure

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, step: Step) -> None:
        """Note a control period; times should rise."""
        self._name_stages(step.stages)
        _fill(self._fields, step, self._number)
        stages = self._fields["stages"][0]
        stages[:] = np.nan
        for i, name in enumerate(self._names):
            stages[i] = step.stages.get(name, np.nan)
        self._number += 1
        self._put(chunk(b"STEP", self._row.tobytes()))

    def event(self, now_s: float, name: str, /, **numbers: object) -> None:
        """Note something that happened; what is not finite becomes null, and what is too long is cut."""
        told = {key: _plain(value) for key, value in numbers.items()}
        when = float(now_s) if math.isfinite(now_s) else float(self._fields["time_s"][0])
        text = json.dumps({**told, "time_s": when, "name": name}).encode()
        if len(text) > EVENT_BYTES:
            text = json.dumps({"time_s": when, "name": name[:80], "cut": len(text)}).encode()
        self._put(chunk(b"EVNT", text))

    def close(self) -> None:
        """Wait until all is safe on the disk, or the disk does not answer for `CLOSE_S`. A second time does nothing."""
        if self._closed:
            return
        self._closed = True
        self._waiting.put(None)
        self._thread.join(CLOSE_S)
        if self._thread.is_alive():
            log.warning("%s: the disk does not answer; %d chunks may be lost", self._path, self._waiting.qsize())
        elif self.dropped:
            log.warning("%s: %d chunks were dropped (%s)", self._path, self.dropped, self._failure or "a slow disk")

    def _put(self, data: bytes) -> None:
        if self._closed or self._waiting.qsize() >= WAITING:
            self._dropped["waiting"] += 1
        else:
            self._waiting.put(data)

    def _name_stages(self, stages: Mapping[str, float]) -> None:
        new = [name for name in stages if name not in self._names]
        if new and len(self._names) < STAGES:
            self._names = [*self._names, *new][:STAGES]
            self._waiting.put(chunk(b"STGS", json.dumps(self._names).encode()))

    def _write_all(self) -> None:
        """The thread's: whatever waits, in order; then make it durable."""
        while (data := self._waiting.get()) is not None:
            try:
                self._end += _write(self._file, data, self._end)
            except OSError as error:
                self._refused(error)
        try:
            os.fsync(self._file)
        except OSError as error:
            self._refused(error, lost=0)
        os.close(self._file)

    def _refused(self, error: OSError, *, lost: int = 1) -> None:
        """The next one is tried all the same: there may be room again."""
        if not self._failure:
            log.warning("%s: %s; the run goes on without its log", self._path, error.strerror or error)
        self._failure = str(error.strerror or error)
        self._dropped["disk"] += lost


def _begin(path: Path, about: dict[str, Any]) -> bytes:
    try:
        return header_bytes(about)
    except (TypeError, ValueError) as error:
        raise MotionloomError(f"{path}: facts should be few plain values ({error}).") from None


def _create(path: Path, begin: bytes) -> int:
    """The file, with its beginning in it."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        _write(file, begin, 0)
        return file
    except FileExistsError:
        raise MotionloomError(f"{path} is there already: a run needs a file of its own.") from None
    except OSError as error:
        raise MotionloomError(f"{path}: {error.strerror}.") from None


def _fill(row: dict[str, np.ndarray], step: Step, number: int) -> None:
    """Into a table of one row."""
    state, command = step.state, step.command
    row["time_s"][0], row["number"][0], row["tick"][0] = step.time_s, number, state.tick % 2**32
    row["mode"][0], row["status"][0] = step.mode.encode("ascii", "replace"), step.status.encode("ascii", "replace")
    for name in _STATE:
        row[name][0] = getattr(state, name)
    row["reference_qpos"][0] = np.nan if step.reference_qpos is None else step.reference_qpos
    row["action"][0] = np.nan if step.action is None else step.action
    row["target"][0], row["kp"][0], row["kd"][0] = command.joint_position, command.kp, command.kd


_STATE = (
    "joint_position", "joint_speed", "torque", "root_rotation", "angular_velocity", "acceleration", "temperature", "motor_fault",
)  # fmt: skip


def _write(file: int, data: bytes, end: int) -> int:
    """All of it at that place, or nothing: what a full disk took half of is taken back."""
    at = 0
    try:
        while at < len(data):
            at += os.pwrite(file, data[at:], end + at)
    except OSError:
        if at:
            os.ftruncate(file, end)
        raise
    return at


def _plain(value: object) -> float | int | str | None:
    if isinstance(value, str | int):
        return value
    try:
        number = float(value)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError):
        return str(value)
    return number if math.isfinite(number) else None
