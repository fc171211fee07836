"""Failure-adaptive plans: where a tracker fails, windows begin more often.

Segments are cut into bins of a second. A tracker tells which bins it tried and where it failed; both counts fade from round to
round, so that what it has learned since is forgotten. A bin's failure rate, spread to the bins before it and capped, is how
often windows begin there, beside a share that falls on all windows alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from corpus.durable import load_arrays, save_arrays
from corpus.errors import MotionloomError
from corpus.loading.sampling_plan import Plan, bin_count, hash_of
from corpus.loading.starts import starts_in_bins


@dataclass(frozen=True)
class AdaptiveOptions:
    """How counts become a plan."""

    uniform: float = 0.1
    """Share of the windows that is drawn as if nothing had failed; 1 ignores failures."""
    cap: float = 200.0
    """A bin's rate counts as at most so many times the mean rate; lower, single hard bins draw less."""
    prior: float = 1.0
    """Failed attempts that every bin is taken to have had before the first; more, and what was hardly tried is tried more."""
    kernel: int = 1
    """Bins over which a failure is spread: its own and those before it, since what goes wrong begins earlier."""
    kernel_decay: float = 0.8
    """Of the kernel, per bin."""


PRESETS = {
    "sonic": AdaptiveOptions(),
    "sonic_paper": AdaptiveOptions(uniform=0.9),
    "beyondmimic": AdaptiveOptions(cap=np.inf, prior=0.0, kernel=5),
}
"""`sonic`: its public code (bins of 50 frames, a failed attempt to begin with, rates capped at 200 times the mean, 0.1 uniform);
`sonic_paper`: 0.9 uniform, as arXiv 2511.07820 prints it. `beyondmimic` (arXiv 2508.08241): kernel with decay 0.8 over the
following bins, 0.1 uniform, no cap; it counts failures where we take rates, and its code leaves the kernel at 1 bin, where ours is
5 so that it does something."""


FORGOTTEN = 1e-6
"""Attempts that are worth less count as none."""


