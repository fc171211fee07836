"""A build that is killed at any moment, and run again, gives the catalog and the bytes of an undisturbed one."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KILLS = 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory, motion_folder) -> Path:
    return motion_folder(tmp_path_factory.mktemp("files") / "robot", 16, seconds=240)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, folder) -> Path:
    out = tmp_path_factory.mktemp("whole") / "corpus"
    done = start(folder, out, workers=1)
    assert done.wait(120) == 0
    return out


def start(folder: Path, out: Path, *, workers: int, error: int = subprocess.DEVNULL) -> subprocess.Popen:
    """A build in a process group of its own, quiet."""
    command = [sys.executable, "-m", "pipelines.cli", "build", "--source", f"robot={folder}", "--out", str(out)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": error}
    return subprocess.Popen([*command, "--workers", str(workers)], cwd=ROOT, start_new_session=True, **quiet)


@pytest.mark.slow
def test_killed_and_run_again_it_gives_the_same_bytes(folder, undisturbed, tmp_path, corpus_digests):
    rng, out, kills = random.Random(7), tmp_path / "corpus", 0
    for _ in range(KILLS):
        process = start(folder, out, workers=2)
        # Some deaths while planning and starting workers, most while shards are written.
        wait_for(process, out, shards=rng.choice([0, 0, 1, 2, 4]))
        time.sleep(rng.uniform(0, 0.4))
        kills += process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert no_half_made_shard(out)
    assert kills >= 3
    assert start(folder, out, workers=2).wait(120) == 0
    assert corpus_digests(out) == corpus_digests(undisturbed)
    assert not list(out.rglob(".tmp-*"))


@pytest.mark.slow
def test_two_workers_and_moved_files_in_another_order_give_the_same_bytes(
    folder, undisturbed, tmp_path, corpus_digests
):
    moved = tmp_path / "moved" / "far"
    for path in sorted((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.name[::-1]):
        (moved / path.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, moved / path.relative_to(folder))
    assert start(moved, tmp_path / "corpus", workers=2).wait(120) == 0
    assert corpus_digests(tmp_path / "corpus") == corpus_digests(undisturbed)


@pytest.mark.slow
def test_there_was_something_to_lose(undisturbed):
    assert len(list((undisturbed / "shards").iterdir())) >= 5


def wait_for(process: subprocess.Popen, out: Path, *, shards: int) -> None:
    """Until this run has made some shards, or ended."""
    before, deadline = count(out), time.monotonic() + 30
    while process.poll() is None and count(out) < before + shards and time.monotonic() < deadline:
        time.sleep(0.01)


def count(out: Path) -> int:
    return len(list((out / "shards").glob("[0-9a-f]*")))


def no_half_made_shard(out: Path) -> bool:
    from corpus.store import verify_shard

    return not [trouble for shard in (out / "shards").glob("[0-9a-f]*") for trouble in verify_shard(shard)]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 80 MiB, of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=80m", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a file system needs root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.slow
def test_a_disk_that_fills_up_stops_the_build_and_freed_it_goes_on_to_the_same_bytes(
    folder, undisturbed, small_disk, corpus_digests
):
    out, filler = small_disk / "corpus", small_disk / "other things"
    process = start(folder, out, workers=1, error=subprocess.PIPE)
    wait_for(process, out, shards=1)
    free = shutil.disk_usage(small_disk).free
    with contextlib.suppress(OSError), filler.open("wb") as file:  # the build may take the last of it first
        file.write(bytes(free - (100 << 10)))
    _, told = process.communicate(timeout=120)
    assert process.returncode == 1 and b"the disk is full; free some space and run the same command" in told, told
    assert b"Traceback" not in told and no_half_made_shard(out)
    filler.unlink()
    assert start(folder, out, workers=1).wait(120) == 0
    assert corpus_digests(out) == corpus_digests(undisturbed)
