"""Plans as files: a Parquet table with a row per segment, and a hash of all it says.

Columns: `segment` (name), `weight` (double) and, where the plan has bins, `bins` (list of float). Metadata: `motionloom.shards`
(the catalog it was made for), `motionloom.hme` (the embedder, or empty) and `motionloom.plan` (JSON: `format`, `policy`,
`bin_frames`, `hash`).
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from corpus.catalog import ROW_GROUP, Corpus
from corpus.durable import replace_file
from corpus.errors import MotionloomError
from corpus.loading.sampling_plan import Plan, bin_count

log = logging.getLogger(__name__)

FORMAT = 1


@dataclass(frozen=True)
class PlanFile:
    """A plan as it was stored, for the segments it was made for."""

    plan: Plan
    names: pa.Array
    """Of the segments."""
    stamp: bytes = b""
    """`Corpus.stamp` of the catalog it was made for."""
    hme_id: str = ""
    policy: Mapping[str, Any] = field(default_factory=dict)
    """How the plan came about, as plain values."""

    @property
    def hash(self) -> str:
        """Of everything the file says."""
        digest = hashlib.blake2b(digest_size=16)
        about = [FORMAT, self.stamp.decode(), self.hme_id, self.policy, self.plan.bin_frames, len(self.names)]
        digest.update(json.dumps(about, sort_keys=True).encode())
        lengths = pc.binary_length(self.names).to_numpy(zero_copy_only=False).astype("<i4")  # pyright: ignore[reportAttributeAccessIssue]
        bins = np.zeros(0, np.float32) if self.plan.bins is None else self.plan.bins
        for part in (lengths, _text(self.names), self.plan.weights, bins):
            digest.update(np.ascontiguousarray(part).data)
        return digest.hexdigest()


def save_plan(
    plan: Plan, path: Path, corpus: Corpus, *, policy: Mapping[str, Any] | None = None, hme_id: str = ""
) -> str:
    """Write a plan for a corpus's kept segments; gives its hash. It appears whole or not at all."""
    if plan.weights.shape != corpus.frames.shape:
        raise MotionloomError(f"The plan has {len(plan.weights)} weights, {corpus.path} {len(corpus.frames)} segments.")
    told = PlanFile(plan, corpus.kept["segment"].to_arrow().cast(pa.string()), corpus.stamp, hme_id, policy or {})
    about = {"format": FORMAT, "policy": told.policy, "bin_frames": plan.bin_frames, "hash": told.hash}
    columns = {"segment": told.names, "weight": pa.array(plan.weights)}
    if plan.bins is not None:
        ends = np.append(0, np.cumsum(bin_count(corpus.frames, plan.bin_frames)))
        if ends[-1] != len(plan.bins):
            raise MotionloomError(f"The plan has {len(plan.bins)} bins, the segments {ends[-1]}.")
        columns["bins"] = pa.LargeListArray.from_arrays(ends, pa.array(plan.bins))
    metadata = {
        b"motionloom.shards": corpus.stamp,
        b"motionloom.hme": hme_id.encode(),
        b"motionloom.plan": json.dumps(about, sort_keys=True).encode(),
    }
    _write(pa.table(columns).replace_schema_metadata(metadata), path)
    return about["hash"]


def read_plan(path: Path) -> PlanFile:
    """What a file says, whatever corpus it is for; raises `MotionloomError` where it is damaged or no plan."""
    try:
        found = _read(path)
    except FileNotFoundError:
        raise MotionloomError(f"No plan at {path}. `loom balance` writes one.") from None
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError, MemoryError, MotionloomError) as error:
        raise MotionloomError(f"{path} is no plan, or damaged ({error}): make it anew by `loom balance`.") from None
    if found is None:
        raise MotionloomError(
            f"{path} is damaged: its hash is not that of what it says. Make it anew by `loom balance`."
        )
    return found


