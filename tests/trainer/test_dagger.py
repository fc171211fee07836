"""Who acts, who labels, and what the student is shown."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from toy_tracking import LinearExpert, ToyEnv, cluster_of, experts

from corpus.errors import MotionloomError
from trainer.dagger import draw_turns, expert_share, roll_out

COUNT, STEPS = 6, 40
ENVS = np.arange(COUNT)


class Noting:
    """A student that does little, and notes what it is shown and when it is to forget."""

    def __init__(self):
        self.shown: list[np.ndarray] = []
        self.forgot: list[list[int]] = []

    def forget(self, envs):
        self.forgot.append(envs.tolist())

    def act(self, view):
        self.shown.append(view.observation)
        return np.full((COUNT, 29), 0.5, np.float32)


def rolled(share: float, student=None, env: ToyEnv | None = None):
    env = env or ToyEnv(COUNT)
    student = Noting() if student is None and share < 1 else student
    done = roll_out(
        env, student, experts(), cluster_of, draw_turns(0, 0, share, ENVS), steps=STEPS
    )  # fmt: skip
    assert done is not None
    return *done, student


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_every_state_is_labelled_by_the_expert_of_its_cluster(share):
    rollout, _, _ = rolled(share)
    np.testing.assert_array_equal(rollout.cluster, rollout.segment // 2)
    for cluster, expert in experts().items():
        mine = rollout.cluster == cluster
        assert mine.any()
        expected = rollout.observation[mine][:, :4] @ expert.gain.T
        np.testing.assert_allclose(rollout.action[mine], expected, atol=1e-5)


def test_each_expert_is_asked_about_its_own_environments_only():
    asked = experts()
    done = roll_out(ToyEnv(COUNT), None, asked, cluster_of, itertools.repeat(np.ones(COUNT, bool)), steps=STEPS)
    assert done is not None
    for cluster, expert in asked.items():
        assert expert.shown == (done[0].cluster == cluster).sum()


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_what_is_executed_is_the_expert_s_or_the_student_s_by_turn(share):
    rollout, _, _ = rolled(share)
    executed = rollout.observation[:, 1:, 4]  # the observation tells the first number of the last action
    expected = np.where(rollout.expert_acted, rollout.action[..., 0], np.float32(0.5))[:, :-1]
    amidst = ~rollout.began[:, 1:]
    np.testing.assert_array_equal(executed[amidst], expected[amidst])
    assert rollout.expert_acted.mean() == pytest.approx(share, abs=0.1)


def test_the_student_sees_every_frame_and_forgets_where_an_episode_begins():
    rollout, _, student = rolled(0.5)
    np.testing.assert_array_equal(np.stack(student.shown, 1), rollout.observation)
    assert student.forgot == [np.flatnonzero(began).tolist() for began in rollout.began.T]
    assert student.forgot[0] == list(range(COUNT))
    assert sum(map(len, student.forgot)) > COUNT


def test_failures_are_counted_and_their_states_labelled():
    rollout, numbers, _ = rolled(0.0, env=ToyEnv(COUNT, limit=1.6))
    begun = int(rollout.began[:, 1:].sum())
    happened = (numbers["failed_per_1000_frames"] + numbers["finished_per_1000_frames"]) * rollout.began.size / 1000
    assert numbers["failed_per_1000_frames"] > 0
    assert begun <= round(happened) <= begun + COUNT  # an episode may end with the rollout
    assert np.isfinite(rollout.action).all()


def test_a_student_that_answers_as_the_expert_makes_no_error():
    class Copy:
        def forget(self, envs): ...
        def act(self, view):
            both = [expert.act(view) for expert in experts().values()]
            return np.where(view.observation[:, 5:6] > 0, *both)

    _, numbers, _ = rolled(0.0, Copy())
    assert numbers["action_error"] == 0.0
    assert numbers["failed_per_1000_frames"] == 0.0


def test_turns_are_a_function_of_seed_step_and_environment():
    def turns(*, seed=0, first_step=0, first=0):
        envs = first + np.arange(1000)
        return np.stack(list(itertools.islice(draw_turns(seed, first_step, 0.3, envs), 5)))

    both = turns()
    assert both.mean() == pytest.approx(0.3, abs=0.03)
    np.testing.assert_array_equal(turns(first_step=2)[:3], both[2:])
    np.testing.assert_array_equal(turns(first=400)[:, :600], both[:, 400:])
    for other in (turns(seed=1), turns(first_step=5), turns(first=1000)):
        assert (other != both).mean() == pytest.approx(2 * 0.3 * 0.7, abs=0.05)


def test_the_expert_s_share_falls_evenly_from_one_to_nought():
    assert [expert_share(number, 4) for number in range(6)] == [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    assert [expert_share(number, 1) for number in range(3)] == [1.0, 0.0, 0.0]


def test_a_rollout_that_is_asked_to_stop_does_not_count():
    turns = draw_turns(0, 0, 1.0, ENVS)
    asked = iter([False] * 5 + [True])
    assert roll_out(ToyEnv(COUNT), None, experts(), cluster_of, turns, steps=9, stop=lambda: next(asked)) is None


def test_a_cluster_without_an_expert_is_named():
    turns = draw_turns(0, 0, 1.0, ENVS)
    with pytest.raises(MotionloomError, match=r"No expert for cluster 1\. There are experts for: 0\."):
        roll_out(ToyEnv(COUNT), None, {0: LinearExpert(0)}, cluster_of, turns, steps=9)


def test_an_expert_whose_actions_are_not_finite_is_named():
    broken = experts()
    broken[1].gain[3, 2] = np.nan
    turns = draw_turns(0, 0, 1.0, ENVS)
    with pytest.raises(MotionloomError, match=r"experts of clusters \[1\] gave actions that are not finite"):
        roll_out(ToyEnv(COUNT), None, broken, cluster_of, turns, steps=40)
