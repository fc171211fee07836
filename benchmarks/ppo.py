"""Our PPO beside rsl-rl's: is a short file of our own no worse than the field's library?

    python -m benchmarks.ppo [--steps N] [--seeds N]

All train on the same environment: two made-up squats, light randomisation, 192 robots, 24 control periods between updates, one
thread, the same number of control periods. What both have is set alike (`trainer.ppo.PpoOptions`: widths, γ, λ, clip, epochs,
minibatches, noise on actions at the beginning, no entropy); what only one has is left as it is: our small first actions, a rollout
for the normaliser alone (it counts) and the stop by divergence; rsl-rl's clipped value loss and two gradient norms. rsl-rl runs
with our fixed learning rate and with the adaptive one that it has by default. Each is told by the last tenth of its training and,
without noise on actions, by one attempt of each of 64 other robots. Without rsl-rl (extra `bench`) ours runs alone. The last line is JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from functools import partial
from statistics import fmean, median
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from rich.console import Console
from rich.table import Table
from torch import Tensor

from corpus.motion import RobotMotion
from corpus.sources import synthetic
from deploy.contract import GAINS
from deploy.physics import build_model
from retarget.retarget import retarget
from trainer.backend import CpuBackend
from trainer.env import EnvOptions, Step, TrackingEnv
from trainer.networks import ActorCritic, NetworkOptions
from trainer.ppo import PpoOptions, collect, everything, update
from trainer.randomise import LIGHT
from trainer.references import ClipReferences

ROBOTS, JUDGED_ROBOTS = 192, 64
SECONDS = 4.0
"""Of each take."""
OTHER_SEED = 1000
"""Added to a run's seed for the environment that judges."""
PPO, NETWORK = PpoOptions(), NetworkOptions()

Policy = Callable[[Float[Tensor, "N D"]], Float[Tensor, "N J"]]
"""From all that is seen to the mean action."""


@dataclass(frozen=True)
class Run:
    """One training; rewards are per control period, of at most about 0.1."""

    contestant: str
    seed: int
    reward: float
    """Over the last tenth of the control periods, with noise on actions."""
    failures: float
    """Failed episodes per 1000 control periods, likewise."""
    judged_reward: float
    """Of the mean actions, on other robots."""
    judged_failed: float
    """Share of those that failed before their take was over."""
    update_ms: float
    """The processor's time to learn from a rollout, median."""


MEASURES = [field.name for field in fields(Run)][2:]


class Watched(TrackingEnv):
    """Keeps what came of every action."""

    def __init__(self, *args: Any, **options: Any):
        self.told: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        super().__init__(*args, **options)

    def step(self, action: Float[np.ndarray, "N J"]) -> Step:
        step = super().step(action)
        self.told.append((step.reward, step.failed, step.finished))
        return step


def main() -> None:
    options = _parser().parse_args()
    torch.set_num_threads(1)
    console, peer = Console(width=140), importlib.util.find_spec("rsl_rl") is not None
    if not peer:
        console.print('rsl-rl is not here (`pip install "motionloom[bench]"`): ours runs alone.')
    motions = [retarget(synthetic.human_motion("squat", seed=s, seconds=SECONDS, fps=50.0)).motion for s in range(2)]
    runs = []
    for seed in range(options.seeds):
        for name in CONTESTANTS if peer else ["ours"]:
            runs.append(run(name, motions, options.steps, seed))
            console.print(f"{name}, seed {seed}: {json.dumps(asdict(runs[-1]))}", soft_wrap=True)
    figures = {name: of(name, runs) for name in CONTESTANTS}
    show(console, figures, options)
    print(json.dumps({"steps": options.steps, "seeds": options.seeds, **figures}))


