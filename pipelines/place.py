"""Where a corpus is built: in a folder, or on object storage by way of a local mirror. A build speaks to both alike."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from corpus.bucket import is_url
from corpus.mirror import Mirror
from corpus.shard_transfer import shard_writer
from corpus.store import ShardWriter
from pipelines.quarantine import set_aside, set_aside_torn


@dataclass(frozen=True)
class Folder:
    """A corpus in a folder: what is written there is published."""

    folder: Path

    rows_only = False

    @property
    def place(self) -> str:
        """What people and workers call it."""
        return str(self.folder)

    def top(self) -> set[str]:
        """Names at the top of the corpus."""
        return {entry.name for entry in self.folder.iterdir()} if self.folder.is_dir() else set()

    def pull(self) -> None:
        """Bring over what others have published since."""

    def set_aside_torn(self) -> None:
        """Take away what a power cut can leave of a shard or a plan."""
        set_aside_torn(self.folder)

    def set_aside(self, shard: str, why: str) -> None:
        """Take a shard away that must not be here."""
        set_aside(self.folder, self.folder / "shards" / shard, why)

    def publish_about(self) -> None:
        """Let others see corpus.json."""

    def publish_plan(self) -> None:
        """Let others see the plan."""

    def publish_catalog(self) -> None:
        """Let others see the catalog."""


def open_place(out: Path | str, cache: Path | None = None) -> Folder | Mirror:
    """`cache` is where mirrors of what lies on object storage are kept."""
    return Mirror.open(str(out), cache, "build") if is_url(out) else Folder(Path(out).resolve())


@contextlib.contextmanager
def writer_of(out: str, shard: str, recipe_hash: str) -> Iterator[ShardWriter]:
    """Writes one shard of a corpus in a folder or on object storage."""
    if is_url(out):
        with shard_writer(out, shard, recipe_hash) as writer:
            yield writer
    else:
        with ShardWriter(Path(out) / "shards", shard, recipe_hash) as writer:
            yield writer
