"""How fast windows are loaded: beside what memory gives, beside Parquet and Zarr's own reader, and from a cold disk.

    python -m benchmarks.loader [--shards N] [--folder DIR]

Writes a corpus of made-up motion (shards of 200,000 frames at 50 Hz), and reads random windows of 64 frames, 1024 to a batch. What is
compared runs side by side, round after round, and the median of the rounds' ratios counts. The last line is JSON.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from corpus import rotations
from corpus.augment import Augment
from corpus.catalog import Corpus, fold
from corpus.loader import open_windows
from corpus.loading.sampler import Sampler
from corpus.loading.sampling_plan import Plan
from corpus.loading.windows import MappedRows, Windows
from corpus.motion import RobotMotion
from corpus.store import ShardWriter

FRAMES_PER_SHARD, WINDOW, BATCH = 200_000, 64, 1024
SEGMENTS = 5_000_000
"""For the draw alone."""
ROUNDS, COLD_ROUNDS = 7, 3
RESIDENT = 8
"""Shards in the rotating buffer: a fifth of the corpus, so that it does rotate."""


def main() -> None:
    options = _parser().parse_args()
    logging.disable(logging.WARNING)
    console = Console(width=130)
    with tempfile.TemporaryDirectory(prefix="motionloom-bench-", dir=options.folder) as name:
        folder = Path(name)
        rates: dict[str, list[float]] = {}
        write_corpus(folder / "corpus", options.shards)
        warm(folder, rates)
        draw_ms = draws()
        way = cold(folder / "corpus", rates)
    best = max("cold mapped", "cold mapped, sparse", key=lambda name: statistics.median(rates[name]))
    figures = {
        "ratio_to_memory_limit": ratio(rates, "plain", "limit"),
        "augmented_frames_per_second_ratio": ratio(rates, "augmented", "plain"),
        "ratio_vs_parquet": ratio(rates, "plain", "parquet"),
        "ratio_vs_zarr_api": ratio(rates, "plain", "zarr"),
        "ratio_vs_hf_datasets": ratio(rates, "plain", "datasets") if "datasets" in rates else None,
        "cold_buffer_ratio": ratio(rates, "cold rotating", best),
        "cold_buffer_ratio_reuse_1": ratio(rates, "cold rotating, once", best),
        "draw_ms_per_1024": round(draw_ms["by weights"], 4),
        "draw_ms_per_1024_exact_epochs": round(draw_ms["exact epochs"], 4),
        "page_cache_dropped_by": way,
        "frames": options.shards * FRAMES_PER_SHARD,
        "million_frames_per_second": {name: round(statistics.median(rate) / 1e6, 4) for name, rate in rates.items()},
    }
    show(console, rates, draw_ms, way)
    if "datasets" not in rates:
        console.print("Hugging Face's datasets is not installed: no figure for it")
    print(json.dumps(figures))


def ratio(rates: dict[str, list[float]], one: str, other: str) -> float:
    """The median over the rounds, in which both ran side by side."""
    return round(statistics.median(a / b for a, b in zip(rates[one], rates[other], strict=True)), 3)


def warm(folder: Path, rates: dict[str, list[float]]) -> None:
    """Everything in memory already: the same frames as one array, as shards, as Parquet and as Zarr."""
    corpus = Corpus.open(folder / "corpus")
    flat = np.concatenate([corpus.shard(i).qpos for i in range(len(corpus.shard_ids))])
    rng = np.random.default_rng(0)
    speeds = Augment(mirror=0.5, heading=False)
    share: dict[str, Any] = {"batch_size": BATCH, "window": WINDOW, "seed": 0, "mode": "mapped"}
    plain = open_windows(corpus, **share, fields=("qpos",))
    velocities = open_windows(corpus, **share, fields=("qpos", "velocity"))
    augmented = open_windows(corpus, **share, fields=("qpos", "velocity"), augment=speeds)
    everything = open_windows(corpus, **share, augment=Augment())
    strided = np.lib.stride_tricks.as_strided(
        flat, (len(flat) - WINDOW + 1, WINDOW * flat.shape[1]), flat.strides, writeable=False
    )
    readers: dict[str, tuple[int, Callable[[int], Any]]] = {
        "limit": (40, lambda step: strided[rng.integers(0, len(strided), BATCH)]),
        "plain": (40, plain.__getitem__),
        "velocities": (20, velocities.__getitem__),
        "augmented": (20, augmented.__getitem__),
        "everything": (20, everything.__getitem__),
    }
    slow = {"parquet": (3, parquet_reader(folder, corpus)), "zarr": (40, zarr_reader(corpus))}
    if importlib.util.find_spec("datasets"):
        slow["datasets"] = (40, datasets_reader(folder))
    for _, read in (*readers.values(), *slow.values()):
        read(0)
    for number in range(ROUNDS):
        for name, (count, read) in readers.items():
            rates.setdefault(name, []).append(BATCH * WINDOW * count / _seconds(read, count, number * count))
        for name, (count, read) in slow.items():
            rates.setdefault(name, []).append(WINDOW * count / _seconds(read, count))


def parquet_reader(folder: Path, corpus: Corpus) -> Callable[[int], np.ndarray]:
    """Rows of lists, in one file per shard as pyarrow writes them unless told otherwise: up to a million rows in a row group.
    A window takes the row group it lies in."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    paths = [folder / f"{number}.parquet" for number in range(min(3, len(corpus.shard_ids)))]
    for number, path in enumerate(paths):
        rows = corpus.shard(number).qpos
        lists = pa.ListArray.from_arrays(np.arange(len(rows) + 1, dtype=np.int32) * rows.shape[1], rows.reshape(-1))
        pq.write_table(pa.table({"qpos": lists}), path)
    files, rng = [pq.ParquetFile(path) for path in paths], np.random.default_rng(1)

    def read(_: int) -> np.ndarray:
        file = files[rng.integers(len(files))]
        group = int(rng.integers(file.num_row_groups))
        column = file.read_row_group(group, columns=["qpos"])["qpos"].combine_chunks()
        part = column.slice(rng.integers(len(column) - WINDOW), WINDOW)
        return part.flatten().to_numpy().reshape(WINDOW, -1)

    return read


