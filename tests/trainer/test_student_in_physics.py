"""In the real environment too, a student's run goes on exactly where it stopped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
from toy_tracking import Asked

from corpus.motion import RobotMotion
from deploy.contract import GAINS, STANDING, Contract
from deploy.physics import build_model
from trainer.backend import CpuBackend
from trainer.env import EnvOptions, TrackingEnv, View
from trainer.gpt import GptShape
from trainer.learner import Learning
from trainer.randomise import TRAINING
from trainer.references import ClipReferences
from trainer.student import StudentOptions, StudentRun

pytest.importorskip("mujoco")

OPTIONS = StudentOptions(
    shape=GptShape(layers=1, width=16, heads=2, mlp=16, window=4),
    rounds=2,
    rollout_steps=30,
    mixing_rounds=1,
    steps_per_round=4,
    batch_size=4,
    length=8,
    learning=Learning(learning_rate=1e-2, warmup_steps=2),
    log_steps=1,
)


class Damper:
    """An expert of sorts: acts against where the joints have gone."""

    name = "damper"
    contract = Contract()

    def forget(self, envs: np.ndarray) -> None: ...

    def act(self, view: View) -> np.ndarray:
        return np.tanh(-view.observation[:, :29] + view.privileged[:, :1])


@pytest.fixture(scope="module")
def model():
    return build_model(GAINS)


def run(folder: Path, model, looks: int) -> int:
    """A fresh environment of two swaying stances; noise and pushes on."""
    motions = [swaying(0.2), swaying(0.4)]
    references = ClipReferences(motions, length=40, seed=3)
    env = TrackingEnv(CpuBackend(model, 4), references, options=EnvOptions(randomisation=TRAINING, seed=5))
    made = StudentRun(folder, env, {7: Damper()}, lambda segment: np.full(len(segment), 7), OPTIONS)
    made.train(Asked(looks))
    return made.learner.step


def swaying(height: float) -> RobotMotion:
    qpos = np.zeros((60, 36))
    qpos[:, 2], qpos[:, 3], qpos[:, 7:] = 0.78, 1.0, STANDING
    qpos[:, 7 + 15] += height * np.sin(np.arange(60) / 8)
    return RobotMotion(qpos, 50.0)


def weights(folder: Path):
    return load_file(folder / "checkpoints" / str(OPTIONS.total_steps) / "arrays.safetensors")


def test_stopped_amid_steps_and_amid_a_rollout_is_uninterrupted(tmp_path, model):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(whole, model, 10**9)
    assert [run(parts, model, looks) for looks in (32, 20, 10**9)] == [3, 4, 8]
    for name, weight in weights(whole).items():
        assert np.array_equal(weight.numpy(), weights(parts)[name].numpy()), name
    for path in (whole / "aggregate").iterdir():
        assert path.read_bytes() == (parts / "aggregate" / path.name).read_bytes()
