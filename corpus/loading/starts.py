"""Where in its segment a window begins, by the weights of the segment's bins."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from corpus.errors import MotionloomError
from corpus.loading.sampling_plan import bin_count

SEGMENTS_AT_ONCE = 1 << 18
"""Whose bins are added up in one go: tens of millions of bins would take gigabytes in between."""


class Starts:
    """Gives the frame that a number from 0 to 1 stands for: bins take parts of that range by weight, and frames within a bin
    equal ones. A segment whose bins are all 0 is taken evenly.

    Bins in which no window can begin leave their weight to the last one in which one can.
    """

    def __init__(self, bins: Float[np.ndarray, " N"], bin_frames: int, frames: Int[np.ndarray, " S"], window: int):
        """`bins` are the weights, segment after segment; `frames` those of each segment."""
        count = bin_count(frames, bin_frames)
        if count.sum() != len(bins):
            raise MotionloomError(
                f"The plan has {len(bins)} bins; the segments have {count.sum()} of {bin_frames} frames: make it anew."
            )
        self.bin_frames, self.window = bin_frames, window
        self._first = np.cumsum(count) - count
        self._last = np.maximum(frames - window, 0) // bin_frames
        self._reach, self._is_even = _reaches(bins, count)

    def __call__(
        self, segment: Int[np.ndarray, " B"], number: Float[np.ndarray, " B"], room: Int[np.ndarray, " B"]
    ) -> Int[np.ndarray, " B"]:
        """Frames from 0 to `room`; the same number gives the same bin whatever the room, or the last frame before it."""
        first, last = self._first[segment], self._last[segment]
        place = self._bin(first, last, number)
        low = np.where(place > 0, self._reach[first + np.maximum(place - 1, 0)], 0.0)
        high = np.where(place < last, self._reach[first + place], 1.0)
        # Nowhere 0: a bin without weight is never found, but for the last one, which ends at 1.
        within = (number - low) / np.maximum(high - low, 1e-300)
        begin = np.minimum(place * self.bin_frames, room)
        end = np.where(place < last, np.minimum(begin + self.bin_frames, room + 1), room + 1)
        even = self._is_even[segment]
        begin, within = np.where(even, 0, begin), np.where(even, number, within)
        end = np.where(even, room + 1, end)
        return np.minimum(begin + (within * (end - begin)).astype(np.int64), end - 1)

    def _bin(
        self, first: Int[np.ndarray, " B"], last: Int[np.ndarray, " B"], number: Float[np.ndarray, " B"]
    ) -> Int[np.ndarray, " B"]:
        """The first of a segment's bins that reaches beyond the number, the last one if none before it does."""
        low, high = np.zeros_like(last), last
        while (low < high).any():
            middle = (low + high) >> 1
            beyond = (self._reach[first + middle] <= number) & (low < high)
            low, high = np.where(beyond, middle + 1, low), np.where(beyond, high, middle)
        return low


def starts_in_bins(frames: Int[np.ndarray, " S"], window: int, bin_frames: int) -> Int[np.ndarray, " N"]:
    """In how many frames of each bin a window can begin."""
    count = bin_count(frames, bin_frames)
    # int32: there may be tens of millions of bins.
    first = (np.cumsum(count) - count).astype(np.int32)
    begin = (np.arange(count.sum(), dtype=np.int32) - np.repeat(first, count)) * np.int32(bin_frames)
    return np.clip(np.repeat((frames - window + 1).astype(np.int32), count) - begin, 0, bin_frames)


def _reaches(bins: Float[np.ndarray, " N"], count: Int[np.ndarray, " S"]) -> tuple[Float[np.ndarray, " N"], np.ndarray]:
    """Up to which part of its segment's weight each bin reaches; and which segments have none."""
    reach, is_even, done = np.empty(len(bins), np.float32), np.zeros(len(count), bool), 0
    for start in range(0, len(count), SEGMENTS_AT_ONCE):
        some = count[start : start + SEGMENTS_AT_ONCE]
        ends = np.cumsum(some)
        mine = slice(done, done := done + int(ends[-1]))
        weight = np.add.reduceat(bins[mine], ends - some, dtype=np.float64)
        is_even[start : start + len(some)] = weight <= 0
        # Every segment adds 1: small weights are not lost beside another segment's large ones.
        total = np.append(0.0, np.cumsum(bins[mine] / np.repeat(np.where(weight > 0, weight, 1.0), some)))
        before, whole = total[ends - some], np.where(weight > 0, total[ends] - total[ends - some], 1.0)
        reach[mine] = (total[1:] - np.repeat(before, some)) / np.repeat(whole, some)
    return reach, is_even
