"""Objects below a URL, with the few verbs a corpus needs: list, read, create once, replace, delete.

Faults of network and server are borne for a while; what remains becomes one line that a person can act on. Every verb may
be repeated without harm, so an answer that was lost on its way does no harm either.
"""

from __future__ import annotations

import contextlib
import random
import re
import time
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from corpus.errors import MotionloomError
from corpus.remote import object_store
from corpus.remote.object_store import obstore

PIECE = 64 << 20
"""Larger objects are read piece by piece [bytes]."""
PART = 16 << 20
"""Larger objects are replaced part by part [bytes]."""
CONNECTIONS = 16
"""Requests under way at once."""

T = TypeVar("T")


class ServerBusy(MotionloomError):
    """The server is there, but goes on refusing."""


@dataclass(frozen=True)
class Stamp:
    """Which version of an object this is."""

    size: int
    """[bytes]"""
    time_s: int
    """When it was written, in whole seconds, as object stores tell it."""
    etag: str

    @property
    def mtime_ns(self) -> int:
        """A local copy's time of change says which version it is: the object's time, and below the second its ETag."""
        return self.time_s * 10**9 + zlib.crc32(self.etag.encode()) % 10**9


@dataclass(frozen=True)
class Bucket:
    """The objects below a URL such as s3://bucket/folder; names are relative to it."""

    url: str

    @classmethod
    def open(cls, url: str) -> Bucket:
        """Raises `MotionloomError` soon where nobody answers, there is no such bucket, or it may not be read."""
        bucket, store = cls(url.rstrip("/")), object_store.open_store(url.rstrip("/"), first=True)
        # A busy server is there: the requests that matter have more patience with it.
        with contextlib.suppress(ServerBusy):
            bucket._patiently(lambda: obstore().list_with_delimiter(store), seconds=object_store.FIRST_PATIENCE_S)
        return bucket

    def list(self, prefix: str = "") -> dict[str, Stamp]:
        """Every object below a folder, by name."""

        def all_of_them() -> dict[str, Stamp]:
            chunks = obstore().list(self._store, prefix or None)
            return {about["path"]: _stamp(about) for chunk in chunks for about in chunk}

        return self._patiently(all_of_them)

    def top(self) -> set[str]:
        """Names of objects and folders at the top."""
        found = self._patiently(lambda: obstore().list_with_delimiter(self._store))
        return {about["path"] for about in found["objects"]} | set(found["common_prefixes"])

    def stamp(self, name: str) -> Stamp | None:
        """None where there is no such object."""
        about = self._patiently(lambda: obstore().head(self._store, name))
        return None if about is None else _stamp(about)

    def read(self, name: str) -> bytes | None:
        """A small object's content; None where there is no such object."""
        return self._patiently(lambda: obstore().get(self._store, name).bytes().to_bytes())

    def download(self, name: str, path: Path, size: int, etag: str | None = None) -> bool:
        """Write an object of this size to a file; False where there is none, or none of that version."""
        whole: Any = {"if_match": etag} if etag else {}
        with path.open("wb") as file:
            for start in range(0, size, PIECE):
                options = whole if size <= PIECE else whole | {"range": (start, min(start + PIECE, size))}
                content = self._patiently(
                    lambda options=options: obstore().get(self._store, name, options=options).bytes()
                )
                if content is None:
                    return False
                file.write(content)
        return True

    def create(self, name: str, content: bytes) -> bool:
        """Write an object where there is none. False where one with other content stands there, which is left.

        An object of the same content is ours, from an attempt whose answer was lost, or a twin's: all is well.
        """
        deadline = time.monotonic() + object_store.PATIENCE_S
        while not self._put_new(name, content):
            there = self.stamp(name)
            if there is not None and there.size != len(content):
                return False
            if there is not None and (found := self.read(name)) is not None:
                return found == content
            # A conflict with another writer's attempt that came to nothing: obstore tells it in the same words.
            if time.monotonic() > deadline:
                raise MotionloomError(f"{self.url}/{name}: cannot be created, though it is not there; try again later.")
            time.sleep(random.uniform(0.05, 0.2))
        return True

    def replace(self, name: str, path: Path) -> Stamp | None:
        """Write an object over what stands there; None where another client has replaced it since."""

        def put() -> str | None:
            return obstore().put(self._store, name, path, mode="overwrite", chunk_size=PART)["e_tag"]

        etag, there = self._patiently(put), self.stamp(name)
        return there if there is not None and there.etag == etag else None

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects; those that are gone already are no error."""
        for name in names:
            self._patiently(lambda name=name: obstore().delete(self._store, name))

    def _put_new(self, name: str, content: bytes) -> bool:
        def put() -> bool:
            try:
                obstore().put(self._store, name, content, mode="create")
            except obstore().exceptions.AlreadyExistsError:
                return False
            return True

        return self._patiently(put) is True

    @cached_property
    def _store(self) -> Any:
        return object_store.open_store(self.url)

    def _patiently(self, request: Callable[[], T], *, seconds: float | None = None) -> Any:
        """What a request gives; None where the object, or that version of it, is not there.

        obstore asks again for a while when a server refuses; what broke off in the middle is asked again here.
        """
        errors = obstore().exceptions
        deadline = time.monotonic() + (object_store.PATIENCE_S if seconds is None else seconds)
        pause = 0.05
        while True:
            try:
                return request()
            except (errors.PreconditionError, errors.NotModifiedError):
                return None
            except (FileNotFoundError, errors.BaseError) as error:
                text = str(error)
                if isinstance(error, FileNotFoundError) and "NoSuchBucket" not in text:
                    return None
                if not object_store.may_pass(text) or time.monotonic() + pause > deadline:
                    kind = ServerBusy if object_store.is_busy(text) else MotionloomError
                    raise kind(f"{self.url}: {object_store.in_a_line(text)}") from None
            time.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(2 * pause, 5.0)

    def __reduce__(self):
        return Bucket, (self.url,)


def is_url(place: Path | str) -> bool:
    """Is this object storage (s3://…), not a folder? A URL that has been a `Path` has lost a slash, and is an error."""
    if mangled := re.match(r"([a-z0-9]{2,}):/(?!/)", str(place)):
        scheme = mangled[1]
        raise MotionloomError(f"{place}: pass object storage as text, {scheme}://…; a Path takes a slash away.")
    return isinstance(place, str) and "://" in place


def concurrently(function: Callable[[T], Any], items: Iterable[T]) -> list[Any]:
    """Call a function on each, several at a time; the first error ends it."""
    pool = ThreadPoolExecutor(CONNECTIONS)
    try:
        return list(pool.map(function, items))
    finally:
        pool.shutdown(cancel_futures=True)


def _stamp(about: Any) -> Stamp:
    return Stamp(about["size"], int(about["last_modified"].timestamp()), about["e_tag"] or "")
