"""Train one expert by PPO, on the motions of its cluster; and the expert as a policy."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from corpus.errors import MotionloomError
from deploy.contract import Contract
from hme.sampling.adaptive import PRESETS, AdaptiveBins
from trainer.checkpoint import (
    checkpoint_steps,
    load_checkpoint,
    load_optimiser_arrays,
    optimiser_arrays,
    prefixed,
    save_checkpoint,
    under,
)
from trainer.env import TrackingEnv, View
from trainer.networks import ActorCritic, NetworkOptions
from trainer.ppo import PpoOptions, Rollout, collect, everything, update
from trainer.run_file import check_same, write_run
from trainer.run_log import Interrupt, RunLog

KIND = "expert"
SHOWN = ("reward", "finished_share", "divergence", "deviation")
"""Numbers in lines of progress; the log has all."""


@dataclass(frozen=True)
class ExpertOptions:
    steps: int = 2_000_000
    """Control periods to train on, of all robots together."""
    ppo: PpoOptions = PpoOptions()
    network: NetworkOptions = NetworkOptions()
    adaptive: str | None = "sonic"
    """How starts follow failures (`hme.sampling.adaptive.PRESETS`); None draws by the plan given, always."""
    enough: float = 1.0
    """Training is done once so large a share of episodes has ended without a failure, over the last `enough_over` updates and with
    exploration; 1 never is."""
    enough_over: int = 20
    save_every: int = 50
    """Updates between two checkpoints."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.enough <= 1:
            raise MotionloomError(f"enough {self.enough:g}: should be a share above 0, at most 1.")


_CHANGEABLE = ("steps", "enough", "enough_over", "save_every", "threads")
"""Options that a run which goes on may have changed."""


class Expert:
    """An MLP on all that the simulator knows: an expert for labelling, not for the robot."""

    def __init__(self, network: ActorCritic, contract: Contract, name: str = "expert"):
        self.network, self.contract, self.name = network, contract, name

    @property
    def id(self) -> str:
        """Hash of the weights."""
        digest = hashlib.blake2b(digest_size=8)
        for array in self.network.state_dict().values():
            digest.update(np.ascontiguousarray(array.numpy()).tobytes())
        return digest.hexdigest()

    def forget(self, envs: Int[np.ndarray, " R"]) -> None:
        """It has no memory."""

    @torch.no_grad()
    def act(self, view: View) -> Float[np.ndarray, "N J"]:
        return self.network.act(everything(view)).numpy()


def load_expert(folder: Path, name: str | None = None) -> Expert:
    """The expert of a run, as of its newest checkpoint; raises `MotionloomError` where there is none or it is damaged."""
    arrays, facts = load_checkpoint(folder, kind=KIND)
    try:
        options = NetworkOptions(tuple(facts["network"]["hidden"]), facts["network"]["deviation"])
        network = ActorCritic(facts["size"], facts["action_count"], options, torch.Generator())
        network.load_state_dict(under("network", arrays))
        return Expert(network, Contract.from_json(facts["contract"]), name or folder.name)
    except (KeyError, TypeError, RuntimeError) as error:
        raise MotionloomError(f"{folder} holds no expert that this program reads ({error!r}).") from None


