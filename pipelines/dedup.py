"""Find the near-duplicates of a corpus: anchors shard by shard, an index of all of them, copies a few shards at a time, a verdict.

What exists is whole; a rerun does what is missing. A shard's anchors are found once; where a corpus has grown, the search among
all anchors is done again, which is the lesser part.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Int

from corpus.catalog import Corpus
from corpus.errors import MotionloomError
from corpus.remote.bucket import is_url
from hme.duplicates.anchor_index import Index, find_centres, lay_out, nearest_cells
from hme.duplicates.find import PAIRS, DuplicateOptions, verify
from hme.duplicates.keepers import judge, unfinished
from hme.duplicates.tables import made_by, work_folder, write_duplicates
from hme.duplicates.traces import Basis, Motionless, fit_basis
from pipelines import executor
from pipelines.cluster import Cluster, default_workers
from pipelines.dedup_tasks import (
    TraceCache,
    anchor_shard,
    find_pairs,
    first_segments,
    lengths_s,
    load_anchors,
    read_parts,
)  # fmt: skip
from pipelines.place import locked

log = logging.getLogger(__name__)

SAMPLE = 5000
"""Segments that fingerprints' principal components are found on."""
TASK_ANCHORS = 50_000
"""Anchors that a task searches for at once: more make better use of each cell that is read, and take more memory."""
ROUNDS = 3
"""Times that copies of copies are compared with what is kept."""


@dataclass(frozen=True)
class Deduplicated:
    """What a run found, or found done."""

    corpus: Corpus
    done_now: bool
    missing_count: int = 0
    """Tasks that failed; where there are any, nothing was decided."""
    failures: tuple[executor.Failure, ...] = ()
    seconds: float = 0.0
    anchor_count: int = 0
    candidate_count: int = 0
    lost_count: int = 0
    """Candidates beyond the most that are aligned for each motion."""
    cpu_seconds: float = 0.0
    """Processor time of the tasks."""

    @property
    def complete(self) -> bool:
        return not self.missing_count


def dedup(
    place: Path | str,
    options: DuplicateOptions = DuplicateOptions(),
    *,
    cluster: Cluster = Cluster(),
    cache: Path | None = None,
) -> Deduplicated:
    """Write which kept segments are copies of which (`hme.duplicates.tables`), unless it is written already."""
    start = time.monotonic()
    if is_url(place) and cluster.scheduler not in ("local", "inline"):
        raise MotionloomError("A corpus on object storage is compared in this machine's cache: use its own workers.")
    corpus = Corpus.open(place, cache=cache)
    if not len(corpus.frames):
        raise MotionloomError(f"{corpus.path} keeps no segment: there is nothing to compare.")
    with locked(work_folder(corpus)):
        basis = _basis(corpus)
        known_by = basis.id if basis else "nothing moves"
        told = json.dumps([corpus.stamp.decode(), known_by, dataclasses.asdict(options)], sort_keys=True)
        run_id = hashlib.blake2b(told.encode(), digest_size=8).hexdigest()
        if made_by(corpus) == run_id:
            return Deduplicated(corpus, done_now=False)
        if basis is None:
            log.warning("%s: nothing in it moves, so nothing can be told to be a copy", corpus.path)
            write_duplicates(corpus, *finish(pl.DataFrame(schema=PAIRS), corpus, options), run_id)
            return Deduplicated(corpus, done_now=True)
        stages = _Stages(corpus, _common(corpus, place, cache), cluster)
        anchors = stages.anchors(work_folder(corpus) / basis.id)
        work = work_folder(corpus) / f"work-{run_id}"
        pairs = None if stages.missing_count else stages.pairs(anchors, options, work)
        if pairs is not None:
            write_duplicates(corpus, *finish(pairs, corpus, options), run_id)
            for leftover in work_folder(corpus).glob("work-*"):
                shutil.rmtree(leftover)
    spent = time.monotonic() - start
    return Deduplicated(corpus, pairs is not None, stages.missing_count, stages.failures, spent, **stages.sums)


def _common(corpus: Corpus, place: Path | str, cache: Path | None) -> dict[str, Any]:
    """What every task is told."""
    where = str(place) if is_url(place) else str(corpus.path.resolve())
    return {"corpus": where, "cache": str(cache) if cache else None, "basis": str(_basis_path(corpus).resolve())}


