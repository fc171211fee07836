"""More like this: the segments nearest to those of a clip, or of a file of motion."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int

from corpus.errors import MotionloomError
from corpus.motion import RobotMotion
from hme.fold import DIGITS, KEY
from hme.folded import Folded
from hme.space import Space
from pipelines.ask.answer import Answer
from pipelines.ask.asked import Asked

MOST_QUERIES = 32
"""Segments of one clip or file that are looked up."""
SPARE = 8
"""More candidates than asked for: their distances are worked out anew in double precision."""


def like(asked: Asked, *, clip: str | None = None, file: Path | None = None, count: int = 10) -> Answer:
    """The `count` segments nearest to each segment of a clip (by key, path or segment's name) or of a file, which is retargeted,
    cut and embedded as the corpus was."""
    if (clip is None) == (file is None):
        raise MotionloomError("Like what? Name either a clip or a file.")
    if count < 1:
        raise MotionloomError(f"{count} segments? Name a number of at least 1.")
    if clip is not None:
        own = segments_of(asked, clip)
        names, queries = asked.places(own)["segment"].to_list(), asked.vectors.take("vector", own)
    else:
        assert file is not None
        own, parts = np.zeros(0, np.int64), motions_of(asked, Path(file))
        names, queries = [name for name, _ in parts], embedded(asked, [motion for _, motion in parts])
    some = slice(MOST_QUERIES)
    found, distance = nearest_segments(asked.vectors, queries[some], count, allowed=asked.in_scope, without=own)
    table = asked.places(found.reshape(-1))
    table.insert_column(0, pl.Series("like", np.repeat(names[some], found.shape[1]), pl.String))
    table.insert_column(1, pl.Series("distance", distance.reshape(-1)))
    notes = (f"of its {len(names)} segments the first {MOST_QUERIES} were looked up",) * (len(names) > MOST_QUERIES)
    if not len(table):
        return Answer(f"The corpus holds nothing else than {clip or file}.", table, notes)
    best = table.row(int(np.argmin(table["distance"].to_numpy())), named=True)
    label = f", “{best['label']}”" if best["label"] else ""
    line = f"Nearest to {clip or file} is {best['segment']} ({best['source']}{label}) at a distance of {best['distance']:.3f}."
    return Answer(line, table, notes)


def segments_of(asked: Asked, name: str) -> Int[np.ndarray, " n"]:
    """Numbers of a clip's kept segments, or of the one segment of this name."""
    named = re.fullmatch(f"([0-9a-f]{{{DIGITS}}})([0-9a-f]{{16}}|-[0-9]{{6,}})?", name)
    keeps = asked.keeps
    key, start = (int(named[1], 16), named[2] or "") if named else (_key_by_path(asked, name), "")
    numbers = np.flatnonzero(keeps.column("key") == np.uint64(key))
    if start.startswith("-"):
        numbers = numbers[keeps.take("start", numbers) == int(start[1:])]
    if not len(numbers):
        raise MotionloomError(f"Of {name!r} no segment was kept.")
    return numbers


def motions_of(asked: Asked, path: Path) -> list[tuple[str, RobotMotion]]:
    """The motion in a file, piece by piece, as a build by the corpus's recipe would cut it; also what its gate would reject."""
    from corpus.sources.options import LoadOptions
    from pipelines.clips import finish
    from pipelines.one_file import read_file, why
    from pipelines.recipe import Recipe

    recipe = Recipe.from_json(json.dumps(asked.corpus.recipe))
    load = LoadOptions(quaternion=recipe.load.quaternion, fps=recipe.load.fps)
    (done,) = finish([read_file(path, load)], recipe)
    if done.motion is None:
        raise MotionloomError(f"{path}: {why(done.row)}")
    if not done.segments:
        raise MotionloomError(f"{path}: nothing is left of its {done.row['frames']} frames once it is cut.")
    found = []
    for segment in done.segments:
        start, stop = segment["start"], segment["start"] + segment["frames"]
        name = f"{path.name} {start / recipe.fps:.1f}–{stop / recipe.fps:.1f} s" + (
            " (rejected)" if segment["reason"] else ""
        )
        found.append((name, done.motion.slice(start, stop)))
    return found


def embedded(asked: Asked, motions: list[RobotMotion]) -> Float[np.ndarray, "n D"]:
    """Vectors by the corpus's embedder."""
    return Space(asked.corpus, asked.hme_id).embedder.embed(motions).vectors


def nearest_segments(
    vectors: Folded, queries: Float[np.ndarray, "n D"], count: int, *,
    allowed: Bool[np.ndarray, " S"] | None = None, without: Int[np.ndarray, " w"] = np.zeros(0, np.int64),
) -> tuple[Int[np.ndarray, "n c"], Float[np.ndarray, "n c"]]:  # fmt: skip
    """Numbers and distances of the nearest to each query, in one pass over all vectors; of those allowed, without some."""
    number, score = [np.zeros((len(queries), 0), np.int64)], [np.zeros((len(queries), 0), np.float32)]
    start = 0
    for part, square in zip(vectors.parts("vector"), vectors.parts("square"), strict=True):
        apart = square - 2 * (queries @ part.T)
        if allowed is not None:
            apart[:, ~allowed[start : start + len(part)]] = np.inf
        apart[:, without[(without >= start) & (without < start + len(part))] - start] = np.inf
        few = min(count + SPARE, len(part))
        best = np.argpartition(apart, few - 1, axis=1)[:, :few]
        number.append(best + start)
        score.append(np.take_along_axis(apart, best, 1))
        start += len(part)
    return _exact(vectors, queries, np.concatenate(number, 1), np.concatenate(score, 1), count)


def _exact(
    vectors: Folded, queries: Float[np.ndarray, "n D"], number: Int[np.ndarray, "n m"], score: Float[np.ndarray, "n m"], count: int
) -> tuple[Int[np.ndarray, "n c"], Float[np.ndarray, "n c"]]:  # fmt: skip
    """The best of the candidates by their true distances: a difference of large squares tells near ones apart badly."""
    few = min(count + SPARE, int(np.isfinite(score).sum(1).min(initial=number.shape[1])))
    first = np.argsort(score, axis=1, kind="stable")[:, :few]
    number = np.take_along_axis(number, first, 1)
    rows = vectors.take("vector", number.reshape(-1)).reshape(*number.shape, queries.shape[1]).astype(np.float64)
    distance = np.linalg.norm(rows - queries[:, None].astype(np.float64), axis=2)
    order = np.lexsort((number, distance), axis=1)[:, :count]
    return np.take_along_axis(number, order, 1), np.take_along_axis(distance, order, 1)


def _key_by_path(asked: Asked, path: str) -> int:
    same = asked.corpus.clips.filter((pl.col("path") == path) & (pl.col("frames") > 0)).select(KEY).collect()["key"]
    if len(same) > 1:
        raise MotionloomError(f"{len(same)} clips have the path {path!r}: name the key of one.")
    if not len(same):
        raise MotionloomError(f"No clip {path!r}: expected a clip's key or path, or a segment's name.")
    return int(same[0])
