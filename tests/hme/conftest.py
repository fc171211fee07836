"""Motions and a small embedded corpus that tests of embeddings share."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from small_corpus import RECIPE
from swinging import swinging

from corpus.catalog import Corpus, fold
from corpus.motion import RobotMotion
from corpus.store import ShardWriter
from hme.shard_rows import write_shard_rows
from hme.space import Space, as_columns, set_default
from hme.spectrum import fit


@pytest.fixture(scope="session")
def motions() -> list[RobotMotion]:
    """Forty, of many tempi and lengths, some shorter than a window."""
    rng = np.random.default_rng(1)
    return [swinging(rng.uniform(0.3, 3), rng.uniform(1, 12), seed=seed) for seed in range(40)]


@pytest.fixture(scope="session")
def embedded(motions, tmp_path_factory) -> Path:
    """A corpus of those motions in three shards, with their vectors."""
    out = tmp_path_factory.mktemp("embedded") / "corpus"
    out.mkdir()
    about = {"format": 1, "recipe": {}, "recipe_hash": RECIPE, "robot": "g1", "joint_names": [], "fps": 50.0}
    (out / "corpus.json").write_text(json.dumps(about))
    spectrum = fit(motions)
    folder = out / "hme" / spectrum.hme_id
    folder.mkdir(parents=True)
    spectrum.save(folder / "embedder.npz")
    for number, name in enumerate(["11", "22", "33"]):
        mine = motions[number::3]
        with ShardWriter(out / "shards", name, RECIPE) as writer:
            for i, motion in enumerate(mine):
                writer.add(*_rows(f"{name}{i:02d}".ljust(32, "0"), motion), _with_contact(motion))
            names = [segment["segment"] for segment in writer.segments]
            writer.commit()
        columns = as_columns(spectrum.embed([_with_contact(motion) for motion in mine]))
        write_shard_rows(folder / "shards" / f"{name}.arrow", names, columns, made_by=spectrum.hme_id)
    fold(out)
    set_default(Corpus.open(out), spectrum.hme_id)
    return out


@pytest.fixture
def space(tmp_path, embedded) -> Space:
    """A copy of it, to be written to and spoiled."""
    return Space.open(Corpus.open(Path(shutil.copytree(embedded, tmp_path / "corpus"))))


def _with_contact(motion: RobotMotion) -> RobotMotion:
    contact = np.zeros((motion.frame_count, 4), np.uint8)
    return RobotMotion(motion.qpos.astype(np.float32), motion.fps, contact)


def _rows(key: str, motion: RobotMotion) -> tuple[dict, list[dict]]:
    frames = motion.frame_count
    clip = {"clip": key, "source": "robot", "path": key, "licence": "A", "status": "kept", "frames": frames}
    counts = {"frames_kept": frames, "frames_rejected": 0, "frames_cut": 0}
    return clip | counts, [{"start": 0, "frames": frames, "status": "kept"}]
