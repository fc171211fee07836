"""A corpus as questions see it: columns of its segments by name, from whichever table holds them, within a scope."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from jaxtyping import Bool, Int

from corpus.catalog import Corpus
from corpus.errors import MotionloomError
from corpus.schema import QUALITY
from hme import fold, fold_shards
from hme.folded import Folded
from hme.space import default_id, hme_folder
from hme.tables import read_about
from pipelines.ask.answer import in_hours

TABLES = {"clusters": "loom cluster", "duplicates": "loom dedup", "split": "loom split"}
"""Tables with a row per kept segment, and who makes them."""
STRETCH = 100
"""Segments next to each other in a sample."""


@dataclass(frozen=True)
class Asked:
    """Clips of the licence and the source that are named, and their segments in catalog order."""

    corpus: Corpus
    licence: str | None = None
    source: str | None = None
    hme: str | None = None
    """Of which embedder; the corpus's default where none is named."""
    guest: bool = False
    """Only compared with: nothing is written beside it."""

    def beside(self, other: Path | str, *, comparable: bool = False) -> Asked:
        """Another corpus in the same scope; `comparable` asks for vectors by the same embedder."""
        found = replace(self, corpus=Corpus.open(other), hme=self.hme_id if comparable else self.hme, guest=True)
        if comparable and not found.path("embedder.npz").exists():
            path = self.path("embedder.npz")
            raise MotionloomError(
                f"{other} is not embedded as {self.corpus.path} is: run `loom embed {other} --embedder {path}`."
            )
        return found

    @property
    def fps(self) -> float:
        return self.corpus.fps

    def hours(self, frames: float) -> float:
        return in_hours(frames, self.fps)

    @property
    def clips(self) -> pl.LazyFrame:
        """The catalog's clips in scope."""
        rows = self.corpus.clips
        if self.licence is not None:
            rows = rows.filter(pl.col("licence").is_in(self.owners["licence"].unique().implode()))
        return rows if self.source is None else rows.filter(pl.col("source") == self.source)

    def judged(self, *names: str) -> pl.DataFrame:
        """Columns of all judged segments in scope, kept or rejected: of `hme.fold.facts`, or of the catalog."""
        return self._frame({name: self._judged(name) for name in names}, self.facts.column("owner"))

    def kept(self, *names: str) -> pl.DataFrame:
        """Columns of the kept segments in scope: of `hme.fold.kept`, traits, measures, `number` (the segment's), and "table.column" of
        `TABLES`, under the column's name."""
        found = {name.split(".")[-1]: self._kept(name) for name in names}
        return self._frame(found, self.keeps.column("owner"))

    @cached_property
    def in_scope(self) -> Bool[np.ndarray, " S"] | None:
        """Of the kept segments; None for all."""
        return self.chosen(self.keeps.column("owner"))

    def chosen(self, owner: Int[np.ndarray, " N"]) -> Bool[np.ndarray, " N"] | None:
        """Of rows with these owners, those in scope; None for all."""
        if self.licence is None and self.source is None:
            return None
        return np.isin(owner, self.owners["owner"].to_numpy())

    def by_owner(self, table: pl.DataFrame) -> pl.DataFrame:
        """With `source` and `licence` beside its column `owner`."""
        owners = fold.owners(self.facts).select("owner", "source", "licence")
        return table.join(owners, on="owner", how="left", maintain_order="left")

    @cached_property
    def owners(self) -> pl.DataFrame:
        """Those in scope: columns of `hme.fold.owners`."""
        rows = known = fold.owners(self.facts)
        if self.licence is not None:
            # The whole name: "CC BY" is part of "CC BY-NC", which says something else.
            rows = rows.filter(pl.col("licence") == self.licence)
        if self.source is not None:
            rows = rows.filter(pl.col("source") == self.source)
        if not len(rows) and not (self.licence is None and self.source is None):
            scope = {"licence": self.licence, "source": self.source}
            asked = " and ".join(f"{name} {value!r}" for name, value in scope.items() if value is not None)
            told = [f"{source} ({licence})" for source, licence in known.select("source", "licence").rows()]
            raise MotionloomError(f"No clip of {asked}. Known sources: {', '.join(told) or 'none'}.")
        return rows

    @cached_property
    def facts(self) -> Folded:
        return fold.facts(self.corpus, write=not self.guest)

    @cached_property
    def keeps(self) -> Folded:
        return fold.kept(self.corpus, write=not self.guest)

    @cached_property
    def keys(self) -> Folded:
        return fold.clip_keys(self.corpus, write=not self.guest)

    @cached_property
    def sums(self) -> Folded:
        """Of traits, row i of owner i."""
        return fold_shards.trait_sums(self.corpus, write=not self.guest)

    @cached_property
    def traits(self) -> Folded:
        return fold_shards.folded_traits(self.corpus, write=not self.guest)

    @cached_property
    def vectors(self) -> Folded:
        return fold_shards.folded_vectors(self.corpus, self.hme_id, write=not self.guest)

    @cached_property
    def hme_id(self) -> str:
        return self.hme or default_id(self.corpus)

    def path(self, *names: str) -> Path:
        """Of a file of the embedder's."""
        return hme_folder(self.corpus).joinpath(self.hme_id, *names)

    def has(self, table: str) -> bool:
        """Is there a table that tells of all segments?"""
        try:
            self.about(table)
        except MotionloomError:
            return False
        return True

    def about(self, table: str) -> dict[str, str]:
        """What a table says of itself; raises `MotionloomError` where it is not there, or not of the corpus as it is."""
        command, path = TABLES[table], self._place(table)
        about = read_about(path, command=command)
        if about.get("hme") and about["hme"] != self.hme_id:
            raise MotionloomError(f"{path} was made with the embedder {about['hme']}: run `{command}` again.")
        count = pq.read_metadata(path).num_rows
        if about.get("shards", "").encode() != self.corpus.stamp or count != len(self.keeps):
            raise MotionloomError(
                f"{path} tells of other segments than {self.corpus.path} keeps now: run `{command}` again."
            )
        return about

    def places(self, numbers: Int[np.ndarray, " n"]) -> pl.DataFrame:
        """Whose these kept segments are: `segment`, `label`, `source`, `licence`, `start_s`, `seconds`."""
        own = {name: self.keeps.take(name, numbers) for name in ("key", "start", "frames", "owner")}
        names = [
            f"{key:016x}-{start:06d}" for key, start in zip(own["key"].tolist(), own["start"].tolist(), strict=True)
        ]
        labels = rows_of(self.corpus.clips.select("label"), self.keeps.take("clip", numbers))["label"]
        table = pl.DataFrame({"segment": pl.Series(names, dtype=pl.String), "label": labels, **own})
        seconds = {f"{name}": pl.col(of) / self.fps for name, of in (("start_s", "start"), ("seconds", "frames"))}
        return self.by_owner(table).select("segment", "label", "source", "licence", **seconds)

    def sample(self, names: list[str], count: int) -> pl.DataFrame:
        """Columns of about so many kept segments: stretches from all over the catalog, which is ordered by hash."""
        numbers = np.arange(len(self.keeps)) if self.in_scope is None else np.flatnonzero(self.in_scope)
        if len(numbers) > count:
            # A page holds many neighbours, and is what takes time.
            starts = np.linspace(0, len(numbers) - STRETCH, count // STRETCH).astype(np.int64)
            numbers = numbers[(starts[:, None] + np.arange(STRETCH)).reshape(-1)]
        rows = self.keeps.take("row", numbers)
        return pl.DataFrame({
            name: self.facts.take(name, rows) if name in self.facts.names else self.traits.take(name, numbers) for name in names
        })  # fmt: skip

    def _frame(self, columns: dict[str, np.ndarray | pl.Series], owner: Int[np.ndarray, " N"]) -> pl.DataFrame:
        mine, table = self.chosen(owner), pl.DataFrame(columns)
        return table if mine is None else table.filter(pl.Series(mine))

    def _judged(self, name: str) -> np.ndarray | pl.Series:
        if name in self.facts.names:
            return self.facts.column(name)
        return self.corpus.segments.select(name).collect()[name]

    def _kept(self, name: str) -> np.ndarray | pl.Series:
        table, _, column = name.partition(".")
        if column:
            self.about(table)
            return pl.read_parquet(self._place(table), columns=[column])[column]
        if name == "number":
            return np.arange(len(self.keeps), dtype=np.uint32)
        if name in QUALITY:
            return self.facts.column(name)[self.keeps.column("row")]
        return (self.keeps if name in self.keeps.names else self.traits).column(name)

    def _place(self, table: str) -> Path:
        """Beside the vectors where it hangs on them, else beside the corpus."""
        beside = hme_folder(self.corpus) / f"{table}.parquet"
        return beside if beside.exists() else self.path(f"{table}.parquet")


def rows_of(table: pl.LazyFrame, rows: Int[np.ndarray, " n"]) -> pl.DataFrame:
    """A few rows of a large file, in the order asked for; only their row groups are read."""
    if not len(rows):
        return table.head(0).collect()
    return pl.concat(pl.collect_all([table.slice(int(row), 1) for row in rows]))
