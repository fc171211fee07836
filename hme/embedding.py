"""What an embedder gives: vectors, and the blocks they are made of, marked with the embedder they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from corpus.errors import MotionloomError


@dataclass(frozen=True)
class Embedding:
    """Several motions embedded, a row each."""

    vectors: Float[np.ndarray, "S D"]
    """Near each other where motions are alike."""
    blocks: Mapping[str, Float[np.ndarray, "S B"]]
    """What the vectors were made of before weights and projection, each of unit norm on average."""
    frequency: Float[np.ndarray, " S"]
    """About which frequency the joints' energy lies [Hz]; 0 where nothing moves."""
    padded: Bool[np.ndarray, " S"]
    """Was the motion shorter than a window?"""
    hme_id: str
    """Which embedder made this: a hash of its config and statistics."""

    def __len__(self) -> int:
        return len(self.vectors)

    def weighed(self, weights: Mapping[str, float]) -> Float[np.ndarray, "S W"]:
        """Blocks end to end by other weights, not projected; those not named are left out."""
        unknown = set(weights) - set(self.blocks)
        if unknown or not weights:
            raise MotionloomError(f"No block {', '.join(sorted(unknown))!r}. Known: {', '.join(self.blocks)}.")
        return np.concatenate([self.blocks[name] * np.float32(weight) for name, weight in weights.items()], 1)

    def distance_to(self, other: Embedding) -> Float[np.ndarray, "S R"]:
        """Euclidean distance of each row to each of the other embedding's, which must be of the same embedder."""
        _check_ids([self, other])
        a, b = self.vectors.astype(np.float64), other.vectors.astype(np.float64)
        square = (a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * a @ b.T
        return np.sqrt(np.maximum(square, 0))


def join_embeddings(parts: Sequence[Embedding]) -> Embedding:
    """One after another; all must come from the same embedder."""
    if not parts:
        raise MotionloomError("There are no embeddings to join.")
    _check_ids(parts)
    blocks = {name: np.concatenate([part.blocks[name] for part in parts]) for name in parts[0].blocks}
    vectors, frequency, padded = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("vectors", "frequency", "padded")
    )
    return Embedding(vectors, blocks, frequency, padded, parts[0].hme_id)


def _check_ids(parts: Sequence[Embedding]) -> None:
    ids = sorted({part.hme_id for part in parts})
    if len(ids) > 1:
        raise MotionloomError(
            f"Vectors of different embedders cannot be compared: {', '.join(ids)}. Embed all motions by one of them."
        )
