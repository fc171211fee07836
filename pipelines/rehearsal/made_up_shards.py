"""Shards that nobody built, at any number: rows as a build leaves them, frames that are holes in files.

Every shard has rows of its own and the layout of docs/format.md, so that all that reads a corpus reads these too. Its
frames are zeros that take no disk; their checksums are worked out once for all shards of one length.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Int

from corpus import schema
from corpus.motion import CORPUS_FPS, RobotMotion
from corpus.store import CHUNK, ShardWriter
from pipelines.rehearsal.made_up import chosen

SHARDS_AT_ONCE = 100
"""Shards whose rows are made together."""
SEGMENT_FRAMES = (50, 600)
"""Shorter clips give no segment; longer ones are cut into pieces of no more than this [frames]."""
LOST = 0.02
"""Share of a segment's frames that is cut away at its end."""
KEPT = 0.91
"""Share of the segments that pass."""
REASONS = ("foot_slide", "floating", "penetration", "jerk", "self_collision", "limit_use")
SOURCE_FPS = 120.0
WIDTHS = {"qpos": 36 * 4, "contact": 4}
"""Bytes of a row of each array."""


@dataclass(frozen=True)
class Cut:
    """Segments of many clips, in order."""

    clip: Int[np.ndarray, " S"]
    """Which clip each is of."""
    start: Int[np.ndarray, " S"]
    frames: Int[np.ndarray, " S"]
    kept: Bool[np.ndarray, " S"]

    def frames_by_clip(self, counted: Bool[np.ndarray, " S"], clip_count: int) -> Int[np.ndarray, " C"]:
        return np.bincount(self.clip, self.frames * counted, clip_count).astype(np.int64)


def write_shards(rows: pl.DataFrame, out: Path, recipe_hash: str, *, seed: int = 0) -> int:
    """Write every shard that these plan rows tell of into `out/shards`; gives how many segments were kept."""
    model, kept = _model(recipe_hash), 0
    (out / "shards").mkdir(parents=True, exist_ok=True)
    rows = rows.sort("shard", "clip", "source", "path", "part")
    names, firsts = _runs(rows["shard"])
    for number in range(0, len(names), SHARDS_AT_ONCE):
        some = names[number : number + SHARDS_AT_ONCE]
        part = rows[int(firsts[number]) : int(firsts[number + len(some)])]
        clips, segments = tables(part, np.random.default_rng([seed, number]))
        for name, own_clips, own_segments in zip(some, _split(clips, some), _split(segments, some), strict=True):
            kept += _write_shard(out / "shards" / name, own_clips, own_segments, model)
    return kept


def tables(rows: pl.DataFrame, rng: np.random.Generator) -> tuple[pa.Table, pa.Table]:
    """Clip and segment rows of whole shards, from their plan rows in the order in which a build takes them."""
    first = rows["clip"].is_first_distinct().to_numpy()
    clip_frames = np.where(first, rows["frames"].to_numpy(), 0)
    cut = _cut(clip_frames, rng)
    return _clips(rows, clip_frames, cut, rng), _segments(rows, cut, rng)


