"""The student becomes like its experts; what is stopped or killed goes on as if nothing had been."""

from __future__ import annotations

import dataclasses
import os
import signal
from itertools import repeat
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from toy_tracking import CONTRACT, Asked, LinearExpert, ToyEnv, cluster_of, experts

from corpus.errors import MotionloomError
from deploy.contract import Contract
from trainer.aggregate import read_trajectories, statistics
from trainer.dagger import roll_out
from trainer.gpt import GptShape
from trainer.learner import Learning
from trainer.normaliser import LEAST_DEVIATION
from trainer.run_log import read_log
from trainer.student import StudentOptions, StudentRun, train_student
from trainer.student_policy import StudentPolicy, load_student

TINY = StudentOptions(
    shape=GptShape(layers=1, width=16, heads=2, mlp=16, window=4),
    rounds=3,
    rollout_steps=8,
    mixing_rounds=2,
    steps_per_round=4,
    batch_size=4,
    length=6,
    learning=Learning(learning_rate=1e-2, warmup_steps=2),
    held_out=0.2,
    checkpoint_steps=3,
    log_steps=1,
)
COUNT = 4


class Power:
    """An environment whose machine loses its power after so many steps."""

    def __init__(self, steps: int):
        self.env, self.left = ToyEnv(COUNT), steps

    def __getattr__(self, name: str):
        return getattr(self.env, name)

    def step(self, action):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return self.env.step(action)


def run(folder: Path, env=None, *, ask_at: int = 10**9, options: StudentOptions = TINY) -> StudentRun:
    made = StudentRun(folder, env or ToyEnv(COUNT), experts(), cluster_of, options)
    made.train(Asked(ask_at))
    return made


def left_behind(folder: Path) -> dict[str, torch.Tensor | bytes]:
    """Weights, optimiser and data."""
    arrays = load_file(folder / "checkpoints" / str(TINY.total_steps) / "arrays.safetensors")
    return {**arrays, **{path.name: path.read_bytes() for path in sorted((folder / "aggregate").iterdir())}}


def assert_same_run(folder: Path, other: Path) -> None:
    mine, theirs = left_behind(folder), left_behind(other)
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        same = torch.equal(value, theirs[name]) if isinstance(value, torch.Tensor) else value == theirs[name]
        assert same, f"{name} differs"
    logs = [[{**row, "elapsed_s": 0} for row in read_log(path)] for path in (folder, other)]
    assert logs[0] == logs[1]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    run(folder)
    return folder


@pytest.mark.parametrize("ask_at", [0, 5, 9, 11, 15, 22, 35])
def test_stopped_and_gone_on_is_uninterrupted(tmp_path, uninterrupted, ask_at):
    """Rollouts are looks 0–7, 12–19 and 24–31, gradient steps the others."""
    stopped = run(tmp_path, ask_at=ask_at)
    assert stopped.learner.step < TINY.total_steps or ask_at == 35
    run(tmp_path)
    assert_same_run(tmp_path, uninterrupted)


@pytest.mark.parametrize("steps", [3, 8, 13, 20])
def test_killed_and_gone_on_is_uninterrupted(tmp_path, uninterrupted, steps):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Power(steps))
    run(tmp_path)
    assert_same_run(tmp_path, uninterrupted)


def test_a_student_that_was_asked_to_stop_is_not_taken_for_a_trained_one(tmp_path, monkeypatch):
    step = ToyEnv.step

    def asked(env, action):
        os.kill(os.getpid(), signal.SIGINT)
        monkeypatch.setattr(ToyEnv, "step", step)
        return step(env, action)

    monkeypatch.setattr(ToyEnv, "step", asked)
    with pytest.raises(KeyboardInterrupt):
        train_student(tmp_path, ToyEnv(COUNT), experts(), cluster_of, TINY)


def test_stopped_again_and_again_is_uninterrupted(tmp_path, uninterrupted):
    for _ in range(20):
        if run(tmp_path, ask_at=10).learner.step == TINY.total_steps:
            break
    assert_same_run(tmp_path, uninterrupted)


def test_a_run_that_has_ended_is_left_as_it_is(tmp_path):
    run(tmp_path)
    before = left_behind(tmp_path)
    assert run(tmp_path, Power(0)).learner.step == TINY.total_steps
    assert left_behind(tmp_path).keys() == before.keys()


@pytest.fixture(scope="module")
def taught(tmp_path_factory) -> Path:
    options = StudentOptions(
        shape=GptShape(layers=2, width=32, heads=2, mlp=64, window=8),
        rounds=4,
        rollout_steps=60,
        mixing_rounds=2,
        steps_per_round=100,
        batch_size=16,
        length=16,
        learning=Learning(learning_rate=5e-3, warmup_steps=20),
        held_out=0.1,
    )
    return train_student(tmp_path_factory.mktemp("taught"), ToyEnv(16), experts(), cluster_of, options)


