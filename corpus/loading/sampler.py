"""What is drawn: the windows of a global batch, as a function of seed, step and plan.

Random numbers are Philox's, counted by step and slot, so that any slot of any step can be drawn without those before it.
Ranks take slots of the same global batch, whatever their number; a run is resumed from a few integers.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt64

from corpus.errors import MotionloomError
from corpus.loading.feistel import ROUNDS, permute
from corpus.loading.sampling_plan import Plan, hash_of
from corpus.loading.starts import Starts

log = logging.getLogger(__name__)

SLOT_NUMBERS = 8
"""Random numbers that every slot of a batch has for itself; Philox makes four at a time."""


@dataclass(frozen=True)
class Draw:
    """The windows in a rank's slots of a global batch."""

    step: int
    segment: Int[np.ndarray, " B"]
    frame: Int[np.ndarray, " B"]
    """First frame of the window within its segment."""
    uniform: Float[np.ndarray, "B 4"]
    """Numbers from 0 to 1 for what is done to the window; the first has already placed it in its segment."""


class Sampler:
    """Draws windows by a plan's weights, with replacement; or, in exact epochs, each once before any comes again.

    An epoch's windows start every `stride` frames of each segment with a weight, the last one aligned with the segment's
    end, so that every frame of it is seen; they come in a random order that is another one in every epoch.
    """

    def __init__(
        self,
        plan: Plan,
        frames: Int[np.ndarray, " S"],
        *,
        window: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        epochs: bool = False,
        stride: int | None = None,
    ):
        """`frames` are those of each segment, `window` those of a window. `batch_size` is the global batch's, of which rank r
        of R takes slots r·B/R to (r+1)·B/R. `stride` is the window's length unless told otherwise."""
        stride = window if stride is None else stride
        _check_numbers(window=window, batch_size=batch_size, stride=stride, seed=seed, rank=rank, world_size=world_size)
        if plan.weights.shape != frames.shape:
            raise MotionloomError(
                f"Weights should be {len(frames)} numbers, one per kept segment; got {plan.weights.shape}."
            )
        if plan.bins is not None and epochs:
            raise MotionloomError("Exact epochs show every window once; a plan of bins draws by weight: epochs=False.")
        self.frames, self.window, self.batch_size, self.seed = frames, window, batch_size, seed
        self.slots = slots_of(rank, world_size, batch_size)
        self.epochs, self.stride = epochs, stride
        share = plan.weights * (frames >= window)
        self.excluded_count = int((frames < window).sum())
        """Segments shorter than a window, never drawn."""
        if not share.sum() > 0:
            longest = frames.max(initial=0)
            raise MotionloomError(f"No kept segment with a weight is {window} frames long; the longest has {longest}.")
        if self.excluded_count:
            counts = self.excluded_count, len(frames), int(frames[frames < window].sum()), window
            log.info("%d of %d segments (%d frames) are shorter than a window of %d", *counts)
        self.plan_hash = hash_of(np.array([plan.hash, window, stride if epochs else 0], np.uint64), frames)
        """Of all that decides what is drawn, but for seed, step and batch size."""
        if epochs:
            share = np.where(share > 0, -(-(frames - window) // stride) + 1, 0)
            self._first = np.cumsum(share) - share
            self.windows_per_epoch = int(share.sum())
        self.search = Search(share)
        self._starts = None if plan.bins is None else Starts(plan.bins, plan.bin_frames, frames, window)

    def draw(self, step: int, slots: slice | None = None) -> Draw:
        """The rank's slots of batch `step`, or others."""
        slots = slots or self.slots
        uniform = self.uniform(step, slots)
        if self.epochs:
            segment, frame = self._in_turn(np.arange(slots.start, slots.stop) + step * self.batch_size)
        else:
            segment, frame = self.search(uniform[:, 0]), None
        return self.drawn(step, segment, uniform, frame)

    def uniform(self, step: int, slots: slice) -> Float[np.ndarray, "B 8"]:
        """The random numbers of these slots."""
        count = slots.stop - slots.start
        bits = self.bits("slots", step, count * SLOT_NUMBERS, first=slots.start * SLOT_NUMBERS // 4)
        return to_unit(bits).reshape(count, SLOT_NUMBERS)

    def drawn(
        self, step: int, segment: Int[np.ndarray, " B"], uniform: np.ndarray, frame: Int[np.ndarray, " B"] | None = None
    ) -> Draw:
        """A draw of these segments; without a `frame`, each window stands anywhere in its segment, or where the bins say."""
        if frame is None:
            frame = self._begin(segment, uniform[:, 1], self.frames[segment] - self.window)
        return Draw(step, segment, frame, uniform[:, 1:5])

    def place(self, draw: Draw, length: Int[np.ndarray, " B"]) -> Int[np.ndarray, " B"]:
        """First frames for windows that take so many of the segment's frames instead of `window`.

        Anywhere in the segment, or in the same bin, as before; in exact epochs within the drawn window where shorter, and
        where longer from its first frame on, or as near to it as the segment's end allows.
        """
        room = self.frames[draw.segment] - length
        if not self.epochs:
            return self._begin(draw.segment, draw.uniform[:, 0], room)
        spare = np.maximum(self.window - length, 0)
        return np.minimum(draw.frame + _floor(draw.uniform[:, 0] * (spare + 1)), room)

    def bits(self, purpose: str, index: int, count: int, *, first: int = 0) -> UInt64[np.ndarray, " N"]:
        """Random bits for a purpose, from block `first` of four numbers on; those of two purposes or indices never meet.

        As Philox gives them: what is made of them is our own, and no version of NumPy changes it.
        """
        return philox((self.seed, self.plan_hash), (first, 0, PURPOSES.index(purpose), index), count)

    def state(self, step: int) -> dict[str, int]:
        """What a run that goes on with batch `step` must know; nothing in it is of the rank or the number of ranks."""
        return {"seed": self.seed, "step": step, "plan": self.plan_hash, "batch_size": self.batch_size}

    def step_of(self, state: dict[str, int]) -> int:
        """The step to go on with; raises `MotionloomError` where the state is of another seed, plan or batch size."""
        mine = self.state(state.get("step", -1))
        for name in (*mine, *state):
            if state.get(name) != mine.get(name):
                raise MotionloomError(
                    f"The state to resume has {name} {state.get(name)}, this run {mine.get(name)}: its batches are others. "
                    "(`plan` stands for weights, segments, window and order.)"
                )
        return state["step"]

    def share(self) -> Float[np.ndarray, " S"]:
        """Each segment's expected share of the windows."""
        return np.diff(self.search.cumulative, prepend=0.0)

    def _begin(
        self, segment: Int[np.ndarray, " B"], number: Float[np.ndarray, " B"], room: Int[np.ndarray, " B"]
    ) -> Int[np.ndarray, " B"]:
        """The frame from 0 to `room` that a number from 0 to 1 stands for."""
        if self._starts is not None:
            return self._starts(segment, number, room)
        return _floor(number * (room + 1))

    def _in_turn(self, position: Int[np.ndarray, " B"]) -> tuple[Int[np.ndarray, " B"], Int[np.ndarray, " B"]]:
        """The windows at these places of the endless sequence of epochs."""
        epoch, place = np.divmod(position, self.windows_per_epoch)
        number = np.empty_like(place)
        for one in np.unique(epoch):
            keys = self.bits("epochs", int(one), ROUNDS)
            number[epoch == one] = permute(place[epoch == one], self.windows_per_epoch, keys)
        segment = self.search((number + 0.5) / self.windows_per_epoch)
        frame = (number - self._first[segment]) * self.stride
        return segment, np.minimum(frame, self.frames[segment] - self.window)


class Search:
    """Finds the segment that a number from 0 to 1 falls on, as np.searchsorted does; a table of the first guess makes it
    several times faster among millions, where every step of a plain search waits for memory."""

    def __init__(self, share: Float[np.ndarray, " S"]):
        total = np.cumsum(share)
        self.cumulative = total / total[-1]
        self.buckets = 1 << max(len(share) // 4, 1).bit_length()
        edges = np.arange(self.buckets + 1) / self.buckets
        self.guess = np.searchsorted(self.cumulative, edges, side="right").astype(np.int32)

    def __call__(self, number: Float[np.ndarray, " B"]) -> Int[np.ndarray, " B"]:
        bucket = (number * self.buckets).astype(np.int64)
        low = self.guess[bucket].astype(np.int64)
        high = self.guess[bucket + 1].astype(np.int64)
        while (low < high).any():
            middle = (low + high) >> 1
            beyond = (self.cumulative[np.minimum(middle, len(self.cumulative) - 1)] <= number) & (low < high)
            low, high = np.where(beyond, middle + 1, low), np.where(beyond, high, middle)
        return low


PURPOSES = ("slots", "epochs", "shards", "loads", "offsets")
"""What random numbers are for."""


def philox(key: tuple[int, int], counter: tuple[int, int, int, int], count: int) -> UInt64[np.ndarray, " N"]:
    """Random bits from a counter on: `np.random.Philox(key=key, counter=counter).random_raw(count)`, which takes 100 µs to make."""
    generator: Any = getattr(_OF_THREAD, "philox", None) or np.random.Philox(0)
    _OF_THREAD.philox = generator
    state = {"counter": np.array(counter, np.uint64), "key": np.array(key, np.uint64)}
    generator.state = {  # type: ignore[reportAttributeAccessIssue]
        "bit_generator": "Philox", "state": state, "buffer": _EMPTY, "buffer_pos": len(_EMPTY), "has_uint32": 0, "uinteger": 0,
    }  # fmt: skip
    return generator.random_raw(count)


_OF_THREAD = threading.local()
_EMPTY = np.zeros(4, np.uint64)


def to_unit(bits: UInt64[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """Numbers from 0 to below 1, all multiples of 2**-53 alike."""
    return (bits >> np.uint64(11)) * 2.0**-53


def slots_of(rank: int, world_size: int, batch_size: int) -> slice:
    """A rank's slots of the global batch."""
    if not 0 <= rank < world_size <= batch_size:
        raise MotionloomError(
            f"Rank {rank} of {world_size} in batches of {batch_size}: ranks count from 0, and each needs a window at least."
        )
    return slice(rank * batch_size // world_size, (rank + 1) * batch_size // world_size)


def exposure(sampler: Sampler, start: int, stop: int) -> Int[np.ndarray, " S"]:
    """How many windows of each segment the global batches `start` to `stop` − 1 hold: drawn once more, not remembered.

    Times `window` and by `frames`, it is how many epochs each segment was seen for.
    """
    count = np.zeros(len(sampler.frames), np.int64)
    everyone = slice(0, sampler.batch_size)
    for step in range(start, stop):
        np.add.at(count, sampler.draw(step, everyone).segment, 1)
    return count


def _floor(x: Float[np.ndarray, " B"]) -> Int[np.ndarray, " B"]:
    """Of u · n, with u below 1: below n, for all n below 2**52."""
    return x.astype(np.int64)


def _check_numbers(*, seed: int, rank: int, **counts: int) -> None:
    if wrong := [f"{name} {value}" for name, value in counts.items() if value < 1]:
        raise MotionloomError(f"{', '.join(wrong)}: should be at least 1.")
    if not 0 <= seed < 2**63:
        raise MotionloomError(f"seed {seed}: should be at least 0 and below 2**63.")
