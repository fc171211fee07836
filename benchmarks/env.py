"""What the environment costs beside physics alone: its steps per second against `mujoco.rollout`'s, in the same run.

    python -m benchmarks.env [--rounds N] [--threads N]

Robots follow made-up motions under small random actions, with all of training's randomisation on (a model of its own for each, starts,
sensors, pushes); who falls begins anew. In each round the environment looks and steps a few times, while the states and targets that
reach the physics are noted; then `mujoco.rollout` alone does the same once more, to the last bit the same states and contacts. Rates
are medians over the rounds, the ratio is the median of the rounds' ratios. `one_call` is physics alone in one call for all those steps
without a reset between, as no policy could be asked in. The last line is JSON.
"""

# MuJoCo's package tells a type checker nothing of its classes.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import mujoco
import numpy as np
import torch
from mujoco import rollout
from rich.console import Console
from rich.table import Table

from corpus.motion import CORPUS_FPS, RobotMotion
from corpus.sources.synthetic import robot_motion
from deploy.contract import GAINS
from deploy.physics import Physics, build_model
from trainer import env as env_module
from trainer.backend import CpuBackend
from trainer.env import EnvOptions, TrackingEnv
from trainer.networks import ActorCritic, NetworkOptions
from trainer.ppo import PpoOptions, collect, everything, update
from trainer.randomise import TRAINING, vary_model
from trainer.references import ClipReferences

COUNTS, DEFAULT = (64, 192, 512), 512
STEPS = 4
"""Control periods in a round."""
SUBSTEPS = Physics().substeps
WARM_UP = 40
"""Control periods before: some have fallen by then, others have not."""
PARTS = ("physics", "view", "kinematics", "reward", "reset")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="rounds of each number of robots")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of the physics")
    options = parser.parse_args()
    torch.set_num_threads(1)
    console, model = Console(width=130), build_model(GAINS)
    models = [vary_model(model, TRAINING, 0, env) for env in range(max(COUNTS))]
    rows = {count: compared(models[:count], options.threads, options.rounds) for count in COUNTS}
    split = iteration(models[:DEFAULT], options.threads)
    show(console, rows, split, options.threads)
    figures = {
        "ratio_to_raw_rollout": rows[DEFAULT]["ratio"],
        "robots": {str(count): row for count, row in rows.items()},
        "ppo_iteration_s": split,
        "threads": options.threads,
    }
    print(json.dumps(figures))


def compared(models: list[Any], threads: int, rounds: int) -> dict[str, Any]:
    """Environment and physics alone, turn by turn; then where the environment's time goes."""
    env, raw = training_env(models, threads), Raw(models, threads)
    actions = np.random.default_rng(0).normal(0, 0.3, (16, env.count, 29))
    walk(env, actions, WARM_UP)
    seconds: dict[str, list[float]] = {"environment": [], "rollout": [], "one_call": []}
    for _ in range(rounds):
        with noted(env) as steps:
            seconds["environment"].append(timed(lambda: walk(env, actions, STEPS)))
        seconds["rollout"].append(timed(lambda steps=steps: raw.replay(steps)))
        seconds["one_call"].append(timed(lambda steps=steps: raw.replay_at_once(steps)))
    work = STEPS * env.count
    rates = {name: round(work / statistics.median(taken)) for name, taken in seconds.items()}
    return {
        "ratio": ratio(seconds, "rollout"),
        "ratio_to_one_call": ratio(seconds, "one_call"),
        "steps_per_second": rates,
        "share": shares(env, actions, rounds),
    }


def ratio(seconds: dict[str, list[float]], other: str) -> float:
    """The environment's rate as a part of the other's, the median over the rounds."""
    pairs = zip(seconds[other], seconds["environment"], strict=True)
    return round(statistics.median(alone / ours for alone, ours in pairs), 3)


def training_env(models: list[Any], threads: int) -> TrackingEnv:
    backend = CpuBackend(models, len(models), threads=threads)
    references = ClipReferences(motions(), length=250)
    return TrackingEnv(backend, references, options=EnvOptions(randomisation=TRAINING))


def motions() -> list[RobotMotion]:
    return [robot_motion(seed=seed, seconds=10.0, fps=CORPUS_FPS) for seed in range(3)]


def walk(env: TrackingEnv, actions: np.ndarray, steps: int) -> None:
    """As a trainer does: look, and act."""
    for _ in range(steps):
        env.view()
        env.step(actions[env.clock % len(actions)])


Noted = tuple[np.ndarray, np.ndarray]
"""Full physics states, and targets, of all robots as a control period begins."""


