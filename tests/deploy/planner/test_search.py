from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.planner.search import HEAD, LEAF, Boxes, arrange, principal_axes


def boxes_around(rows: np.ndarray) -> Boxes:
    order = arrange(rows)
    return Boxes.around(rows, order, np.ascontiguousarray(rows[order][:, :HEAD]))


@given(count=st.integers(1, 700), seed=st.integers(0, 2**32 - 1), ties=st.booleans(), masked=st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_nearest_row_is_the_one_that_trying_all_finds(count, seed, ties, masked):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count, 24)).astype(np.float32) * np.linspace(2, 0.1, 24, dtype=np.float32)
    rows = np.round(rows) if ties else rows
    boxes = boxes_around(rows)
    query = (rng.normal(size=24) * 2).astype(np.float32)
    weight = (rng.random(24) < 0.8).astype(np.float32)
    allowed = rng.random(count) < 0.3 if masked else None
    cost = ((rows - query) ** 2).astype(np.float64) @ weight.astype(np.float64)
    if allowed is not None:
        cost[~allowed] = np.inf
    held = None if allowed is None else boxes.holding(allowed)
    row, found = boxes.nearest(query, weight, boxes=held, allowed=allowed)
    if not np.isfinite(cost.min()):
        assert row == -1
        return
    np.testing.assert_allclose([found, cost[row]], cost.min(), rtol=1e-4, atol=1e-5)
    bounded, _ = boxes.nearest(query, weight, bound=cost.min() * 0.99, boxes=held, allowed=allowed)
    assert bounded == -1


def test_every_row_lies_in_a_box_and_boxes_are_whole():
    rows = np.random.default_rng(0).normal(size=(300, 20)).astype(np.float32)
    order = arrange(rows)
    assert set(order) == set(range(300)) and len(order) % LEAF == 0


def test_turned_columns_keep_distances_and_blocks_apart():
    rows = np.random.default_rng(1).normal(size=(200, 6)) @ np.random.default_rng(2).normal(size=(6, 6))
    blocks = [slice(0, 4), slice(4, 6)]
    basis = principal_axes(rows, blocks)
    np.testing.assert_allclose(basis @ basis.T, np.eye(6), atol=1e-9)
    spread = (rows @ basis).var(0)
    assert (np.diff(spread) <= 1e-9).all()
    own = [np.abs(basis[block]).max(0) > 0 for block in blocks]
    assert not (own[0] & own[1]).any()
