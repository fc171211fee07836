"""Windows that a network is trained on: of motions in memory, or of a corpus by its loader; a batch is a function of seed and step.

Wherever they come from, each sample of 10 Hz is the middle of a window equally often, as far as the ends of its motion allow, and
a motion shorter than a window is one window, whose last posture stands to its end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import Any, Protocol

import numpy as np
from jaxtyping import Bool, Float

from corpus.catalog import Corpus
from corpus.errors import MotionloomError
from corpus.loader import Loader
from corpus.loading.prefetch import ahead
from corpus.loading.sampling_plan import Plan, hash_of
from corpus.loading.windows import Batch
from corpus.motion import RobotMotion
from hme.features import HALF_WIDTH, STEP, Features, features
from hme.periodic.windows import rows_from, window_counts

AHEAD = 2
"""Batches made ahead of time by a thread."""


class TrainingWindows(Protocol):
    """Endless batches of windows of features."""

    @property
    def seed(self) -> int: ...

    @property
    def batch_size(self) -> int: ...

    @property
    def window_count(self) -> int:
        """Windows there are, one every 0.1 s."""
        ...

    def state(self, step: int) -> dict[str, Any]:
        """What the batches from this step on are a function of."""
        ...

    def go_on(self, state: dict[str, Any]) -> None:
        """Draw what a run at this state would have drawn; raises `MotionloomError` where that is another run's."""
        ...

    def batches(self, step: int) -> Iterator[Float[np.ndarray, "N B C"]]:
        """From this step on."""
        ...


@dataclass(frozen=True)
class MotionWindows:
    """Of motions in memory."""

    given: Features
    window: int
    batch_size: int
    seed: int

    @property
    def window_count(self) -> int:
        return int(window_counts(self.given.starts, self.window).sum())

    def state(self, step: int) -> dict[str, Any]:
        return {"seed": self.seed, "step": step, "batch_size": self.batch_size, "motions": self._hash}

    def go_on(self, state: dict[str, Any]) -> None:
        mine = self.state(state.get("step", -1))
        if other := [name for name in mine if state.get(name) != mine[name]]:
            raise MotionloomError(f"The run to go on with has another {' and '.join(other)}: its batches are others.")

    def batches(self, step: int) -> Iterator[Float[np.ndarray, "N B C"]]:
        starts = self.given.starts.astype(np.int64)
        for number in count(step):
            bits = np.random.Philox(key=self.seed, counter=[0, 0, 0, number]).random_raw(self.batch_size)
            middle = (bits % np.uint64(starts[-1])).astype(np.int64)
            motion = np.searchsorted(starts, middle, side="right") - 1
            place = _around(middle - starts[motion], starts[motion + 1] - starts[motion], self.window)
            yield self.given.values[rows_from(starts, motion, place, self.window)]

    @cached_property
    def _hash(self) -> int:
        return hash_of(self.given.values, self.given.starts)


@dataclass(frozen=True)
class CorpusWindows:
    """Of a corpus: what its loader draws by the plan, from mapped shards or through a rotating buffer."""

    corpus: Corpus
    window: int
    batch_size: int
    seed: int
    plan: Plan | None = None
    """How often each segment is drawn; None: as often as it has frames."""

    @property
    def window_count(self) -> int:
        samples = (self.corpus.frames - 1) // STEP + 1
        return int(window_counts(np.concatenate([[0], np.cumsum(samples)]), self.window).sum())

    def state(self, step: int) -> dict[str, Any]:
        return self._loader.windows.sampler.state(step)

    def go_on(self, state: dict[str, Any]) -> None:
        self._loader.load_state_dict(state)

    def batches(self, step: int) -> Iterator[Float[np.ndarray, "N B C"]]:
        windows = self._loader.windows
        return ahead((self._batch(windows[number]) for number in count(step)), AHEAD)

    @cached_property
    def _reach(self) -> int:
        """Frames that a window, and the low-pass around it, may reach to either side of the frame that was drawn."""
        return (self.window - 1) * STEP + HALF_WIDTH

    @cached_property
    def _loader(self) -> Loader:
        return Loader(
            self.corpus, batch_size=self.batch_size, window=1, seed=self.seed, weights=self.plan, history=self._reach,
            future=self._reach, fields=("qpos",), prefetch=0,
        )  # fmt: skip

    def _batch(self, drawn: Batch) -> Float[np.ndarray, "N B C"]:
        pieces = [self._piece(qpos, valid) for qpos, valid in zip(drawn.qpos, drawn.valid, strict=True)]
        given = features([RobotMotion(qpos, self.corpus.fps) for qpos, _ in pieces])
        place = np.array([before for _, before in pieces])
        return given.values[rows_from(given.starts, np.arange(len(place)), place, self.window)]

    def _piece(
        self, qpos: Float[np.ndarray, "L Q"], valid: Bool[np.ndarray, " L"]
    ) -> tuple[Float[np.ndarray, "F Q"], int]:
        """The frames that a window's features hang on, and how many samples of them come before the window."""
        first, length = int(valid.argmax()), int(valid.sum())
        span = (self.window - 1) * STEP + 1
        start = int(_around(np.array(self._reach - first), np.array(length), span))
        before = min(HALF_WIDTH, start) // STEP
        begin, end = start - before * STEP, min(start + span + HALF_WIDTH, length)
        return qpos[first + begin : first + end], before


def _around(middle: np.ndarray, length: np.ndarray, window: int) -> np.ndarray:
    """Where the window with this middle begins, or the nearest one that lies within so many samples."""
    return np.clip(middle - window // 2, 0, np.maximum(length - window, 0))
