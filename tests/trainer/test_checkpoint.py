"""Checkpoints: what was saved comes back to the bit, what is there is whole, and a run that goes on is one that never stopped."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from corpus.errors import MotionloomError
from trainer.checkpoint import (
    checkpoint_steps,
    generator_facts,
    load_checkpoint,
    load_generator_facts,
    load_optimiser_arrays,
    optimiser_arrays,
    prefixed,
    save_checkpoint,
    under,
)

FACTS = {"kind": "toy", "step": 5}


def save_steps(folder: Path, steps, **options):
    for step in steps:
        save_checkpoint(folder, {"a": torch.full((3,), float(step))}, {"kind": "toy", "step": step}, **options)


def test_arrays_come_back_to_the_bit_in_every_type(tmp_path):
    arrays = {
        "half": torch.randn(3, 4).bfloat16(),
        "odd": np.float32([np.nan, -0.0, np.inf]),
        "double": np.random.default_rng(0).normal(size=(2, 0, 3)),
        "count": np.array(2**62 + 1),
        "flags": np.array([True, False]),
        "big": np.uint64([2**64 - 1]),
        "state": torch.Generator().get_state(),
        "turned": torch.arange(6.0).reshape(2, 3).T,
        "backwards": np.arange(4)[::-1],
        "swapped": np.arange(4, dtype=">f4"),
    }
    arrays["same memory"] = arrays["turned"]
    save_checkpoint(tmp_path, arrays, FACTS)
    loaded, _ = load_checkpoint(tmp_path)
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        if isinstance(array, np.ndarray):
            array = torch.from_numpy(array.astype(array.dtype.newbyteorder("=")))
        assert (loaded[name].dtype, loaded[name].shape) == (array.dtype, array.shape), name
        assert bytes_of(loaded[name]) == bytes_of(array), name


def bytes_of(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def test_facts_come_back_with_large_and_odd_numbers(tmp_path):
    facts = {
        **FACTS,
        "state": 2**127 + 3,
        "loss": 0.1 + 0.2,
        "none": None,
        "text": "ä",
        "count": np.int64(3),
        "row": [np.float32(0.5)],
    }
    save_checkpoint(tmp_path, {}, facts)
    assert load_checkpoint(tmp_path, kind="toy")[1] == facts


def test_the_newest_ones_and_the_best_stay(tmp_path):
    save_steps(tmp_path, [1, 2])
    save_steps(tmp_path, [3], best=True)
    save_steps(tmp_path, [9, 10, 11], keep=2)
    assert checkpoint_steps(tmp_path) == [3, 10, 11]
    assert load_checkpoint(tmp_path)[1]["step"] == 11
    assert load_checkpoint(tmp_path, "best")[0]["a"][0] == 3
    assert load_checkpoint(tmp_path, "10")[1]["step"] == 10


def test_a_step_can_be_saved_again_but_none_before_the_newest(tmp_path):
    save_steps(tmp_path, [1, 2])
    save_checkpoint(tmp_path, {"a": torch.zeros(1)}, {"kind": "toy", "step": 2})
    assert load_checkpoint(tmp_path)[0]["a"].tolist() == [0]
    with pytest.raises(MotionloomError, match="of step 2, later than 1"):
        save_steps(tmp_path, [1])


def test_what_is_not_there_is_told_with_what_is(tmp_path):
    with pytest.raises(MotionloomError, match="no checkpoint in"):
        load_checkpoint(tmp_path)
    save_steps(tmp_path, [4, 7])
    with pytest.raises(MotionloomError, match=r"No checkpoint '5'.*There are: 4, 7\."):
        load_checkpoint(tmp_path, "5")
    with pytest.raises(MotionloomError, match="No checkpoint 'best'"):
        load_checkpoint(tmp_path, "best")
    with pytest.raises(MotionloomError, match="of kind 'toy'; 'student' was expected"):
        load_checkpoint(tmp_path, kind="student")


@pytest.mark.parametrize("facts", [{"kind": "toy"}, {"kind": "toy", "step": -1}, {"step": 1}, {**FACTS, "x": object()}])
def test_facts_without_a_step_or_beyond_json_are_refused(tmp_path, facts):
    with pytest.raises(MotionloomError, match=r"should be a count and a word|JSON"):
        save_checkpoint(tmp_path, {}, facts)


def test_a_full_disk_is_told_and_leaves_the_checkpoints_before(tmp_path, monkeypatch):
    save_steps(tmp_path, [1])

    def full(arrays, path):
        path.write_bytes(b"half")
        raise SafetensorError("No space left on device")

    monkeypatch.setattr("trainer.checkpoint.save_file", full)
    with pytest.raises(MotionloomError, match=r"cannot be written.*No space left"):
        save_steps(tmp_path, [2])
    assert checkpoint_steps(tmp_path) == [1]


def test_what_is_no_array_is_refused_by_name(tmp_path):
    with pytest.raises(MotionloomError, match="'names' is no array"):
        save_checkpoint(tmp_path, {"names": np.array(["a"])}, FACTS)
    assert checkpoint_steps(tmp_path) == []


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["arrays.safetensors", "facts.json"])
@pytest.mark.parametrize("damage", [shorten, flip_a_bit, Path.unlink, lambda path: path.write_bytes(b"")])
def test_damage_is_told_with_the_file_and_the_others(tmp_path, name, damage):
    save_steps(tmp_path, [4, 7])
    damage(tmp_path / "checkpoints" / "7" / name)
    with pytest.raises(MotionloomError, match=rf"7/{name} is damaged or missing .*Others there: 4, 7\."):
        load_checkpoint(tmp_path)
    assert load_checkpoint(tmp_path, "4")[1]["step"] == 4


def test_a_damaged_note_of_the_best_is_told(tmp_path):
    save_steps(tmp_path, [1], best=True)
    (tmp_path / "checkpoints" / "best.json").write_text("{")
    with pytest.raises(MotionloomError, match=r"best\.json is damaged"):
        load_checkpoint(tmp_path, "best")


SAVER = """
import sys, torch
from pathlib import Path
from trainer.checkpoint import checkpoint_steps, save_checkpoint
torch.set_num_threads(1)
folder = Path(sys.argv[1])
step = max(checkpoint_steps(folder), default=0)
print("ready", flush=True)
while True:
    step += 1
    save_checkpoint(folder, {"a": torch.full((200_000,), step)}, {"kind": "toy", "step": step}, best=step % 3 == 0, keep=2)
