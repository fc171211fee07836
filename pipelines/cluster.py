"""Reach Dask: workers of our own or any scheduler, who there is to work, and signals that wait for Dask's calls."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import math
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

from corpus.errors import MotionloomError
from pipelines.attempt import ONE_THREAD

log = logging.getLogger(__name__)

CONNECT_S = 10.0
"""How long to wait for a scheduler's answer at first [s]."""
SILENCE_S = 30.0
"""A scheduler that is silent this long is gone [s]."""
LEAST_MEMORY = 512 << 20
"""With less, a worker would be killed by its own libraries before its first clip [bytes]."""
ASK_S = 1.0
"""The scheduler is asked for its workers at most once in this time [s]."""


@dataclass(frozen=True)
class Cluster:
    """Where tasks run."""

    scheduler: str = "local"
    """"local" (processes on this machine), "inline" (one after another in this process) or a Dask scheduler's address."""
    workers: int | None = None
    """Processes on this machine; None for one per core."""
    worker_memory: str | None = None
    """Memory beyond which a worker of this machine is killed, as in "2GB"; None for an even share of what there is."""
    report: Path | None = None
    """Where Dask's performance report is written (HTML); None for no report."""


def default_workers() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check(cluster: Cluster) -> None:
    """Raises where the options do not go together, before any work is done."""
    if cluster.report is not None and cluster.scheduler == "inline":
        raise MotionloomError("A performance report tells of workers: there are none with the scheduler 'inline'.")
    if cluster.report is not None and importlib.util.find_spec("bokeh") is None:
        raise MotionloomError("A performance report needs bokeh: pip install 'motionloom[profile]'.")
    if cluster.report is not None:
        try:
            cluster.report.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MotionloomError(f"{cluster.report}: no place for a report ({error.strerror}).") from None
    if cluster.worker_memory is None:
        return
    if cluster.scheduler != "local":
        raise MotionloomError(
            "Only this machine's workers can be given a limit of memory here; others have `dask worker --memory-limit`."
        )
    from dask.utils import parse_bytes

    try:
        limit = parse_bytes(cluster.worker_memory)
    except ValueError:
        raise MotionloomError(
            f"{cluster.worker_memory!r} is no amount of memory; write it as in 2GB or 800MiB."
        ) from None
    # 0 is Dask's word for no limit.
    if limit < LEAST_MEMORY and limit != 0:
        raise MotionloomError(
            f"A worker cannot live on {cluster.worker_memory}: give it {LEAST_MEMORY >> 20} MiB or more."
        )


@contextlib.contextmanager
def connection(cluster: Cluster):
    """A connection to the scheduler, on this machine with workers of its own, that leaves nothing behind."""
    from dask import config
    from distributed import Client, LocalCluster

    for name in (
        "distributed",
        *(f"distributed.{part}" for part in ("nanny", "worker", "scheduler", "core", "client")),
    ):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if cluster.scheduler != "local":
        with config.set({"distributed.comm.timeouts.connect": CONNECT_S}), _connect(cluster.scheduler) as client:
            yield client
        return
    # Workers hold one clip at a time: nothing to spill, nothing to wait for.
    memory = {f"distributed.worker.memory.{name}": False for name in ("target", "spill", "pause")}
    # A task that kills its worker is ours to try again.
    settings = {**memory, "distributed.scheduler.allowed-failures": 0, "distributed.scheduler.worker-saturation": 1.0}
    options: dict[str, Any] = {
        "n_workers": cluster.workers or default_workers(),
        "threads_per_worker": 1,
        "memory_limit": cluster.worker_memory or "auto",
        "dashboard_address": "127.0.0.1:0",
        "silence_logs": logging.CRITICAL,
        "env": ONE_THREAD,
    }
    with config.set(settings):
        with _interrupts_blocked():
            own = LocalCluster(**options)
        with own, Client(own) as client:
            yield client


@contextlib.contextmanager
def reported(path: Path | None) -> Iterator[None]:
    """Write Dask's performance report of what happens inside, if that ends well."""
    if path is None:
        yield
        return
    from distributed import performance_report

    report = performance_report(filename=str(path))
    report.__enter__()
    yield
    try:
        report.__exit__(None, None, None)
    except Exception as error:  # the scheduler draws it, and may lack bokeh: the build is no worse for it
        log.warning("no performance report: %s: %s", type(error).__name__, error)


@contextlib.contextmanager
def interrupts_deferred() -> Iterator[threading.Event]:
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


class Workers:
    """Who there is to work, as the scheduler last told, and how many threads of each are busy."""

    def __init__(self, client):
        self.client = client
        self.threads: dict[str, int] = {}
        """Threads by address, without the workers that are refused."""
        self.refused: dict[str, str] = {}
        """Why a worker must not be used, by address."""
        self.most = 0
        """The most workers there were at once."""
        self.present: dict[str, int] = {}
        """Threads by address, of all workers."""
        self._busy: Counter[str] = Counter()
        self._asked = -math.inf

    def ask(self) -> bool:
        """Bring `threads` up to date; False where that was done a moment ago."""
        if time.monotonic() - self._asked < ASK_S:
            return False
        try:
            self.present = self.client.nthreads(callback_timeout=SILENCE_S)
        except Exception as error:  # refused, closed, silent: Dask has many ways to say that nobody is there
            raise scheduler_lost(self.client) from error
        # A worker that is started anew, at the same address, is asked anew.
        self.refused = {address: why for address, why in self.refused.items() if address in self.present}
        self._asked, before = time.monotonic(), self.most
        self._count()
        if self.most > before:
            log.info("%d workers, %d threads", len(self.threads), sum(self.threads.values()))
        return True

    def all_refused(self) -> str | None:
        """Why nobody may work, where workers are there and each is refused."""
        return self.refused[next(iter(self.present))] if self.present and not self.threads else None

    def free(self, *, but: Collection[str] = ()) -> str | None:
        """The worker with the fewest busy threads that has one free, other than `but`."""
        able = [name for name, count in self.threads.items() if self._busy[name] < count and name not in but]
        return min(able, key=lambda name: self._busy[name], default=None)

    def take(self, address: str) -> None:
        self._busy[address] += 1

    def give_back(self, address: str) -> None:
        self._busy[address] -= 1

    def lose(self, address: str) -> None:
        """It has died: nothing more for it, unless the scheduler names it again."""
        self.present.pop(address, None)
        self._asked = -math.inf
        self._count()

    def refuse(self, address: str, why: str) -> None:
        if address not in self.refused:
            log.error("worker %s is not used: %s", address, why)
        self.refused[address] = why
        self._count()

    def _count(self) -> None:
        self.threads = {name: count for name, count in self.present.items() if name not in self.refused}
        self.most = max(self.most, len(self.threads))


def scheduler_lost(client) -> MotionloomError:
    address = client.scheduler.address if client.scheduler else "its address"
    return MotionloomError(
        f"The Dask scheduler at {address} is gone: what is built stays; start one and run the same command to go on."
    )


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
        return Client(address, timeout=CONNECT_S)
    except (OSError, ValueError) as error:
        raise MotionloomError(f"No Dask scheduler answers at {address}: {error}.") from None
