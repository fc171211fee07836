"""Selection to a budget: the greedy rule by hand, the approximation against it, both against chance."""

from __future__ import annotations

import numpy as np
import pytest
from mixture import mixture

from corpus.errors import MotionloomError
from hme.nearest import nearest
from hme.select import SelectOptions, ranks, select

PARTS = SelectOptions(exact_limit=0, part_size=100, near=10)


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return mixture(6000)[0]


@pytest.fixture(scope="module")
def complexity() -> np.ndarray:
    return np.random.default_rng(1).lognormal(size=6000)


def greedy(vectors: np.ndarray, complexity: np.ndarray, count: int, alpha: float) -> list[int]:
    """The published rule, word for word."""
    order, rank = [int(complexity.argmax())], ranks(complexity)
    while len(order) < count:
        apart = np.linalg.norm(vectors[:, None] - vectors[order], axis=2).min(1)
        scores = alpha * apart / apart.max() + (1 - alpha) * rank
        scores[order] = -1
        order.append(int(scores.argmax()))
    return order


@pytest.mark.parametrize("alpha", [1.0, 0.99, 0.5])
def test_the_exact_selection_is_the_published_rule(vectors, complexity, alpha):
    few = vectors[:300].astype(np.float64)
    found = select(few, complexity[:300], 40, options=SelectOptions(alpha=alpha))
    expected = greedy(few, complexity[:300], 40, alpha)
    assert found.exact
    assert found.order.tolist() == expected


def test_points_on_a_line_are_halved():
    line = np.linspace(0, 1, 17)[:, None] * np.ones(3)
    found = select(line, np.arange(17)[::-1], 5, options=SelectOptions(alpha=1.0))
    assert sorted(found.order.tolist()) == [0, 4, 8, 12, 16]
    assert found.distance[found.order][1:] / np.sqrt(3) == pytest.approx([1, 0.5, 0.25, 0.25])


def test_complexity_alone_takes_the_most_complex(vectors, complexity):
    found = select(vectors, complexity, 100, options=SelectOptions(alpha=0.0))
    assert found.order.tolist() == np.argsort(-complexity)[:100].tolist()


def test_parts_begin_as_exact_selection_does(vectors, complexity):
    exact, parts = (select(vectors, complexity, 30, options=one).order for one in (SelectOptions(), PARTS))
    assert parts.tolist() == exact.tolist()


@pytest.mark.parametrize("share", [0.01, 0.1])
def test_parts_lose_little_of_what_exact_selection_reaches(vectors, complexity, share):
    budget = int(share * len(vectors))
    exact, parts = (select(vectors, complexity, budget, options=one) for one in (SelectOptions(), PARTS))
    chance = np.random.default_rng(0).permutation(len(vectors))[:budget]
    assert (exact.exact, parts.exact) == (True, False)
    farthest = [nearest(vectors, vectors[order]).max() for order in (exact.order, parts.order, chance)]
    assert farthest[1] < 1.05 * farthest[0] < 0.7 * farthest[2]


def test_distances_are_to_the_nearest_picked(vectors, complexity):
    found = select(vectors, complexity, 60)
    rest = np.flatnonzero(~found.chosen)
    assert np.allclose(found.distance[rest], nearest(vectors[rest], vectors[found.order]), atol=2e-3)
    parts = select(vectors, complexity, 600, options=PARTS)
    rest = np.flatnonzero(~parts.chosen)
    assert (parts.distance[rest] > nearest(vectors[rest], vectors[parts.order]) - 2e-3).all()


def test_the_same_call_gives_the_same_selection(vectors, complexity):
    for options in (SelectOptions(), PARTS):
        one, other = (select(vectors, complexity, 300, options=options) for _ in range(2))
        assert np.array_equal(one.order, other.order)


def test_a_smaller_budget_is_the_beginning_of_a_larger_one(vectors, complexity):
    for options in (SelectOptions(), PARTS):
        small, large = (select(vectors, complexity, budget, options=options) for budget in (50, 200))
        assert small.order.tolist() == large.order[:50].tolist()


def test_a_budget_of_frames_is_nearly_spent_and_never_passed(vectors, complexity):
    frames = np.random.default_rng(2).integers(50, 1000, len(vectors))
    found = select(vectors, complexity, 100_000, cost=frames)
    assert 99_000 < frames[found.order].sum() <= 100_000


def test_only_what_is_allowed_is_picked(vectors, complexity):
    allowed = np.arange(len(vectors)) % 3 == 0
    for options in (SelectOptions(), PARTS):
        found = select(vectors, complexity, 200, allowed=allowed, options=options)
        assert allowed[found.order].all() and len(set(found.order.tolist())) == 200
        assert np.isnan(found.distance[~allowed]).all()


def test_copies_are_picked_last():
    vectors = np.repeat(mixture(50)[0], 4, 0)
    found = select(vectors, np.arange(200.0), 50)
    assert len(np.unique(vectors[found.order], axis=0)) == 50


def test_a_budget_beyond_all_takes_all(vectors, complexity):
    assert sorted(select(vectors[:100], complexity[:100], 1e9).order.tolist()) == list(range(100))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"budget": 0.5}, "buys nothing"),
        ({"budget": np.nan}, "buys nothing"),
        ({"complexity": np.full(10, np.nan)}, "finite complexity"),
        ({"complexity": np.zeros(9)}, "one of each per segment"),
        ({"allowed": np.zeros(10, bool)}, "no segment is allowed"),
        ({"cost": np.zeros(10)}, "positive cost"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong, message):
    given = {"vectors": np.eye(10), "complexity": np.zeros(10), "budget": 3} | wrong
    with pytest.raises(MotionloomError, match=message):
        select(**given)
    with pytest.raises(MotionloomError, match="alpha should lie in 0 to 1"):
        SelectOptions(alpha=1.5)


def test_nearest_is_the_plain_minimum_however_tiled(vectors, monkeypatch):
    monkeypatch.setattr("hme.nearest.TILE_ROWS", 37)
    monkeypatch.setattr("hme.nearest.TILE_COLUMNS", 101)
    queries, among = vectors[:90], vectors[500:1000]
    plain = np.sort(np.linalg.norm(queries[:, None].astype(float) - among, axis=2), axis=1)
    for k in (1, 5):
        assert np.allclose(nearest(queries, among, k=k), plain[:, k - 1], atol=1e-3)
    assert np.isinf(nearest(queries, among[:3], k=4)).all()
