"""A corpus built on object storage is that of a folder, byte for byte, whatever fails or dies on the way."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
from s3_server import Died, death_after, now_and_then

from corpus.errors import MotionloomError, RecipeMismatch
from corpus.remote.bucket import Bucket
from corpus.remote.mirror import Mirror
from pipelines import bucket_inventory, cli, plan, upkeep
from pipelines import build as module
from pipelines.bucket_inventory import tables, troubles
from pipelines.build import build
from pipelines.place import locked
from pipelines.recipe import Recipe, with_choice

ROOT = Path(__file__).resolve().parents[2]
AS_IN_A_PROCESS_OF_ITS_OWN = plan.SMALL_SHARD_FRAMES


@pytest.fixture(scope="module")
def folder(tmp_path_factory, motion_folder) -> Path:
    return motion_folder(tmp_path_factory.mktemp("files") / "robot", 6)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    """Several shards from a few seconds of motion."""
    monkeypatch.setattr(plan, "SMALL_SHARD_FRAMES", 300)


@pytest.fixture(autouse=True)
def temporary_files(tmp_path, monkeypatch) -> Path:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path / "tmp"


@pytest.fixture
def local(folder, tmp_path) -> Path:
    assert build({"robot": folder}, tmp_path / "local", scheduler="inline").built_count >= 4
    return tmp_path / "local"


@pytest.fixture
def cache(tmp_path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def stored(folder, url, cache) -> str:
    """The URL of a whole corpus."""
    assert again(folder, url, cache).complete
    return url


@pytest.fixture
def same(download, corpus_digests, tmp_path):
    """Is what lies below a URL the same as a local corpus, byte for byte and name for name?"""

    def same(url: str, local: Path) -> bool:
        place = Path(tempfile.mkdtemp(dir=tmp_path)) / "corpus"
        return corpus_digests(download(url, place)) == corpus_digests(local)

    return same


def again(folder: Path, out: str, cache: Path, **options):
    return build({"robot": folder}, out, cache=cache, **{"scheduler": "inline", **options})


def writes(proxy) -> list[str]:
    return [path for method, path, _ in proxy.log if method in ("PUT", "POST", "DELETE")]


# --- the same corpus


def test_downloaded_it_is_the_corpus_of_a_folder_byte_for_byte(folder, local, url, cache, same, temporary_files):
    outcome = again(folder, url, cache)
    assert outcome.complete and outcome.built_count == outcome.shard_count >= 4
    assert same(url, local) and not list(temporary_files.iterdir())


def test_a_second_run_has_nothing_to_do_and_writes_and_fetches_nothing(folder, stored, cache, proxy, monkeypatch):
    proxy.log.clear()
    monkeypatch.setattr(module.executor, "run", lambda *_, **__: pytest.fail("should not be called"))
    outcome = again(folder, stored, cache)
    assert outcome.complete and outcome.built_count == 0
    assert not [path for path in writes(proxy) if not path.endswith(("corpus.json", "plans/00001.parquet"))]
    assert not [path for method, path, _ in proxy.log if method == "GET" and "/shards/" in path]


def test_another_machine_has_nothing_to_do_either(folder, local, stored, tmp_path, same):
    assert again(folder, stored, tmp_path / "another cache").built_count == 0 and same(stored, local)


def test_it_is_built_through_faults(folder, local, url, cache, same, proxy):
    proxy.plan = now_and_then(0.15, 5)
    assert again(folder, url, cache).complete
    assert len(set(proxy.faults)) >= 5
    proxy.plan = lambda *_: None
    assert same(url, local)


def test_new_files_add_shards_wherever_they_are_built(folder, url, tmp_path, same, standing_file):
    """As a folder grows, so does a bucket, by one client and then by another."""
    grown = tmp_path / "robot"
    shutil.copytree(folder, grown)
    for out in (tmp_path / "grown", url):
        build({"robot": folder}, out, scheduler="inline", cache=tmp_path / "one")
    standing_file(grown / "later.csv", 99)
    for out in (tmp_path / "grown", url):
        outcome = build({"robot": grown}, out, scheduler="inline", cache=tmp_path / "two")
        assert outcome.complete and outcome.built_count >= 1
    assert same(url, tmp_path / "grown")


def test_a_lost_shard_is_built_again_to_the_same_bytes(folder, local, stored, cache, same):
    bucket = Bucket(stored)
    shard = sorted(path.name for path in (local / "shards").iterdir())[1]
    bucket.delete(bucket.list(f"shards/{shard}"))
    assert again(folder, stored, cache).built_count == 1 and same(stored, local)


def test_a_lost_catalog_and_a_lost_plan_are_made_again(folder, local, stored, cache, same):
    bucket = Bucket(stored)
    bucket.delete(bucket.list("catalog"))
    assert again(folder, stored, cache).built_count == 0 and same(stored, local)
    bucket.delete(bucket.list("plans"))
    assert again(folder, stored, cache).built_count == 0
    assert {"plans/00001.parquet"} == set(bucket.list("plans"))


def test_what_was_changed_in_the_mirror_alone_is_forgotten(folder, local, stored, cache, same):
    """The bucket is the corpus; the mirror follows it."""
    (mirror,) = cache.glob("*/build")
    (mirror / "catalog" / "clips-00000.parquet").write_bytes(b"?")
    (mirror / "plans" / "00007.parquet").write_bytes(b"?")
    shutil.rmtree(next(iter((mirror / "shards").iterdir())))
    assert again(folder, stored, cache).built_count == 0 and same(stored, local)


# --- what dies on the way


def build_until(monkeypatch, folder: Path, url: str, cache: Path, count: int) -> bool:
    """Did a build come to its end before its client died at its next write?"""
    with death_after(monkeypatch, count):
        try:
            again(folder, url, cache)
        except Died:
            return False
    return True


@pytest.mark.slow
def test_killed_at_any_write_and_run_again_it_gives_the_same_bytes(folder, local, url, cache, same, monkeypatch):
    count, ends = 0, []
    while not ends or not ends[-1]:
        ends.append(build_until(monkeypatch, folder, url, cache, count))
        if not ends[-1]:
            assert again(folder, url, cache).complete and same(url, local)
            bucket = Bucket(url)
            bucket.delete(bucket.list())
            count += 1 if count < 3 else 11
    assert len(ends) >= 6


@pytest.mark.slow
def test_a_client_that_dies_again_and_again_gets_there(folder, local, url, cache, same, monkeypatch):
    rng = random.Random(3)
    while not build_until(monkeypatch, folder, url, cache, rng.randrange(30)):
        pass
    assert same(url, local)


def start(folder: Path, out: str, cache: Path, scheduler: str = "inline") -> subprocess.Popen:
    """A build in a process group of its own, quiet; "local" has two workers."""
    command = [sys.executable, "-m", "pipelines.cli", "build", "--source", f"robot={folder}", "--out", out]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    arguments = [*command, "--workers", "2", "--scheduler", scheduler, "--cache", str(cache)]
    environment = os.environ | {"TMPDIR": str(cache.parent / "tmp")}
    return subprocess.Popen(arguments, cwd=ROOT, start_new_session=True, env=environment, **quiet)


@pytest.mark.slow
def test_clients_and_workers_killed_in_the_midst_and_run_again_give_the_same_bytes(
    motion_folder, tmp_path, url, cache, same, proxy, temporary_files, monkeypatch
):
    monkeypatch.setattr(plan, "SMALL_SHARD_FRAMES", AS_IN_A_PROCESS_OF_ITS_OWN)
    folder = motion_folder(tmp_path / "large" / "robot", 8, seconds=200)
    build({"robot": folder}, tmp_path / "whole", scheduler="inline")
    # Slow enough to be struck in the midst of uploads.
    rng, kills = random.Random(11), 0
    proxy.plan = lambda _, method, __: "delay" if method == "PUT" else None
    for victim in ("client", "worker", "client"):
        process = start(folder, url, cache, "local" if victim == "worker" else "inline")
        wait_for_writes(process, proxy, rng.randrange(1, 8))
        kills += process.poll() is None
        if victim == "worker":
            kill_a_worker(process)
            time.sleep(rng.uniform(0, 1))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert kills >= 2
    assert start(folder, url, cache).wait(120) == 0
    assert same(url, tmp_path / "whole") and not list(temporary_files.glob(".tmp-*"))


def wait_for_writes(process: subprocess.Popen, proxy, count: int) -> None:
    """Until this run has written some objects of shards, or ended."""
    seen, deadline = len(proxy.log), time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if sum(method == "PUT" and "/shards/" in path for method, path, _ in proxy.log[seen:]) >= count:
            return
        time.sleep(0.01)


def kill_a_worker(process: subprocess.Popen) -> None:
    """SIGKILL to the process below the client that has worked most."""
    with contextlib.suppress(psutil.NoSuchProcess, ValueError):
        below = psutil.Process(process.pid).children(recursive=True)
        max(below, key=lambda p: sum(p.cpu_times()[:2])).kill()


# --- two clients


@pytest.mark.slow
def test_two_clients_at_once_end_well_or_say_run_again_and_the_bytes_are_right(
    folder, url, tmp_path, same, monkeypatch
):
    monkeypatch.setattr(plan, "SMALL_SHARD_FRAMES", AS_IN_A_PROCESS_OF_ITS_OWN)
    build({"robot": folder}, tmp_path / "whole", scheduler="inline")
    both = [start(folder, url, tmp_path / name / "cache") for name in ("one", "two")]
    assert {process.wait(120) for process in both} <= {0, 1}
    assert start(folder, url, tmp_path / "one" / "cache").wait(120) == 0
    assert same(url, tmp_path / "whole")


def test_of_two_clients_with_other_plans_the_second_is_told_to_run_again(
    folder, url, tmp_path, cache, monkeypatch, standing_file
):
    """Between this client's look at the bucket and its plan, another client publishes its own."""
    other = tmp_path / "robot"
    shutil.copytree(folder, other)
    standing_file(other / "more.csv", 77)
    make_plan = plan.make_plan

    def meanwhile(*arguments):
        monkeypatch.setattr(plan, "make_plan", make_plan)
        again(other, url, tmp_path / "their cache")
        return make_plan(*arguments)

    monkeypatch.setattr(plan, "make_plan", meanwhile)
    with pytest.raises(MotionloomError, match="another build has just begun there; run the same command again"):
        again(folder, url, cache)
    outcome = again(other, url, cache)
    assert outcome.complete and outcome.built_count == 0 and not list(troubles(url, cache))


