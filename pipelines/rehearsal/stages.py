"""The stages of a rehearsal: what a build and a loader do, on made-up clips, by the functions that they do it with.

Each stage is run in a process of its own, finds on the disk what those before it left, and gives numbers by name.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from corpus import catalog
from corpus.catalog import Corpus
from corpus.loader import open_windows
from corpus.mapped import expect_random
from corpus.motion import Clip
from corpus.store import Shard, verify_shard
from pipelines import executor, inventory, keys, place, plan
from pipelines.recipe import Recipe
from pipelines.rehearsal import made_up, made_up_shards

BATCH, WINDOW = 1024, 64
"""Windows in a batch, frames in a window."""
DRAWS, GATHERS = 300, 12
"""Batches drawn, and batches of frames copied."""

SIZE = 1
"""Of every made-up file, as the cache has it [bytes]."""

Numbers = dict[str, Any]
"""What a stage found, by name; the unit ends the name."""


def corpus_folder(work: Path) -> Path:
    return work / "corpus"


def make_rows(work: Path, clips: int, frames: int) -> Numbers:
    """Make up the clips, and a cache that remembers all their keys."""
    corpus_folder(work).mkdir(parents=True)
    place.open_corpus(corpus_folder(work), Recipe())
    rows = made_up.clip_rows(clips, frames)
    rows.drop("clip").write_parquet(work / "rows.parquet")
    absolute = pl.concat_str(pl.lit(f"{work}/"), "source", pl.lit("/"), "path")
    cache = rows.select(path=absolute, size=pl.lit(SIZE), mtime_ns=pl.lit(0), digest="clip")
    cache = cache.select(pl.col(name).cast(kind) for name, kind in keys.CACHE_COLUMNS.items())
    cache.write_parquet(work / "keys.parquet")
    return {"clips": len(rows)}


def make_plan(work: Path) -> Numbers:
    """Everything from the readers' clips to the plan on the disk, but for walking the folders and looking at the files."""
    out, seconds = corpus_folder(work), {}
    with _timed(seconds, "table_seconds"):
        clips = plan.clip_table(_scanned(work / "rows.parquet"), made_up.BYTES_PER_FRAME)
    roots = {name: work / name for name in made_up.SOURCES}
    with _timed(seconds, "keys_seconds"):
        clips = keys.add_keys(clips, roots, work / "keys.parquet", look=_look)
    with _timed(seconds, "deal_seconds"):
        made = plan.make_plan(clips, out, Recipe().hash)
    finished, missing = plan.finished_shards(out), set(made.missing["shard"].unique())
    (stored,) = (out / "plans").iterdir()
    return {
        **seconds, "plan_bytes": stored.stat().st_size, "keys_bytes": (work / "keys.parquet").stat().st_size,
        "plan_hash": keys.text_digest(f"{stored.name} {_digest(stored)}"),
        "clips": len(made.rows),
        "missing_clips": len(made.missing), "shards": len(made.shards), "missing_shards": len(missing),
        "finished": len(finished), "missing_as_expected": missing == made.shards - finished,
    }  # fmt: skip


def read_plan(work: Path) -> Numbers:
    """The plan as it lies on the disk: how many clips, and how many of them differ."""
    _, rows = plan.read_plan(corpus_folder(work))
    return {"clips": len(rows), "different_clips": rows.select("source", "path", "part").n_unique()}


def write_shards(work: Path, parts: int, part: int) -> Numbers:
    """Write every `parts`-th shard of the plan, from number `part` on."""
    _, rows = plan.read_plan(corpus_folder(work))
    mine = rows["shard"].unique().sort().gather_every(parts, part)
    rows = rows.filter(pl.col("shard").is_in(mine.implode()))
    segments = made_up_shards.write_shards(rows, corpus_folder(work), Recipe().hash, seed=part)
    return {"shards": len(mine), "kept_segments": segments}


