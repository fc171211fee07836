"""What a corpus on object storage holds and whether it is whole, every byte of it: behind `loom info` and `loom verify`."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from corpus.remote.bucket import Bucket, Stamp, concurrently
from corpus.remote.mirror import Mirror, cache_folder
from corpus.remote.scratch import scratch
from corpus.remote.shard_transfer import COMMIT
from corpus.store import verify_shard
from pipelines import inventory

ABANDONED_S = 86400.0
"""A shard to which nothing has been added for this long is nobody's any more [s]."""


def tables(url: str, cache: Path | None = None) -> Path:
    """A local folder with the corpus's description, newest plan and catalog, as they are now."""
    mirror = Mirror.open(url, cache, "read")
    mirror.pull_tables()
    return mirror.folder


def troubles(url: str, cache: Path | None = None) -> Iterator[str]:
    """Everything that is wrong with the corpus, a line each. Each shard is downloaded anew, checked and forgotten."""
    folder, bucket = tables(url, cache), Bucket.open(url)
    finished = {shard for shard, files in _objects_by_shard(bucket).items() if f"shards/{shard}/{COMMIT}" in files}
    for _, lines in check_shards(bucket, folder, cache):
        yield from lines
    yield from (line.replace(str(folder), bucket.url) for line in inventory.table_troubles(folder, finished))


def check_shards(bucket: Bucket, tables: Path, cache: Path | None = None) -> Iterator[tuple[str, list[str]]]:
    """Every shard that is there, and what is wrong with it, a line each. `tables` is a local folder with its corpus.json."""
    for shard, files in sorted(_objects_by_shard(bucket).items()):
        if f"shards/{shard}/{COMMIT}" not in files:
            continue
        with scratch(cache_folder(cache), "verify") as place:
            shutil.copyfile(tables / "corpus.json", place / "corpus.json")
            _download(bucket, files, place)
            told = [line.replace(str(place), bucket.url) for line in verify_shard(place / "shards" / shard)]
        yield shard, [line if shard in line else f"{shard}: {line}" for line in told]


def half_made(bucket: Bucket) -> Iterator[tuple[str, int]]:
    """Objects of shards that were never committed, with their sizes; not those that a writer may still be about."""
    for shard, files in sorted(_objects_by_shard(bucket).items()):
        newest = max(stamp.time_s for stamp in files.values())
        if f"shards/{shard}/{COMMIT}" not in files and time.time() - newest > ABANDONED_S:
            yield from ((name, stamp.size) for name, stamp in sorted(files.items()))


def _objects_by_shard(bucket: Bucket) -> dict[str, dict[str, Stamp]]:
    shards: dict[str, dict[str, Stamp]] = {}
    for name, stamp in bucket.list("shards").items():
        shards.setdefault(name.split("/")[1], {})[name] = stamp
    return shards


def _download(bucket: Bucket, files: dict[str, Stamp], place: Path) -> None:
    def fetch(name: str) -> None:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        bucket.download(name, place / name, files[name].size)

    concurrently(fetch, files)
