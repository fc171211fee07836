"""A batch is a function of seed, step and weights, and its windows are what the segments hold."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from corpus import rotations
from corpus.catalog import Corpus
from corpus.errors import CorruptShard, MotionloomError
from corpus.loader import Loader, batches, open_windows
from corpus.loading.prefetch import ahead
from corpus.loading.windows import MappedRows, Windows
from corpus.motion import RobotMotion, velocity
from corpus.store import Shard

LENGTHS = (60, 300, 25, 130, 64, 90, 1)


def motionloom_threads() -> list[str]:
    gc.collect()
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("motionloom")]


# --- what a batch holds


def test_shapes_and_types_are_those_promised(small):
    batch = next(batches(small.corpus, batch_size=5, window=20, seed=0, history=3, future=4))
    shapes = {name: (array.shape, array.dtype) for name, array in vars(batch).items()}
    assert shapes == {
        "qpos": ((5, 27, 36), np.float32),
        "velocity": ((5, 27, 35), np.float32),
        "contact": ((5, 27, 4), np.uint8),
        "valid": ((5, 27), bool),
        "segment": ((5,), np.int64),
        "frame": ((5,), np.int64),
        "speed": ((5,), np.float64),
        "mirrored": ((5,), bool),
        "yaw": ((5,), np.float32),
    }
    assert all(array.flags.c_contiguous and array.flags.writeable for array in vars(batch).values())


@pytest.mark.parametrize("window", [1, 2, 3, 25, 60])
def test_windows_are_what_the_segments_hold_velocities_included(small, gather_at, window):
    """Every window of every segment long enough, the first and last of each among them."""
    starts = [(s, f) for s, n in enumerate(small.corpus.frames) if n > 1 for f in range(n - window + 1)]
    batch = gather_at(open_windows(small.corpus, batch_size=1, window=window, seed=3), *np.array(starts).T)
    wholes = {s: small.whole(s) for s in {s for s, _ in starts}}
    speeds = {s: velocity(RobotMotion(m.qpos.astype(np.float64), m.fps)) for s, m in wholes.items()}
    for i, (segment, frame) in enumerate(starts):
        part = slice(frame, frame + window)
        assert np.array_equal(batch.qpos[i], wholes[segment].qpos[part])
        assert np.array_equal(batch.contact[i], wholes[segment].contact[part])
        # float32 resolves positions of 4 m to 2.4e-7 m, which at 50 Hz is 1.2e-5 m/s per frame.
        assert np.abs(batch.velocity[i] - speeds[segment][part]).max() < 1e-4
    assert batch.valid.all() and (batch.speed == 1).all() and not batch.mirrored.any() and not batch.yaw.any()


def test_large_turns_from_frame_to_frame_are_measured_too(tmp_path, make_corpus, gather_at):
    """The kernel has a series for small turns and a formula for large ones; SciPy knows no difference."""
    from scipy.spatial.transform import Rotation

    axes = np.random.default_rng(0).normal(size=(200, 3))
    angles = np.linspace(0, 3.1, 200)[:, None]
    turns = Rotation.from_rotvec(axes / np.linalg.norm(axes, axis=1, keepdims=True) * angles)
    qpos = np.zeros((201, 36), np.float32)
    facing = [Rotation.identity()]
    for turn in turns:
        facing.append(facing[-1] * turn)
    qpos[:, 3:7] = Rotation.concatenate(facing).as_quat()[:, [3, 0, 1, 2]]
    corpus = make_corpus(tmp_path, {"aaaa": [(RobotMotion(qpos, 50.0, np.zeros((201, 4), np.uint8)), {})]})
    batch = gather_at(open_windows(corpus, batch_size=1, window=201, seed=0), 0, 0)
    steps = turns.as_rotvec() * 50
    assert np.allclose(batch.velocity[0, 1:-1, 3:6], (steps[1:] + steps[:-1]) / 2, atol=2e-4)
    assert np.allclose(batch.velocity[0, [0, -1], 3:6], steps[[0, -1]], atol=2e-4)


def test_a_velocity_does_not_depend_on_the_window_it_is_seen_through(small, gather_at):
    narrow, wide = (open_windows(small.corpus, batch_size=1, window=w, seed=0) for w in (5, 50))
    many = gather_at(wide, 1, 100)
    for start in range(100, 145):
        few = gather_at(narrow, 1, start)
        assert np.array_equal(few.velocity[0], many.velocity[0, start - 100 : start - 95])


def test_turning_about_one_axis_reads_its_rate_in_the_robots_own_frame(tmp_path, make_corpus):
    """1.5 rad/s about the robot's own y axis, whatever way it faces."""
    times = np.arange(60) / 50
    facing = rotations.from_rotation_vector(np.array([0.3, -0.8, 2.0]))
    spin = rotations.from_rotation_vector(times[:, None] * np.array([0.0, 1.5, 0.0]))
    qpos = np.zeros((60, 36), np.float32)
    qpos[:, 0] = 2 * times
    qpos[:, 3:7] = rotations.multiply(np.broadcast_to(facing, spin.shape), spin)
    corpus = make_corpus(tmp_path, {"aaaa": [(RobotMotion(qpos, 50.0, np.zeros((60, 4), np.uint8)), {})]})
    for batch in batches(corpus, batch_size=9, window=13, seed=1, steps=3):
        assert np.allclose(batch.velocity[..., :3], [2, 0, 0], atol=2e-5)
        assert np.allclose(batch.velocity[..., 3:6], [0, 1.5, 0], atol=2e-5)


