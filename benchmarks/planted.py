"""Copies of motions that are planted to be found again, and chunks of files to be retargeted on their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Int

from benchmarks.hme_measures import elsewhere
from corpus.augment import mirror_columns
from corpus.g1 import G1
from corpus.motion import CORPUS_FPS, RobotMotion
from corpus.resample import resample

CHUNK = round(4 * CORPUS_FPS)
"""Frames of a chunk."""
LONG = CHUNK + 60
"""Chunks are cut from motions of so many frames at least."""
RECUT = 80
"""Files of which a chunk is retargeted on its own."""


@dataclass(frozen=True)
class Planted:
    """Copies, and which clip each was made of and how."""

    motions: list[RobotMotion]
    source: Int[np.ndarray, " P"]
    kind: np.ndarray


def plant(motions: list[RobotMotion], rng: np.random.Generator, each: int) -> Planted:
    def noisy(motion: RobotMotion) -> RobotMotion:
        qpos = motion.qpos.copy()
        qpos[:, 7:] += rng.normal(0, 0.01, motion.joint_position.shape)
        return replace(motion, qpos=qpos)

    def retimed(motion: RobotMotion) -> RobotMotion:
        return resample(replace(motion, fps=CORPUS_FPS * rng.choice([0.9, 1.1])), CORPUS_FPS)

    def chunk(motion: RobotMotion) -> RobotMotion:
        start = int(rng.integers(0, motion.frame_count - CHUNK + 1))
        return motion.slice(start, start + CHUNK)

    changes: dict[str, Callable[[RobotMotion], RobotMotion]] = {
        "exact": lambda motion: motion, "mirrored": in_the_mirror, "retimed": retimed, "noisy": noisy, "chunk": chunk,
        "all at once": lambda motion: noisy(in_the_mirror(retimed(chunk(motion)))),
    }  # fmt: skip
    found, source, kind = [], [], []
    for name, change in changes.items():
        cut = name in ("chunk", "all at once")
        able = [i for i, motion in enumerate(motions) if motion.frame_count >= (LONG if cut else 0)]
        # A clip may be cut several times, at other places.
        chosen = rng.choice(able, each, replace=len(able) < each)
        found += [elsewhere(change(motions[i]), rng) for i in chosen]
        source += chosen.tolist()
        kind += [name] * len(chosen)
    return Planted(found, np.array(source), np.array(kind))


def in_the_mirror(motion: RobotMotion) -> RobotMotion:
    columns = np.array(mirror_columns(G1))
    return replace(
        motion, qpos=(motion.qpos[:, np.abs(columns) - 1] * np.sign(columns)).astype(np.float32), contact=None
    )


def recut(source: Path, out: Path, rng: np.random.Generator) -> None:
    """A chunk of each of the first long files, as BVH."""
    long = [path for path in sorted(source.rglob("*.bvh")) if len(bvh_frames(path)[1]) >= 160]
    for path in long[:RECUT]:
        head, frames = bvh_frames(path)
        start = int(rng.integers(0, len(frames) - 119))
        place = out / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("\n".join([*head[:-2], "Frames: 120", head[-1], *frames[start : start + 120], ""]))


def bvh_frames(path: Path) -> tuple[list[str], list[str]]:
    """The lines of a file up to its rate, and those of its frames (of 30 Hz)."""
    lines = [line for line in path.read_text().splitlines() if line.strip()]
    first = next(i for i, line in enumerate(lines) if line.startswith("Frame Time")) + 1
    return lines[:first], lines[first:]
