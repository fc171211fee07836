"""DAgger's rollouts (Ross, Gordon and Bagnell, 2011): expert and student act by turns, and an expert labels every state.

In round i the expert acts with probability β_i, for each environment and step anew, as in their Lemma 4.1; else the student does. β
falls evenly from 1 in round 0 to 0 in round `mixing_rounds`. Whoever acts, every state that is visited is labelled with what the
expert of its cluster would do there, also the states from which an episode then fails. The student sees every frame, so that what
it remembers is what really happened; only where an environment has begun anew does it forget.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from corpus.errors import MotionloomError
from deploy.contract import Contract
from trainer.aggregate import Trajectories
from trainer.random_numbers import uniform

ClusterOf = Callable[[Int[np.ndarray, " N"]], Int[np.ndarray, " N"]]
"""Clusters of segments."""


class Environment(Protocol):
    """What is asked of environments: those of `trainer.env.TrackingEnv`, or a toy."""

    contract: Contract
    began: Bool[np.ndarray, " N"]

    @property
    def segment(self) -> Int[np.ndarray, " N"]: ...
    @property
    def frame(self) -> Int[np.ndarray, " N"]: ...
    def view(self) -> Any: ...
    def step(self, action: Float[np.ndarray, "N A"]) -> Any: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Actor(Protocol):
    """What is asked of experts and of the student: the part of a policy that acts. Experts remember nothing."""

    def forget(self, envs: Int[np.ndarray, " R"]) -> None: ...
    def act(self, view: Any) -> Float[np.ndarray, "N A"]: ...


def expert_share(round_number: int, mixing_rounds: int) -> float:
    """β: 1 in round 0, when there is no student yet; 0 from round `mixing_rounds` on; evenly in between."""
    return max(0.0, 1.0 - round_number / max(mixing_rounds, 1))


def roll_out(
    env: Environment,
    student: Actor | None,
    experts: Mapping[int, Actor],
    cluster_of: ClusterOf,
    turns: Iterator[Bool[np.ndarray, " N"]],
    *,
    steps: int,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[Trajectories, dict[str, float]] | None:
    """Step all environments `steps` times from where they are; None where it was asked to stop meanwhile.

    `turns` tells for each step in which environments the expert acts; without a `student` it acts everywhere. Also given: what
    the round was like, in numbers.
    """
    record: dict[str, np.ndarray] = {}
    error = counted = 0.0
    counts = {"failed": 0, "finished": 0}
    for t in range(steps):
        if stop():
            return None
        view, began = env.view(), env.began.copy()
        cluster = cluster_of(env.segment)
        label = expert_actions(experts, cluster, view)
        turn = next(turns) if student is not None else np.ones(len(label), bool)
        action = label
        if student is not None:
            student.forget(np.flatnonzero(began))
            own = student.act(view)
            error, counted = error + np.abs(own - label).mean(1).sum(), counted + len(own)
            action = np.where(turn[:, None], label, own)
        seen = (view.observation, label, cluster, env.segment, env.frame, began, turn)
        _note(record, t, steps, dict(zip(_NAMES, seen, strict=True)))
        done = env.step(action)
        counts = {name: count + int(getattr(done, name).sum()) for name, count in counts.items()}
    rollout = Trajectories(**record)
    frames = rollout.began.size
    numbers = {f"{name}_per_1000_frames": 1000 * count / frames for name, count in counts.items()}
    numbers |= {"expert_acted": float(rollout.expert_acted.mean())}
    return rollout, {**numbers, **({"action_error": error / counted} if counted else {})}


def expert_actions(
    experts: Mapping[int, Actor], cluster: Int[np.ndarray, " N"], view: Any
) -> Float32[np.ndarray, "N A"]:
    """What the expert of each environment's cluster would do; each is asked once, about its own environments only."""
    action: Float32[np.ndarray, "N A"] | None = None
    for number in np.unique(cluster):
        if int(number) not in experts:
            known = ", ".join(map(str, sorted(experts)))
            raise MotionloomError(f"No expert for cluster {number}. There are experts for: {known}.")
        mine = np.flatnonzero(cluster == number)
        answer = experts[int(number)].act(rows_of(view, mine))
        if action is None:
            action = np.empty((len(cluster), answer.shape[1]), np.float32)
        action[mine] = answer
    assert action is not None
    if not np.isfinite(action).all():
        bad = np.unique(cluster[~np.isfinite(action).all(1)])
        raise MotionloomError(
            f"The experts of clusters {bad.tolist()} gave actions that are not finite: train them anew."
        )
    return action


def common_contract(env: Environment, experts: Mapping[int, Any]) -> Contract:
    """The one that the environment and all experts are under; the student is under it too."""
    if not experts:
        raise MotionloomError("There are no experts to learn from: give at least one.")
    for cluster, expert in experts.items():
        if expert.contract.hash != env.contract.hash:
            raise MotionloomError(
                f"The expert of cluster {cluster} is under contract {expert.contract.hash}, the environment under "
                f"{env.contract.hash}: it should be the one that the experts were trained under."
            )
    return env.contract


def rows_of(view: Any, rows: Int[np.ndarray, " R"]) -> Any:
    """The view of some environments."""
    names = [field.name for field in dataclasses.fields(view)]
    return dataclasses.replace(view, **{name: getattr(view, name)[rows] for name in names})


def draw_turns(
    seed: int, first_step: int, share: float, envs: Int[np.ndarray, " N"]
) -> Iterator[Bool[np.ndarray, " N"]]:
    """For each step from `first_step` on, where the expert acts: a function of seed, step and number of the environment."""
    return (uniform(seed, "turn", step, envs, 1)[:, 0] < share for step in itertools.count(first_step))


_NAMES = ("observation", "action", "cluster", "segment", "frame", "began", "expert_acted")


def _note(record: dict[str, np.ndarray], t: int, steps: int, seen: dict[str, np.ndarray]) -> None:
    """Keep a step's arrays, one environment's steps after each other."""
    for name, array in seen.items():
        if t == 0:
            kind = array.dtype if array.dtype == bool else np.float32 if array.dtype.kind == "f" else np.int32
            record[name] = np.empty((len(array), steps, *array.shape[1:]), kind)
        record[name][:, t] = array
