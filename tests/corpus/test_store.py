"""What goes into a shard comes out, in plain bytes that anybody can read; and what is not whole is never taken for whole."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import pickle
import struct
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from corpus import schema, store
from corpus.errors import CorruptShard
from corpus.motion import RobotMotion
from corpus.store import Shard, ShardWriter, verify_shard

RECIPE = "0123456789abcdef0123456789abcdef"
KEPT = ((0, 300), (420, 80))
"""(start, frames) of the kept segments of the test clip."""


def motion(frames: int, seed: int = 0) -> RobotMotion:
    rng = np.random.default_rng(seed)
    qpos = np.cumsum(rng.normal(0, 0.01, (frames, 36)), 0)
    qpos[:, 3:7] /= np.linalg.norm(qpos[:, 3:7], axis=1, keepdims=True)
    return RobotMotion(qpos.astype(np.float32), 50.0, rng.integers(0, 2, (frames, 4), np.uint8))


def clip_row(key: str, frames: int = 0, kept: int = 0, rejected: int = 0, **more) -> dict:
    counts = {
        "frames": frames,
        "frames_kept": kept,
        "frames_rejected": rejected,
        "frames_cut": frames - kept - rejected,
    }
    status = {"status": "kept", "reason": None} if kept else {"status": "rejected", "reason": "too_short"}
    return {"clip": key, "source": "robot", "path": f"{key}.csv", "licence": "ours", **status, **counts, **more}


def segment_row(start: int, frames: int, status: str = "kept", **more) -> dict:
    return {"start": start, "frames": frames, "status": status, "foot_slide": 0.125, **more}


def write(shards: Path, shard_id: str = "aaaa", *, empty: bool = False) -> Path:
    """A shard of one clip of 500 frames, 380 of them kept, and one that could not be read."""
    with ShardWriter(shards, shard_id, RECIPE) as writer:
        if not empty:
            segments = [
                segment_row(*KEPT[0]),
                segment_row(300, 70, "rejected", reason="jerk", numbers='{"limit": 1}'),
                segment_row(*KEPT[1]),
            ]
            writer.add(clip_row("c" * 32, 500, 380, 70), segments, motion(500))
        writer.add(clip_row("d" * 32, detail="no frames"), [], None)
        writer.commit()
    return shards / shard_id


def kept_frames() -> tuple[np.ndarray, np.ndarray]:
    whole = motion(500)
    assert whole.contact is not None
    parts = [slice(start, start + frames) for start, frames in KEPT]
    return np.concatenate([whole.qpos[p] for p in parts]), np.concatenate([whole.contact[p] for p in parts])


@pytest.fixture
def shard(tmp_path) -> Path:
    return write(tmp_path)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def tree(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


# --- what went in comes out


def test_frames_come_back_to_the_bit(shard):
    opened = Shard.open(shard)
    qpos, contact = kept_frames()
    assert opened.qpos.dtype == np.float32 and np.array_equal(opened.qpos, qpos)
    assert opened.contact.dtype == np.uint8 and np.array_equal(opened.contact, contact)
    assert opened.frame_count == 380 and opened.recipe == RECIPE


def test_rows_come_back_with_names_and_places_filled_in(shard):
    opened = Shard.open(shard)
    segments, clips = opened.segments.to_pylist(), opened.clips.to_pylist()
    assert [s["row"] for s in segments] == [0, None, 300]
    assert [s["segment"] for s in segments] == [f"{'c' * 16}-{start:06d}" for start in (0, 300, 420)]
    assert {s["shard"] for s in segments} == {c["shard"] for c in clips} == {"aaaa"}
    assert segments[1]["numbers"] == '{"limit": 1}' and segments[0]["foot_slide"] == 0.125
    assert [c["detail"] for c in clips] == [None, "no frames"]
    assert opened.clips.schema.remove_metadata() == schema.CLIPS
    assert opened.segments.schema.remove_metadata() == schema.SEGMENTS


def test_the_arrays_are_mapped_files_that_nobody_can_write_to(shard):
    qpos = Shard.open(shard).qpos
    assert type(qpos) is np.ndarray and not qpos.flags.writeable and not qpos.flags.owndata


def test_a_reader_by_the_document_alone_gets_the_same_numbers(shard):
    """docs/format.md, "Frames": JSON, a seek and a multiplication."""
    about = json.loads((shard / "shard.json").read_text())
    for name, kind, width in (("qpos", "<f4", 36), ("contact", "u1", 4)):
        content = (shard / name / "c/0/0").read_bytes()
        chunks, size = 2, 256 * width * np.dtype(kind).itemsize
        assert len(content) == chunks * size + 16 * chunks + 4
        assert struct.unpack("<4Q", content[chunks * size : -4]) == (0, size, size, size)
        assert struct.unpack("<I", content[-4:])[0] == crc32c(content[chunks * size : -4])
        rows = np.frombuffer(content, kind, chunks * 256 * width).reshape(-1, width)
        assert np.array_equal(rows[: about["frames"]], kept_frames()[0 if name == "qpos" else 1])
        assert not rows[about["frames"] :].any()


def crc32c(data: bytes) -> int:
    """Castagnoli's, bit by bit (RFC 3720)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def test_any_zarr_reader_reads_the_same_numbers(shard):
    import zarr

    group = zarr.open_group(shard, mode="r")
    qpos, contact = kept_frames()
    assert np.array_equal(np.asarray(group["qpos"]), qpos)
    assert np.array_equal(np.asarray(group["contact"])[123:345], contact[123:345])


