"""Run a function over many small tasks with Dask: on this machine or on any scheduler, a sliding window at a time.

A task is a small dict, and so is what comes back; data goes through the disk.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from corpus.errors import MotionloomError
from pipelines import guard
from pipelines.attempt import attempt
from pipelines.bisect import Handling
from pipelines.cluster import Cluster, check, connection, interrupts_deferred, reported
from pipelines.window import ATTEMPTS, Window

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Failure:
    """A task that failed at every attempt."""

    task: dict[str, Any]
    error: str
    """The exception, in a line."""
    trace: str
    """Its traceback, as the worker saw it; empty where workers died."""


@dataclass(frozen=True)
class Summary:
    """How a run went."""

    failures: tuple[Failure, ...] = ()
    worker_count: int = 0
    """The most workers there were at once."""
    death_count: int = 0
    """Tasks, or probes of them, whose worker died or left."""
    reissue_count: int = 0
    """Tasks sent to a second worker because they were late."""


def run(
    function: Callable[[dict], dict],
    tasks: Iterable[dict],
    *,
    cluster: Cluster = Cluster(),
    handling: Handling = Handling(),
    on_result: Callable[[dict], None] = lambda result: None,
) -> Summary:
    """Call `function` on every task and hand each result to `on_result` as it comes.

    A `MotionloomError` in a task stops the run: a person has to mend something first. Any other exception is tried
    again, then listed. A task that kills its workers is taken apart as `handling` says, and runs without its culprits.
    """
    check(cluster)
    if cluster.scheduler == "inline":
        return Summary(_collect(_inline(function, tasks), on_result), worker_count=1)
    # Workers of our own read the same files as we do; others could hold another version.
    digest = "" if cluster.scheduler == "local" else guard.code_digest()
    with interrupts_deferred() as interrupted, connection(cluster) as client, reported(cluster.report):
        window = Window(client, function, tasks, digest=digest, handling=handling, interrupted=interrupted)
        failures = _collect(window.outcomes(), on_result)
        return Summary(failures, window.workers.most, window.death_count, window.reissue_count)


def peak_memory_mb() -> float:
    """The most memory this process has held so far [MiB]."""
    try:
        # Not ru_maxrss: that one survives exec, so a new process inherits its parent's peak.
        with open("/proc/self/status") as status:  # noqa: PTH123
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _collect(outcomes: Iterator[tuple[dict, dict]], on_result: Callable[[dict], None]) -> tuple[Failure, ...]:
    failures = []
    for task, outcome in outcomes:
        if "result" in outcome:
            on_result(outcome["result"])
        elif outcome["stop"]:
            raise MotionloomError(outcome["error"])
        else:
            failures.append(Failure(task, outcome["error"], outcome["trace"]))
            log.error("given up: %s", outcome["error"])
    return tuple(failures)


def _inline(function: Callable[[dict], dict], tasks: Iterable[dict]) -> Iterator[tuple[dict, dict]]:
    for task in tasks:
        for number in range(1, ATTEMPTS + 1):
            outcome = attempt(function, task, None)
            if "result" in outcome or outcome["stop"] or number == ATTEMPTS:
                yield task, outcome
                break
