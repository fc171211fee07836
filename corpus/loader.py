"""Batches of windows, gathered straight from the mapped shards.

A batch is a function of (seed, step, weights): the random numbers are Philox's, counted by step, so any step can be drawn
without those before it, and workers need no common state.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float, Int, UInt8

from corpus import rotations
from corpus.catalog import Corpus
from corpus.errors import MotionloomError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Batch:
    qpos: Float[np.ndarray, "B W 36"]
    """Root xyz [m], root quaternion `[w x y z]`, joint angles [rad]."""
    velocity: Float[np.ndarray, "B W 35"]
    """As `corpus.motion.velocity`; neighbouring frames outside the window count where the segment has them."""
    contact: UInt8[np.ndarray, "B W 4"]
    segment: Int[np.ndarray, " B"]
    """Row in `corpus.kept`."""
    frame: Int[np.ndarray, " B"]
    """First frame of the window within its segment."""


class Windows:
    """Draws windows of a fixed length from the kept segments of a corpus; batch number `step` is `windows[step]`."""

    def __init__(
        self, corpus: Corpus, *, batch_size: int, window: int, seed: int, weights: Float[np.ndarray, " S"] | None = None
    ):
        """`weights` give each kept segment's share of the windows; None draws every window equally often."""
        self.corpus, self.batch_size, self.window, self.seed = corpus, batch_size, window, seed
        kept = corpus.kept
        frames = kept["frames"].to_numpy()
        room = np.maximum(frames - window + 1, 0)
        share = room.astype(float) if weights is None else _checked(weights, len(kept)) * (room > 0)
        self.excluded_count = int((room == 0).sum())
        if not share.sum() > 0:
            raise MotionloomError(
                f"No kept segment with a weight is {window} frames long; the longest has {frames.max(initial=0)}."
            )
        if self.excluded_count:
            log.info("%d of %d segments are shorter than a window of %d frames", self.excluded_count, len(kept), window)
        self.room, self.frames = room, frames
        self.cumulative = np.cumsum(share) / share.sum()
        index = {shard: i for i, shard in enumerate(corpus.shard_ids)}
        self.shard_of = kept["shard"].replace_strict(index, return_dtype=pl.Int64).to_numpy()
        self.row = kept["row"].to_numpy()

    def __getitem__(self, step: int) -> Batch:
        segment, frame = self.draw(step)
        return self.gather(segment, frame)

    def draw(self, step: int) -> tuple[Int[np.ndarray, " B"], Int[np.ndarray, " B"]]:
        """Segments and first frames of batch `step`."""
        uniform = np.random.Generator(np.random.Philox(key=self.seed, counter=[0, 0, 0, step])).random(
            (2, self.batch_size)
        )
        segment = np.searchsorted(self.cumulative, uniform[0], side="right").clip(max=len(self.cumulative) - 1)
        frame = np.minimum((uniform[1] * self.room[segment]).astype(np.int64), self.room[segment] - 1)
        return segment, frame

    def gather(self, segment: Int[np.ndarray, " B"], frame: Int[np.ndarray, " B"]) -> Batch:
        """The windows that start at these frames of these segments."""
        before = (frame > 0).astype(np.int64)
        after = (frame + self.window < self.frames[segment]).astype(np.int64)
        # One more frame on each side for the velocities; where the segment ends, the edge frame again.
        steps = np.arange(-1, self.window + 1)
        local = np.clip(steps, -before[:, None], self.window - 1 + after[:, None])
        rows = (self.row[segment] + frame)[:, None] + local
        wide = np.empty((len(segment), self.window + 2, 36), np.float32)
        contact = np.empty((len(segment), self.window, 4), np.uint8)
        for number in np.unique(self.shard_of[segment]):
            shard = self.corpus.shard(self.corpus.shard_ids[number])
            mine = np.flatnonzero(self.shard_of[segment] == number)
            wide[mine] = shard.qpos[rows[mine]]
            contact[mine] = shard.contact[rows[mine, 1:-1]]
        edges = np.stack([before, after], 1).astype(bool)
        return Batch(wide[:, 1:-1], window_velocity(wide, edges, self.corpus.fps), contact, segment, frame)


def batches(
    corpus: Corpus,
    *,
    batch_size: int,
    window: int,
    seed: int,
    weights: Float[np.ndarray, " S"] | None = None,
    start_step: int = 0,
    steps: int | None = None,
) -> Iterator[Batch]:
    """Batches from `start_step` on, `steps` of them or without end."""
    windows = Windows(corpus, batch_size=batch_size, window=window, seed=seed, weights=weights)
    step = start_step
    while steps is None or step < start_step + steps:
        yield windows[step]
        step += 1


def window_velocity(wide: Float[np.ndarray, "B W+2 36"], edges: np.ndarray, fps: float) -> Float[np.ndarray, "B W 35"]:
    """Velocities of the inner frames by central differences; one-sided where `edges` says there is no neighbour."""
    scale = np.full((len(wide), wide.shape[1] - 2, 1), fps / 2, np.float32)
    scale[~edges[:, 0], 0] = fps
    scale[~edges[:, 1], -1] = fps
    linear = wide[:, 2:, :3] - wide[:, :-2, :3]
    joints = wide[:, 2:, 7:] - wide[:, :-2, 7:]
    quaternion = wide[..., 3:7]
    step = rotations.to_rotation_vector(rotations.multiply(quaternion[:, 1:], rotations.conjugate(quaternion[:, :-1])))
    turn = rotations.rotate(rotations.conjugate(quaternion[:, 1:-1]), step[:, 1:] + step[:, :-1])
    return np.concatenate([linear, turn, joints], 2) * scale


def torch_windows(windows: Windows, *, start_step: int = 0, steps: int | None = None) -> Any:
    """A torch `IterableDataset` of whole batches as dictionaries of tensors that share the arrays' memory.

    Pass it to `DataLoader(..., batch_size=None)`; worker i of n gives the steps i, i + n, … after `start_step`.
    """
    import torch
    from torch.utils.data import IterableDataset, get_worker_info

    class _Batches(IterableDataset):
        def __iter__(self) -> Iterator[dict[str, Any]]:
            worker = get_worker_info()
            first, stride = (worker.id, worker.num_workers) if worker else (0, 1)
            step = start_step + first
            while steps is None or step < start_step + steps:
                yield {name: torch.from_numpy(value) for name, value in vars(windows[step]).items()}
                step += stride

    return _Batches()


def _checked(weights: Float[np.ndarray, " S"], count: int) -> Float[np.ndarray, " S"]:
    weights = np.asarray(weights, float)
    if weights.shape != (count,) or not np.isfinite(weights).all() or (weights < 0).any():
        raise MotionloomError(f"Weights should be {count} finite numbers of at least 0, one per kept segment.")
    return weights
