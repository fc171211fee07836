"""Batches of windows, copied straight from the mapped shards.

A batch is a function of (seed, step, weights): the random numbers are Philox's, counted by step, so any step can be
drawn without those before it, and workers need no common state.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from corpus.catalog import Corpus
from corpus.errors import MotionloomError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Batch:
    qpos: Float[np.ndarray, "B W 36"]
    """Root xyz [m], root quaternion `[w x y z]`, joint angles [rad]."""
    velocity: Float[np.ndarray, "B W 35"]
    """As `corpus.motion.velocity` of the whole segment: frames next to the window count where the segment has them."""
    contact: UInt8[np.ndarray, "B W 4"]
    segment: Int[np.ndarray, " B"]
    """Row in `corpus.kept`."""
    frame: Int[np.ndarray, " B"]
    """First frame of the window within its segment."""


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
    """Batches from `start_step` on, `steps` of them or without end; the arguments are those of `Windows`."""
    windows = Windows(corpus, batch_size=batch_size, window=window, seed=seed, weights=weights)
    return (windows[step] for step in _steps(start_step, steps, 0, 1))


class Windows:
    """Draws windows of a fixed length from the kept segments of a corpus; batch number `step` is `windows[step]`."""

    def __init__(
        self, corpus: Corpus, *, batch_size: int, window: int, seed: int, weights: Float[np.ndarray, " S"] | None = None
    ):
        """`window` counts frames. `weights` give each kept segment's share of the windows, in the order of
        `corpus.kept`; None draws every window equally often. Segments shorter than a window are left out."""
        if batch_size < 1 or window < 1 or seed < 0:
            raise MotionloomError(f"batch_size {batch_size}, window {window}: at least 1; seed {seed}: at least 0.")
        self.corpus, self.batch_size, self.window, self.seed = corpus, batch_size, window, seed
        # All tables are read here: a forked worker must not start polars' threads.
        self.shard_of, self.row, self.frames = corpus.shard_of, corpus.row, corpus.frames
        self.room = np.maximum(self.frames - window + 1, 0)
        """How many windows each segment holds."""
        share = self.room.astype(float) if weights is None else _checked(weights, len(self.room)) * (self.room > 0)
        self.excluded_count = int((self.room == 0).sum())
        """Segments shorter than a window."""
        total = np.cumsum(share)
        if not len(total) or not total[-1] > 0:
            longest = self.frames.max(initial=0)
            raise MotionloomError(f"No kept segment with a weight is {window} frames long; the longest has {longest}.")
        if self.excluded_count:
            count, frames = len(self.room), int(self.frames[self.room == 0].sum())
            log.info(
                "%d of %d segments (%d frames) are shorter than a window of %d",
                self.excluded_count,
                count,
                frames,
                window,
            )
        self.cumulative = total / total[-1]

    def __getitem__(self, step: int) -> Batch:
        return self.gather(*self.draw(step))

    def draw(self, step: int) -> tuple[Int[np.ndarray, " B"], Int[np.ndarray, " B"]]:
        """Segments and first frames of batch `step`."""
        # The counter's highest word is the step: streams of different steps never meet.
        random = np.random.Generator(np.random.Philox(key=self.seed, counter=[0, 0, 0, step]))
        uniform = random.random((2, self.batch_size))
        segment = np.searchsorted(self.cumulative, uniform[0], side="right")
        frame = np.minimum((uniform[1] * self.room[segment]).astype(np.int64), self.room[segment] - 1)
        return segment, frame

    def gather(self, segment: Int[np.ndarray, " B"], frame: Int[np.ndarray, " B"]) -> Batch:
        """The windows that start at these frames of these segments."""
        count, length = len(segment), self.window
        if (frame < 0).any() or (frame >= self.room[segment]).any():
            raise IndexError("A window reaches beyond its segment.")
        inside = np.stack([frame > 0, frame + length < self.frames[segment]], 1)
        qpos = np.empty((count, length, 36), np.float32)
        contact = np.empty((count, length, 4), np.uint8)
        before, after = np.empty((2, count, 36), np.float32)
        numbers, starts = self.shard_of[segment].tolist(), (self.row[segment] + frame).tolist()
        arrays = {
            number: (shard.qpos, shard.contact) for number in set(numbers) if (shard := self.corpus.shard(number))
        }
        sides = zip(*inside.T.tolist(), strict=True)
        # One slice per window is one memcpy: twice as fast as NumPy's gather by index, however the shards are grouped.
        for i, (number, a, (is_before, is_after)) in enumerate(zip(numbers, starts, sides, strict=True)):
            source, touches = arrays[number]
            qpos[i], contact[i] = source[a : a + length], touches[a : a + length]
            before[i], after[i] = source[a - is_before], source[a + length - 1 + is_after]
        velocity = window_velocity(qpos, before, after, inside, self.corpus.fps)
        return Batch(qpos, velocity, contact, segment, frame)


def window_velocity(
    qpos: Float[np.ndarray, "B W 36"],
    before: Float[np.ndarray, "B 36"],
    after: Float[np.ndarray, "B 36"],
    inside: Bool[np.ndarray, "B 2"],
    fps: float,
) -> Float[np.ndarray, "B W 35"]:
    """Velocities as `corpus.motion.velocity` by central differences between the frames around each.

    `before` and `after` are the frames next to the window; where `inside` says that the segment has none there, they
    repeat the window's own first and last frame, and the difference is one-sided.
    """
    velocity = np.empty((*qpos.shape[:2], qpos.shape[2] - 1), np.float32)
    for to, source in ((slice(0, 3), slice(0, 3)), (slice(6, None), slice(7, None))):
        _differences(qpos[..., source], before[:, source], after[:, source], velocity[..., to])
    turn = _turns(np.concatenate([before[:, None, 3:7], qpos[..., 3:7], after[:, None, 3:7]], 1))
    velocity[..., 3:6] = np.moveaxis(turn[..., 1:] + turn[..., :-1], 0, -1)
    scale = np.full((*qpos.shape[:2], 1), fps / 2, np.float32)
    scale[:, 0, 0] *= np.where(inside[:, 0], 1, 2)
    scale[:, -1, 0] *= np.where(inside[:, 1], 1, 2)
    velocity *= scale
    return velocity


def _differences(x: np.ndarray, before: np.ndarray, after: np.ndarray, out: np.ndarray) -> None:
    """Next frame minus the one before."""
    np.subtract(x[:, 2:], x[:, :-2], out=out[:, 1:-1])
    single = x.shape[1] == 1
    out[:, -1] = after - (before if single else x[:, -2])
    if not single:
        out[:, 0] = x[:, 1] - before


def _turns(q: Float[np.ndarray, "B W 4"]) -> Float[np.ndarray, "3 B W-1"]:
    """Rotation vector from each frame to the next, in the body's own frame, which is the same before and after it.

    Component by component, twice as fast as `rotations`, for this is what a batch spends its time on.
    """
    q = np.ascontiguousarray(np.moveaxis(q, -1, 0))
    (aw, ax, ay, az), (bw, bx, by, bz) = q[..., :-1], q[..., 1:]
    w = aw * bw + ax * bx + ay * by + az * bz
    v = np.empty((3, *w.shape), np.float32)
    v[0] = aw * bx - ax * bw - ay * bz + az * by
    v[1] = aw * by + ax * bz - ay * bw - az * bx
    v[2] = aw * bz - ax * by + ay * bx - az * bw
    sine = np.sqrt(v[0] ** 2 + v[1] ** 2 + v[2] ** 2)
    # q and −q are one rotation: the shorter way round has |w|.
    v *= np.copysign(np.float32(2), w) * np.arctan2(sine, np.abs(w)) / np.maximum(sine, np.float32(1e-20))
    return v


def _steps(start: int, count: int | None, worker: int, workers: int) -> Iterator[int]:
    step = start + worker
    while count is None or step < start + count:
        yield step
        step += workers


def _checked(weights: Float[np.ndarray, " S"], count: int) -> Float[np.ndarray, " S"]:
    weights = np.asarray(weights, float)
    if weights.shape != (count,) or not np.isfinite(weights).all() or (weights < 0).any():
        raise MotionloomError(f"Weights should be {count} finite numbers of at least 0, one per kept segment.")
    return weights


def __getattr__(name: str) -> Any:
    # torch is an extra: `from corpus.loader import TorchWindows` imports it, nothing else here does.
    if name == "TorchWindows":
        return _torch_windows()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@functools.cache
def _torch_windows() -> Any:
    import torch
    from torch.utils.data import IterableDataset, get_worker_info

    class TorchWindows(IterableDataset):
        """Whole batches as dictionaries of tensors that share the arrays' memory; arguments as of `batches`.

        Pass it to `DataLoader(..., batch_size=None)`; the batches come in the same order with any number of workers.
        """

        def __init__(self, corpus: Corpus, *, start_step: int = 0, steps: int | None = None, **options: Any):
            self.windows, self.start_step, self.steps = Windows(corpus, **options), start_step, steps

        def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
            worker = get_worker_info()
            # Worker i of n gives steps i, i + n, …; a DataLoader takes from its workers in turn.
            mine = (worker.id, worker.num_workers) if worker else (0, 1)
            for step in _steps(self.start_step, self.steps, *mine):
                yield {name: torch.from_numpy(value) for name, value in vars(self.windows[step]).items()}

    # By this name another process finds the class again.
    TorchWindows.__qualname__ = "TorchWindows"
    return TorchWindows
