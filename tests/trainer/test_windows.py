"""Windows stay within episodes, show every step, and are a function of seed, step and episodes."""

from __future__ import annotations

import numpy as np
import pytest

from corpus.errors import MotionloomError
from trainer.aggregate import Trajectories
from trainer.windows import find_episodes, split_windows

STEPS = 40


def rollout(number: int, begins: list[list[int]], clusters: list[int] | None = None) -> Trajectories:
    """Each observation tells its rollout, environment, step and episode."""
    count = len(begins)
    began = np.zeros((count, STEPS), bool)
    for environment, steps in enumerate(begins):
        began[environment, steps] = True
    place = np.broadcast_to(np.arange(STEPS), (count, STEPS))
    environment = np.broadcast_to(np.arange(count)[:, None], (count, STEPS))
    observation = np.stack([np.full_like(place, number), environment, place, began.cumsum(1)], -1).astype(np.float32)
    cluster = np.broadcast_to(np.array(clusters or [0] * count)[:, None], (count, STEPS)).astype(np.int32)
    return Trajectories(observation, observation * 2, cluster, cluster, cluster, began, began)


ROLLOUTS = [rollout(0, [[], [3, 30]]), rollout(1, [[0, 5, 6], [20]])]


def windows(length: int = 8, held_out: float = 0.0):
    return split_windows(ROLLOUTS, length=length, held_out=held_out)


def test_episodes_are_what_lies_between_beginnings():
    found = [tuple(row) for row in find_episodes(ROLLOUTS)]
    assert found == [
        (0, 0, 0, 40), (0, 1, 0, 3), (0, 1, 3, 27), (0, 1, 30, 10),
        (1, 0, 0, 5), (1, 0, 5, 1), (1, 0, 6, 34), (1, 1, 0, 20), (1, 1, 20, 20),
    ]  # fmt: skip


def test_no_window_goes_over_a_beginning():
    batch = windows()[0].batch(0, 0, 500)
    for observation, action, valid in zip(batch.observation, batch.action, batch.valid, strict=True):
        seen = observation[valid]
        assert (seen[:, [0, 1, 3]] == seen[0, [0, 1, 3]]).all()
        np.testing.assert_array_equal(np.diff(seen[:, 2]), 1)
        np.testing.assert_array_equal(action, observation * 2)


def test_padding_stands_at_the_end_of_short_episodes_only():
    batch = windows()[0].batch(0, 0, 500)
    lengths = {(int(r), int(e), int(p)): n for r, e, p, n in find_episodes(ROLLOUTS)}
    counts = {(0, 1, 0): 3, (1, 0, 0): 5, (1, 0, 5): 1}
    for observation, valid in zip(batch.observation, batch.valid, strict=True):
        count = valid.sum()
        assert valid[:count].all()
        start = tuple(observation[0, :3].astype(int))
        assert count == counts.get(start, 8)
        assert count == 8 or lengths[start] == count
    assert batch.valid.sum() == batch.global_count


def test_every_step_comes_as_often_as_one_amidst_a_long_episode_or_up_to_thrice():
    batch = windows()[0].batch(0, 0, 60_000)
    count = np.zeros((2, 2, STEPS))
    np.add.at(count, tuple(batch.observation[batch.valid][:, :3].astype(int).T), 1)
    amidst = count[0, 0, 15:25].mean()
    assert count.min() > 0.9 * amidst
    assert count[0, 0].max() < 2.0 * amidst
    assert count.max() < 3.0 * amidst


def test_a_batch_is_the_same_whenever_it_is_asked_for():
    first, again = windows()[0], windows()[0]
    first.batch(0, 6, 32)
    np.testing.assert_array_equal(first.batch(0, 7, 32).observation, again.batch(0, 7, 32).observation)
    assert (first.batch(0, 8, 32).observation != again.batch(0, 7, 32).observation).any()
    assert (first.batch(1, 7, 32).observation != again.batch(0, 7, 32).observation).any()


def test_processes_take_parts_of_one_batch():
    training = windows()[0]
    whole = training.batch(0, 3, 11)
    parts = [training.batch(0, 3, 11, rank=rank, world=3) for rank in range(3)]
    for name in ("observation", "action", "valid", "cluster"):
        np.testing.assert_array_equal(np.concatenate([getattr(part, name) for part in parts]), getattr(whole, name))
    assert {part.global_count for part in parts} == {whole.global_count}


def test_balanced_windows_share_out_among_clusters():
    rollouts = [rollout(0, [[], [], [], [20]], clusters=[5, 5, 5, 9])]
    for balanced, expected in ((False, 0.25 * (54 / 47)), (True, 0.5)):
        training, _ = split_windows(rollouts, length=8, held_out=0.0, balanced=balanced)
        share = (training.batch(0, 0, 20_000).cluster == 9).mean()
        assert share == pytest.approx(expected, abs=0.02)


def test_held_out_episodes_are_never_trained_on_and_stay_the_same():
    many = [rollout(number, [[10, 20, 30]] * 50) for number in range(4)]
    training, held_out = split_windows(many, length=8, held_out=0.2)
    rows = {tuple(row) for row in held_out.episodes}
    assert not rows & {tuple(row) for row in training.episodes}
    assert len(rows) / len(find_episodes(many)) == pytest.approx(0.2, abs=0.05)
    fewer = {tuple(row) for row in split_windows(many[:2], length=8, held_out=0.2)[1].episodes}
    assert fewer == {row for row in rows if row[0] < 2}


def test_nothing_to_draw_from_is_told():
    with pytest.raises(MotionloomError, match="no episode to draw windows from"):
        windows()[1].batch(0, 0, 4)


@pytest.mark.parametrize(("length", "held_out"), [(0, 0.1), (8, 1.0), (8, -0.1)])
def test_windows_that_mean_nothing_are_refused(length, held_out):
    with pytest.raises(MotionloomError, match="should be at least 1"):
        windows(length, held_out)
