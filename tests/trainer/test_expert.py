from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from wandering import wandering

from corpus.errors import MotionloomError
from deploy.contract import GAINS, Contract
from deploy.physics import build_model
from trainer import expert as expert_module
from trainer.backend import CpuBackend
from trainer.checkpoint import checkpoint_steps, load_checkpoint
from trainer.env import EnvOptions, TrackingEnv
from trainer.expert import ExpertOptions, load_expert, train_expert
from trainer.networks import NetworkOptions
from trainer.ppo import PpoOptions
from trainer.randomise import TRAINING
from trainer.references import ClipReferences
from trainer.run_log import read_log

COUNT, UPDATES = 4, 6
PPO = PpoOptions(steps=8, epochs=2, minibatches=2)
OPTIONS = ExpertOptions(steps=COUNT * 8 * UPDATES, ppo=PPO, network=NetworkOptions(hidden=(16,)), save_every=3)
LOUD = ("elapsed_s",)
"""What a log says that differs from run to run."""


@pytest.fixture(scope="module")
def model():
    return build_model(GAINS)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make(model, contract: Contract | None = None) -> TrackingEnv:
    """The same environment, made anew."""
    references = ClipReferences([wandering(4, 0), wandering(3, 1)], length=60, shortest=25)
    options = EnvOptions(randomisation=replace(TRAINING, delayed=0.3))
    return TrackingEnv(CpuBackend(model, COUNT), references, contract=contract, options=options)


@pytest.fixture(scope="module")
def whole(model, tmp_path_factory) -> Path:
    """A run that was never interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    train_expert(folder, make(model), OPTIONS)
    return folder


def same_checkpoints(a: Path, b: Path) -> bool:
    (arrays, facts), (others, other_facts) = load_checkpoint(a), load_checkpoint(b)
    equal = all(np.array_equal(arrays[name].numpy(), others[name].numpy(), equal_nan=True) for name in arrays)
    return equal and arrays.keys() == others.keys() and facts == other_facts


def quiet_log(folder: Path) -> list[dict]:
    return [{name: value for name, value in row.items() if name not in LOUD} for row in read_log(folder)]


def test_two_runs_are_equal_to_the_last_bit(model, whole, tmp_path):
    train_expert(tmp_path, make(model), OPTIONS)
    assert same_checkpoints(whole, tmp_path)
    assert quiet_log(whole) == quiet_log(tmp_path)


def test_a_resumed_run_is_the_uninterrupted_one_to_the_last_bit(model, whole, tmp_path):
    train_expert(tmp_path, make(model), replace(OPTIONS, steps=OPTIONS.steps // 2))
    assert checkpoint_steps(tmp_path) == [3]
    train_expert(tmp_path, make(model), OPTIONS)
    assert same_checkpoints(whole, tmp_path)
    assert quiet_log(whole) == quiet_log(tmp_path)
    bins = load_checkpoint(whole)[0]["bins.attempts"]
    assert (bins > 0).any()  # plans did follow what failed


def test_asked_to_stop_it_saves_and_goes_on_from_there(model, whole, tmp_path, monkeypatch):
    calls, update = [], expert_module.update

    def interrupted(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return update(*arguments, **options)

    monkeypatch.setattr(expert_module, "update", interrupted)
    with pytest.raises(KeyboardInterrupt):  # so that nobody takes it for an end
        train_expert(tmp_path, make(model), OPTIONS)
    assert checkpoint_steps(tmp_path) == [2]
    train_expert(tmp_path, make(model), OPTIONS)
    assert same_checkpoints(whole, tmp_path)


def test_the_log_tells_every_update_in_finite_numbers(whole):
    rows = read_log(whole)
    assert [row["step"] for row in rows] == list(range(1, UPDATES + 1))
    for name in ("reward", "root_position", "failure_share", "divergence", "value_loss"):
        assert all(isinstance(row[name], float) for row in rows), name
    told = json.loads((whole / "run.json").read_text())
    assert told["contract"] == Contract().to_json()
    assert told["options"]["ppo"]["steps"] == PPO.steps


def test_a_loaded_expert_acts_as_the_trained_one(model, tmp_path):
    trained = train_expert(tmp_path, make(model), replace(OPTIONS, steps=COUNT * 8))
    loaded, view = load_expert(tmp_path), make(model).view()
    assert (loaded.act(view) == trained.act(view)).all()
    assert loaded.act(view).shape == (COUNT, 29)
    assert loaded.contract.hash == trained.contract.hash
    assert loaded.name == tmp_path.name
    loaded.forget(np.arange(COUNT))
    assert (loaded.act(view) == trained.act(view)).all()


def test_a_run_under_another_contract_is_not_gone_on_with(model, whole):
    with pytest.raises(MotionloomError, match="differs in contract"):
        train_expert(whole, make(model, Contract(action="absolute")), OPTIONS)


def test_another_run_in_the_same_folder_is_refused(model, tmp_path):
    one = replace(OPTIONS, steps=COUNT * 8)
    train_expert(tmp_path, make(model), one, about={"clusters": [3], "setup": {"robots": COUNT, "threads": 1}})
    with pytest.raises(MotionloomError, match=r"run\.json is of another run: it differs in adaptive, clusters"):
        train_expert(
            tmp_path, make(model), replace(one, adaptive=None), about={"clusters": [7], "setup": {"robots": COUNT}}
        )
    train_expert(tmp_path, make(model), OPTIONS, about={"clusters": [3], "setup": {"robots": COUNT, "threads": 2}})
    assert checkpoint_steps(tmp_path)[-1] == UPDATES


def test_a_folder_without_an_expert_is_told(tmp_path):
    with pytest.raises(MotionloomError, match="no checkpoint"):
        load_expert(tmp_path)


@pytest.mark.parametrize("file", ["arrays.safetensors", "facts.json"])
def test_a_damaged_expert_is_refused(model, tmp_path, file):
    train_expert(tmp_path, make(model), replace(OPTIONS, steps=COUNT * 8))
    path = tmp_path / "checkpoints" / "1" / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(MotionloomError, match="damaged"):
        load_expert(tmp_path)


@pytest.mark.parametrize(("enough", "done"), [(0.9, True), (0.95, True), (0.96, False), (1.0, False)])
def test_training_ends_once_enough_of_the_last_episodes_ended_well(model, enough, done):
    training = expert_module._Training(make(model), replace(OPTIONS, enough=enough, enough_over=2))
    training.recent.extend([(9, 10), (1, 10)])
    assert not training.good_enough()
    training.recent.append((0, 10))  # the first is forgotten: one of twenty failed
    assert training.good_enough() == done
