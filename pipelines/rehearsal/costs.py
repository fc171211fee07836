"""What things cost one by one: a frame from file to shard, a task through the scheduler, a look at a file.

Like the stages of a rehearsal, each is run in a process of its own and gives numbers by name.
"""

from __future__ import annotations

import itertools
import json
import pickle
import statistics
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from corpus.sources import synthetic
from corpus.sources.options import LoadOptions
from pipelines import build, executor, plan
from pipelines.cluster import Cluster
from pipelines.keys import add_keys
from pipelines.recipe import Recipe
from pipelines.rehearsal import made_up
from pipelines.rehearsal.stages import Numbers, corpus_folder
from pipelines.shard_task import shard_tasks
from retarget.retarget import warm_up

NAMED_TASKS = 1000
"""Tasks that carry a shard's name alone."""
SIZED_TASKS = 200
"""Tasks whose size is looked at."""
MOVES_S = 8.0
"""Length of a clip of the small real build [s]: 400 frames, the mean of the rehearsed ones."""


def schedule(work: Path, workers: int) -> Numbers:
    """Send the tasks of all shards, as a build makes them, to workers that do nothing."""
    _, rows = plan.read_plan(corpus_folder(work))

    def tasks() -> Iterator[dict[str, Any]]:
        roots = {name: work / name for name in made_up.SOURCES}
        return shard_tasks(rows, roots, corpus_folder(work), Recipe(), LoadOptions())

    sizes = [len(pickle.dumps(task)) for task in itertools.islice(tasks(), SIZED_TASKS)]
    named = ({"shard": shard} for shard in rows["shard"].unique().sort()[:NAMED_TASKS])
    return {
        "task_bytes": statistics.median(sizes),
        **_overhead(tasks(), workers),
        **{f"named_{name}": value for name, value in _overhead(named, workers).items()},
    }


def build_some(work: Path, clips: int, rounds: int) -> Numbers:
    """Build clips that move by formula, on one core; rates are of processor time, so other programs do not count."""
    files = work / "moves"
    for number in range(clips):
        path = files / f"{number % 20:02d}" / f"{number:05d}{synthetic.SUFFIX}"
        path.parent.mkdir(parents=True, exist_ok=True)
        kind, style = (list(names)[number % len(names)] for names in (synthetic.KINDS, synthetic.STYLES))
        path.write_text(json.dumps({"kind": kind, "style": style, "seed": number, "seconds": MOVES_S}))
    warm_up()
    made = [build.build({"synthetic": files}, work / f"built-{n}", scheduler="inline") for n in range(rounds + 1)]
    # The first pays for imports and compiled code.
    rates = sorted(one.frame_count / one.cpu_seconds for one in made[1:])
    frames, kept = made[0].frame_count, made[0].kept_count
    return {
        "frames": frames, "kept_share": kept / frames, "rounds": rounds,
        "frames_per_core_second": statistics.median(rates), "slowest": rates[0], "fastest": rates[-1],
    }  # fmt: skip


def look_at_files(work: Path, count: int) -> Numbers:
    """Walk over real, tiny files, and learn their keys: once by reading them, once by what is remembered."""
    root, micro = work / "files", 1e6 / count
    for number in range(count):
        if number % 100 == 0:
            (root / f"{number // 100:05d}").mkdir(parents=True)
        (root / f"{number // 100:05d}" / f"move_{number:07d}_poses.npz").write_bytes(number.to_bytes(8, "little"))
    roots, cache = {"amass": root}, work / "few-keys.parquet"
    start = time.perf_counter()
    clips = plan.scan_sources(roots)
    walked = time.perf_counter()
    first = add_keys(clips, roots, cache)
    read = time.perf_counter()
    again = add_keys(clips, roots, cache)
    looked = time.perf_counter()
    if not first.equals(again):
        raise AssertionError("Remembered keys are not those that were read.")
    return {
        "files": count, "walk_us": micro * (walked - start), "first_us": micro * (read - walked),
        "again_us": micro * (looked - read),
    }  # fmt: skip


def _overhead(tasks: Iterable[dict[str, Any]], workers: int) -> Numbers:
    """Of a run of tasks that do nothing: wall time, and processor time of client and scheduler, per task."""
    wall, processor = [], []

    def on_result(result: dict[str, Any]) -> None:
        wall.append(time.perf_counter())
        processor.append(time.process_time())

    ran = executor.run(do_nothing, tasks, cluster=Cluster(workers=workers), on_result=on_result)
    if ran.failures:
        raise AssertionError(ran.failures[0].error)
    # From the first result on: the workers have started.
    count = max(1, len(wall) - 1)
    return {
        "tasks": len(wall),
        "wall_ms": 1000 * (wall[-1] - wall[0]) / count,
        "busy_ms": 1000 * (processor[-1] - processor[0]) / count,
    }


def do_nothing(task: dict[str, Any]) -> dict[str, Any]:
    """Gives what `build_shard` gives."""
    counted = dict.fromkeys(("estimated_frames", "frames", "frames_kept", "clips", "clips_rejected"), 200_000)
    return {"shard": task["shard"], **counted, "seconds": 5.0, "cpu_seconds": 5.0, "peak_memory_mb": 500.0}