@pytest.mark.parametrize("frames", [1, 255, 256, 257, 512])
def test_the_last_chunk_may_be_full_or_not(tmp_path, frames):
    import zarr

    whole = motion(600)
    with ShardWriter(tmp_path, "bbbb", RECIPE) as writer:
        writer.add(clip_row("e" * 32, 600, frames), [segment_row(7, frames)], whole)
        writer.commit()
    expected = whole.qpos[7 : 7 + frames]
    assert np.array_equal(Shard.open(tmp_path / "bbbb").qpos, expected)
    assert np.array_equal(np.asarray(zarr.open_group(tmp_path / "bbbb", mode="r")["qpos"]), expected)
    assert verify_shard(tmp_path / "bbbb") == []


@pytest.mark.parametrize("empty", [True, False])
def test_a_shard_without_kept_frames_is_whole(tmp_path, empty):
    with ShardWriter(tmp_path, "bbbb", RECIPE) as writer:
        if not empty:
            writer.add(clip_row("f" * 32, 90, 0, 90), [segment_row(0, 90, "rejected", reason="jerk")], motion(90))
        writer.commit()
    opened = Shard.open(tmp_path / "bbbb", checksums=True)
    assert opened.qpos.shape == (0, 36) and opened.contact.shape == (0, 4)
    assert opened.segments.num_rows == (0 if empty else 1)
    assert verify_shard(tmp_path / "bbbb") == []


def test_arrays_used_again_by_the_caller_do_not_change_what_was_added(tmp_path):
    whole = motion(100)
    expected = whole.qpos.copy()
    with ShardWriter(tmp_path, "bbbb", RECIPE) as writer:
        writer.add(clip_row("e" * 32, 100, 100), [segment_row(0, 100)], whole)
        whole.qpos[:] = 0
        writer.commit()
    assert np.array_equal(Shard.open(tmp_path / "bbbb").qpos, expected)


def test_a_name_that_utf8_cannot_hold_costs_nobody_a_shard(tmp_path):
    with ShardWriter(tmp_path, "bbbb", RECIPE) as writer:
        writer.add(clip_row("e" * 32, label="caf\udce9"), [], None)
        writer.commit()
    assert Shard.open(tmp_path / "bbbb").clips["label"].to_pylist() == ["caf\\udce9"]


@pytest.mark.parametrize(
    ("segment", "given"),
    [
        (segment_row(450, 51), motion(500)),
        (segment_row(0, 0), motion(500)),
        (segment_row(-20, 10), motion(500)),
        (segment_row(0, 10), None),
        (segment_row(0, 10), RobotMotion(motion(20).qpos, 50.0)),
        (segment_row(0, 10), RobotMotion(np.ones((20, 30), np.float32), 50.0, np.ones((20, 4), np.uint8))),
    ],
    ids=["beyond the end", "no frames", "before the start", "no motion", "no contacts", "another robot"],
)
def test_a_segment_that_does_not_fit_its_motion_is_a_bug_told_at_once(tmp_path, segment, given):
    with ShardWriter(tmp_path, "bbbb", RECIPE) as writer, pytest.raises(ValueError, match=r"[Ss]egment"):
        writer.add(clip_row("e" * 32, 500, 10), [segment], given)


def test_an_unknown_column_is_a_bug_told_by_name(tmp_path):
    with ShardWriter(tmp_path, "bbbb", RECIPE) as writer:
        writer.add(clip_row("e" * 32, shoe_size=43), [], None)
        with pytest.raises(ValueError, match="no column shoe_size"):
            writer.commit()
    assert tree(tmp_path) == []


# --- bytes


def test_the_same_clips_give_the_same_bytes_anywhere_and_at_any_time(tmp_path, monkeypatch):
    first = digests(write(tmp_path / "here"))
    monkeypatch.setattr(time, "time", lambda: 1e9)
    assert digests(write(tmp_path / "there" / "deeper")) == first
    assert set(first) == {
        "zarr.json", "qpos/zarr.json", "qpos/c/0/0", "contact/zarr.json", "contact/c/0/0",
        "clips.parquet", "segments.parquet", "shard.json",
    }  # fmt: skip


