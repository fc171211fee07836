"""What a corpus holds and whether it is whole: behind `loom info` and `loom verify`."""

from __future__ import annotations

import filecmp
import json
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from corpus import catalog
from corpus.errors import MotionloomError
from corpus.ledger import Ledger, ledger
from corpus.store import verify_shard
from hme.tables import read_about
from pipelines import plan

log = logging.getLogger(__name__)


def ledger_of(out: Path) -> tuple[Ledger, float]:
    """How the corpus's number of frames is made up; and its frame rate [Hz]."""
    fps = float(_about(out)["fps"])
    return ledger(_table(out, "clips"), _table(out, "segments"), fps, copies=_copies(out)), fps


def _copies(out: Path) -> pl.LazyFrame | None:
    """Kept segments that are copies of others; None where not all have been compared."""
    path = out / "hme" / "duplicates.parquet"
    try:
        if not path.exists() or read_about(path, command="loom dedup").get("shards") != catalog.stamp_of(out).decode():
            return None
    except MotionloomError as error:
        log.warning("%s", error)
        return None
    return pl.scan_parquet(path, glob=False).filter(~pl.col("keeper")).select("segment")


def reject_reasons(out: Path, *, limit: int) -> list[tuple[str, str, int, int]]:
    """(clips or segments, reason, how many, frames lost), the most frequent first."""
    left_out = pl.col("status") == "rejected"
    tables = []
    for kind in ("clips", "segments"):
        rows = (
            _table(out, kind).filter(left_out).group_by("reason").agg(pl.len().alias("count"), pl.col("frames").sum())
        )
        tables.append(rows.with_columns(kind=pl.lit(kind)).select("kind", "reason", "count", "frames"))
    table = pl.concat(tables).sort("count", "kind", "reason", descending=[True, False, False]).head(limit).collect()
    return table.rows()


def troubles(out: Path) -> Iterator[str]:
    """Everything that is wrong with a corpus, a line each: damage, gaps, and tables that disagree."""
    _about(out)
    finished = plan.finished_shards(out)
    for shard in sorted(finished):
        yield from (line if shard in line else f"{shard}: {line}" for line in verify_shard(out / "shards" / shard))
    found = list(table_troubles(out, finished))
    yield from found or _differences_from_a_fold(out)
    if (out / "hme").is_dir() and not found:
        from hme.space import damage

        yield from damage(catalog.Corpus.open(out))


def table_troubles(out: Path, finished: set[str]) -> Iterator[str]:
    """Where plan and catalog disagree with each other, or with the shards there are."""
    _, planned = plan.read_plan(out)
    for shard in sorted(set(planned["shard"]) - finished):
        yield f"{shard}: planned, but not there; run the build again"
    try:
        yield from _catalog_troubles(out, finished)
    except MotionloomError as error:
        yield str(error)
    except plan.UNREADABLE as error:
        yield f"{out / 'catalog'}: cannot be read ({error}); run the build again to fold it anew"


def _catalog_troubles(out: Path, finished: set[str]) -> Iterator[str]:
    clips = _table(out, "clips")
    named = set(clips.select(pl.col("shard").unique()).collect()["shard"])
    for shard in sorted(named ^ finished):
        yield f"{shard}: {'in the catalog but not on disk' if shard in named else 'not in the catalog'}"
    twice = clips.group_by(plan.IDENTITY).agg(pl.col("shard")).filter(pl.col("shard").list.len() > 1).collect()
    for row in twice.sort(plan.IDENTITY).head(20).to_dicts():
        yield f"{row['source']}:{row['path']} stands in the catalog {len(row['shard'])} times"
    kept = _table(out, "segments").filter(pl.col("status") == "kept").select(pl.col("frames").sum()).collect().item()
    told = clips.select(pl.col("frames_kept").sum()).collect().item()
    if kept != told:
        yield f"catalog: kept segments have {kept} frames, the clips' rows say {told}"
    try:
        ledger_of(out)
    except Exception as error:  # whatever it raises, it is what we came to hear
        yield f"ledger: {error}"


def _differences_from_a_fold(out: Path) -> Iterator[str]:
    """The catalog has no checksum: it must be, byte for byte, what the shards' rows give."""
    with tempfile.TemporaryDirectory(prefix="motionloom-verify-") as folder:
        catalog.fold(out, Path(folder))
        for path in sorted(Path(folder).iterdir()):
            if not filecmp.cmp(path, out / "catalog" / path.name, shallow=False):
                yield f"{out / 'catalog' / path.name}: not what the shards' rows give; loom repair folds it anew"


def _table(out: Path, name: str) -> pl.LazyFrame:
    files = sorted((out / "catalog").glob(f"{name}-*.parquet"))
    if not files:
        raise MotionloomError(f"{out} has no catalog yet: run the build to its end first.")
    return pl.scan_parquet(files)


def _about(out: Path) -> dict[str, Any]:
    try:
        return json.loads((out / "corpus.json").read_text())
    except FileNotFoundError:
        raise MotionloomError(f"{out} is no corpus: it has no corpus.json.") from None
    except (ValueError, OSError) as error:
        raise MotionloomError(f"{out / 'corpus.json'} is damaged: {error}.") from None
