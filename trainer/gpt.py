"""The student: a causal Transformer from what the robot has observed to what it does (Humanoid-GPT's model).

    model = Gpt(spec.size, 29, SIZES["nano"], seed=0)
    model.set_normalisation(mean, deviation)    # of the observations to come
    action = model(observation, valid)          # (B, T, D) → (B, T, A): training, every position at once
    cache = model.new_cache(batch)
    action = model.step(observation, cache)     # (B, D) → (B, A): one frame at a time, the same numbers
    cache.forget(envs)                          # these begin anew

One token is one frame. In each layer position t sees positions t − window + 1 … t of its own episode, itself included; through all
layers what it does may hang on layers · (window − 1) frames before it. Keys are turned by their place (RoPE), so that only
distances count: a ring of the last window − 1 keys and values is all that a stream needs, in whatever order they lie there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from corpus.errors import MotionloomError
from trainer.block import Block, sight_of, turn_of
from trainer.normaliser import FixedNormaliser
from trainer.tokens import TokenHead, TokenOptions


@dataclass(frozen=True)
class GptShape:
    """How large the network is."""

    layers: int
    """Blocks one after another: each lets a position see window − 1 frames further back."""
    width: int
    """Numbers of a token."""
    heads: int
    """Shares of the width that attend separately; each has an even number of channels."""
    mlp: int
    """Width inside a block's two-layer network."""
    window: int = 32
    """Frames that a position sees in a layer, itself included."""

    def __post_init__(self) -> None:
        if min(self.layers, self.width, self.heads, self.mlp) < 1 or self.width % (2 * self.heads):
            raise MotionloomError(f"Each of the heads should get an even number of channels, not as in {self}.")
        if self.window < 2:
            raise MotionloomError(f"window should be at least 2 frames, not {self.window}.")

    @property
    def channels(self) -> int:
        """Of each head."""
        return self.width // self.heads


SIZES = {
    "nano": GptShape(layers=6, width=128, heads=4, mlp=512),
    "S": GptShape(layers=12, width=256, heads=4, mlp=400),
    "B": GptShape(layers=12, width=384, heads=6, mlp=1600),
    "L": GptShape(layers=12, width=768, heads=12, mlp=2816),
}
"""1.2, 5.7, 22 and 80 million parameters. The paper prints layers, widths and (S, B, L) 5.7, 22.1 and 80.4 million. With an MLP
four times as wide as the token, 12 · 12 · width² would be 9.4, 21.2 and 84.9: so its width is what makes the counts agree."""


@dataclass
class Cache:
    """What a stream remembers: keys and values of the last window − 1 frames, in a ring."""

    keys: Float[Tensor, "L B H P E"]
    values: Float[Tensor, "L B H P E"]
    seen: Bool[Tensor, "B P"]
    """Does this place of the ring hold a frame of the episode that now runs?"""
    position: int = 0
    """Frames since the cache was made: the same for all of the batch, since only distances count."""

    def forget(self, envs: Int[np.ndarray, " R"] | Int[Tensor, " R"]) -> None:
        """These begin a new episode with the next frame."""
        chosen = torch.as_tensor(envs, device=self.seen.device)
        self.seen[chosen] = False
        # Zero times what is not a number would still be none.
        self.keys[:, chosen] = 0.0
        self.values[:, chosen] = 0.0

    def add(self, keys: Float[Tensor, "L B H E"], values: Float[Tensor, "L B H E"]) -> None:
        """Let the newest frame take the oldest one's place."""
        place = self.position % self.seen.shape[1]
        self.keys[:, :, :, place] = keys
        self.values[:, :, :, place] = values
        self.seen[:, place] = True
        self.position += 1


