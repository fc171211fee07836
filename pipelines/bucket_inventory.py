"""What a corpus on object storage holds and whether it is whole, every byte of it: behind `loom info` and `loom verify`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from corpus.bucket import Bucket, Stamp, concurrently
from corpus.mirror import Mirror, cache_folder
from corpus.scratch import scratch
from corpus.shard_transfer import COMMIT
from corpus.store import verify_shard
from pipelines import inventory


def tables(url: str, cache: Path | None = None) -> Path:
    """A local folder with the corpus's description, newest plan and catalog, as they are now."""
    mirror = Mirror.open(url, cache, "read")
    mirror.pull_tables()
    return mirror.folder


def troubles(url: str, cache: Path | None = None) -> Iterator[str]:
    """Everything that is wrong with the corpus, a line each. Each shard is downloaded anew, checked and forgotten."""
    folder, bucket = tables(url, cache), Bucket.open(url)
    shards: dict[str, dict[str, Stamp]] = {}
    for name, stamp in bucket.list("shards").items():
        shards.setdefault(name.split("/")[1], {})[name] = stamp
    finished = {shard for shard, files in shards.items() if f"shards/{shard}/{COMMIT}" in files}
    for shard in sorted(finished):
        with scratch(cache_folder(cache), "verify") as place:
            shutil.copyfile(folder / "corpus.json", place / "corpus.json")
            _download(bucket, shards[shard], place)
            for line in verify_shard(place / "shards" / shard):
                told = line.replace(str(place), bucket.url)
                yield told if shard in told else f"{shard}: {told}"
    yield from (line.replace(str(folder), bucket.url) for line in inventory.table_troubles(folder, finished))


def _download(bucket: Bucket, files: dict[str, Stamp], place: Path) -> None:
    def fetch(name: str) -> None:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        bucket.download(name, place / name, files[name].size)

    concurrently(fetch, files)
