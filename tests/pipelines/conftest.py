"""Small folders of robot motion by formula, and what a corpus on disk holds, for the tests of the pipelines."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


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


@pytest.fixture(scope="module")
def many_shards() -> Iterator[None]:
    """Several shards from a few seconds of motion."""
    from pipelines import plan

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "SMALL_SHARD_FRAMES", 300)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory, motion_folder) -> Path:
    """Six takes, and files that are none."""
    return motion_folder(tmp_path_factory.mktemp("files") / "robot", 6)


@pytest.fixture(scope="module")
def built(tmp_path_factory, folder, many_shards) -> Path:
    """The corpus of these, in several shards."""
    from pipelines.build import build

    out = tmp_path_factory.mktemp("built") / "corpus"
    assert build({"robot": folder}, out, scheduler="inline").shard_count > 2
    return out


@pytest.fixture
def out(tmp_path, built) -> Path:
    """A copy of the corpus, to be spoiled."""
    return Path(shutil.copytree(built, tmp_path / "corpus"))


@pytest.fixture(scope="session")
def standing_file() -> Callable[..., None]:
    return write_standing


@pytest.fixture(scope="session")
def motion_folder() -> Callable[..., Path]:
    return write_folder


@pytest.fixture(scope="session")
def corpus_digests() -> Callable[[Path], dict[str, str]]:
    return digests


class DaskProcesses:
    """A Dask scheduler and workers, started by command as on a real cluster; all are killed by `close`."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.processes: list[subprocess.Popen] = []
        file = folder / "scheduler.json"
        bare = ("--preload", str(ROOT / "tests" / "pipelines" / "only_dask.py"))
        self.scheduler = self._start("scheduler", "--port", "0", "--scheduler-file", str(file), *bare)
        until(file.exists, "the scheduler is up")
        self.address = json.loads(file.read_text())["address"]

    def worker(self, *options: str) -> subprocess.Popen:
        """Start a worker of one thread, and wait until the scheduler knows it."""
        place = ("--local-directory", str(self.folder), "--memory-limit", "0")
        log = self.folder / f"worker{len(self.processes)}.log"
        process = self._start("worker", self.address, "--nthreads", "1", *place, *options)
        until(lambda: "Registered to" in log.read_text(), "the worker is up")
        return process

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _start(self, part: str, *options: str) -> subprocess.Popen:
        command = [sys.executable, "-m", f"distributed.cli.dask_{part}", "--host", "127.0.0.1", "--no-dashboard"]
        log = (self.folder / f"{part}{len(self.processes)}.log").open("w")
        process = subprocess.Popen(
            [*command, *options], cwd=ROOT, stdout=log, stderr=log, start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        log.close()
        self.processes.append(process)
        return process


def until(happened: Callable[[], object], what: str, *, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:.0f} s until {what}")
        time.sleep(0.05)


@pytest.fixture
def dask_processes(tmp_path_factory) -> Iterator[DaskProcesses]:
    processes = DaskProcesses(tmp_path_factory.mktemp("dask"))
    yield processes
    processes.close()