class AdaptiveBins:
    """What a tracker tried and where it failed, bin by bin."""

    def __init__(
        self,
        frames: Int[np.ndarray, " S"],
        *,
        window: int = 1,
        bin_frames: int = 50,
        half_life: float = 20.0,
    ):
        """`frames` are those of each segment; windows of `window` frames begin in bins of `bin_frames`. After `half_life`
        rounds a count is worth half."""
        if window < 1 or bin_frames < 1 or not half_life > 0:
            raise MotionloomError(
                f"window {window}, bin_frames {bin_frames}, half_life {half_life}: should be at least 1, 1 and above 0."
            )
        self.frames, self.window, self.bin_frames, self.half_life = np.asarray(frames), window, bin_frames, half_life
        self.count = bin_count(self.frames, bin_frames)
        self.first = np.cumsum(self.count) - self.count
        self._last = np.maximum(self.frames - window, 0) // bin_frames
        self.attempts = np.zeros(int(self.count.sum()), np.float32)
        self.failures = np.zeros_like(self.attempts)
        self.rounds = 0

    def update(
        self,
        segment: Int[np.ndarray, " A"],
        frame: Int[np.ndarray, " A"],
        failed: Bool[np.ndarray, " A"],
        *,
        start: Int[np.ndarray, " A"] | None = None,
    ) -> None:
        """Count a round of attempts: each ended at a frame of a segment, by a failure or not.

        With `start`, the frame where each began, every bin on the way was tried; without it only the last one. What ends
        beyond the last bin in which a window can begin counts for that bin.
        """
        segment, frame, failed = np.atleast_1d(segment), np.atleast_1d(frame), np.atleast_1d(failed)
        begin = frame if start is None else np.atleast_1d(start)
        self._check(segment, frame, begin)
        first, last = (self.first[segment] + self._place(segment, at) for at in (begin, frame))
        tried = last - first + 1
        each = np.repeat(first - np.cumsum(tried) + tried, tried) + np.arange(tried.sum())
        keep = np.float32(0.5 ** (1 / self.half_life))
        self.attempts *= keep
        self.failures *= keep
        # Long before numbers so small that they are slow and no longer exact.
        forgotten = self.attempts < FORGOTTEN
        self.attempts[forgotten] = self.failures[forgotten] = 0
        np.add.at(self.attempts, each, np.float32(1))
        np.add.at(self.failures, last[failed.astype(bool)], np.float32(1))
        self.rounds += 1

    def rate(self, options: AdaptiveOptions = PRESETS["sonic"]) -> Float[np.ndarray, " N"]:
        """Failure rate of each bin, spread over those before it, not capped yet."""
        tried = self.attempts + np.float32(options.prior)
        rate = (self.failures + np.float32(options.prior)) / np.where(tried > 0, tried, np.float32(1))
        if options.kernel <= 1:
            return rate
        owner = np.repeat(np.arange(len(self.count), dtype=np.int32), self.count)
        total, weight = rate.copy(), np.ones_like(rate)
        for ahead in range(1, options.kernel):
            factor = np.float32(options.kernel_decay**ahead) * (owner[ahead:] == owner[:-ahead])
            total[:-ahead] += factor * rate[ahead:]
            weight[:-ahead] += factor
        return total / weight

    def plan(self, options: AdaptiveOptions = PRESETS["sonic"], mask: Bool[np.ndarray, " S"] | None = None) -> Plan:
        """A plan with bins: (1 − uniform) by capped failure rate and `uniform` by windows. `mask`: which segments are drawn."""
        if not 0 <= options.uniform <= 1 or not options.cap > 0:
            raise MotionloomError(f"uniform {options.uniform}, cap {options.cap}: should be from 0 to 1, and above 0.")
        starts = starts_in_bins(self.frames, self.window, self.bin_frames).astype(np.float32)
        if mask is not None:
            starts *= np.repeat(mask, self.count)
        total = starts.sum(dtype=np.float64)
        if not total > 0:
            raise MotionloomError(f"No segment that may be drawn has {self.window} frames.")
        failing = starts * _capped(self.rate(options), starts, options.cap)
        missed = failing.sum(dtype=np.float64)
        by_failure = failing / missed if missed > 0 else starts / total
        bins = (1 - options.uniform) * by_failure + options.uniform * starts / total
        weights = np.add.reduceat(bins, self.first, dtype=np.float64)
        # Bins have proportions only; about 1 each, they are far from where float32 ends.
        return Plan(weights, bins * len(bins), self.bin_frames)

    def state_dict(self) -> dict[str, Any]:
        """All that `load_state_dict` needs to go on."""
        return {
            "attempts": self.attempts.copy(),
            "failures": self.failures.copy(),
            "rounds": self.rounds,
            **self._settings(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from that state; raises `MotionloomError` where it is of other segments or bins."""
        for name, mine in self._settings().items():
            if state.get(name) != mine:
                raise MotionloomError(f"The feedback has {name} {state.get(name)}, these segments {mine}.")
        counts = [np.asarray(state[name], np.float32) for name in ("attempts", "failures")]
        if any(part.shape != self.attempts.shape for part in counts):
            raise MotionloomError(f"The feedback has {len(counts[0])} bins, these segments {len(self.attempts)}.")
        self.attempts, self.failures = (part.copy() for part in counts)
        self.rounds = int(state["rounds"])

    def save(self, path: Path) -> None:
        """Write the state; it appears whole or not at all."""
        save_arrays(path, {name: np.asarray(value) for name, value in self.state_dict().items()})

    @classmethod
    def load(cls, path: Path, frames: Int[np.ndarray, " S"]) -> AdaptiveBins:
        """Feedback on these segments from a file."""
        try:
            arrays = load_arrays(path)
            state: dict[str, Any] = {name: array if array.ndim else array.item() for name, array in arrays.items()}
            bins = cls(frames, **{name: state[name] for name in ("window", "bin_frames", "half_life")})
            bins.load_state_dict(state)
        except (OSError, ValueError, KeyError) as error:
            raise MotionloomError(f"{path} is no feedback of a tracker, or damaged ({error!r}).") from None
        return bins

    def _settings(self) -> dict[str, Any]:
        return {
            "window": self.window,
            "bin_frames": self.bin_frames,
            "half_life": self.half_life,
            "segments": hash_of(self.frames.astype(np.int64)),
        }

    def _place(self, segment: Int[np.ndarray, " A"], frame: Int[np.ndarray, " A"]) -> Int[np.ndarray, " A"]:
        return np.minimum(frame // self.bin_frames, self._last[segment])

    def _check(self, segment: np.ndarray, frame: np.ndarray, begin: np.ndarray) -> None:
        inside = (segment >= 0) & (segment < len(self.frames))
        if not inside.all() or not ((begin >= 0) & (begin <= frame) & (frame < self.frames[segment])).all():
            raise MotionloomError("Attempts should begin and end, in this order, at frames of a segment.")


def _capped(rate: Float[np.ndarray, " N"], starts: Float[np.ndarray, " N"], cap: float) -> Float[np.ndarray, " N"]:
    """No rate above `cap` times the mean over windows."""
    mean = np.average(rate, weights=starts)
    return np.minimum(rate, np.float32(cap * mean)) if mean > 0 else rate
