"""Numbers about all segments of a corpus in one mapped file: what a question reads at once, whatever the number of shards.

An Arrow file, uncompressed, folded from what lies elsewhere: it may be deleted. It says what it was folded from, and where that
is not what the corpus holds now it is as good as not there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from corpus.durable import replace_file
from hme.shard_rows import as_arrow, numbers_of

_PREFIX = "motionloom."


@dataclass(frozen=True)
class Folded:
    """Columns of one file; row i is the same thing in all of them."""

    table: pa.Table
    about: Mapping[str, str]
    """What was said when it was written."""

    def __len__(self) -> int:
        return len(self.table)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.table.column_names)

    def parts(self, name: str) -> list[np.ndarray]:
        """A column, (N,) or (N, width), as views of the file that follow one another."""
        return [numbers_of(chunk) for chunk in self.table.column(name).chunks]

    def column(self, name: str) -> np.ndarray:
        parts = self.parts(name)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def width(self, name: str) -> int:
        """Numbers in a row of a column (N, width)."""
        return self.table.schema.field(name).type.list_size

    def take(self, name: str, rows: Int[np.ndarray, " n"]) -> np.ndarray:
        """Some rows of a column, in the order asked for."""
        parts = self.parts(name)
        ends = np.cumsum([len(part) for part in parts])
        which = np.searchsorted(ends, rows, side="right")
        found = np.empty((len(rows), *parts[0].shape[1:]), parts[0].dtype)
        for number in np.flatnonzero(np.bincount(which, minlength=len(parts))):
            mine = which == number
            found[mine] = parts[number][rows[mine] - (ends[number] - len(parts[number]))]
        return found


def write_folded(path: Path, batches: Iterable[Mapping[str, np.ndarray]], about: Mapping[str, str]) -> None:
    """One batch of rows after another, at least one; all have the same columns. Only one is in memory at a time."""
    metadata = {f"{_PREFIX}{name}": value for name, value in about.items()}

    def write(temporary: Path) -> None:
        todo = (_as_batch(columns).replace_schema_metadata(metadata) for columns in batches)
        first = next(todo)
        with pa.ipc.new_file(str(temporary), first.schema) as file:
            for batch in chain([first], todo):
                file.write_batch(batch)

    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, write)


def read_folded(path: Path, about: Mapping[str, str]) -> Folded | None:
    """None where there is no such file, it is not whole, or it says something else than `about` of what that names."""
    try:
        with pa.memory_map(str(path)) as file:
            table = pa.ipc.open_file(file).read_all()
    except (OSError, pa.ArrowException):
        return None
    found = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    told = {key.removeprefix(_PREFIX): value for key, value in found.items() if key.startswith(_PREFIX)}
    return Folded(table, told) if all(told.get(name) == value for name, value in about.items()) else None


def _as_batch(columns: Mapping[str, np.ndarray]) -> pa.RecordBatch:
    return pa.record_batch([as_arrow(np.asarray(values)) for values in columns.values()], names=list(columns))
