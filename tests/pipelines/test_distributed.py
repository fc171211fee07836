"""On a scheduler and workers started by command: what kills, hangs, comes or goes costs time, never a neighbour's data."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import polars as pl
import pytest

from corpus.errors import MotionloomError
from pipelines import executor, inventory, plan, window
from pipelines.build import build
from pipelines.cluster import Cluster
from pipelines.recipe import Recipe

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
cloudpickle = pytest.importorskip("cloudpickle")
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def by_value():
    """Functions are sent to the workers by value: this file is no module that they could import."""
    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    yield
    cloudpickle.unregister_pickle_by_value(module)


def run(function, items: list[dict], address: str) -> tuple[list[dict], executor.Summary]:
    results = []
    ran = executor.run(function, items, cluster=Cluster(address), on_result=results.append)
    return sorted(results, key=lambda result: result["value"]), ran


def tasks(count: int, folder: Path) -> list[dict]:
    return [{"value": value, "folder": str(folder)} for value in range(count)]


def tell_who(task: dict) -> dict:
    """Leaves the worker's process id in a file as it starts."""
    (Path(task["folder"]) / f"started-{task['value']}").write_text(str(os.getpid()))
    return {"value": task["value"], "pid": os.getpid()}


def wait_for_a_second_worker(task: dict) -> dict:
    """The first task ends only once another process has done another task."""
    result = tell_who(task)
    deadline = time.monotonic() + 60
    while task["value"] == 0 and time.monotonic() < deadline:
        if len({path.read_text() for path in Path(task["folder"]).glob("started-*")} - {""}) > 1:
            break
        time.sleep(0.05)
    return result


def linger_once(task: dict) -> dict:
    """The first task takes a minute where it runs first, and is done at once elsewhere."""
    first = Path(task["folder"]) / "started-0"
    if task["value"] == 0 and not first.exists():
        tell_who(task)
        time.sleep(60)
    return {"value": task["value"], "pid": os.getpid()}


def when_started(folder: Path, act) -> threading.Thread:
    """Do something with the process id of the worker that has the first task, as soon as it has it."""

    def wait_and_act() -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                act(int((folder / "started-0").read_text()))
                return
            except (FileNotFoundError, ValueError):
                time.sleep(0.02)

    thread = threading.Thread(target=wait_and_act)
    thread.start()
    return thread


# --- workers that come, go, hang, or hold other code


def test_a_worker_that_joins_gets_work_and_one_that_is_killed_loses_none(dask_processes, tmp_path):
    dask_processes.worker("--no-nanny")
    joins = when_started(tmp_path, lambda pid: dask_processes.worker("--no-nanny"))
    results, ran = run(wait_for_a_second_worker, tasks(6, tmp_path), dask_processes.address)
    joins.join()
    assert [r["value"] for r in results] == list(range(6)) and len({r["pid"] for r in results}) == 2
    assert ran.worker_count == 2 and ran.death_count == 0 and not ran.failures

    (tmp_path / "again").mkdir()
    dies = when_started(tmp_path / "again", lambda pid: os.kill(pid, signal.SIGKILL))
    results, ran = run(linger_once, tasks(6, tmp_path / "again"), dask_processes.address)
    dies.join()
    assert [r["value"] for r in results] == list(range(6)) and len({r["pid"] for r in results}) == 1
    assert ran.death_count == 1 and not ran.failures


def test_a_stopped_worker_does_not_hang_the_run(dask_processes, tmp_path, monkeypatch):
    monkeypatch.setattr(window, "LATE_S", 1.0)
    for _ in range(2):
        dask_processes.worker("--no-nanny")
    stops = when_started(tmp_path, lambda pid: os.kill(pid, signal.SIGSTOP))
    results, ran = run(linger_once, tasks(6, tmp_path), dask_processes.address)
    stops.join()
    stopped = int((tmp_path / "started-0").read_text())
    assert [r["value"] for r in results] == list(range(6)) and stopped not in {r["pid"] for r in results}
    assert ran.reissue_count == 1 and ran.death_count == 0 and not ran.failures


def test_a_worker_of_another_version_is_refused_and_where_there_is_no_other_the_run_stops(dask_processes, tmp_path):
    dask_processes.worker("--no-nanny", "--preload", str(HERE / "other_code.py"))
    with pytest.raises(MotionloomError, match="holds other code than the command"):
        run(tell_who, tasks(3, tmp_path), dask_processes.address)
    dask_processes.worker("--no-nanny")
    results, ran = run(tell_who, tasks(6, tmp_path), dask_processes.address)
    assert [r["value"] for r in results] == list(range(6)) and len({r["pid"] for r in results}) == 1
    assert not ran.failures