def load_plan(path: Path, corpus: Corpus, *, allow_new: bool = False, window: int | None = None) -> Plan:
    """The plan for this corpus as it is now.

    Raises `MotionloomError` where the file is damaged or of another corpus; and where the corpus has grown since, for then its
    new segments would silently never be drawn. `allow_new` says that they should not be: the old ones keep their weights.
    Warns where the plan was made for windows of another length than `window`: what it told of exposure does not hold then.
    """
    found = read_plan(path)
    if window is not None and (meant := found.policy.get("window", window)) != window:
        log.warning(
            "%s was made for windows of %s frames, these have %d: groups' shares will differ", path, meant, window
        )
    if found.stamp == corpus.stamp and len(found.names) == len(corpus.frames):
        return found.plan
    row = _rows_of(corpus.kept["segment"], pl.Series(found.names))
    known = row >= 0
    if gone := int((np.bincount(row[known], minlength=len(found.names)) == 0).sum()):
        raise MotionloomError(
            f"{path} is of another corpus: {gone} of its {len(found.names)} segments are not in {corpus.path}."
        )
    count = f"{(~known).sum()} of {len(known)} segments"
    if known.all():
        return _moved(found.plan, row, corpus.frames)
    if not allow_new:
        raise MotionloomError(
            f"{corpus.path} has grown since {path} was made: {count} are new and would never be drawn. "
            "Make the plan anew by `loom balance`, or load it by `load_plan(…, allow_new=True)`."
        )
    log.warning("%s are newer than %s: they are not drawn", count, path)
    return _moved(found.plan, row, corpus.frames)


def _rows_of(names: pl.Series, among: pl.Series) -> np.ndarray:
    """For each name its place among others, −1 where it has none."""
    places = pl.DataFrame({"name": among, "row": np.arange(len(among))})
    found = pl.DataFrame({"name": names}).join(places, on="name", how="left", maintain_order="left")
    if len(found) != len(names):
        raise MotionloomError("Several of the plan's segments have the same name: make it anew by `loom balance`.")
    return found["row"].fill_null(-1).to_numpy()


def _moved(plan: Plan, row: np.ndarray, frames: np.ndarray) -> Plan:
    """A plan for segments of which each was the old `row`, or none (−1)."""
    weights = np.where(row >= 0, plan.weights[row], 0.0)
    if plan.bins is None:
        return Plan(weights)
    count = bin_count(frames, plan.bin_frames)
    old_count = np.zeros(len(plan.weights), np.int64)
    old_count[row[row >= 0]] = count[row >= 0]
    old_first = np.cumsum(old_count) - old_count
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    old = np.repeat(np.where(row >= 0, old_first[row], -1), count)
    bins = np.where(old >= 0, plan.bins[np.where(old >= 0, old + within, 0)], 0.0)
    return Plan(weights, bins, plan.bin_frames)


def _read(path: Path) -> PlanFile | None:
    """None where the hash is another."""
    file = pq.ParquetFile(path, page_checksum_verification=True)
    metadata = file.schema_arrow.metadata or {}
    about = json.loads(metadata[b"motionloom.plan"])
    if about["format"] != FORMAT:
        raise ValueError(f"format {about['format']}, this software reads {FORMAT}")
    table = file.read()
    if table.column_names not in (["segment", "weight"], ["segment", "weight", "bins"]):
        raise ValueError(f"columns {', '.join(table.column_names)}")
    names, weights = (table[name].combine_chunks() for name in ("segment", "weight"))
    if names.null_count or weights.null_count:
        raise ValueError("nulls")
    bins = None
    if "bins" in table.column_names:
        bins = table["bins"].cast(pa.large_list(pa.float32())).combine_chunks().flatten().to_numpy()
    plan = Plan(weights.to_numpy(), bins, about["bin_frames"])
    stamp, hme_id = metadata[b"motionloom.shards"], metadata[b"motionloom.hme"].decode()
    found = PlanFile(plan, names, stamp, hme_id, about["policy"])
    return found if found.hash == about["hash"] else None


def _write(table: pa.Table, path: Path) -> None:
    # Names and weights hardly shrink, and a plan is read whole before a run begins: lz4 is read in a third of zstd's time.
    how = {"compression": "lz4", "row_group_size": ROW_GROUP, "use_dictionary": False, "write_page_checksum": True}
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, lambda temporary: pq.write_table(table, temporary, **how))


def _text(names: pa.Array) -> np.ndarray:
    """The bytes of all names, one after another."""
    offsets, text = names.buffers()[1:]
    width = np.int64 if pa.types.is_large_string(names.type) else np.int32
    ends = np.frombuffer(offsets, width)[names.offset : names.offset + len(names) + 1]
    return (
        np.frombuffer(text, np.uint8)[ends[0] : ends[-1]] if text is not None and len(ends) else np.zeros(0, np.uint8)
    )
