"""The verbs on object storage hold under every fault of network and server, and what remains is told in a line."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import pytest
from s3_server import PASSING

from corpus.errors import MotionloomError
from corpus.remote import bucket as module
from corpus.remote import object_store
from corpus.remote.bucket import Bucket, concurrently, is_url


@pytest.fixture
def bucket(url) -> Bucket:
    return Bucket.open(url)


@pytest.fixture
def impatient(monkeypatch):
    for name in ("PATIENCE_S", "FIRST_PATIENCE_S"):
        monkeypatch.setattr(object_store, name, 0.5)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


# --- the verbs


def test_an_object_is_created_once(bucket):
    assert bucket.read("a/b") is None and bucket.stamp("a/b") is None
    assert bucket.create("a/b", b"one")
    assert bucket.create("a/b", b"one"), "the same content is a twin's"
    assert not bucket.create("a/b", b"two") and not bucket.create("a/b", b"longer")
    assert bucket.read("a/b") == b"one"


def test_names_are_relative_and_a_prefix_is_a_folder(bucket):
    for name in ("corpus.json", "shards/a/x", "shards/ab/y"):
        bucket.create(name, name.encode())
    assert set(bucket.list()) == {"corpus.json", "shards/a/x", "shards/ab/y"}
    assert set(bucket.list("shards/a")) == {"shards/a/x"} and bucket.list("nothing") == {}
    assert bucket.top() == {"corpus.json", "shards"}
    assert bucket.list()["shards/a/x"] == bucket.stamp("shards/a/x")


def test_what_is_replaced_is_another_version_even_of_the_same_size_in_the_same_second(bucket, tmp_path):
    stamps = [bucket.replace("a", write(tmp_path / "a", content)) for content in (b"one", b"two")]
    assert bucket.read("a") == b"two" and stamps[1] == bucket.stamp("a")
    assert stamps[0].size == stamps[1].size and stamps[0].mtime_ns != stamps[1].mtime_ns
    assert not bucket.download("a", tmp_path / "b", 3, stamps[0].etag)
    assert bucket.download("a", tmp_path / "b", 3, stamps[1].etag) and (tmp_path / "b").read_bytes() == b"two"


def test_what_is_deleted_is_gone_and_deleting_it_again_is_no_error(bucket):
    bucket.create("a", b"one")
    for _ in range(2):
        bucket.delete(["a"])
        assert bucket.list() == {}


def test_large_objects_go_and_come_in_pieces(bucket, tmp_path, monkeypatch, proxy):
    monkeypatch.setattr(module, "PIECE", 1 << 20)
    monkeypatch.setattr(module, "PART", 5 << 20)
    content = bytes(range(256)) * (11 << 12)
    bucket.replace("a", write(tmp_path / "a", content))
    assert bucket.download("a", tmp_path / "b", len(content), bucket.stamp("a").etag)
    assert (tmp_path / "b").read_bytes() == content
    assert sum(method == "GET" for method, _, _ in proxy.log) >= 11
    assert bucket.download("a", tmp_path / "empty", 0) and (tmp_path / "empty").read_bytes() == b""


def test_a_bucket_travels_to_another_process_as_its_url(bucket):
    bucket.create("a", b"one")
    sent = pickle.loads(pickle.dumps(bucket))
    assert sent == bucket and sent.read("a") == b"one"


def test_a_folder_can_stand_for_object_storage(tmp_path):
    """obstore's other stores go the same way."""
    bucket = Bucket.open(f"file://{tmp_path}/there")
    assert bucket.create("a/b", b"one") and not bucket.create("a/b", b"two") and bucket.create("a/b", b"one")
    assert set(bucket.list()) == {"a/b"} and bucket.top() == {"a"}
    bucket.replace("a/b", write(tmp_path / "x", b"three"))
    assert bucket.read("a/b") == b"three"


# --- faults


@pytest.mark.parametrize("fault", PASSING)
def test_every_verb_gets_through_a_fault_at_every_other_request(fault, bucket, proxy, tmp_path):
    proxy.plan = lambda number, *_: fault if number % 2 == 0 else None
    content = b"some content" * 100
    assert bucket.create("a", content) and bucket.read("a") == content
    assert not bucket.create("a", b"other")
    bucket.replace("b", write(tmp_path / "b", content))
    assert bucket.download("b", tmp_path / "c", len(content)) and (tmp_path / "c").read_bytes() == content
    assert set(bucket.list()) == {"a", "b"} and bucket.stamp("a").size == len(content)
    bucket.delete(["a"])
    assert bucket.read("a") is None
    assert len(proxy.faults) >= 5