def _cut(clip_frames: Int[np.ndarray, " C"], rng: np.random.Generator) -> Cut:
    shortest, longest = SEGMENT_FRAMES
    count = np.where(clip_frames < shortest, 0, -(-clip_frames // longest))
    clip = np.repeat(np.arange(len(count)), count)
    number = np.arange(len(clip)) - np.repeat(np.cumsum(count) - count, count)
    start, stop = (n * clip_frames[clip] // count[clip] for n in (number, number + 1))
    frames = np.ceil((stop - start) * (1 - LOST)).astype(np.int64)
    return Cut(clip, start, frames, rng.random(len(clip)) < KEPT)


def _clips(rows: pl.DataFrame, clip_frames: Int[np.ndarray, " C"], cut: Cut, rng: np.random.Generator) -> pa.Table:
    kept, rejected = (cut.frames_by_clip(counted, len(rows)) for counted in (cut.kept, ~cut.kept))
    passed, copy = pl.col("frames_kept") > 0, pl.col("frames") == 0
    reason = pl.when(copy).then(pl.lit("duplicate_file")).otherwise(pl.lit("foot_slide"))
    detail = pl.when(copy).then(pl.lit("the same bytes as another file")).otherwise(pl.lit("no segment was kept"))
    numbers = pl.concat_str(pl.lit('{"frames": '), "frames", pl.lit("}"))
    robot = pl.col("source") == "robot"
    made = rows.with_columns(
        frames=clip_frames, frames_kept=kept, frames_rejected=rejected, frames_cut=clip_frames - kept - rejected,
        source_fps=pl.lit(SOURCE_FPS), scale=pl.Series(rng.normal(0.8, 0.05, len(rows))), note=pl.lit(""),
    ).with_columns(
        status=pl.when(passed).then(pl.lit("kept")).otherwise(pl.lit("rejected")),
        reason=pl.when(~passed).then(reason),
        detail=pl.when(~passed).then(detail),
        numbers=pl.when(~passed).then(numbers),
        source_frames=(pl.col("frames") * (SOURCE_FPS / CORPUS_FPS)).cast(pl.Int64),
        scale=pl.when(~robot).then("scale"),
        body_model=pl.when(robot).then(pl.lit("")).otherwise(pl.lit("mean")),
    )  # fmt: skip
    return _as_table(made, schema.CLIPS)


def _segments(rows: pl.DataFrame, cut: Cut, rng: np.random.Generator) -> pa.Table:
    count = len(cut.clip)
    kept_frames = cut.frames * cut.kept
    shard = rows["shard"].rle_id().to_numpy()[cut.clip]
    of_shard = np.bincount(shard, kept_frames, len(rows)).astype(np.int64)
    row = np.cumsum(kept_frames) - kept_frames - (np.cumsum(of_shard) - of_shard)[shard]
    kept, value = pl.Series(cut.kept), pl.Series(rng.random(count).round(3))
    made = pl.DataFrame({
        "clip": rows["clip"].gather(cut.clip), "shard": rows["shard"].gather(cut.clip),
        "start": cut.start, "frames": cut.frames, "row": row,
        "reason": chosen(REASONS, rng.integers(len(REASONS), size=count)),
        **dict(zip(schema.QUALITY, rng.random((len(schema.QUALITY), count), np.float32), strict=True)),
    }).with_columns(
        segment=pl.format("{}-{}", pl.col("clip").str.head(16), pl.col("start").cast(pl.String).str.zfill(6)),
        status=pl.when(kept).then(pl.lit("kept")).otherwise(pl.lit("rejected")),
        row=pl.when(kept).then("row"),
        reason=pl.when(~kept).then("reason"),
        numbers=pl.when(~kept).then(pl.concat_str(pl.lit('{"limit": 0.15, "value": '), value, pl.lit("}"))),
    )  # fmt: skip
    return _as_table(made, schema.SEGMENTS)


def _as_table(made: pl.DataFrame, table_schema: pa.Schema) -> pa.Table:
    return made.select(table_schema.names).to_arrow(compat_level=pl.CompatLevel.oldest()).cast(table_schema)


def _split(table: pa.Table, shards: list[str]) -> Iterator[pa.Table]:
    """The rows of each shard; they lie one after another."""
    names, firsts = _runs(pl.Series(table["shard"]))
    where = {name: (int(first), int(end)) for name, first, end in zip(names, firsts, firsts[1:], strict=False)}
    for shard in shards:
        first, end = where.get(shard, (0, 0))
        yield table.slice(first, end - first)


def _runs(values: pl.Series) -> tuple[list[str], Int[np.ndarray, " R+1"]]:
    """Values that stand one after another, each with the number of its first row, and at the end how many rows there are."""
    firsts = values.ne_missing(values.shift()).arg_true().to_numpy()
    return values.gather(firsts).to_list(), np.append(firsts, len(values))


@dataclass(frozen=True)
class _Model:
    """What a real shard is made of, to be stretched."""

    about: dict[str, Any]
    metadata: dict[str, dict[str, Any]]


def _model(recipe_hash: str) -> _Model:
    """Written by the writer itself, so that what is made up has its layout."""
    with tempfile.TemporaryDirectory() as place:
        with ShardWriter(Path(place), "0" * 16, recipe_hash) as writer:
            motion = RobotMotion(np.zeros((2, 36), np.float32), CORPUS_FPS, np.zeros((2, 4), np.uint8))
            segment = {"start": 0, "frames": 2, "status": "kept"}
            writer.add({"clip": "0" * 32, "frames": 2, "frames_kept": 2}, [segment], motion)
            writer.commit()
        names = ("zarr.json", "qpos/zarr.json", "contact/zarr.json")
        read = {name: json.loads((writer.target / name).read_text()) for name in (*names, "shard.json")}
        return _Model(read.pop("shard.json"), read)


def _write_shard(folder: Path, clips: pa.Table, segments: pa.Table, model: _Model) -> int:
    """One shard, by one rename; not flushed to the disk. Gives how many segments it keeps."""
    kept = segments["frames"].filter(segments["row"].is_valid()).to_numpy()
    frames = int(kept.sum())
    temporary = folder.with_name(f".tmp-{folder.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    for array in WIDTHS:
        (temporary / array / "c" / "0").mkdir(parents=True)
    contents = {"clips.parquet": _parquet(clips), "segments.parquet": _parquet(segments), **_metadata(model, frames)}
    files = {name: _fingerprint(content) for name, content in contents.items()}
    for array, width in WIDTHS.items():
        if frames:
            files[f"{array}/c/0/0"] = _write_holes(temporary / array / "c" / "0" / "0", -(-frames // CHUNK), width)
    about = model.about | {"shard": folder.name, "frames": frames, "files": files}
    contents["shard.json"] = (json.dumps(about, indent=1, sort_keys=True) + "\n").encode()
    for name, content in contents.items():
        (temporary / name).write_bytes(content)
    temporary.rename(folder)
    return len(kept)


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def _metadata(model: _Model, frames: int) -> dict[str, bytes]:
    """Zarr's metadata for arrays of this length."""
    texts = {}
    for name, about in model.metadata.items():
        if "shape" in about:
            padded, width = max(1, -(-frames // CHUNK)) * CHUNK, about["shape"][1]
            grid = {**about["chunk_grid"], "configuration": {"chunk_shape": [padded, width]}}
            about = about | {"shape": [frames, width], "chunk_grid": grid}
        texts[name] = json.dumps(about, indent=2).encode()
    return texts


def _write_holes(path: Path, chunk_count: int, width: int) -> dict[str, Any]:
    """A Zarr shard of zeros that takes the disk of its index alone; gives its fingerprint."""
    index = _index(chunk_count, width)
    with path.open("wb") as file:
        file.seek(chunk_count * CHUNK * width)
        file.write(index)
    return _fingerprint_of_holes(chunk_count, width)


@lru_cache(4096)
def _index(chunk_count: int, width: int) -> bytes:
    size = CHUNK * width
    index = b"".join(struct.pack("<2Q", number * size, size) for number in range(chunk_count))
    return index + struct.pack("<I", google_crc32c.value(index))


@lru_cache(4096)
def _fingerprint_of_holes(chunk_count: int, width: int) -> dict[str, Any]:
    digest, index, zeros = hashlib.blake2b(digest_size=16), _index(chunk_count, width), bytes(CHUNK * width)
    for _ in range(chunk_count):
        digest.update(zeros)
    digest.update(index)
    return {"blake2b": digest.hexdigest(), "bytes": chunk_count * len(zeros) + len(index)}


def _fingerprint(content: bytes) -> dict[str, Any]:
    return {"blake2b": hashlib.blake2b(content, digest_size=16).hexdigest(), "bytes": len(content)}