class Gpt(nn.Module):
    """Observations in, actions out; the observations come as they are and are normalised inside."""

    def __init__(
        self,
        observation_size: int,
        action_count: int,
        shape: GptShape,
        *,
        seed: int = 0,
        tokens: TokenOptions | None = None,
    ):
        super().__init__()
        self.shape = shape
        reference = () if tokens is None else tokens.reference
        if reference and max(reference) >= observation_size:
            raise MotionloomError(
                f"tokens.reference names place {max(reference)}; observations end at {observation_size - 1}."
            )
        self._reference = list(reference)
        self._own = [place for place in range(observation_size) if place not in set(reference)]
        self.normaliser = FixedNormaliser(observation_size, "An observation")
        with torch.random.fork_rng(devices=[]):  # torch's own random numbers go on as if nothing had been made
            torch.manual_seed(seed)
            self.embed = nn.Linear(len(self._own) + (0 if tokens is None else tokens.size), shape.width)
            self.blocks = nn.ModuleList(Block(shape.width, shape.heads, shape.mlp) for _ in range(shape.layers))
            self.last_norm = nn.LayerNorm(shape.width)
            self.head = nn.Linear(shape.width, action_count)
            self._randomise()
            self.tokens = None if tokens is None else TokenHead(tokens)

    def forward(
        self,
        observation: Float[Tensor, "B T D"],
        valid: Bool[Tensor, "B T"] | Int[Tensor, "B T"] | None = None,
        *,
        codes: Float[Tensor, "B T K"] | None = None,
    ) -> Float[Tensor, "B T A"]:
        """Actions at all positions.

        `valid` tells where there is something: True, or the number (from 1) of the episode that the position belongs to, where
        several stand in one row. Positions with another number are not seen. Those of False or 0 are seen by none, whatever
        stands there, and answered by zeros. With a token head, `codes` (as of `tokens.of_human`) are followed in place of the
        reference in the observation.
        """
        absent = None if valid is None else (valid == 0)[..., None]
        if absent is not None:
            observation = observation.masked_fill(absent, 0.0)
            codes = None if codes is None else codes.masked_fill(absent, 0.0)
        length = observation.shape[1]
        turn = turn_of(torch.arange(length, device=observation.device), self.shape.channels)
        sight = sight_of(length, self.shape.window, valid, observation.device)
        x = self._embedded(observation, codes)
        for block in self.blocks:
            x, _, _ = block(x, turn, sight)
        action = self.head(self.last_norm(x)).float()
        return action if absent is None else action.masked_fill(absent, 0.0)

    def new_cache(self, batch: int) -> Cache:
        """Of so many streams that have seen nothing yet."""
        shape, device = self.shape, self.normaliser.mean.device
        size = (shape.layers, batch, shape.heads, shape.window - 1, shape.channels)
        seen = torch.zeros(batch, shape.window - 1, dtype=torch.bool, device=device)
        return Cache(torch.zeros(size, device=device), torch.zeros(size, device=device), seen)

    @torch.no_grad()
    def step(
        self, observation: Float[Tensor, "B D"], cache: Cache, *, codes: Float[Tensor, "B K"] | None = None
    ) -> Float[Tensor, "B A"]:
        """The action of the next frame, which goes into the cache."""
        position = torch.tensor(cache.position, device=observation.device)
        action, keys, values = self.step_with(observation, cache.keys, cache.values, cache.seen, position, codes)
        cache.add(keys, values)
        return action

    def step_with(
        self,
        observation: Float[Tensor, "B D"],
        keys: Float[Tensor, "L B H P E"],
        values: Float[Tensor, "L B H P E"],
        seen: Bool[Tensor, "B P"],
        position: Int[Tensor, ""],
        codes: Float[Tensor, "B K"] | None = None,
    ) -> tuple[Float[Tensor, "B A"], Float[Tensor, "L B H E"], Float[Tensor, "L B H E"]]:
        """`step` as a function without a state, for a graph whose host keeps the ring: action, new key and new value.

        The P = window − 1 past frames may lie in any order. `position` counts frames, from wherever the keys were counted.
        """
        turn = turn_of(position[None], self.shape.channels)
        sight = torch.cat([seen, torch.ones_like(seen[:, :1])], 1)[:, None, None]
        x = self._embedded(observation, codes)[:, None]
        new = []
        for block, *past in zip(self.blocks, keys, values, strict=True):
            x, key, value = block(x, turn, sight, past)
            new.append((key[:, :, 0], value[:, :, 0]))
        new_keys, new_values = (torch.stack(part) for part in zip(*new, strict=True))
        return self.head(self.last_norm(x[:, 0])).float(), new_keys, new_values

    def set_normalisation(
        self,
        mean: Float[np.ndarray, " D"] | Float[Tensor, " D"],
        deviation: Float[np.ndarray, " D"] | Float[Tensor, " D"],
    ) -> None:
        """Take mean and standard deviation of what is observed."""
        self.normaliser.set(mean, deviation)

    def token_losses(
        self, observation: Float[Tensor, "N D"], human: Float[Tensor, "N M"] | None = None
    ) -> dict[str, Tensor]:
        """`TokenHead.losses` of these observations, and of the person's features that each belongs to."""
        return self._head().losses(self.normaliser(observation)[..., self._reference], human)

    def _embedded(self, observation: Float[Tensor, "... D"], codes: Tensor | None) -> Float[Tensor, "... C"]:
        seen = self.normaliser(observation)
        if self.tokens is None and codes is None:
            return self.embed(seen)
        if codes is None:
            codes = self._head().of_robot(seen[..., self._reference])
        elif codes.shape[-1] != self._head().options.size:
            raise MotionloomError(
                f"Codes should be {self._head().options.size} numbers a frame, not {codes.shape[-1]}."
            )
        return self.embed(torch.cat([seen[..., self._own], codes], -1))

    def _head(self) -> TokenHead:
        if self.tokens is None:
            raise MotionloomError("This model has no tokens; make it with tokens=TokenOptions(…).")
        return self.tokens

    def _randomise(self) -> None:
        """Small weights, smaller still where they add to what goes straight through; no biases."""
        for name, weight in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(weight)
            elif weight.ndim == 2:
                into_sum = name.endswith(("out.weight", "narrow.weight"))
                nn.init.normal_(weight, std=0.02 / (math.sqrt(2 * self.shape.layers) if into_sum else 1.0))


def parameter_count(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())
