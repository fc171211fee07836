"""Build a corpus: files of many data sets in, shards and a catalog out.

What exists is whole; a rerun does what is missing.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import math
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from corpus import catalog, ledger
from corpus.contact import detect_contacts
from corpus.errors import CorruptShard, MotionloomError, RecipeMismatch, Rejected
from corpus.g1 import G1
from corpus.mirror import Mirror
from corpus.motion import Clip, HumanMotion, RobotMotion
from corpus.posture import join_postures, postures
from corpus.quality import Fit, FrameMeasures, frame_measures, summarise
from corpus.resample import resample
from corpus.segment import Span, cut
from corpus.sources import SOURCES, source
from corpus.sources.options import LoadOptions
from corpus.store import Shard
from pipelines import executor, guard, plan
from pipelines.bisect import DEATHS, Handling
from pipelines.cluster import Cluster, default_workers
from pipelines.cluster import check as check_cluster
from pipelines.keys import add_keys
from pipelines.place import Folder, open_place, writer_of
from pipelines.progress import Progress
from pipelines.quarantine import FOLDER as QUARANTINE
from pipelines.quarantine import set_aside
from pipelines.recipe import FORMAT, Recipe, differences, with_reading
from retarget.retarget import Retargeted, retarget_clips, warm_up

log = logging.getLogger(__name__)

OWN_NAMES = {"corpus.json", "plans", "shards", "catalog", "hme", "runs", "bundle", "report", QUARANTINE, ".lock"}
"""What may lie at the top of a corpus."""


BATCH_FRAMES = 16384
"""Clips are retargeted together until they have this many frames: enough to forget what a call costs, little to hold."""


FOLDS = 10
"""How often the catalog is folded anew because other clients go on building."""


@dataclass(frozen=True)
class Loaded:
    """A clip's row, and its motion as the file has it; None where there is none."""

    row: dict[str, Any]
    raw: HumanMotion | RobotMotion | None

    @property
    def frame_count(self) -> int:
        return 0 if self.raw is None else self.raw.frame_count


@dataclass(frozen=True)
class Processed:
    """What became of a clip."""

    row: dict[str, Any]
    segments: list[dict[str, Any]]
    """Rows of the segments, kept and rejected."""
    lost: list[Span]
    """What was cut away between them."""
    motion: RobotMotion | None
    """At the corpus rate, with its contacts; None where the clip gave none."""
    measures: FrameMeasures | None


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
        clips = add_keys(plan.scan_sources(sources, load.skeleton), sources, out / "plans" / "keys.parquet")
        todo = plan.make_plan(clips, out, recipe.hash)
        place.publish_plan()
        for shard in sorted(todo.strays):
            place.set_aside(shard, "its clips stand in other shards")
        if todo.gone_count:
            log.warning("%d clips of this corpus have changed or vanished from the sources; they stay", todo.gone_count)
        ran, results = executor.Summary(), []
        if len(todo.missing):
            ran = _build_missing(todo.missing, sources, place, recipe, load, cluster, progress, results)
            remove_leftovers(out)
        finished = _fold(place, changed=bool(results))
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


