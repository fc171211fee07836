"""Find the part of a task that kills its workers: the whole dies twice, then halves are probed, down to single parts.

Bookkeeping only, without Dask: what died or survived goes in, what to run next comes out. A probe does its part of the
work and writes nothing. Of a task with N parts, one of them deadly, 4 + log2(N) workers die.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

DEATHS = 2
"""How often a task, or a single part of one, must kill its worker to be held guilty: once may be chance."""


@dataclass(frozen=True)
class Handling:
    """How a caller's tasks are named, weighed and taken apart; these defaults fit any task that is one piece."""

    name: Callable[[dict], str] = lambda task: "a task"
    """What the log calls it."""
    cost: Callable[[dict], float] = lambda task: 1.0
    """Estimated work, in any unit: a task is late by its time per cost."""
    halves: Callable[[dict], list[dict]] = lambda task: []
    """Two probes, each of half the parts that could be to blame; none where there is but one such part."""
    mark: Callable[[dict, list[dict]], dict] = lambda task, culprits: task
    """The task, told to leave out what these probes of one part each hold; the same task where that changes nothing."""


@dataclass(eq=False)
class Work:
    """Something to run: a whole task, or a probe of some of its parts."""

    task: dict[str, Any]
    inquiry: Inquiry | None = None
    """What a probe belongs to; None for a whole task."""
    deaths: int = 0
    attempts: int = 0
    """How often it raised an exception."""
    acquitted: bool = False
    """It died before, though each of its parts survived alone."""


@dataclass(eq=False)
class Inquiry:
    """The search for what kills workers in one task."""

    whole: Work
    open_count: int
    """Probes that have neither survived nor been taken apart."""
    culprits: list[dict[str, Any]] = field(default_factory=list)


def after_death(work: Work, handling: Handling) -> list[Work] | None:
    """What to run next, now that a worker died of this; None where nothing is left to try."""
    work.deaths += 1
    if work.inquiry is None:
        return [work] if work.deaths < DEATHS else _inquire(work, handling)
    halves = handling.halves(work.task)
    if halves:
        # No second try: if it was chance, the halves survive.
        work.inquiry.open_count += len(halves) - 1
        return [Work(half, work.inquiry) for half in halves]
    if work.deaths < DEATHS:
        return [work]
    work.inquiry.culprits.append(work.task)
    return _close_probe(work.inquiry, handling)


def after_survival(inquiry: Inquiry, handling: Handling) -> list[Work] | None:
    """What to run next, now that a probe has ended without killing its worker; None where nothing is left to try."""
    return _close_probe(inquiry, handling)


def _inquire(work: Work, handling: Handling) -> list[Work] | None:
    halves = handling.halves(work.task)
    inquiry = Inquiry(work, len(halves))
    if halves:
        return [Work(half, inquiry) for half in halves]
    inquiry.culprits.append(work.task)
    return _conclude(inquiry, handling)


def _close_probe(inquiry: Inquiry, handling: Handling) -> list[Work] | None:
    inquiry.open_count -= 1
    return [] if inquiry.open_count else _conclude(inquiry, handling)


def _conclude(inquiry: Inquiry, handling: Handling) -> list[Work] | None:
    """The task without its culprits, or once more as it is where there are none."""
    task = inquiry.whole.task
    if inquiry.culprits:
        marked = handling.mark(task, inquiry.culprits)
        return None if marked == task else [Work(marked)]
    return None if inquiry.whole.acquitted else [Work(task, acquitted=True)]
