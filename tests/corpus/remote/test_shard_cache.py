"""A corpus on object storage reads like one in a folder, through a cache that keeps its limit and can be shared."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from s3_server import now_and_then
from small_corpus import write_small_corpus, write_small_shard

from corpus.catalog import Corpus, fold
from corpus.errors import CorruptShard, MotionloomError
from corpus.loader import batches, open_windows
from corpus.loading.rotating import RotatingSampler
from corpus.loading.sampler import Sampler
from corpus.remote.bucket import Bucket
from corpus.remote.shard_cache import ShardCache

SHARDS = ("1111", "2222", "3333", "4444")
LIMIT_GB = 250e3 / 1e9
"""Room for two of the shards, of some 100 kB each."""


@pytest.fixture
def local(tmp_path) -> Path:
    return write_small_corpus(tmp_path / "local", *SHARDS)


@pytest.fixture
def stored(local, url, proxy) -> str:
    """The URL of a copy on object storage."""
    publish(local, url)
    proxy.log.clear()
    return url


@pytest.fixture
def cache(tmp_path) -> Path:
    return tmp_path / "cache"


def publish(folder: Path, url: str) -> None:
    bucket = Bucket.open(url)
    for path in (p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if bucket.read(name) != path.read_bytes():
            bucket.replace(name, path)


def in_cache(cache: Path) -> set[str]:
    return {path.name for path in cache.glob("*/read/shards/*")}


def size(cache: Path) -> int:
    return sum(p.stat().st_size for p in cache.glob("*/read/shards/**/*") if p.is_file())


def same(corpus: Corpus, local: Path) -> bool:
    whole = Corpus.open(local)
    return all(
        np.array_equal(corpus.motion(n).qpos, whole.motion(n).qpos)
        and np.array_equal(corpus.motion(n).contact, whole.motion(n).contact)
        for n in range(len(whole.kept))
    )


def shard_gets(proxy) -> list[str]:
    return [path for method, path, _ in proxy.log if method == "GET" and "/shards/" in path]


# --- reading


def test_it_reads_as_a_folder_does(stored, local, cache):
    corpus, whole = Corpus.open(stored, cache=cache), Corpus.open(local)
    assert corpus.about == whole.about and corpus.kept.equals(whole.kept)
    assert corpus.clips.collect().equals(whole.clips.collect())
    assert corpus.segments.collect().equals(whole.segments.collect())
    assert same(corpus, local)
    options = {"batch_size": 16, "window": 20, "seed": 3, "steps": 4}
    for ours, theirs in zip(batches(corpus, **options), batches(whole, **options), strict=True):
        assert all(np.array_equal(value, getattr(theirs, name)) for name, value in vars(ours).items())


@pytest.mark.parametrize("mode", ["mapped", "rotating"])
def test_batches_are_the_same_through_a_cache_that_holds_half_of_the_corpus(stored, local, cache, mode):
    corpus, whole = Corpus.open(stored, cache=cache, cache_limit=LIMIT_GB), Corpus.open(local)
    options = {"batch_size": 16, "window": 20, "seed": 3, "steps": 30, "mode": mode, "resident": 2, "stay": 3}
    for ours, theirs in zip(batches(corpus, **options), batches(whole, **options), strict=True):
        assert all(np.array_equal(value, getattr(theirs, name)) for name, value in vars(ours).items())
    assert len(in_cache(cache)) < len(SHARDS)


def test_a_corpus_that_its_cache_cannot_hold_rotates_by_itself(stored, cache):
    options = {"batch_size": 16, "window": 20, "seed": 3}
    kinds = [
        type(open_windows(Corpus.open(stored, cache=cache, cache_limit=limit), **options).sampler)
        for limit in (1e-5, 1.0)
    ]
    assert kinds == [RotatingSampler, Sampler]


def test_what_is_not_asked_for_is_not_downloaded_and_nothing_twice(stored, local, cache, proxy):
    corpus = Corpus.open(stored, cache=cache)
    assert shard_gets(proxy) == []
    for _ in range(3):
        _ = corpus.motion(1).qpos
    assert in_cache(cache) == {"2222"}
    assert same(corpus, local) and same(Corpus.open(stored, cache=cache), local)
    files = [p for p in (local / "shards").rglob("*") if p.is_file()]
    assert len(shard_gets(proxy)) == len(set(shard_gets(proxy))) == len(files)


def test_tables_are_fetched_anew_only_when_they_have_changed(stored, local, cache, proxy):
    Corpus.open(stored, cache=cache)
    proxy.log.clear()
    Corpus.open(stored, cache=cache)
    assert not [path for method, path, _ in proxy.log if method == "GET" and "list-type" not in path]
    write_small_shard(local / "shards", "5555")
    fold(local)
    publish(local, stored)
    corpus = Corpus.open(stored, cache=cache)
    assert len(corpus.kept) == 5 and same(corpus, local)


def test_a_shard_that_was_built_again_since_is_not_read_from_the_cache(stored, local, cache, proxy):
    assert same(Corpus.open(stored, cache=cache), local)
    shutil.rmtree(local / "shards" / "2222")
    write_small_shard(local / "shards", "2222", frames=290, seed=1)
    fold(local)
    publish(local, stored)
    proxy.log.clear()
    assert same(Corpus.open(stored, cache=cache), local)
    assert shard_gets(proxy) and all("/2222/" in path for path in shard_gets(proxy))


def test_reading_gets_through_faults(stored, local, cache, proxy):
    proxy.plan = now_and_then(0.25, 1)
    assert same(Corpus.open(stored, cache=cache), local)
    assert len(proxy.faults) >= 5


def test_the_same_url_at_another_endpoint_is_another_corpus(stored, cache, monkeypatch):
    Corpus.open(stored, cache=cache)
    monkeypatch.setenv("AWS_ENDPOINT_URL", os.environ["AWS_ENDPOINT_URL"].replace("127.0.0.1", "localhost"))
    Corpus.open(stored, cache=cache)
    assert len(list(cache.glob("*/read"))) == 2


def test_the_cache_lies_where_caches_lie(stored, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert Corpus.open(stored).path.is_relative_to(tmp_path / "xdg" / "motionloom")


# --- the limit


def test_a_cache_smaller_than_the_corpus_reads_it_all_and_keeps_its_limit(stored, local, cache):
    corpus, whole = Corpus.open(stored, cache=cache, cache_limit=LIMIT_GB), Corpus.open(local)
    for number in np.random.default_rng(0).integers(0, 4, 30).tolist():
        assert np.array_equal(corpus.motion(number).qpos, whole.motion(number).qpos)
        assert size(cache) <= LIMIT_GB * 1e9 and len(in_cache(cache)) <= 2
    assert not list(cache.rglob(".tmp-*"))


def test_what_was_used_longest_ago_gives_way(stored, cache):
    corpus = Corpus.open(stored, cache=cache, cache_limit=LIMIT_GB)
    for number in (0, 1, 0, 2):
        corpus.motion(number)
    assert in_cache(cache) == {"1111", "3333"}


def test_a_limit_below_one_shard_still_gives_the_one_asked_for(stored, local, cache):
    corpus = Corpus.open(stored, cache=cache, cache_limit=0)
    assert same(corpus, local) and len(in_cache(cache)) == 1


def test_frames_stay_readable_after_their_shard_was_evicted_and_are_then_let_go(stored, local, cache):
    corpus = Corpus.open(stored, cache=cache, cache_limit=0)
    first = corpus.motion(0)
    corpus.motion(1)
    assert in_cache(cache) == {"2222"}
    assert np.array_equal(first.qpos, Corpus.open(local).motion(0).qpos)
    del first
    assert not [line for line in Path("/proc/self/maps").read_text().splitlines() if "/1111/" in line]


def test_corpora_share_a_cache_and_its_limit(stored, local, cache):
    other = f"{stored}-2"
    publish(local, other)
    Corpus.open(stored, cache=cache, cache_limit=LIMIT_GB).motion(0)
    for number in (1, 2):
        Corpus.open(other, cache=cache, cache_limit=LIMIT_GB).motion(number)
    assert in_cache(cache) == {"2222", "3333"}


# --- several processes


READ = """
import sys
from pathlib import Path
import numpy as np
from corpus.catalog import Corpus
corpus = Corpus.open(sys.argv[1], cache=Path(sys.argv[2]), cache_limit=float(sys.argv[3]))
whole = Corpus.open(sys.argv[4])
for number in np.random.default_rng(int(sys.argv[5])).integers(0, 4, 40).tolist():
    assert np.array_equal(corpus.motion(number).qpos, whole.motion(number).qpos)
