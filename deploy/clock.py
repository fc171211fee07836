"""A sender's clock, told from ours by the packets that came quickest."""

from __future__ import annotations

from collections import deque

import numpy as np

BUCKET_S = 0.25
STEEPEST = 0.02
"""No two clocks run more apart than this."""


class SenderClock:
    """How much later our clock tells the time than the sender's, the quickest journey included: the least of arrived − sent.

    Seen over some seconds, in buckets; a line through their least tells how fast the clocks drift apart.
    """

    def __init__(self, window_s: float):
        self.least: deque[tuple[float, float]] = deque(maxlen=max(2, round(window_s / BUCKET_S)))
        self.drift = 0.0
        self.until_s = -np.inf

    def add(self, sent_s: float, arrived_s: float) -> None:
        late = arrived_s - sent_s
        if arrived_s >= self.until_s:
            self.drift = self._slope()
            self.least.append((arrived_s, late))
            self.until_s = arrived_s + BUCKET_S
        elif late < self.least[-1][1]:
            self.least[-1] = arrived_s, late

    def offset(self, now_s: float) -> float:
        """Our clock minus the sender's [s], as it is now; after the first packet."""
        return min(late + self.drift * (now_s - at_s) for at_s, late in self.least)

    def _slope(self) -> float:
        count = len(self.least)
        if count < 8:
            return 0.0
        mean_at = sum(at_s for at_s, _ in self.least) / count
        mean_late = sum(late for _, late in self.least) / count
        square = sum((at_s - mean_at) ** 2 for at_s, _ in self.least)
        slope = sum((at_s - mean_at) * (late - mean_late) for at_s, late in self.least) / max(square, 1e-9)
        return min(max(slope, -STEEPEST), STEEPEST)
