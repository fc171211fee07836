"""Motions to follow: windows of a corpus as its loader gives them, or of a few motions at hand, drawn by a plan.

What is drawn is a function of seed, plan and how many draws there were, so a run goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, Int

from corpus.augment import Augment
from corpus.catalog import Corpus
from corpus.errors import MotionloomError
from corpus.loader import open_windows
from corpus.loading.sampler import Draw, Sampler
from corpus.loading.sampling_plan import Plan
from corpus.motion import CORPUS_FPS, RobotMotion, velocity

SHORTEST = 25
"""Frames that are left of a motion where an episode begins, at least."""


@dataclass(frozen=True)
class Drawn:
    """Motions to follow, R of them, each with room for L frames. After its last one, that one stands still; the environment, as the
    referee, looks no further than the last, where speeds are still the motion's."""

    qpos: Float[np.ndarray, "R L 36"]
    velocity: Float[np.ndarray, "R L 35"]
    frames: Int[np.ndarray, " R"]
    """How many of the L frames there are."""
    segment: Int[np.ndarray, " R"]
    """Number of the segment (row in `Corpus.kept`, or place in the list of motions)."""
    frame: Int[np.ndarray, " R"]
    """The segment's frame that it begins with."""
    speed: Float[np.ndarray, " R"]
    """The segment's frames per frame."""


class References(Protocol):
    frames: Int[np.ndarray, " S"]
    """Of each segment."""
    length: int
    """Frames of a drawn motion at most."""
    shortest: int
    """Frames of it at least."""
    plan: Plan
    """How often each segment is drawn now."""

    def draw(self, count: int) -> Drawn:
        """The next `count` motions."""
        ...

    def follow(self, plan: Plan) -> None:
        """From now on draw by this plan."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class ClipReferences:
    """Of motions in memory, each a segment."""

    def __init__(
        self,
        motions: Sequence[RobotMotion],
        *,
        length: int = 500,
        seed: int = 0,
        plan: Plan | None = None,
        shortest: int = SHORTEST,
    ):
        """All of the corpus' frame rate. An episode begins where `shortest` frames are left."""
        if not motions or any(motion.fps != CORPUS_FPS for motion in motions):
            raise MotionloomError(f"Motions to follow should be one or more, at {CORPUS_FPS:g} Hz each.")
        self.motions = [_still_after(motion, length) for motion in motions]
        self.frames = np.array([motion.frame_count for motion in motions])
        self.length, self.seed, self.shortest = length, seed, shortest
        self.draws = 0
        self.follow(plan or Plan.by_windows(self.frames, shortest))

    def draw(self, count: int) -> Drawn:
        draw = self._sampler.draw(self.draws, slice(0, count))
        self.draws += 1
        return self.take(draw.segment, draw.frame)

    def take(self, segment: Int[np.ndarray, " R"], frame: Int[np.ndarray, " R"]) -> Drawn:
        """These segments from these frames on."""
        qpos = np.empty((len(segment), self.length, self.motions[0][0].shape[1]), np.float32)
        rates = np.empty((len(segment), self.length, self.motions[0][1].shape[1]), np.float32)
        for i, (s, first) in enumerate(zip(segment, frame, strict=True)):
            qpos[i], rates[i] = (part[first : first + self.length] for part in self.motions[s])
        frames = np.minimum(self.frames[segment] - frame, self.length)
        return Drawn(qpos, rates, frames, np.asarray(segment), np.asarray(frame), np.ones(len(segment)))

    def follow(self, plan: Plan) -> None:
        self.plan = plan
        self._sampler = _sampler(plan, self.frames, self.shortest, self.seed)

    def state_dict(self) -> dict[str, Any]:
        return {"draws": self.draws, "seed": self.seed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        _check_seed(self.seed, state)
        self.draws = int(state["draws"])


class CorpusReferences:
    """Of a corpus, by its loader: mapped or rotating, augmented as asked."""

    def __init__(
        self,
        corpus: Corpus,
        *,
        length: int = 500,
        seed: int = 0,
        plan: Plan | None = None,
        augment: Augment | None = None,
        shortest: int = SHORTEST,
    ):
        self.frames, self.length, self.seed, self.shortest = corpus.frames, length, seed, shortest
        options: dict[str, Any] = {"window": shortest, "future": length - shortest, "augment": augment}
        self._windows: Any = open_windows(
            corpus, weights=plan, batch_size=1, seed=seed, mode="mapped", fields=("qpos", "velocity"), **options
        )
        self.draws = 0
        self.follow(plan or Plan.by_windows(self.frames, shortest))

    def draw(self, count: int) -> Drawn:
        draw = self._windows.sampler.draw(self.draws, slice(0, count))
        self.draws += 1
        return self._gather(draw)

    def take(self, segment: Int[np.ndarray, " R"], frame: Int[np.ndarray, " R"]) -> Drawn:
        """These segments from these frames on, not augmented."""
        augment, self._windows.augment = self._windows.augment, None
        drawn = self._gather(Draw(0, np.asarray(segment), np.asarray(frame), np.zeros((len(segment), 4))))
        self._windows.augment = augment
        return drawn

    def follow(self, plan: Plan) -> None:
        self.plan = plan
        self._windows.sampler = _sampler(plan, self.frames, self.shortest, self.seed)

    def state_dict(self) -> dict[str, Any]:
        return {"draws": self.draws, "seed": self.seed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        _check_seed(self.seed, state)
        self.draws = int(state["draws"])

    def _gather(self, draw: Draw) -> Drawn:
        batch = self._windows.gather(draw)
        return Drawn(batch.qpos, batch.velocity, batch.valid.sum(1), batch.segment, batch.frame, batch.speed)


def _sampler(plan: Plan, frames: Int[np.ndarray, " S"], shortest: int, seed: int) -> Sampler:
    return Sampler(plan, frames, window=shortest, batch_size=1, seed=seed)


def _still_after(motion: RobotMotion, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames and velocities, the last frame standing for `count` more."""
    qpos, rate = motion.qpos.astype(np.float32), velocity(motion).astype(np.float32)
    still = np.zeros((count, rate.shape[1]), np.float32)
    return np.concatenate([qpos, np.repeat(qpos[-1:], count, 0)]), np.concatenate([rate, still])


def _check_seed(seed: int, state: dict[str, Any]) -> None:
    if state["seed"] != seed:
        raise MotionloomError(f"The state to resume drew with seed {state['seed']}, this run with {seed}.")