def test_shard_json_tells_size_and_checksum_of_every_other_file(shard):
    about = json.loads((shard / "shard.json").read_text())
    assert {k: v for k, v in about.items() if k != "files"} == {
        "format": 1, "shard": "aaaa", "recipe": RECIPE, "frames": 380,
    }  # fmt: skip
    for path in (p for p in shard.rglob("*") if p.is_file() and p.name != "shard.json"):
        content = path.read_bytes()
        hexdigest = hashlib.blake2b(content, digest_size=16).hexdigest()
        assert about["files"].pop(path.relative_to(shard).as_posix()) == {"bytes": len(content), "blake2b": hexdigest}
    assert about["files"] == {}


# --- there by one rename


def test_a_whole_shard_that_exists_is_left_alone(tmp_path):
    before = (write(tmp_path) / "shard.json").stat()
    after = (write(tmp_path) / "shard.json").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert tree(tmp_path) == ["aaaa"]


@pytest.mark.parametrize("damage", ["flip", "no shard.json", "an empty folder"])
def test_a_damaged_shard_is_replaced_by_a_whole_one(tmp_path, damage):
    shard = write(tmp_path)
    whole = digests(shard)
    if damage == "flip":
        flip(shard / "qpos/c/0/0")
    elif damage == "no shard.json":
        (shard / "shard.json").unlink()
    else:
        for path in sorted(shard.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
    write(tmp_path)
    assert digests(shard) == whole and tree(tmp_path) == ["aaaa"]


def test_a_worker_that_comes_second_leaves_the_firsts_shard(tmp_path, monkeypatch):
    """Both found nothing and wrote; the other's rename came first."""
    with ShardWriter(tmp_path, "aaaa", RECIPE) as late:
        late.add(clip_row("d" * 32), [], None)
        written = late._write

        def overtaken():
            written()
            write(tmp_path, empty=True)

        monkeypatch.setattr(late, "_write", overtaken)
        late.commit()
    assert tree(tmp_path) == ["aaaa"] and verify_shard(tmp_path / "aaaa") == []


def full_disk(*_args, **_options):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("step", ["frames", "rows", "checksums", "sync", "rename"])
def test_a_full_disk_leaves_no_shard_and_no_litter(tmp_path, monkeypatch, step):
    place = {
        "frames": "google_crc32c.value",
        "rows": "corpus.store.pq.write_table",
        "checksums": "pathlib.Path.write_text",
        "sync": "os.fsync",
        "rename": "pathlib.Path.rename",
    }[step]
    with monkeypatch.context() as patch:
        patch.setattr(place, full_disk)
        with pytest.raises(OSError, match="No space left"):
            write(tmp_path)
    assert tree(tmp_path) == []
    assert verify_shard(write(tmp_path)) == []


def test_a_disk_that_fills_up_in_the_middle_of_a_file_leaves_nothing(tmp_path):
    """The real thing: the operating system refuses to let a file grow."""
    resource, signal = pytest.importorskip("resource"), pytest.importorskip("signal")
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        try:
            # No zarr here: its threads do not survive a fork.
            store._write_frames = lambda folder, *_: (folder / "frames").write_bytes(bytes(30_000)) and None
            write(tmp_path)
        except OSError as error:
            os._exit(0 if error.errno == errno.EFBIG else 2)
        except BaseException:
            os._exit(3)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert tree(tmp_path) == []


def test_until_the_rename_there_is_only_a_hidden_folder(tmp_path, monkeypatch):
    seen = []
    rename = Path.rename

    def watched(self, target):
        if self.is_dir():
            seen.append((tree(tmp_path), (self / "shard.json").exists()))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", watched)
    write(tmp_path)
    ((names, whole),) = seen
    assert len(names) == 1 and names[0].startswith(".tmp-aaaa-") and whole
    assert tree(tmp_path) == ["aaaa"]


def test_an_error_before_the_end_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), ShardWriter(tmp_path, "bbbb", RECIPE) as writer:
        writer.add(clip_row("e" * 32), [], None)
        raise ZeroDivisionError
    assert tree(tmp_path) == []


# --- damage

FILES = (
    "qpos/c/0/0",
    "contact/c/0/0",
    "clips.parquet",
    "segments.parquet",
    "qpos/zarr.json",
    "zarr.json",
    "shard.json",
)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_whole_shard_has_nothing_wrong(shard):
    assert verify_shard(shard) == []


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["flip", "cut", "longer", "gone"])
def test_any_damage_is_listed_and_refused(shard, name, damage):
    path = shard / name
    content = path.read_bytes()
    if damage == "flip":
        flip(path)
    elif damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:-7] if damage == "cut" else content + b"\0")
    (line,) = verify_shard(shard)
    assert name in line
    with pytest.raises(CorruptShard, match=path.name):
        Shard.open(shard, checksums=True)
    if damage in ("cut", "longer", "gone"):
        with pytest.raises(CorruptShard, match=path.name):
            Shard.open(shard)