def zarr_reader(corpus: Corpus) -> Callable[[int], np.ndarray]:
    """The very same shards, opened and sliced by zarr-python."""
    import zarr

    arrays = [
        zarr.open_array(corpus.shard(i).path / "qpos", mode="r", zarr_format=3) for i in range(len(corpus.shard_ids))
    ]
    rng = np.random.default_rng(2)

    def read(_: int) -> Any:
        first = int(rng.integers(FRAMES_PER_SHARD - WINDOW))
        return np.asarray(arrays[rng.integers(len(arrays))][first : first + WINDOW])

    return read


def datasets_reader(folder: Path) -> Callable[[int], np.ndarray]:
    """The Parquet files as a Hugging Face data set, which keeps them as mapped Arrow tables."""
    import datasets  # pyright: ignore[reportMissingImports]

    data = datasets.Dataset.from_parquet(
        [str(path) for path in sorted(folder.glob("*.parquet"))], cache_dir=str(folder)
    )
    data, rng = data.with_format("numpy"), np.random.default_rng(3)

    def read(_: int) -> np.ndarray:
        first = int(rng.integers(len(data) - WINDOW))
        return np.asarray(data[first : first + WINDOW]["qpos"])

    return read


def draws() -> dict[str, float]:
    """Milliseconds that drawing a batch of 1024 takes among millions of segments, without reading a frame."""
    rng = np.random.default_rng(0)
    frames, plan = rng.integers(50, 1000, SEGMENTS), Plan(rng.random(SEGMENTS))
    found = {}
    for name, epochs in (("by weights", False), ("exact epochs", True)):
        sampler = Sampler(plan, frames, window=WINDOW, batch_size=1024, seed=0, epochs=epochs)
        found[name] = 1000 * statistics.median(_seconds(sampler.draw, 50, 50 * i) / 50 for i in range(ROUNDS))
    return found


def cold(folder: Path, rates: dict[str, list[float]]) -> str:
    """Nothing in memory. Mapped: one batch after the page cache was dropped, for a second one would find what the first has read
    around its windows, which in a corpus larger than memory it does not; the better of two ways counts. Rotating: the shards after those
    that fill the buffer, each read once and used `reuse` times, until most have been."""
    share: dict[str, Any] = {"batch_size": BATCH, "window": WINDOW, "fields": ("qpos",)}
    way = ""
    for seed in range(COLD_ROUNDS):
        for name, read_ahead in (("cold mapped", True), ("cold mapped, sparse", False)):
            way = drop_page_cache(folder)
            corpus = Corpus.open(folder)
            sampler = open_windows(corpus, **share, seed=seed, mode="mapped").sampler
            mapped = Windows(corpus, sampler, MappedRows(corpus, read_ahead=read_ahead), fields=("qpos",))
            rates.setdefault(name, []).append(BATCH * WINDOW / _seconds(mapped.__getitem__, 1))
            mapped = None
        for name, reuse in (("cold rotating", 4.0), ("cold rotating, once", 1.0)):
            drop_page_cache(folder)
            rotating = open_windows(
                Corpus.open(folder), **share, seed=seed, mode="rotating", resident=RESIDENT, reuse=reuse
            )
            _seconds(rotating.__getitem__, 1)
            shard_count = len(list((folder / "shards").iterdir()))
            count = rotating.sampler.state(0)["stay"] * max(shard_count - 2 * RESIDENT, 1) // RESIDENT
            rates.setdefault(name, []).append(BATCH * WINDOW * count / _seconds(rotating.__getitem__, count, 1))
            rotating = None
    return way