@contextmanager
def noted(env: TrackingEnv) -> Iterator[list[Noted]]:
    """What reaches the physics while this lasts."""
    steps: list[Noted] = []
    step = env.backend.step

    def noting(targets: np.ndarray) -> None:
        steps.append((np.concatenate([np.zeros((env.count, 1)), env.backend.qpos, env.backend.qvel], 1), targets))
        step(targets)

    with patch.object(env.backend, "step", noting):
        yield steps


class Raw:
    """`mujoco.rollout` and nothing else."""

    def __init__(self, models: list[Any], threads: int):
        self.models, self.datas = models, [mujoco.MjData(models[0]) for _ in range(threads)]
        self.pool = rollout.Rollout(nthread=threads if threads > 1 else 0)
        size = mujoco.mj_stateSize(models[0], mujoco.mjtState.mjSTATE_FULLPHYSICS)
        self.room = {steps: np.zeros((len(models), steps, size)) for steps in (SUBSTEPS, SUBSTEPS * STEPS)}
        self.sensors = {steps: np.zeros((len(models), steps, models[0].nsensordata)) for steps in self.room}

    def replay(self, steps: list[Noted]) -> None:
        """From the same states with the same targets, one call for each control period."""
        for state, targets in steps:
            self._roll(state, np.repeat(targets[:, None], SUBSTEPS, 1))

    def replay_at_once(self, steps: list[Noted]) -> None:
        """In one call, from the first states with all targets in turn."""
        self._roll(steps[0][0], np.repeat(np.stack([targets for _, targets in steps], 1), SUBSTEPS, 1))

    def _roll(self, state: np.ndarray, control: np.ndarray) -> None:
        steps = control.shape[1]
        self.pool.rollout(
            self.models, self.datas, state, control, nstep=steps, state=self.room[steps], sensordata=self.sensors[steps],
            skip_checks=True,
        )  # fmt: skip


def shares(env: TrackingEnv, actions: np.ndarray, rounds: int) -> dict[str, float]:
    """Of the environment's time, by what it is spent on."""
    spent: dict[str, float] = dict.fromkeys(PARTS, 0.0)
    with ExitStack() as stack:
        for part, owner, name in (
            ("physics", env.backend, "step"), ("view", env, "view"), ("kinematics", env_module, "body_states"),
            ("reward", env_module, "reward"), ("reset", env, "_begin"),
        ):  # fmt: skip
            stack.enter_context(patch.object(owner, name, clocked(getattr(owner, name), part, spent)))
        total = timed(lambda: walk(env, actions, STEPS * rounds))
    return {part: round(taken / total, 3) for part, taken in spent.items()}


def clocked(function: Callable[..., Any], part: str, spent: dict[str, float]) -> Callable[..., Any]:
    """The same function; its time goes to that part, the innermost one that is running."""

    def call(*arguments: Any, **options: Any) -> Any:
        before, start = dict(spent), time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            within = sum(spent[name] - before[name] for name in spent)
            spent[part] += time.perf_counter() - start - within

    return call


def iteration(models: list[Any], threads: int, rounds: int = 3) -> dict[str, float]:
    """Seconds of the two halves of one iteration of PPO with the defaults, the median."""
    env, options, generator = training_env(models, threads), PpoOptions(), torch.Generator().manual_seed(0)
    network = ActorCritic(everything(env.view()).shape[1], 29, NetworkOptions(), generator)
    optimiser = torch.optim.Adam(network.parameters(), lr=options.learning_rate)
    halves: dict[str, list[float]] = {"collect": [], "update": []}
    for _ in range(rounds):
        start = time.perf_counter()
        done = collect(env, network, options, generator)
        between = time.perf_counter()
        update(network, optimiser, done, options, generator)
        halves["collect"].append(between - start)
        halves["update"].append(time.perf_counter() - between)
    return {name: round(statistics.median(taken), 3) for name, taken in halves.items()}


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def show(console: Console, rows: dict[int, dict[str, Any]], split: dict[str, float], threads: int) -> None:
    table = Table(
        "robots", "environment, steps/s", "rollout alone", "ratio", "in one call", "ratio", *rows[DEFAULT]["share"]
    )
    for count, row in rows.items():
        rate = row["steps_per_second"]
        table.add_row(
            str(count), f"{rate['environment']:,}", f"{rate['rollout']:,}", f"{row['ratio']:.2f}", f"{rate['one_call']:,}",
            f"{row['ratio_to_one_call']:.2f}", *(f"{share:.1%}" for share in row["share"].values()),
        )  # fmt: skip
    console.print(table)
    console.print(f"{threads} threads; {PpoOptions().steps} steps of {DEFAULT} robots by PPO: "
                  f"{split['collect']:.2f} s to collect, {split['update']:.2f} s to update")  # fmt: skip


if __name__ == "__main__":
    main()
