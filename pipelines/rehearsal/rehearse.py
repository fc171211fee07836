"""Rehearse a build of any size with made-up clips: plan, resume, fold, open, query, draw and schedule, at full count.

What a shard costs is measured on a small real build; the sum for a cluster follows. Every stage runs in a process of
its own, so that its memory is its own, and uses the functions that builds and loaders use.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from corpus.errors import MotionloomError
from pipelines.cluster import default_workers
from pipelines.executor import peak_memory_mb
from pipelines.plan import shard_count
from pipelines.rehearsal import costs, stages
from pipelines.rehearsal.estimate import overhead_fraction, workers_fed

Found = dict[str, dict[str, Any]]
"""What each stage found, with its `stage_seconds` and `peak_mb`."""

DISK_PER_CLIP, DISK_PER_SHARD = 700, 60_000
"""About what the rows of a clip, and the files of a shard beside them, take on the disk [bytes]."""


@dataclass(frozen=True)
class Rehearsal:
    """What is rehearsed."""

    frames: int
    """Of all clips of different bytes, at the corpus rate."""
    clips: int
    frames_per_core_second: float | None = None
    """None: measured by a small build."""
    built_clips: int = 250
    """Clips of each of these builds."""
    rounds: int = 3
    """How many of them there are, besides one that warms up."""
    looked_at: int = 20_000
    """Real, tiny files that are walked over and opened."""


def run_alone(function: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """The stage's numbers, its time and its memory, from a new process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measured, function, *arguments).result()


def measured(function: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    start = time.perf_counter()
    numbers = function(*arguments)
    return {**numbers, "stage_seconds": time.perf_counter() - start, "peak_mb": peak_memory_mb()}


def rehearse(
    rehearsal: Rehearsal,
    place: Path,
    *,
    workers: int | None = None,
    keep: bool = False,
    run: Callable[..., dict[str, Any]] | None = None,
    told: Callable[[str, dict[str, Any]], None] = lambda stage, numbers: None,
) -> Found:
    """Run all stages in a new folder below `place`, deleted in the end; tell of each as it is done.

    `run` calls a stage: in a process of its own unless told otherwise.

    Raises `MotionloomError` where what one stage wrote is not what another finds.
    """
    place.mkdir(parents=True, exist_ok=True)
    _check_space(place, rehearsal)
    work = Path(tempfile.mkdtemp(prefix="rehearsal-", dir=place))
    found: Found = {}

    def stage(name: str, function: Callable[..., dict[str, Any]], *arguments: Any) -> None:
        found[name] = (run or run_alone)(function, work, *arguments)
        told(name, found[name])

    try:
        stage("rows", stages.make_rows, rehearsal.clips, rehearsal.frames)
        stage("plan", stages.make_plan)
        stage("planned", stages.read_plan)
        stage("shards, first half", stages.write_shards, 2, 0)
        stage("resume", stages.make_plan)
        stage("shards, second half", stages.write_shards, 2, 1)
        stage("fold", stages.fold)
        stage("open", stages.open_corpus)
        stage("query", stages.query)
        stage("draw", stages.draw)
        stage("schedule", costs.schedule, workers or default_workers())
        stage("look", costs.look_at_files, min(rehearsal.looked_at, rehearsal.clips))
        found["rate"] = {"frames_per_core_second": rehearsal.frames_per_core_second, "rounds": 0}
        if rehearsal.frames_per_core_second is None:
            stage("rate", costs.build_some, rehearsal.built_clips, rehearsal.rounds)
    finally:
        if not keep:
            shutil.rmtree(work)
    check(found, rehearsal)
    return found


def check(found: Found, rehearsal: Rehearsal) -> None:
    """Does every stage tell of the same clips, frames and shards?"""
    planned, resumed, opened, ledger = (found[name] for name in ("plan", "resume", "open", "query"))
    half = found["shards, first half"]["shards"]
    claims = {
        "the plan has every clip once": found["planned"]["different_clips"] == planned["clips"] == rehearsal.clips,
        "a new plan leaves all to do": planned["missing_clips"] == rehearsal.clips and planned["finished"] == 0,
        "a resumed plan is the same plan": resumed["plan_hash"] == planned["plan_hash"],
        "what is left to do is the other half": resumed["missing_as_expected"] and resumed["finished"] == half
        and resumed["missing_shards"] == planned["shards"] - half,
        "the ledger has every clip": ledger["ledger_clips"] == rehearsal.clips,
        "the ledger adds up to the frames asked for": ledger["ledger_frames"] == rehearsal.frames,
        "what is opened is what was kept": opened["kept_frames"] == ledger["ledger_frames_kept"],
        "every task came back": found["schedule"]["tasks"] == planned["shards"],
    }  # fmt: skip
    if wrong := [claim for claim, holds in claims.items() if not holds]:
        raise MotionloomError(f"The rehearsal failed, for it is not true that {'; '.join(wrong)}.")


def figures(found: Found, workers: int) -> dict[str, Any]:
    """The numbers that matter most, by name, and after them all others by stage."""
    planning = found["plan"], found["resume"]
    first = {
        "plan_rss_mb": max(one["peak_mb"] for one in planning),
        "plan_seconds": max(one["stage_seconds"] for one in planning),
        "open_seconds": found["open"]["open_seconds"],
        "draw_ms_per_1024": found["draw"]["draw_ms_per_1024"],
        "scheduler_overhead_fraction": overhead_fraction(found, workers),
        "workers_at_2_percent": workers_fed(found, 0.02),
        "workers_at_100_percent": workers_fed(found),
    }
    others = {f"{stage}: {name}": value for stage, numbers in found.items() for name, value in numbers.items()}
    return {name: _short(value) for name, value in {**first, **others}.items()}


def _check_space(place: Path, rehearsal: Rehearsal) -> None:
    needed = rehearsal.clips * DISK_PER_CLIP + shard_count(rehearsal.frames) * DISK_PER_SHARD
    free = shutil.disk_usage(place).free
    if free < needed:
        raise MotionloomError(f"{place}: {free >> 20} MiB of disk are free; this rehearsal takes about {needed >> 20}.")


def _short(value: Any) -> Any:
    return float(f"{value:.5g}") if isinstance(value, float) else value
