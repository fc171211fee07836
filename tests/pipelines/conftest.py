"""Small folders of robot motion by formula, and what a corpus on disk holds, for the tests of the pipelines."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest


def write_standing(path: Path, seed: int, *, seconds: float = 4.0, fps: float = 30.0) -> None:
    """A G1 that stands and moves its arms, as Unitree's CSV: xyz, quaternion xyzw, 29 joints; no header."""
    from corpus.g1 import G1
    from corpus.robot import forward_kinematics

    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * fps)) / fps
    qpos = np.zeros((len(time), 36))
    # Turned to the left: looking along x, both orders of the quaternion would stand upright.
    qpos[:, 3], qpos[:, 6] = np.cos(0.75), np.sin(0.75)
    for side in ("left", "right"):
        for joint in ("shoulder_pitch_joint", "elbow_joint"):
            column = 7 + G1.joint_names.index(f"{side}_{joint}")
            qpos[:, column] = 0.3 * np.sin(2 * np.pi * rng.uniform(0.3, 0.8) * time + rng.uniform(0, 6))
        qpos[:, 7 + G1.joint_names.index(f"{side}_shoulder_roll_joint")] = 0.4 if side == "left" else -0.4
    position, _ = forward_kinematics(G1, qpos[:1])
    body, points = G1.ground_points["left_heel"]
    qpos[:, 2] = -(position[0, G1.body(body), 2] + points[:, 2].min())
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savetxt(path, qpos[:, [0, 1, 2, 4, 5, 6, 3, *range(7, 36)]], delimiter=",", fmt="%.6f")


def write_folder(root: Path, count: int, *, seconds: float = 4.0, first: int = 0) -> Path:
    """`count` good files, one of them twice, and a few that are no motion; numbered from `first`, as no two are alike."""
    for seed in range(first, first + count):
        write_standing(root / f"take{seed:03d}.csv", seed, seconds=seconds)
    if first:
        return root
    (root / "copy.csv").write_bytes((root / "take000.csv").read_bytes())
    (root / "empty.csv").touch()
    (root / "notes.txt").write_text("recorded on a Tuesday")
    (root / "sub").mkdir()
    (root / "sub" / "cut off.csv").write_bytes((root / "take000.csv").read_bytes()[:1000])
    nan = (root / "take000.csv").read_text().splitlines()
    (root / "sub" / "nan.csv").write_text("\n".join([*nan[:20], ",".join(["nan"] * 36), *nan[21:]]) + "\n")
    return root


def digests(out: Path) -> dict[str, str]:
    """Hash of every file of a corpus by its name; but for the cache of keys, which tells of this machine's files."""
    files = [path for path in sorted(out.rglob("*")) if path.is_file() and path.name not in ("keys.parquet", ".lock")]
    return {p.relative_to(out).as_posix(): hashlib.blake2b(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="session")
def standing_file() -> Callable[..., None]:
    return write_standing


@pytest.fixture(scope="session")
def motion_folder() -> Callable[..., Path]:
    return write_folder


@pytest.fixture(scope="session")
def corpus_digests() -> Callable[[Path], dict[str, str]]:
    return digests
