"""Finding files below a folder, and opening one safely: nothing outside the folder, nothing that is no plain file."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

from corpus.errors import Rejected
from corpus.motion import Clip


def list_files(root: Path) -> Iterator[tuple[str, int]]:
    """Path text and size [bytes] of everything below `root` that is not a folder, sorted; folder links are not entered.

    A name that is not UTF-8 is written with `\\xNN` for its stray bytes.
    """
    found = []
    for folder, folders, files in os.walk(os.fsencode(root)):
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for name in files + links:
            full = os.path.join(folder, name)
            relative = os.path.relpath(full, os.fsencode(root))
            if not os.path.basename(relative).startswith(b"."):
                found.append((_text(relative), os.lstat(full).st_size))
    yield from sorted(found)


def scan_files(root: Path, source: str, licence: str, **fields: str) -> Iterator[Clip]:
    """A clip per file, told from its path alone."""
    for path, size in list_files(root):
        yield Clip(source=source, path=path, licence=licence, byte_count=size, **fields)


def open_path(root: Path, clip: Clip) -> Path:
    """The file a clip lies in; `Rejected` where it leaves the folder, is no plain file, is empty or cannot be read."""
    path = Path(os.fsdecode(os.path.join(os.fsencode(root), _bytes(clip.path))))
    if ".." in PurePosixPath(clip.path).parts or PurePosixPath(clip.path).is_absolute():
        raise Rejected("outside_source", "the path leaves the source folder")
    try:
        resolved = path.resolve(strict=True)
        if not resolved.is_relative_to(root.resolve()):
            raise Rejected("outside_source", "a link leads out of the source folder")
        status = resolved.stat()
        if not stat.S_ISREG(status.st_mode):
            raise Rejected("unreadable", "not a regular file")
        if status.st_size == 0:
            raise Rejected("empty_file")
        with resolved.open("rb") as file:
            file.read(1)
    except (OSError, RuntimeError) as error:
        raise Rejected("unreadable", f"{type(error).__name__}: {getattr(error, 'strerror', None) or error}") from None
    return resolved


def content_key(root: Path, clip: Clip) -> Clip:
    """The clip with its key: a hash of the file's bytes (and of `part`), or of its place where it cannot be read."""
    digest = hashlib.blake2b(digest_size=16)
    try:
        with open_path(root, clip).open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except (Rejected, OSError):
        digest.update(f"unread:{clip.source}:{clip.path}".encode())
    if clip.part:
        digest.update(b"\0" + clip.part.encode())
    return replace(clip, key=digest.hexdigest())


def demand_suffix(clip: Clip, *suffixes: str) -> None:
    """Refuse files of another kind by name."""
    if not clip.path.lower().endswith(suffixes):
        raise Rejected("not_motion", f"{clip.source} reads {', '.join(suffixes)} files")


def stem(clip: Clip) -> str:
    """The file's name without folder and suffix."""
    return PurePosixPath(clip.path).stem


def _text(path: bytes) -> str:
    # A backslash of the name itself is doubled, so that the text can be turned back.
    return path.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")


def _bytes(text: str) -> bytes:
    parts = re.split(r"(\\\\|\\x[0-9a-f]{2})", text)
    turned = [
        b"\\" if p == "\\\\" else bytes([int(p[2:], 16)]) if re.fullmatch(r"\\x[0-9a-f]{2}", p) else p.encode()
        for p in parts
    ]
    return b"".join(turned)
