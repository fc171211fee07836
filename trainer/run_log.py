"""What a run tells while it goes: lines of JSON, TensorBoard scalars, a line of progress; and how it is asked to stop.

    with Interrupt() as interrupt, RunLog(run, total_steps, step=resumed) as run_log:
        for step in range(resumed + 1, total_steps + 1):
            run_log.write(step, loss=loss, success=success)
            if interrupt.asked:
                save_checkpoint(...)
                break

`log.jsonl` has one object per line: `step`, `elapsed_s`, and the numbers given. A run that goes on from step s cuts what came after s.
"""

from __future__ import annotations

import fcntl
import json
import logging
import math
import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from corpus.durable import replace_file
from corpus.errors import MotionloomError

LINE_S = 10.0
"""At most one line of progress in this time [s]."""
LOG, TENSORBOARD = "log.jsonl", "tensorboard"

log = logging.getLogger(__name__)


class RunLog:
    """Owns `log.jsonl` and `tensorboard/` of a run's folder; use as a context manager, or call `close`."""

    def __init__(
        self,
        folder: Path,
        total_steps: int,
        *,
        step: int = 0,
        tensorboard: bool = True,
        shown: Sequence[str] | None = None,
    ):
        """`step` is the one the run goes on from, 0 where it begins. Lines of progress tell the numbers `shown`; None tells all."""
        self.total_steps, self.first_step, self.shown = total_steps, step, shown
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(folder)
        try:
            self._before_s = _cut(folder / LOG, step)
            self._file = (folder / LOG).open("a", buffering=1)  # every line is on its way to the disk at once
            self._board = _writer(folder / TENSORBOARD, step) if tensorboard else None
        except BaseException:
            os.close(self._lock)
            raise
        self._start = self._last_line = time.monotonic()

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()
        os.close(self._lock)
        if self._board is not None:
            self._board.close()

    def write(self, step: int, **numbers: float) -> None:
        """Note numbers of a step; what is not finite becomes null. Names with a slash are grouped in TensorBoard."""
        values = {name: float(value) for name, value in numbers.items()}
        elapsed = round(self._before_s + time.monotonic() - self._start, 3)
        plain = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._file.write(json.dumps({"step": int(step), "elapsed_s": elapsed, **plain}) + "\n")
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)
        self._progress(step, values)

    def text(self, step: int, numbers: dict[str, float]) -> str:
        """How far the run has come, how fast it goes since it was started, and how long the rest will take."""
        rate = (step - self.first_step) / max(time.monotonic() - self._start, 1e-6)
        left = f", {duration((self.total_steps - step) / rate)} left" if rate > 0 and step < self.total_steps else ""
        names = numbers if self.shown is None else [name for name in self.shown if name in numbers]
        shown = "".join(f", {name} {numbers[name]:.4g}" for name in names)
        return f"step {step:,}/{self.total_steps:,}, {rate:,.3g} steps/s{left}{shown}"

    def _progress(self, step: int, numbers: dict[str, float]) -> None:
        now = time.monotonic()
        if now - self._last_line >= LINE_S or step >= self.total_steps:
            self._last_line = now
            log.info("%s", self.text(step, numbers))


class Interrupt:
    """`asked` turns True at the first ctrl-C or SIGTERM, so that a loop can save and leave; the second one goes through."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():  # signals are nobody else's
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _take(self, number: int, _: FrameType | None) -> None:
        self.asked = True
        self._restore()
        log.warning("asked to stop: saving first; once more stops at once")

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Lines of a run's log."""
    return read_lines(folder / LOG, "step")


def read_lines(path: Path, key: str) -> list[dict[str, Any]]:
    """JSON objects, one per line, that all have this `key`. The last one, where a kill cut it short, is left out."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(json.loads(line))
            rows[-1][key]
        except (ValueError, KeyError, TypeError):
            raise MotionloomError(f"{path}, line {number}: should be a JSON object with {key!r}.") from None
    return rows


def duration(seconds: float) -> str:
    """As 40 s, 12 min or 3.4 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def _lock(folder: Path) -> int:
    """A descriptor that keeps other processes out of a run's folder until it is closed, or this process ends."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise MotionloomError(f"Another process trains in {folder}: wait for it, or take another folder.") from None
    except OSError:  # a file system without locks
        log.warning("%s cannot be locked: let no other process train there", folder)
    return descriptor


def _cut(path: Path, step: int) -> float:
    """Leave the lines up to that step, and tell how long the run had taken by then [s]."""
    try:
        rows = [row for row in read_log(path.parent) if row["step"] <= step] if step else []
        before_s = float(rows[-1].get("elapsed_s", 0.0)) if rows else 0.0
    except (TypeError, ValueError) as error:
        raise MotionloomError(f"{path}: `step` and `elapsed_s` should be numbers ({error}).") from None
    text = "".join(json.dumps(row) + "\n" for row in rows)
    replace_file(path, lambda temporary: temporary.write_text(text))
    return before_s


def _writer(folder: Path, step: int):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MotionloomError(
            f"TensorBoard's files need it installed ({error}): pip install 'motionloom[train]'."
        ) from None
    # What an earlier process wrote beyond that step is hidden from here on.
    return SummaryWriter(str(folder), purge_step=step + 1 if step else None, flush_secs=10)
