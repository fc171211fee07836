"""The stand-in for the student: it learns, goes on as if it had never stopped, and keeps its validation motions apart."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from small_corpus import RECIPE, write_small_corpus

from corpus.catalog import Corpus, fold
from corpus.errors import MotionloomError
from corpus.motion import RobotMotion
from corpus.store import ShardWriter
from trainer import next_frame
from trainer.checkpoint import checkpoint_steps
from trainer.gpt import GptShape
from trainer.next_frame import NextFrame, NextFrameOptions
from trainer.run_log import read_log
from trainer.scaling import nested_subsets, run_grid

SHAPES = {"one": GptShape(1, 8, 1, 16, window=4), "two": GptShape(1, 16, 1, 16, window=4)}
OPTIONS = NextFrameOptions(steps=40, batch_size=4, window=12, learning_rate=0.01, look_steps=10, validation_windows=8)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def swings(tmp_path_factory) -> Corpus:
    """Eight takes of joints that swing, each by its own phase."""
    out = write_small_corpus(tmp_path_factory.mktemp("swings") / "corpus")
    time = np.arange(120)[:, None] / 50
    for take in range(8):
        qpos = np.zeros((120, 36), np.float32)
        qpos[:, 3] = 1
        qpos[:, 7:] = np.sin(2 * np.pi * time + np.arange(29) + take)
        key = f"{take:032x}"
        clip = {"clip": key, "source": "robot", "path": key, "licence": "A", "status": "kept", "frames": 120}
        with ShardWriter(out / "shards", f"{take:016x}", RECIPE) as writer:
            counts = {"frames_kept": 120, "frames_rejected": 0, "frames_cut": 0}
            contact = np.zeros((120, 4), np.uint8)
            writer.add(clip | counts, [{"start": 0, "frames": 120, "status": "kept"}], RobotMotion(qpos, 50.0, contact))
            writer.commit()
    fold(out)
    return Corpus.open(out)


@pytest.fixture
def train(swings) -> NextFrame:
    return NextFrame(swings, np.arange(8) >= 6, SHAPES, OPTIONS)


def test_a_grid_of_runs_learns_more_than_standing_still(train, tmp_path):
    parts = nested_subsets([str(i) for i in range(8)], train.corpus.frames, (0.5, 1), among=~train.validation)
    rows = run_grid(tmp_path, train.sizes, parts, (0,), train, about=train.about)
    assert len(rows) == 4
    assert all(row["loss"] < 0.5 * train.standstill for row in rows)
    assert train.sizes["one"] < train.sizes["two"]


def test_a_run_that_goes_on_equals_one_that_never_stopped(train, tmp_path, monkeypatch):
    whole = train("one", np.arange(6), 3, tmp_path / "whole")
    seen = []

    class Stop(next_frame.Interrupt):
        @property
        def asked(self):
            seen.append(0)
            return len(seen) > 35

        @asked.setter
        def asked(self, _):
            pass

    with monkeypatch.context() as patch:
        patch.setattr(next_frame, "Interrupt", Stop)
        with pytest.raises(KeyboardInterrupt):
            train("one", np.arange(6), 3, tmp_path / "torn")
    assert 10 < checkpoint_steps(tmp_path / "torn")[-1] < OPTIONS.steps
    assert train("one", np.arange(6), 3, tmp_path / "torn") == whole
    told = [[(row["step"], row["loss"]) for row in read_log(tmp_path / name)] for name in ("whole", "torn")]
    assert told[0] == told[1]


def test_what_is_foretold_is_the_next_frame_and_not_seen(train):
    qpos = np.random.default_rng(0).normal(size=(2, 13, 36)).astype(np.float32)
    seen, change = train._parts_of(qpos)
    assert seen.shape == (2, 12, 33)
    assert np.allclose(seen[..., :29].numpy(), qpos[:, :-1, 7:])
    assert np.allclose(change.numpy() * train._unit, qpos[:, 1:, 7:] - qpos[:, :-1, 7:], atol=1e-5)


def test_validation_segments_and_short_ones_are_refused(train, tmp_path):
    with pytest.raises(MotionloomError, match="for validation"):
        train("one", np.arange(8), 0, tmp_path)
    long = NextFrame(train.corpus, train.validation, SHAPES, NextFrameOptions(window=500))
    with pytest.raises(MotionloomError, match="None of 6 segments has the 501 frames"):
        long("one", np.arange(6), 0, tmp_path)


def test_what_all_runs_share_is_told_as_json(train):
    about = json.loads(json.dumps(train.about))
    assert about["options"]["steps"] == 40
    assert about["standstill"] == pytest.approx(train.standstill)
