"""A batch is a function of seed, step and weights, and its windows are what the segments hold."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from corpus import rotations
from corpus.catalog import Corpus, fold
from corpus.errors import MotionloomError
from corpus.loader import Batch, Windows, batches
from corpus.motion import RobotMotion, velocity
from corpus.store import ShardWriter

LENGTHS = (60, 300, 25, 130, 64, 90, 1)
"""Frames of the segments of each shard, one clip each."""


def motion(frames: int, seed: int) -> RobotMotion:
    """Wandering about, turning on all axes, its quaternion's sign jumping now and then."""
    rng = np.random.default_rng(seed)
    path = np.cumsum(rng.normal(0, 0.02, (frames, 35)), 0)
    turn = rotations.from_rotation_vector(np.cumsum(rng.normal(0, 0.05, (frames, 3)), 0))
    turn *= np.where(rng.random((frames, 1)) < 0.1, -1, 1)
    qpos = np.concatenate([path[:, :3] * 5, turn, path[:, 6:]], 1)
    return RobotMotion(qpos.astype(np.float32), 50.0, rng.integers(0, 2, (frames, 4), np.uint8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("corpus")
    for number, shard in enumerate(("aaaa", "bbbb", "cccc")):
        with ShardWriter(out / "shards", shard, "r") as writer:
            for i, frames in enumerate(LENGTHS):
                counts = {"frames": frames, "frames_kept": frames, "frames_rejected": 0, "frames_cut": 0}
                row = {"clip": f"{shard}{i:028d}", "source": "robot", "licence": "", "status": "kept", **counts}
                # A motion has at least two frames; the segment of one takes the first of them.
                given = motion(max(frames, 2), 100 * number + i)
                writer.add(row, [{"start": 0, "frames": frames, "status": "kept"}], given)
            writer.commit()
    (out / "corpus.json").write_text(json.dumps({"fps": 50.0, "recipe": {}, "recipe_hash": "r"}))
    fold(out)
    return out


@pytest.fixture(scope="module")
def corpus(folder) -> Corpus:
    return Corpus.open(folder)


def whole(segment: int) -> RobotMotion:
    number, i = divmod(segment, len(LENGTHS))
    return motion(LENGTHS[i], 100 * number + i)


def same(a: Batch, b: Batch) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(vars(a).values(), vars(b).values(), strict=True))


# --- what a batch holds


def test_shapes_and_types_are_those_promised(corpus):
    batch = next(batches(corpus, batch_size=5, window=20, seed=0))
    shapes = {name: (array.shape, array.dtype) for name, array in vars(batch).items()}
    assert shapes == {
        "qpos": ((5, 20, 36), np.float32),
        "velocity": ((5, 20, 35), np.float32),
        "contact": ((5, 20, 4), np.uint8),
        "segment": ((5,), np.int64),
        "frame": ((5,), np.int64),
    }
    assert all(array.flags.c_contiguous and array.flags.writeable for array in vars(batch).values())


@pytest.mark.parametrize("window", [1, 2, 3, 25, 60])
def test_windows_are_what_the_segments_hold_velocities_included(corpus, window):
    """Every window of every segment long enough, the first and last of each among them."""
    starts = [(s, f) for s, n in enumerate(corpus.frames) if n > 1 for f in range(n - window + 1)]
    batch = Windows(corpus, batch_size=1, window=window, seed=3).gather(*np.array(starts).T)
    wholes = {s: whole(s) for s in {s for s, _ in starts}}
    speeds = {s: velocity(RobotMotion(m.qpos.astype(np.float64), m.fps)) for s, m in wholes.items()}
    for i, (segment, frame) in enumerate(starts):
        part = slice(frame, frame + window)
        contact = wholes[segment].contact
        assert np.array_equal(batch.qpos[i], wholes[segment].qpos[part])
        assert contact is not None and np.array_equal(batch.contact[i], contact[part])
        # float32 resolves positions of 4 m to 2.4e-7 m, which at 50 Hz is 1.2e-5 m/s per frame.
        assert np.abs(batch.velocity[i] - speeds[segment][part]).max() < 1e-4


def test_a_velocity_does_not_depend_on_the_window_it_is_seen_through(corpus):
    narrow, wide = (Windows(corpus, batch_size=1, window=w, seed=0) for w in (5, 50))
    many = wide.gather(np.array([1]), np.array([100]))
    for start in range(100, 145):
        few = narrow.gather(np.array([1]), np.array([start]))
        assert np.array_equal(few.velocity[0], many.velocity[0, start - 100 : start - 95])


def test_turning_about_one_axis_reads_its_rate_in_the_robots_own_frame(tmp_path):
    """1.5 rad/s about the robot's own y axis, whatever way it faces."""
    times = np.arange(60) / 50
    facing = rotations.from_rotation_vector(np.array([0.3, -0.8, 2.0]))
    spin = rotations.from_rotation_vector(times[:, None] * np.array([0.0, 1.5, 0.0]))
    qpos = np.zeros((60, 36), np.float32)
    qpos[:, 0] = 2 * times
    qpos[:, 3:7] = rotations.multiply(np.broadcast_to(facing, spin.shape), spin)
    with ShardWriter(tmp_path / "shards", "aaaa", "r") as writer:
        row = {"clip": "a" * 32, "status": "kept", "frames": 60, "frames_kept": 60}
        given = RobotMotion(qpos, 50.0, np.zeros((60, 4), np.uint8))
        writer.add(row, [{"start": 0, "frames": 60, "status": "kept"}], given)
        writer.commit()
    (tmp_path / "corpus.json").write_text(json.dumps({"fps": 50.0, "recipe": {}, "recipe_hash": "r"}))
    fold(tmp_path)
    for batch in batches(Corpus.open(tmp_path), batch_size=9, window=13, seed=1, steps=3):
        assert np.allclose(batch.velocity[..., :3], [2, 0, 0], atol=2e-5)
        assert np.allclose(batch.velocity[..., 3:6], [0, 1.5, 0], atol=2e-5)


def test_neighbours_of_another_segment_never_count(corpus):
    """The first and last frames of segments that touch in the shard are one-sided."""
    ends = corpus.frames[:6] - 25
    segments, frames = np.repeat(np.arange(6), 2), np.stack([0 * ends, ends], 1).ravel()
    batch = Windows(corpus, batch_size=1, window=25, seed=0).gather(segments, frames)
    for i in range(6):
        x = whole(i).qpos[:, 10].astype(float)
        assert batch.velocity[2 * i, 0, 9] == pytest.approx(50 * (x[1] - x[0]), abs=1e-4)
        assert batch.velocity[2 * i + 1, -1, 9] == pytest.approx(50 * (x[-1] - x[-2]), abs=1e-4)


def test_a_window_beyond_its_segment_is_refused(corpus):
    windows = Windows(corpus, batch_size=1, window=25, seed=0)
    for frame in (-1, LENGTHS[0] - 24):
        with pytest.raises(IndexError, match="beyond its segment"):
            windows.gather(np.array([0]), np.array([frame]))


# --- a function of seed, step and weights


def test_a_batch_hangs_on_seed_step_and_weights_and_nothing_else(corpus, folder):
    options: dict[str, Any] = {"batch_size": 16, "window": 20}
    weights = np.arange(len(corpus.kept)) + 1.0
    run = list(batches(corpus, **options, seed=1, weights=weights, steps=5))
    again = list(batches(Corpus.open(folder), **options, seed=1, weights=2 * weights, steps=5))
    resumed = list(batches(corpus, **options, seed=1, weights=weights, start_step=3, steps=2))
    assert len(run) == 5 and all(map(same, run, again)) and all(map(same, run[3:], resumed))
    others = [
        next(batches(corpus, **options, seed=2, weights=weights)),
        next(batches(corpus, **options, seed=1)),
        run[1],
    ]
    assert not any(same(run[0], other) for other in others)


def test_another_process_draws_the_same(corpus, folder):
    code = (
        "import sys; from corpus.catalog import Corpus; from corpus.loader import batches;"
        "b = next(batches(Corpus.open(sys.argv[1]), batch_size=16, window=20, seed=7, start_step=2**40));"
        "print(b.segment.tolist(), b.frame.tolist())"
    )
    told = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=True).stdout
    mine = next(batches(corpus, batch_size=16, window=20, seed=7, start_step=2**40))
    assert told.strip() == f"{mine.segment.tolist()} {mine.frame.tolist()}"


