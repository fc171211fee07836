"""Choose the segments that say most: farthest-point selection to a budget, with a bias to complex motion.

Each pick is the segment with the greatest α · distance / largest distance + (1 − α) · rank of complexity, where the distance is to
the nearest segment picked before and ranks lie in 0 to 1; the first is the most complex one (GQS). Done exactly, every pick looks
at every vector: 2.5e12 distances for a tenth of five million. Beyond `exact_limit` the vectors are divided into parts (K-means),
and a pick is made known to the parts nearest to it alone. What the others believe of their distances is then too large by
little, since what is nearest to a vector lies in its part or in one beside it; the next pick is still the best over all parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from corpus.errors import MotionloomError


@dataclass(frozen=True)
class SelectOptions:
    alpha: float = 0.99
    """1 looks at distances alone, 0 at complexity alone; GQS's value lets complexity decide between near equals."""
    exact_limit: float = 2e9
    """Up to so many distances (vectors × picks) the selection is exact: about 20 s."""
    part_size: int = 2_000
    """Vectors of a part, on average. Larger parts are nearer to exact, and slower."""
    near: int = 10
    """Parts that a pick is made known to. More are nearer to exact, and slower."""
    seed: int = 0
    """Of the division into parts."""

    def __post_init__(self) -> None:
        if not (0 <= self.alpha <= 1 and self.part_size >= 1 and self.near >= 1):
            raise MotionloomError(
                "alpha should lie in 0 to 1, part_size and near should be at least 1; got "
                f"{self.alpha:g}, {self.part_size} and {self.near}."
            )


@dataclass(frozen=True)
class Selection:
    """What was picked."""

    order: Int[np.ndarray, " K"]
    """Numbers of the picked, the first pick first. Their beginning is what a smaller budget would have picked, as long as both are
    exact or both are not."""
    distance: Float[np.ndarray, " S"]
    """Of the picked: to the nearest picked before. Of the others: to the nearest picked, at most. Infinite for the first
    pick, NaN for those that were not allowed."""
    exact: bool

    @property
    def chosen(self) -> Bool[np.ndarray, " S"]:
        chosen = np.zeros(len(self.distance), bool)
        chosen[self.order] = True
        return chosen


ANCHORS = 32
"""Picks at the start that are made known to all parts."""
REFRESH_GROWTH = 0.05
"""When the picks have grown by this share, the largest distance, by which the others are divided, is looked up anew where there
are parts; it falls slowly."""
SAMPLE_OF_PART = 50
"""Vectors by which K-means finds a part."""


def select(
    vectors: Float[np.ndarray, "S D"],
    complexity: Float[np.ndarray, " S"],
    budget: float,
    *,
    cost: Float[np.ndarray, " S"] | None = None,
    allowed: Bool[np.ndarray, " S"] | None = None,
    options: SelectOptions = SelectOptions(),
) -> Selection:
    """Pick until the next would go beyond the budget: of vectors, or of what each costs (its frames, say)."""
    count = len(vectors)
    allowed = np.ones(count, bool) if allowed is None else np.asarray(allowed)
    cost = np.ones(count) if cost is None else np.asarray(cost, float)
    _check(count, complexity, budget, cost, allowed)
    candidates = np.flatnonzero(allowed)
    picks = min(budget / cost[candidates].mean(), len(candidates))
    exact = len(candidates) * picks <= options.exact_limit or len(candidates) <= options.part_size
    field = _Field(vectors, complexity, candidates, options, exact)
    places, distances, spent, refresh_at = [], [], 0.0, 1
    while len(places) < len(candidates):
        if len(places) == refresh_at:
            field.refresh()
            refresh_at += 1 if exact else max(1, int(REFRESH_GROWTH * refresh_at))
        place = field.best() if places else field.first
        spent += cost[field.number[place]]
        if spent > budget * (1 + 1e-12):
            break
        places.append(place)
        distances.append(field.distance(place))
        field.take(place, everywhere=len(places) <= ANCHORS)
    distance = np.full(count, np.nan, np.float32)
    distance[field.number] = field.distance(slice(None))
    order = field.number[places]
    distance[order] = distances
    return Selection(order, distance, exact)


def ranks(values: Float[np.ndarray, " S"]) -> Float[np.ndarray, " S"]:
    """Place in the order of size, from 0 to 1; equals as they come."""
    order = np.argsort(values, kind="stable")
    placed = np.empty(len(values), np.float32)
    placed[order] = np.arange(len(values)) / max(len(values) - 1, 1)
    return placed