def run(name: str, motions: list[RobotMotion], steps: int, seed: int) -> Run:
    """Train one and judge it."""
    env = environment(motions, ROBOTS, seed)
    policy, seconds = CONTESTANTS[name](env, steps // (ROBOTS * PPO.steps), seed)
    last = -(-len(seconds) // 10) * PPO.steps
    reward, failed, _ = (np.stack(parts) for parts in zip(*env.told[-last:], strict=True))
    judged_reward, judged_failed = judged(policy, environment(motions, JUDGED_ROBOTS, seed + OTHER_SEED))
    return Run(
        name,
        seed,
        reward=round(float(reward.mean()), 5),
        failures=round(1000 * float(failed.mean()), 2),
        judged_reward=round(judged_reward, 5),
        judged_failed=round(judged_failed, 3),
        update_ms=round(1000 * median(seconds), 1),
    )


def environment(motions: list[RobotMotion], count: int, seed: int) -> Watched:
    length = max(motion.frame_count for motion in motions)
    options = EnvOptions(randomisation=LIGHT, seed=seed)
    references = ClipReferences(motions, length=length, seed=seed)
    return Watched(CpuBackend(build_model(GAINS), count), references, options=options)


def judged(policy: Policy, env: Watched) -> tuple[float, float]:
    """Reward, and failed share of the robots' first attempts."""
    with torch.no_grad():
        for _ in range(env.references.length):
            env.step(policy(everything(env.view())).numpy())
    reward, failed, finished = (np.stack(parts) for parts in zip(*env.told, strict=True))
    first = (failed | finished).argmax(0)
    return float(reward.mean()), float(failed[first, np.arange(env.count)].mean())


def ours(env: Watched, updates: int, seed: int) -> tuple[Policy, list[float]]:
    """As `trainer.expert` trains, without its choice of starts; the mean action, and seconds of learning."""
    generator, seconds = torch.Generator().manual_seed(seed), []
    network = ActorCritic(everything(env.view()).shape[1], len(env.contract.joint_names), NETWORK, generator)
    optimiser = torch.optim.Adam(network.parameters(), lr=PPO.learning_rate)
    for number in range(updates):
        rollout = collect(env, network, PPO, generator)
        start = time.process_time()
        if number:
            update(network, optimiser, rollout, PPO, generator)
        network.normalise.see(rollout.seen.flatten(0, 1))
        seconds.append(time.process_time() - start)
    return network.act, seconds


def rsl_rl(env: Watched, updates: int, seed: int, *, schedule: str, rate: float) -> tuple[Policy, list[float]]:
    """The library's own runner, without its log."""
    from rsl_rl.runners import OnPolicyRunner  # pyright: ignore[reportMissingImports]

    torch.manual_seed(seed)
    wrapped = ForRslRl(env)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its networks
        runner = OnPolicyRunner(wrapped, rsl_rl_options(schedule, rate))
    seconds, learn = [], runner.alg.update

    def timed() -> dict[str, float]:
        start = time.process_time()
        losses = learn()
        seconds.append(time.process_time() - start)
        return losses

    runner.alg.update = timed
    runner.learn(updates)
    policy = runner.get_inference_policy("cpu")
    return lambda seen: policy(wrapped.told(seen)), seconds


def rsl_rl_options(schedule: str, rate: float) -> dict[str, Any]:
    """Ours in its words."""
    network = {"class_name": "MLPModel", "hidden_dims": NETWORK.hidden, "activation": "elu", "obs_normalization": True}
    noise = {"class_name": "GaussianDistribution", "init_std": NETWORK.deviation, "std_type": "log"}
    return {
        "num_steps_per_env": PPO.steps,
        "obs_groups": {"actor": ["all"], "critic": ["all"]},
        "actor": {**network, "distribution_cfg": noise},
        "critic": network,
        "algorithm": {
            "class_name": "PPO",
            "schedule": schedule,
            "learning_rate": rate,
            "num_learning_epochs": PPO.epochs,
            "num_mini_batches": PPO.minibatches,
            "clip_param": PPO.clip,
            "gamma": PPO.discount,
            "lam": PPO.trace,
            "entropy_coef": PPO.entropy,
            "value_loss_coef": PPO.value_weight,
            "max_grad_norm": PPO.gradient_norm,
        },
    }


class ForRslRl:
    """The environment as rsl-rl's runner wants it (`rsl_rl.env.VecEnv`)."""

    def __init__(self, env: TrackingEnv):
        self.env, self.device, self.cfg = env, "cpu", {}
        self.num_envs, self.num_actions = env.count, len(env.contract.joint_names)
        self.max_episode_length = env.references.length
        self.episode_length_buf = torch.zeros(env.count, dtype=torch.long)

    def get_observations(self) -> Any:
        return self.told(everything(self.env.view()))

    def step(self, actions: Float[Tensor, "N J"]) -> tuple[Any, Tensor, Tensor, dict[str, Tensor]]:
        step = self.env.step(actions.numpy())
        over = torch.from_numpy(step.failed | step.finished)
        reward = torch.from_numpy(step.reward.astype(np.float32))
        return self.get_observations(), reward, over, {"time_outs": torch.from_numpy(step.finished)}

    def told(self, seen: Float[Tensor, "N D"]) -> Any:
        from tensordict import TensorDict  # pyright: ignore[reportMissingImports]

        return TensorDict({"all": seen}, [len(seen)])


CONTESTANTS: dict[str, Callable[[Watched, int, int], tuple[Policy, list[float]]]] = {
    "ours": ours,
    "rsl-rl fixed": partial(rsl_rl, schedule="fixed", rate=PPO.learning_rate),
    "rsl-rl adaptive": partial(rsl_rl, schedule="adaptive", rate=1e-3),
}


def of(name: str, runs: list[Run]) -> dict[str, float] | None:
    """Means over the seeds of one; None if it did not run."""
    mine = [asdict(run) for run in runs if run.contestant == name]
    return {key: round(fmean(run[key] for run in mine), 5) for key in MEASURES} if mine else None


def show(console: Console, figures: dict[str, dict[str, float] | None], options: argparse.Namespace) -> None:
    title = f"after {options.steps:,} control periods, mean of {options.seeds} seeds"
    table = Table("", *(key.replace("_", " ") for key in MEASURES), box=None, title=title)
    for name, told in figures.items():
        table.add_row(name, *(f"{told[key]:.4g}" if told else "–" for key in MEASURES))
    console.print(table)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ppo", description="Our PPO beside rsl-rl's.")
    parser.add_argument("--steps", type=int, default=120_000, help="control periods of each training (default 120,000)")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each (default 1)")
    return parser


if __name__ == "__main__":
    main()
