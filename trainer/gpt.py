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
from torch.nn import functional as F

from corpus.errors import MotionloomError

Turn = tuple[Tensor, Tensor]  # cosine and signed sine of each place and channel


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

    mean: Tensor
    deviation: Tensor

    def __init__(self, observation_size: int, action_count: int, shape: GptShape, *, seed: int = 0):
        super().__init__()
        self.shape = shape
        self.register_buffer("mean", torch.zeros(observation_size))
        self.register_buffer("deviation", torch.ones(observation_size))
        with torch.random.fork_rng(devices=[]):  # torch's own random numbers go on as if nothing had been made
            torch.manual_seed(seed)
            self.embed = nn.Linear(observation_size, shape.width)
            self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
            self.last_norm = nn.LayerNorm(shape.width)
            self.head = nn.Linear(shape.width, action_count)
            self._randomise()

    def forward(
        self, observation: Float[Tensor, "B T D"], valid: Bool[Tensor, "B T"] | Int[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B T A"]:
        """Actions at all positions.

        `valid` tells where there is something: True, or the number (from 1) of the episode that the position belongs to, where
        several stand in one row. Positions with another number are not seen. Those of False or 0 are seen by none, whatever
        stands there, and answered by zeros.
        """
        self._check(observation)
        if valid is not None:
            observation = observation.masked_fill((valid == 0)[..., None], 0.0)
        length = observation.shape[1]
        turn = self._turn(torch.arange(length, device=observation.device))
        sight = _sight(length, self.shape.window, valid, observation.device)
        x = self.embed(self._normalised(observation))
        for block in self.blocks:
            x, _, _ = block(x, turn, sight)
        action = self.head(self.last_norm(x)).float()
        return action if valid is None else action.masked_fill((valid == 0)[..., None], 0.0)

    def new_cache(self, batch: int) -> Cache:
        """Of so many streams that have seen nothing yet."""
        shape, device = self.shape, self.mean.device
        size = (shape.layers, batch, shape.heads, shape.window - 1, shape.width // shape.heads)
        seen = torch.zeros(batch, shape.window - 1, dtype=torch.bool, device=device)
        return Cache(torch.zeros(size, device=device), torch.zeros(size, device=device), seen)

    @torch.no_grad()
    def step(self, observation: Float[Tensor, "B D"], cache: Cache) -> Float[Tensor, "B A"]:
        """The action of the next frame, which goes into the cache."""
        position = torch.tensor(cache.position, device=observation.device)
        action, keys, values = self.step_with(observation, cache.keys, cache.values, cache.seen, position)
        cache.add(keys, values)
        return action

    def step_with(
        self,
        observation: Float[Tensor, "B D"],
        keys: Float[Tensor, "L B H P E"],
        values: Float[Tensor, "L B H P E"],
        seen: Bool[Tensor, "B P"],
        position: Int[Tensor, ""],
    ) -> tuple[Float[Tensor, "B A"], Float[Tensor, "L B H E"], Float[Tensor, "L B H E"]]:
        """`step` as a function without a state, for a graph whose host keeps the ring: action, new key and new value.

        The P = window − 1 past frames may lie in any order. `position` counts frames, from wherever the keys were counted.
        """
        self._check(observation)
        turn = self._turn(position[None])
        sight = torch.cat([seen, torch.ones_like(seen[:, :1])], 1)[:, None, None]
        x = self.embed(self._normalised(observation))[:, None]
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
        """Take mean and standard deviation of what is observed; what hardly varies is divided by `LEAST_DEVIATION`."""
        self.mean.copy_(torch.as_tensor(mean))
        self.deviation.copy_(torch.as_tensor(deviation).clamp_min(LEAST_DEVIATION))

    def _normalised(self, observation: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
        return (observation - self.mean) / self.deviation

    def _turn(self, position: Int[Tensor, " T"]) -> Turn:
        """In double precision: a stream may run for days, and its angles stay exact."""
        half = self.shape.width // self.shape.heads // 2
        exponent = torch.arange(half, dtype=torch.float64, device=position.device) / half
        angle = position.double()[:, None] * ROPE_BASE**-exponent
        cos, sin = angle.cos().float(), angle.sin().float()
        return torch.cat([cos, cos], 1)[:, None, None], torch.cat([-sin, sin], 1)[:, None, None]

    def _check(self, observation: Tensor) -> None:
        if observation.shape[-1] != len(self.mean):
            raise MotionloomError(
                f"An observation should hold {len(self.mean)} numbers, as the model was made for, not {observation.shape[-1]}."
            )

    def _randomise(self) -> None:
        """Small weights, smaller still where they add to what goes straight through; no biases."""
        for name, weight in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(weight)
            elif weight.ndim == 2:
                into_sum = name.endswith(("out.weight", "narrow.weight"))
                nn.init.normal_(weight, std=0.02 / (math.sqrt(2 * self.shape.layers) if into_sum else 1.0))


LEAST_DEVIATION = 1e-2
"""Channels that stand still in training would otherwise blow up when they first move."""
ROPE_BASE = 10_000.0
"""The slowest channel turns by about 1 / ROPE_BASE [rad] a frame, the fastest by 1."""


class Block(nn.Module):
    """Attention, then a network for each position alone; both see what is normalised and add to what is not."""

    def __init__(self, shape: GptShape):
        super().__init__()
        self.heads = shape.heads
        self.attention_norm = nn.LayerNorm(shape.width)
        self.qkv = nn.Linear(shape.width, 3 * shape.width)
        self.out = nn.Linear(shape.width, shape.width)
        self.mlp_norm = nn.LayerNorm(shape.width)
        self.widen = nn.Linear(shape.width, shape.mlp)
        self.narrow = nn.Linear(shape.mlp, shape.width)

    def forward(
        self,
        x: Float[Tensor, "B T C"],
        turn: Turn,
        sight: Bool[Tensor, "#B 1 T S"] | None,
        past: list[Float[Tensor, "B H P E"]] | None = None,
    ) -> tuple[Float[Tensor, "B T C"], Float[Tensor, "B H T E"], Float[Tensor, "B H T E"]]:
        """Also the keys and values of these positions. `past` are those before them; no `sight` means all before."""
        qkv = self.qkv(self.attention_norm(x)).unflatten(-1, (3, self.heads, -1))
        query, key = rotated(qkv[:, :, :2], turn).permute(2, 0, 3, 1, 4)
        value = qkv[:, :, 2].transpose(1, 2)
        keys, values = key, value
        if past is not None:
            keys, values = (torch.cat([old.type_as(new), new], 2) for old, new in zip(past, (key, value), strict=True))
        told = F.scaled_dot_product_attention(query, keys, values, attn_mask=sight, is_causal=sight is None)
        x = x + self.out(told.transpose(1, 2).flatten(2))
        return x + self.narrow(F.gelu(self.widen(self.mlp_norm(x)))), key, value


def rotated(x: Float[Tensor, "B T N H E"], turn: Turn) -> Float[Tensor, "B T N H E"]:
    """Turn channel pairs (i, i + E/2) by their place's angles."""
    cos, signed_sin = turn
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), signed_sin).type_as(x)


def parameter_count(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())


def _sight(length: int, window: int, valid: Tensor | None, device: torch.device) -> Bool[Tensor, "#B 1 T T"] | None:
    """Who sees whom; None where it is simply all before."""
    if valid is None and length <= window:
        return None
    place = torch.arange(length, device=device)
    back = place[:, None] - place
    sight = ((back >= 0) & (back < window))[None, None]
    return sight if valid is None else sight & (valid[:, None, :, None] == valid[:, None, None, :])