def test_neighbours_of_another_segment_never_count(small, gather_at):
    """The first and last frames of segments that touch in the shard are one-sided."""
    ends = small.corpus.frames[:6] - 25
    segments, frames = np.repeat(np.arange(6), 2), np.stack([0 * ends, ends], 1).ravel()
    batch = gather_at(open_windows(small.corpus, batch_size=1, window=25, seed=0), segments, frames)
    for i in range(6):
        x = small.whole(i).qpos[:, 10].astype(float)
        assert batch.velocity[2 * i, 0, 9] == pytest.approx(50 * (x[1] - x[0]), abs=1e-4)
        assert batch.velocity[2 * i + 1, -1, 9] == pytest.approx(50 * (x[-1] - x[-2]), abs=1e-4)


@pytest.mark.parametrize(
    "fields", [("qpos",), ("contact",), ("velocity",), ("qpos", "contact"), ("qpos", "velocity", "contact")]
)
def test_history_and_future_repeat_the_edge_at_rest_and_say_so(small, gather_at, fields):
    """A segment of 60 frames, seen from each of its windows of 25 with 40 frames before and 30 after."""
    options: dict[str, Any] = {"batch_size": 1, "seed": 0, "fields": fields}
    batch = gather_at(
        open_windows(small.corpus, window=25, history=40, future=30, **options), np.zeros(36), np.arange(36)
    )
    whole = gather_at(open_windows(small.corpus, window=60, **options), 0, 0)
    for start in range(36):
        row = start + np.arange(-40, 55)
        inside = (row >= 0) & (row < 60)
        assert np.array_equal(batch.valid[start], inside)
        for name in ("qpos", "contact"):
            if name in fields:
                assert np.array_equal(getattr(batch, name)[start], getattr(whole, name)[0, np.clip(row, 0, 59)])
        if "velocity" in fields:
            assert np.array_equal(batch.velocity[start, inside], whole.velocity[0, row[inside]])
            assert not batch.velocity[start, ~inside].any()
    assert [name for name in ("qpos", "velocity", "contact") if getattr(batch, name) is not None] == list(fields)


def test_a_window_beyond_its_segment_is_refused(small, gather_at):
    windows = open_windows(small.corpus, batch_size=1, window=25, seed=0)
    for frame in (-1, LENGTHS[0] - 24):
        with pytest.raises(IndexError, match="beyond its segment"):
            gather_at(windows, 0, frame)


def test_a_robot_of_other_columns_is_loaded_alike(tmp_path, make_corpus, make_motion, gather_at):
    """Twelve joints instead of 29."""
    motion = make_motion(50, 0)
    qpos = np.ascontiguousarray(motion.qpos[:, :19])
    narrow = RobotMotion(qpos, 50.0, motion.contact)
    corpus = make_corpus(tmp_path, {"aaaa": [(narrow, {})]}, columns=19)
    batch = gather_at(open_windows(corpus, batch_size=1, window=30, seed=0), 0, 7)
    assert np.array_equal(batch.qpos[0], qpos[7:37]) and np.array_equal(batch.contact[0], motion.contact[7:37])
    assert np.allclose(batch.velocity[0], velocity(narrow)[7:37], atol=1e-4)


