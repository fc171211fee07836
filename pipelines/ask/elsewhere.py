"""What another corpus has that this one lacks, and the other way round; what a batch would add before it is added."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from corpus.errors import MotionloomError
from corpus.motion import RobotMotion
from hme.coverage import coverage as share_covered
from hme.coverage import novelty as new_to
from hme.diversity import DiversityOptions, Figure
from pipelines.ask.alike import embedded, motions_of
from pipelines.ask.answer import Answer, part
from pipelines.ask.asked import Asked

SAMPLE = 1_000
"""Vectors of each side that coverage compares; it draws them anew from four times as many."""
KNOWN_SAMPLE, NEW_SAMPLE = 4_000, 2_000
"""Vectors of the corpus that new ones are compared with, and of the new ones."""
QUICK = DiversityOptions(sample=2_000, replicates=10)
"""For an answer within a second; `loom diversity` takes its time."""
LISTED = 20


def coverage(asked: Asked, *, against: Path | str) -> Answer:
    """How much of each of two corpora the other covers."""
    other = asked.beside(against, comparable=True)
    ours, theirs = (_sample(one, 4 * SAMPLE) for one in (asked, other))
    both = (
        (asked, other, share_covered(ours, theirs, sample=SAMPLE, options=QUICK)),
        (other, asked, share_covered(theirs, ours, sample=SAMPLE, options=QUICK)),
    )
    rows = [
        {
            "covered": str(of.corpus.path), "by": str(by.corpus.path), **_figure("share", found.share), **_figure("own", found.own),
            "radius": found.radius, "sample": found.sample,
        }
        for of, by, found in both
    ]  # fmt: skip
    shares = [f"{part(row['share'])} of {row['covered']} (by itself {part(row['own'])})" for row in rows]
    notes = ("covered: a segment of the other lies within the median distance to the fifth nearest of its own corpus",)
    return Answer(f"Each by the other, {' and '.join(shares)} are covered.", pl.DataFrame(rows), notes)


def novelty(asked: Asked, *, against: Path | str | None = None, file: Path | None = None) -> Answer:
    """How new another corpus, a file or a folder of files would be to this one."""
    if (against is None) == (file is None):
        raise MotionloomError(
            "What would be new? Name either another corpus (against) or a file or folder of motion (file)."
        )
    notes: list[str] = []
    if file is not None:
        names, vectors = _from_files(asked, Path(file), notes)
    else:
        assert against is not None
        names, vectors = _from_corpus(asked.beside(against, comparable=True))
    found = new_to(vectors, _sample(asked, KNOWN_SAMPLE), options=QUICK)
    worst = np.argsort(-np.nan_to_num(found.ratio), kind="stable")[:LISTED]
    table = names(worst).with_columns(ratio=pl.Series(found.ratio[worst]))
    line = (
        f"Of {len(vectors):,} segments of {file or against}, {part(found.beyond)} lie farther from the corpus than its own segments "
        f"usually lie from each other, {part(found.far)} farther than 95 % of those do."
    )
    measured = {"beyond": found.beyond, "far": found.far, "typical_distance": found.typical}
    if found.covered is not None:
        measured |= _figure("covered_already", found.covered.share)
    notes.append(
        f"by samples of {len(vectors):,} new segments and at most {KNOWN_SAMPLE:,} of the corpus; ratio: of the usual distance"
    )
    return Answer(line, table, tuple(notes), {"measures": pl.DataFrame([measured])})


Names = Callable[[Int[np.ndarray, " n"]], pl.DataFrame]
"""Tells whose some of the new vectors are."""


def _from_corpus(other: Asked) -> tuple[Names, Float[np.ndarray, "n D"]]:
    numbers = _numbers(other, NEW_SAMPLE)
    return lambda rows: other.places(numbers[rows]), other.vectors.take("vector", numbers)


def _from_files(asked: Asked, path: Path, notes: list[str]) -> tuple[Names, Float[np.ndarray, "n D"]]:
    """Of what the files hold; those that cannot be read are named in the notes."""
    files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
    found: list[tuple[str, RobotMotion]] = []
    for file in files:
        try:
            found += motions_of(asked, file)
        except MotionloomError as error:
            if file == path:
                raise
            notes.append(f"left out: {error}")
    if not found:
        raise MotionloomError(f"{path} holds no motion that can be read.")
    names = pl.DataFrame({"segment": [name for name, _ in found]})
    return lambda rows: names[rows], embedded(asked, [motion for _, motion in found])


def _sample(asked: Asked, count: int) -> Float[np.ndarray, "n D"]:
    return asked.vectors.take("vector", _numbers(asked, count))


def _numbers(asked: Asked, count: int) -> np.ndarray:
    """Of so many kept segments in scope, the same at any time."""
    numbers = np.arange(len(asked.vectors)) if asked.in_scope is None else np.flatnonzero(asked.in_scope)
    return numbers if len(numbers) <= count else np.sort(np.random.default_rng(0).choice(numbers, count, replace=False))


def _figure(name: str, figure: Figure) -> dict[str, float]:
    return {name: figure.value, f"{name}_low": figure.low, f"{name}_high": figure.high}
