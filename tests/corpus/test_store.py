"""Shards, catalog and loader: round trips, bytes, damage, and numbers that must agree."""

from __future__ import annotations

import errno
import hashlib
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from corpus import rotations, schema
from corpus.catalog import Corpus, fold, ledger
from corpus.errors import CorruptShard, MotionloomError
from corpus.loader import Windows, batches, torch_windows
from corpus.motion import RobotMotion, velocity
from corpus.store import Shard, ShardWriter, verify_shard


def motion(frame_count: int, seed: int = 0) -> RobotMotion:
    rng = np.random.default_rng(seed)
    t = np.arange(frame_count)[:, None] / 50
    qpos = np.sin(t * rng.uniform(1, 3, 36) + rng.uniform(0, 6, 36)).astype(np.float32)
    qpos[:, 3:7] = rotations.continuous(rotations.from_rotation_vector(0.5 * qpos[:, 3:6].astype(float)))
    return RobotMotion(qpos, 50.0, rng.integers(0, 2, (frame_count, 4)).astype(np.uint8))


def clip_row(key: str, frames: int, kept: int, rejected: int, **changes) -> dict:
    return {
        "clip": key, "source": "amass", "path": f"{key}.npz", "part": "", "licence": "test", "subject": "", "recording": key,
        "label": "", "status": "kept" if kept else "rejected", "reason": None if kept else "foot_slide", "frames": frames,
        "frames_kept": kept, "frames_rejected": rejected, "frames_cut": frames - kept - rejected,
    } | changes  # fmt: skip


def segment_row(start: int, frames: int, status: str = "kept") -> dict:
    return {
        "start": start,
        "frames": frames,
        "status": status,
        "reason": None if status == "kept" else "jerk",
        "jerk": 1.5,
    }


def write(shards: Path, name: str = "aaaa", *, empty: bool = False) -> None:
    with ShardWriter(shards, name, "recipe") as writer:
        if not empty:
            writer.add(
                clip_row(f"{name}1" * 5, 500, 380, 100),
                [segment_row(0, 300), segment_row(300, 100, "rejected"), segment_row(420, 80)],
                motion(500),
            )
        writer.add(clip_row(f"{name}2" * 5, 60, 0, 60), [segment_row(0, 60, "rejected")], motion(60))
        writer.commit()


@pytest.fixture
def corpus(tmp_path) -> Corpus:
    for name in ("aaaa", "bbbb"):
        write(tmp_path / "shards", name)
    (tmp_path / "corpus.json").write_text(json.dumps({"format": 1, "fps": 50.0, "recipe": {}}))
    fold(tmp_path)
    return Corpus.open(tmp_path)


def test_what_went_in_comes_out(tmp_path):
    write(tmp_path)
    shard = Shard.open(tmp_path / "aaaa")
    expected = motion(500)
    assert np.array_equal(shard.qpos, np.concatenate([expected.qpos[:300], expected.qpos[420:]]))
    assert np.array_equal(shard.contact, np.concatenate([expected.contact[:300], expected.contact[420:]]))
    assert shard.segments["row"].to_pylist() == [0, None, 300, None]
    assert shard.segments.schema.names == schema.SEGMENTS.names
    assert verify_shard(tmp_path / "aaaa") == []


def test_any_zarr_reader_reads_the_same_numbers(tmp_path):
    import zarr

    write(tmp_path)
    group = zarr.open_group(tmp_path / "aaaa", mode="r")
    shard = Shard.open(tmp_path / "aaaa")
    assert np.array_equal(group["qpos"][:], shard.qpos)
    assert np.array_equal(group["contact"][123:345], shard.contact[123:345])


def test_the_file_is_plain_c_order_float32_from_its_first_byte(tmp_path):
    write(tmp_path)
    raw = np.fromfile(tmp_path / "aaaa" / "qpos" / "c" / "0" / "0", "<f4", 380 * 36).reshape(380, 36)
    assert np.array_equal(raw, Shard.open(tmp_path / "aaaa").qpos)