"""


def readers(stored, cache, local, *, limit: float, seeds: range) -> list[subprocess.Popen]:
    arguments = [stored, str(cache), str(limit), str(local)]
    return [subprocess.Popen([sys.executable, "-c", READ, *arguments, str(seed)]) for seed in seeds]


def test_processes_that_want_the_same_shards_download_each_once(stored, local, cache, proxy):
    assert [process.wait() for process in readers(stored, cache, local, limit=1, seeds=range(3))] == [0, 0, 0]
    assert len(shard_gets(proxy)) == len(set(shard_gets(proxy)))


def test_processes_that_evict_each_others_shards_read_on(stored, local, cache):
    assert [process.wait() for process in readers(stored, cache, local, limit=LIMIT_GB, seeds=range(3))] == [0, 0, 0]
    assert size(cache) <= LIMIT_GB * 1e9


def test_what_a_killed_reader_left_is_swept(stored, local, cache):
    corpus = Corpus.open(stored, cache=cache)
    for name in (".tmp-1111", ".tmp-gone-4444-ab"):
        (corpus.path / "shards" / name / "qpos").mkdir(parents=True)
        (corpus.path / "shards" / name / "qpos" / "half").write_bytes(b"?")
    assert same(corpus, local) and in_cache(cache) == set(SHARDS)


def test_a_corpus_sent_to_another_process_takes_its_url_and_cache_along(stored, local, cache):
    corpus = Corpus.open(stored, cache=cache, cache_limit=LIMIT_GB)
    _ = corpus.motion(0)
    sent = pickle.dumps(corpus)
    again = pickle.loads(sent)
    assert len(sent) < 1000 and again.shards == corpus.shards and same(again, local)


def test_a_forked_process_reads_too(stored, local, cache):
    """obstore's threads do not survive a fork, so a fresh process fetches for it; torch's loaders fork by default."""
    corpus, whole = Corpus.open(stored, cache=cache), Corpus.open(local)
    numbers = [corpus.kept, corpus.shard_of, corpus.row, corpus.frames, corpus._frames_of_shard]
    expected = [whole.motion(n).qpos for n in range(2)]

    def read() -> None:
        assert len(numbers) == 5
        os._exit(0 if all(np.array_equal(corpus.motion(n).qpos, expected[n]) for n in range(2)) else 1)

    process = multiprocessing.get_context("fork").Process(target=read)
    process.start()
    process.join(60)
    assert process.exitcode == 0 and in_cache(cache) == {"1111", "2222"}


# --- damage


def test_a_shard_damaged_in_the_cache_is_fetched_again(stored, local, cache):
    corpus = Corpus.open(stored, cache=cache)
    _ = corpus.motion(0)
    (corpus.path / "shards" / "1111" / "qpos" / "c" / "0" / "0").write_bytes(b"?")
    assert same(Corpus.open(stored, cache=cache), local)


def test_bytes_that_never_arrive_as_written_are_an_error_and_nothing_is_kept(stored, cache, proxy):
    corpus = Corpus.open(stored, cache=cache)
    proxy.plan = lambda _, method, path: "flip" if method == "GET" and path.endswith("2222/qpos/c/0/0") else None
    with pytest.raises(CorruptShard, match=f"^{stored}/shards/2222/qpos/c/0/0: its bytes are not those"):
        corpus.motion(1)
    assert proxy.faults == ["flip", "flip"] and "2222" not in in_cache(cache)


def test_what_is_no_corpus_says_so_by_its_url(url, stored, cache):
    with pytest.raises(MotionloomError, match=f"^{url}/nowhere is no corpus"):
        Corpus.open(f"{url}/nowhere", cache=cache)
    Bucket(stored).delete(Bucket(stored).list("catalog"))
    with pytest.raises(MotionloomError, match=f"^{stored} has no catalog yet"):
        Corpus.open(stored, cache=cache)


def test_a_url_that_has_been_a_path_is_an_error_that_says_how(tmp_path):
    with pytest.raises(MotionloomError, match="pass object storage as text"):
        Corpus.open(Path("s3://bucket/corpus"))


def test_a_fresh_process_tells_its_error_in_a_line(stored, cache, proxy, monkeypatch):
    shards = ShardCache.open(stored, cache)
    monkeypatch.setattr("corpus.remote.object_store.forked", lambda: True)
    with pytest.raises(MotionloomError, match=f"^{stored}/shards/9999: no such shard"):
        shards.fetch("9999")