def test_shards_that_another_client_finishes_meanwhile_are_in_the_catalog(
    folder, url, tmp_path, cache, monkeypatch, standing_file
):
    """… and its catalog, published in between, is not the last word."""
    other = tmp_path / "robot"
    shutil.copytree(folder, other)
    standing_file(other / "more.csv", 77)
    publish = Mirror.publish_catalog

    def meanwhile(mirror: Mirror) -> None:
        monkeypatch.setattr(Mirror, "publish_catalog", publish)
        again(other, url, tmp_path / "their cache")
        publish(mirror)

    monkeypatch.setattr(Mirror, "publish_catalog", meanwhile)
    again(folder, url, cache)
    assert not list(troubles(url, cache))


def test_another_recipe_is_refused_and_the_difference_named(folder, stored, tmp_path):
    with pytest.raises(RecipeMismatch, match=r"cut\.min_s"):
        again(folder, stored, tmp_path / "c", recipe=with_choice(Recipe(), "cut.min_s", "2"))


def test_two_builds_on_one_machine_do_not_meet(folder, stored, cache):
    (mirror,) = cache.glob("*/build")
    with locked(mirror), pytest.raises(MotionloomError, match="being built by another process"):
        again(folder, stored, cache)


def test_a_strangers_place_is_refused(folder, url, cache):
    Bucket(url).create("holiday/pictures", b"")
    with pytest.raises(MotionloomError, match=f"^{url} holds other things \\('holiday'\\)"):
        again(folder, url, cache)


