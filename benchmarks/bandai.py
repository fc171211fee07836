"""What the scripts about embeddings share: Bandai-Namco's BVH files, whose names tell content and style, built as a corpus."""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.build import MOTIONS, lay_out
from corpus.catalog import Corpus
from corpus.motion import CORPUS_FPS, RobotMotion
from corpus.sources.bvh import BANDAI_NAME
from pipelines.build import build
from pipelines.recipe import Recipe


def parser(script: str, description: str) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog=f"python -m benchmarks.{script}", description=description)
    made.add_argument("--motions", type=Path, default=MOTIONS, help="archive or folder with Bandai-Namco's BVH files")
    return made


@contextmanager
def workplace(motions: Path) -> Iterator[Path]:
    """A folder with the files below `bvh`, for as long as it is needed; BLAS has one thread, and the log is silent."""
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="motionloom-bench-") as name, threadpool_limits(1):
        lay_out(motions, Path(name) / "bvh", 10_000)
        yield Path(name)


def rounded(figures: Mapping[str, float]) -> dict[str, float]:
    """To four digits."""
    return {name: float(f"{value:.4g}") for name, value in figures.items()}


def print_figures(figures: Mapping[str, float]) -> None:
    """The last line."""
    print(json.dumps(rounded(figures)))


@dataclass(frozen=True)
class Clips:
    """Labelled motions, one per clip."""

    motions: list[RobotMotion]
    content: np.ndarray
    style: np.ndarray

    @property
    def frame_count(self) -> int:
        return sum(motion.frame_count for motion in self.motions)


def built(motions: Path, out: Path, recipe: Recipe = Recipe()) -> Corpus:
    outcome = build({"bvh": motions}, out, recipe, scheduler="inline")
    if not outcome.complete:
        raise SystemExit("The build failed:\n" + "\n".join(failure.trace for failure in outcome.failures))
    return Corpus.open(out)


def labelled(corpus: Corpus) -> Clips:
    """Of every clip with kept segments the longest run of them, and what its name says."""
    clips = corpus.clips.select("clip", "recording").collect()
    name_of = dict(zip(clips["clip"], clips["recording"], strict=True))
    rows = corpus.kept.with_row_index("number").sort("clip", "start")
    motions, names = [], []
    for (clip,), group in rows.group_by("clip", maintain_order=True):
        runs = touching(group["number"].to_list(), group["start"].to_list(), group["frames"].to_list())
        parts = [[corpus.motion(number).qpos for number in run] for run in runs]
        longest = max(parts, key=lambda part: sum(map(len, part)))
        motions.append(RobotMotion(np.concatenate(longest), CORPUS_FPS))
        names.append(BANDAI_NAME.fullmatch(name_of[clip]))
    assert all(names), "the archive holds other files than Bandai-Namco's"
    content, style = (np.array([name[part] for name in names if name]) for part in ("content", "style"))
    return Clips(motions, content, style)


def touching(numbers: list[int], starts: list[int], lengths: list[int]) -> list[list[int]]:
    """Segments in groups of which each begins where the one before ends."""
    runs = [[numbers[0]]]
    for i in range(1, len(numbers)):
        if starts[i] == starts[i - 1] + lengths[i - 1]:
            runs[-1].append(numbers[i])
        else:
            runs.append([numbers[i]])
    return runs