def build_shard(task: dict[str, Any]) -> dict[str, Any]:
    """Make one shard: read, retarget, cut and judge its clips one by one, then let it appear by one rename.

    A probe does the same with some of the clips and writes nothing. The clips under "crashed" have killed workers.
    """
    start, cpu_start = time.monotonic(), time.process_time()
    recipe, load = Recipe.from_json(task["recipe"]), _unpack(task["load"])
    if task.get("probe"):
        return {"probed": sum(1 for _ in _clips_of(task, recipe, load))}
    frames = kept = rejected = 0
    try:
        with writer_of(task["out"], task["shard"], recipe.hash) as writer:
            for done in _clips_of(task, recipe, load):
                writer.add(done.row, done.segments, done.motion)
                frames, kept = frames + done.row["frames"], kept + done.row["frames_kept"]
                rejected += done.row["status"] == "rejected"
            writer.commit()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise MotionloomError(
                f"{task['out']}: the disk is full; free some space and run the same command."
            ) from error
        raise
    return {
        "shard": task["shard"],
        "estimated_frames": task["estimated_frames"],
        "frames": frames,
        "frames_kept": kept,
        "clips": len(task["clips"]),
        "clips_rejected": rejected,
        "seconds": time.monotonic() - start,
        "cpu_seconds": time.process_time() - cpu_start,
        "peak_memory_mb": executor.peak_memory_mb(),
    }


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """Only one build at a time in a corpus; the lock goes with the process, however it ends."""
    out.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(out / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(descriptor, 32).decode() or "unknown"
            raise MotionloomError(f"{out} is being built by another process (pid {owner}): wait for it.") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _build_missing(
    missing: pl.DataFrame, sources: dict[str, Path], place: Folder | Mirror, recipe: Recipe, load: LoadOptions,
    cluster: Cluster, progress: bool, results: list[dict],
) -> executor.Summary:  # fmt: skip
    """Build the shards of these plan rows; fills `results`."""
    count, frames = missing["shard"].n_unique(), int(missing["frames"].sum())
    log.info("%d shards to build: %d clips, about %s frames", count, len(missing), f"{frames:,}")
    if isinstance(place, Folder):
        _check_space(place.folder, frames)
        (place.folder / "shards").mkdir(exist_ok=True)
    if cluster.scheduler == "local":
        warm_up()  # here, once: the workers then find the compiled kernel in Warp's cache
        cluster = replace(cluster, workers=min(cluster.workers or default_workers(), count))
    with Progress(count, frames, shown=progress) as bar:

        def on_result(result: dict) -> None:
            results.append(result)
            bar.advance(result)

        tasks = _tasks(missing, sources, place.place, recipe, load)
        return executor.run(build_shard, tasks, cluster=cluster, handling=HANDLING, on_result=on_result)


def _tasks(
    missing: pl.DataFrame, sources: dict[str, Path], out: Path | str, recipe: Recipe, load: LoadOptions
) -> Iterator[dict[str, Any]]:
    """One task per shard, made as it is asked for."""
    order = {name: number for number, name in enumerate(SOURCES)}
    roots = {name: str(root) for name, root in sources.items()}
    common = {"out": str(out), "recipe": recipe.to_json(), "load": _pack(load), "roots": roots}
    for (shard,), rows in missing.group_by("shard", maintain_order=True):
        # Of two sources that read the same bytes the more telling one comes first in SOURCES: lafan1 before bvh.
        clips = rows.drop("shard").to_dicts()
        clips.sort(key=lambda clip: (clip["clip"], order[clip["source"]], clip["path"], clip["part"]))
        yield {**common, "shard": shard, "clips": clips, "estimated_frames": int(rows["frames"].sum())}


def _identity(clip: dict[str, Any]) -> list[str]:
    return [clip[name] for name in plan.IDENTITY]


def _suspects(task: dict[str, Any]) -> list[dict[str, Any]]:
    """The clips of a task that could kill its worker."""
    return [clip for clip in task["clips"] if _identity(clip) not in task.get("crashed", [])]


def _halves(task: dict[str, Any]) -> list[dict[str, Any]]:
    """Two probes of half of the clips each; none where only one clip could be to blame."""
    clips = _suspects(task)
    middle = len(clips) // 2
    return [_probe(task, half) for half in (clips[:middle], clips[middle:])] if middle else []


def _probe(task: dict[str, Any], clips: list[dict[str, Any]]) -> dict[str, Any]:
    return {**task, "clips": clips, "probe": True, "estimated_frames": sum(clip["frames"] for clip in clips)}


def _mark_crashed(task: dict[str, Any], culprits: list[dict[str, Any]]) -> dict[str, Any]:
    """The task with each clip of the culprits under "crashed"."""
    clips = [clip for culprit in culprits for clip in _suspects(culprit)]
    for clip in clips:
        log.error("%s:%s kills its worker: left out of shard %s", clip["source"], clip["path"], task["shard"])
    return {**task, "crashed": [*task.get("crashed", []), *map(_identity, clips)]}


HANDLING = Handling(
    name=lambda task: f"shard {task['shard']}",
    cost=lambda task: max(task["estimated_frames"], 1.0),
    halves=_halves,
    mark=_mark_crashed,
)


def _pack(load: LoadOptions) -> dict[str, Any]:
    return {name: str(value.resolve()) if isinstance(value, Path) else value for name, value in vars(load).items()}


def _unpack(packed: dict[str, Any]) -> LoadOptions:
    load = LoadOptions(**packed)
    return replace(
        load, body_models=load.body_models and Path(load.body_models), skeleton=load.skeleton and Path(load.skeleton)
    )


def _clips_of(task: dict[str, Any], recipe: Recipe, load: LoadOptions) -> Iterator[Processed]:
    """Every clip of a shard, done, in order. Of files with the same bytes the first that gives a motion counts.

    Motions are retargeted many at once, which costs far less than one by one; what comes out is the same.
    """
    taken: dict[str, str] = {}
    waiting: list[Loaded] = []

    def finished() -> Iterator[Processed]:
        for done in finish(waiting, recipe):
            if done.row["frames"]:
                taken[done.row["clip"]] = f"{done.row['source']}:{done.row['path']}"
            yield done
        waiting.clear()

    for planned in task["clips"]:
        names = ("source", "path", "part", "licence", "subject", "recording", "label", "byte_count")
        clip = Clip(**{name: planned[name] for name in names}, key=planned["clip"])
        # Files with the same bytes follow each other: whether the first gives a motion must be known before the second.
        if waiting and (waiting[-1].row["clip"] == clip.key or sum(w.frame_count for w in waiting) >= BATCH_FRAMES):
            yield from finished()
        if first := planned["duplicate_of"] or taken.get(clip.key):
            same = Rejected("duplicate_file", f"the same bytes as {first}", first=first)
            waiting.append(Loaded(_reject(_new_row(clip), same), None))
        elif _identity(planned) in task.get("crashed", []):
            crashed = Rejected("crashed_worker", "killed its worker whenever it was worked on alone", deaths=DEATHS)
            waiting.append(Loaded(_reject(_new_row(clip), crashed), None))
        else:
            waiting.append(load_clip(clip, Path(task["roots"][clip.source]), load))
    yield from finished()


def load_clip(clip: Clip, root: Path, load: LoadOptions) -> Loaded:
    """A clip as its source reads it; where the file is bad, the row says why."""
    row = _new_row(clip)
    try:
        raw = source(clip.source).load(root, clip, load)
    except Rejected as rejected:
        return Loaded(_reject(row, rejected, root), None)
    except Exception as error:
        error.add_note(_name(row))
        raise
    row |= {"source_fps": float(raw.fps), "source_frames": raw.frame_count, "note": raw.note}
    row["body_model"] = raw.body_model if isinstance(raw, HumanMotion) else ""
    return Loaded(row, raw)


def finish(batch: list[Loaded], recipe: Recipe) -> Iterator[Processed]:
    """Retarget and measure a batch, then cut and judge clip by clip."""
    try:
        done = _on_robot(batch, recipe)
        measured = iter(_measure([one for one in done if isinstance(one, Retargeted)], recipe.fps))
    except Exception as error:
        if len(batch) == 1:
            error.add_note(_name(batch[0].row))
            raise
        # One by one it shows whose fault it is.
        for loaded in batch:
            yield from finish([loaded], recipe)
        return
    for loaded, one in zip(batch, done, strict=True):
        if one is None:
            yield Processed(loaded.row, [], [], None, None)
        elif isinstance(one, Rejected):
            yield Processed(_reject(loaded.row, one), [], [], None, None)
        else:
            loaded.row["scale"] = one.scale
            motion, measures = next(measured)
            segments, lost = _judge(measures, recipe)
            row = _conclude(loaded.row, motion.frame_count, segments, lost)
            yield Processed(row, segments, lost, motion, measures)


def _name(row: dict[str, Any]) -> str:
    part = f" [{row['part']}]" if row["part"] else ""
    return f"in {row['source']}:{row['path']}{part}"


def _on_robot(batch: list[Loaded], recipe: Recipe) -> list[Retargeted | Rejected | None]:
    """The robot's motion of each clip of a batch; None where there is no motion."""
    humans = [loaded.raw for loaded in batch if isinstance(loaded.raw, HumanMotion)]
    retargeted = iter(retarget_clips(humans, G1, recipe.retarget))
    done: list[Retargeted | Rejected | None] = []
    for loaded in batch:
        if isinstance(loaded.raw, HumanMotion):
            done.append(next(retargeted))
        else:
            done.append(None if loaded.raw is None else _recorded_on_robot(loaded.raw, recipe))
    return done


def _recorded_on_robot(raw: RobotMotion, recipe: Recipe) -> Retargeted | Rejected:
    """Motion that came on the robot, at the corpus rate."""
    motion = resample(raw, recipe.fps)
    if motion.frame_count < 2:
        return Rejected("too_short", "fewer than two frames at the corpus rate", frames=raw.frame_count, minimum=2)
    motion = replace(motion, qpos=np.ascontiguousarray(motion.qpos, np.float32))
    count = motion.frame_count
    return Retargeted(motion, postures(G1, motion.qpos), Fit.unknown(count), None, np.zeros(count))


def _measure(done: list[Retargeted], fps: float) -> list[tuple[RobotMotion, FrameMeasures]]:
    """Motions with their contacts, and their measures frame by frame; all at once."""
    if not done:
        return []
    ends = np.cumsum([one.motion.frame_count for one in done]).tolist()
    starts = [0, *ends[:-1]]
    outside = join_postures([one.outside for one in done])
    contact = detect_contacts(fps, outside, starts)
    measures = frame_measures(
        G1,
        RobotMotion(np.concatenate([one.motion.qpos for one in done]), fps, contact),
        outside,
        Fit.join([one.fit for one in done]),
        starts=starts,
    )
    return [
        (replace(one.motion, contact=contact[start:end]), measures.slice(start, end))
        for one, start, end in zip(done, starts, ends, strict=True)
    ]


def _judge(measures: FrameMeasures, recipe: Recipe) -> tuple[list[dict[str, Any]], list[Span]]:
    """Rows of the segments, kept and rejected, and what is cut away between them."""
    segments, lost = [], []
    for span in cut(measures, recipe.cut):
        if span.reason is not None:
            lost.append(span)
            continue
        quality = summarise(measures, span.start, span.stop)
        segment = {
            "start": span.start,
            "frames": span.stop - span.start,
            "status": "kept",
            "reason": None,
            "numbers": None,
        }
        try:
            recipe.gate.check(quality)
        except Rejected as rejected:
            segment |= {"status": "rejected", "reason": rejected.reason, "numbers": as_json(rejected.numbers)}
        segments.append(segment | vars(quality))
    return segments, lost


def _conclude(row: dict[str, Any], frames: int, segments: list[dict[str, Any]], lost: list[Span]) -> dict[str, Any]:
    """The clip's row with its frames told apart; a clip that kept nothing takes the reason that cost it most."""
    kept = sum(s["frames"] for s in segments if s["status"] == "kept")
    rejected = sum(s["frames"] for s in segments if s["status"] == "rejected")
    cut_away = sum(span.stop - span.start for span in lost)
    if kept + rejected + cut_away != frames:
        raise AssertionError(f"{row['source']}:{row['path']}: spans do not tile the {frames} frames.")
    row |= {"frames": frames, "frames_kept": kept, "frames_rejected": rejected, "frames_cut": cut_away}
    if kept:
        return row | {"status": "kept", "reason": None}
    cost: dict[str, int] = {}
    for span in lost:
        cost[str(span.reason)] = cost.get(str(span.reason), 0) + span.stop - span.start
    for segment in segments:
        cost[segment["reason"]] = cost.get(segment["reason"], 0) + segment["frames"]
    reason = max(sorted(cost), key=lambda name: cost[name])
    return row | {"status": "rejected", "reason": reason, "detail": "no segment was kept", "numbers": as_json(cost)}


def _new_row(clip: Clip) -> dict[str, Any]:
    about = {
        name: getattr(clip, name) for name in ("source", "path", "part", "licence", "subject", "recording", "label")
    }
    unknown = dict.fromkeys(("reason", "detail", "numbers", "source_fps", "source_frames", "scale"))
    nothing = dict.fromkeys(("frames", "frames_kept", "frames_rejected", "frames_cut"), 0)
    return {"clip": clip.key, **about, **unknown, **nothing, "status": "rejected", "body_model": "", "note": ""}


def _reject(row: dict[str, Any], rejected: Rejected, root: Path | None = None) -> dict[str, Any]:
    detail = rejected.detail
    if root is not None:
        # Where the files lie is no part of the corpus: moved, they give the same bytes.
        detail = detail.replace(f"{root}/", "").replace(str(root), "")
    return row | {"reason": rejected.reason, "detail": detail, "numbers": as_json(rejected.numbers)}


def as_json(numbers: dict[str, Any]) -> str:
    """Numbers as a JSON object; what JSON cannot write (NaN, infinity) stands as text."""

    def plain(value: Any) -> Any:
        value = value.item() if isinstance(value, np.generic) else value
        if isinstance(value, float) and not math.isfinite(value):
            return str(value)
        return value if isinstance(value, (int, float, str, bool)) or value is None else str(value)

    return json.dumps({name: plain(value) for name, value in numbers.items()}, sort_keys=True)


def check_places(sources: dict[str, Path], place: Folder | Mirror) -> None:
    """A corpus lies outside its sources, and in a folder of its own."""
    out = place.folder
    for name, root in sources.items():
        if out.is_relative_to(root):
            raise MotionloomError(f"The corpus {out} lies inside the source {name} ({root}): put it elsewhere.")
    if out.exists() and not out.is_dir():
        raise MotionloomError(f"{out} is a file, not a folder.")
    if "corpus.json" not in (there := place.top()):
        strange = sorted(name for name in there if name not in OWN_NAMES and not name.startswith(".tmp-"))
        if strange:
            raise MotionloomError(f"{place.place} holds other things ({strange[0]!r}): name an empty or new folder.")


def open_corpus(out: Path, recipe: Recipe) -> None:
    """Write what the corpus is, or check that it is what this recipe makes."""
    path = out / "corpus.json"
    if not path.exists():
        _describe(path, recipe)
        return
    try:
        about = json.loads(path.read_text())
        there, stored_hash = json.dumps(about["recipe"]), about["recipe_hash"]
    except (ValueError, KeyError, TypeError) as error:
        if not _made_by(out, recipe):
            raise MotionloomError(
                f"{path} is damaged ({error!r}) and its shards were made by another recipe than this one: build with theirs."
            ) from None
        set_aside(out, path, f"it is damaged ({error!r})")
        _describe(path, recipe)
        return
    if stored_hash != recipe.hash:
        raise RecipeMismatch(f"{out} was made by another recipe ({differences(there, recipe)}): name another folder.")


def _describe(path: Path, recipe: Recipe) -> None:
    about = {
        "format": FORMAT,
        "recipe": json.loads(recipe.to_json()),
        "recipe_hash": recipe.hash,
        "robot": G1.name,
        "joint_names": list(G1.joint_names),
        "fps": recipe.fps,
    }
    plan.replace_file(path, lambda temporary: temporary.write_text(json.dumps(about, indent=1, sort_keys=True) + "\n"))


def _made_by(out: Path, recipe: Recipe) -> bool:
    """Were all shards made by this recipe? What is damaged among them does not count."""
    hashes = set()
    for shard in plan.finished_shards(out):
        with contextlib.suppress(CorruptShard):
            hashes.add(Shard.open(out / "shards" / shard).recipe)
    return hashes <= {recipe.hash}


def remove_leftovers(out: Path) -> None:
    """Half-made things of runs that were killed."""
    for folder in (out, out / "plans", out / "shards", out / "catalog"):
        for path in folder.glob(".tmp-*"):
            # A worker of a client that died may be writing it still: once renamed, it cannot become a shard half deleted.
            gone = path.with_name(f".tmp-gone-{uuid.uuid4().hex}")
            with contextlib.suppress(FileNotFoundError):
                path.rename(gone)
                shutil.rmtree(gone, ignore_errors=True) if gone.is_dir() else gone.unlink(missing_ok=True)


def _check_space(out: Path, frames: int, *, least: int = 64 << 20) -> None:
    free, likely = shutil.disk_usage(out).free, frames * 150
    if free < least:
        raise MotionloomError(f"{out}: only {free >> 20} MiB of disk are free; a build needs at least {least >> 20}.")
    if free < likely:
        log.warning("%d MiB of disk are free and the corpus may take %d", free >> 20, likely >> 20)


def _fold(place: Folder | Mirror, *, changed: bool) -> set[str]:
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
    try:
        clips = pl.scan_parquet(out / "catalog" / "clips-*.parquet").select(pl.col("shard").unique()).collect()
        pl.scan_parquet(out / "catalog" / "segments-*.parquet").collect_schema()
    except (pl.exceptions.PolarsError, OSError):
        return True
    return set(clips["shard"]) != finished
