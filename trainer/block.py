"""One layer of the Transformer: attention over the frames before, keys turned by their place, and a network for each frame."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

Turn = tuple[Tensor, Tensor]
"""Cosine and signed sine of each place's angles, (T, 1, 1, E)."""

ROPE_BASE = 10_000.0
"""The slowest channel turns by about 1 / ROPE_BASE [rad] a frame, the fastest by 1."""


class Block(nn.Module):
    """Both halves see what is normalised and add to what is not."""

    def __init__(self, width: int, heads: int, mlp: int):
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, mlp)
        self.narrow = nn.Linear(mlp, width)

    def forward(
        self,
        x: Float[Tensor, "B T C"],
        turn: Turn,
        sight: Bool[Tensor, "#B 1 #T S"] | None,
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


def turn_of(position: Int[Tensor, " T"], channels: int) -> Turn:
    """In double precision: a stream may run for days, and its angles stay exact."""
    half = channels // 2
    exponent = torch.arange(half, dtype=torch.float64, device=position.device) / half
    angle = position.double()[:, None] * ROPE_BASE**-exponent
    cos, sin = angle.cos().float(), angle.sin().float()
    return torch.cat([cos, cos], 1)[:, None, None], torch.cat([-sin, sin], 1)[:, None, None]


def sight_of(
    length: int, window: int, valid: Bool[Tensor, "B T"] | Int[Tensor, "B T"] | None, device: torch.device
) -> Bool[Tensor, "#B 1 T T"] | None:
    """Who sees whom: the last `window` positions of the same number; None where it is simply all before."""
    if valid is None and length <= window:
        return None
    place = torch.arange(length, device=device)
    back = place[:, None] - place
    sight = ((back >= 0) & (back < window))[None, None]
    return sight if valid is None else sight & (valid[:, None, :, None] == valid[:, None, None, :])