"""


@pytest.mark.slow
def test_killing_a_process_while_it_saves_leaves_whole_checkpoints(tmp_path):
    chance, before = random.Random(0), 0
    for _ in range(5):
        process = subprocess.Popen([sys.executable, "-c", SAVER, str(tmp_path)], stdout=subprocess.PIPE)
        assert process.stdout and process.stdout.readline()
        while max(checkpoint_steps(tmp_path), default=0) == before:
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        process.wait()
        for step in checkpoint_steps(tmp_path):
            arrays, facts = load_checkpoint(tmp_path, str(step))
            assert facts["step"] == step
            assert arrays["a"].unique().tolist() == [step]
        if max(checkpoint_steps(tmp_path)) > 3:
            assert load_checkpoint(tmp_path, "best")[1]["step"] % 3 == 0
        assert max(checkpoint_steps(tmp_path)) > before
        before = max(checkpoint_steps(tmp_path))


class Toy:
    """A network with dropout, learning from what two generators draw."""

    def __init__(self, seed: int):
        torch.manual_seed(seed)
        self.net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.2), torch.nn.Linear(8, 1))
        groups = [{"params": [*self.net[0].parameters()], "lr": 0.01}, {"params": [*self.net[2].parameters()]}]
        self.optimiser = torch.optim.AdamW(groups, lr=0.003, betas=(0.8, 0.99), amsgrad=True)
        self.noise = torch.Generator().manual_seed(seed)
        self.draw = np.random.Generator(np.random.Philox(seed))
        self.step = 0

    def train(self, steps: int) -> list[float]:
        losses = []
        for _ in range(steps):
            given = torch.from_numpy(self.draw.normal(size=(16, 4)).astype(np.float32))
            noisy = given + 0.1 * torch.randn(given.shape, generator=self.noise)
            loss = (self.net(noisy)[:, 0] - given.sum(1)).square().mean()
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            losses.append(loss.item())
        self.step += steps
        return losses

    def save(self, folder: Path) -> None:
        moments, groups = optimiser_arrays(self.optimiser, "optimiser")
        states = {"dropout": torch.get_rng_state(), "noise": self.noise.get_state()}
        arrays = {**prefixed("net", self.net.state_dict()), **moments, **states}
        save_checkpoint(
            folder,
            arrays,
            {"kind": "toy", "step": self.step, "groups": groups, "draw": generator_facts(self.draw)},
        )

    def load(self, folder: Path) -> None:
        arrays, facts = load_checkpoint(folder, kind="toy")
        self.net.load_state_dict(under("net", arrays))
        load_optimiser_arrays(self.optimiser, "optimiser", arrays, facts["groups"])
        torch.set_rng_state(arrays["dropout"])
        self.noise.set_state(arrays["noise"])
        load_generator_facts(self.draw, facts["draw"])
        self.step = facts["step"]


def test_a_run_that_goes_on_equals_one_that_never_stopped_bit_for_bit(tmp_path):
    whole = Toy(3)
    expected = whole.train(7) + whole.train(13)
    first = Toy(3)
    losses = first.train(7)
    first.save(tmp_path)
    second = Toy(99)
    second.load(tmp_path)
    assert losses + second.train(13) == expected
    assert all(torch.equal(a, b) for a, b in zip(whole.net.parameters(), second.net.parameters(), strict=True))


@pytest.mark.parametrize("bits", [np.random.PCG64, np.random.Philox, np.random.MT19937, np.random.SFC64])
def test_a_generators_state_goes_through_json(bits):
    generator, other = np.random.Generator(bits(1)), np.random.Generator(bits(2))
    generator.integers(10, size=3, dtype=np.int32)
    load_generator_facts(other, json.loads(json.dumps(generator_facts(generator))))
    assert (
        generator.integers(2**31, size=5, dtype=np.int32).tolist()
        == other.integers(2**31, size=5, dtype=np.int32).tolist()
    )
    assert generator.normal(size=9).tolist() == other.normal(size=9).tolist()


def test_states_of_another_generator_or_network_are_refused(tmp_path):
    with pytest.raises(MotionloomError, match="state of PCG64; the generator is Philox"):
        load_generator_facts(np.random.Generator(np.random.Philox()), generator_facts(np.random.default_rng()))
    toy = Toy(0)
    toy.train(1)
    moments, groups = optimiser_arrays(toy.optimiser, "o")
    other = torch.optim.AdamW(torch.nn.Linear(3, 3).parameters())
    with pytest.raises(MotionloomError, match="should be over the same network"):
        load_optimiser_arrays(other, "o", moments, groups)
    with pytest.raises(MotionloomError, match="not those of the optimiser"):
        load_optimiser_arrays(other, "o", {}, groups)
