"""Tasks run on any number of workers; one that fails is tried again, then listed; a mendable error stops the run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from corpus.errors import MotionloomError
from pipelines import cluster, executor
from pipelines.cluster import Cluster

# Functions are sent to the workers by value: this file is no module that they could import.
ROOT = Path(__file__).resolve().parents[2]
cloudpickle = pytest.importorskip("cloudpickle")


@pytest.fixture(autouse=True)
def by_value():
    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    yield
    cloudpickle.unregister_pickle_by_value(module)


def double(task: dict) -> dict:
    return {"value": 2 * task["value"], "pid": os.getpid(), "threads": os.environ.get("OMP_NUM_THREADS")}


def fail_on_three(task: dict) -> dict:
    """Counts its calls in files, so that attempts can be told."""
    with (Path(task["folder"]) / str(task["value"])).open("a") as calls:
        calls.write("x")
    if task["value"] == 3:
        raise ValueError("three is bad")
    return {"value": task["value"]}


def fail_once(task: dict) -> dict:
    mark = Path(task["folder"]) / f"once-{task['value']}"
    if not mark.exists():
        mark.touch()
        raise OSError("not yet")
    return {"value": task["value"]}


def die_once(task: dict) -> dict:
    mark = Path(task["folder"]) / f"died-{task['value']}"
    if task["value"] == 1 and not mark.exists():
        mark.touch()
        os._exit(9)
    return {"value": task["value"]}


def need_a_person(task: dict) -> dict:
    raise MotionloomError("the disk is full")


def unpicklable(task: dict) -> dict:
    class Odd(Exception):
        def __init__(self, first, second):
            super().__init__(first)
            self.handle = lambda: second

    raise Odd("odd", "error")


def tasks(count: int, folder: Path | None = None) -> list[dict]:
    return [{"value": value, "folder": str(folder)} for value in range(count)]


def collect(function, items, scheduler="local", workers=None):
    results = []
    ran = executor.run(function, items, cluster=Cluster(scheduler, workers), on_result=results.append)
    return results, ran.failures


def test_inline_runs_in_this_process():
    results, failures = collect(double, tasks(3), scheduler="inline")
    assert [r["value"] for r in results] == [0, 2, 4] and not failures
    assert {r["pid"] for r in results} == {os.getpid()}


def test_a_failing_task_is_tried_three_times_and_listed_and_its_neighbours_finish(tmp_path):
    results, failures = collect(fail_on_three, tasks(5, tmp_path), scheduler="inline")
    assert sorted(r["value"] for r in results) == [0, 1, 2, 4]
    assert [f.task["value"] for f in failures] == [3]
    assert failures[0].error == "ValueError: three is bad" and "fail_on_three" in failures[0].trace
    assert {p.name: p.stat().st_size for p in tmp_path.iterdir()} == {"0": 1, "1": 1, "2": 1, "3": 3, "4": 1}


def test_a_passing_trouble_is_overcome(tmp_path):
    results, failures = collect(fail_once, tasks(3, tmp_path), scheduler="inline")
    assert sorted(r["value"] for r in results) == [0, 1, 2] and not failures


def test_a_mendable_error_stops_the_run_with_its_own_words():
    with pytest.raises(MotionloomError, match=r"^the disk is full$"):
        executor.run(need_a_person, tasks(3), cluster=Cluster("inline"))


def test_tasks_are_taken_as_they_are_needed():
    taken = []

    def endless():
        for value in range(1000):
            taken.append(value)
            yield {"value": value}

    with pytest.raises(MotionloomError):
        executor.run(need_a_person, endless(), cluster=Cluster("inline"))
    assert len(taken) == 1


def test_local_workers_are_other_processes_of_one_thread_and_outlive_bad_tasks(tmp_path):
    """One cluster for several claims: starting one takes seconds."""
    from distributed import Client, LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster):
        address = cluster.scheduler_address
        results, failures = collect(fail_on_three, tasks(40, tmp_path), scheduler=address)
        assert sorted(r["value"] for r in results) == [v for v in range(40) if v != 3]
        assert [f.error for f in failures] == ["ValueError: three is bad"]
        _, failures = collect(unpicklable, tasks(1), scheduler=address)
        assert failures[0].error == "Odd: odd"
        with pytest.raises(MotionloomError, match="the disk is full"):
            executor.run(need_a_person, tasks(3), cluster=Cluster(address))


def test_a_worker_that_dies_costs_an_attempt_not_the_run(tmp_path):
    results, failures = collect(die_once, tasks(4, tmp_path), workers=2)
    assert sorted(r["value"] for r in results) == [0, 1, 2, 3] and not failures
    results, _ = collect(double, tasks(8), workers=2)
    assert os.getpid() not in {r["pid"] for r in results}
    assert {r["threads"] for r in results} == {"1"}


def test_no_scheduler_at_an_address_is_one_clear_line(monkeypatch):
    monkeypatch.setattr(cluster, "CONNECT_S", 0.5)
    with pytest.raises(MotionloomError, match=r"No Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        executor.run(double, tasks(1), cluster=Cluster("tcp://127.0.0.1:9"))


def test_peak_memory_is_this_process_own():
    """200 MiB held by the parent do not count in a child; 100 MiB of its own do."""
    held = b"x" * (200 << 20)
    code = "from pipelines.executor import peak_memory_mb as p; a = p(); b'x' * (100 << 20); print(a, p())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    before, after = map(float, done.stdout.split())
    assert before < 150 and 95 < after - before < 130 and held
