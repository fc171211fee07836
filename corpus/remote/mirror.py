"""A corpus on object storage as a local folder of the same layout, in which lies of it what has been needed.

Planning, folding and counting run on that folder as on any other; `pull` comes before, `publish_…` after. A file's time of
change says which version of its object it is, so nothing else has to be remembered, and what was changed here but not
published is fetched anew.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from corpus.errors import MotionloomError
from corpus.remote.bucket import Bucket, Stamp, concurrently
from corpus.remote.object_store import endpoint
from corpus.remote.shard_transfer import COMMIT
from corpus.store import ROW_FILES

log = logging.getLogger(__name__)

PLAN = re.compile(r"plans/(\d+)\.parquet")
TABLES = ("corpus.json", "plans/[0-9]*.parquet", "catalog/*")
"""What lies here but for the shards."""


@dataclass(frozen=True)
class Mirror:
    """A bucket, and the local folder that follows it. One process at a time may build in it."""

    bucket: Bucket
    folder: Path

    rows_only = True
    """Shards lie here without their frames."""

    @classmethod
    def open(cls, url: str, cache: Path | None, use: str) -> Mirror:
        """`use` keeps apart what is being built and what is being read: neither may see the other's changes."""
        bucket = Bucket.open(url)
        return cls(bucket, place_in_cache(bucket.url, cache) / use)

    @property
    def place(self) -> str:
        """Where the corpus itself lies: what people and workers call it."""
        return self.bucket.url

    def top(self) -> set[str]:
        """Names at the top of the corpus."""
        return self.bucket.top()

    def pull(self) -> None:
        """Bring over all that a build reads: what the corpus is, its newest plan, the catalog, every shard's rows."""
        there = self.bucket.list()
        shards = {name.split("/")[1] for name in there if name.startswith("shards/") and name.endswith(f"/{COMMIT}")}
        rows = {f"shards/{shard}/{file}" for shard in shards for file in (COMMIT, *ROW_FILES)}
        self._follow({name: there[name] for name in (*_tables(there), *rows) if name in there}, *TABLES, "shards/*/*")
        for path in (self.folder / "shards").glob("*"):
            if path.name not in shards:
                shutil.rmtree(path, ignore_errors=True)

    def pull_tables(self) -> None:
        """Bring over what the corpus is, its newest plan, and the catalog: all that is asked of it but frames."""
        listed = concurrently(self.bucket.list, ("catalog", "plans"))
        about = self.bucket.stamp("corpus.json")
        there = {**listed[0], **listed[1], **({"corpus.json": about} if about else {})}
        if about is None:
            raise MotionloomError(f"{self.place} is no corpus: it has no corpus.json. `loom build` makes one.")
        wanted = {name: there[name] for name in _tables(there)}
        if any(not is_version(self.folder / name, stamp) for name, stamp in wanted.items()):
            self._drop_old_shards()
        self._follow(wanted, *TABLES)
        if not {"clips", "segments"} <= {name.split("/")[1].split("-")[0] for name in listed[0]}:
            raise MotionloomError(f"{self.place} has no catalog yet: run the same build again.")

    def set_aside_torn(self) -> None:
        """Objects are there whole or not at all, and what lies here is compared with them at every pull."""

    def set_aside(self, shard: str, why: str) -> None:
        """Take a shard away that must not be here: without its commit it is none; its objects stay."""
        log.warning("%s/shards/%s is no shard any more: %s", self.place, shard, why)
        self.bucket.delete([f"shards/{shard}/{COMMIT}"])
        shutil.rmtree(self.folder / "shards" / shard, ignore_errors=True)

    def publish_about(self) -> None:
        """Put corpus.json there, if no other client was first."""
        self._create("corpus.json")

    def publish_plan(self) -> None:
        """Put the newest plan there, if no other client was first, and delete those it replaces."""
        newest = max((self.folder / "plans").glob("[0-9]*.parquet"), key=_number, default=None)
        if newest is None:
            return
        self._create(f"plans/{newest.name}")
        there = [name for name in self.bucket.list("plans") if PLAN.fullmatch(name)]
        if max(_number(Path(name)) for name in there) > _number(newest):
            raise self._other_client()
        self.bucket.delete(name for name in there if _number(Path(name)) < _number(newest))

    def publish_catalog(self) -> None:
        """Put the catalog there, clips last: until then a reader and the next build see that it is not whole."""
        here = {f"catalog/{path.name}" for path in (self.folder / "catalog").glob("*.parquet")}
        there = self.bucket.list("catalog")
        for name in sorted(here, reverse=True):
            if name not in there or not is_version(self.folder / name, there[name]):
                self._stamp(name, self.bucket.replace(name, self.folder / name))
        self.bucket.delete(set(there) - here)

    def _create(self, name: str) -> None:
        path = self.folder / name
        if not self.bucket.create(name, path.read_bytes()):
            raise self._other_client()
        self._stamp(name, self.bucket.stamp(name))

    def _other_client(self) -> MotionloomError:
        return MotionloomError(f"{self.place}: another build has just begun there; run the same command again.")

    def _stamp(self, name: str, stamp: Stamp | None) -> None:
        if stamp is not None:
            os.utime(self.folder / name, ns=(stamp.mtime_ns, stamp.mtime_ns))

    def _drop_old_shards(self) -> None:
        """Of whole shards that lie here, keep those that are still the bucket's: others may have been built since."""
        shards = [path for path in (self.folder / "shards").glob("*") if not path.name.startswith(".")]
        there = self.bucket.list("shards") if shards else {}
        for path in shards:
            stamp = there.get(f"shards/{path.name}/{COMMIT}")
            if stamp is None or not is_version(path / COMMIT, stamp):
                remove_whole(path)

    def _follow(self, wanted: dict[str, Stamp], *patterns: str) -> None:
        """Make the files here that these patterns match those of the bucket."""
        for pattern in patterns:
            for path in self.folder.glob(pattern):
                if path.relative_to(self.folder).as_posix() not in wanted and not path.name.startswith(".tmp-"):
                    path.unlink(missing_ok=True)
        changed = [name for name, stamp in wanted.items() if not is_version(self.folder / name, stamp)]
        concurrently(lambda name: self._fetch(name, wanted[name]), changed)

    def _fetch(self, name: str, stamp: Stamp) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".tmp-{path.name}-{uuid.uuid4().hex[:8]}")
        try:
            if self.bucket.download(name, temporary, stamp.size, stamp.etag):
                os.utime(temporary, ns=(stamp.mtime_ns, stamp.mtime_ns))
                temporary.rename(path)
        finally:
            temporary.unlink(missing_ok=True)