def train_expert(
    folder: Path, env: TrackingEnv, options: ExpertOptions = ExpertOptions(), *, about: Mapping[str, Any] | None = None
) -> Expert:
    """Train, or go on where a run in `folder` stopped, exactly as if it had not; ctrl-C saves and raises `KeyboardInterrupt`.

    `about` goes into `run.json`: what the motions are; a run only goes on with the same. The environment should be made anew, as it
    was when the run began.
    """
    told = {"kind": KIND, **(about or {}), "options": asdict(options), "contract": env.contract.to_json()}
    check_same(folder, told, changeable=_CHANGEABLE)
    training = _Training(env, options)
    updates = -(-options.steps // (env.count * options.ppo.steps))
    done = training.resume(folder) if checkpoint_steps(folder) else 0
    write_run(folder, told)
    if not done:
        training.warm_up()
    with Interrupt() as interrupt, RunLog(folder, updates, step=done, shown=SHOWN) as log:
        while done < updates and not training.good_enough() and not interrupt.asked:
            done += 1
            log.write(done, **training.improve())
            if done % options.save_every == 0:
                training.save(folder, done)
        if done not in checkpoint_steps(folder):
            training.save(folder, done)
    if interrupt.asked and done < updates and not training.good_enough():
        raise KeyboardInterrupt  # all is saved; who called should not take it for an end
    return Expert(training.network, env.contract, folder.name)


class _Training:
    """All that changes while an expert is trained."""

    def __init__(self, env: TrackingEnv, options: ExpertOptions):
        self.env, self.options = env, options
        self.generator = torch.Generator().manual_seed(options.seed)
        size, actions = everything(env.view()).shape[1], len(env.contract.joint_names)
        self.network = ActorCritic(size, actions, options.network, self.generator)
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=options.ppo.learning_rate)
        self.bins = AdaptiveBins(env.references.frames, window=env.references.shortest) if options.adaptive else None
        self.mask = env.references.plan.weights > 0
        """Segments that may be drawn."""
        self.recent: deque[tuple[int, int]] = deque(maxlen=options.enough_over)
        """Failed and ended episodes of the last updates."""

    @torch.no_grad()
    def warm_up(self) -> None:
        """Look around with random actions, so that observations are known before the first update."""
        for _ in range(self.options.ppo.steps):
            self.network.normalise.see(everything(self.env.view()))
            noise = torch.randn(self.env.count, len(self.network.log_deviation), generator=self.generator)
            self.env.step((noise * self.network.deviation()).numpy())

    def improve(self) -> dict[str, float]:
        """One rollout and the update by it; numbers for the log."""
        rollout = collect(self.env, self.network, self.options.ppo, self.generator)
        numbers = update(self.network, self.optimiser, rollout, self.options.ppo, self.generator)
        with torch.no_grad():
            self.network.normalise.see(rollout.seen.flatten(0, 1))
        self._learn_where(rollout)
        return {**rollout.numbers, **numbers}

    def good_enough(self) -> bool:
        failed, ended = np.sum(self.recent, axis=0) if self.recent else (0, 0)
        full = len(self.recent) == self.options.enough_over
        return bool(full and ended and 1 - failed / ended >= self.options.enough and self.options.enough < 1)

    def _learn_where(self, rollout: Rollout) -> None:
        segment, last, first, failed = rollout.attempts
        self.recent.append((int(failed.sum()), len(failed)))
        if self.bins is not None and self.options.adaptive and len(segment):
            self.bins.update(segment, np.minimum(last, self.bins.frames[segment] - 1), failed, start=first)
            self.env.references.follow(self.bins.plan(PRESETS[self.options.adaptive], self.mask))

    def save(self, folder: Path, step: int) -> None:
        optimiser, groups = optimiser_arrays(self.optimiser, "optimiser")
        arrays: dict[str, Any] = {
            **prefixed("network", self.network.state_dict()),
            **optimiser,
            **prefixed("env", self.env.state_dict()),
            "generator": self.generator.get_state(),
            "recent": np.array(self.recent, int).reshape(-1, 2),
        }
        facts = {
            "kind": KIND,
            "step": step,
            "contract": self.env.contract.to_json(),
            "network": asdict(self.options.network),
            "size": len(self.network.normalise.mean),
            "action_count": len(self.network.log_deviation),
            "optimiser_groups": groups,
        }
        if self.bins is not None:
            state = self.bins.state_dict()
            arrays |= prefixed("bins", {name: state.pop(name) for name in ("attempts", "failures")})
            facts["bins"] = state
        save_checkpoint(folder, arrays, facts)

    def resume(self, folder: Path) -> int:
        """Go on from the newest checkpoint; gives its step."""
        arrays, facts = load_checkpoint(folder, kind=KIND)
        if facts["contract"] != self.env.contract.to_json():
            raise MotionloomError(f"{folder} was trained under another contract than this environment's.")
        self.network.load_state_dict(under("network", arrays))
        load_optimiser_arrays(self.optimiser, "optimiser", arrays, facts["optimiser_groups"])
        self.generator.set_state(arrays["generator"])
        self.recent.extend((int(failed), int(ended)) for failed, ended in arrays["recent"])
        if self.bins is not None and "bins" in facts:
            self.bins.load_state_dict({**facts["bins"], **{k: v.numpy() for k, v in under("bins", arrays).items()}})
            if self.bins.rounds and self.options.adaptive:
                self.env.references.follow(self.bins.plan(PRESETS[self.options.adaptive], self.mask))
        self.env.load_state_dict({name: array.numpy() for name, array in under("env", arrays).items()})
        return facts["step"]
