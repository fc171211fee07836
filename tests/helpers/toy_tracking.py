"""A toy to learn: linear dynamics, a linear expert for each of two clusters, and nothing random but by formula."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deploy.contract import Contract
from deploy.observation import ObservationSpec

CONTRACT = Contract(observation=ObservationSpec(("angular_velocity", "gravity"), ("height",), (1,)))
"""Of seven observed numbers and 29 actions."""
STATES = 4


@dataclass(frozen=True)
class View:
    observation: np.ndarray
    privileged: np.ndarray
    reference_joints: np.ndarray


@dataclass(frozen=True)
class Step:
    failed: np.ndarray
    finished: np.ndarray


class ToyEnv:
    """Environments `first` to `first + count − 1` of all; segments 2c and 2c + 1 belong to cluster c."""

    contract = CONTRACT

    def __init__(self, count: int, *, first: int = 0, limit: float = 3.0):
        self.index, self.limit = first + np.arange(count), limit
        self.episode, self.frame = np.zeros(count, np.int64), np.zeros(count, np.int64)
        self.segment, self.began = np.zeros(count, np.int64), np.ones(count, bool)
        self.state, self.last_action = np.zeros((count, STATES)), np.zeros((count, 29), np.float32)
        self._reset(np.ones(count, bool))

    def view(self) -> View:
        cluster = self.segment // 2
        told = [self.state, self.last_action[:, :1], np.stack([cluster == 0, cluster == 1], 1)]
        observation = np.concatenate(told, 1).astype(np.float32)
        return View(observation, self.state.copy(), np.zeros((len(self.index), 29), np.float32))

    def step(self, action: np.ndarray) -> Step:
        push = 0.3 * np.sin(self.index[:, None] + 0.9 * self.frame[:, None] + np.arange(STATES) + self.episode[:, None])
        self.state = self.state + 0.2 * action[:, :STATES] + push
        self.last_action = np.array(action, np.float32)
        self.frame, self.began = self.frame + 1, np.zeros(len(self.index), bool)
        failed = np.abs(self.state).max(1) > self.limit
        finished = ~failed & (self.frame >= 15 + self.index % 5)
        self._reset(failed | finished)
        return Step(failed, finished)

    def state_dict(self) -> dict[str, np.ndarray | int]:
        return {**{name: getattr(self, name).copy() for name in _STATE}, "count": len(self.index)}

    def load_state_dict(self, state: dict[str, np.ndarray | int]) -> None:
        assert state["count"] == len(self.index)
        for name in _STATE:
            setattr(self, name, np.array(state[name]))

    def _reset(self, which: np.ndarray) -> None:
        self.episode = self.episode + which
        start = np.cos(self.index[:, None] * 1.3 + self.episode[:, None] * 0.7 + np.arange(STATES))
        self.state = np.where(which[:, None], start, self.state)
        self.last_action = np.where(which[:, None], np.float32(0), self.last_action)
        self.frame = np.where(which, 0, self.frame)
        self.segment = np.where(which, (self.index + self.episode) % 4, self.segment)
        self.began = self.began | which


_STATE = ("episode", "frame", "segment", "began", "state", "last_action")


def cluster_of(segment: np.ndarray) -> np.ndarray:
    return segment // 2


class LinearExpert:
    """Draws the state to zero, each cluster's in its own way."""

    name = "linear"

    def __init__(self, cluster: int, contract: Contract = CONTRACT):
        self.contract, self.shown = contract, 0
        self.gain = np.random.default_rng(cluster).normal(0, 0.5, (29, STATES))
        self.gain[:STATES] = -(1.0 + cluster) * np.eye(STATES)

    def forget(self, envs: np.ndarray) -> None: ...

    def act(self, view: View) -> np.ndarray:
        self.shown += len(view.privileged)
        return (view.privileged @ self.gain.T).astype(np.float32)


def experts() -> dict[int, LinearExpert]:
    return {cluster: LinearExpert(cluster) for cluster in (0, 1)}


class Asked:
    """Asks to stop at the `at`-th look."""

    def __init__(self, at: int = 10**9):
        self.left = at

    @property
    def asked(self) -> bool:
        self.left -= 1
        return self.left < 0
