"""Folders that one process works in and that vanish with it: those of processes that were killed are swept by the next."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def scratch(parent: Path, kind: str) -> Iterator[Path]:
    """A new folder `.tmp-KIND-…` below `parent`, removed at the end whatever happens."""
    parent.mkdir(parents=True, exist_ok=True)
    sweep(parent.glob(f".tmp-{kind}-*"))
    folder = parent / f".tmp-{kind}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    with held(folder):
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Own a folder, made if need be; whoever else wants it waits. The hold goes with the process, however it ends."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = _lock(folder, fcntl.LOCK_EX)
        if descriptor is not None and _is_still(folder, descriptor):
            break
        if descriptor is not None:
            os.close(descriptor)
    try:
        yield
    finally:
        os.close(descriptor)


def sweep(folders: Iterator[Path]) -> None:
    """Remove those of these folders that nobody holds."""
    for folder in folders:
        descriptor = _lock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if descriptor is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(descriptor)


def _lock(folder: Path, how: int) -> int | None:
    """A locked descriptor of the folder; None where it is gone, not ours or taken."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, how)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _is_still(folder: Path, descriptor: int) -> bool:
    """While we waited, its owner may have renamed or removed it."""
    try:
        return os.path.samestat(folder.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
