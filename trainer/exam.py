"""What policies are judged on: motions, what is known of each, and where in them robots are put."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Int

from corpus.catalog import Corpus
from corpus.errors import MotionloomError
from corpus.motion import CORPUS_FPS, RobotMotion

COLUMNS = {
    "segment": pl.String,
    "source": pl.String,
    "label": pl.String,
    "recording": pl.String,
    "cluster": pl.Int64,
    "frames": pl.Int64,
}
LEAST_FRAMES = 100
"""A random start leaves two seconds to follow, or the segment from its first frame where it is shorter: a robot that does nothing takes
most of a second to fall, and would pass for one that follows to the end."""


@dataclass(frozen=True)
class Exam:
    """Motions by number, and a row of facts for each."""

    motion: Callable[[int], RobotMotion]
    """At 50 Hz."""
    about: pl.DataFrame
    """Columns as in `COLUMNS`; `segment` is a unique name, what is not known is null."""


@dataclass(frozen=True)
class Starts:
    """Where robots are put, a number each."""

    motion: Int[np.ndarray, " N"]
    """Number of the motion in the exam."""
    frame: Int[np.ndarray, " N"]
    """At which of its frames."""
    frames: Int[np.ndarray, " N"]
    """How many frames after that are to be followed."""

    def __len__(self) -> int:
        return len(self.motion)


def exam_of_motions(motions: Sequence[RobotMotion], facts: pl.DataFrame | None = None) -> Exam:
    """Of motions at hand; `facts` may have any of the columns, a row per motion."""
    if not motions or any(motion.fps != CORPUS_FPS for motion in motions):
        raise MotionloomError(f"Motions to be judged on should be one or more, at {CORPUS_FPS:g} Hz each.")
    known = pl.DataFrame({"segment": [f"motion{i}" for i in range(len(motions))]}) if facts is None else facts
    return Exam(motions.__getitem__, _about(known, np.array([motion.frame_count for motion in motions])))


def exam_of_corpus(
    corpus: Corpus,
    *,
    segments: Int[np.ndarray, " S"] | None = None,
    cluster: Int[np.ndarray, " K"] | None = None,
) -> Exam:
    """Of kept segments by number (all, where none are named); `cluster` tells each kept segment's of the corpus."""
    chosen = np.arange(len(corpus.frames)) if segments is None else np.asarray(segments)
    columns = [corpus.kept["segment"], *(corpus.of_clips(name) for name in ("source", "label", "recording"))]
    if cluster is not None:
        if len(cluster) != len(corpus.frames):
            raise MotionloomError(
                f"{len(cluster)} clusters for {len(corpus.frames)} kept segments: should be one for each."
            )
        columns.append(pl.Series("cluster", cluster))
    return Exam(lambda i: corpus.motion(int(chosen[i])), _about(pl.DataFrame(columns)[chosen], corpus.frames[chosen]))


def starts_of(exam: Exam, *, count: int | None, seconds: float | None, seed: int) -> Starts:
    """Each motion from its first frame, or from `count` random frames; to its end, or for at most so many seconds.

    Where a motion's random starts lie depends on its name and the seed, not on what else is in the exam.
    """
    motion, frame, left = [], [], []
    for i, (name, frames) in enumerate(exam.about.select("segment", "frames").iter_rows()):
        begin = np.zeros(1, int)
        if count is not None:
            rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
            begin = rng.integers(0, max(frames - LEAST_FRAMES, 1), count)
        motion += [i] * len(begin)
        frame += list(begin)
        left += list(frames - 1 - begin)
    most = np.iinfo(int).max if seconds is None else int(seconds * CORPUS_FPS)
    return Starts(np.array(motion, int), np.array(frame, int), np.minimum(np.array(left, int), most))


def _about(known: pl.DataFrame, frames: Int[np.ndarray, " S"]) -> pl.DataFrame:
    if len(known) != len(frames) or "segment" not in known.columns or known["segment"].n_unique() != len(frames):
        raise MotionloomError(
            f"{len(known)} rows of facts for {len(frames)} motions: should be one each, `segment` a unique name."
        )
    if frames.min() < 2:
        raise MotionloomError(f"{known['segment'][int(frames.argmin())]} has one frame: there is nothing to follow.")
    given = known.with_columns(pl.Series("frames", frames))
    return given.select(
        (pl.col(name) if name in given.columns else pl.lit(None)).cast(kind).alias(name)
        for name, kind in COLUMNS.items()
    )
