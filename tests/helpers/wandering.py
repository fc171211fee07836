"""Motions by formula that never repeat, what may be done to them, and corpora of them: for tests of what is found twice."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from small_corpus import RECIPE

from corpus import rotations
from corpus.augment import mirror_columns
from corpus.g1 import G1
from corpus.motion import RobotMotion
from corpus.resample import resample


def wandering(seconds: float, seed: int, *, size: float = 0.3, start_s: float = 0.0) -> RobotMotion:
    """Joints and root move by sums of slow sines of unlike frequencies (up to 1.5 Hz), while walking about."""
    rng = np.random.default_rng(seed)
    t = start_s + np.arange(round(seconds * 50)) / 50
    hz, phase = rng.uniform(0.1, 1.5, (6, 1, 35)), rng.uniform(0, 6.3, (6, 1, 35))
    waves = size / 2 * np.sin(2 * np.pi * hz * t[:, None] + phase).sum(0)
    sway = rotations.from_rotation_vector(0.3 * waves[:, :3])
    rotation = rotations.multiply(rotations.about_z(0.5 * t), sway)
    place = np.stack([np.sin(0.2 * t), np.cos(0.3 * t), 0.75 + 0.2 * waves[:, 3]], 1)
    return RobotMotion(
        np.concatenate([place, rotation, rng.normal(0, 0.4, 29) + waves[:, 6:]], 1).astype(np.float32), 50.0
    )


def still(seconds: float, seed: int, *, noise: float = 0.0) -> RobotMotion:
    """One posture, with or without noise."""
    rng = np.random.default_rng(seed)
    qpos = np.tile(wandering(0.1, seed).qpos[:1], (round(seconds * 50), 1))
    qpos[:, 7:] += rng.normal(0, noise, (len(qpos), 29))
    return RobotMotion(qpos, 50.0)


def noisy(motion: RobotMotion, size: float = 0.01) -> RobotMotion:
    noise = np.random.default_rng(0).normal(0, size, motion.joint_position.shape)
    return replace(
        motion, qpos=np.concatenate([motion.qpos[:, :7], motion.joint_position + noise], 1).astype(np.float32)
    )


def retimed(motion: RobotMotion, speed: float) -> RobotMotion:
    return resample(replace(motion, fps=50.0 * speed), 50.0)


def in_the_mirror(motion: RobotMotion) -> RobotMotion:
    columns = np.array(mirror_columns(G1))
    return replace(
        motion, qpos=np.ascontiguousarray(motion.qpos[:, np.abs(columns) - 1] * np.sign(columns), np.float32)
    )


def elsewhere(motion: RobotMotion) -> RobotMotion:
    """Turned about the vertical and set down metres away."""
    turn = rotations.about_z(np.array(2.0))
    place = rotations.rotate(turn, motion.root_position.astype(float)) + [3.0, -4.0, 0.0]
    rotation = rotations.multiply(turn, motion.root_rotation.astype(float))
    return replace(motion, qpos=np.concatenate([place, rotation, motion.joint_position], 1).astype(np.float32))


def write_corpus(out: Path, shards: Mapping[str, Sequence[tuple[str, RobotMotion]]]) -> Path:
    """A corpus of shards that hold clips of one segment each, named "source/recording" or just "recording" (of source robot);
    where `out` is a corpus already, the shards are added to it."""
    from corpus.catalog import fold
    from corpus.store import ShardWriter

    out.mkdir(parents=True, exist_ok=True)
    about = {"format": 1, "recipe": {}, "recipe_hash": RECIPE, "robot": "g1", "joint_names": [], "fps": 50.0}
    (out / "corpus.json").write_text(json.dumps(about))
    for name, motions in shards.items():
        with ShardWriter(out / "shards", name, RECIPE) as writer:
            for number, (recording, motion) in enumerate(motions):
                source, _, take = recording.rpartition("/")
                frames = motion.frame_count
                clip = {"clip": f"{name}{number:03d}".ljust(32, "0"), "source": source or "robot", "path": f"{name}/{number}",
                        "recording": take, "licence": "A", "status": "kept", "frames": frames, "frames_kept": frames,
                        "frames_rejected": 0, "frames_cut": 0}  # fmt: skip
                touching = replace(motion, contact=np.zeros((frames, 4), np.uint8))
                writer.add(clip, [{"start": 0, "frames": frames, "status": "kept"}], touching)
            writer.commit()
    fold(out)
    return out
