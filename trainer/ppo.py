"""Proximal policy optimisation (arXiv 1707.06347): try, value, and go a small step towards what went better than expected."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from trainer.env import TrackingEnv, View
from trainer.networks import ActorCritic


@dataclass(frozen=True)
class PpoOptions:
    steps: int = 24
    """Control periods between two updates."""
    epochs: int = 5
    """How often a rollout is gone through, unless the policy has moved too far before."""
    minibatches: int = 4
    """Parts in which it is gone through."""
    learning_rate: float = 3e-4
    """Fixed: rules that adapt it to the divergence collapse on batches of a few thousand."""
    divergence: float = 0.05
    """KL divergence between old and new policy at which an update ends; more learns faster and may unlearn."""
    discount: float = 0.96
    """γ: how much of a reward counts a step earlier; 0.96 looks half a second ahead."""
    trace: float = 0.95
    """λ of generalised advantage estimation."""
    clip: float = 0.2
    """How far the ratio of probabilities counts beyond 1."""
    entropy: float = 0.0
    """Reward for acting at random; more explores longer."""
    value_weight: float = 1.0
    gradient_norm: float = 1.0
    """Gradients are scaled down to this length."""


@dataclass(frozen=True)
class Rollout:
    """What was seen, done and earned: S steps of N robots."""

    seen: Float[Tensor, "S N D"]
    action: Float[Tensor, "S N A"]
    log_probability: Float[Tensor, "S N"]
    value: Float[Tensor, "S+1 N"]
    reward: Float[Tensor, "S N"]
    ended: Bool[Tensor, "S N"]
    numbers: dict[str, float]
    """For the log: means over the rollout."""
    attempts: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
    """Of the episodes that ended: segment, last frame, first frame, failed."""


def everything(view: View) -> Float[Tensor, "N D+P"]:
    """Observation and what only a simulator knows, as one."""
    return torch.from_numpy(np.concatenate([view.observation, view.privileged], 1))


@torch.no_grad()
def collect(env: TrackingEnv, network: ActorCritic, options: PpoOptions, generator: torch.Generator) -> Rollout:
    """Let the policy act, with its noise."""
    steps, count = options.steps, env.count
    seen, actions, chances, values, rewards, ends, ended, terms = [], [], [], [], [], [], [], []
    deviation = network.deviation()
    view = everything(env.view())
    for _ in range(steps):
        mean, value = network.act(view), network.value(view)
        action = mean + deviation * torch.randn(mean.shape, generator=generator)
        step = env.step(action.numpy())
        over = step.failed | step.finished
        # What an episode that was merely over would have gone on to earn.
        earned = step.reward + options.discount * value.numpy() * step.finished
        for store, item in zip(
            (seen, actions, chances, values), (view, action, network.log_probability(mean, action), value), strict=True
        ):
            store.append(item)
        rewards.append(torch.from_numpy(earned.astype(np.float32)))
        ends.append(torch.from_numpy(over))
        ended.append([part[over] for part in (*env.ended, step.failed)])
        terms.append({"reward": step.reward.mean(), **{name: term.mean() for name, term in step.terms.items()}})
        view = everything(env.view())
    values.append(network.value(view))
    segment, last, first, failed = (np.concatenate(parts) for parts in zip(*ended, strict=True))
    numbers = {name: float(np.mean([t[name] for t in terms])) for name in terms[0]}
    numbers |= {"failure_share": float(failed.sum() / (steps * count)), "episodes": float(len(failed))}
    numbers["finished_share"] = float((~failed).mean()) if len(failed) else float("nan")
    stacked = [torch.stack(parts) for parts in (seen, actions, chances, values, rewards, ends)]
    return Rollout(*stacked, numbers=numbers, attempts=(segment, last, first, failed))


def advantages(rollout: Rollout, options: PpoOptions) -> Float[Tensor, "S N"]:
    """How much better each action went than expected (generalised advantage estimation, arXiv 1506.02438)."""
    result = torch.zeros_like(rollout.reward)
    running = torch.zeros_like(rollout.reward[0])
    goes_on = (~rollout.ended).float()
    for t in reversed(range(len(result))):
        surprise = rollout.reward[t] + options.discount * goes_on[t] * rollout.value[t + 1] - rollout.value[t]
        running = surprise + options.discount * options.trace * goes_on[t] * running
        result[t] = running
    return result


def update(
    network: ActorCritic,
    optimiser: torch.optim.Optimizer,
    rollout: Rollout,
    options: PpoOptions,
    generator: torch.Generator,
) -> dict[str, float]:
    """Improve policy and critic by a rollout, the policy until it has moved far enough; numbers for the log."""
    advantage = advantages(rollout, options)
    target = (advantage + rollout.value[:-1]).flatten()
    advantage = ((advantage - advantage.mean()) / (advantage.std() + 1e-8)).flatten()
    seen = network.normalise(rollout.seen.flatten(0, 1))
    action, old = rollout.action.flatten(0, 1), rollout.log_probability.flatten()
    numbers: dict[str, list[float]] = {"policy_loss": [], "value_loss": [], "divergence": []}
    moving = True
    for _ in range(options.epochs):
        for part in torch.randperm(len(seen), generator=generator).chunk(options.minibatches):
            loss = options.value_weight * (network.critic(seen[part]).squeeze(-1) - target[part]).square().mean()
            numbers["value_loss"].append(loss.item())
            if moving:
                ours, divergence = _policy_loss(network, seen[part], action[part], old[part], advantage[part], options)
                numbers["divergence"].append(divergence)
                if moving := divergence <= options.divergence:
                    numbers["policy_loss"].append(ours.item())
                    loss = loss + ours - options.entropy * network.entropy()
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), options.gradient_norm)
            optimiser.step()
    means = {name: float(np.mean(values)) if values else 0.0 for name, values in numbers.items()}
    means["divergence"] = numbers["divergence"][-1]
    return means | {"policy_updates": len(numbers["policy_loss"]), "deviation": float(network.deviation().mean())}


def _policy_loss(
    network: ActorCritic, seen: Tensor, action: Tensor, old: Tensor, gain: Tensor, options: PpoOptions
) -> tuple[Tensor, float]:
    """PPO's clipped objective, and how far the policy has moved (Schulman's estimate of the KL divergence)."""
    change = network.log_probability(network.actor(seen), action) - old
    ratio = torch.exp(change)
    clipped = ratio.clamp(1 - options.clip, 1 + options.clip)
    loss = -torch.minimum(ratio * gain, clipped * gain).mean()
    return loss, float((ratio - 1 - change).mean().detach())
