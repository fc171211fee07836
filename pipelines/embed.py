"""Embed a corpus: a vector, its blocks and plain traits of every kept segment, shard by shard, beside the shards.

What exists is whole; a rerun does what is missing, and shards that came later are embedded by the same embedder.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from corpus.catalog import Corpus
from corpus.errors import MotionloomError
from corpus.g1 import G1
from corpus.motion import RobotMotion
from corpus.remote.bucket import is_url
from corpus.store import Shard
from hme import traits
from hme.embedder import Embedder, load_embedder
from hme.fold_shards import fold_all, forget
from hme.shard_rows import read_shard_rows, write_shard_rows
from hme.space import Space, as_columns, default_id, hme_folder, ids, set_default
from hme.spectrum import PRESETS, fit
from pipelines import executor
from pipelines.bisect import Handling
from pipelines.cluster import Cluster, default_workers
from pipelines.place import locked

log = logging.getLogger(__name__)

SAMPLE = 5000
"""Segments that statistics are found on: about a thirtieth of a day of motion."""


@dataclass(frozen=True)
class Embedded:
    """What a run did."""

    hme_id: str
    fitted: bool
    """Was the embedder found on this corpus just now?"""
    shard_count: int
    """Shards with kept segments."""
    done_count: int
    """Those embedded, or measured, by this run."""
    missing: tuple[str, ...]
    failures: tuple[executor.Failure, ...]
    segment_count: int
    """Of the shards of this run."""
    frame_count: int
    seconds: float
    cpu_seconds: float
    """Processor time of the tasks."""

    @property
    def complete(self) -> bool:
        return not self.missing and not self.failures


def embed(
    place: Path | str,
    embedder: str | Path | None = None,
    *,
    refit: bool = False,
    sample: int = SAMPLE,
    seed: int = 0,
    cluster: Cluster = Cluster(),
    cache: Path | None = None,
) -> Embedded:
    """Bring the vectors and traits of a corpus up to date.

    `embedder` is a preset of `hme.spectrum.PRESETS`, or a file that an embedder was saved to; without one the corpus's default is used,
    and where there is none a `spectrum` is fitted on `sample` segments drawn by `seed`. `refit` fits anew although there is one
    already. What is named becomes the default.
    """
    start = time.monotonic()
    corpus = Corpus.open(place, cache=cache)
    if is_url(place) and cluster.scheduler not in ("local", "inline"):
        raise MotionloomError("Vectors of a corpus on object storage lie in this machine's cache: embed it here.")
    folder = hme_folder(corpus)
    folder.mkdir(exist_ok=True)
    with locked(folder):
        hme_id, fitted = _choose(corpus, embedder, refit=refit, sample=sample, seed=seed)
        todo = list(_missing(corpus, hme_id))
        results: list[dict[str, Any]] = []
        ran = executor.Summary()
        if todo:
            forget(corpus, hme_id)
            log.info("%d of %d shards to embed by %s", len(todo), len(corpus.shard_ids), hme_id)
            if cluster.scheduler == "local":
                cluster = replace(cluster, workers=min(cluster.workers or default_workers(), len(todo)))
            tasks = _tasks(corpus, place, cache, hme_id, todo)
            ran = executor.run(embed_shard, tasks, cluster=cluster, handling=HANDLING, on_result=results.append)
        missing = tuple(sorted(set(todo) - {result["shard"] for result in results}))
        if not missing:
            fold_all(corpus, hme_id)
    return Embedded(
        hme_id=hme_id,
        fitted=fitted,
        shard_count=len(corpus.shard_ids),
        done_count=len(results),
        missing=missing,
        failures=ran.failures,
        segment_count=sum(result["segments"] for result in results),
        frame_count=sum(result["frames"] for result in results),
        seconds=time.monotonic() - start,
        cpu_seconds=sum(result["cpu_seconds"] for result in results),
    )


def embed_shard(task: dict[str, Any]) -> dict[str, Any]:
    """Vectors and traits of one shard's kept segments, each a file that appears whole."""
    start = time.process_time()
    shard = _open_shard(task)
    names, rows, lengths = kept_of(shard)
    folder = Path(task["folder"])
    vectors = folder / task["hme_id"] / "shards" / f"{task['shard']}.arrow"
    segments = pa.array(names, pa.string())
    if not _is_whole(vectors, task["hme_id"], segments):
        embedder = _embedder(folder / task["hme_id"] / "embedder.npz", task["hme_id"])
        motions = [
            RobotMotion(shard.qpos[row : row + count], task["fps"]) for row, count in zip(rows, lengths, strict=True)
        ]
        write_shard_rows(vectors, names, as_columns(embedder.embed(motions)), made_by=task["hme_id"])
    measured = folder / "traits" / f"{task['shard']}.arrow"
    if not _is_whole(measured, traits.VERSION, segments):
        # Kept segments lie end to end, and nothing else lies in a shard.
        found = traits.measure_traits(G1, shard.qpos, shard.contact.astype(bool), lengths, fps=task["fps"])
        write_shard_rows(measured, names, found, made_by=traits.VERSION)
    spent = time.process_time() - start
    return {"shard": task["shard"], "segments": len(names), "frames": int(lengths.sum()), "cpu_seconds": spent}