def drop_page_cache(folder: Path) -> str:
    """Let the system forget the files' content; says how."""
    gc.collect()  # what is mapped stays
    os.sync()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3")
        return "drop_caches"
    except OSError:
        for path in folder.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return "posix_fadvise"


def write_corpus(out: Path, shard_count: int) -> None:
    """Shards of smooth motion cut into segments of 1 to 20 s."""
    rng = np.random.default_rng(0)
    time_s = np.arange(FRAMES_PER_SHARD) / 50
    waves = np.sin(time_s[:, None] * rng.uniform(0.5, 5, 35) + rng.uniform(0, 6, 35)).astype(np.float32)
    turn = rotations.from_rotation_vector(waves[:, 3:6])
    qpos = np.concatenate([waves[:, :3], turn, waves[:, 6:]], 1).astype(np.float32)
    contact = rng.integers(0, 2, (FRAMES_PER_SHARD, 4), np.uint8)
    for number in range(shard_count):
        cuts = np.cumsum(rng.integers(50, 1000, FRAMES_PER_SHARD // 500))
        starts = np.concatenate([[0], cuts[cuts < FRAMES_PER_SHARD - 50]])
        lengths = np.diff(np.append(starts, FRAMES_PER_SHARD))
        rows = [
            {"start": int(a), "frames": int(n), "status": "kept", "speed_use": float(use)}
            for a, n, use in zip(starts, lengths, rng.uniform(0.1, 1, len(starts)), strict=True)
        ]
        counts = {"frames": FRAMES_PER_SHARD, "frames_kept": FRAMES_PER_SHARD, "frames_rejected": 0, "frames_cut": 0}
        with ShardWriter(out / "shards", f"{number:016x}", "bench") as writer:
            qpos[:, 0] += 1
            writer.add({"clip": f"{number:032x}", "status": "kept", **counts}, rows, RobotMotion(qpos, 50.0, contact))
            writer.commit()
    (out / "corpus.json").write_text(json.dumps({"fps": 50.0, "recipe": {}, "recipe_hash": "bench", "robot": "g1"}))
    fold(out)


def show(console: Console, rates: dict[str, list[float]], draw_ms: dict[str, float], way: str) -> None:
    titles = {
        "limit": "memory limit: strided gather of one array",
        "plain": "windows, qpos",
        "velocities": "… with velocities",
        "augmented": "… mirrored, warped, with velocities",
        "everything": "… turned too, with velocities and contacts",
        "parquet": "Parquet, rows of lists",
        "zarr": "zarr-python on the same shards",
        "datasets": "Hugging Face datasets",
        "cold mapped": f"cold ({way}): mapped",
        "cold mapped, sparse": "cold: mapped, the disk told not to read ahead",
        "cold rotating": f"cold: rotating buffer of {RESIDENT} shards, frames used 4 times",
        "cold rotating, once": "cold: … used once",
    }
    table = Table(box=None, pad_edge=False)
    for column in (f"random windows of {WINDOW} frames", "M frames/s", "rounds", "of plain"):
        table.add_column(column, justify="left" if column.startswith("random") else "right")
    for name, title in titles.items():
        if name in rates:
            rate, low, high = (f(rates[name]) / 1e6 for f in (statistics.median, min, max))
            part = statistics.median(rates[name]) / statistics.median(rates["plain"])
            table.add_row(title, f"{rate:,.4g}", f"{low:,.3g} – {high:,.3g}", f"{part:.3g}")
    console.print(table)
    for name, ms in draw_ms.items():
        console.print(f"drawing 1024 windows {name} among {SEGMENTS:,} segments: {ms:.3f} ms")


def _seconds(make: Callable[[int], Any], count: int, first: int = 0) -> float:
    """That `make` takes for so many steps."""
    start = time.perf_counter()
    for step in range(first, first + count):
        make(step)
    return time.perf_counter() - start


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loader", description="How fast windows are loaded.")
    parser.add_argument("--shards", type=int, default=40, help="shards of 200,000 frames, 30 MB each (default 40)")
    parser.add_argument(
        "--folder", type=Path, help="where to write them: a disk, not memory (default the temporary folder)"
    )
    return parser


if __name__ == "__main__":
    main()
