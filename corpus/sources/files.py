"""Finding files below a folder, and opening one safely: nothing outside the folder, nothing that is no plain file."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

from corpus.errors import MotionloomError, Rejected
from corpus.motion import Clip


def list_files(root: Path) -> Iterator[tuple[str, int]]:
    """POSIX path below `root` and size [bytes] of everything that is no folder, sorted by path; a root that is a file stands
    for a folder with that file alone.

    Folder links are not entered, but stand in the list; so do folders that cannot be read: opening them says why, and
    nothing is lost silently. In a name that is not UTF-8 the stray bytes stand as `\\xNN`, a backslash as two.
    """
    if root.is_file():
        yield _text(os.fsencode(root.name)), root.stat().st_size
        return
    if not root.is_dir():
        raise MotionloomError(f"{root}: no such file or folder.")
    # Folders are sorted as "name/", so that depth first gives the order of the whole paths.
    waiting = [(os.fsencode(root), b"", -1)]
    while waiting:
        full, relative, byte_count = waiting.pop()
        if byte_count >= 0:
            yield _text(relative), byte_count
            continue
        try:
            with os.scandir(full) as found:
                entries = [_entry(entry, relative) for entry in found]
        except OSError:
            yield _text(relative.removesuffix(b"/")) or ".", 0
            continue
        waiting.extend(sorted(entries, key=lambda entry: _text(entry[1]), reverse=True))


def scan_files(root: Path, source: str, licence: str, **fields: str) -> Iterator[Clip]:
    """A clip for every file, told from its path alone."""
    for path, byte_count in list_files(root):
        yield Clip(source=source, path=path, licence=licence, byte_count=byte_count, **fields)


def open_path(root: Path, clip: Clip) -> Path:
    """The file a clip lies in; `Rejected` where it leaves the folder, is no plain file, is empty or cannot be read."""
    inside = PurePosixPath(clip.path)
    if ".." in inside.parts or inside.is_absolute():
        raise Rejected("outside_source", "the path leaves the source folder")
    try:
        root = root.parent if root.is_file() else root
        path = root / os.fsdecode(_bytes(clip.path))
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            path = path.resolve(strict=True)
            status = path.stat()
        else:
            path = _resolved(path.parent) / path.name
        if not path.is_relative_to(_resolved(root)):
            raise Rejected("outside_source", "a link leads out of the source folder")
        # Never open anything else: a FIFO would wait for a writer for ever.
        if not stat.S_ISREG(status.st_mode):
            raise Rejected("unreadable", "not a regular file")
        if status.st_size == 0:
            raise Rejected("empty_file", "the file has no bytes")
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.read(descriptor, 1)
        finally:
            os.close(descriptor)
    except (OSError, RuntimeError, ValueError) as error:
        # RuntimeError stands for links in a circle, ValueError for a NUL in the name.
        raise Rejected("unreadable", f"{type(error).__name__}: {getattr(error, 'strerror', None) or error}") from None
    return path


@functools.lru_cache(1024)
def _resolved(folder: Path) -> Path:
    return folder.resolve(strict=True)


def content_key(root: Path, clip: Clip) -> Clip:
    """The clip with its key: a hash of the file's bytes (and of `part`), or of its place where it cannot be read."""
    digest = hashlib.sha256()
    try:
        with open_path(root, clip).open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except (Rejected, OSError):
        digest.update(f"unread:{clip.source}:{clip.path}".encode())
    if clip.part:
        digest.update(b"\0" + clip.part.encode())
    return replace(clip, key=digest.hexdigest()[:32])


def demand_suffix(clip: Clip, *suffixes: str) -> None:
    """Refuse files of another kind by name."""
    if not clip.path.lower().endswith(suffixes):
        raise Rejected("not_motion", f"{clip.source} reads {', '.join(suffixes)} files")


def stem(clip: Clip) -> str:
    """The file's name without folder and suffix."""
    return PurePosixPath(clip.path).stem


def _entry(entry: os.DirEntry[bytes], folder: bytes) -> tuple[bytes, bytes, int]:
    """Full path, path below the root, and size; −1 for a folder to walk."""
    relative = folder + entry.name
    if entry.is_dir(follow_symlinks=False):
        return entry.path, relative + b"/", -1
    try:
        return entry.path, relative, entry.stat().st_size
    except OSError:  # a link that leads nowhere
        return entry.path, relative, 0


def _text(path: bytes) -> str:
    return path.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")


def _bytes(text: str) -> bytes:
    """The way back from `_text`."""
    plain = text.encode("utf-8", "surrogateescape")
    return re.sub(rb"\\(?:\\|x([0-9a-f]{2}))", lambda m: bytes.fromhex(m[1].decode()) if m[1] else b"\\", plain)
