"""The state machine as a table of transitions, and what holds for every one of them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.modes import MODES, WISHES, Modes, advanced
from deploy.situation import Fault

DAMPS, SETTLES = Fault("fallen", "it lies"), Fault("stale_reference", "nothing comes", "settle")
FAULTS = ((), (DAMPS,), (SETTLES,), (DAMPS, SETTLES))
YES_NO = (False, True)
EVERYTHING = list(itertools.product(MODES, WISHES, FAULTS, YES_NO, YES_NO, YES_NO))


def next_mode(mode: str, wish: str, faults=(), *, up=False, near=False, settled=False) -> str:
    return advanced(Modes(mode, 1.0), wish, faults, 2.0, up=up, near=near, settled=settled).mode


def expected(mode: str, wish: str, faults, up: bool, near: bool, settled: bool) -> str:
    """The table, said once more and otherwise."""
    if wish == "stop" or DAMPS in faults:
        return "damping"
    table = {
        "damping": "damping" if wish == "damping" else "stand",
        "stand": {"damping": "damping", "stand": "stand", "track": "track" if up and near else "stand"}.get(wish),
        "track": "track" if wish == "track" and not faults else "settle",
        "settle": "stand" if settled else "settle",
    }
    return table[mode] or mode


@pytest.mark.parametrize("mode", MODES)
def test_every_transition_is_that_of_the_table(mode):
    for each in [case for case in EVERYTHING if case[0] == mode]:
        _, wish, faults, up, near, settled = each
        assert next_mode(mode, wish, faults, up=up, near=near, settled=settled) == expected(*each), each


def test_a_whole_run_goes_through_all_modes():
    modes, seen = Modes(), []
    story = [("track", {}), ("track", {"up": True}), ("track", {"up": True, "near": True}), ("damping", {}),
             ("damping", {"settled": True}), ("damping", {})]  # fmt: skip
    for step, (wish, ready) in enumerate(story):
        modes = advanced(modes, wish, (), float(step), **{"up": False, "near": False, "settled": False, **ready})
        seen.append((modes.mode, modes.since_s))
    assert seen == [("stand", 0), ("stand", 0), ("track", 2), ("settle", 3), ("stand", 4), ("damping", 5)]
    assert not modes.stopped


cases = st.tuples(st.sampled_from(WISHES), st.sampled_from(FAULTS), st.booleans(), st.booleans(), st.booleans())


@given(st.lists(cases, max_size=30))
def test_what_holds_in_every_run(run):
    modes = Modes()
    for now, (wish, faults, up, near, settled) in enumerate(run, 1):
        before, modes = modes, advanced(modes, wish, faults, float(now), up=up, near=near, settled=settled)
        assert modes.mode in MODES
        if before.stopped:
            assert modes is before  # for good
        elif wish == "stop" or (DAMPS in faults and before.mode != "damping"):
            assert (modes.mode, modes.stopped) == ("damping", True)
            assert modes.fault == ("fallen" if DAMPS in faults else "stop")
        else:
            assert not modes.stopped
        if modes.mode == "track" != before.mode:
            assert (before.mode, wish, up, near) == ("stand", "track", True, True)
        if before.mode in ("track", "settle") and not modes.stopped:
            assert modes.mode != "damping"  # a robot that the policy holds is never just let go
        assert modes.since_s == (float(now) if modes.mode != before.mode else before.since_s)


def test_a_fault_in_damping_keeps_the_robot_there_but_not_for_good():
    waiting = advanced(Modes(), "track", (DAMPS,), 1.0, up=True, near=True, settled=True)
    assert (waiting.mode, waiting.stopped) == ("damping", False)
    assert advanced(waiting, "track", (), 2.0, up=True, near=True, settled=True).mode == "stand"


def test_a_stand_that_a_fault_led_to_says_which():
    modes = advanced(Modes("track"), "track", (SETTLES,), 1.0, up=True, near=True, settled=False)
    assert (modes.mode, modes.fault, modes.stopped) == ("settle", "stale_reference", False)
