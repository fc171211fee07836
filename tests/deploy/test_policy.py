"""The runtime answers as the student does, from its own ring; what it cannot answer it refuses."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from toy_bundle import WINDOW, toy_student
from toy_tracking import CONTRACT

from corpus.errors import MotionloomError
from deploy.bundle import open_bundle
from deploy.policy import StepPolicy

SIZE = CONTRACT.observation.size
TEN_HOURS = 50 * 3600 * 10


@pytest.fixture(scope="module")
def opened(exported):
    return open_bundle(exported)


@pytest.fixture
def policy(opened) -> StepPolicy:
    return opened.policy()


def observed(frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1.5, (frames, SIZE)).astype(np.float32)


def whole(frames: np.ndarray) -> np.ndarray:
    """The student's actions, all frames at once."""
    import torch

    with torch.no_grad():
        return toy_student().model(torch.from_numpy(frames)[None])[0].numpy()


def stepped(policy: StepPolicy, frames: np.ndarray) -> np.ndarray:
    return np.stack([policy.act(frame).copy() for frame in frames])


def test_a_ring_answers_as_the_whole_sequence_does(policy):
    frames = observed(5 * WINDOW)
    np.testing.assert_allclose(stepped(policy, frames), whole(frames), atol=1e-5)
    assert policy.position == len(frames)


@pytest.mark.parametrize("before", [1, WINDOW - 1, WINDOW, 2 * WINDOW + 3])
def test_after_forgetting_nothing_is_left(policy, before):
    frames = observed(2 * WINDOW)
    first = stepped(policy, frames)
    policy.forget()
    stepped(policy, 5 * observed(before, seed=1))
    policy.forget()
    np.testing.assert_array_equal(stepped(policy, frames), first)


def test_ten_hours_in_it_answers_the_same(policy):
    frames = observed(3 * WINDOW)
    policy.skip_to(TEN_HOURS)
    np.testing.assert_allclose(stepped(policy, frames), whole(frames), atol=1e-5)
    assert policy.position == TEN_HOURS + len(frames)


def test_int8_stays_near(opened):
    frames = observed(5 * WINDOW)
    own, right = stepped(opened.policy("int8"), frames), whole(frames)
    assert 0 < np.linalg.norm(own - right) < 0.03 * np.linalg.norm(right)


def test_two_policies_of_a_bundle_do_not_share_a_memory(opened):
    frames = observed(2 * WINDOW)
    one, other = opened.policy(), opened.policy()
    turns = [(one.act(frame).copy(), other.act(-frame).copy()) for frame in frames]
    np.testing.assert_array_equal(np.stack([turn[0] for turn in turns]), stepped(opened.policy(), frames))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_an_observation_that_is_not_finite_is_refused_and_not_remembered(policy, value):
    frames = observed(2 * WINDOW)
    stepped(policy, frames[:-1])
    broken = frames[0].astype(float)
    broken[3] = value
    with pytest.raises(MotionloomError, match=r"not finite at \[3\]"), np.errstate(over="ignore"):
        policy.act(broken)
    np.testing.assert_allclose(policy.act(frames[-1]), whole(frames)[-1], atol=1e-5)


@pytest.mark.parametrize("shape", [(), (SIZE - 1,), (SIZE + 1,), (1, SIZE), (SIZE, 1)])
def test_an_observation_of_another_size_is_refused(policy, shape):
    with pytest.raises(MotionloomError, match=f"should be {SIZE} numbers"):
        policy.act(np.zeros(shape, np.float32))


def test_an_action_that_is_no_number_is_an_error_and_not_remembered(policy):
    largest = np.full(SIZE, 3e38, np.float32)
    largest[::2] *= -1
    frames = observed(WINDOW)
    stepped(policy, frames[:-1])
    with pytest.raises(MotionloomError, match="no number"):
        policy.act(largest)
    np.testing.assert_allclose(policy.act(frames[-1]), whole(frames)[-1], atol=1e-5)


def test_a_step_makes_no_new_memory(policy):
    frames = observed(3 * WINDOW)
    stepped(policy, frames)
    action = policy.act(frames[0])
    tracemalloc.start()
    for frame in frames:
        assert policy.act(frame) is action
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4096


def test_a_machine_that_answers_otherwise_is_found_before_the_first_frame(opened, monkeypatch):
    act = StepPolicy.act
    monkeypatch.setattr(StepPolicy, "act", lambda self, frame: act(self, frame) * np.float32(1.01))
    with pytest.raises(MotionloomError, match="on this machine"):
        opened.policy()


def test_a_model_of_another_shape_is_refused(exported):
    content = (exported / "step.onnx").read_bytes()
    with pytest.raises(MotionloomError, match="keys is"):
        StepPolicy(content, CONTRACT, WINDOW + 1)
    with pytest.raises(MotionloomError, match="expected observation, keys"):
        StepPolicy((exported / "window.onnx").read_bytes(), CONTRACT, WINDOW)
    with pytest.raises(MotionloomError, match="cannot be run"):
        StepPolicy(content[: len(content) // 2], CONTRACT, WINDOW)
