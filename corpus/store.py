"""One shard: a folder of frames (Zarr) and rows (Parquet), written by one task, there by one rename, read as mapped memory.

The bytes are described in docs/format.md. They depend on the clips and the recipe alone.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import shutil
import struct
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, UInt8

from corpus import schema
from corpus.durable import sync
from corpus.errors import CorruptShard
from corpus.mapped import map_file
from corpus.motion import RobotMotion

log = logging.getLogger(__name__)

FORMAT = 1
"""Version of the layout of a shard."""
CHUNK = 256
"""Frames of one inner Zarr chunk."""
CONTACT_COLUMNS = 4
ROW_FILES = ("clips.parquet", "segments.parquet")
"""The files of a shard that hold rows; the others hold frames."""


class ShardWriter:
    """Collects the clips of one shard and lets it appear whole.

    with ShardWriter(folder, shard_id, recipe_hash) as writer:
        writer.add(clip_row, segment_rows, motion)
        writer.commit()
    """

    def __init__(self, shards: Path, shard_id: str, recipe_hash: str, *, columns: int = 36):
        """`columns` is the width of `qpos`: 7 and the robot's joints."""
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

    def __exit__(self, *_: object) -> None:
        """Give the frames' memory back; `commit` has left nothing on the disk but a whole shard."""
        self.qpos, self.contact = [], []

    def add(self, clip: dict[str, Any], segments: list[dict[str, Any]], motion: RobotMotion | None) -> None:
        """A clip's row, its segments' rows (start, frames, status, reason, numbers, measures) and its whole motion.

        Fills in segment, clip, shard and row; takes the frames of the kept segments.
        """
        self.clips.append({**clip, "shard": self.shard_id})
        for segment in segments:
            row = None
            if segment["status"] == "kept":
                row = self.frame_count
                self._take(motion, segment["start"], segment["frames"])
            name = f"{clip['clip'][:16]}-{segment['start']:06d}"
            self.segments.append({**segment, "segment": name, "clip": clip["clip"], "shard": self.shard_id, "row": row})

    def take(self, clip: dict[str, Any], segments: list[dict[str, Any]], shard: Shard) -> None:
        """A clip's row, its segments' rows and their frames as another shard has them."""
        self.clips.append({**clip, "shard": self.shard_id})
        for segment in segments:
            row = None
            if segment["status"] == "kept":
                row, part = self.frame_count, slice(segment["row"], segment["row"] + segment["frames"])
                self.qpos.append(shard.qpos[part])
                self.contact.append(shard.contact[part])
                self.frame_count += segment["frames"]
            self.segments.append({**segment, "shard": self.shard_id, "row": row})

    def commit(self) -> None:
        """Write everything under a temporary name, make it durable, and rename. A whole shard that exists is left alone."""
        if _is_whole(self.target):
            return
        try:
            self._write()
            self._appear()
        finally:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def _take(self, motion: RobotMotion | None, start: int, frames: int) -> None:
        if motion is None or motion.contact is None:
            raise ValueError("A kept segment needs a motion with contacts.")
        # Copies: the caller may reuse its arrays before the shard is written.
        qpos = np.array(motion.qpos[start : start + frames], np.float32)
        contact = np.array(motion.contact[start : start + frames], np.uint8)
        if (
            qpos.shape != (frames, self.columns)
            or contact.shape != (frames, CONTACT_COLUMNS)
            or start < 0
            or not frames
        ):
            raise ValueError(f"Segment {start}+{frames} does not fit its motion {motion.qpos.shape}.")
        self.qpos.append(qpos)
        self.contact.append(contact)
        self.frame_count += frames

    def _write(self) -> None:
        folder = self._temporary
        folder.mkdir(parents=True)
        _write_frames(folder, self.qpos, self.contact, self.columns)
        _write_rows(folder / "clips.parquet", self.clips, schema.CLIPS)
        _write_rows(folder / "segments.parquet", self.segments, schema.SEGMENTS)
        about = {
            "format": FORMAT,
            "shard": self.shard_id,
            "recipe": self.recipe_hash,
            "frames": self.frame_count,
            "files": {name: fingerprint(folder / name) for name in _file_names(folder)},
        }
        (folder / "shard.json").write_text(_as_text(about))
        for path in (*folder.rglob("*"), folder):
            sync(path)

    def _appear(self) -> None:
        try:
            self._temporary.rename(self.target)
        except OSError:
            if not self.target.exists():
                raise
            # Either another worker was first, with the same bytes, or what stands there is damaged and gives way.
            if not _is_whole(self.target):
                log.warning("%s is damaged and is replaced", self.target)
                aside = self.target.with_name(f"{self._temporary.name}-damaged")
                self.target.rename(aside)
                self._temporary.rename(self.target)
                shutil.rmtree(aside, ignore_errors=True)
        sync(self.target.parent)