def test_every_single_byte_of_shard_json_matters(shard):
    """It carries the checksums and has none itself. The recipe's digits are checked against corpus.json, see below."""
    path = shard / "shard.json"
    content = path.read_bytes()
    at_recipe = content.index(RECIPE.encode())
    for at in range(len(content)):
        if at_recipe <= at < at_recipe + len(RECIPE):
            continue
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        assert verify_shard(shard), f"byte {at}: {content[at : at + 20]!r}"


def test_a_shard_of_another_recipe_than_its_corpus_is_listed(tmp_path):
    shard = write(tmp_path / "shards")
    (tmp_path / "corpus.json").write_text(json.dumps({"recipe_hash": RECIPE}))
    assert verify_shard(shard) == []
    (tmp_path / "corpus.json").write_text(json.dumps({"recipe_hash": "f" * 32}))
    assert f"made by recipe {RECIPE}, the corpus by {'f' * 32}" in verify_shard(shard)[0]


def test_rows_that_flipped_a_bit_are_refused_without_being_asked(shard):
    flip(shard / "segments.parquet")
    with pytest.raises(CorruptShard, match=r"segments\.parquet: its bytes are not those"):
        _ = Shard.open(shard).segments


def test_a_file_too_many_is_listed(shard):
    (shard / "qpos" / "c" / "0" / "1").write_bytes(b"stray")
    assert verify_shard(shard) == [f"{shard}/qpos/c/0/1: does not belong to the shard."]


def test_a_shard_under_another_name_is_listed(shard):
    assert "names the shard aaaa" in verify_shard(shard.rename(shard.with_name("bbbb")))[0]


def test_what_is_no_shard_says_so(tmp_path):
    with pytest.raises(CorruptShard, match=r"no readable shard\.json"):
        Shard.open(tmp_path / "nowhere")
    assert len(verify_shard(tmp_path)) == 1


def test_a_later_format_is_refused_by_its_number(shard):
    reseal(shard, format=2)
    with pytest.raises(CorruptShard, match="format 2, this version reads 1"):
        Shard.open(shard)


def reseal(shard: Path, **changes) -> None:
    """Write shard.json anew, its checksums fitting what lies there: as a wrong writer would leave it."""
    about = json.loads((shard / "shard.json").read_text()) | changes
    about["files"] = {name: store.fingerprint(shard / name) for name in about["files"]}
    (shard / "shard.json").write_text(store._as_text(about))


def test_chunks_out_of_order_are_refused(shard):
    """zarrs writes them so; the checksums are then right, and the mapped rows would be wrong."""
    path = shard / "qpos/c/0/0"
    content = bytearray(path.read_bytes())
    at = 2 * 256 * 36 * 4
    content[at : at + 32] = content[at + 16 : at + 32] + content[at : at + 16]
    path.write_bytes(content)
    reseal(shard)
    with pytest.raises(CorruptShard, match="not in order"):
        _ = Shard.open(shard).qpos
    assert len(verify_shard(shard)) == 1


def test_rows_and_frames_that_disagree_are_listed(shard):
    table = pq.read_table(io.BytesIO((shard / "segments.parquet").read_bytes()))
    for column, value, expected in (
        ("frames", 299, "379 frames in kept segments, 380"),
        ("row", 5, "stands at row 5, expected 0"),
        ("shard", "bbbb", "rows of another shard: bbbb"),
    ):
        rows = table.to_pylist()
        rows[0][column] = value
        pq.write_table(table.from_pylist(rows, schema=schema.SEGMENTS), shard / "segments.parquet")
        reseal(shard)
        assert any(expected in line for line in verify_shard(shard)), column


def test_a_clip_whose_row_tells_other_frames_than_its_segments_is_listed(tmp_path):
    with ShardWriter(tmp_path, "bbbb", RECIPE) as writer:
        writer.add(clip_row("e" * 32, 100, 90), [segment_row(0, 80)], motion(100))
        writer.commit()
    assert verify_shard(tmp_path / "bbbb") == [
        f"{tmp_path}/bbbb: clip {'e' * 32}: 80 frames kept in segments, 90 in its row."
    ]


def test_a_shard_sent_to_another_process_takes_its_path_along_and_not_its_frames(shard):
    opened = Shard.open(shard)
    _ = opened.qpos
    sent = pickle.dumps(opened)
    assert len(sent) < 1000 and np.array_equal(pickle.loads(sent).qpos, opened.qpos)