def test_steps_next_to_each_other_share_no_random_numbers(corpus):
    """A counter that only went on by one would give the same numbers again, a few places on."""
    windows = Windows(corpus, batch_size=64, window=2, seed=0)
    first, second = windows.draw(10)[0], windows.draw(11)[0]
    assert not any(np.array_equal(first[k:], second[:-k]) for k in range(1, 20))


def test_batches_go_on_for_ever_unless_told(corpus):
    drawn = batches(corpus, batch_size=2, window=20, seed=0)
    assert len({next(drawn).frame.tobytes() for _ in range(50)}) > 40
    assert list(batches(corpus, batch_size=2, window=20, seed=0, steps=0)) == []


# --- weights


def test_weights_share_out_the_windows(corpus):
    rng = np.random.default_rng(0)
    weights = rng.uniform(0, 3, len(corpus.kept)) * (rng.random(len(corpus.kept)) < 0.7)
    windows = Windows(corpus, batch_size=50_000, window=20, seed=0, weights=weights)
    drawn = np.bincount(windows.draw(3)[0], minlength=len(weights))
    share = weights * (corpus.frames >= 20)
    assert not drawn[share == 0].any() and (share > 0).sum() > 5
    expected = 50_000 * share[share > 0] / share.sum()
    assert stats.chisquare(drawn[share > 0], expected).pvalue > 0.001


