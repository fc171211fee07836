"""Rows about the kept segments of one shard: an Arrow file, uncompressed, that appears whole and is read as mapped memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import numpy as np
import pyarrow as pa

from corpus.durable import replace_file
from corpus.errors import MotionloomError

_CHECKSUM, _MADE_BY = b"motionloom.crc32c", b"motionloom.made_by"


@dataclass(frozen=True)
class ShardRows:
    """Columns of one file."""

    table: pa.Table
    made_by: str
    """What made the columns: the id of an embedder, or the version of a table."""

    def column(self, name: str) -> np.ndarray:
        """Numbers of a column, (S,) or (S, width), as a view of the file."""
        return numbers_of(self.table.column(name).chunk(0)) if len(self.table) else self._empty(name)

    def tells_of(self, segments: pa.Array) -> bool:
        """Are the rows about just these segments, in this order?"""
        own = self.table.column("segment").combine_chunks()
        return len(own) == len(segments) and own.cast(segments.type).equals(segments)

    def _empty(self, name: str) -> np.ndarray:
        kind = self.table.schema.field(name).type
        if pa.types.is_fixed_size_list(kind):
            return np.empty((0, kind.list_size), kind.value_type.to_pandas_dtype())
        return np.empty(0, kind.to_pandas_dtype())


def write_shard_rows(path: Path, segments: Sequence[str], columns: Mapping[str, np.ndarray], *, made_by: str) -> None:
    """A row per segment; columns of numbers, (S,) or (S, width)."""
    arrays = [pa.array(segments, pa.string()), *map(as_arrow, columns.values())]
    batch = pa.record_batch(arrays, names=["segment", *columns])
    metadata = {_CHECKSUM: f"{_checksum(batch):08x}", _MADE_BY: made_by}
    batch = batch.replace_schema_metadata(metadata)

    def write(temporary: Path) -> None:
        with pa.ipc.new_file(str(temporary), batch.schema) as file:
            file.write_batch(batch)

    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, write)


def read_shard_rows(path: Path, *, checksums: bool = False) -> ShardRows:
    """Raises `MotionloomError` where the file is not there or not whole; `checksums` reads every byte."""
    try:
        with pa.memory_map(str(path)) as file:
            table = pa.ipc.open_file(file).read_all()
    except (OSError, pa.ArrowException) as error:
        raise MotionloomError(f"{path} is damaged or not there ({error}): run `loom embed` again.") from None
    metadata = table.schema.metadata or {}
    if _MADE_BY not in metadata or table.schema.names[:1] != ["segment"] or table.column(0).num_chunks > 1:
        raise MotionloomError(f"{path} is not a file of rows about segments: delete it and run `loom embed` again.")
    if checksums and f"{_checksum(table):08x}".encode() != metadata.get(_CHECKSUM):
        raise MotionloomError(f"{path}: its bytes do not fit its checksum; delete it and run `loom embed` again.")
    return ShardRows(table, metadata[_MADE_BY].decode())


def as_arrow(values: np.ndarray) -> pa.Array:
    """Numbers, (S,) or (S, width)."""
    if values.ndim == 1:
        return pa.array(values)
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def numbers_of(array: pa.Array) -> np.ndarray:
    """The same back, as a view."""
    if pa.types.is_fixed_size_list(array.type):
        return array.flatten().to_numpy(zero_copy_only=False).reshape(len(array), array.type.list_size)
    return array.to_numpy(zero_copy_only=False)


def _checksum(rows: pa.RecordBatch | pa.Table) -> int:
    """Of all values, column by column; how Arrow lays them out does not matter."""
    value = 0
    for name, column in zip(rows.schema.names, rows.columns, strict=True):
        for part in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
            content = "\0".join(part.to_pylist()).encode() if name == "segment" else numbers_of(part).tobytes()
            value = google_crc32c.extend(value, content)
    return value
