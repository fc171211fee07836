"""Near-duplicates: motions of which one lies over the other, wherever it begins, at whatever tempo, in the mirror or in part.

    pairs = find(motions)           # a row for each pair that was verified

What is kept of them is told by `hme.duplicates.keepers`.

Anchors propose pairs (`hme.duplicates.candidates`), aligned motion decides (`hme.duplicates.alignment`): no pair is believed for its fingerprints. Copies
differ by noise and by resampling, which a low-pass at 4 Hz takes away; a movement made twice differs slowly, which it leaves. So
the limit can lie well below what repeated takes come to. A motion that stands still is no copy of another that does: it has no
anchors, and distances count as a share of how far a motion strays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from corpus.errors import MotionloomError
from corpus.motion import RobotMotion
from hme.duplicates.alignment import HOPELESS, Alignment, Guess, align
from hme.duplicates.anchor_index import SearchOptions, build_index
from hme.duplicates.candidates import candidates
from hme.duplicates.traces import TRACE_FPS, find_anchors, fit_basis, mirrored, traces

KINDS = ("exact", "noisy", "retimed", "mirrored", "chunk", "overlap")
WHOLE = 0.9
"""Share of both motions from which one is a copy of the other and not a chunk of it."""
RETIMED = 0.02
"""Tempi that differ by this share or less may be the same, told inexactly."""
EXACT = 1e-3
"""No further apart than rounding and resampling leave copies [rad]."""
PAIRS = {
    "a": pl.Int64, "b": pl.Int64, "kind": pl.String, "mirrored": pl.Boolean, "tempo": pl.Float64, "shift_s": pl.Float64,
    "start_a": pl.Float64, "stop_a": pl.Float64, "start_b": pl.Float64, "stop_b": pl.Float64,
    "share_a": pl.Float64, "share_b": pl.Float64,
    "distance": pl.Float64, "root_distance": pl.Float64, "worst_distance": pl.Float64, "spread": pl.Float64,
}  # fmt: skip
"""Columns of a table of pairs: motion `a` < `b` by number; `shift_s`, `tempo` and distances as in `hme.duplicates.alignment`; what they share,
in seconds of each and as a share of each."""


@dataclass(frozen=True)
class DuplicateOptions:
    threshold: float = 0.012
    """Distance of low-passed joints up to which motions are one [rad]. Copies with 0.01 rad of noise come to 0.004, chunks that
    were retargeted on their own mostly to 0.01, takes of one short gesture to no less than 0.019."""
    stretch: float = 0.06
    """This share of how far the joints stray is allowed besides (by squares): quick movements are told less exactly at another tempo."""
    least_motion: float = 3.0
    """The joints stray so many times further than they are apart; else there is too little to tell motions by."""
    least_overlap_s: float = 1.5
    """What two motions share is at least so long, where neither is covered by the other [s]."""
    overlap: float = 0.8
    """Share of a motion that others must cover for it to be left out; less is an overlap, which only splits heed."""
    search: SearchOptions = SearchOptions()

    def __post_init__(self) -> None:
        if not (0 < self.threshold <= HOPELESS / 2 and 0 < self.overlap <= 1):
            raise MotionloomError(
                f"threshold {self.threshold:g}, overlap {self.overlap:g}: should lie in (0, {HOPELESS / 2:g}], (0, 1]."
            )

    def limit(self, spread: float) -> float:
        """How far apart copies may be that stray so far [rad]."""
        return min(float(np.hypot(self.threshold, self.stretch * spread)), spread / self.least_motion)


Trace = Callable[[int], Float[np.ndarray, "T C"]]
"""Gives a motion's trace by its number."""


def find(motions: Sequence[RobotMotion], options: DuplicateOptions = DuplicateOptions()) -> pl.DataFrame:
    """All verified pairs among motions that memory holds: a table of `PAIRS`."""
    given = traces(motions)
    basis = fit_basis(motions)
    anchors = find_anchors(given, basis)
    lengths = seconds(np.diff(given.starts))
    proposed, _ = candidates(build_index(anchors, options.search), anchors, basis.odd, lengths, options.search)
    return verify(proposed, given.__getitem__, options)


def seconds(samples: Int[np.ndarray, " S"]) -> Float[np.ndarray, " S"]:
    """Between the first and last of so many samples of a trace."""
    return (samples - 1) / TRACE_FPS


def verify(proposed: pl.DataFrame, trace: Trace, options: DuplicateOptions = DuplicateOptions()) -> pl.DataFrame:
    """Those candidates that are copies once they are aligned, each in the mirror or not, as they are nearer."""
    rows = []
    for one in proposed.iter_rows(named=True):
        a, b = trace(one["a"]), trace(one["b"])
        found = align(a, mirrored(b) if one["mirrored"] else b, Guess(one["time_s"], one["other_s"], one["tempo"]))
        if found is not None and is_copy(found, options):
            rows.append(_row(one, found, seconds(np.array([len(a), len(b)])), options))
    pairs = pl.DataFrame(rows, PAIRS, orient="row")
    shared = pl.min_horizontal(pl.col("stop_a") - pl.col("start_a"), pl.col("stop_b") - pl.col("start_b"))
    pairs = pairs.filter((pl.col("kind") != "overlap") | (shared >= options.least_overlap_s))
    return pairs.sort("a", "b", "distance", "mirrored").unique(["a", "b"], keep="first", maintain_order=True)


def is_copy(found: Alignment, options: DuplicateOptions) -> bool:
    limit = options.limit(found.spread)
    return (
        found.joint_distance <= limit and found.worst_distance <= 2 * limit and found.root_distance <= options.threshold
    )


def _row(one: dict, found: Alignment, length_s: Float[np.ndarray, " 2"], options: DuplicateOptions) -> tuple:
    other = [found.shift_s + found.tempo * time for time in (found.start_s, found.stop_s)]
    share_a, share_b = found.overlap_s / length_s[0], (other[1] - other[0]) / length_s[1]
    return (
        one["a"], one["b"], kind_of(found, one["mirrored"], share_a, share_b, options.overlap),
        one["mirrored"], found.tempo, found.shift_s, found.start_s, found.stop_s, *other, share_a, share_b,
        found.joint_distance, found.root_distance, found.worst_distance, found.spread,
    )  # fmt: skip


def kind_of(found: Alignment, mirror: bool, share_a: float, share_b: float, overlap: float) -> str:
    """What most sets the two apart."""
    if max(share_a, share_b) < overlap:
        return "overlap"
    if min(share_a, share_b) < WHOLE:
        return "chunk"
    if mirror:
        return "mirrored"
    if abs(found.tempo - 1) > RETIMED:
        return "retimed"
    return "exact" if max(found.joint_distance, found.root_distance) < EXACT else "noisy"