# --- looking at it


def test_a_whole_corpus_has_no_troubles_and_every_byte_was_read(stored, cache, proxy, local):
    proxy.log.clear()
    assert list(troubles(stored, cache)) == []
    read = {path.partition("/corpus/")[2] for method, path, _ in proxy.log if method == "GET"}
    assert {p.relative_to(local).as_posix() for p in (local / "shards").rglob("*") if p.is_file()} <= read
    assert not list(cache.glob(".tmp-*"))


def test_what_is_damaged_lost_or_half_made_is_told_by_its_url(stored, cache, tmp_path):
    bucket = Bucket(stored)
    first, second, *_ = sorted({name.split("/")[1] for name in bucket.list("shards")})
    content = bytearray(bucket.read(f"shards/{first}/qpos/c/0/0") or b"")
    content[100] ^= 1
    (tmp_path / "damaged").write_bytes(content)
    bucket.replace(f"shards/{first}/qpos/c/0/0", tmp_path / "damaged")
    assert list(troubles(stored, cache)) == [
        f"{stored}/shards/{first}/qpos/c/0/0: its bytes are not those that were written."
    ]
    bucket.delete([f"shards/{second}/shard.json"])
    told = list(troubles(stored, cache))
    assert f"{second}: planned, but not there; run the build again" in told
    assert any(line.startswith(f"{second}: in the catalog but not") for line in told)


