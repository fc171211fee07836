"""How long each stage of a control period takes, measured while running."""

from __future__ import annotations

import time

import numpy as np

STAGES = ("read", "check", "look", "observe", "infer", "clamp", "write", "log")
KEPT = 30_000
"""Control periods whose times are kept: the last ten minutes."""


class Stages:
    """A ring of times; marking costs a microsecond and allocates nothing of size."""

    def __init__(self, names: tuple[str, ...] = STAGES):
        self.names = names
        self._place = {name: i for i, name in enumerate(names)}
        self._ring = np.zeros((KEPT, len(names)), np.float32)
        self._longest = np.zeros(len(names) + 1)
        self._last = 0.0
        self.count = 0

    def begin(self) -> None:
        """A control period begins."""
        self._row = self._ring[self.count % KEPT]
        self._row[:] = 0
        self._last = time.perf_counter()

    def mark(self, name: str) -> None:
        """What went on since the last mark was this."""
        now = time.perf_counter()
        self._row[self._place[name]] += now - self._last
        self._last = now

    def so_far(self) -> dict[str, float]:
        """The times of the period that goes on [s]."""
        return dict(zip(self.names, self._row.tolist(), strict=True))

    def end(self) -> None:
        """The period is over."""
        self.count += 1
        np.maximum(self._longest[:-1], self._row, out=self._longest[:-1])
        self._longest[-1] = max(self._longest[-1], float(self._row.sum()))

    def summary(self, having: str | None = None) -> dict[str, dict[str, float]]:
        """Of each stage and of the whole step ("step"): p50 and p99 of the last ten minutes, max since the beginning [ms].

        `having` is a stage: p50 and p99 are of those periods alone in which it took time, as "infer" while a policy acts."""
        rows = self._ring[: min(self.count, KEPT)] * 1000.0
        if having is not None:
            rows = rows[rows[:, self._place[having]] > 0]
        if not len(rows):
            return {}
        columns = np.concatenate([rows, rows.sum(1, keepdims=True)], 1)
        p50, p99 = np.percentile(columns, [50, 99], axis=0)
        longest = self._longest * 1000
        return {
            name: {"p50_ms": float(p50[i]), "p99_ms": float(p99[i]), "max_ms": float(longest[i])}
            for i, name in enumerate([*self.names, "step"])
        }
