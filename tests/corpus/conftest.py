"""A small corpus of three shards that tests of sampling and loading share."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corpus import rotations
from corpus.catalog import Corpus, fold
from corpus.loading.sampler import Draw
from corpus.loading.windows import Batch, Windows
from corpus.motion import RobotMotion
from corpus.store import ShardWriter

LENGTHS = (60, 300, 25, 130, 64, 90, 1)
"""Frames of the segments of each shard, one clip each."""
SPEED_USE = (0.5, 0.95, 0.8, float("nan"), 0.1, 1.0, 0.3)
"""Of the same."""


def wander(frames: int, seed: int) -> RobotMotion:
    """Wandering about, turning on all axes, its quaternion's sign jumping now and then."""
    rng = np.random.default_rng(seed)
    path = np.cumsum(rng.normal(0, 0.02, (frames, 35)), 0)
    turn = rotations.from_rotation_vector(np.cumsum(rng.normal(0, 0.05, (frames, 3)), 0))
    turn *= np.where(rng.random((frames, 1)) < 0.1, -1, 1)
    qpos = np.concatenate([path[:, :3] * 5, turn, path[:, 6:]], 1)
    return RobotMotion(qpos.astype(np.float32), 50.0, rng.integers(0, 2, (frames, 4), np.uint8))


def write_corpus(out: Path, shards: dict[str, list[tuple[RobotMotion, dict[str, Any]]]], columns: int = 36) -> Corpus:
    """Shards by name, each of motions with their segments' rows."""
    for shard, motions in shards.items():
        with ShardWriter(out / "shards", shard, "r", columns=columns) as writer:
            for i, (motion, given) in enumerate(motions):
                segment = {"start": 0, "frames": motion.frame_count, "status": "kept", **given}
                frames = segment["frames"]
                counts = {"frames": frames, "frames_kept": frames, "frames_rejected": 0, "frames_cut": 0}
                row = {"clip": f"{shard}{i:028d}", "source": "robot", "licence": "", "status": "kept", **counts}
                writer.add(row, [segment], motion)
            writer.commit()
    (out / "corpus.json").write_text(json.dumps({"fps": 50.0, "recipe": {}, "recipe_hash": "r"}))
    fold(out)
    return Corpus.open(out)


@dataclass(frozen=True)
class Small:
    """The corpus, and what it was made of."""

    corpus: Corpus

    @property
    def folder(self) -> Path:
        return self.corpus.path

    def whole(self, segment: int) -> RobotMotion:
        number, i = divmod(segment, len(LENGTHS))
        return wander(max(LENGTHS[i], 2), 100 * number + i)


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Small:
    def of(number: int, i: int) -> tuple[RobotMotion, dict[str, Any]]:
        # A motion has at least two frames; the segment of one takes the first of them.
        row = {"frames": LENGTHS[i], "speed_use": SPEED_USE[i]}
        return wander(max(LENGTHS[i], 2), 100 * number + i), row

    shards = {
        name: [of(number, i) for i in range(len(LENGTHS))] for number, name in enumerate(("aaaa", "bbbb", "cccc"))
    }
    return Small(write_corpus(tmp_path_factory.mktemp("small"), shards))


@pytest.fixture(scope="session")
def make_corpus() -> Callable[..., Corpus]:
    return write_corpus


@pytest.fixture(scope="session")
def make_motion() -> Callable[[int, int], RobotMotion]:
    return wander


@pytest.fixture(scope="session")
def gather_at() -> Callable[..., Batch]:
    """The windows that begin at these frames of these segments; `uniform` decides what is done to them."""

    def gather(windows: Windows, segment: Any, frame: Any, uniform: Any = None) -> Batch:
        segment, frame = np.atleast_1d(segment).astype(np.int64), np.atleast_1d(frame).astype(np.int64)
        uniform = np.zeros((len(segment), 4)) if uniform is None else uniform
        return windows.gather(Draw(0, segment, frame, uniform))

    return gather


@pytest.fixture(scope="session")
def same() -> Callable[[Batch, Batch], bool]:
    """Are two batches equal to the last bit?"""

    def same(a: Batch, b: Batch) -> bool:
        return all(
            (x is None and y is None) or np.array_equal(x, y)
            for x, y in zip(vars(a).values(), vars(b).values(), strict=True)
        )

    return same