def test_the_student_acts_as_the_expert_of_each_cluster(taught):
    done = roll_out(
        ToyEnv(16, first=100), load_student(taught), experts(), cluster_of, repeat(np.zeros(16, bool)), steps=60
    )
    assert done is not None
    rollout, numbers = done
    assert numbers["action_error"] < 0.05 * np.abs(rollout.action).mean()
    assert numbers["failed_per_1000_frames"] == 0
    # The control: one cluster's expert for the other one's.
    wrong = rollout.observation[..., :4] @ LinearExpert(0).gain.T
    assert np.abs(wrong - rollout.action)[rollout.cluster == 1].mean() > 10 * numbers["action_error"]


def test_the_loss_falls_on_what_was_held_out_too(taught):
    rows = read_log(taught)
    held_out = [row["held_out_loss"] for row in rows if "held_out_loss" in row]
    assert len(held_out) == 4
    assert held_out[-1] < 0.1 * rows[0]["loss"]
    assert [row["rollout/expert_acted"] for row in rows if "round" in row] == pytest.approx([1, 0.5, 0, 0], abs=0.05)


def test_statistics_are_the_first_round_s(taught):
    mean, deviation = statistics(read_trajectories(taught, rounds=1, ranks=1))
    model = load_student(taught).model
    np.testing.assert_allclose(model.normaliser.mean.numpy(), mean, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(model.normaliser.deviation.numpy(), np.maximum(deviation, LEAST_DEVIATION), rtol=1e-6)


def test_the_policy_remembers_what_the_network_sees_in_one_row(taught):
    rollout = read_trajectories(taught, rounds=1, ranks=1)[0]
    policy = load_student(taught)
    for t in range(40):
        policy.forget(np.flatnonzero(rollout.began[:, t]))
        action = policy.act(_View(rollout.observation[:, t]))
        if t == 39:
            break
    for environment in range(4):
        start = np.flatnonzero(rollout.began[environment, :40])[-1]
        row = torch.from_numpy(rollout.observation[environment : environment + 1, start:40].copy())
        with torch.no_grad():
            expected = policy.model(row)[0, -1].numpy()
        np.testing.assert_allclose(action[environment], expected, atol=1e-4)


def test_a_loaded_student_is_the_one_that_was_trained(tmp_path):
    made, view = run(tmp_path), ToyEnv(COUNT).view()
    loaded = load_student(tmp_path)
    np.testing.assert_array_equal(loaded.act(view), StudentPolicy(made.model, CONTRACT).act(view))
    assert loaded.contract.hash == CONTRACT.hash


def test_another_run_in_the_same_folder_is_refused(tmp_path, uninterrupted):
    run(tmp_path, ask_at=10)
    with pytest.raises(MotionloomError, match=r"run\.json is of another run: it differs in learning, seed"):
        run(tmp_path, options=dataclasses.replace(TINY, seed=1, learning=Learning(learning_rate=2e-2)))
    run(tmp_path, options=dataclasses.replace(TINY, checkpoint_steps=1))
    arrays = left_behind(tmp_path)
    assert all(
        torch.equal(arrays[name], value)
        for name, value in left_behind(uninterrupted).items()
        if "." in name and "model" in name
    )


def test_a_lost_file_of_the_run_is_named(tmp_path):
    run(tmp_path, ask_at=22)
    (tmp_path / "aggregate" / "0-0.safetensors").unlink()
    with pytest.raises(MotionloomError, match=r"0-0\.safetensors is missing"):
        run(tmp_path)


def test_an_expert_under_another_contract_is_refused(tmp_path):
    mixed = {**experts(), 1: LinearExpert(1, Contract())}
    with pytest.raises(MotionloomError, match="expert of cluster 1 is under contract"):
        StudentRun(tmp_path, ToyEnv(COUNT), mixed, cluster_of, TINY)


def test_a_batch_smaller_than_the_number_of_experts_is_refused(tmp_path):
    with pytest.raises(MotionloomError, match="batch_size 1: should be at least the number of experts"):
        StudentRun(tmp_path, ToyEnv(COUNT), experts(), cluster_of, dataclasses.replace(TINY, batch_size=1))


@pytest.mark.parametrize(("name", "value"), [("rounds", 0), ("length", 0), ("checkpoint_steps", 0)])
def test_options_that_mean_nothing_are_refused(name, value):
    with pytest.raises(MotionloomError, match=f"{name}: should be at least 1"):
        dataclasses.replace(TINY, **{name: value})


def test_a_learning_rate_too_high_is_told(tmp_path):
    made = run(tmp_path)
    made.learner.learning = Learning(learning_rate=1e30)
    made.learner.step = 0
    made.rounds_begun = 1
    with pytest.raises(MotionloomError, match="Training diverged"):
        made._learn(Asked(), None)


def test_the_learning_rate_rises_and_falls_as_told():
    learning = Learning(learning_rate=1.0, warmup_steps=9)
    assert [learning.rate(step, 109) for step in (0, 4, 9, 59, 109)] == pytest.approx([0.1, 0.5, 1.0, 0.55, 0.1])
    assert Learning(learning_rate=1.0, course="constant", warmup_steps=0).rate(50, 100) == 1.0


@dataclasses.dataclass(frozen=True)
class _View:
    observation: np.ndarray
