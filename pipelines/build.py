"""Build a corpus: files of many data sets in, shards and a catalog out.

What exists is whole; a rerun does what is missing.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from corpus import catalog, ledger
from corpus.errors import MotionloomError
from corpus.remote.mirror import Mirror
from corpus.sources.options import LoadOptions
from pipelines import executor, guard, plan
from pipelines.cluster import Cluster, default_workers
from pipelines.cluster import check as check_cluster
from pipelines.keys import add_keys
from pipelines.place import (
    Folder,
    check_places,
    check_space,
    locked,
    open_corpus,
    open_place,
    remove_leftovers,
)
from pipelines.progress import Progress
from pipelines.recipe import Recipe, with_reading
from pipelines.shard_task import HANDLING, build_shard, shard_tasks
from retarget.retarget import warm_up

log = logging.getLogger(__name__)

FOLDS = 10
"""How often the catalog is folded anew because other clients go on building."""


@dataclass(frozen=True)
class Outcome:
    """What a build did."""

    shard_count: int
    """Shards of the whole corpus."""
    built_count: int
    """Those made by this run."""
    missing: tuple[str, ...]
    """Those that should exist and do not."""
    failures: tuple[executor.Failure, ...]
    frame_count: int
    """Frames that went into the shards of this run, at the corpus rate: kept, rejected or cut away."""
    kept_count: int
    """Frames of this run that were kept."""
    seconds: float
    """Wall-clock time of this run."""
    worker_seconds: float
    """Time spent in tasks, summed over workers."""
    cpu_seconds: float
    """Processor time of those tasks: what a rate per core is reckoned by, since other programs do not count."""
    peak_memory_mb: float
    """The most memory any worker held [MiB]; 0 where nothing was built."""
    worker_count: int
    """The most workers there were at once; 0 where nothing was built."""
    death_count: int
    """How often a worker died or left in the midst of its work."""
    reissue_count: int
    """Shards that were sent to a second worker because they were late."""
    slowest: tuple[str, float]
    """The shard that took longest, and its time [s]."""

    @property
    def complete(self) -> bool:
        return not self.missing and not self.failures


def build(
    sources: dict[str, Path],
    out: Path | str,
    recipe: Recipe | None = None,
    scheduler: str = "local",
    workers: int | None = None,
    *,
    load: LoadOptions | None = None,
    progress: bool = False,
    cache: Path | None = None,
    worker_memory: str | None = None,
    report: Path | None = None,
) -> Outcome:
    """Make the corpus `out` from folders by source name, or bring it up to date with them.

    `out` is a folder, or a URL of object storage (s3://…), of which `cache` holds what a build reads again and again.

    Bad data ends in the catalog with a reason. A task that fails otherwise is tried three times and listed in the
    outcome, and its shard is missing until a later run succeeds. A clip that kills its worker is found and left out.
    """
    start = time.monotonic()
    cluster = Cluster(scheduler, workers, worker_memory, report)
    check_cluster(cluster)
    guard.check()
    sources = {name: Path(root).resolve() for name, root in sources.items()}
    recipe = recipe or Recipe()
    load = load or LoadOptions(quaternion=recipe.load.quaternion, fps=recipe.load.fps)
    recipe = with_reading(recipe, load)
    place = open_place(out, cache)
    out = place.folder
    check_places(sources, place)
    with locked(out):
        place.pull()
        open_corpus(out, recipe)
        place.publish_about()
        remove_leftovers(out)
        place.set_aside_torn()
        todo = _plan(place, sources, recipe, load)
        ran, results = executor.Summary(), []
        if len(todo.missing):
            if (_catalogued(out) or set()) - plan.finished_shards(out):
                # A shard that is made again may have other bytes: a kill in between must not leave the old one's rows.
                fold(place, changed=True)
            ran = _build_missing(todo.missing, sources, place, recipe, load, cluster, progress, results)
            remove_leftovers(out)
        finished = fold(place, changed=bool(results))
        ledger.check(pl.scan_parquet(out / "catalog" / "clips-*.parquet"))
    return Outcome(
        shard_count=len(todo.shards),
        built_count=len(results),
        missing=tuple(sorted(todo.shards - finished)),
        failures=ran.failures,
        frame_count=sum(r["frames"] for r in results),
        kept_count=sum(r["frames_kept"] for r in results),
        seconds=time.monotonic() - start,
        worker_seconds=sum(r["seconds"] for r in results),
        cpu_seconds=sum(r["cpu_seconds"] for r in results),
        peak_memory_mb=max((r["peak_memory_mb"] for r in results), default=0.0),
        worker_count=ran.worker_count,
        death_count=ran.death_count,
        reissue_count=ran.reissue_count,
        slowest=max(((r["shard"], r["seconds"]) for r in results), key=lambda one: one[1], default=("", 0.0)),
    )


def _plan(place: Folder | Mirror, sources: dict[str, Path], recipe: Recipe, load: LoadOptions) -> plan.Plan:
    """Scan the sources, bring the plan up to date with them, and say what has changed there since."""
    out = place.folder
    clips = add_keys(plan.scan_sources(sources, load.skeleton), sources, out / "plans" / "keys.parquet")
    todo = plan.make_plan(clips, out, recipe.hash)
    place.publish_plan()
    for shard in sorted(todo.strays):
        place.set_aside(shard, "its clips stand in other shards")
    if todo.gone_count:
        log.warning("%d clips of this corpus have changed or vanished from the sources; they stay", todo.gone_count)
    if todo.dropped_count:
        log.warning(
            "%d clips that were still to be built have changed or vanished: planned no more", todo.dropped_count
        )
    return todo


def _build_missing(
    missing: pl.DataFrame, sources: dict[str, Path], place: Folder | Mirror, recipe: Recipe, load: LoadOptions,
    cluster: Cluster, progress: bool, results: list[dict],
) -> executor.Summary:  # fmt: skip
    """Build the shards of these plan rows; fills `results`."""
    count, frames = missing["shard"].n_unique(), int(missing["frames"].sum())
    log.info("%d shards to build: %d clips, about %s frames", count, len(missing), f"{frames:,}")
    if isinstance(place, Folder):
        check_space(place.folder, frames)
        (place.folder / "shards").mkdir(exist_ok=True)
    if cluster.scheduler == "local":
        warm_up()  # here, once: the workers then find the compiled kernel in Warp's cache
        cluster = replace(cluster, workers=min(cluster.workers or default_workers(), count))
    with Progress(count, frames, shown=progress) as bar:

        def on_result(result: dict) -> None:
            results.append(result)
            bar.advance(result)

        tasks = shard_tasks(missing, sources, place.place, recipe, load)
        return executor.run(build_shard, tasks, cluster=cluster, handling=HANDLING, on_result=on_result)


def fold(place: Folder | Mirror, *, changed: bool) -> set[str]:
    """Bring the catalog up to date with the shards there are, and give their names.

    On object storage another client may finish shards, or publish its own catalog, meanwhile: then once more.
    """
    for _ in range(FOLDS):
        place.pull()
        finished = plan.finished_shards(place.folder)
        if not changed and not _stale(place.folder, finished):
            return finished
        catalog.fold(place.folder, rows_only=place.rows_only)
        place.publish_catalog()
        changed = False
    raise MotionloomError(f"{place.place}: another build keeps changing it; run the same command again.")


def _stale(out: Path, finished: set[str]) -> bool:
    """Does the catalog tell of other shards than there are?"""
    return _catalogued(out) != finished


def _catalogued(out: Path) -> set[str] | None:
    """The shards that the catalog tells of; None where it cannot be read."""
    try:
        clips = pl.scan_parquet(out / "catalog" / "clips-*.parquet").select(pl.col("shard").unique()).collect()
        pl.scan_parquet(out / "catalog" / "segments-*.parquet").collect_schema()
    except plan.UNREADABLE:
        return None
    return set(clips["shard"])
