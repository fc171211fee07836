"""Numbers of many units brought to one size, by statistics that are set once and then part of the model."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from corpus.errors import MotionloomError

LEAST_DEVIATION = 1e-2
"""Channels that stand still in training would otherwise blow up when they first move."""


class FixedNormaliser(nn.Module):
    """(x − mean) / deviation, channel by channel; 0 and 1 until they are set."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, size: int, name: str):
        super().__init__()
        self.name = name
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("deviation", torch.ones(size))

    def forward(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
        if x.shape[-1] != len(self.mean):
            raise MotionloomError(
                f"{self.name} should hold {len(self.mean)} numbers, as the model was made for, not {x.shape[-1]}."
            )
        return (x - self.mean) / self.deviation

    def set(
        self,
        mean: Float[np.ndarray, " D"] | Float[Tensor, " D"],
        deviation: Float[np.ndarray, " D"] | Float[Tensor, " D"],
    ) -> None:
        """What hardly varies counts as varying by `LEAST_DEVIATION`."""
        mean, deviation = torch.as_tensor(mean), torch.as_tensor(deviation)
        if not mean.shape == deviation.shape == self.mean.shape or not torch.isfinite(mean + deviation).all():
            raise MotionloomError(f"{self.name}: mean and deviation should be {len(self.mean)} finite numbers each.")
        self.mean.copy_(mean)
        self.deviation.copy_(deviation.clamp_min(LEAST_DEVIATION))