def finish(pairs: pl.DataFrame, corpus: Corpus, options: DuplicateOptions) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The verdict, and the pairs with those found by way of a third."""
    lengths, rank, trace = lengths_s(corpus), rank_of(corpus), TraceCache(corpus)
    verdict = judge(pairs, lengths, rank, options.overlap)
    tried = pairs.select("a", "b").clear()
    for _ in range(ROUNDS):
        proposed = unfinished(pairs, verdict).join(tried, on=["a", "b"], how="anti")
        more = verify(proposed, trace, options)
        if more.is_empty():
            break
        tried = pl.concat([tried, proposed.select("a", "b")])
        pairs = pl.concat([pairs, more]).sort("a", "b")
        verdict = judge(pairs, lengths, rank, options.overlap)
    return pairs, verdict


def rank_of(corpus: Corpus) -> Int[np.ndarray, " S"]:
    """Which segment is kept rather than which: the longer one; then the one that slides and sinks less; then by name."""
    unclean = np.nan_to_num(corpus.measure("foot_slide"), nan=0.0) + 10 * np.nan_to_num(corpus.measure("penetration"))
    by_name = corpus.kept["segment"].rank("ordinal").to_numpy()
    rank = np.empty(len(by_name), np.int64)
    rank[np.lexsort((by_name, unclean, -corpus.frames))] = np.arange(len(by_name))
    return rank


class _Stages:
    """Runs tasks one stage after another, and remembers what they came to: `sums` is what results say, `failures` and
    `missing_count` what went wrong."""

    def __init__(self, corpus: Corpus, common: dict[str, Any], cluster: Cluster):
        self.corpus, self.common, self.cluster = corpus, common, cluster
        self.firsts = first_segments(corpus)
        self.sums = {"anchor_count": 0, "candidate_count": 0, "lost_count": 0, "cpu_seconds": 0.0}
        self.failures: tuple[executor.Failure, ...] = ()
        self.missing_count = 0

    def anchors(self, folder: Path) -> list[Path]:
        """A file for each shard."""
        folder.mkdir(exist_ok=True)
        paths = [folder.resolve() / f"{shard}.npz" for shard in self.corpus.shard_ids]
        self._run(anchor_shard, [
            {**self.common, "segments": self.firsts[i : i + 2].tolist(), "out": str(path)} for i, path in enumerate(paths)
        ], "anchors of %d of %d shards to find")  # fmt: skip
        return paths

    def pairs(self, anchors: list[Path], options: DuplicateOptions, work: Path) -> pl.DataFrame | None:
        """Of the whole corpus; None where a task failed."""
        work.mkdir(exist_ok=True)
        index = work.resolve() / "index"
        if not index.exists():
            index_of(anchors, self.firsts, options).save(index)
        counts = np.array([len(load_anchors(path, 0)) for path in anchors])
        self.sums["anchor_count"] = int(counts.sum())
        part = (np.cumsum(counts) - counts) // TASK_ANCHORS
        tasks = [
            {**self.common, "options": dataclasses.asdict(options), "index": str(index),
             "anchors": [(str(anchors[i]), int(self.firsts[i])) for i in np.flatnonzero(part == number)],
             "out": str(work.resolve() / f"pairs-{number:05d}.parquet")}
            for number in np.unique(part)
        ]  # fmt: skip
        self._run(find_pairs, tasks, "copies to look for in %d of %d parts")
        return None if self.missing_count else read_parts([Path(task["out"]) for task in tasks])

    def _run(self, function: Callable[[dict], dict], tasks: list[dict[str, Any]], told: str) -> None:
        todo = [task for task in tasks if not Path(task["out"]).exists()]
        if not todo:
            return
        log.info(told, len(todo), len(tasks))
        cluster = self.cluster
        if cluster.scheduler == "local":
            cluster = dataclasses.replace(cluster, workers=min(cluster.workers or default_workers(), len(todo)))
        self.failures += executor.run(function, todo, cluster=cluster, on_result=self._add).failures
        self.missing_count += sum(not Path(task["out"]).exists() for task in todo)

    def _add(self, result: dict[str, Any]) -> None:
        for name in self.sums:
            self.sums[name] += result.get(name, 0)


def index_of(anchors: list[Path], firsts: Int[np.ndarray, " K+1"], options: DuplicateOptions) -> Index:
    """Of all shards' anchors. Of a fingerprint only that at its own tempo is held, in half precision."""
    motion, times, looks = [], [], []
    for path, first in zip(anchors, firsts, strict=False):
        one = load_anchors(path, int(first))
        motion.append(one.motion.astype(np.int32))
        times.append(one.time_s)
        looks.append(one.prints[:, 0].astype(np.float16))
    every = np.concatenate(looks)
    centres = find_centres(every, options.search)
    cell = np.concatenate([nearest_cells(part, centres, 1)[:, 0] for part in looks])
    return lay_out(np.concatenate(motion), np.concatenate(times), every, cell, centres)


def _basis(corpus: Corpus) -> Basis | None:
    """The principal components of fingerprints; None where nothing moves. Found anew only while the corpus is small and
    has become several times as large: anchors are to stay."""
    path, count = _basis_path(corpus), len(corpus.frames)
    if not path.exists():
        numbers = np.random.default_rng(0).choice(count, min(SAMPLE, count), replace=False)
        try:
            fit_basis([corpus.motion(int(number)) for number in np.sort(numbers)]).save(path)
        except Motionless:
            return None
    return Basis.load(path)


def _basis_path(corpus: Corpus) -> Path:
    """By the power of four below the number of segments it is found on."""
    size = 4 ** int(np.log2(min(len(corpus.frames), SAMPLE)) / 2)
    return work_folder(corpus) / f"basis-{size}.npz"
