"""Files that are whole wherever they exist: written under another name, safe on the disk, then renamed."""

from __future__ import annotations

import errno
import os
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write(temporary path)` make a file, and put it in place by one rename once it is safe on the disk."""
    if not path.name or path.is_dir():  # "." has no name
        raise IsADirectoryError(errno.EISDIR, "is a folder, not a file", str(path))
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "there is no such folder", str(path.parent))
    temporary = path.with_name(f".tmp-{path.name}-{os.getpid()}")
    try:
        write(temporary)
        sync(temporary)
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """One npz, to be read by `load_arrays`."""

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:  # np.savez would add ".npz" to a name
            np.savez(file, allow_pickle=False, **arrays)

    replace_file(path, write)


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """Arrays of an npz by name, never a pickled object; raises `ValueError` where the file is none or damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (EOFError, zipfile.BadZipFile, zlib.error, AttributeError) as error:
        raise ValueError(f"no npz, or a damaged one: {error}") from None


def sync(path: Path) -> None:
    """Make a file's content, or a folder's list of names, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