HANDLING = Handling(
    name=lambda task: f"the vectors of shard {task['shard']}", cost=lambda task: max(task["frames"], 1.0)
)


def kept_of(shard: Shard) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names, first rows and lengths of a shard's kept segments, in the order of the catalog."""
    kept = shard.segments.filter(pc.field("status") == "kept")
    return kept["segment"].to_pylist(), kept["row"].to_numpy(), kept["frames"].to_numpy()


def _choose(corpus: Corpus, embedder: str | Path | None, *, refit: bool, sample: int, seed: int) -> tuple[str, bool]:
    """The id of the embedder to use, saved beside the corpus, and whether it was fitted now."""
    known = ids(corpus)
    default = _default(corpus, known)
    if embedder is None and not refit and known:
        set_default(corpus, default or default_id(corpus))  # the latter tells what is wrong
        return default_id(corpus), False
    config = PRESETS.get(str(embedder or "spectrum"))
    if config is None:
        path = Path(embedder or "")
        if not path.is_file():
            raise MotionloomError(f"No embedder {path}. Known: {', '.join(PRESETS)}, or the file of a trained one.")
        chosen, fitted = load_embedder(path), False
    else:
        same = [] if refit else [hme_id for hme_id in known if _is_of(corpus, hme_id, config)]
        if same:
            chosen_id = default if default in same else same[-1]
            set_default(corpus, chosen_id)
            return chosen_id, False
        chosen, fitted = fit(_sample(corpus, sample, seed), config), True
    path = hme_folder(corpus) / chosen.hme_id / "embedder.npz"
    if not _holds(path, chosen.hme_id):
        path.parent.mkdir(parents=True, exist_ok=True)
        chosen.save(path)
    set_default(corpus, chosen.hme_id)
    return chosen.hme_id, fitted


def _default(corpus: Corpus, known: list[str]) -> str | None:
    """Where a run was killed before it said which it is, the only one there is; None where nobody can say."""
    try:
        return default_id(corpus)
    except MotionloomError:
        return known[0] if len(known) == 1 else None


def _is_of(corpus: Corpus, hme_id: str, config: Any) -> bool:
    path = Space(corpus, hme_id).path("embedder.npz")
    return _holds(path, hme_id) and getattr(load_embedder(path), "config", None) == config


def _holds(path: Path, hme_id: str) -> bool:
    try:
        return path.exists() and load_embedder(path).hme_id == hme_id
    except MotionloomError as error:
        log.warning("%s", error)
        return False


def _sample(corpus: Corpus, count: int, seed: int) -> Sequence[RobotMotion]:
    """Segments drawn without regard to their length."""
    total = len(corpus.frames)
    if not total:
        raise MotionloomError(f"{corpus.path} keeps no segment: there is nothing to embed.")
    numbers = np.sort(np.random.default_rng(seed).choice(total, min(count, total), replace=False))
    return [corpus.motion(int(number)) for number in numbers]


def _missing(corpus: Corpus, hme_id: str) -> Iterator[str]:
    folder = hme_folder(corpus)
    names, start = corpus.kept["segment"], 0
    counts = np.bincount(corpus.shard_of, minlength=len(corpus.shard_ids)).tolist()
    for shard, count in zip(corpus.shard_ids, counts, strict=True):
        vectors, measured = folder / hme_id / "shards" / f"{shard}.arrow", folder / "traits" / f"{shard}.arrow"
        own = names.slice(start, count).to_arrow()
        start += count
        if not (_is_whole(vectors, hme_id, own) and _is_whole(measured, traits.VERSION, own)):
            yield shard


def _is_whole(path: Path, made_by: str, segments: pa.Array) -> bool:
    """Is there a file, made by this, about just these segments?"""
    try:
        return path.exists() and (rows := read_shard_rows(path)).made_by == made_by and rows.tells_of(segments)
    except MotionloomError as error:
        log.warning("%s", error)
        return False


def _tasks(
    corpus: Corpus, place: Path | str, cache: Path | None, hme_id: str, shards: list[str]
) -> Iterator[dict[str, Any]]:
    where = str(place) if is_url(place) else str(corpus.path.resolve())
    common = {"corpus": where, "cache": str(cache) if cache else None, "folder": str(hme_folder(corpus).resolve())}
    frames = dict(zip(corpus.shard_ids, np.bincount(corpus.shard_of, corpus.frames), strict=True))
    for shard in shards:
        yield {**common, "hme_id": hme_id, "shard": shard, "fps": corpus.fps, "frames": int(frames[shard])}


def _open_shard(task: dict[str, Any]) -> Shard:
    if is_url(task["corpus"]):
        shards = Corpus.open(task["corpus"], cache=task["cache"] and Path(task["cache"])).shards
        assert shards is not None
        return shards.shard(task["shard"])
    return Shard.open(Path(task["corpus"]) / "shards" / task["shard"])


@functools.lru_cache(maxsize=2)
def _embedder(path: Path, hme_id: str) -> Embedder:
    embedder = load_embedder(path)
    if embedder.hme_id != hme_id:
        raise MotionloomError(f"{path} holds the embedder {embedder.hme_id}, not {hme_id}.")
    return embedder