def test_a_conflict_that_left_nothing_behind_is_tried_again(bucket, proxy):
    proxy.plan = lambda number, method, _: (
        "conflict" if method == "PUT" and proxy.faults.count("conflict") < 3 else None
    )
    assert bucket.create("a", b"one") and bucket.read("a") == b"one"
    assert proxy.faults == ["conflict"] * 3


def test_of_many_at_once_one_creates_it(bucket):
    contents = [str(n).encode() for n in range(16)]
    won = concurrently(lambda content: bucket.create("a", content), contents)
    assert sum(won) == 1 and bucket.read("a") == contents[won.index(True)]


# --- errors, in a line


def line(call) -> str:
    with pytest.raises(MotionloomError) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    return str(caught.value)


def test_a_bucket_that_is_not_there(proxy, url, tmp_path):
    nowhere = "s3://no-such-bucket/corpus"
    assert line(lambda: Bucket.open(nowhere)) == f"{nowhere}: there is no such bucket."
    for call in (lambda b: b.read("a"), lambda b: b.create("a", b""), lambda b: b.list(), lambda b: b.delete(["a"])):
        assert line(lambda call=call: call(Bucket(nowhere))) == f"{nowhere}: there is no such bucket."


def test_credentials_that_are_not_accepted(proxy, url):
    proxy.plan = lambda *_: "denied"
    told = line(lambda: Bucket.open(url))
    assert told.startswith(f"{url}: permission denied (AccessDenied): check AWS_ACCESS_KEY_ID")
    assert len(proxy.log) == 1, "asking again would not help"
    for call in (lambda b: b.read("a"), lambda b: b.stamp("a"), lambda b: b.create("a", b"")):
        assert "permission denied" in line(lambda call=call: call(Bucket(url)))


def test_no_credentials_at_all(url, monkeypatch, impatient):
    """A machine in the cloud gives some to those who have none; this one does not."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    assert line(lambda: Bucket.open(url)).startswith(f"{url}: no credentials: set AWS_ACCESS_KEY_ID")


def test_nobody_answers(url, monkeypatch, impatient):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    told = f"{url}: no connection to http://127.0.0.1:9: check the network and AWS_ENDPOINT_URL"
    for call in (lambda: Bucket.open(url), lambda: Bucket(url).create("a", b""), lambda: Bucket(url).list()):
        assert line(call).startswith(told)


def test_a_server_that_goes_on_refusing(bucket, proxy, impatient):
    proxy.plan = lambda *_: "slow down"
    assert "the server refuses (503 SlowDown); run the same command later" in line(lambda: bucket.read("a"))


def test_a_server_that_is_busy_at_first_is_waited_for(url, proxy):
    proxy.plan = lambda number, *_: "slow down" if number < 9 else None
    bucket = Bucket.open(url)
    assert bucket.create("a", b"one") and bucket.read("a") == b"one"


@pytest.mark.parametrize("url", ["s4://bucket/corpus", "s3://", "nonsense://"])
def test_a_url_that_nobody_knows(url):
    assert "expected something like s3://bucket/folder" in line(lambda: Bucket.open(url))


def test_without_obstore_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore", None)
    for call in (lambda: Bucket.open("s3://bucket/corpus"), lambda: Bucket("s3://bucket/corpus").read("a")):
        assert "install the extra `s3`" in line(call)


def test_a_url_that_has_been_a_path_is_told_from_a_folder():
    assert is_url("s3://bucket/corpus") and is_url("file:///place")
    for folder in ("corpus", "/a/corpus", "a:b/c", Path("x"), "C:/corpus"):
        assert not is_url(folder)
    assert "pass object storage as text, s3://…" in line(lambda: is_url(Path("s3://bucket/corpus")))


def test_the_first_error_of_many_ends_them_all():
    done = []

    def work(number: int) -> None:
        if number == 3:
            raise MotionloomError("three")
        done.append(number)

    assert line(lambda: concurrently(work, range(1000))) == "three" and len(done) < 1000