def fold(work: Path) -> Numbers:
    """The catalog from all shards; a few shards are checked byte by byte."""
    out, seconds = corpus_folder(work), {}
    with _timed(seconds, "fold_seconds"):
        catalog.fold(out)
    shards = sorted((out / "shards").iterdir())
    troubles = [line for shard in shards[:: max(1, len(shards) // 3)] for line in verify_shard(shard)]
    if troubles:
        raise AssertionError(troubles[0])
    arrays = [path.stat().st_size for path in (out / "shards").glob("*/*/c/0/0")]
    frames = sum(Shard.open(shard).frame_count for shard in shards)
    found = {**seconds, "bytes_per_frame": sum(arrays) / frames}
    for path in sorted((out / "catalog").iterdir()):
        name = path.name.split("-")[0]
        found |= {f"{name}_bytes": path.stat().st_size, f"{name}_rows": pq.read_metadata(path).num_rows}
    return found


def open_corpus(work: Path) -> Numbers:
    """Open the corpus as a loader does, with nothing of the catalog in the system's cache."""
    for path in (corpus_folder(work) / "catalog").iterdir():
        _forget(path)
    seconds: Numbers = {}
    with _timed(seconds, "open_seconds"):
        corpus = Corpus.open(corpus_folder(work))
        segments, shards = len(corpus.row), len(corpus.shard_ids)
        frames = int(corpus.frames.sum())
        assert len(corpus.shard_of) == segments
    return {**seconds, "kept_segments": segments, "kept_frames": frames, "shards": shards}


def query(work: Path) -> Numbers:
    """The ledger, and what people ask a catalog."""
    out, seconds = corpus_folder(work), {}
    corpus = Corpus.open(out)
    with _timed(seconds, "ledger_seconds"):
        total = inventory.ledger_of(out)[0].total
    with _timed(seconds, "hours_by_source_seconds"):
        corpus.clips.group_by("source").agg(pl.col("frames_kept").sum()).collect()
    with _timed(seconds, "rejects_by_reason_seconds"):
        inventory.reject_reasons(out, limit=15)
    with _timed(seconds, "longest_segments_seconds"):
        kept = corpus.segments.filter(pl.col("status") == "kept")
        kept.top_k(100, by="frames").select("segment", "shard", "frames").collect()
    return {**seconds, **{f"ledger_{name}": number for name, number in total.items()}}


def draw(work: Path) -> Numbers:
    """Draw batches by weight; copy some from the shards, opening all of these before."""
    corpus, seconds = Corpus.open(corpus_folder(work)), {}
    with _timed(seconds, "sampler_seconds"):
        draw_batch, gather_batch = _sampler(corpus)
    drawn = [_milliseconds(draw_batch, step) for step in range(DRAWS)]
    seconds["sampler_mb"] = executor.peak_memory_mb()
    with _timed(seconds, "map_all_seconds"):
        for number in range(len(corpus.shard_ids)):
            for array in (corpus.shard(number).qpos, corpus.shard(number).contact):
                expect_random(array)
    gathered = [_milliseconds(gather_batch, step) for step in range(GATHERS)]
    return {
        **seconds, "draw_ms_per_1024": float(np.median(drawn)), "draw_ms_fastest": min(drawn),
        "gather_ms_per_1024": float(np.median(gathered)), "segments": len(corpus.row),
        "maps": _map_count(), "map_limit": int(Path("/proc/sys/vm/max_map_count").read_text()),
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
    }  # fmt: skip


def _scanned(rows: Path) -> Iterator[Clip]:
    """The clips one by one, as readers give them."""
    names = ["source", "path", "licence", "subject", "recording", "label", "part", "byte_count"]
    for batch in pq.ParquetFile(rows).iter_batches(50_000, columns=names):
        yield from map(Clip, *(batch[name].to_pylist() for name in names))


def _look(root: Path, source: str, path: str) -> tuple[str, int, int]:
    """In place of a look at the file: what the made-up cache remembers of it."""
    return f"{root}/{path}", SIZE, 0


def _sampler(corpus: Corpus) -> tuple[Callable[[int], Any], Callable[[int], Any]]:
    """What draws batch `step`, segments weighted at random, and what draws and copies it: all that is used of the loader."""
    weights = np.random.default_rng(0).uniform(0.1, 1.0, len(corpus.row))
    windows = open_windows(corpus, batch_size=BATCH, window=WINDOW, seed=0, weights=weights, mode="mapped")
    return windows.sampler.draw, windows.__getitem__


@contextmanager
def _timed(seconds: Numbers, name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start


def _milliseconds(function: Callable[[int], Any], step: int) -> float:
    start = time.perf_counter()
    function(step)
    return 1000 * (time.perf_counter() - start)


def _forget(path: Path) -> None:
    """Drop a file from the system's cache, so that reading it reads the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _map_count() -> int:
    with Path("/proc/self/maps").open() as lines:
        return sum(1 for _ in lines)