def test_without_workers_a_run_waits_and_then_says_so(dask_processes, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(window, "RESTART_S", 0.5)
    monkeypatch.setattr(window, "LONELY_S", 2.0)
    with pytest.raises(MotionloomError, match="No Dask worker came in 2 s, 0 tasks are done"):
        run(tell_who, tasks(3, tmp_path), dask_processes.address)
    assert "no worker is there; 0 tasks are done, waiting 2 s for one to join" in caplog.text


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_scheduler_that_goes_is_one_clear_line(dask_processes, tmp_path, number):
    dask_processes.worker("--no-nanny")
    goes = when_started(tmp_path, lambda pid: os.kill(dask_processes.scheduler.pid, number))
    with pytest.raises(MotionloomError, match=r"^The Dask scheduler at tcp://127\.0\.0\.1:\d+ is gone"):
        run(linger_once, tasks(3, tmp_path), dask_processes.address)
    goes.join()


# --- memory, report


def hoard(task: dict) -> dict:
    if task["value"] == 1:
        held = bytearray(900 << 20)
        held[:: 1 << 12] = b"x" * len(held[:: 1 << 12])
        time.sleep(20)
    return {"value": task["value"]}


def test_a_worker_beyond_its_memory_is_killed_and_the_report_is_written(tmp_path):
    cluster = Cluster(workers=1, worker_memory="600MB", report=tmp_path / "reports" / "run.html")
    results = []
    ran = executor.run(hoard, tasks(3, tmp_path), cluster=cluster, on_result=results.append)
    assert sorted(r["value"] for r in results) == [0, 2] and ran.death_count == 2
    assert [f.task["value"] for f in ran.failures] == [1] and "kills its worker" in ran.failures[0].error
    assert "<html" in cluster.report.read_text()


# --- a build


@pytest.fixture
def small_shards(monkeypatch):
    """Several shards from a few seconds of motion."""
    monkeypatch.setattr(plan, "SMALL_SHARD_FRAMES", 500)


def write_deadly(folder: Path, count: int) -> list[str]:
    """Files that kill a worker; their hashes begin with 00, so that all fall into one shard."""
    names = []
    for number in range(100_000):
        content = b"deadly %d\n" % number
        if hashlib.sha256(content).hexdigest().startswith("00"):
            names.append(f"deadly{len(names)}.csv")
            (folder / names[-1]).write_bytes(content)
            if len(names) == count:
                break
    return names


def shard_rows(shard: Path, deadly: list[str]) -> pl.DataFrame:
    return pl.read_parquet(shard / "clips.parquet").filter(~pl.col("path").is_in(deadly))


def test_clips_that_kill_their_worker_become_rows_and_cost_their_neighbours_nothing(
    dask_processes, motion_folder, tmp_path, small_shards, corpus_digests
):
    folder = motion_folder(tmp_path / "files", 12)
    deadly = write_deadly(folder, 2)
    for _ in range(2):
        dask_processes.worker("--preload", str(HERE / "poison.py"))
    out, harmless = tmp_path / "out", tmp_path / "harmless"
    outcome = build({"robot": folder}, out, Recipe(), dask_processes.address)
    assert outcome.complete and 5 <= outcome.death_count <= 12
    # Here nobody preloads poison: the same files are merely no motion.
    assert build({"robot": folder}, harmless, Recipe(), "inline").complete

    rows = pl.read_parquet(out / "catalog" / "clips-*.parquet").filter(pl.col("path").is_in(deadly))
    assert sorted(rows["path"]) == deadly and set(rows["reason"]) == {"crashed_worker"}
    assert set(rows["numbers"]) == {'{"deaths": 2}'} and set(rows["status"]) == {"rejected"}
    (struck,) = set(rows["shard"])
    ours, theirs = corpus_digests(out), corpus_digests(harmless)
    differing = {name for name in ours if ours[name] != theirs[name] and name.startswith("shards/")}
    assert ours.keys() == theirs.keys()
    assert differing == {f"shards/{struck}/clips.parquet", f"shards/{struck}/shard.json"}
    neighbours = shard_rows(out / "shards" / struck, deadly)
    assert neighbours.equals(shard_rows(harmless / "shards" / struck, deadly)) and len(neighbours) > 2
    assert sum(name.endswith("shard.json") for name in ours) >= 3 and not list(inventory.troubles(out))

    again = build({"robot": folder}, out, Recipe(), "inline")
    assert again.built_count == 0 and corpus_digests(out) == ours


def test_a_build_whose_scheduler_is_killed_says_so_and_goes_on_later(dask_processes, motion_folder, tmp_path):
    folder = motion_folder(tmp_path / "files", 16, seconds=240)
    dask_processes.worker("--no-nanny")
    command = [sys.executable, "-m", "pipelines.cli", "build", "--source", f"robot={folder}"]
    command += ["--out", str(tmp_path / "out")]
    process = subprocess.Popen(
        [*command, "--scheduler", dask_processes.address], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    shards, deadline = tmp_path / "out" / "shards", time.monotonic() + 60
    while not list(shards.glob("[0-9a-f]*")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    dask_processes.scheduler.kill()
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1 and error.count("is gone: what is built stays") == 1, error
    assert "Traceback" not in error
    done = subprocess.run([*command, "--scheduler", "inline"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert 0 < int(done.stdout.split("built ")[1].split()[0]) < len(list(shards.glob("[0-9a-f]*")))
    assert not list(inventory.troubles(tmp_path / "out"))