# --- a function of seed, step and weights


def test_a_batch_hangs_on_seed_step_and_weights_and_nothing_else(small, same):
    options: dict[str, Any] = {"batch_size": 16, "window": 20}
    weights = np.arange(len(small.corpus.kept)) + 1.0
    run = list(batches(small.corpus, **options, seed=1, weights=weights, steps=5))
    again = list(batches(Corpus.open(small.folder), **options, seed=1, weights=2 * weights, steps=5))
    resumed = list(batches(small.corpus, **options, seed=1, weights=weights, start_step=3, steps=2))
    assert len(run) == 5 and all(map(same, run, again)) and all(map(same, run[3:], resumed))
    others = [
        next(batches(small.corpus, **options, seed=2, weights=weights)),
        next(batches(small.corpus, **options, seed=1)),
        run[1],
    ]
    assert not any(same(run[0], other) for other in others)


def test_another_process_draws_the_same(small):
    code = (
        "import sys; from corpus.catalog import Corpus; from corpus.loader import batches;"
        "b = next(batches(Corpus.open(sys.argv[1]), batch_size=16, window=20, seed=7, start_step=2**40));"
        "print(b.segment.tolist(), b.frame.tolist())"
    )
    told = subprocess.run([sys.executable, "-c", code, small.folder], capture_output=True, text=True, check=True).stdout
    mine = next(batches(small.corpus, batch_size=16, window=20, seed=7, start_step=2**40))
    assert told.splitlines()[-1] == f"{mine.segment.tolist()} {mine.frame.tolist()}"


def test_batches_go_on_for_ever_unless_told(small):
    drawn = batches(small.corpus, batch_size=2, window=20, seed=0)
    assert len({next(drawn).frame.tobytes() for _ in range(50)}) > 40
    assert list(batches(small.corpus, batch_size=2, window=20, seed=0, steps=0)) == []


@pytest.mark.parametrize("epochs", [False, True])
def test_a_run_goes_on_from_its_state_on_any_number_of_ranks(small, same, epochs):
    """Three steps on two ranks, then two more on three: what all ranks get together is what one gets alone."""
    options: dict[str, Any] = {"batch_size": 11, "window": 20, "seed": 5, "epochs": epochs}
    alone = list(batches(small.corpus, **options, steps=5))
    ranks = [Loader(small.corpus, **options, rank=r, world_size=2) for r in range(2)]
    begun = [[next(it) for _ in range(3)] for it in map(iter, ranks)]
    states = [loader.state_dict() for loader in ranks]
    assert states[0] == states[1] and set(map(type, states[0].values())) == {int}
    resumed = [Loader(small.corpus, **options, rank=r, world_size=3) for r in range(3)]
    for loader in resumed:
        loader.load_state_dict(states[0])
    going_on = [[next(it) for _ in range(2)] for it in map(iter, resumed)]
    together = [*zip(*begun, strict=True), *zip(*going_on, strict=True)]
    for parts, whole in zip(together, alone, strict=True):
        joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(whole)}
        assert all(np.array_equal(array, getattr(whole, name)) for name, array in joined.items())


def test_a_state_counts_what_was_given_not_what_was_made_ahead(small, same):
    loader = Loader(small.corpus, batch_size=4, window=20, seed=0, prefetch=3)
    first = [batch for _, batch in zip(range(4), loader, strict=False)]
    assert loader.state_dict()["step"] == 4
    assert same(next(iter(loader)), next(batches(small.corpus, batch_size=4, window=20, seed=0, start_step=4)))
    assert same(first[0], next(batches(small.corpus, batch_size=4, window=20, seed=0)))


