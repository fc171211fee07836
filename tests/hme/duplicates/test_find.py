"""Near-duplicates: every kind of copy is found and named, and what is no copy is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from wandering import elsewhere, in_the_mirror, noisy, retimed, still, wandering

from corpus.errors import MotionloomError
from corpus.motion import RobotMotion
from hme.duplicates.find import DuplicateOptions, find

ORIGINALS = [wandering(10, seed) for seed in range(12)]


def only_pair(*copies: RobotMotion) -> dict:
    """The one pair among the originals and these."""
    pairs = find([*ORIGINALS, *copies])
    assert len(pairs) == 1, pairs
    return pairs.row(0, named=True)


def test_originals_are_no_copies_of_each_other():
    assert find(ORIGINALS).is_empty()


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("exact", lambda motion: motion),
        ("noisy", noisy),
        ("retimed", lambda motion: retimed(motion, 0.9)),
        ("retimed", lambda motion: retimed(motion, 1.1)),
        ("mirrored", in_the_mirror),
        ("chunk", lambda motion: motion.slice(123, 323)),
        ("overlap", lambda motion: RobotMotion(np.concatenate([motion.qpos[250:], wandering(5, 99).qpos]), 50.0)),
    ],
)
def test_each_kind_of_copy_is_found_and_named(kind, change):
    pair = only_pair(elsewhere(change(ORIGINALS[4])))
    assert (pair["a"], pair["b"], pair["kind"]) == (4, 12, kind)


def test_all_at_once_is_a_chunk_that_is_mirrored_at_its_tempo():
    pair = only_pair(noisy(in_the_mirror(retimed(ORIGINALS[7].slice(100, 350), 1.08))))
    assert (pair["a"], pair["kind"], pair["mirrored"]) == (7, "chunk", True)
    assert pair["tempo"] == pytest.approx(1 / 1.08, abs=2e-3)
    assert pair["start_a"] == pytest.approx(2.0, abs=0.03) and pair["stop_a"] == pytest.approx(7.0, abs=0.06)
    assert pair["share_b"] > 0.98 and pair["share_a"] == pytest.approx(0.5, abs=0.01)


def test_a_motion_that_was_cut_and_goes_on_otherwise_overlaps_until_there():
    spliced = np.concatenate([ORIGINALS[4].qpos[100:400], wandering(5, 98).qpos])
    pair = only_pair(RobotMotion(spliced, 50.0))
    assert (pair["a"], pair["kind"]) == (4, "overlap")
    assert pair["start_a"] == pytest.approx(2.0, abs=0.02) and 7.2 < pair["stop_a"] <= 8.0
    assert pair["tempo"] == pytest.approx(1, abs=2e-3)


def test_a_motion_made_again_slightly_otherwise_is_none():
    """What is off slowly is not taken for noise, be it no larger."""
    t = np.arange(500)[:, None] / 50
    again = ORIGINALS[2].qpos.copy()
    again[:, 7:] += 0.035 * np.sin(2 * np.pi * (0.2 + 0.05 * np.arange(29)) * t + np.arange(29))
    assert find([*ORIGINALS, RobotMotion(again, 50.0)]).is_empty()


def test_postures_held_are_no_copies_of_each_other():
    assert find([*ORIGINALS, still(6, 1), still(6, 1), still(6, 1, noise=0.004), still(8, 1, noise=0.004)]).is_empty()


def test_a_long_rest_in_common_makes_no_copies():
    rest = still(6, 1).qpos
    both = [RobotMotion(np.concatenate([rest, rest[-1:] + 0 * one.qpos, one.qpos]), 50.0) for one in ORIGINALS[:2]]
    assert find([*ORIGINALS[2:], *both]).is_empty()


def test_the_order_of_motions_changes_names_alone():
    motions = [*ORIGINALS, noisy(ORIGINALS[1]), ORIGINALS[3].slice(50, 300), in_the_mirror(ORIGINALS[5])]
    order = np.random.default_rng(0).permutation(len(motions))
    forth, back = find(motions), find([motions[i] for i in order])
    named = {frozenset((int(order[a]), int(order[b]))) for a, b in back.select("a", "b").iter_rows()}
    assert named == {frozenset(pair) for pair in forth.select("a", "b").iter_rows()} and len(named) == 3


def test_motions_too_short_for_anchors_are_no_trouble():
    assert find([*ORIGINALS, ORIGINALS[0].slice(0, 2), ORIGINALS[0].slice(0, 8)]).is_empty()


def test_the_limit_grows_with_motion_and_never_beyond_a_third_of_it():
    options = DuplicateOptions(threshold=0.012, stretch=0.06, least_motion=3.0)
    assert options.limit(1.0) == pytest.approx(np.hypot(0.012, 0.06))
    assert options.limit(0.03) == pytest.approx(0.01) and options.limit(0.0) == 0


def test_the_threshold_decides():
    copy = noisy(ORIGINALS[0], 0.02)
    assert len(find([*ORIGINALS, copy])) == 1
    strict = replace(DuplicateOptions(), threshold=0.002, stretch=0.0)
    assert find([*ORIGINALS, copy], strict).is_empty()
    with pytest.raises(MotionloomError, match="should lie in"):
        DuplicateOptions(threshold=0.2)
