"""Windows of the aggregate, to learn from: which ones make a batch is a function of seed, step and episodes.

    training, held_out = split_windows(rollouts, length=64, held_out=0.05)
    batch = training.batch(seed, step, batch_size=1024)     # the same one whenever it is asked for

A window is `length` steps in a row of one environment, and none goes over the beginning of an episode; one of an episode that is
shorter is padded at its end. Of every episode all steps come at least as often as one amidst a long episode, those near its ends up to
twice as often, of episodes shorter than two windows up to thrice: the student has little to remember where an episode begins, and errors
are dear where it ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int, UInt64

from corpus.errors import MotionloomError
from corpus.loading.sampler import Search, slots_of, to_unit
from trainer.aggregate import Trajectories
from trainer.random_numbers import uniform


@dataclass(frozen=True, eq=False)
class WindowBatch:
    """Some slots of a global batch."""

    observation: Float32[np.ndarray, "B L D"]
    action: Float32[np.ndarray, "B L A"]
    valid: Bool[np.ndarray, "B L"]
    """False where a window is padded; the episode's last step stands there again."""
    cluster: Int[np.ndarray, " B"]
    global_count: int
    """Valid steps of the whole global batch."""


class Windows:
    """Draws windows from episodes; what is drawn is a function of seed, step and episodes."""

    def __init__(
        self, rollouts: Sequence[Trajectories], episodes: Int[np.ndarray, "E 4"], *, length: int, balanced: bool
    ):
        """`episodes` as of `find_episodes`; `balanced`: every cluster the same number of windows, not every step."""
        self.rollouts, self.episodes, self.length = rollouts, episodes, length
        rollout, environment, start, count = episodes.T
        self.cluster = np.empty(len(episodes), np.int64)
        for number in np.unique(rollout):
            mine = rollout == number
            self.cluster[mine] = rollouts[number].cluster[environment[mine], start[mine]]
        weight = (count + length - 1).astype(np.float64)
        if balanced:
            _, index = np.unique(self.cluster, return_inverse=True)
            weight /= np.bincount(index, weight)[index]
        self.search = Search(weight) if len(episodes) else None

    def draw(self, seed: int, step: int, batch_size: int) -> tuple[Int[np.ndarray, " B"], Int[np.ndarray, " B"]]:
        """Numbers of the episodes, and where in them the windows begin, of the global batch."""
        if self.search is None:
            raise MotionloomError("There is no episode to draw windows from: roll out more steps, or hold out fewer.")
        which, where = uniform(seed, "window", step, np.arange(batch_size), 2).T
        episode = self.search(which)
        count = self.episodes[episode, 3]
        start = (where * (count + self.length - 1)).astype(np.int64) - (self.length - 1)
        return episode, np.clip(start, 0, np.maximum(count - self.length, 0))

    def batch(self, seed: int, step: int, batch_size: int, *, rank: int = 0, world: int = 1) -> WindowBatch:
        """A process's part of batch `step`."""
        episode, start = self.draw(seed, step, batch_size)
        counts = np.minimum(self.episodes[episode, 3], self.length)
        mine = slots_of(rank, world, batch_size)
        rollout, environment, first, _ = self.episodes[episode[mine]].T
        place = np.minimum(np.arange(self.length), counts[mine, None] - 1) + (first + start[mine])[:, None]
        observation, action = self._gather("observation", "action", rollout, environment[:, None], place)
        valid = np.arange(self.length) < counts[mine, None]
        return WindowBatch(observation, action, valid, self.cluster[episode[mine]], int(counts.sum()))

    def _gather(self, first: str, second: str, rollout: np.ndarray, environment: np.ndarray, place: np.ndarray):
        gathered = []
        for name in (first, second):
            size = getattr(self.rollouts[0], name).shape[2]
            array = np.empty((*place.shape, size), np.float32)
            for number in np.unique(rollout):
                mine = rollout == number
                array[mine] = getattr(self.rollouts[number], name)[environment[mine], place[mine]]
            gathered.append(array)
        return gathered


def split_windows(
    rollouts: Sequence[Trajectories], *, length: int, held_out: float, balanced: bool = False
) -> tuple[Windows, Windows]:
    """Windows to train on, and those of a share of the episodes, chosen by hash, that are never trained on.

    An episode is kept apart in whole, or as far as it lies in one round; which ones, does not change as rounds are added. Others of the
    same motion are trained on: what is held out tells of fitting, not of motion never seen.
    """
    if length < 1 or not 0 <= held_out < 1:
        raise MotionloomError(f"length {length}, held_out {held_out}: should be at least 1, and from 0 to below 1.")
    episodes = find_episodes(rollouts)
    apart = to_unit(_hash(episodes[:, :3])) < held_out
    training, others = (Windows(rollouts, episodes[rows], length=length, balanced=balanced) for rows in (~apart, apart))
    return training, others


def find_episodes(rollouts: Sequence[Trajectories]) -> Int[np.ndarray, "E 4"]:
    """Trajectories, environment, first step and number of steps of every episode, or of what a rollout holds of it."""
    found = []
    for number, rollout in enumerate(rollouts):
        began = rollout.began.copy()
        began[:, 0] = True  # what went before lies in another file
        environment, start = np.nonzero(began)
        end = np.append(start[1:], 0)
        end[end == 0] = began.shape[1]
        found.append(np.stack([np.full_like(start, number), environment, start, end - start], 1))
    return np.concatenate(found) if found else np.zeros((0, 4), np.int64)


def _hash(rows: Int[np.ndarray, "E K"]) -> UInt64[np.ndarray, " E"]:
    """64 bits for each row: SplitMix64's finish, column after column."""
    value = np.zeros(len(rows), np.uint64)
    for column in rows.T:
        value = (value ^ column.astype(np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            value = (value ^ (value >> np.uint64(shift))) * np.uint64(factor)
        value ^= value >> np.uint64(31)
    return value