@pytest.mark.parametrize(
    "other", [{"seed": 1}, {"batch_size": 5}, {"window": 21}, {"weights": np.arange(21.0)}, {"epochs": True}]
)
def test_the_state_of_another_run_is_refused(small, other):
    options: dict[str, Any] = {"batch_size": 4, "window": 20, "seed": 0}
    state = Loader(small.corpus, **options).state_dict()
    with pytest.raises(MotionloomError, match="its batches are others"):
        Loader(small.corpus, **(options | other)).load_state_dict(state)


# --- made ahead


def test_what_fails_ahead_fails_here_after_what_was_good(small, monkeypatch):
    monkeypatch.setattr(Windows, "__getitem__", lambda self, step: step if step < 3 else 1 // 0)
    got = []
    with pytest.raises(ZeroDivisionError):
        for step in batches(small.corpus, batch_size=1, window=20, seed=0):
            got.append(step)
    assert got == [0, 1, 2] and not motionloom_threads()


def test_a_damaged_shard_is_told_to_whoever_draws(tmp_path, make_corpus, make_motion):
    corpus = make_corpus(tmp_path, {name: [(make_motion(50, 0), {})] for name in ("aaaa", "bbbb")})
    (tmp_path / "shards" / "bbbb" / "qpos" / "c" / "0" / "0").write_bytes(b"")
    with pytest.raises(CorruptShard, match="bbbb"):
        list(batches(corpus, batch_size=8, window=20, seed=0, steps=5))


def test_what_two_threads_map_at_once_stays_where_it_was_first(small):
    """The one that comes later must not take the first one's memory away: its kernel is reading there."""
    meanwhile = []

    def shard(number: int) -> Shard:
        opened = Shard.open(small.corpus.shard(number).path)
        if meanwhile:
            first.append(rows.addresses(0, meanwhile.pop()).qpos[1])
        return opened

    rows, first = MappedRows(cast(Corpus, SimpleNamespace(shard_ids=small.corpus.shard_ids, shard=shard))), []
    meanwhile.append(np.array([1]))
    assert rows.addresses(0, np.array([1])).qpos[1] == first[0]


def test_no_thread_is_left_behind(small):
    options: dict[str, Any] = {"batch_size": 2, "window": 20, "seed": 0}
    assert len(list(batches(small.corpus, **options, steps=3))) == 3 and not motionloom_threads()
    drawn = batches(small.corpus, **options)
    next(drawn)
    assert motionloom_threads() == ["motionloom-ahead"]
    del drawn
    assert not motionloom_threads()
    with pytest.raises(KeyboardInterrupt):
        for _ in batches(small.corpus, **options):
            raise KeyboardInterrupt
    assert not motionloom_threads()


@pytest.mark.parametrize("depth", [0, 1, 2, 5])
def test_no_more_is_made_ahead_than_told(depth):
    made = []
    items = ahead((made.append(i) or i for i in range(100)), depth)
    for given in range(20):
        assert next(items) == given
        assert len(made) <= given + 1 + depth
    items.close()  # type: ignore[attr-defined]
    assert not motionloom_threads()


# --- what is refused


@pytest.mark.parametrize(
    "weights", [np.ones(20), -np.ones(21), np.full(21, np.nan), np.full(21, np.inf), np.ones((21, 1))]
)
def test_weights_that_are_none_are_refused(small, weights):
    with pytest.raises(MotionloomError, match="Weights should be"):
        batches(small.corpus, batch_size=1, window=10, seed=0, weights=weights)


@pytest.mark.parametrize(("window", "weights"), [(301, None), (10, np.zeros(21)), (200, np.eye(21)[0])])
def test_nothing_to_draw_is_told_before_the_first_batch(small, window, weights):
    with pytest.raises(MotionloomError, match=f"with a weight is {window} frames long; the longest has 300"):
        batches(small.corpus, batch_size=1, window=window, seed=0, weights=weights)


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 0}, {"window": 0}, {"seed": -1}, {"seed": 2**63}, {"stride": 0, "epochs": True}, {"rank": 1},
        {"world_size": 2}, {"mode": "fast"}, {"history": -1}, {"future": -1}, {"fields": ("qvel",)}, {"fields": ()},
        {"mode": "rotating", "reuse": 0.0}, {"mode": "rotating", "epochs": True}, {"mode": "rotating", "resident": 2},
    ],
    ids=str,
)  # fmt: skip
def test_senseless_options_are_refused(small, wrong):
    with pytest.raises(MotionloomError):
        batches(small.corpus, **{"batch_size": 1, "window": 10, "seed": 0} | wrong)