def test_without_weights_every_window_is_drawn_equally_often(corpus):
    windows = Windows(corpus, batch_size=100_000, window=50, seed=0)
    segment, frame = windows.draw(0)
    room = np.maximum(corpus.frames - 49, 0)
    first = np.cumsum(room) - room
    drawn = np.bincount(first[segment] + frame, minlength=room.sum())
    assert len(drawn) == room.sum() and stats.chisquare(drawn).pvalue > 0.001


def test_within_a_segment_every_start_is_drawn_equally_often(corpus):
    weights = np.eye(len(corpus.kept))[1]
    segment, frame = Windows(corpus, batch_size=30_000, window=100, seed=4, weights=weights).draw(0)
    assert set(segment) == {1} and stats.chisquare(np.bincount(frame, minlength=201)).pvalue > 0.001


@pytest.mark.parametrize(("number", "falls_on"), [(0.0, 1), (np.nextafter(1.0, 0), 19)], ids=["least", "largest"])
def test_the_outermost_random_numbers_fall_on_segments_with_weight(corpus, monkeypatch, number, falls_on):
    """Sums of floats may end a hair below one; and no number may fall on a segment without weight at either end."""
    weights = np.full(len(corpus.kept), 0.1)
    weights[0] = 0
    windows = Windows(corpus, batch_size=4, window=20, seed=0, weights=weights)

    class Always:
        def __init__(self, *_): ...
        def random(self, shape):
            return np.full(shape, number)

    monkeypatch.setattr(np.random, "Generator", Always)
    segment, frame = windows.draw(0)
    assert set(segment) == {falls_on} and set(frame) == {(corpus.frames[falls_on] - 20) * round(number)}
    assert corpus.frames[-1] < 20 and len(weights) == 21


def test_segments_shorter_than_a_window_are_left_out_and_told(corpus, caplog):
    with caplog.at_level("INFO", logger="corpus.loader"):
        windows = Windows(corpus, batch_size=2000, window=64, seed=0)
    assert (
        windows.excluded_count == 9 and "9 of 21 segments (258 frames) are shorter than a window of 64" in caplog.text
    )
    assert set(windows.draw(0)[0] % len(LENGTHS)) == {1, 3, 4, 5}


@pytest.mark.parametrize(
    "weights", [np.ones(20), -np.ones(21), np.full(21, np.nan), np.full(21, np.inf), np.ones((21, 1))]
)
def test_weights_that_are_none_are_refused(corpus, weights):
    with pytest.raises(MotionloomError, match="Weights should be 21 finite numbers"):
        batches(corpus, batch_size=1, window=10, seed=0, weights=weights)


@pytest.mark.parametrize(("window", "weights"), [(301, None), (10, np.zeros(21)), (200, np.eye(21)[0])])
def test_nothing_to_draw_is_told_before_the_first_batch(corpus, window, weights):
    with pytest.raises(MotionloomError, match=f"with a weight is {window} frames long; the longest has 300"):
        batches(corpus, batch_size=1, window=window, seed=0, weights=weights)


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"window": 0}, {"seed": -1}])
def test_senseless_numbers_are_refused(corpus, wrong):
    with pytest.raises(MotionloomError, match="at least"):
        batches(corpus, **{"batch_size": 1, "window": 10, "seed": 0} | wrong)


# --- torch


def test_torch_is_not_imported_unless_asked_for():
    code = "import sys, corpus.loader; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
    import corpus.loader

    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = corpus.loader.Nothing


@pytest.mark.parametrize(("workers", "start"), [(0, None), (1, "fork"), (2, "fork"), (2, "spawn")])
def test_a_torch_loader_gives_the_same_batches_in_order(corpus, workers, start):
    torch = pytest.importorskip("torch")
    from corpus.loader import TorchWindows

    options: dict[str, Any] = {"batch_size": 8, "window": 10, "seed": 0, "start_step": 5, "steps": 5}
    data = TorchWindows(corpus, **options)
    loader = torch.utils.data.DataLoader(data, batch_size=None, num_workers=workers, multiprocessing_context=start)
    got, expected = list(loader), list(batches(corpus, **options))
    assert len(got) == len(expected) == 5
    for a, b in zip(got, expected, strict=True):
        assert a.keys() == vars(b).keys()
        for name, value in vars(b).items():
            assert isinstance(a[name], torch.Tensor) and np.array_equal(a[name].numpy(), value)


def test_tensors_share_the_arrays_memory(corpus, monkeypatch):
    pytest.importorskip("torch")
    from corpus.loader import TorchWindows

    drawn = []
    gather = Windows.gather
    monkeypatch.setattr(Windows, "gather", lambda self, *at: drawn.append(gather(self, *at)) or drawn[-1])
    tensors = next(iter(TorchWindows(corpus, batch_size=4, window=10, seed=0)))
    for name, array in vars(drawn[0]).items():
        assert tensors[name].data_ptr() == array.ctypes.data and tensors[name].is_contiguous()
