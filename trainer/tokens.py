"""Tokens between the motion to follow and the controller (SONIC's head): what a person does and what the robot should do, in one space.

    model = Gpt(spec.size, 29, SIZES["nano"], tokens=TokenOptions(reference=tuple(range(93, spec.size)), human_size=594))
    loss = smooth_l1(model(observation, valid), action) + sum(model.token_losses(observation[valid], human[valid]).values())
    action = model.step(observation, cache, codes=model.tokens.of_human(human))    # driven by a person, without a robot's reference

The robot encoder reads the reference in the observation, the human encoder a person's next frames; each gives a few tokens, whose numbers
are rounded to few levels (finite scalar quantisation, FSQ). The controller sees the robot's own state and tokens, never the reference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from corpus import rotations
from corpus.errors import MotionloomError
from trainer.normaliser import FixedNormaliser


@dataclass(frozen=True)
class TokenOptions:
    """How the motion to follow is told to the controller."""

    reference: tuple[int, ...]
    """Places in an observation that tell of the motion to follow: the controller gets tokens in their stead."""
    human_size: int
    """Numbers that tell of a person's next frames (`human_features`)."""
    tokens: int = 2
    """Tokens a frame."""
    dimensions: int = 32
    """Numbers of a token."""
    levels: int = 32
    """Values that each of them can take. Fewer leave out more of what only one of the two encoders knows."""
    hidden: int = 512
    """Width of the two hidden layers of encoders and decoder."""

    def __post_init__(self) -> None:
        if self.levels < 2 or min(self.tokens, self.dimensions, self.hidden, self.human_size) < 1:
            raise MotionloomError(f"levels should be at least 2, all other sizes at least 1, not as in {self}.")
        if not self.reference or len(set(self.reference)) != len(self.reference) or min(self.reference) < 0:
            raise MotionloomError("reference should name places in an observation, from 0, each once.")

    @property
    def size(self) -> int:
        """Numbers of all tokens of a frame together."""
        return self.tokens * self.dimensions


class TokenHead(nn.Module):
    """Two encoders into one token space, and a decoder back to the robot's reference. References are normalised ones throughout."""

    def __init__(self, options: TokenOptions):
        super().__init__()
        self.options = options
        self.normaliser = FixedNormaliser(options.human_size, "A person's features")
        self.robot_encoder = _mlp(len(options.reference), options.hidden, options.size)
        self.human_encoder = _mlp(options.human_size, options.hidden, options.size)
        self.decoder = _mlp(options.size, options.hidden, len(options.reference))

    def of_robot(self, reference: Float[Tensor, "... R"]) -> Float[Tensor, "... K"]:
        """Tokens of the robot's reference."""
        return quantised(self.robot_encoder(reference), self.options.levels)

    def of_human(self, human: Float[Tensor, "... M"]) -> Float[Tensor, "... K"]:
        """Tokens of a person's motion."""
        return quantised(self.human_encoder(self.normaliser(human)), self.options.levels)

    def losses(self, reference: Float[Tensor, "N R"], human: Float[Tensor, "N M"] | None = None) -> dict[str, Tensor]:
        """What the tokens should be good for, besides driving the controller; a row of `human` is the same motion as of `reference`.

        reconstruction: the reference, drawn again from tokens, of either kind
        agreement: tokens of both kinds, before rounding
        cycle: a person's tokens, and those of the reference that is drawn from them
        """
        levels = self.options.levels
        robot = self.robot_encoder(reference)
        losses = {"reconstruction": F.mse_loss(self.decoder(quantised(robot, levels)), reference)}
        if human is None:
            return losses
        person = self.human_encoder(self.normaliser(human))
        drawn = self.decoder(quantised(person, levels))
        again = self.robot_encoder(drawn)
        losses["reconstruction"] = losses["reconstruction"] + F.mse_loss(drawn, reference)
        losses["agreement"] = F.mse_loss(scaled(person, levels), scaled(robot, levels))
        losses["cycle"] = F.mse_loss(scaled(again, levels), scaled(person, levels))
        return losses


def bounded(x: Float[Tensor, "..."], levels: int) -> Float[Tensor, "..."]:
    """Any number into the range that rounds to −⌊levels / 2⌋ … ⌈levels / 2⌉ − 1, zero to zero."""
    half = (levels - 1) / 2 * (1 + MARGIN)
    offset = 0.0 if levels % 2 else 0.5
    return torch.tanh(x.float() + math.atanh(offset / half)) * half - offset


MARGIN = 1e-3
"""By which the bound lies beyond the outermost level, so that it can be reached."""


def scaled(x: Float[Tensor, "..."], levels: int) -> Float[Tensor, "..."]:
    """What `quantised` rounds, within about −1 to 1."""
    return bounded(x, levels) / (levels // 2)


def quantised(x: Float[Tensor, "..."], levels: int) -> Float[Tensor, "..."]:
    """`scaled` at the nearest level; backwards, as if it had not been rounded (straight-through)."""
    smooth = bounded(x, levels)
    return (smooth + (smooth.round() - smooth).detach()) / (levels // 2)


def indices_of(codes: Float[Tensor, "..."], levels: int) -> Int[Tensor, "..."]:
    """Which level each number stands at, from 0 to levels − 1."""
    return (codes * (levels // 2)).round().long() + levels // 2


def codes_of(indices: Int[Tensor, "..."], levels: int) -> Float[Tensor, "..."]:
    """The numbers that stand at these levels."""
    return (indices - levels // 2).float() / (levels // 2)


def human_features(
    position: Float[np.ndarray, "T J 3"],
    rotation: Float[np.ndarray, "T J 4"],
    *,
    hips: tuple[int, int],
    frames: Sequence[int] = (1, 4, 10),
) -> Float[np.ndarray, "T M"]:
    """A person's next frames, seen from where they are now: float32, (3 + 6) · J for each of `frames` (counted from now).

    Joint positions [m] and the first two axes of each joint, about the point of the floor below joint 0 and turned by the
    heading, both of now; the heading is square to the line through the `hips` (left, right). After the end the last frame stands.
    Height is that above the ground, so a motion's ground should be at z = 0.
    """
    left, right = (position[:, joint] for joint in hips)
    heading = np.arctan2((right - left)[:, 0], (left - right)[:, 1])
    back = rotations.about_z(-heading)[:, None]
    below = position[:, :1] * [1.0, 1.0, 0.0]
    parts = []
    for ahead in frames:
        then = np.minimum(np.arange(len(position)) + ahead, len(position) - 1)
        parts.append(rotations.rotate(np.broadcast_to(back, rotation.shape), position[then] - below))
        parts.append(
            rotations.to_matrix(rotations.multiply(back, rotation[then]))[..., :2].reshape(*rotation.shape[:2], 6)
        )
    return np.concatenate([part.reshape(len(position), -1) for part in parts], 1, dtype=np.float32)


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, outputs)
    )
