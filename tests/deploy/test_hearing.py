from __future__ import annotations

from collections import Counter

import pytest
from robot_in_process import still_state

from deploy.hearing import Hearing
from deploy.link import Received


def hear(hearing: Hearing, tick: int, now_s: float, refused: int = 0, machine: int = 5):
    state = Received(still_state(tick, mode_machine=machine), now_s)
    return hearing.heard(state, Counter(crc=refused), now_s)


def test_the_age_of_a_clock_is_since_it_last_moved():
    hearing = Hearing()
    ages = [hear(hearing, tick, now).tick_age_s for now, tick in enumerate([5, 5, 5, 6, 6])]
    assert ages == [0, 1, 2, 0, 1]


@pytest.mark.parametrize(
    ("before", "after", "back"),
    [(100, 120, 0), (100, 99, 1), (5000, 20, 4980), (2**32 - 10, 10, 0), (10, 2**32 - 10, 20), (7, 7, 0)],
)
def test_a_clock_that_goes_back_is_told_from_one_that_begins_anew(before, after, back):
    hearing = Hearing()
    hear(hearing, before, 0.0)
    assert hear(hearing, after, 0.02).tick_back_ms == back


def test_refused_messages_count_for_a_second():
    hearing = Hearing()
    counts = [hear(hearing, i, i * 0.02, refused=2 if i >= 10 else 0).refused for i in range(80)]
    assert counts[:10] == [0] * 10
    assert counts[10:59] == [2] * 49
    assert counts[62:] == [0] * 18


def test_the_first_machine_is_remembered():
    hearing = Hearing()
    assert hearing.heard(None, {}, 0.0) == (0, 0.0, 0, None)
    assert [hear(hearing, i, i, machine=machine).machine for i, machine in enumerate((5, 6, 7))] == [5, 5, 5]
