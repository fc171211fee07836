"""The unit of work: one shard, made by one task on any worker. A task is a small dict that another machine understands."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from corpus.errors import MotionloomError, Rejected
from corpus.motion import Clip
from corpus.sources import SOURCES
from corpus.sources.options import LoadOptions
from pipelines import executor, plan
from pipelines.bisect import DEATHS, Handling
from pipelines.clips import Loaded, Processed, finish, load_clip, new_row, reject
from pipelines.place import writer_of
from pipelines.recipe import Recipe

log = logging.getLogger(__name__)

BATCH_FRAMES = 16384
"""Clips are retargeted together until they have this many frames: enough to forget what a call costs, little to hold."""


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


def shard_tasks(
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
    """The task with each clip of the culprits under "crashed"; where all seem to be to blame, none is."""
    clips = [clip for culprit in culprits for clip in _suspects(culprit)]
    if len(clips) == len(_suspects(task)) and len({clip["clip"] for clip in clips}) > 2:
        log.error(
            "every clip of shard %s kills its worker: too little memory, most likely, not the clips", task["shard"]
        )
        return task
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
            waiting.append(Loaded(reject(new_row(clip), same), None))
        elif _identity(planned) in task.get("crashed", []):
            crashed = Rejected("crashed_worker", "killed its worker whenever it was worked on alone", deaths=DEATHS)
            waiting.append(Loaded(reject(new_row(clip), crashed), None))
        else:
            waiting.append(load_clip(clip, Path(task["roots"][clip.source]), load))
    yield from finished()
