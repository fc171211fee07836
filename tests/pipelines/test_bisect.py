"""Whatever parts of a task kill workers are found, and nothing else is blamed."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("hypothesis")
from hypothesis import given
from hypothesis import strategies as st

from pipelines.bisect import DEATHS, Handling, Work, after_death, after_survival


def halves(task: dict) -> list[dict]:
    parts = [part for part in task["parts"] if part not in task["out"]]
    middle = len(parts) // 2
    return [{"parts": half, "out": []} for half in (parts[:middle], parts[middle:])] if middle else []


def mark(task: dict, culprits: list[dict]) -> dict:
    found = [part for culprit in culprits for part in culprit["parts"]]
    return {**task, "out": sorted({*task["out"], *found})}


HANDLING = Handling(halves=halves, mark=mark)


def run(parts: int, dies) -> tuple[dict | None, int]:
    """The task as it came through at last, None if it never did; and how many workers died."""
    waiting, deaths = [Work({"parts": list(range(parts)), "out": []})], 0
    while waiting:
        work = waiting.pop()
        tried = [part for part in work.task["parts"] if part not in work.task["out"]]
        if dies(tried, deaths):
            deaths += 1
            following = after_death(work, HANDLING)
        elif work.inquiry is None:
            return work.task, deaths
        else:
            following = after_survival(work.inquiry, HANDLING)
        if following is None:
            return None, deaths
        waiting += following
    raise AssertionError("the task was forgotten")


@given(st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1)))))
def test_every_deadly_part_is_left_out_and_no_other(case):
    count, deadly = case
    task, _ = run(count, lambda tried, _: bool(deadly & set(tried)))
    assert task is not None and set(task["out"]) == deadly


@given(st.integers(1, 300), st.data())
def test_one_deadly_part_costs_few_workers(count, data):
    culprit = data.draw(st.integers(0, count - 1))
    _, deaths = run(count, lambda tried, _: culprit in tried)
    assert deaths <= 2 * DEATHS + math.ceil(math.log2(count))


@given(st.integers(1, 40), st.integers(1, 6))
def test_chance_blames_nobody(count, bad_luck):
    """Workers that die a few times for reasons of their own."""
    task, _ = run(count, lambda tried, deaths: deaths < bad_luck and len(tried) > 1)
    assert task is None or task["out"] == []


def test_parts_that_kill_only_together_are_a_failure_not_a_loop():
    task, deaths = run(8, lambda tried, _: len(tried) > 4)
    assert task is None and deaths == 2 * DEATHS


def test_a_task_of_one_piece_that_kills_its_worker_fails():
    work = Work({})
    assert after_death(work, Handling()) == [work]
    assert after_death(work, Handling()) is None
