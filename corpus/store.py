"""One shard: a folder with frames (Zarr) and rows (Parquet), written by one task, there by one rename, read as mapped memory.

The bytes are described in docs/format.md. They depend on the clips and the recipe alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import uuid
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, UInt8

from corpus import schema
from corpus.errors import CorruptShard
from corpus.motion import RobotMotion

FORMAT = 1
CHUNK = 256
"""Frames of one inner Zarr chunk."""


class ShardWriter:
    """Collects the clips of one shard and lets it appear whole.

    with ShardWriter(folder, name, recipe_hash) as writer:
        writer.add(clip_row, segment_rows, motion)
        writer.commit()
    """

    def __init__(self, shards: Path, shard_id: str, recipe_hash: str, *, columns: int = 36):
        self.target = Path(shards) / shard_id
        self.shard_id, self.recipe_hash, self.columns = shard_id, recipe_hash, columns
        self.clips: list[dict[str, Any]] = []
        self.segments: list[dict[str, Any]] = []
        self.qpos: list[np.ndarray] = []
        self.contact: list[np.ndarray] = []
        self.frame_count = 0
        self._temporary = self.target.parent / f".tmp-{shard_id}-{os.getpid()}-{uuid.uuid4().hex[:8]}"

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self._temporary, ignore_errors=True)

    def add(self, clip: dict[str, Any], segments: list[dict[str, Any]], motion: RobotMotion | None) -> None:
        """A clip's row, its segments' rows (start, frames, status, reason, numbers, measures) and its whole motion.

        Fills in segment, clip, shard and row; takes the frames of the kept segments.
        """
        self.clips.append({**clip, "shard": self.shard_id})
        for segment in segments:
            row = None
            if segment["status"] == "kept":
                if motion is None or motion.contact is None:
                    raise ValueError("A kept segment needs a motion with contacts.")
                part = motion.slice(segment["start"], segment["start"] + segment["frames"])
                if part.frame_count != segment["frames"] or part.qpos.shape[1] != self.columns:
                    raise ValueError(f"Segment {segment['start']}+{segment['frames']} does not fit its motion.")
                # Copies: the caller may reuse its arrays before the shard is written.
                self.qpos.append(np.array(part.qpos, np.float32))
                self.contact.append(np.array(part.contact, np.uint8))
                row = self.frame_count
                self.frame_count += segment["frames"]
            name = f"{clip['clip'][:16]}-{segment['start']:06d}"
            self.segments.append({**segment, "segment": name, "clip": clip["clip"], "shard": self.shard_id, "row": row})

    def commit(self) -> None:
        """Write everything under a temporary name, make it durable, and rename. A shard that exists is left alone."""
        if self.target.exists():
            return
        shutil.rmtree(self._temporary, ignore_errors=True)
        self._temporary.mkdir(parents=True)
        self._write_frames()
        _write_rows(self._temporary / "clips.parquet", self.clips, schema.CLIPS)
        _write_rows(self._temporary / "segments.parquet", self.segments, schema.SEGMENTS)
        about = {
            "format": FORMAT, "shard": self.shard_id, "recipe": self.recipe_hash, "frames": self.frame_count,
            "files": {name: _fingerprint(self._temporary / name) for name in _file_names(self._temporary)},
        }  # fmt: skip
        (self._temporary / "shard.json").write_text(json.dumps(about, indent=1, sort_keys=True) + "\n")
        for path in (*self._temporary.rglob("*"), self._temporary):
            _sync(path)
        try:
            self._temporary.rename(self.target)
        except OSError:
            if not (self.target / "shard.json").exists():
                raise
        _sync(self.target.parent)

    def _write_frames(self) -> None:
        import zarr

        group = zarr.open_group(self._temporary, mode="w", zarr_format=3)
        empty = np.zeros((0, self.columns), np.float32), np.zeros((0, 4), np.uint8)
        for name, parts, none in (("qpos", self.qpos, empty[0]), ("contact", self.contact, empty[1])):
            data = np.concatenate(parts) if parts else none
            padded = max(CHUNK, -(-len(data) // CHUNK) * CHUNK)
            array = group.create_array(
                name, shape=data.shape, dtype=data.dtype, chunks=(CHUNK, data.shape[1]), shards=(padded, data.shape[1]),
                compressors=None, filters=None, fill_value=0, config={"write_empty_chunks": True},
            )  # fmt: skip
            if len(data):
                array[:] = data


@dataclass(frozen=True)
class Shard:
    """A finished shard, opened for reading; nothing is read until it is asked for."""

    path: Path
    frame_count: int
    recipe: str

    @classmethod
    def open(cls, path: Path) -> Shard:
        """Raises `CorruptShard` where the folder is no whole shard."""
        try:
            about = json.loads((path / "shard.json").read_text())
            shard = cls(path, int(about["frames"]), str(about["recipe"]))
            version = about["format"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CorruptShard(f"{path}: no readable shard.json ({error}).") from None
        if version != FORMAT:
            raise CorruptShard(f"{path}: format {version}, this version reads {FORMAT}.")
        return shard

    @cached_property
    def qpos(self) -> Float[np.ndarray, "T Q"]:
        """All frames, mapped read-only."""
        return _mapped(self.path / "qpos", np.dtype("<f4"), self.frame_count)

    @cached_property
    def contact(self) -> UInt8[np.ndarray, "T 4"]:
        """All contacts, mapped read-only."""
        return _mapped(self.path / "contact", np.dtype("u1"), self.frame_count)

    @property
    def clips(self) -> pa.Table:
        return _read_rows(self.path / "clips.parquet", schema.CLIPS)

    @property
    def segments(self) -> pa.Table:
        return _read_rows(self.path / "segments.parquet", schema.SEGMENTS)


def verify_shard(path: Path) -> list[str]:
    """Everything that is wrong with a shard, one line each: files, checksums, schemas, and rows against frames."""
    try:
        shard = Shard.open(path)
        files = json.loads((path / "shard.json").read_text())["files"]
    except (CorruptShard, KeyError) as error:
        return [str(error)]
    problems = []
    for name in sorted(set(files) | set(_file_names(path)) - {"shard.json"}):
        if name not in files:
            problems.append(f"{path}/{name}: does not belong to the shard.")
        elif not (path / name).is_file():
            problems.append(f"{path}/{name}: is missing.")
        elif _fingerprint(path / name) != files[name]:
            problems.append(f"{path}/{name}: its bytes are not those that were written.")
    if problems:
        return problems
    try:
        shape = shard.qpos.shape, shard.contact.shape
        kept = shard.segments.filter(pa.compute.field("status") == "kept")  # type: ignore[attr-defined]
        frames = pa.compute.sum(kept["frames"]).as_py() or 0  # type: ignore[attr-defined]
        if not shape[0][0] == shape[1][0] == frames == shard.frame_count:
            problems.append(f"{path}: {frames} frames in segments, {shape[0][0]} in qpos, {shape[1][0]} in contact.")
        _ = shard.clips
    except CorruptShard as error:
        problems.append(str(error))
    return problems


def _mapped(folder: Path, dtype: np.dtype, frame_count: int) -> np.ndarray:
    """The rows of a one-shard Zarr array as mapped memory; checks that its chunks lie in order from the first byte."""
    try:
        about = json.loads((folder / "zarr.json").read_text())
        rows, columns = about["shape"]
        padded = about["chunk_grid"]["configuration"]["chunk_shape"][0]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptShard(f"{folder}: no readable zarr.json ({error}).") from None
    if rows != frame_count:
        raise CorruptShard(f"{folder}: {rows} rows, shard.json says {frame_count}.")
    if rows == 0:
        return np.zeros((0, columns), dtype)
    path = folder / "c" / "0" / "0"
    chunk_count, chunk_bytes = padded // CHUNK, CHUNK * columns * dtype.itemsize
    expected = chunk_count * (chunk_bytes + 16) + 4
    try:
        size = path.stat().st_size
        if size != expected:
            raise CorruptShard(f"{path}: {size} bytes, expected {expected}.")
        with path.open("rb") as file:
            file.seek(chunk_count * chunk_bytes)
            index = struct.unpack(f"<{2 * chunk_count}Q", file.read(16 * chunk_count))
    except OSError as error:
        raise CorruptShard(f"{path}: {error.strerror}.") from None
    if index != tuple(v for i in range(chunk_count) for v in (i * chunk_bytes, chunk_bytes)):
        raise CorruptShard(f"{path}: its chunks are not in order.")
    # A bare memmap is half as fast to slice as the array it wraps.
    return np.asarray(np.memmap(path, dtype, "r", shape=(padded, columns)))[:rows]


def _write_rows(path: Path, rows: list[dict[str, Any]], table_schema: pa.Schema) -> None:
    for row in rows:
        if unknown := set(row) - set(table_schema.names):
            raise ValueError(f"{path.name} has no column {', '.join(sorted(unknown))}.")
    columns = [[row.get(name) for row in rows] for name in table_schema.names]
    arrays = [
        pa.array(column, field.type, from_pandas=False) for column, field in zip(columns, table_schema, strict=True)
    ]
    pq.write_table(pa.Table.from_arrays(arrays, schema=table_schema), path, compression="zstd", write_statistics=True)


def _read_rows(path: Path, table_schema: pa.Schema) -> pa.Table:
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise CorruptShard(f"{path}: {error}") from None
    if table.schema.remove_metadata() != table_schema:
        raise CorruptShard(f"{path}: columns {table.schema.names}, expected {table_schema.names}.")
    return table


def _file_names(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def _fingerprint(path: Path) -> dict[str, Any]:
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return {"bytes": path.stat().st_size, "blake2b": digest.hexdigest()}


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
