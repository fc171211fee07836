"""How much better a student gets with more data and a larger network: a grid of runs, each done once.

    subsets = nested_subsets(recording, corpus.frames, (1 / 16, 1 / 4, 1), among=train_part)
    rows = run_grid(folder, {"nano": 1_200_000, "S": 5_700_000}, subsets, (0, 1), train)
    report(folder, rows)                                        # trainer.scaling_report: fit, plot and table

A finished run is a line of `scaling.jsonl`; the same call after a kill does the others. `train` is the caller's: what is compared is up
to it, and it goes on from its own checkpoints in the folder it is given. All runs are to be judged on the same motions, of
recordings that no subset holds.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import Bool, Float, Int

from corpus.errors import MotionloomError
from trainer.run_log import duration, read_lines

ROWS = "scaling.jsonl"
VALIDATION_SHARE = 0.1

log = logging.getLogger(__name__)


class Train(Protocol):
    def __call__(self, size: str, segments: Int[np.ndarray, " K"], seed: int, folder: Path) -> Mapping[str, float]:
        """Train a network of that size on these segments; gives its validation `loss` and other numbers, `success` among them.

        Raises where it was stopped before its end: what it gives is final.
        """
        ...


@dataclass(frozen=True, eq=False)
class Subset:
    """Whole recordings of a corpus; a smaller one lies within each larger one."""

    share: float
    """Of the frames, as asked for."""
    segments: Int[np.ndarray, " K"]
    """Numbers of the segments, ascending."""
    frames: int
    recording_count: int

    @cached_property
    def stamp(self) -> str:
        """Which segments these are."""
        return hashlib.blake2b(self.segments.astype("<i8").tobytes(), digest_size=8).hexdigest()


@dataclass(frozen=True)
class Job:
    size: str
    parameters: int
    subset: Subset
    seed: int

    @property
    def name(self) -> str:
        return f"{self.size}_{self.subset.share:g}_{self.seed}"

    def facts(self, about: Mapping[str, Any]) -> dict[str, Any]:
        """What its numbers belong to."""
        part = {"share": self.subset.share, "frames": self.subset.frames, "recordings": self.subset.recording_count}
        return {"job": self.name, "size": self.size, "parameters": self.parameters, "seed": self.seed, **part,
                "segments": self.subset.stamp, "about": json.loads(json.dumps(dict(about)))}  # fmt: skip


def nested_subsets(
    recording: Sequence[str],
    frames: Int[np.ndarray, " S"],
    shares: Sequence[float],
    *,
    among: Bool[np.ndarray, " S"] | None = None,
    seed: int = 0,
) -> tuple[Subset, ...]:
    """Parts of a corpus that hold these shares of its frames as nearly as whole recordings allow, the smallest first.

    `recording` names what is not to be torn, for each segment: its take, or the unit of `loom split`. Their order is a hash of the name,
    so each part is a random sample, the same one on any machine. Only segments `among` the given ones are dealt out.
    """
    if not shares or not all(0 < share <= 1 for share in shares) or len(set(shares)) != len(shares):
        raise MotionloomError(f"shares {tuple(shares)}: should be different numbers above 0 and up to 1.")
    chosen = np.arange(len(frames)) if among is None else np.flatnonzero(among)
    place, ends = _ordered([str(recording[number]) for number in chosen.tolist()], frames[chosen], seed)
    parts = []
    for share in sorted(shares):
        count = 1 + int(np.abs(ends - share * ends[-1]).argmin())
        parts.append(Subset(share, chosen[place < count], int(ends[count - 1]), count))
    for smaller, larger in itertools.pairwise(parts):
        if smaller.recording_count == larger.recording_count:
            raise MotionloomError(
                f"Shares {smaller.share:g} and {larger.share:g} of {len(ends)} recordings are the same {larger.recording_count}: "
                "leave one out, or take more recordings."
            )
    return tuple(parts)


def validation_part(
    recording: Sequence[str], frames: Int[np.ndarray, " S"], *, share: float = VALIDATION_SHARE, seed: int = 0
) -> Bool[np.ndarray, " S"]:
    """Segments of recordings drawn by a hash of their name, about this share of the frames: for a corpus that `loom split` has not seen."""
    if not 0 < share < 1:
        raise MotionloomError(f"A share of {share:g} for validation: should be above 0 and below 1.")
    place, ends = _ordered([f"validation\0{name}" for name in recording], frames, seed)
    if len(ends) < 2:
        raise MotionloomError("One recording cannot be divided: validation takes others than training.")
    return place <= min(int(np.abs(ends - share * ends[-1]).argmin()), len(ends) - 2)


def run_grid(
    folder: Path,
    sizes: Mapping[str, int],
    subsets: Sequence[Subset],
    seeds: Sequence[int],
    train: Train,
    *,
    about: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Do what is not done yet of all sizes × subsets × seeds, the cheapest first; gives their rows.

    `sizes` tells the parameters of each; `about` is what else all runs share (steps, options, validation part) and is kept in the rows.
    Sizes, subsets and seeds may be added later. Raises where a row was made with other data, parameters or options.
    """
    folder.mkdir(parents=True, exist_ok=True)
    done = {row["job"]: row for row in read_lines(folder / ROWS, "job")}
    jobs = [Job(size, sizes[size], subset, seed) for size in sizes for subset in subsets for seed in seeds]
    jobs.sort(key=lambda job: job.parameters * job.subset.frames)
    for job in jobs:
        _check_same(folder / ROWS, done.get(job.name), job.facts(about or {}))
    for number, job in enumerate(jobs, 1):
        if job.name in done:
            continue
        log.info("run %d of %d: %s, %d frames", number, len(jobs), job.name, job.subset.frames)
        began = time.monotonic()
        numbers = train(job.size, job.subset.segments, job.seed, folder / "runs" / job.name)
        seconds = time.monotonic() - began
        done[job.name] = row = {**job.facts(about or {}), **_plain(job, numbers), "seconds": round(seconds, 1)}
        _append(folder / ROWS, row)
        log.info("%s: loss %s after %s", job.name, row["loss"], duration(seconds))
    return [done[job.name] for job in jobs]


