"""What workers do for `loom dedup`: find the anchors of a shard; find the copies of the motions of a few shards.

Tasks are small dicts; anchors, the index and pairs go through files beside the corpus, each of which appears whole.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from corpus.catalog import Corpus
from corpus.durable import load_arrays, replace_file, save_arrays
from corpus.errors import MotionloomError
from hme.duplicates.anchor_index import Index, SearchOptions
from hme.duplicates.candidates import candidates
from hme.duplicates.find import DuplicateOptions, seconds, verify
from hme.duplicates.tables import COMMAND
from hme.duplicates.traces import STEP, Anchors, Basis, find_anchors, traces
from hme.features import Features

MOTIONS = 512
"""Segments whose traces are made at once."""
TRACES = 4096
"""Traces that a worker remembers: about 130 MB."""


def anchor_shard(task: dict[str, Any]) -> dict[str, Any]:
    """The anchors of one shard's kept segments, which are numbered from the shard's first."""
    start = time.process_time()
    corpus, basis = _opened(task["corpus"], task["cache"]), Basis.load(Path(task["basis"]))
    numbers = range(*task["segments"])
    parts = []
    for first in numbers[::MOTIONS]:
        some = range(first, min(first + MOTIONS, numbers.stop))
        found = find_anchors(traces([corpus.motion(number) for number in some]), basis)
        parts.append(Anchors(found.motion + (first - numbers.start), found.time_s, found.prints))
    save_anchors(Path(task["out"]), join_anchors(parts))
    return {"cpu_seconds": time.process_time() - start}


def find_pairs(task: dict[str, Any]) -> dict[str, Any]:
    """All verified pairs of the motions of a few shards with motions of higher numbers."""
    start = time.process_time()
    corpus, basis = _opened(task["corpus"], task["cache"]), Basis.load(Path(task["basis"]))
    options = read_options(task["options"])
    asked = join_anchors([load_anchors(Path(path), first) for path, first in task["anchors"]])
    index = Index.load(Path(task["index"]))
    proposed, lost = candidates(index, asked, basis.odd, lengths_s(corpus), options.search)
    pairs = verify(proposed, TraceCache(corpus), options)
    out = Path(task["out"])
    replace_file(out, pairs.write_parquet)
    spent = time.process_time() - start
    return {"candidate_count": len(proposed), "lost_count": lost, "cpu_seconds": spent}


class TraceCache:
    """Gives traces of a corpus's segments by number; those that were asked for last are remembered."""

    def __init__(self, corpus: Corpus):
        self.corpus = corpus
        self._remembered = functools.lru_cache(TRACES)(self._made)

    def __call__(self, number: int) -> Float[np.ndarray, "T C"]:
        return self._remembered(number)

    def _made(self, number: int) -> Float[np.ndarray, "T C"]:
        given: Features = traces([self.corpus.motion(number)])
        return given[0]


def lengths_s(corpus: Corpus) -> Float[np.ndarray, " S"]:
    """Of the segments' traces."""
    return seconds((corpus.frames - 1) // STEP + 1)


def first_segments(corpus: Corpus) -> Int[np.ndarray, " K+1"]:
    """The number of each shard's first kept segment; last, how many there are."""
    return np.searchsorted(corpus.shard_of, np.arange(len(corpus.shard_ids) + 1))


def save_anchors(path: Path, anchors: Anchors) -> None:
    """Fingerprints in half precision: far finer than the distances that count."""
    arrays = {"motion": anchors.motion.astype(np.int32), "time_s": anchors.time_s}
    save_arrays(path, {**arrays, "prints": anchors.prints.astype(np.float16)})


def load_anchors(path: Path, first: int) -> Anchors:
    """Of a shard whose first kept segment has this number."""
    try:
        arrays = load_arrays(path)
    except (OSError, ValueError, KeyError) as error:
        raise MotionloomError(f"{path} is damaged ({error!r}): delete it and run `{COMMAND}` again.") from None
    return Anchors(arrays["motion"].astype(np.int64) + first, arrays["time_s"], arrays["prints"].astype(np.float32))


def join_anchors(parts: Sequence[Anchors]) -> Anchors:
    return Anchors(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("motion", "time_s", "prints"))
    )


def read_options(told: dict[str, Any]) -> DuplicateOptions:
    """From what `dataclasses.asdict` gives."""
    return DuplicateOptions(**{**told, "search": SearchOptions(**told["search"])})


def read_parts(paths: Sequence[Path]) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(path) for path in paths])


@functools.lru_cache(maxsize=1)
def _opened(place: str, cache: str | None) -> Corpus:
    return Corpus.open(place, cache=Path(cache) if cache else None)
