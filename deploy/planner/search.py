"""The nearest row of many, exactly, in a few milliseconds: rows lie in boxes, and most boxes are too far to be opened.

Of rows in opened boxes the leading columns are looked at first, and the others only where those leave a row in the race.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

LEAF = 64
"""Rows of a box."""
HEAD = 16
"""Leading columns: with the boxes these decide about most rows."""
FIRST, NEXT = 4, 64
"""How many boxes are opened at a time: at first few, since the best of them spares others."""


@dataclass(frozen=True, eq=False)
class Boxes:
    """Rows in an order in which neighbours are alike, every `LEAF` of them with the box around their leading columns."""

    rows: Float[np.ndarray, "R D"]
    """As they come."""
    order: Int[np.ndarray, " P"]
    """Places in `rows`, arranged; whole boxes: P is a multiple of `LEAF`."""
    head: Float[np.ndarray, "P H"]
    """Leading columns of the rows in that order."""
    low: Float[np.ndarray, "L H"]
    high: Float[np.ndarray, "L H"]

    @classmethod
    def around(cls, rows: Float[np.ndarray, "R D"], order: Int[np.ndarray, " P"], head: np.ndarray) -> Boxes:
        parts = head.reshape(-1, LEAF, head.shape[1])
        return cls(rows, order, head, parts.min(1), parts.max(1))

    def holding(self, allowed: Bool[np.ndarray, " R"]) -> Bool[np.ndarray, " L"]:
        """Which boxes hold such a row."""
        return np.asarray(allowed[self.order].reshape(-1, LEAF).any(1))

    def nearest(
        self,
        query: Float[np.ndarray, " D"],
        weight: Float[np.ndarray, " D"],
        *,
        bound: float = np.inf,
        boxes: Bool[np.ndarray, " L"] | None = None,
        allowed: Bool[np.ndarray, " R"] | None = None,
    ) -> tuple[int, float]:
        """The cheapest row and its cost Σ weight·(row − query)², if that is below `bound`, else −1; only `boxes` are opened, and
        only `allowed` rows count."""
        head, spoke = self.head.shape[1], np.arange(LEAF)
        lower = self._lower_bounds(query[:head], weight[:head])
        if boxes is not None:
            lower[~boxes] = np.inf
        order = np.flatnonzero(lower < bound)
        order, found, done = order[np.argsort(lower[order])], -1, 0
        while done < len(order) and lower[order[done]] < bound:
            opened = order[done : done + (NEXT if done else FIRST)]
            done += len(opened)
            places = (opened[lower[opened] < bound, None] * LEAF + spoke).ravel()
            if allowed is not None:
                places = places[allowed[self.order[places]]]
            rows = self.order[places[_cost(self.head[places], query[:head], weight[:head]) * SAFE < bound]]
            if not len(rows):
                continue
            cost = _cost(self.rows[rows], query, weight)
            best = int(cost.argmin())
            if cost[best] < bound:
                found, bound = int(rows[best]), float(cost[best])
        return found, bound if found >= 0 else np.inf

    def _lower_bounds(self, query: Float[np.ndarray, " H"], weight: Float[np.ndarray, " H"]) -> Float[np.ndarray, " L"]:
        """What the cheapest row of each box costs at least."""
        outside = np.maximum(self.low - query, query - self.high)
        np.maximum(outside, 0, out=outside)
        outside *= outside
        return (outside @ weight) * SAFE


SAFE = np.float32(1 - 1e-5)
"""Bounds are taken a hair lower: rounding may not shut out the very row."""


def arrange(rows: Float[np.ndarray, "R D"]) -> Int[np.ndarray, " P"]:
    """An order in which each `LEAF` rows fill a small box: halved again and again along the widest column. The last row is
    repeated until the last box is full."""
    order, waiting = np.arange(len(rows)), [(0, len(rows))]
    while waiting:
        start, stop = waiting.pop()
        if stop - start <= LEAF:
            continue
        part = rows[order[start:stop], :HEAD]
        half = -(-(stop - start) // (2 * LEAF)) * LEAF  # whole boxes on the left
        column = int(part.var(0).argmax())
        order[start:stop] = order[start:stop][np.argpartition(part[:, column], half - 1)]
        waiting += [(start, start + half), (start + half, stop)]
    return np.concatenate([order, np.repeat(order[-1:], -len(order) % LEAF)])


def principal_axes(rows: Float[np.ndarray, "R D"], blocks: list[slice]) -> Float[np.ndarray, "D D"]:
    """A turn of the columns within each block, and their order: those that vary most come first, so that few tell most.

    Columns of the result; distances are as before, also where whole blocks do not count.
    """
    width = rows.shape[1]
    basis, spread = np.zeros((width, width)), np.zeros(width)
    for block in blocks:
        part = rows[:, block].astype(np.float64)
        spread[block], basis[block, block] = np.linalg.eigh(np.atleast_2d(np.cov(part.T, bias=True)))
    return basis[:, np.argsort(-spread, kind="stable")]


def _cost(
    rows: Float[np.ndarray, "R D"], query: Float[np.ndarray, " D"], weight: Float[np.ndarray, " D"]
) -> np.ndarray:
    rows -= query  # a copy already: rows were gathered
    rows *= rows
    return rows @ weight
