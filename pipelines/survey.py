"""Look at folders before a build: which files there are, how much motion that is, and which source could read them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from corpus.errors import MotionloomError, Rejected
from corpus.motion import Clip
from corpus.sources import SOURCES, source
from corpus.sources.files import list_files
from corpus.sources.options import LoadOptions

SAMPLE_COUNT = 5
"""Files of an extension that are read to guess their source."""
SAMPLE_BYTES = 64 << 20
"""Larger files are not read for a guess."""


@dataclass(frozen=True)
class Row:
    """Files of one extension, as one source would read them."""

    folder: str
    source: str
    """A source's name; with "?" where it was guessed from a few files; "–" where none can read them."""
    extension: str
    file_count: int
    byte_count: int
    frames: int
    """About how many frames they make in the corpus, by their size."""


def survey(folder: Path, name: str | None = None) -> list[Row]:
    """Rows of a folder, largest first; without a source's name, the source of each extension is guessed."""
    if not folder.is_dir():
        raise MotionloomError(f"{folder} is not a folder.")
    if name is None:
        files = list(list_files(folder))
    else:
        # A file with several motions is several clips of one path.
        files = list({clip.path: clip.byte_count for clip in source(name).scan(folder)}.items())
    groups: dict[tuple[str, str], list[tuple[str, int]]] = {}
    for path, size in files:
        key = _subfolder(path) if name is None else "", PurePosixPath(path).suffix.lower() or "(none)"
        groups.setdefault(key, []).append((path, size))
    rows = []
    for (below, extension), group in groups.items():
        guess = name or guess_source(folder, group)
        byte_count = sum(size for _, size in group)
        frames = int(byte_count / SOURCES[guess].bytes_per_frame) if guess else 0
        shown = name or (f"{guess}?" if guess else "–")
        rows.append(Row(f"{folder}/{below}".rstrip("/"), shown, extension, len(group), byte_count, frames))
    return sorted(rows, key=lambda row: (-row.frames, -row.byte_count, row.folder, row.extension))


def guess_source(folder: Path, files: list[tuple[str, int]]) -> str | None:
    """The source that reads most of a few of these files; of several, the first in `SOURCES`; None if none does."""
    readable = sorted((size, path) for path, size in files if 0 < size <= SAMPLE_BYTES)
    if not readable:
        return None
    # Spread over the sizes: the smallest files are often the broken ones.
    places = {round(i * (len(readable) - 1) / max(SAMPLE_COUNT - 1, 1)) for i in range(SAMPLE_COUNT)}
    votes = Counter(dict.fromkeys(SOURCES, 0))
    for size, path in (readable[place] for place in sorted(places)):
        votes.update(name for name in SOURCES if _reads(name, folder, path, size))
    best, count = max(votes.items(), key=lambda item: item[1])
    return best if count else None


def _reads(name: str, folder: Path, path: str, size: int) -> bool:
    try:
        SOURCES[name].load(folder, Clip(name, path, licence="", byte_count=size), LoadOptions())
    except Rejected:
        return False
    return True


def _subfolder(path: str) -> str:
    """The first folder on a path: data sets often lie side by side."""
    first, slash, _ = path.partition("/")
    return first if slash else ""