def _ordered(
    names: Sequence[str], frames: Int[np.ndarray, " S"], seed: int
) -> tuple[Int[np.ndarray, " S"], Float[np.ndarray, " R"]]:
    """Each segment's recording as a place in the random order, and how many frames the recordings up to each place hold."""
    unique, which = np.unique(np.array(names, object), return_inverse=True)
    if not len(unique):
        raise MotionloomError("There are no segments to take subsets of.")
    digests = [hashlib.blake2b(f"{seed}\0{name}".encode(), digest_size=8).digest() for name in unique]
    place = np.empty(len(unique), np.int64)
    place[np.argsort(np.array(digests, object), kind="stable")] = np.arange(len(unique))
    return place[which], np.cumsum(np.bincount(place[which], frames, len(unique)))


def _check_same(path: Path, row: Mapping[str, Any] | None, facts: Mapping[str, Any]) -> None:
    others = [] if row is None else [name for name in facts if row.get(name) != facts[name]]
    if row is not None and others:
        told = ", ".join(f"{name} {row.get(name)!r} (now {facts[name]!r})" for name in others)
        raise MotionloomError(f"{path}: run {facts['job']} was made with {told}. Take another folder for other runs.")


def _plain(job: Job, numbers: Mapping[str, float]) -> dict[str, float | None]:
    """As JSON holds them; a loss that is not finite is null, which tells of a run that diverged."""
    if "loss" not in numbers:
        raise MotionloomError(f"{job.name}: the training gave {', '.join(numbers) or 'nothing'}, but no loss.")
    return {name: float(value) if math.isfinite(value) else None for name, value in numbers.items()}


def _append(path: Path, row: Mapping[str, Any]) -> None:
    """One more line, safe on the disk; what a kill left of a line before it goes."""
    with path.open("a+b") as file:
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
        file.write(json.dumps(row).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