@dataclass(frozen=True)
class Shard:
    """A finished shard, opened for reading. Its arrays are mapped and its rows read when they are first asked for."""

    path: Path
    frame_count: int
    recipe: str
    """Hash of the recipe that made it."""
    files: dict[str, dict[str, Any]]
    """Size and checksum of every file, by name."""

    @classmethod
    def open(cls, path: Path, *, checksums: bool = False, rows_only: bool = False) -> Shard:
        """Raises `CorruptShard` where the folder is no whole shard; `rows_only` asks for the tables alone, not for frames.

        Always checked: every file is there with its size, and, when they are read, the rows' checksums and the order
        of the chunks. A bit that flipped among the frames is found only with `checksums`, which reads every byte.
        """
        path = Path(path)
        about = read_about(path)
        shard = cls(path, about["frames"], about["recipe"], about["files"])
        needed = {name: shard.files[name] for name in ROW_FILES if name in shard.files} if rows_only else shard.files
        if damage := next(_damaged_files(path, needed, checksums=checksums), None):
            raise CorruptShard(f"{damage} Delete the shard and run the build again.")
        return shard

    @cached_property
    def qpos(self) -> Float[np.ndarray, "T Q"]:
        """All frames, mapped read-only: root xyz [m], root quaternion `[w x y z]`, joint angles [rad]."""
        return self._mapped("qpos", np.dtype("<f4"))

    @cached_property
    def contact(self) -> UInt8[np.ndarray, "T 4"]:
        """Left heel, left toe, right heel, right toe on the ground (1) or not (0); mapped read-only."""
        return self._mapped("contact", np.dtype("u1"))

    @property
    def clips(self) -> pa.Table:
        """Rows of `corpus.schema.CLIPS`."""
        return self._rows("clips.parquet", schema.CLIPS)

    @property
    def segments(self) -> pa.Table:
        """Rows of `corpus.schema.SEGMENTS`."""
        return self._rows("segments.parquet", schema.SEGMENTS)

    def __reduce__(self):
        # Another process opens the files itself: mapped arrays would travel as gigabytes.
        return Shard.open, (self.path,)

    def _mapped(self, name: str, dtype: np.dtype) -> np.ndarray:
        """The rows of a one-shard Zarr array as mapped memory; its chunks must lie in order from the first byte."""
        about = json.loads(self._bytes(f"{name}/zarr.json"))
        (rows, columns), (padded, _) = about["shape"], about["chunk_grid"]["configuration"]["chunk_shape"]
        if rows != self.frame_count:
            raise CorruptShard(f"{self.path}/{name}: {rows} rows, shard.json says {self.frame_count}.")
        if rows == 0:
            return np.zeros((0, columns), dtype)
        path = self.path / name / "c" / "0" / "0"
        _check_index(path, padded // CHUNK, CHUNK * columns * dtype.itemsize)
        return map_file(path, dtype, (padded, columns))[:rows]

    def _rows(self, name: str, table_schema: pa.Schema) -> pa.Table:
        try:
            # Not pq.read_table, whose preparations take longer than reading a shard's few hundred rows.
            table = pq.ParquetFile(pa.BufferReader(self._bytes(name))).read(use_threads=False)
        except pa.ArrowException as error:
            raise CorruptShard(f"{self.path}/{name}: {error}") from None
        if table.schema.remove_metadata() != table_schema:
            raise CorruptShard(f"{self.path}/{name}: columns {table.schema.names}, expected {table_schema.names}.")
        return table

    def _bytes(self, name: str) -> bytes:
        """A small file's content, checked."""
        try:
            content = (self.path / name).read_bytes()
        except OSError as error:
            raise CorruptShard(f"{self.path}/{name}: {error.strerror}.") from None
        if (
            name not in self.files
            or hashlib.blake2b(content, digest_size=16).hexdigest() != self.files[name]["blake2b"]
        ):
            raise CorruptShard(f"{self.path}/{name}: its bytes are not those that were written.")
        return content


def verify_shard(path: Path) -> list[str]:
    """Everything that is wrong with a shard, one line each: files, checksums, tables, and rows against frames."""
    path = Path(path)
    try:
        about = read_about(path)
    except CorruptShard as error:
        return [str(error)]
    problems = [*_damaged_files(path, about["files"], checksums=True)]
    problems += [f"{path}/{n}: does not belong to the shard." for n in _file_names(path) if n not in about["files"]]
    if about["shard"] != path.name:
        problems.append(f"{path}/shard.json: names the shard {about['shard']}.")
    if about["recipe"] != (recipe := _recipe_of_corpus(path, about["recipe"])):
        problems.append(f"{path}/shard.json: made by recipe {about['recipe']}, the corpus by {recipe}.")
    if problems:
        return problems
    try:
        return [f"{path}: {problem}" for problem in _row_problems(Shard.open(path))]
    except CorruptShard as error:
        return [str(error)]


def _is_whole(path: Path) -> bool:
    return path.exists() and not verify_shard(path)


def _row_problems(shard: Shard) -> list[str]:
    """Where tables, arrays and names disagree."""
    problems = []
    clips, segments = shard.clips.to_pylist(), shard.segments.to_pylist()
    if shard.qpos.shape[0] != shard.frame_count or shard.contact.shape != (shard.frame_count, CONTACT_COLUMNS):
        problems.append(f"qpos is {shard.qpos.shape}, contact {shard.contact.shape}.")
    next_row, found = 0, {}
    for segment in segments:
        if segment["status"] == "kept":
            if segment["row"] != next_row:
                problems.append(f"segment {segment['segment']} stands at row {segment['row']}, expected {next_row}.")
            next_row += segment["frames"]
        place = segment["clip"], segment["status"]
        found[place] = found.get(place, 0) + segment["frames"]
    if next_row != shard.frame_count:
        problems.append(f"{next_row} frames in kept segments, {shard.frame_count} in the arrays.")
    told: dict[tuple[str, str], int] = {}
    for clip in clips:
        for status in ("kept", "rejected"):
            place = clip["clip"], status
            told[place] = told.get(place, 0) + (clip[f"frames_{status}"] or 0)
    for (clip, status), frames in sorted(found.items()):
        if told.get((clip, status), 0) != frames:
            problems.append(
                f"clip {clip}: {frames} frames {status} in segments, {told.get((clip, status), 0)} in its row."
            )
    if wrong := {row["shard"] for row in (*clips, *segments)} - {shard.path.name}:
        problems.append(f"rows of another shard: {', '.join(sorted(map(str, wrong)))}.")
    return problems


def _damaged_files(path: Path, files: dict[str, dict[str, Any]], *, checksums: bool) -> Iterator[str]:
    """A line for each file that is not there as it was written."""
    for name, written in sorted(files.items()):
        try:
            size = (path / name).stat().st_size
            if size != written["bytes"]:
                yield f"{path}/{name}: {size} bytes, expected {written['bytes']}."
            elif checksums and fingerprint(path / name) != written:
                yield f"{path}/{name}: its bytes are not those that were written."
        except OSError as error:
            yield f"{path}/{name}: {error.strerror}."


def read_about(path: Path) -> dict[str, Any]:
    """The content of shard.json, which has no checksum: it must be, to the letter, what a writer writes."""
    try:
        text = (path / "shard.json").read_text()
        about = json.loads(text)
        version = about["format"]
        as_written = text == _as_text(about)
        kinds = [type(about[name]) for name in ("shard", "recipe", "frames", "files")]
        fingerprints = {tuple(written) for written in about["files"].values()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptShard(f"{path}: no readable shard.json ({error}).") from None
    if version != FORMAT:
        raise CorruptShard(f"{path}: format {version}, this version reads {FORMAT}.")
    if not as_written or kinds != [str, str, int, dict] or len(about) != 5 or fingerprints != {("blake2b", "bytes")}:
        raise CorruptShard(f"{path}/shard.json: it is not as it was written.")
    return about


def _recipe_of_corpus(path: Path, default: str) -> str:
    """The recipe hash of the corpus that a shard lies in; `default` where it lies in none."""
    try:
        return str(json.loads((path.parent.parent / "corpus.json").read_text())["recipe_hash"])
    except (OSError, ValueError, KeyError, TypeError):
        return default


def _check_index(path: Path, chunk_count: int, chunk_bytes: int) -> None:
    """Do the chunks of a Zarr shard lie one after the other, with nothing between them?"""
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


def _write_frames(folder: Path, qpos: list[np.ndarray], contact: list[np.ndarray], columns: int) -> None:
    """A Zarr group of two arrays. Zarr says what the metadata are; the bytes, plain as they are, are written here, which is
    ten times faster: the chunks in order, where each begins and how long it is, and a checksum of that index."""
    import google_crc32c

    none = np.zeros((0, columns), np.float32), np.zeros((0, CONTACT_COLUMNS), np.uint8)
    group, arrays = _zarr_metadata(columns)
    (folder / "zarr.json").write_text(group)
    for name, parts in (("qpos", [none[0], *qpos]), ("contact", [none[1], *contact])):
        count, width, size = sum(map(len, parts)), parts[0].shape[1], CHUNK * parts[0].itemsize * parts[0].shape[1]
        padded = max(CHUNK, -(-count // CHUNK) * CHUNK)
        about = json.loads(arrays[name])
        about["shape"] = [count, width]
        about["chunk_grid"]["configuration"]["chunk_shape"] = [padded, width]
        (folder / name).mkdir()
        (folder / name / "zarr.json").write_text(json.dumps(about, indent=2))
        if not count:
            continue
        index = b"".join(struct.pack("<2Q", begin, size) for begin in range(0, size * padded // CHUNK, size))
        path = folder / name / "c" / "0" / "0"
        path.parent.mkdir(parents=True)
        with path.open("wb") as file:
            for part in (*parts, np.zeros((padded - count, width), parts[0].dtype)):
                file.write(np.ascontiguousarray(part).data)
            file.write(index + struct.pack("<I", google_crc32c.value(index)))


@functools.lru_cache(4)
def _zarr_metadata(columns: int) -> tuple[str, dict[str, str]]:
    """What Zarr writes for the group and for arrays of one chunk; only their lengths differ from shard to shard."""
    import zarr

    with tempfile.TemporaryDirectory() as place:
        group = zarr.open_group(place, mode="w", zarr_format=3)
        for name, width, dtype in (("qpos", columns, "float32"), ("contact", CONTACT_COLUMNS, "uint8")):
            group.create_array(
                name, shape=(CHUNK, width), dtype=dtype, chunks=(CHUNK, width), shards=(CHUNK, width),
                compressors=None, filters=None, fill_value=0, config={"write_empty_chunks": True},
            )  # fmt: skip
        names = ("qpos", "contact")
        return (Path(place) / "zarr.json").read_text(), {n: (Path(place) / n / "zarr.json").read_text() for n in names}


def _write_rows(path: Path, rows: list[dict[str, Any]], table_schema: pa.Schema) -> None:
    for row in rows:
        if unknown := set(row) - set(table_schema.names):
            raise ValueError(f"{path.name} has no column {', '.join(sorted(unknown))}.")
    columns = {name: [_storable(row.get(name)) for row in rows] for name in table_schema.names}
    arrays = [pa.array(columns[field.name], field.type, from_pandas=False) for field in table_schema]
    pq.write_table(pa.Table.from_arrays(arrays, schema=table_schema), path, compression="zstd")


def _storable(value: Any) -> Any:
    """Text from undecodable names may hold lone surrogates, which Parquet cannot."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _file_names(folder: Path) -> list[str]:
    """All files of a shard but shard.json itself, sorted."""
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    return [name for name in names if name != "shard.json"]


def fingerprint(path: Path) -> dict[str, Any]:
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return {"bytes": path.stat().st_size, "blake2b": digest.hexdigest()}


def _as_text(about: dict[str, Any]) -> str:
    return json.dumps(about, indent=1, sort_keys=True) + "\n"
