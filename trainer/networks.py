"""An expert's networks: what to do (a Gaussian around an MLP's answer) and what it is worth, on normalised observations."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True)
class NetworkOptions:
    hidden: tuple[int, ...] = (256, 128)
    """Widths of the hidden layers, of actor and critic alike."""
    deviation: float = 0.3
    """Standard deviation of actions at the beginning, in the contract's units; more explores more and falls more."""


class Normaliser(nn.Module):
    """Mean and deviation of all that was seen so far; `forward` makes numbers of about unit size of it."""

    mean: Tensor
    square: Tensor
    count: Tensor

    def __init__(self, size: int):
        super().__init__()
        for name, start in (("mean", torch.zeros(size)), ("square", torch.ones(size)), ("count", torch.zeros(()))):
            self.register_buffer(name, start.double())

    def forward(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
        deviation = (self.square.sqrt() + 1e-2).to(x.dtype)
        return ((x - self.mean.to(x.dtype)) / deviation).clamp(-10, 10)

    @torch.no_grad()
    def see(self, x: Float[Tensor, "N D"]) -> None:
        """Count these in (Chan's rule for joining two variances); `square` is the variance."""
        x = x.double()
        count, mean, square = len(x), x.mean(0), x.var(0, correction=0)
        total = self.count + count
        share = count / total
        step = mean - self.mean
        self.square.copy_(self.square * (1 - share) + square * share + step**2 * share * (1 - share))
        self.mean.add_(step * share)
        self.count.copy_(total)


class ActorCritic(nn.Module):
    def __init__(self, size: int, action_count: int, options: NetworkOptions, generator: torch.Generator):
        super().__init__()
        self.normalise = Normaliser(size)
        self.actor = _mlp(size, options.hidden, action_count, 0.01, generator)
        self.critic = _mlp(size, options.hidden, 1, 1.0, generator)
        self.log_deviation = nn.Parameter(torch.full((action_count,), math.log(options.deviation)))

    def act(self, x: Float[Tensor, "N D"]) -> Float[Tensor, "N A"]:
        """The mean action."""
        return self.actor(self.normalise(x))

    def value(self, x: Float[Tensor, "N D"]) -> Float[Tensor, " N"]:
        return self.critic(self.normalise(x)).squeeze(-1)

    def log_probability(self, mean: Float[Tensor, "N A"], action: Float[Tensor, "N A"]) -> Float[Tensor, " N"]:
        z = (action - mean) * torch.exp(-self.log_deviation)
        return (-0.5 * z**2 - self.log_deviation - 0.5 * math.log(2 * math.pi)).sum(-1)

    def deviation(self) -> Float[Tensor, " A"]:
        """Of the noise on actions."""
        return self.log_deviation.detach().exp()

    def entropy(self) -> Tensor:
        return (self.log_deviation + 0.5 * math.log(2 * math.pi * math.e)).sum()


def _mlp(size: int, hidden: tuple[int, ...], out: int, gain: float, generator: torch.Generator) -> nn.Sequential:
    """Orthogonal weights; a small last gain lets training begin at answers near zero."""
    widths, layers = [size, *hidden, out], []
    for i, (a, b) in enumerate(itertools.pairwise(widths)):
        layer = nn.Linear(a, b)
        last = i == len(hidden)
        nn.init.orthogonal_(layer.weight, gain if last else math.sqrt(2), generator=generator)
        nn.init.zeros_(layer.bias)
        layers += [layer] if last else [layer, nn.ELU()]
    return nn.Sequential(*layers)
