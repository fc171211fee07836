"""What is written is what is read, and what is damaged is named."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from corpus.errors import MotionloomError
from trainer.aggregate import Trajectories, read_ending, read_trajectories, rollout_path, save_trajectories, statistics

ENVIRONMENT = {"qpos": np.arange(6.0).reshape(2, 3), "step": 7, "key": np.uint64(2**63), "name": "toy"}


def rollout(seed: int = 0, *, count: int = 2, steps: int = 9, size: int = 5) -> Trajectories:
    rng = np.random.default_rng(seed)
    observation, action = (rng.normal(3, 2, (count, steps, n)).astype(np.float32) for n in (size, 4))
    numbers = [rng.integers(0, 9, (count, steps), np.int32) for _ in range(3)]
    return Trajectories(observation, action, *numbers, *(rng.random((count, steps)) < 0.3 for _ in range(2)))


def test_a_rollout_comes_back_as_it_was(tmp_path):
    written = rollout()
    save_trajectories(tmp_path, 0, 0, written, {"beta": 1.0}, ENVIRONMENT)
    (read,) = read_trajectories(tmp_path, rounds=1, ranks=1)
    for name, array in vars(written).items():
        np.testing.assert_array_equal(getattr(read, name), array)
    facts, environment = read_ending(tmp_path, 0, 0)
    assert facts == {"beta": 1.0}
    np.testing.assert_array_equal(environment["qpos"], ENVIRONMENT["qpos"])
    assert (environment["step"], environment["key"], environment["name"]) == (7, 2**63, "toy")


def test_any_reader_of_safetensors_reads_the_file(tmp_path):
    save_trajectories(tmp_path, 0, 0, rollout(), {}, ENVIRONMENT)
    read = load_file(rollout_path(tmp_path, 0, 0))
    np.testing.assert_array_equal(read["observation"], rollout().observation)
    np.testing.assert_array_equal(read["environment.qpos"], ENVIRONMENT["qpos"])


def test_files_come_by_round_and_then_by_process(tmp_path):
    for number, (round_number, rank) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        save_trajectories(tmp_path, round_number, rank, rollout(number), {}, {})
    for number, read in enumerate(read_trajectories(tmp_path, rounds=2, ranks=2)):
        np.testing.assert_array_equal(read.action, rollout(number).action)


def test_a_missing_file_is_named(tmp_path):
    save_trajectories(tmp_path, 0, 0, rollout(), {}, {})
    with pytest.raises(MotionloomError, match=r"1-0\.safetensors is missing"):
        read_trajectories(tmp_path, rounds=2, ranks=1)


@pytest.mark.parametrize("length", [0, 7, 100, -1])
def test_a_file_that_is_cut_off_is_named(tmp_path, length):
    save_trajectories(tmp_path, 0, 0, rollout(), {}, {})
    path = rollout_path(tmp_path, 0, 0)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(MotionloomError, match=r"0-0\.safetensors is damaged"):
        read_trajectories(tmp_path, rounds=1, ranks=1)


def test_a_header_of_noise_is_damage(tmp_path):
    save_trajectories(tmp_path, 0, 0, rollout(), {}, {})
    path = rollout_path(tmp_path, 0, 0)
    data = bytearray(path.read_bytes())
    data[8:40] = bytes(32)
    path.write_bytes(data)
    with pytest.raises(MotionloomError, match="is damaged"):
        read_trajectories(tmp_path, rounds=1, ranks=1)


def test_arrays_that_do_not_fit_each_other_are_damage(tmp_path):
    save_trajectories(tmp_path, 0, 0, rollout(), {}, {})
    path = rollout_path(tmp_path, 0, 0)
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["began"]["shape"] = header["began"]["shape"][::-1]
    text = json.dumps(header).encode().ljust(length)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    with pytest.raises(MotionloomError, match=r"damaged.*is float32"):
        read_trajectories(tmp_path, rounds=1, ranks=1)


def test_observations_of_another_size_are_refused(tmp_path):
    save_trajectories(tmp_path, 0, 0, rollout(), {}, {})
    save_trajectories(tmp_path, 1, 0, rollout(size=6), {}, {})
    with pytest.raises(MotionloomError, match=r"1-0.safetensors has observations and actions of sizes \(6, 4\)"):
        read_trajectories(tmp_path, rounds=2, ranks=1)


def test_statistics_are_those_of_all_steps_together():
    rollouts = [rollout(0), rollout(1, count=4, steps=3)]
    rows = np.concatenate([one.observation.reshape(-1, 5) for one in rollouts]).astype(np.float64)
    mean, deviation = statistics(rollouts)
    np.testing.assert_allclose(mean, rows.mean(0), rtol=1e-12)
    np.testing.assert_allclose(deviation, rows.std(0), rtol=1e-12)
