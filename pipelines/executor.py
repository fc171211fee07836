"""Run a function over many small tasks with Dask: on this machine or on any scheduler, a sliding window at a time.

A task is a small dict, and so is what comes back; data goes through the disk.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import queue
import signal
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import resource_tracker
from typing import Any

from corpus.errors import MotionloomError
from pipelines import guard

log = logging.getLogger(__name__)

ATTEMPTS = 3
"""How often a task is tried before it counts as failed."""

CONNECT_S = 10.0
"""How long to wait for a scheduler's answer [s]."""

ONE_THREAD: dict[str, str] = dict.fromkeys(
    ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "POLARS_MAX_THREADS"], "1"
)
"""A worker is one thread: more would fight for the cores that the other workers use."""


@dataclass(frozen=True)
class Failure:
    """A task that failed at every attempt."""

    task: dict[str, Any]
    error: str
    """The exception, in a line."""
    trace: str
    """Its traceback, as the worker saw it."""


def run(
    function: Callable[[dict], dict],
    tasks: Iterable[dict],
    *,
    scheduler: str = "local",
    workers: int | None = None,
    on_result: Callable[[dict], None] = lambda result: None,
) -> list[Failure]:
    """Call `function` on every task and hand each result to `on_result` as it comes; gives the tasks that failed.

    `scheduler` is "local" (`workers` processes on this machine; default: one per core), "inline" (one after another in
    this process, for debugging) or the address of a Dask scheduler. A `MotionloomError` in a task stops the run: a
    person has to mend something first. Any other exception is tried again, then listed.
    """
    if scheduler == "inline":
        return _collect(_inline(function, tasks), on_result)
    with _interrupts_deferred() as interrupted, _client(scheduler, workers) as client:
        # Workers of our own read the same files as we do; others could hold another version.
        digest = "" if scheduler == "local" else guard.code_digest()
        return _collect(_sliding_window(client, function, tasks, digest, interrupted), on_result)


def default_workers() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak_memory_mb() -> float:
    """The most memory this process has held so far [MiB]."""
    try:
        # Not ru_maxrss: that one survives exec, so a new process inherits its parent's peak.
        with open("/proc/self/status") as status:  # noqa: PTH123
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _collect(outcomes: Iterator[tuple[dict, dict]], on_result: Callable[[dict], None]) -> list[Failure]:
    failures = []
    for task, outcome in outcomes:
        if "result" in outcome:
            on_result(outcome["result"])
        elif outcome["stop"]:
            raise MotionloomError(outcome["error"])
        else:
            failures.append(Failure(task, outcome["error"], outcome["trace"]))
            log.error("failed %d times: %s", ATTEMPTS, outcome["error"])
    return failures


def _inline(function: Callable[[dict], dict], tasks: Iterable[dict]) -> Iterator[tuple[dict, dict]]:
    for task in tasks:
        for attempt in range(1, ATTEMPTS + 1):
            outcome = _attempt(function, task, None)
            if _final(outcome, attempt):
                yield task, outcome
                break


def _sliding_window(
    client, function: Callable[[dict], dict], tasks: Iterable[dict], digest: str, interrupted: threading.Event
) -> Iterator[tuple[dict, dict]]:
    """Keep two tasks per worker in flight, so that millions of tasks never lie in the scheduler at once."""
    remaining = iter(tasks)
    in_flight: dict[Any, tuple[dict, int]] = {}
    done = queue.SimpleQueue()

    def submit(task: dict, attempt: int) -> None:
        future = client.submit(_attempt, function, task, digest, pure=False)
        in_flight[future] = task, attempt
        future.add_done_callback(done.put)

    def fill() -> None:
        while (
            len(in_flight) < 2 * max(1, sum(client.nthreads().values())) and (task := next(remaining, None)) is not None
        ):
            submit(task, 1)

    fill()
    while in_flight:
        if interrupted.is_set():
            raise KeyboardInterrupt
        try:
            future = done.get(timeout=0.1)
        except queue.Empty:
            continue
        task, attempt = in_flight.pop(future)
        outcome = _outcome(future)
        future.release()
        if _final(outcome, attempt):
            yield task, outcome
        else:
            log.warning("attempt %d of %d failed, trying again: %s", attempt, ATTEMPTS, outcome["error"])
            submit(task, attempt + 1)
        fill()


def _final(outcome: dict, attempt: int) -> bool:
    return "result" in outcome or outcome["stop"] or attempt == ATTEMPTS


def _outcome(future) -> dict:
    """What `_attempt` gave; a worker that died is an error like any other."""
    try:
        return future.result()
    except Exception as error:  # the worker was killed, or its result could not be sent: anything may come
        return _error(error)


def _attempt(function: Callable[[dict], dict], task: dict, digest: str | None) -> dict:
    """Runs on the worker. Exceptions travel as text, since not every exception survives the journey."""
    try:
        if digest is not None:
            _prepare_worker(digest)
        return {"result": function(task)}
    except Exception as error:  # listed with its traceback by the command, never swallowed
        return _error(error)


def _error(error: Exception) -> dict:
    notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
    mendable = isinstance(error, MotionloomError)
    text = f"{error}{notes}" if mendable else f"{type(error).__name__}: {error}{notes}"
    return {"error": text, "stop": mendable, "trace": "".join(traceback.format_exception(error))}


@functools.cache
def _prepare_worker(digest: str) -> None:
    """Once per worker process: the command's own code, and one thread for linear algebra."""
    guard.check()
    if digest:
        guard.check_same_code(digest)
    os.environ.update(ONE_THREAD)
    with contextlib.suppress(ImportError):
        from threadpoolctl import threadpool_limits

        threadpool_limits(1)


@contextlib.contextmanager
def _client(scheduler: str, workers: int | None):
    """A connection to the scheduler, on this machine with workers of its own, that leaves nothing behind."""
    from dask import config
    from distributed import Client, LocalCluster

    for name in ("distributed", "distributed.nanny", "distributed.worker", "distributed.scheduler", "distributed.core"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if scheduler != "local":
        with _connect(scheduler) as client:
            yield client
        return
    # Workers hold one clip at a time: nothing to spill, nothing to wait for.
    memory = {f"distributed.worker.memory.{name}": False for name in ("target", "spill", "pause")}
    settings = {**memory, "distributed.scheduler.allowed-failures": 1}
    options: dict[str, Any] = {"dashboard_address": "127.0.0.1:0", "silence_logs": logging.CRITICAL, "env": ONE_THREAD}
    with config.set(settings):
        with _interrupts_blocked():
            cluster = LocalCluster(n_workers=workers or default_workers(), threads_per_worker=1, **options)
        with cluster, Client(cluster) as client:
            yield client


@contextlib.contextmanager
def _interrupts_deferred() -> Iterator[threading.Event]:
    """Inside, ctrl-C and SIGTERM only set the event: an exception in the midst of Dask's calls would break them."""
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # whoever runs us there looks after signals
        yield interrupted
        return
    before = {number: signal.signal(number, lambda *_: interrupted.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Processes and threads started inside never see ctrl-C, which a terminal sends to all; it waits for us."""
    # First this one: whoever starts it has its mask cleared (Python 3.11), and starting a worker would.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _connect(address: str):
    from distributed import Client

    try:
        client = Client(address, timeout=CONNECT_S)
    except (OSError, ValueError) as error:
        raise MotionloomError(f"No Dask scheduler answers at {address}: {error}.") from None
    if not client.nthreads():
        client.close()
        raise MotionloomError(f"The Dask scheduler at {address} has no workers.")
    return client