class _Field:
    """The candidates sorted by part, how far each is from what was picked, and the best of each part."""

    def __init__(
        self,
        vectors: Float[np.ndarray, "S D"],
        complexity: Float[np.ndarray, " S"],
        candidates: Int[np.ndarray, " C"],
        options: SelectOptions,
        exact: bool,
    ):
        self.alpha, self.near = options.alpha, options.near
        part = np.zeros(len(candidates), np.int64) if exact else _parts(vectors, candidates, options)
        order = np.argsort(part, kind="stable")
        self.number = candidates[order]
        """Of each candidate, in the order kept here, the row of `vectors`."""
        self.starts = np.append(0, np.cumsum(np.bincount(part)))
        self.rows = np.asarray(vectors[self.number], np.float32)
        self.rows -= self.rows.mean(0, dtype=np.float64).astype(np.float32)
        self.square = np.einsum("cd,cd->c", self.rows, self.rows)
        rank = ranks(complexity[candidates])[order]
        self.tilt = (1 - self.alpha) * rank
        self.first = int(rank.argmax())
        """What is picked first, whatever alpha: the most complex."""
        self.nearest = np.full(len(order), np.inf, np.float32)
        """Squared distance to the nearest picked."""
        self.picked = np.zeros(len(order), bool)
        bounds = zip(self.starts[:-1], self.starts[1:], strict=True)
        self.centre = np.stack([self.rows[start:stop].mean(0) for start, stop in bounds])
        self.centre_square = np.einsum("pd,pd->p", self.centre, self.centre)
        self.key = np.zeros(len(self.centre))
        self.best_of = np.zeros(len(self.centre), np.int64)
        self.largest = 0.0

    def best(self) -> int:
        return int(self.best_of[self.key.argmax()])

    def distance(self, place: int | slice) -> np.ndarray:
        return np.sqrt(np.maximum(self.nearest[place], 0))

    def take(self, place: int, *, everywhere: bool) -> None:
        """Pick this one, and tell the parts near it."""
        self.picked[place] = True
        for part in range(len(self.key)) if everywhere else self._near(place):
            rows = slice(self.starts[part], self.starts[part + 1])
            apart = self.rows[rows] @ (-2 * self.rows[place])
            apart += self.square[rows]
            apart += self.square[place]
            np.minimum(self.nearest[rows], apart, out=self.nearest[rows])
            self._find_best(part)

    def refresh(self) -> None:
        """Look up the largest distance, and the best of each part by it."""
        self.largest = max(float(self.distance(slice(None)).max()), 1e-6)
        for part in range(len(self.key)):
            self._find_best(part)

    def _near(self, place: int) -> Int[np.ndarray, " P"]:
        """The parts whose centres are nearest, and its own."""
        if self.near >= len(self.key):
            return np.arange(len(self.key))
        apart = self.centre_square - 2 * (self.centre @ self.rows[place])
        apart[np.searchsorted(self.starts, place, side="right") - 1] = -np.inf
        return np.argpartition(apart, self.near)[: self.near]

    def _find_best(self, part: int) -> None:
        start, stop = self.starts[part], self.starts[part + 1]
        key = np.sqrt(np.maximum(self.nearest[start:stop], 0))
        key *= self.alpha
        key += np.float32(self.largest) * self.tilt[start:stop]
        key[self.picked[start:stop]] = -1
        best = int(key.argmax())
        self.best_of[part], self.key[part] = start + best, key[best]


def _parts(
    vectors: Float[np.ndarray, "S D"], candidates: Int[np.ndarray, " C"], options: SelectOptions
) -> Int[np.ndarray, " C"]:
    """Which part each candidate is in; no part is empty."""
    from sklearn.cluster import MiniBatchKMeans

    count = max(1, len(candidates) // options.part_size)
    step = max(1, len(candidates) // (count * SAMPLE_OF_PART))
    how: dict[str, Any] = {"n_init": 1, "max_iter": 10, "batch_size": 8192, "random_state": options.seed}
    means = MiniBatchKMeans(count, **how)
    means.fit(vectors[candidates[::step]])
    part = np.concatenate(
        [means.predict(vectors[rows]) for rows in np.array_split(candidates, -(-len(candidates) // 2**18))]
    )
    return np.unique(part, return_inverse=True)[1]


def _check(
    count: int, complexity: np.ndarray, budget: float, cost: Float[np.ndarray, " S"], allowed: Bool[np.ndarray, " S"]
) -> None:
    if not len(complexity) == len(cost) == len(allowed) == count:
        raise MotionloomError(
            f"{count} vectors, {len(complexity)} complexities, {len(cost)} costs, {len(allowed)} marks of what is allowed: "
            "one of each per segment is needed."
        )
    if not allowed.any():
        raise MotionloomError("Nothing is left to select from: no segment is allowed.")
    if not np.isfinite(complexity[allowed]).all() or (cost[allowed] <= 0).any():
        raise MotionloomError("Every segment to select from needs a finite complexity and a positive cost.")
    if not budget >= cost[allowed].min():
        raise MotionloomError(
            f"A budget of {budget:g} buys nothing: the cheapest segment costs {cost[allowed].min():g}."
        )
