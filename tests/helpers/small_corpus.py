"""A small corpus of made-up numbers, for tests that care about files and not about motion."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

RECIPE = "0123456789abcdef0123456789abcdef"


def write_small_shard(shards: Path, name: str, *, frames: int = 300, seed: int | None = None) -> Path:
    """A shard of one clip that is kept whole; by its name, unless a seed makes others of the same name."""
    from corpus.motion import RobotMotion
    from corpus.store import ShardWriter

    rng = np.random.default_rng(int(name, 16) if seed is None else seed)
    qpos, contact = rng.normal(size=(frames, 36)).astype(np.float32), rng.integers(0, 2, (frames, 4), np.uint8)
    key = hashlib.blake2b(name.encode(), digest_size=16).hexdigest()
    clip = {"clip": key, "source": "robot", "path": name, "licence": "A", "status": "kept", "frames": frames}
    counts = {"frames_kept": frames, "frames_rejected": 0, "frames_cut": 0}
    with ShardWriter(shards, name, RECIPE) as writer:
        segment = {"start": 0, "frames": frames, "status": "kept"}
        writer.add(clip | counts, [segment], RobotMotion(qpos, 50.0, contact))
        writer.commit()
    return shards / name


def write_small_corpus(out: Path, *names: str) -> Path:
    """A whole corpus of such shards."""
    from corpus.catalog import fold

    out.mkdir(parents=True)
    about = {"format": 1, "recipe": {}, "recipe_hash": RECIPE, "robot": "g1", "joint_names": [], "fps": 50.0}
    (out / "corpus.json").write_text(json.dumps(about, indent=1, sort_keys=True) + "\n")
    for name in names:
        write_small_shard(out / "shards", name)
    fold(out)
    return out