# --- torch


def test_torch_is_not_imported_unless_asked_for():
    code = "import sys, corpus.loader; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
    import corpus.loader

    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = corpus.loader.Nothing


@pytest.mark.parametrize(("workers", "start"), [(0, None), (1, "fork"), (2, "fork"), (2, "spawn")])
def test_a_torch_loader_gives_the_same_batches_in_order(small, workers, start):
    torch = pytest.importorskip("torch")
    from corpus.augment import Augment
    from corpus.loader import TorchWindows

    options: dict[str, Any] = {
        "batch_size": 8,
        "window": 10,
        "seed": 0,
        "start_step": 5,
        "steps": 5,
        "augment": Augment(),
    }
    expected = list(batches(small.corpus, **options))
    data = TorchWindows(small.corpus, **options)
    loader = torch.utils.data.DataLoader(data, batch_size=None, num_workers=workers, multiprocessing_context=start)
    got = list(loader)
    assert len(got) == len(expected) == 5
    for a, b in zip(got, expected, strict=True):
        assert a.keys() == vars(b).keys()
        for name, value in vars(b).items():
            assert isinstance(a[name], torch.Tensor) and np.array_equal(a[name].numpy(), value)


def test_tensors_share_the_arrays_memory(small, monkeypatch):
    pytest.importorskip("torch")
    drawn = []
    gather = Windows.gather
    monkeypatch.setattr(Windows, "gather", lambda self, draw: drawn.append(gather(self, draw)) or drawn[-1])
    batch = next(batches(small.corpus, batch_size=4, window=10, seed=0, device="cpu", prefetch=0, fields=("qpos",)))
    for name, array in vars(drawn[0]).items():
        tensor = getattr(batch, name)
        assert (tensor is None and array is None) or (tensor.data_ptr() == array.ctypes.data and tensor.is_contiguous())


@pytest.mark.parametrize("fields", [("qpos", "velocity", "contact"), ("velocity",), ("qpos", "contact")])
def test_what_is_woven_from_rows_that_travelled_is_the_same(small, fields):
    """The way of a GPU, raw rows first, taken on the CPU; with all that can be done to windows, at all edges."""
    torch = pytest.importorskip("torch")
    from corpus.augment import Augment
    from corpus.loading.tensors import woven_on

    options: dict[str, Any] = {"window": 20, "history": 30, "future": 30, "augment": Augment(), "fields": fields}
    windows = open_windows(small.corpus, batch_size=64, seed=0, **options)
    draw = windows.sampler.draw(0)
    here, there = windows.gather(draw), woven_on(windows, draw, torch.device("cpu"))
    assert len(set(here.speed)) > 3 and here.mirrored.any() and not here.valid.all()
    for name, array in vars(here).items():
        other = getattr(there, name)
        assert (array is None and other is None) or np.array_equal(array, other.numpy()), name


@pytest.mark.skipif("not __import__('warp').is_cuda_available()", reason="no CUDA device")
def test_a_gpu_gives_what_the_cpu_gives(small):
    from corpus.augment import Augment

    options: dict[str, Any] = {
        "batch_size": 64,
        "window": 20,
        "history": 30,
        "future": 30,
        "augment": Augment(),
        "seed": 0,
    }
    here, there = (next(batches(small.corpus, **options, device=device)) for device in ("cpu", "cuda"))
    for name, tensor in vars(here).items():
        assert np.allclose(tensor.numpy(), getattr(there, name).cpu().numpy(), atol=1e-4), name


@pytest.mark.slow
def test_the_kernel_compiles_to_machine_code_for_sm_90(tmp_path):
    import warp as wp

    from corpus.augment import mirror_columns
    from corpus.g1 import G1
    from corpus.loading.weave import build_weave

    made = wp.compile_aot_module(build_weave(mirror_columns(G1)).module, arch=90, module_dir=tmp_path, use_ptx=False)
    (cubin,) = [path for path in made if path.suffix == ".cubin"]
    assert cubin.read_bytes()[:4] == b"\x7fELF"
