"""The embedded corpus: a vector for every kept segment, from the files beside its shards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Float

from corpus.catalog import Corpus
from corpus.durable import replace_file
from corpus.errors import MotionloomError
from hme.embedder import Embedder, load_embedder
from hme.embedding import Embedding
from hme.shard_rows import ShardRows, read_shard_rows

FOLDER = "hme"
"""Where all of it lies in a corpus."""
COMMAND = "loom embed"


@dataclass(frozen=True)
class Space:
    """Row i of everything is segment number i of the corpus. Columns are read when they are first asked for."""

    corpus: Corpus
    hme_id: str

    @classmethod
    def open(cls, corpus: Corpus, hme_id: str | None = None) -> Space:
        """By the embedder of this id, or by the corpus's default one.

        Raises `MotionloomError` where there is none, or it has not embedded all shards.
        """
        space = cls(corpus, hme_id or default_id(corpus))
        if not space.path("embedder.npz").exists():
            raise MotionloomError(f"{corpus.path} has no embedder {space.hme_id}. Known: {', '.join(ids(corpus))}.")
        if missing := [shard for shard in corpus.shard_ids if not space.path("shards", f"{shard}.arrow").exists()]:
            raise MotionloomError(
                f"{corpus.path}: {len(missing)} of {len(corpus.shard_ids)} shards are not embedded: run `{COMMAND}`."
            )
        return space

    def path(self, *names: str) -> Path:
        """Of a file of this embedder's."""
        return hme_folder(self.corpus).joinpath(self.hme_id, *names)

    @cached_property
    def embedder(self) -> Embedder:
        embedder = load_embedder(self.path("embedder.npz"))
        if embedder.hme_id != self.hme_id:
            raise MotionloomError(f"{self.path('embedder.npz')} holds the embedder {embedder.hme_id}.")
        return embedder

    @cached_property
    def vectors(self) -> Float[np.ndarray, "S D"]:
        return self._column("vector")

    @cached_property
    def frequency(self) -> Float[np.ndarray, " S"]:
        """About which frequency the joints' energy lies [Hz]."""
        return self._column("frequency")

    @cached_property
    def padded(self) -> Bool[np.ndarray, " S"]:
        """Was the segment shorter than a window?"""
        return self._column("padded").astype(bool)

    def block(self, name: str) -> Float[np.ndarray, "S B"]:
        """One of the blocks that the vectors were made of."""
        if name not in self.block_names:
            raise MotionloomError(f"No block {name!r}. Known: {', '.join(self.block_names)}.")
        return self._column(name)

    @property
    def block_names(self) -> tuple[str, ...]:
        names = self.parts[0].table.schema.names if self.parts else []
        return tuple(name for name in names if name not in OWN_COLUMNS)

    def _column(self, name: str) -> np.ndarray:
        if not self.parts:
            raise MotionloomError(f"{self.corpus.path} keeps no segment.")
        return np.concatenate([part.column(name) for part in self.parts])

    @cached_property
    def parts(self) -> tuple[ShardRows, ...]:
        """The files of the shards, one after another."""
        parts = read_parts(self.corpus, hme_folder(self.corpus) / self.hme_id / "shards")
        if others := sorted({part.made_by for part in parts} - {self.hme_id}):
            raise MotionloomError(f"{self.path('shards')} holds vectors of the embedder {others[0]}.")
        return parts


OWN_COLUMNS = ("segment", "vector", "frequency", "padded")
"""Columns that are no blocks."""


def as_columns(found: Embedding) -> dict[str, np.ndarray]:
    """What a shard's file holds of an embedding."""
    if taken := set(found.blocks) & set(OWN_COLUMNS):
        raise ValueError(f"A block cannot be called {taken.pop()!r}: a column of vectors' files is.")
    padded = found.padded.astype(np.uint8)
    return {"vector": found.vectors, **found.blocks, "frequency": found.frequency.astype(np.float32), "padded": padded}


def read_parts(corpus: Corpus, folder: Path) -> tuple[ShardRows, ...]:
    """The files of all shards, checked to tell of just the kept segments, in the order of the catalog."""
    parts = tuple(read_shard_rows(folder / f"{shard}.arrow") for shard in corpus.shard_ids)
    counts = np.bincount(corpus.shard_of, minlength=len(parts))
    names = corpus.kept["segment"].to_arrow()
    start = 0
    for shard, part, count in zip(corpus.shard_ids, parts, counts.tolist(), strict=True):
        if not part.tells_of(names.slice(start, count)):
            raise MotionloomError(f"{folder / shard}.arrow tells of other segments than the catalog: run `{COMMAND}`.")
        start += count
    return parts


def damage(corpus: Corpus) -> Iterator[str]:
    """What is wrong with the files beside the shards, a line each: every byte of those that are there."""
    for path in sorted(hme_folder(corpus).glob("*/embedder.npz")):
        try:
            load_embedder(path)
        except MotionloomError as error:
            yield str(error)
    for path in sorted(hme_folder(corpus).glob("*/shards/*.arrow")) + sorted(hme_folder(corpus).glob("traits/*.arrow")):
        try:
            read_shard_rows(path, checksums=True)
        except MotionloomError as error:
            yield str(error)
    for path in sorted(hme_folder(corpus).rglob("*.parquet")):
        try:
            pq.read_table(path)
        except (OSError, pa.ArrowException) as error:
            yield f"{path} is damaged ({error}): delete it and make it again."
    if (hme_folder(corpus) / "default.json").exists():
        try:
            default_id(corpus)
        except MotionloomError as error:
            yield str(error)


def strays(corpus: Corpus) -> Iterator[Path]:
    """Files about shards that the corpus has no more."""
    known = set(corpus.shard_ids)
    for pattern in ("*/shards/*.arrow", "traits/*.arrow"):
        yield from (path for path in sorted(hme_folder(corpus).glob(pattern)) if path.stem not in known)


def hme_folder(corpus: Corpus) -> Path:
    """Of a corpus on object storage, in its local cache."""
    return corpus.path / FOLDER


def ids(corpus: Corpus) -> list[str]:
    """The embedders of a corpus."""
    return sorted(path.parent.name for path in hme_folder(corpus).glob("*/embedder.npz"))


def default_id(corpus: Corpus) -> str:
    """Of the embedder that is meant where none is named."""
    path = hme_folder(corpus) / "default.json"
    try:
        return str(json.loads(path.read_text())["hme_id"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        gone = isinstance(error, FileNotFoundError)
        if len(known := ids(corpus)) > 1:
            raise MotionloomError(
                f"{path} is {'gone' if gone else f'damaged ({error!r})'}. Known embedders: {', '.join(known)}: make one the default "
                f"by `{COMMAND} {corpus.path} --embedder {path.parent / known[0] / 'embedder.npz'}`."
            ) from None
        what = "is not embedded yet" if gone else f"does not say by which embedder ({path} is damaged)"
        raise MotionloomError(f"{corpus.path} {what}: run `{COMMAND} {corpus.path}`.") from None


def set_default(corpus: Corpus, hme_id: str) -> None:
    text = json.dumps({"hme_id": hme_id}) + "\n"
    replace_file(hme_folder(corpus) / "default.json", lambda temporary: temporary.write_text(text))
