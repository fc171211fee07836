from __future__ import annotations

import mujoco
import numpy as np
import pytest

from corpus.errors import MotionloomError
from deploy.contract import GAINS, STANDING
from deploy.physics import build_model
from trainer.backend import CpuBackend
from trainer.randomise import TRAINING, vary_model

COUNT, STEPS = 4, 8


@pytest.fixture(scope="module")
def model():
    return build_model(GAINS)


def begin(count: int = COUNT) -> tuple[np.ndarray, np.ndarray]:
    """Standing, pushed and turning, each another way."""
    rng = np.random.default_rng(3)
    qpos = np.tile([0.0, 0.0, 0.76, 1.0, 0.0, 0.0, 0.0, *STANDING], (count, 1))
    return qpos, rng.normal(0, 0.5, (count, 35))


def targets(step: int, count: int = COUNT) -> np.ndarray:
    return STANDING + np.random.default_rng(step).normal(0, 0.2, (count, 29))


def went(backend: CpuBackend, steps: int = STEPS) -> np.ndarray:
    """All states on the way, "S N 71"."""
    backend.reset(np.arange(backend.count), *begin(backend.count))
    path = []
    for step in range(steps):
        backend.step(targets(step, backend.count))
        path.append(np.concatenate([backend.qpos, backend.qvel], 1))
    return np.array(path)


def by_hand(model, env: int) -> np.ndarray:
    """The same of one robot by plain `mj_step`; the contact solver starts afresh at every control step."""
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:] = (part[env] for part in begin())
    path = []
    for step in range(STEPS):
        data.ctrl[:], data.qacc_warmstart[:] = targets(step)[env], 0
        for _ in range(4):
            mujoco.mj_step(model, data)
        path.append(np.concatenate([data.qpos, data.qvel]))
    return np.array(path)


def test_robots_move_as_by_mj_step_to_the_last_bit(model):
    path = went(CpuBackend(model, COUNT))
    for env in range(COUNT):
        assert (path[:, env] == by_hand(model, env)).all()


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_change_nothing(model, threads):
    assert (went(CpuBackend(model, COUNT, threads=threads)) == went(CpuBackend(model, COUNT))).all()


def test_each_robot_may_have_a_model_of_its_own(model):
    models = [vary_model(model, TRAINING, 0, env) for env in range(COUNT)]
    path = went(CpuBackend(models, COUNT, threads=2))
    for env in range(COUNT):
        assert (path[:, env] == by_hand(models[env], env)).all()
    assert (path[-1, 0] != by_hand(model, 0)[-1]).any()


def test_a_number_of_models_that_does_not_fit_is_refused(model):
    with pytest.raises(MotionloomError, match="3 models for 4 robots"):
        CpuBackend([model] * 3, COUNT)


def test_a_reset_leaves_the_others_alone(model):
    backend, undisturbed = CpuBackend(model, COUNT), CpuBackend(model, COUNT)
    for each in (backend, undisturbed):
        went(each, 3)
    some = np.array([2, 0])
    backend.reset(some, *(part[some] for part in begin()))
    assert (backend.qpos[some] == begin()[0][some]).all()
    assert (backend.qvel[some] == begin()[1][some]).all()
    for each in (backend, undisturbed):
        each.step(targets(7))
    others = np.setdiff1d(np.arange(COUNT), some)
    assert (backend.qpos[others] == undisturbed.qpos[others]).all()
    assert (backend.qpos[some] != undisturbed.qpos[some]).any(1).all()


def test_a_state_set_anew_goes_on_to_the_last_bit(model):
    """Nothing but places and velocities is remembered from step to step: what makes a resumed run exact."""
    path = went(CpuBackend(model, COUNT))
    middle, backend = path[3], CpuBackend(model, COUNT)
    backend.reset(np.arange(COUNT), middle[:, :36], middle[:, 36:])
    for step in range(4, STEPS):
        backend.step(targets(step))
        assert (np.concatenate([backend.qpos, backend.qvel], 1) == path[step]).all()
