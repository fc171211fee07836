"""Is every question answered within a second, where a corpus has five million segments?

    python -m benchmarks.ask [--clips 5e6] [--work DIR]

Makes up a catalog of the schema and skew of a real one (`pipelines.rehearsal`), traits, vectors of 64 numbers, clusters, duplicates
and a split, then asks every question: first cold (nothing of these files in the system's cache), then three times warm. It takes
two to three minutes, 6 GB of disk, and of memory what the system's cache needs to hold 4 GB. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from corpus import schema
from corpus.catalog import ROW_GROUP, Corpus
from corpus.durable import save_arrays
from corpus.g1 import G1
from hme import fold, traits
from hme.cluster import Clusters
from hme.fold_shards import MADE_BY, trait_sums
from hme.folded import write_folded
from hme.space import hme_folder, set_default
from hme.tables import write_segment_table
from pipelines import place
from pipelines.ask import QUESTIONS, ask
from pipelines.recipe import Recipe
from pipelines.rehearsal import made_up, made_up_shards

COPIES = 8
"""Rows are made up once for so many parts of the catalog; keys, paths and shards differ."""
CLIPS_PER_SHARD, FRAMES_PER_CLIP = 656, 400
DIMENSIONS, CLUSTERS = 64, 384
HME = "made_up"
STAMP = b"motionloom.shards"
ROUNDS = 3
LIMIT = 1.0
"""Seconds."""
BATCH = 200_000


def main() -> None:
    options = _parser().parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="motionloom-ask-", dir=options.work) as name:
        corpora, about = make(Path(name), int(options.clips))
        print(", ".join(f"{text} {value:,.1f}" for text, value in about.items()))
        taken = {title: _seconds(corpora, question, given) for title, question, given in cases(*corpora)}
    table = Table("question", "cold s", "warm s", "processor s", box=None)
    for title, seconds in sorted(taken.items(), key=lambda one: -one[1][1]):
        table.add_row(title, *(f"{value:.3f}" for value in seconds))
    Console(width=100).print(table)
    slowest = max(taken, key=lambda title: taken[title][1])
    print(json.dumps({
        "segments": int(about["segments"]), "queries": len(taken),
        "queries_over_one_second": sum(warm > LIMIT for _, warm, _ in taken.values()),
        "slowest_query": slowest, "slowest_query_seconds": round(taken[slowest][1], 3),
        "slowest_cold_query_seconds": round(max(cold for cold, *_ in taken.values()), 3),
        "most_processor_seconds": round(max(spent for *_, spent in taken.values()), 3),
        "fold_seconds": round(about["fold s"], 1),
    }))  # fmt: skip


def cases(corpus: Path, other: Path) -> list[tuple[str, str, dict[str, Any]]]:
    """Title, question, options: every question, and some in other ways."""
    opened = Corpus.open(corpus)
    clip = opened.clips.filter(pl.col("frames_kept") > 0).head(1).select("clip", "path").collect().row(0, named=True)
    given: dict[str, dict[str, Any]] = {
        "what-if": {"set": ["gate.foot_slide_limit=0.3", "gate.jerk_limit=2000"]},
        "cluster": {"number": 7}, "like": {"clip": clip["clip"]},
        **{name: {"against": other} for name in ("coverage", "novelty", "drift")},
    }  # fmt: skip
    found = [(name, name, given.get(name, {})) for name in QUESTIONS]
    scope = {"licence": "CC BY-NC 4.0"}
    return [
        *found,
        ("hours by source and cluster", "hours", {"by": "source-cluster"}),
        ("what-if, every limit", "what-if", {"set": [f"gate.{name}_limit=0.5" for name in fold.gate_limits(opened)]}),
        ("like, by the clip's path", "like", {"clip": clip["path"]}),
        *((f"{name}, of a licence", name, given.get(name, {}) | scope) for name in ("hours", "speed", "like", "drift")),
    ]


def make(work: Path, clips: int) -> tuple[tuple[Path, Path], dict[str, float]]:
    """The corpus, another version of it, and how long it took."""
    start = time.perf_counter()
    corpus, other = work / "corpus", work / "other"
    _write_catalog(corpus, clips)
    opened = Corpus.open(corpus)
    made = time.perf_counter()
    facts = fold.facts(opened)
    fold.kept(opened)
    fold.clip_keys(opened)
    folded = time.perf_counter()
    _write_tables(opened)
    _write_other(corpus, other)
    done = time.perf_counter()
    about = {"clips": clips, "segments": len(facts), "kept": int(facts.column("kept").sum())}
    return (corpus, other), about | {"catalog s": made - start, "fold s": folded - made, "tables s": done - folded}


def _write_catalog(out: Path, clips: int) -> None:
    (out / "catalog").mkdir(parents=True)
    place.open_corpus(out, Recipe())
    some = clips // COPIES
    rows = made_up.clip_rows(some, some * FRAMES_PER_CLIP).with_columns(
        shard=pl.Series(np.arange(some) // CLIPS_PER_SHARD).cast(pl.String).str.zfill(14)
    )
    rows = rows.sort("shard", "clip", "source", "path", "part")
    tables, metadata = made_up_shards.tables(rows, np.random.default_rng(0)), {STAMP: "ab" * 16}
    for number, (name, table_schema) in enumerate((("clips", schema.CLIPS), ("segments", schema.SEGMENTS))):
        path, named = out / "catalog" / f"{name}-00000.parquet", table_schema.with_metadata(metadata)
        with pq.ParquetWriter(path, named, compression="zstd", compression_level=1) as writer:
            for copy in range(COPIES):
                table = _renamed(tables[number], copy).replace_schema_metadata(metadata)
                writer.write_table(table, row_group_size=ROW_GROUP)


def _renamed(table: pa.Table, copy: int) -> pa.Table:
    """The same rows of other clips: the first digits of keys and shards are the copy's number."""
    frame, prefix = pl.DataFrame(table), pl.lit(f"{copy:02x}")
    named = [
        pl.concat_str(prefix, pl.col(name).str.slice(2)).alias(name)
        for name in ("clip", "segment")
        if name in frame.columns
    ]
    named += [
        pl.concat_str(pl.lit(f"{copy}/"), name).alias(name) for name in ("path", "recording") if name in frame.columns
    ]
    frame = frame.with_columns(*named, shard=pl.concat_str(prefix, "shard"))
    return frame.select(table.schema.names).to_arrow(compat_level=pl.CompatLevel.oldest()).cast(table.schema)