def place_in_cache(url: str, cache: Path | None) -> Path:
    """The folder of one corpus in the cache. The same URL at another endpoint is another corpus."""
    told = re.sub(r"[^A-Za-z0-9]+", "-", url.partition("://")[2]).strip("-")[-60:]
    return cache_folder(cache) / f"{told}-{hashlib.blake2b(f'{endpoint()} {url}'.encode(), digest_size=4).hexdigest()}"


def cache_folder(cache: Path | None) -> Path:
    """Where copies of what lies on object storage are kept, unless another folder is named."""
    if cache is not None:
        return Path(cache).resolve()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").resolve() / "motionloom"


def _tables(names: Iterable[str]) -> list[str]:
    """What is to lie here but for the shards; of plans the newest alone."""
    plans = sorted((name for name in names if PLAN.fullmatch(name)), key=lambda name: _number(Path(name)))
    return [
        *plans[-1:],
        *(name for name in names if name == "corpus.json" or re.fullmatch(r"catalog/[^/]+\.parquet", name)),
    ]


def _number(plan: Path) -> int:
    return int(plan.stem)


def is_version(path: Path, stamp: Stamp) -> bool:
    """Is this file a copy of that version of an object?"""
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    return found.st_size == stamp.size and found.st_mtime_ns == stamp.mtime_ns


def remove_whole(shard: Path) -> None:
    """By a rename first: what is there under its own name is whole."""
    aside = shard.with_name(f".tmp-gone-{shard.name}-{uuid.uuid4().hex[:8]}")
    try:
        shard.rename(aside)
    except FileNotFoundError:
        return
    shutil.rmtree(aside, ignore_errors=True)
