"""A shard appears in a bucket whole or not at all, whoever dies or races on the way, and comes back as it was written."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import pytest
from s3_server import Died, death_after, now_and_then
from small_corpus import RECIPE, write_small_shard

from corpus.errors import CorruptShard, MotionloomError
from corpus.remote import shard_transfer
from corpus.remote.bucket import Bucket
from corpus.remote.shard_transfer import download_shard, shard_writer, upload_shard
from corpus.store import verify_shard

COMMIT = "shards/aaaa/shard.json"


@pytest.fixture
def bucket(url) -> Bucket:
    return Bucket.open(url)


@pytest.fixture
def shard(tmp_path) -> Path:
    return write_small_shard(tmp_path / "ours", "aaaa")


@pytest.fixture
def other(tmp_path) -> Path:
    """Another version of this software, say, makes other bytes of the same clips."""
    return write_small_shard(tmp_path / "theirs", "aaaa", seed=1)


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder.parent).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def stored(bucket: Bucket) -> dict[str, bytes]:
    return {name.removeprefix("shards/"): bucket.read(name) or b"" for name in bucket.list("shards")}


def upload_until(monkeypatch, bucket: Bucket, shard: Path, writes: int) -> None:
    """An upload that dies before its next write."""
    with death_after(monkeypatch, writes), pytest.raises(Died):
        upload_shard(bucket, shard)


def test_a_shard_in_the_bucket_is_the_folder_byte_for_byte_and_comes_back_so(bucket, shard, tmp_path):
    upload_shard(bucket, shard)
    assert stored(bucket) == contents(shard)
    back = tmp_path / "back" / "aaaa"
    back.mkdir(parents=True)
    download_shard(bucket, "aaaa", back)
    assert contents(back) == contents(shard) and not verify_shard(back)


def test_the_commit_is_the_last_object_written(bucket, shard, proxy):
    upload_shard(bucket, shard)
    puts = [path for method, path, _ in proxy.log if method == "PUT"]
    assert len(puts) == len(contents(shard)) and puts[-1].endswith("/aaaa/shard.json")


def test_an_upload_that_dies_at_any_write_leaves_no_shard_and_the_next_completes_it(bucket, shard, monkeypatch):
    for writes in range(len(contents(shard))):
        upload_until(monkeypatch, bucket, shard, writes)
        assert bucket.stamp(COMMIT) is None and len(bucket.list()) == writes
        upload_shard(bucket, shard)
        assert stored(bucket) == contents(shard)
        bucket.delete(bucket.list())


def test_what_another_version_left_behind_is_replaced(bucket, shard, other, monkeypatch):
    upload_until(monkeypatch, bucket, other, 4)
    upload_shard(bucket, shard)
    assert stored(bucket) == contents(shard)


def test_a_whole_shard_is_left_alone_even_one_of_other_bytes(bucket, shard, other):
    upload_shard(bucket, other)
    before = bucket.list()
    upload_shard(bucket, shard)
    assert bucket.list() == before and stored(bucket) == contents(other)


def test_a_damaged_shard_gives_way(bucket, shard, other, tmp_path):
    upload_shard(bucket, other)
    (tmp_path / "damage").write_bytes(b"?")
    bucket.replace("shards/aaaa/qpos/c/0/0", tmp_path / "damage")
    upload_shard(bucket, shard)
    assert stored(bucket) == contents(shard)


@pytest.mark.parametrize("seed", range(3))
def test_two_writers_racing_for_a_shard_both_end_well(seed, bucket, shard, other, monkeypatch, proxy):
    """After a predecessor that died half-way, with other bytes; and through faults."""
    upload_until(monkeypatch, bucket, other, 3)
    proxy.plan = now_and_then(0.15, seed)
    assert race(bucket, shard, Path(shutil.copytree(shard, shard.parents[1] / "twin" / "aaaa"))) == []
    proxy.plan = lambda *_: None
    assert stored(bucket) == contents(shard)


@pytest.mark.parametrize("seed", range(3))
def test_of_two_racing_versions_one_wins_whole(seed, bucket, shard, other, proxy):
    proxy.plan = now_and_then(0.15, seed)
    assert race(bucket, shard, other) == []
    proxy.plan = lambda *_: None
    assert stored(bucket) in (contents(shard), contents(other))


def race(bucket: Bucket, *shards: Path) -> list[BaseException]:
    """Upload all of them at once; gives the errors."""
    start, errors = threading.Barrier(len(shards)), []

    def upload(shard: Path) -> None:
        start.wait()
        try:
            upload_shard(Bucket(bucket.url), shard)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=upload, args=(shard,)) for shard in shards]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def test_one_that_never_gets_its_bytes_in_says_so(bucket, shard, other, monkeypatch):
    upload_shard(bucket, other)
    monkeypatch.setattr(shard_transfer, "_is_whole", lambda *_: False)
    monkeypatch.setattr(Bucket, "delete", lambda *_: None)
    with pytest.raises(MotionloomError, match="run one version at a time"):
        upload_shard(bucket, shard)


# --- arriving


@pytest.fixture
def back(tmp_path) -> Path:
    (tmp_path / "back" / "aaaa").mkdir(parents=True)
    return tmp_path / "back" / "aaaa"


def test_bytes_that_flipped_on_the_way_are_fetched_again_once(bucket, shard, back, proxy):
    upload_shard(bucket, shard)
    flipped = []

    def first_time(_: int, method: str, path: str) -> str | None:
        if method == "GET" and path.endswith("qpos/c/0/0") and not flipped:
            flipped.append(path)
            return "flip"
        return None

    proxy.plan = first_time
    download_shard(bucket, "aaaa", back)
    assert contents(back) == contents(shard) and proxy.faults == ["flip"]
    assert sum(m == "GET" and p.endswith("contact/c/0/0") for m, p, _ in proxy.log) == 1, "only what was wrong"


def test_bytes_that_are_wrong_in_the_bucket_are_refused_by_name(bucket, shard, back, proxy):
    upload_shard(bucket, shard)
    proxy.plan = lambda _, method, path: "flip" if method == "GET" and path.endswith("contact/c/0/0") else None
    with pytest.raises(CorruptShard, match=r"shards/aaaa/contact/c/0/0: its bytes are not those that were written"):
        download_shard(bucket, "aaaa", back)
    assert proxy.faults == ["flip", "flip"]


def test_a_lost_object_is_named(bucket, shard, back):
    upload_shard(bucket, shard)
    bucket.delete(["shards/aaaa/clips.parquet"])
    with pytest.raises(CorruptShard, match=r"aaaa/clips\.parquet"):
        download_shard(bucket, "aaaa", back)


def test_without_a_commit_there_is_no_shard(bucket, shard, back, monkeypatch):
    upload_until(monkeypatch, bucket, shard, 6)
    with pytest.raises(CorruptShard, match="aaaa: no such shard"):
        download_shard(bucket, "aaaa", back)


@pytest.mark.parametrize("name", ["../../elsewhere", "/etc/elsewhere", "a/../../b", "shard.json"])
def test_a_commit_cannot_write_outside_its_folder(name, bucket, shard, back):
    about = json.loads((shard / "shard.json").read_text())
    about["files"][name] = about["files"]["clips.parquet"]
    bucket.create(COMMIT, (json.dumps(about, indent=1, sort_keys=True) + "\n").encode())
    with pytest.raises(CorruptShard, match="lies elsewhere"):
        download_shard(bucket, "aaaa", back)


def test_a_commit_that_cannot_be_read_is_one_line_with_its_url(bucket, back):
    bucket.create(COMMIT, b"{}")
    with pytest.raises(CorruptShard, match=f"^{bucket.url}/shards/aaaa: no readable shard.json"):
        download_shard(bucket, "aaaa", back)


# --- writing


def test_the_writer_leaves_nothing_on_this_machine(bucket, shard, tmp_path, monkeypatch):
    monkeypatch.setattr(shard_transfer.tempfile, "tempdir", str(tmp_path / "scratch"))
    from corpus.store import Shard

    whole = Shard.open(shard)
    clip, segment = whole.clips.to_pylist()[0], whole.segments.to_pylist()[0]
    from corpus.motion import RobotMotion

    with shard_writer(bucket.url, "aaaa", RECIPE) as writer:
        writer.add(clip, [segment], RobotMotion(whole.qpos, 50.0, whole.contact))
        writer.commit()
    assert stored(bucket) == contents(shard)
    with pytest.raises(Died), shard_writer(bucket.url, "bbbb", RECIPE):
        raise Died
    assert list((tmp_path / "scratch").iterdir()) == [] and set(bucket.list()) == set(bucket.list("shards/aaaa"))


def test_a_full_disk_names_the_temporary_folder(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(shard_transfer.tempfile, "tempdir", str(tmp_path))
    full = pytest.raises(MotionloomError, match=f"{tmp_path}: the disk is full.*TMPDIR")
    with full, shard_writer(bucket.url, "aaaa", RECIPE):
        raise OSError(28, "No space left on device")