def _write_tables(corpus: Corpus) -> None:
    """What `loom embed`, `cluster`, `dedup` and `split` would leave, by their schemas."""
    folder, rng = hme_folder(corpus), np.random.default_rng(0)
    count, names = corpus.kept.height, corpus.kept["segment"]
    stamp = corpus.stamp.decode()
    write_folded(folder / "traits.arrow", _traits(count, rng), {"shards": stamp, "made_by": MADE_BY})
    write_folded(
        folder / HME / "vectors.arrow", _vectors(count, rng), {"shards": stamp, "made_by": f"{fold.VERSION}.{HME}"}
    )
    trait_sums(corpus)
    set_default(corpus, HME)
    save_arrays(folder / HME / "embedder.npz", {"kind": np.array("made up")})
    clusters = Clusters(rng.random((CLUSTERS, DIMENSIONS), np.float32), HME, 0)
    clusters.save(folder / HME / "clusters.npz")
    cluster = (CLUSTERS * rng.random(count) ** 2).astype(np.int32)
    table = pl.DataFrame({"cluster": cluster, "distance": rng.random(count, np.float32)})
    write_segment_table(corpus, folder / HME / "clusters.parquet", table, hme_id=HME, about={"clusters": clusters.id})
    write_segment_table(corpus, folder / "duplicates.parquet", _duplicates(names, rng))
    split = rng.choice(3, count, p=(0.9, 0.05, 0.05))
    parts = pl.Series(["train", "validation", "test"]).gather(split)
    write_segment_table(corpus, folder / HME / "split.parquet", pl.DataFrame({"split": parts}), hme_id=HME)


