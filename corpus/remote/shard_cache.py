"""Shards of a corpus on object storage, downloaded when first asked for; the least recently used give way to a limit.

Several processes may share a cache, and a shard that one evicts stays readable to those that have it mapped.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from corpus.errors import CorruptShard, MotionloomError
from corpus.remote import object_store, scratch
from corpus.remote.bucket import Bucket
from corpus.remote.mirror import Mirror, cache_folder, remove_whole
from corpus.remote.shard_transfer import COMMIT, download_shard
from corpus.store import Shard

LIMIT_GB = 100.0
"""Size of the cache where no other is named [10⁹ bytes]: the shards of all corpora in it."""


@dataclass(frozen=True)
class ShardCache:
    """The shards of one corpus on object storage."""

    url: str
    root: Path
    """The whole cache, which other corpora may share."""
    folder: Path
    """This corpus in it, laid out as a corpus is."""
    limit: int
    """[bytes]"""
    _used: set[str] = field(default_factory=set, compare=False, repr=False)

    @classmethod
    def open(cls, url: str, cache: Path | None = None, limit_gb: float | None = None) -> ShardCache:
        """Brings over the corpus's tables; shards come as they are asked for."""
        mirror = Mirror.open(url, cache, "read")
        mirror.pull_tables()
        limit = int((LIMIT_GB if limit_gb is None else limit_gb) * 1e9)
        return cls(mirror.bucket.url, cache_folder(cache), mirror.folder, limit)

    def shard(self, name: str) -> Shard:
        """The shard, opened and mapped."""
        target = self.folder / "shards" / name
        for _ in range(3):
            self.fetch(name)
            try:
                with scratch.held(self.root / ".locks"):
                    shard = Shard.open(target)
                    # Mapped while nobody can evict it; what is mapped stays.
                    _ = shard.qpos, shard.contact
                    os.utime(target)
                    return shard
            except CorruptShard:
                # Evicted between the two steps, or damaged here: what lies in the bucket was whole when it arrived.
                remove_whole(target)
        raise CorruptShard(f"{self.url}/shards/{name}: it does not stay in the cache {self.root}.")

    def note_use(self, name: str) -> None:
        """An opened shard was used again: it is told at the next eviction."""
        self._used.add(name)

    def fetch(self, name: str) -> None:
        """See to it that a shard lies in the cache, whole; several processes that want it download it once."""
        shards = self.folder / "shards"
        if (shards / name).exists():
            return
        if object_store.forked():
            _fetch_elsewhere(self, name)
            return
        arriving = shards / f".tmp-{name}"
        with scratch.held(arriving):
            if not (shards / name).exists():
                _empty(arriving)
                self._download(name, arriving)
                with scratch.held(self.root / ".locks"):
                    arriving.rename(shards / name)
                    self._evict(shards / name)
        scratch.sweep(iter([arriving]))

    def _download(self, name: str, folder: Path) -> None:
        there = Bucket(self.url)
        stamp = there.stamp(f"shards/{name}/{COMMIT}")
        download_shard(there, name, folder)
        if stamp is not None:
            os.utime(folder / COMMIT, ns=(stamp.mtime_ns, stamp.mtime_ns))

    def _evict(self, newest: Path) -> None:
        """Remove what was used longest ago until the rest is within the limit."""
        for name in tuple(self._used):
            _touch(self.folder / "shards" / name)
        self._used.clear()
        found = sorted(
            ((path, *_age_and_size(path)) for path in self._all_shards() if path != newest), key=lambda f: f[1]
        )
        total = sum(size for _, _, size in found) + _age_and_size(newest)[1]
        for path, _, size in found:
            if total <= self.limit:
                return
            remove_whole(path)
            total -= size

    def _all_shards(self) -> Iterator[Path]:
        for shards in self.root.glob("*/read/shards"):
            # Of processes that were killed: while they arrived, or while they were removed.
            scratch.sweep(shards.glob(".tmp-*"))
            yield from (path for path in shards.iterdir() if not path.name.startswith("."))

    def __reduce__(self):
        return ShardCache, (self.url, self.root, self.folder, self.limit)


def _fetch_elsewhere(cache: ShardCache, name: str) -> None:
    """Object storage is beyond the reach of a forked process, not of a fresh one."""
    code = "import json, sys; from corpus.remote.shard_cache import fetch_in_fresh_process as f; sys.exit(f(json.loads(sys.argv[1])))"
    about = json.dumps([cache.url, str(cache.root), str(cache.folder), cache.limit, name])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", code, about], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise MotionloomError((done.stderr.strip().splitlines() or ["the download failed"])[-1])


def fetch_in_fresh_process(about: list) -> str | None:
    """Gives the error, in a line; None where all is well."""
    url, root, folder, limit, name = about
    try:
        ShardCache(url, Path(root), Path(folder), limit).fetch(name)
    except MotionloomError as error:
        return str(error)
    return None


def _age_and_size(shard: Path) -> tuple[int, int]:
    """When it was last used [ns], and how large it is [bytes]; zeros where it has just gone."""
    try:
        return shard.stat().st_mtime_ns, sum(p.stat().st_size for p in shard.rglob("*") if p.is_file())
    except FileNotFoundError:
        return 0, 0


def _touch(path: Path) -> None:
    if path.exists():
        os.utime(path)


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
