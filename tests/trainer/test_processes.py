"""Two processes under torchrun learn the same as one, stay equal, and stop together."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from toy_student_run import COUNT, OPTIONS, train

from trainer.aggregate import read_trajectories
from trainer.processes import rank_and_world
from trainer.run_log import read_log

ROOT = Path(__file__).resolve().parents[2]


def launch(folder: Path, *numbers: int) -> None:
    """Two real processes that talk by gloo."""
    script = ROOT / "tests" / "helpers" / "toy_student_run.py"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    paths = os.pathsep.join([str(ROOT), str(script.parent)])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(folder), *map(str, numbers)], env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]


def weights(folder: Path, rank: int = 0) -> dict[str, torch.Tensor]:
    return load_file(folder / f"weights-{rank}.safetensors")


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    launch(folder)
    return folder


def test_all_processes_have_the_same_weights(two):
    for name, weight in weights(two).items():
        assert torch.equal(weight, weights(two, 1)[name])


def test_each_process_writes_its_own_environments(two):
    rollouts = read_trajectories(two, rounds=OPTIONS.rounds, ranks=2)
    assert [len(rollout.began) for rollout in rollouts] == [COUNT // 2] * 4


def test_one_process_with_the_same_batches_learns_the_same(two, tmp_path):
    train(tmp_path)
    losses = [[row["loss"] for row in read_log(folder)] for folder in (two, tmp_path)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-6)
    for name, weight in weights(tmp_path).items():
        torch.testing.assert_close(weight, weights(two)[name], rtol=1e-2, atol=1e-3)


def test_one_that_is_asked_to_stop_stops_all_and_they_go_on_exactly(two, tmp_path):
    launch(tmp_path, 1, 20)  # the second process is asked amid steps,
    launch(tmp_path, 1, 10)  # then amid the second rollout
    assert any((weights(tmp_path)[name] != weight).any() for name, weight in weights(two).items())
    launch(tmp_path)
    for name, weight in weights(tmp_path).items():
        assert torch.equal(weight, weights(two)[name])


def test_without_torchrun_there_is_one_process(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert rank_and_world() == (0, 1)
