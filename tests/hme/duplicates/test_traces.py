"""Anchors: the same instants of a motion whatever is done to it, and fingerprints that say so."""

from __future__ import annotations

import numpy as np
import pytest
from wandering import elsewhere, in_the_mirror, noisy, retimed, still, wandering

from corpus.errors import MotionloomError
from hme.duplicates.traces import TEMPI, Anchors, Basis, find_anchors, fit_basis, mirrored, traces

MOTION = wandering(20, seed=1)


@pytest.fixture(scope="module")
def basis() -> Basis:
    return fit_basis([wandering(20, seed) for seed in range(1, 8)])


@pytest.fixture(scope="module")
def anchors(basis) -> Anchors:
    return find_anchors(traces([MOTION]), basis)


def test_there_are_about_two_anchors_a_second(anchors):
    assert 1.0 < len(anchors) / 20 < 3.0


def test_the_trace_of_a_mirrored_motion_is_the_mirrored_trace():
    assert np.abs(traces([in_the_mirror(MOTION)])[0] - mirrored(traces([MOTION])[0])).max() < 1e-4


def test_place_and_heading_change_neither_anchors_nor_fingerprints(basis, anchors):
    found = find_anchors(traces([elsewhere(MOTION)]), basis)
    assert np.abs(found.time_s - anchors.time_s).max() < 1e-3
    assert np.abs(found.prints - anchors.prints).max() < 1e-3


def test_a_mirrored_motion_has_the_same_anchors_with_signs_turned_round(basis, anchors):
    found = find_anchors(traces([in_the_mirror(MOTION)]), basis)
    assert np.abs(found.time_s - anchors.time_s).max() < 1e-3
    assert np.abs(found.prints - np.where(basis.odd, -1, 1) * anchors.prints).max() < 1e-3
    assert 0 < basis.odd.sum() < len(basis.odd)


@pytest.mark.parametrize("speed", [0.9, 1.1])
def test_at_another_tempo_the_fingerprint_of_that_tempo_is_the_nearest(basis, anchors, speed):
    found = find_anchors(traces([retimed(MOTION, speed)]), basis)
    apart = np.abs(found.time_s[:, None] * speed - anchors.time_s)
    mine, theirs = np.nonzero(apart < 0.08)
    assert len(mine) >= 0.9 * len(anchors)
    off = np.linalg.norm(found.prints[mine, 0][:, None] - anchors.prints[theirs], axis=-1)
    assert np.median(off, 0).argmin() == TEMPI.index(speed)
    assert np.median(off[:, TEMPI.index(speed)]) < 0.1


def test_noise_and_where_a_recording_starts_leave_most_anchors_where_they_are(basis, anchors):
    found = find_anchors(traces([noisy(MOTION.slice(137, 1000))]), basis)
    apart = np.abs(found.time_s[:, None] + 137 / 50 - anchors.time_s).min(1)
    assert (apart < 0.05).mean() > 0.85


def test_one_who_stands_still_has_no_anchors(basis):
    given = traces([still(10, 1), still(10, 1, noise=0.002), still(0.04, 2)])
    assert len(find_anchors(given, basis)) == 0


def test_motions_that_never_move_give_no_basis():
    with pytest.raises(MotionloomError, match="hardly move"):
        fit_basis([still(5, 1), still(5, 2)])


def test_a_saved_basis_is_the_same_basis(basis, tmp_path):
    basis.save(tmp_path / "basis.npz")
    again = Basis.load(tmp_path / "basis.npz")
    assert again.id == basis.id and np.array_equal(again.directions, basis.directions)
    (tmp_path / "other.npz").write_bytes(b"no npz")
    with pytest.raises(MotionloomError, match="holds no basis"):
        Basis.load(tmp_path / "other.npz")
