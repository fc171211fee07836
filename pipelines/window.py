"""A sliding window of work on a Dask cluster: one piece for every thread there is, however workers come, go and die.

Each piece is sent to a worker by name. So a death costs the one piece that ran there, whatever the scheduler's own
settings, and a piece that is late can be sent to another worker.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from corpus.errors import MotionloomError
from pipelines.attempt import failed, sent
from pipelines.bisect import Handling, Work, after_death, after_survival
from pipelines.cluster import Workers, scheduler_lost

log = logging.getLogger(__name__)

ATTEMPTS = 3
"""How often a task may raise an exception before it counts as failed."""
LATE = 3.0
"""A task is late that takes this many times as long for its cost as nine in ten of the others …"""
LATE_S = 20.0
"""… and at least this long [s]."""
COPIES = 3
"""A late task runs on no more workers than this at once."""
LONELY_S = 600.0
"""How long to wait where there is no worker at all [s]."""
RESTART_S = 5.0
"""How long that may be before a person is told: a worker that died is back sooner [s]."""
GATHER_S = 10.0
"""How long a finished task's result may take to arrive [s]."""


@dataclass(frozen=True, eq=False)
class Flight:
    """A piece of work on a worker."""

    work: Work
    address: str
    start: float


class Window:
    """Runs tasks on the workers of a client's scheduler; `outcomes` does it."""

    def __init__(
        self, client, function: Callable[[dict], dict], tasks: Iterable[dict], *,
        digest: str, handling: Handling, interrupted: threading.Event,
    ):  # fmt: skip
        """`digest` is the code that workers must have, empty for any."""
        self.client, self.function, self.digest = client, function, digest
        self.handling, self.interrupted = handling, interrupted
        self.workers = Workers(client)
        self.done_count = self.death_count = self.reissue_count = 0
        self._sent = sent()
        self._remaining = iter(tasks)
        self._waiting: deque[Work] = deque()
        self._flights: dict[Any, Flight] = {}
        self._open: dict[Work, list[Flight]] = {}
        """Work without an outcome yet, and where it runs. Flights whose work has one are left to end by themselves."""
        self._landed = queue.SimpleQueue()
        self._paces: deque[float] = deque(maxlen=1000)
        """Seconds per cost of the latest results."""
        self._lonely_since: float | None = None
        self._lonely_told = False

    def outcomes(self) -> Iterator[tuple[dict, dict]]:
        """Every task with its outcome, as they come: the "result", or the "error" that stays."""
        while self._open or self._has_waiting():
            if self.interrupted.is_set():
                raise KeyboardInterrupt
            if self.workers.ask():
                yield from self._bury()
                self._mind_loneliness()
                self._reissue_late()
            self._fill()
            yield from self._land()

    def _has_waiting(self) -> bool:
        if not self._waiting and (task := next(self._remaining, None)) is not None:
            self._waiting.append(Work(task))
        return bool(self._waiting)

    def _fill(self) -> None:
        while self._has_waiting() and (address := self.workers.free()) is not None:
            self._launch(self._waiting.popleft(), address)

    def _launch(self, work: Work, address: str) -> None:
        from cloudpickle import dumps

        payload = dumps((self.function, work.task, self.digest))
        key = f"{self.function.__name__}-{uuid.uuid4().hex}"
        try:
            future = self.client.submit(self._sent, payload, key=key, pure=False, workers=[address])
        except Exception as error:
            if self.client.status == "running":
                raise
            raise scheduler_lost(self.client) from error
        flight = Flight(work, address, time.monotonic())
        self._flights[future] = flight
        self._open.setdefault(work, []).append(flight)
        self.workers.take(address)
        future.add_done_callback(self._landed.put)

    def _land(self) -> Iterator[tuple[dict, dict]]:
        """Take in one flight that has ended, if any does so soon."""
        try:
            future = self._landed.get(timeout=0.1)
        except queue.Empty:
            return
        if future not in self._flights:
            return
        from distributed import KilledWorker

        try:
            outcome = future.result(timeout=GATHER_S)
        except (KilledWorker, TimeoutError):
            # TimeoutError: it finished, and its worker went before the result was fetched.
            self.workers.lose(self._flights[future].address)
            yield from self._died(future)
            return
        except Exception as error:  # the result could not be sent, or nobody is there to send it: anything may come
            if future.cancelled():
                raise scheduler_lost(self.client) from error
            outcome = failed(error)
        yield from self._ended(self._remove(future), outcome)

    def _remove(self, future) -> Flight:
        flight = self._flights.pop(future)
        self.workers.give_back(flight.address)
        if flight.work in self._open:
            self._open[flight.work].remove(flight)
        future.release()
        return flight

    def _ended(self, flight: Flight, outcome: dict) -> Iterator[tuple[dict, dict]]:
        work = flight.work
        if work not in self._open:
            return  # another copy was faster
        if outcome.get("refused"):
            self.workers.refuse(flight.address, outcome["error"])
            self._again(work)
        elif work.inquiry is not None and not outcome.get("stop"):
            del self._open[work]
            yield from self._follow(work.inquiry.whole, after_survival(work.inquiry, self.handling))
        elif "result" in outcome or outcome["stop"]:
            self._paces.append((time.monotonic() - flight.start) / self.handling.cost(work.task))
            yield self._concluded(work, outcome)
        else:
            yield from self._raised(work, outcome)

    def _raised(self, work: Work, outcome: dict) -> Iterator[tuple[dict, dict]]:
        work.attempts += 1
        if work.attempts >= ATTEMPTS:
            yield self._concluded(work, outcome)
        else:
            log.warning("attempt %d of %d failed, trying again: %s", work.attempts, ATTEMPTS, outcome["error"])
            self._again(work)

    def _concluded(self, work: Work, outcome: dict) -> tuple[dict, dict]:
        self._open.pop(work, None)
        self.done_count += 1
        return work.task, outcome

    def _again(self, work: Work) -> None:
        """Run it once more, unless a copy of it still runs."""
        if not self._open[work]:
            del self._open[work]
            self._waiting.appendleft(work)

    def _bury(self) -> Iterator[tuple[dict, dict]]:
        """Count as dead what runs on workers that the scheduler no longer knows."""
        for future, flight in list(self._flights.items()):
            if flight.address not in self.workers.present and not future.done():
                yield from self._died(future)

    def _died(self, future) -> Iterator[tuple[dict, dict]]:
        flight = self._remove(future)
        work = flight.work
        self.death_count += 1
        log.warning(
            "worker %s died or left %.1f s into %s", flight.address, time.monotonic() - flight.start, self._name(work)
        )
        if work in self._open and not self._open[work]:  # neither done nor running elsewhere
            del self._open[work]
            whole = work if work.inquiry is None else work.inquiry.whole
            yield from self._follow(whole, after_death(work, self.handling))

    def _follow(self, whole: Work, works: list[Work] | None) -> Iterator[tuple[dict, dict]]:
        """Run these next; where nothing is left to try, the whole has failed."""
        if works is None:
            error = f"{self._name(whole)} kills its worker, and no single part of it is to blame"
            yield self._concluded(whole, {"error": error, "stop": False, "trace": ""})
        else:
            self._waiting.extendleft(works)

    def _name(self, work: Work) -> str:
        part = "" if work.inquiry is None else "a part of "
        return part + self.handling.name(work.task)

    def _mind_loneliness(self) -> None:
        """Say that nobody is there to work, and after a while give up."""
        if why := self.workers.all_refused():
            raise MotionloomError(why)
        if self.workers.threads:
            self._lonely_since, self._lonely_told = None, False
            return
        self._lonely_since = self._lonely_since or time.monotonic()
        seconds = time.monotonic() - self._lonely_since
        if seconds > LONELY_S:
            raise MotionloomError(
                f"No Dask worker came in {seconds:.0f} s, {self.done_count} tasks are done: "
                "start some and run the same command to go on."
            )
        if seconds > RESTART_S and not self._lonely_told:
            self._lonely_told = True
            log.warning(
                "no worker is there; %d tasks are done, waiting %.0f s for one to join", self.done_count, LONELY_S
            )

    def _reissue_late(self) -> None:
        """Where nothing else is left to do, send what takes much too long to another worker too; the first one counts.

        A worker may hang, or be slow. Both write the same bytes, and a shard appears by one rename.
        """
        if not self._paces or self._has_waiting():
            return
        pace = sorted(self._paces)[int(0.9 * (len(self._paces) - 1))]
        for work, flights in list(self._open.items()):
            seconds = time.monotonic() - flights[-1].start
            limit = max(LATE_S, LATE * pace * self.handling.cost(work.task))
            address = self.workers.free(but={flight.address for flight in flights})
            if seconds > limit and len(flights) < COPIES and address is not None:
                log.warning(
                    "%s runs for %.0f s on %s, others take %.0f: sent to %s too",
                    self._name(work), seconds, flights[-1].address, limit / LATE, address,
                )  # fmt: skip
                self.reissue_count += 1
                self._launch(work, address)