def test_a_shard_without_kept_frames_is_whole(tmp_path):
    write(tmp_path, empty=True)
    assert Shard.open(tmp_path / "aaaa").qpos.shape == (0, 36)
    assert verify_shard(tmp_path / "aaaa") == []


def digest(folder: Path) -> dict[str, str]:
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def test_the_same_clips_give_the_same_bytes_anywhere(tmp_path):
    for place in ("here", "there/deeper"):
        write(tmp_path / place)
    assert digest(tmp_path / "here") == digest(tmp_path / "there" / "deeper")


def test_a_shard_that_exists_is_left_alone(tmp_path):
    write(tmp_path)
    before = (tmp_path / "aaaa" / "shard.json").stat().st_mtime_ns
    write(tmp_path)
    assert (tmp_path / "aaaa" / "shard.json").stat().st_mtime_ns == before
    assert [p.name for p in tmp_path.iterdir()] == ["aaaa"]


def test_a_full_disk_leaves_no_shard(tmp_path, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("corpus.store.pq.write_table", full)
    with pytest.raises(OSError, match="No space"):
        write(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["qpos/c/0/0", "contact/c/0/0", "clips.parquet", "segments.parquet", "qpos/zarr.json", "zarr.json"]
)
@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_any_damage_is_found(tmp_path, name, damage):
    write(tmp_path)
    path = tmp_path / "aaaa" / name
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif damage == "cut":
        path.write_bytes(content[:-7])
    else:
        path.unlink()
    assert any(name in line for line in verify_shard(tmp_path / "aaaa"))


def test_a_torn_frame_file_is_refused_when_it_is_mapped(tmp_path):
    write(tmp_path)
    path = tmp_path / "aaaa" / "qpos" / "c" / "0" / "0"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CorruptShard, match="expected"):
        _ = Shard.open(tmp_path / "aaaa").qpos


def test_chunks_out_of_order_are_noticed(tmp_path):
    write(tmp_path)
    path = tmp_path / "aaaa" / "qpos" / "c" / "0" / "0"
    content = bytearray(path.read_bytes())
    index = 2 * 256 * 36 * 4
    content[index : index + 16], content[index + 16 : index + 32] = (
        content[index + 16 : index + 32],
        content[index : index + 16],
    )
    path.write_bytes(content)
    with pytest.raises(CorruptShard, match="order"):
        _ = Shard.open(tmp_path / "aaaa").qpos


def test_the_catalog_does_not_depend_on_the_order_of_writing(tmp_path):
    for place, names in (("a", ("aaaa", "bbbb")), ("b", ("bbbb", "aaaa"))):
        for name in names:
            write(tmp_path / place / "shards", name)
        fold(tmp_path / place)
    assert digest(tmp_path / "a" / "catalog") == digest(tmp_path / "b" / "catalog")


def test_a_shard_whose_writer_died_before_the_rename_is_not_counted(corpus):
    import shutil

    before = corpus.clips.collect()
    shutil.copytree(corpus.path / "shards" / "aaaa", corpus.path / "shards" / ".tmp-aaaa-1")
    fold(corpus.path)
    assert corpus.clips.collect().equals(before)


def test_the_ledger_adds_up_or_says_so(corpus):
    table = ledger(corpus.clips)
    assert (
        table["frames"].item()
        == table["frames_kept"].item() + table["frames_rejected"].item() + table["frames_cut"].item()
        == 1120
    )
    with pytest.raises(CorruptShard, match="add up"):
        ledger(corpus.clips.with_columns(frames_cut=pl.lit(0)))


def test_a_segments_motion_by_number_and_by_name_is_the_mapped_memory(corpus):
    name = corpus.kept["segment"][2]
    assert np.array_equal(corpus.motion(2).qpos, corpus.motion(name).qpos)
    assert np.array_equal(corpus.motion(2).qpos, motion(500).qpos[:300])
    assert corpus.motion(0).qpos.base is not None
    with pytest.raises(MotionloomError, match="No kept segment"):
        corpus.motion("nothing")


