"""How often each segment is to be drawn: a weight per segment, or shares of groups and weights within them; and, where a plan
has bins, where in its segment a window begins."""

from __future__ import annotations

import functools
import hashlib
import logging
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from corpus.errors import MotionloomError

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Plan:
    """How often the windows of each segment are drawn."""

    weights: Float[np.ndarray, " S"]
    """For each kept segment, in catalog order; only their proportions count."""
    bins: Float[np.ndarray, " N"] | None = None
    """How often windows begin in each bin of a segment, segment after segment; only proportions within a segment count.
    Without bins a window begins anywhere in its segment."""
    bin_frames: int = 0
    """Frames of a bin; the last of a segment may be shorter."""

    def __post_init__(self) -> None:
        weights = np.asarray(self.weights, float)
        if not _are_weights(weights):
            raise MotionloomError("Weights should be finite numbers of at least 0, one per kept segment.")
        object.__setattr__(self, "weights", weights)
        if self.bins is None:
            return
        bins = np.asarray(self.bins, np.float32)
        if not _are_weights(bins) or self.bin_frames < 1:
            raise MotionloomError(
                f"Bins should be finite numbers of at least 0, of 1 or more frames each; got {self.bin_frames} frames."
            )
        object.__setattr__(self, "bins", bins)

    @classmethod
    def by_windows(cls, frames: Int[np.ndarray, " S"], window: int) -> Plan:
        """Every window of so many frames equally often."""
        return cls(window_count(frames, window).astype(float))

    @classmethod
    def by_groups(
        cls, group: Int[np.ndarray, " S"], share: Float[np.ndarray, " G"], within: Float[np.ndarray, " S"]
    ) -> Plan:
        """Each group in proportion to its `share`, and within a group each segment in proportion to `within`.

        A negative `group` leaves a segment out. A group with nothing in it leaves its share to the others.
        """
        group, share, within = np.asarray(group), cls(share).weights, cls(within).weights
        if group.shape != within.shape or group.max(initial=-1) >= len(share):
            raise MotionloomError(f"Groups should be {len(within)} numbers below {len(share)}, one per kept segment.")
        within = within * (group >= 0)
        total = np.bincount(np.maximum(group, 0), within, len(share))
        if (empty := (total == 0) & (share > 0)).any():
            log.info("%d groups (%.3g of the share) hold nothing", empty.sum(), share[empty].sum() / share.sum())
        per_weight = share / np.where(total > 0, total, np.inf)
        return cls(within * per_weight[np.maximum(group, 0)])

    @functools.cached_property
    def hash(self) -> int:
        """Of the weights' proportions; a common factor changes nothing where it rounds nothing, as powers of two do."""
        weights = self.weights / max(self.weights.sum(), 1e-300)
        return hash_of(weights) if self.bins is None else hash_of(weights, self.bins, np.array([self.bin_frames]))


def bin_count(frames: Int[np.ndarray, " S"], bin_frames: int) -> Int[np.ndarray, " S"]:
    """How many bins each segment has."""
    return -(-np.asarray(frames) // bin_frames)


def window_count(frames: Int[np.ndarray, " S"], window: int) -> Int[np.ndarray, " S"]:
    """How many windows each segment holds."""
    return np.maximum(np.asarray(frames) - window + 1, 0)


def effective_sample_size(weights: Float[np.ndarray, " S"]) -> float:
    """How many segments drawn equally often would make an average as sure as these do (Kish): (Σ w)² / Σ w²."""
    weights = Plan(weights).weights / max(weights.max(initial=0), 1e-300)
    return float(weights.sum() ** 2 / max((weights**2).sum(), 1e-300))


def hash_of(*arrays: np.ndarray) -> int:
    """A number of the arrays' bytes."""
    digest = hashlib.blake2b(digest_size=8)
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    # Fewer bits than 64: it goes into states that may be stored as signed numbers.
    return int.from_bytes(digest.digest(), "little") >> 1


def _are_weights(numbers: np.ndarray) -> bool:
    return numbers.ndim == 1 and bool(np.isfinite(numbers).all() and (numbers >= 0).all())