def spoil(bucket: Bucket, name: str, tmp_path: Path) -> None:
    content = bytearray(bucket.read(name) or b"")
    content[100] ^= 1
    (tmp_path / "damaged").write_bytes(content)
    bucket.replace(name, tmp_path / "damaged")


def test_what_is_damaged_is_mended_to_the_same_bytes(folder, local, stored, cache, same, tmp_path):
    bucket = Bucket(stored)
    first, second, *_ = sorted({name.split("/")[1] for name in bucket.list("shards")})
    spoil(bucket, f"shards/{first}/qpos/c/0/0", tmp_path)
    spoil(bucket, f"shards/{second}/clips.parquet", tmp_path)
    spoil(bucket, "catalog/segments-00000.parquet", tmp_path)
    done = upkeep.repair(stored, cache=cache)
    assert list(done.set_aside) == [first, second] and len(done.troubles) == 2
    done = upkeep.repair(stored, {"robot": folder}, cache=cache, scheduler="inline")
    assert not done.set_aside and not done.troubles and same(stored, local)


def test_a_corpus_there_grows_and_half_uploads_are_cleared_when_old(
    folder, stored, cache, motion_folder, tmp_path, monkeypatch
):
    more = motion_folder(tmp_path / "more", 2, first=60)
    assert upkeep.append(stored, {"robot": more}, cache=cache, scheduler="inline").built_count >= 1
    assert not list(troubles(stored, cache))
    bucket = Bucket(stored)
    bucket.create("shards/0123456789abcdef/qpos/c/0/0", b"x" * 1000)
    assert upkeep.collect_garbage(stored, delete=True, cache=cache) == []
    monkeypatch.setattr(bucket_inventory, "ABANDONED_S", -5.0)
    (found,) = upkeep.collect_garbage(stored, delete=True, cache=cache)
    assert (found.name, found.byte_count) == ("shards/0123456789abcdef/qpos/c/0/0", 1000)
    assert upkeep.collect_garbage(stored, delete=True, cache=cache) == [] and not list(troubles(stored, cache))


def test_the_command_builds_tells_and_verifies(folder, local, url, cache, capsys):
    source, kept = ["--source", f"robot={folder}"], ["--cache", str(cache)]
    assert cli.main(["build", *source, "--out", url, "--scheduler", "inline", *kept]) == 0
    assert f"see: loom info {url}" in capsys.readouterr().out
    told = []
    for arguments in (["info", url, *kept], ["info", str(local)]):
        assert cli.main(arguments) == 0
        told.append(capsys.readouterr().out)
    assert told[0] == told[1]
    assert cli.main(["verify", url, *kept]) == 0 and capsys.readouterr().out == f"{url}: whole\n"


def test_the_command_tells_its_errors_in_a_line(folder, url, cache, capsys):
    for command in (["info"], ["verify"], ["build", "--source", f"robot={folder}", "--out"]):
        assert cli.main([*command, "s3://no-such-bucket/corpus", "--cache", str(cache)]) == 1
        assert capsys.readouterr().err == "loom: s3://no-such-bucket/corpus: there is no such bucket.\n"
    assert cli.main(["info", url, "--cache", str(cache)]) == 1
    assert capsys.readouterr().err.startswith(f"loom: {url} is no corpus")


def test_the_tables_of_a_corpus_are_a_folder(stored, cache, local):
    folder = tables(stored, cache)
    for name in ("corpus.json", "catalog/clips-00000.parquet", "catalog/segments-00000.parquet", "plans/00001.parquet"):
        assert (folder / name).read_bytes() == (local / name).read_bytes()