def test_a_folder_that_is_no_corpus_says_what_makes_one(tmp_path):
    with pytest.raises(MotionloomError, match="loom build"):
        Corpus.open(tmp_path)


def test_a_batch_is_a_function_of_seed_step_and_weights(corpus):
    a = list(batches(corpus, batch_size=16, window=20, seed=1, steps=4))
    late = next(iter(batches(corpus, batch_size=16, window=20, seed=1, start_step=3)))
    other = next(iter(batches(corpus, batch_size=16, window=20, seed=2)))
    assert np.array_equal(a[3].qpos, late.qpos) and np.array_equal(a[3].frame, late.frame)
    assert not np.array_equal(a[0].frame, other.frame)
    assert not np.array_equal(a[0].frame, a[1].frame)


def test_windows_are_what_the_segments_hold_velocities_included(corpus):
    windows = Windows(corpus, batch_size=200, window=30, seed=3)
    segment, frame = windows.draw(0)
    frame[:4], segment[:4] = [0, 270, 0, 50], [0, 0, 1, 1]  # the very ends of both segments
    batch = windows.gather(segment, frame)
    for i in range(200):
        whole = corpus.motion(int(segment[i]))
        part = slice(frame[i], frame[i] + 30)
        assert np.array_equal(batch.qpos[i], whole.qpos[part])
        assert np.array_equal(batch.contact[i], whole.contact[part])
        assert np.abs(batch.velocity[i] - velocity(whole)[part]).max() < 2e-3


def test_without_weights_every_window_is_drawn_equally_often(corpus):
    windows = Windows(corpus, batch_size=40_000, window=70, seed=0)
    segment, frame = windows.draw(0)
    room = corpus.kept["frames"].to_numpy() - 70 + 1
    expected = 40_000 * room / room.sum()
    chi2 = ((np.bincount(segment, minlength=len(room)) - expected) ** 2 / expected).sum()
    assert chi2 < 16.3  # 99.9 % of chi-square with 3 degrees of freedom
    assert (frame < room[segment]).all() and frame.max() > 200


def test_weights_share_out_the_windows(corpus):
    weights = np.array([1.0, 0.0, 3.0, 0.0])
    segment, _ = Windows(corpus, batch_size=20_000, window=10, seed=0, weights=weights).draw(5)
    assert np.bincount(segment, minlength=4)[[1, 3]].sum() == 0
    assert np.mean(segment == 2) == pytest.approx(0.75, abs=0.02)


def test_segments_shorter_than_a_window_are_left_out_and_counted(corpus):
    windows = Windows(corpus, batch_size=100, window=100, seed=0)
    assert windows.excluded_count == 2
    assert set(windows.draw(0)[0]) == {0, 2}
    with pytest.raises(MotionloomError, match="long"):
        Windows(corpus, batch_size=1, window=301, seed=0)


@pytest.mark.parametrize("weights", [np.ones(3), np.array([1, 1, 1, -1.0]), np.array([1, 1, 1, np.nan])])
def test_bad_weights_are_refused(corpus, weights):
    with pytest.raises(MotionloomError, match="Weights"):
        Windows(corpus, batch_size=1, window=10, seed=0, weights=weights)


def test_a_torch_loader_gives_the_same_batches_without_copying(corpus):
    torch = pytest.importorskip("torch")
    windows = Windows(corpus, batch_size=8, window=10, seed=0)
    got = list(torch.utils.data.DataLoader(torch_windows(windows, steps=4), batch_size=None, num_workers=2))
    assert len(got) == 4
    assert {float(b["qpos"].sum()) for b in got} == {float(torch.from_numpy(windows[i].qpos).sum()) for i in range(4)}
    assert got[0]["qpos"].dtype == torch.float32
