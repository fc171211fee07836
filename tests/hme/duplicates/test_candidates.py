"""The search among anchors: cells against looking at everything, and votes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from wandering import retimed, wandering

from corpus.errors import MotionloomError
from hme.duplicates.anchor_index import Index, SearchOptions, build_index, neighbours
from hme.duplicates.candidates import candidates
from hme.duplicates.find import seconds
from hme.duplicates.traces import Anchors, find_anchors, fit_basis, traces

OPTIONS = SearchOptions(radius=1.2, neighbours=1000)


@pytest.fixture(scope="module")
def anchors() -> Anchors:
    """Of 300 motions, ten each, in clumps."""
    rng = np.random.default_rng(0)
    prints = rng.normal(0, 1, (30, 1, 8))[rng.integers(0, 30, 3000)] + rng.normal(0, 0.3, (3000, 3, 8))
    return Anchors(np.repeat(np.arange(300), 10), np.tile(np.arange(10.0), 300), prints.astype(np.float32))


def everything(anchors: Anchors, radius: float) -> set[tuple[int, int, int]]:
    """Query, variant and row of every hit, by looking at all."""
    apart = np.linalg.norm(anchors.prints[:, :, None] - anchors.prints[None, None, :, 0], axis=-1)
    later = anchors.motion[:, None] < anchors.motion
    return {tuple(hit) for hit in np.argwhere((apart <= radius) & later[:, None]).tolist()}


def found(index: Index, anchors: Anchors, options: SearchOptions) -> set[tuple[int, int, int]]:
    """Rows named by their motion and time, for cells have an order of their own."""
    query, variant, row, _ = neighbours(index, anchors.prints, anchors.motion, options)
    named = index.motion[row] * 10 + index.time_s[row].astype(int)
    return set(zip(query.tolist(), variant.tolist(), named.tolist(), strict=True))


def test_one_cell_gives_what_looking_at_everything_gives(anchors):
    index = build_index(anchors, OPTIONS)
    assert index.shape == (3000, 1)
    assert found(index, anchors, OPTIONS) == everything(anchors, OPTIONS.radius)


def test_looking_into_all_cells_gives_everything_too(anchors):
    options = replace(OPTIONS, cells_from=100, probes=10_000)
    index = build_index(anchors, replace(options, probes=4))
    assert index.shape[1] > 50
    assert found(index, anchors, options) == everything(anchors, OPTIONS.radius)


def test_few_cells_give_most_and_nothing_else(anchors):
    options = replace(OPTIONS, cells_from=100, probes=4)
    some, every = found(build_index(anchors, options), anchors, options), everything(anchors, OPTIONS.radius)
    assert some <= every
    assert len(some) > 0.7 * len(every)


def test_of_many_neighbours_the_nearest_are_kept(anchors):
    options = replace(OPTIONS, neighbours=3)
    query, variant, _, apart = neighbours(build_index(anchors, options), anchors.prints, anchors.motion, options)
    every = np.linalg.norm(anchors.prints[:, :, None] - anchors.prints[None, None, :, 0], axis=-1)
    for one in range(0, 2500, 250):
        mine = np.sort(apart[(query == one) & (variant == 0)])
        later = np.sort(every[one, 0][anchors.motion > anchors.motion[one]])
        assert np.allclose(mine, later[later <= OPTIONS.radius][:3], atol=1e-3)


def test_an_index_is_read_as_it_was_saved(anchors, tmp_path):
    index = build_index(anchors, replace(OPTIONS, cells_from=100))
    index.save(tmp_path / "index")
    again = Index.load(tmp_path / "index")
    assert found(again, anchors, OPTIONS) == found(index, anchors, OPTIONS)
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


@pytest.fixture(scope="module")
def copies():
    """Twenty motions, and the first ten again, retimed."""
    motions = [wandering(8, seed) for seed in range(20)]
    motions += [retimed(motion, 1.08) for motion in motions[:10]]
    given, basis = traces(motions), fit_basis(motions)
    return find_anchors(given, basis), basis.odd, seconds(np.diff(given.starts))


def test_candidates_are_the_copies_with_a_guess_of_tempo_and_place(copies):
    anchors, odd, lengths = copies
    proposed, lost = candidates(build_index(anchors), anchors, odd, lengths)
    assert lost == 0
    assert set(zip(proposed["a"], proposed["b"], strict=True)) >= {(i, 20 + i) for i in range(10)}
    right = proposed.filter(proposed["b"] == proposed["a"] + 20)
    off = right["other_s"] - right["time_s"] / 1.08
    assert off.abs().max() < 0.1
    assert (right["tempo"] - 1 / 1.08).abs().max() < 0.06


def test_candidates_beyond_the_most_are_counted():
    motions = [wandering(8, 1)] * 6
    given, basis = traces(motions), fit_basis(motions)
    anchors, lengths = find_anchors(given, basis), seconds(np.diff(given.starts))
    options = SearchOptions(most=2)
    proposed, lost = candidates(build_index(anchors), anchors, basis.odd, lengths, options)
    assert (len(proposed), lost) == (2 + 2 + 2 + 2 + 1, 3 + 2 + 1)


def test_options_that_make_no_sense_are_refused():
    with pytest.raises(MotionloomError, match="should be positive"):
        SearchOptions(radius=0)
