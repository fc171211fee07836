"""How far a build has come: a bar on a terminal, a line every few seconds in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

LINE_S = 10.0
"""At most one line in this time, where the output is no terminal [s]."""


class Progress:
    """Counts results as they come; use as a context manager, and call `advance` with what `build_shard` returns."""

    def __init__(self, shard_count: int, frame_count: int, *, shown: bool = True, stream=None):
        """`frame_count` is the plan's estimate: it only scales the bar."""
        self.shard_count, self.frame_count = shard_count, frame_count
        self.shards_done = self.estimate_done = self.frames = self.rejects = 0
        self.stream = sys.stderr if stream is None else stream
        self._start = self._last_line = time.monotonic()
        self._draw: Callable[[], None] = lambda: None
        self._bar: Any = None
        if shown:
            self._draw = self._line
            if self.stream.isatty():
                self._bar, self._draw = _bar(self.stream), self._update_bar

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task("", total=max(self.frame_count, 1), text="starting workers")
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, result: dict) -> None:
        """Count a shard that has been built."""
        self.shards_done += 1
        self.estimate_done += result["estimated_frames"]
        self.frames += result["frames"]
        self.rejects += result["clips_rejected"]
        self._draw()

    def text(self) -> str:
        elapsed = max(time.monotonic() - self._start, 1e-6)
        return (
            f"{self.shards_done}/{self.shard_count} shards, {self.frames:,} frames, "
            f"{self.frames / elapsed:,.0f} frames/s, {self.rejects} clips rejected"
        )

    def remaining_s(self) -> float:
        """Time left, if the rest goes as the part so far [s]."""
        elapsed = time.monotonic() - self._start
        return elapsed * (self.frame_count - self.estimate_done) / max(self.estimate_done, 1)

    def _line(self) -> None:
        now = time.monotonic()
        if now - self._last_line >= LINE_S or self.shards_done == self.shard_count:
            self._last_line = now
            left = "" if self.shards_done == self.shard_count else f", {self.remaining_s():.0f} s left"
            print(self.text() + left, file=self.stream, flush=True)

    def _update_bar(self) -> None:
        done = self.frame_count if self.shards_done == self.shard_count else self.estimate_done
        self._bar.update(self._task, completed=done, text=self.text())


def _bar(stream):
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = BarColumn(bar_width=30), TextColumn("{task.fields[text]}"), TimeElapsedColumn(), TimeRemainingColumn()
    return Progress(*columns, console=Console(file=stream))