def _traits(count: int, rng: np.random.Generator) -> Iterator[dict[str, np.ndarray]]:
    for rows in _batches(count):
        at_limit = rng.random((rows, len(G1.joint_names)), np.float32)
        at_limit[rng.random(at_limit.shape, np.float32) < 0.9] = 0
        yield {
            **{name: rng.random(rows, np.float32) for name in traits.TRAITS}, "at_limit": at_limit,
            "worst": at_limit.max(1), "worst_joint": at_limit.argmax(1).astype(np.uint8),
        }  # fmt: skip


def _vectors(count: int, rng: np.random.Generator) -> Iterator[dict[str, np.ndarray]]:
    for rows in _batches(count):
        vectors = rng.random((rows, DIMENSIONS), np.float32)
        yield {"vector": vectors, "square": np.einsum("sd,sd->s", vectors, vectors)}


def _duplicates(names: pl.Series, rng: np.random.Generator) -> pl.DataFrame:
    """One segment in twelve is a copy of its neighbour."""
    count = len(names)
    copy = rng.random(count) < 1 / 12
    copy[0] = False
    keeper, number = ~copy, np.arange(count)
    of = np.where(copy, number - 1, -1)
    in_group = copy | np.append(copy[1:], False)
    group = pl.Series(np.cumsum(in_group & keeper), dtype=pl.Int64).set(pl.Series(~in_group), None)
    kind = (
        pl.Series(["exact", "mirrored", "retimed", "noisy", "chunk"])
        .gather(rng.integers(5, size=count))
        .set(pl.Series(keeper), None)
    )
    texts = names.gather(np.maximum(of, 0)).set(pl.Series(keeper), None)
    distance = pl.Series(rng.random(count, np.float32)).set(pl.Series(keeper), None)
    return pl.DataFrame(
        {"group": group, "keeper": keeper, "of": texts, "kind": kind, "distance": distance, "covered": distance}
    )


def _write_other(corpus: Path, other: Path) -> None:
    """The same files, but of one clip in twenty the key is another."""
    for path in corpus.rglob("*"):
        if path.is_file():
            target = other / path.relative_to(corpus)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, target)
    opened = Corpus.open(other)
    keys = fold.clip_keys(opened)
    columns = {name: keys.column(name) for name in keys.names}
    key = columns["key"].copy()
    key[::20] += 1
    write_folded(hme_folder(opened) / "clips.arrow", [columns | {"key": np.sort(key)}], dict(keys.about))


def _batches(count: int) -> Iterator[int]:
    for start in range(0, count, BATCH):
        yield min(BATCH, count - start)


def _seconds(corpora: tuple[Path, Path], question: str, given: dict[str, Any]) -> tuple[float, float, float]:
    """Cold, the median of those that follow, and of their processor time; each opens the corpus anew."""
    for corpus in corpora:
        for path in corpus.rglob("*"):
            if path.is_file():
                _forget(path)
    taken = []
    for _ in range(1 + ROUNDS):
        start, spent = time.perf_counter(), time.process_time()
        ask(corpora[0], question, **given)
        taken.append((time.perf_counter() - start, time.process_time() - spent))
    warm, processor = np.median(taken[1:], axis=0).tolist()
    return taken[0][0], warm, processor


def _forget(path: Path) -> None:
    """Drop a file from the system's cache."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ask", description="Seconds that each question takes.")
    parser.add_argument("--clips", type=float, default=5e6, help="of the made-up corpus (default 5e6)")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()), help="where temporary files may lie")
    return parser


if __name__ == "__main__":
    main()
