"""A corpus of five clips whose every number is known, and what `loom embed | cluster | dedup | split` would lay beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from small_corpus import RECIPE

from corpus.catalog import Corpus, fold
from corpus.durable import save_arrays
from corpus.motion import RobotMotion
from corpus.schema import QUALITY
from corpus.store import ShardWriter
from hme import traits
from hme.cluster import Clusters
from hme.shard_rows import write_shard_rows
from hme.space import hme_folder, set_default
from hme.tables import write_segment_table

HME = "0123456789abcdef"
HOSTILE = "x'; drop table clips; --<b>[red]"
"""A licence and a label that are code to SQL, to a page, to a terminal."""
LIMITS = {"foot_slide_limit": 0.4, "jerk_limit": 3000.0}
HOUR = 180_000
"""Frames."""

CLIPS = {
    # key, source, licence, recording, label, frames; segments: start, frames, reason, foot slide, jerk, flight
    "11": [
        ("a1", "amass", "AMASS", "take1", "walk", 1000, [(0, 400, None, 0.1, 9, 0.0), (400, 400, None, 0.3, 9, 0.0)]),
        ("a2", "amass", "AMASS", "take1", "run", 500, [(0, 500, "foot_slide", 0.5, 9, 0.0)]),
    ],
    "22": [
        ("b1", "bvh", "CC BY-NC 4.0", "b", "walk", 600, [(0, 600, None, 0.1, 9, 0.3)]),
        ("b2", "bvh", "CC BY-NC 4.0", "", "", 0, []),
        ("b3", "bvh", HOSTILE, "", HOSTILE, 700,
         [(0, 300, None, 0.1, 9, 0.0), (300, 400, "foot_slide", 0.9, 5000, 0.0)]),
    ],
}  # fmt: skip
FIRST = {"11": CLIPS["11"]}
"""The corpus before it grew."""
VECTORS = {"11": [(0, 0), (3, 4)], "22": [(0, 1), (6, 8)]}
SPEED = {"11": [0.1, 1.2], "22": [0.6, 0.02]}
BOTH_FEET = {"11": [1.0, 0.5], "22": [0.0, 0.0]}
STANDING = {"11": [1.0, 1.0], "22": [0.5, 0.0]}
AT_LIMIT = {"11": {(0, 0): 0.5, (1, 3): 0.25}, "22": {(1, 3): 1.0}}
"""Row and joint: share of the time."""


def write_catalog(out: Path, clips: Mapping[str, list] = CLIPS) -> Path:
    """Shards of these clips, and the catalog."""
    out.mkdir(parents=True, exist_ok=True)
    recipe = {"gate": LIMITS}
    about = {"format": 1, "recipe": recipe, "recipe_hash": RECIPE, "robot": "g1", "joint_names": [], "fps": 50.0}
    (out / "corpus.json").write_text(json.dumps(about))
    (out / "shards").mkdir(exist_ok=True)
    for name in clips:
        with ShardWriter(out / "shards", name, RECIPE) as writer:
            for row in clips[name]:
                writer.add(*_rows(*row), _motion(row[5]) if row[6] else None)
            writer.commit()
    fold(out)
    return out


def write_embedding(out: Path, vectors: Mapping[str, Any] = VECTORS) -> Corpus:
    """Vectors and traits of every shard that there are some of."""
    corpus = Corpus.open(out)
    folder = hme_folder(corpus)
    (folder / HME).mkdir(parents=True, exist_ok=True)
    save_arrays(folder / HME / "embedder.npz", {"kind": np.array("by hand")})
    set_default(corpus, HME)
    for shard in corpus.shard_ids:
        names = corpus.kept.filter(pl.col("shard") == shard)["segment"].to_list()
        columns = {"vector": np.array(vectors[shard], np.float32)}
        write_shard_rows(folder / HME / "shards" / f"{shard}.arrow", names, columns, made_by=HME)
        if shard in SPEED:
            write_shard_rows(folder / "traits" / f"{shard}.arrow", names, _traits(shard), made_by=traits.VERSION)
    return corpus


def write_tables(corpus: Corpus) -> None:
    """Clusters, duplicates and a split of the whole corpus."""
    folder = hme_folder(corpus) / HME
    clusters = Clusters(np.array([(0, 0.5), (4.5, 6)], np.float32), HME, 0)
    clusters.save(folder / "clusters.npz")
    table = pl.DataFrame({"cluster": np.array([0, 1, 0, 1], np.int32), "distance": np.zeros(4, np.float32)})
    write_segment_table(corpus, folder / "clusters.parquet", table, hme_id=HME, about={"clusters": clusters.id})
    first = corpus.kept["segment"][0]
    copies = pl.DataFrame({
        "group": [0, None, 0, None], "keeper": [True, True, False, True], "of": [None, None, first, None],
        "kind": [None, None, "exact", None], "distance": [None, None, 0.001, None],
    })  # fmt: skip
    write_segment_table(corpus, hme_folder(corpus) / "duplicates.parquet", copies)
    split = pl.DataFrame({"split": ["validation", "train", "train", "test"]})
    write_segment_table(corpus, folder / "split.parquet", split, hme_id=HME)


def _rows(key, source, licence, recording, label, frames, segments) -> tuple[dict, list[dict]]:
    rows = [
        {
            "start": start, "frames": count, "status": "rejected" if reason else "kept", "reason": reason,
            **dict.fromkeys(QUALITY, 0.0), "foot_slide": slide, "jerk": float(jerk), "airborne_s": flight,
            "position_error": np.nan,
        }
        for start, count, reason, slide, jerk, flight in segments
    ]  # fmt: skip
    kept, rejected = (sum(row["frames"] for row in rows if row["status"] == status) for status in ("kept", "rejected"))
    clip = {
        "clip": key * 16, "source": source, "path": f"{source}/{key}.npz", "licence": licence, "subject": "s",
        "recording": recording, "label": label, "status": "kept" if kept else "rejected",
        "reason": None if rows else "empty_file", "source_frames": frames or None, "source_fps": 50.0 if frames else None,
        "frames": frames, "frames_kept": kept, "frames_rejected": rejected, "frames_cut": frames - kept - rejected,
    }  # fmt: skip
    return clip, rows


def _motion(frames: int) -> RobotMotion:
    return RobotMotion(np.zeros((frames, 36), np.float32), 50.0, np.zeros((frames, 4), np.uint8))


def _traits(shard: str) -> dict[str, np.ndarray]:
    known = {"speed": SPEED, "height": SPEED, "yaw_rate": SPEED, "both_feet": BOTH_FEET, "standing": STANDING}
    zeros = np.zeros(len(SPEED[shard]))
    columns = {name: np.array(known[name][shard] if name in known else zeros, np.float32) for name in traits.TRAITS}
    at_limit = np.zeros((len(zeros), 29), np.float32)
    for place, share in AT_LIMIT[shard].items():
        at_limit[place] = share
    return {**columns, "at_limit": at_limit}
