"""Plan a build: find the clips, know each by its content, and deal them out to shards. What is planned stays planned.

A shard's clips and its name depend on the files and the recipe alone, not on workers, order or where the files lie. The
plan is one Parquet file with a row per clip, written whole before the first shard is built; the one with the highest
number counts. A later run keeps the shards that exist and those it can still build, and deals out only what is new.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Int

from corpus.durable import replace_file
from corpus.errors import MotionloomError
from corpus.motion import Clip
from corpus.sources import source
from pipelines.matching import has

SHARD_FRAMES = 200_000
"""About how many frames make a shard."""
SMALL_SHARD_FRAMES = 32_000
"""A small corpus is cut finer, down to about this many frames (a second's work), so that it fills the workers."""
SMALL_SHARD_COUNT = 32
"""… but into no more shards than this."""
CLIP_FRAMES_LIMIT = 1_000_000
"""No file counts for more frames than this when the shards are balanced: it is probably no motion at all."""

UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError)
"""What polars raises where a Parquet file is damaged; what is written over with zeros makes it panic."""

IDENTITY = ["source", "path", "part", "clip"]
"""What makes a row: the same bytes under two names are two rows."""

CLIP_COLUMNS: dict[str, type[pl.DataType]] = {
    "source": pl.String,
    "path": pl.String,
    "part": pl.String,
    "licence": pl.String,
    "subject": pl.String,
    "recording": pl.String,
    "label": pl.String,
    "byte_count": pl.Int64,
    "frames": pl.Int64,
}
"""A scanned clip; `frames` is an estimate from the file's size."""

PLAN_COLUMNS = {"shard": pl.String, "clip": pl.String, **CLIP_COLUMNS, "duplicate_of": pl.String}
"""A planned clip; `duplicate_of` names a clip of the same bytes in an older shard, empty where there is none."""


@dataclass(frozen=True)
class Plan:
    rows: pl.DataFrame
    """Every clip with its shard, sorted by shard."""
    missing: pl.DataFrame
    """The rows of shards that do not exist yet and can be built now: all their sources were scanned."""
    strays: frozenset[str]
    """Shards that exist, that no plan names, and whose clips stand in others: a worker finished them after its build had
    been given up and planned anew."""
    gone_count: int
    """Clips in existing shards whose file has vanished or changed since."""
    dropped_count: int
    """Clips without a shard whose file has vanished or changed: planned no more."""

    @property
    def shards(self) -> set[str]:
        return set(self.rows["shard"].unique())


def scan_sources(roots: dict[str, Path], skeleton: Path | None = None) -> pl.DataFrame:
    """One row per clip of all sources, with columns `CLIP_COLUMNS`; a folder without files is an error.

    `skeleton` is the user's file about the skeletons of BVH files: it tells their licence and subjects too.
    """
    tables = []
    for name, root in sorted(roots.items()):
        reader = source(name)
        if not root.is_dir():
            raise MotionloomError(f"{name}: {root} is not a folder.")
        table = clip_table(scan(name, root, skeleton), reader.bytes_per_frame)
        if table.is_empty():
            raise MotionloomError(f"{name}: {root} holds no files.")
        tables.append(table)
    if not tables:
        raise MotionloomError("No source given: pass at least one name and folder.")
    return pl.concat(tables)


def scan(name: str, root: Path, skeleton: Path | None = None) -> Iterator[Clip]:
    """The clips of one source below a folder, or in a file."""
    reader = source(name)
    return reader.scan(root, skeleton) if name == "bvh" else reader.scan(root)


def make_plan(clips: pl.DataFrame, out: Path, recipe_hash: str) -> Plan:
    """Bring the stored plan of a corpus up to date with what the sources hold now, and store it.

    Clips of sources that were not scanned stay planned: they are built when a run names their source again.
    """
    number, stored = read_plan(out)
    finished = finished_shards(out)
    stored, strays = _recover(out, number, (before := stored), finished, clips, recipe_hash)
    built = pl.col("shard").is_in(list(finished - strays))
    scanned = pl.col("source").is_in(clips["source"].unique().implode())
    done, unbuilt = stored.filter(built), stored.filter(~built)
    pending = _still_possible(unbuilt, done, clips)
    unchanged = len(done) + len(pending) == len(before)
    clips_there = clips
    if len(unseen := unbuilt.filter(~scanned)):
        # Clips of sources that were not scanned: nobody knows better than the plan.
        clips_there = pl.concat([clips, unseen.select(clips.columns)])
    new = _without(clips_there, stored if unchanged else pl.concat([done, pending]))
    while len(touched := pending.join(new, on="clip", how="semi")):
        # A copy of an unbuilt clip has come: plan both anew, so that one shard decides which of them is kept.
        pending = pending.join(touched, on="shard", how="anti")
        new = _without(clips_there, pl.concat([done, pending]))
    rows, missing, dropped = stored, pending, 0
    if number == 0 or len(new) or not unchanged:
        rows = pl.concat([done, pending, *_dealt(_mark_copies(new, done, out), scanned, recipe_hash)])
        rows = rows.sort("shard", *IDENTITY)
        missing = rows.filter(~built)
        dropped = int((~has(unbuilt, rows, IDENTITY)).sum())
        _write_plan(out, number + 1, rows)
    elsewhere = missing["shard"].filter(missing.select(~scanned).to_series()).unique()
    gone = done.select(scanned).to_series() & pl.Series(~has(done, clips, IDENTITY))
    return Plan(
        rows=rows,
        missing=missing.filter(~pl.col("shard").is_in(elsewhere.implode())) if len(elsewhere) else missing,
        strays=frozenset(strays),
        gone_count=int(gone.sum()),
        dropped_count=dropped,
    )


def _dealt(clips: pl.DataFrame, scanned: pl.Expr, recipe_hash: str) -> list[pl.DataFrame]:
    """Clips dealt to shards; those that cannot be built now, with all that has their bytes, to shards of their own."""
    waiting = clips.filter(~scanned)["clip"].unique()
    if waiting.is_empty():
        return [deal(clips, recipe_hash)]
    waits = pl.col("clip").is_in(waiting.implode())
    return [deal(clips.filter(part), recipe_hash) for part in (~waits, waits)]


def deal(clips: pl.DataFrame, recipe_hash: str) -> pl.DataFrame:
    """Give each clip (`PLAN_COLUMNS` but for the shard) its shard, as even in frames as whole clips allow.

    Clips of the same bytes go to the same shard. Clips are taken in the order of their content's hash, so each shard is
    a random sample of the whole.
    """
    if clips.is_empty():
        return clips.with_columns(shard=pl.lit("")).select(list(PLAN_COLUMNS)).clear()
    # Narrow rows are put in order and numbered, so that whole ones are copied once.
    order = clips.select("clip", "source", "path", "part", "frames").with_row_index("place")
    order = order.sort("clip", "source", "path", "part")
    groups = np.flatnonzero(order["clip"].ne_missing(order["clip"].shift()))
    frames = np.maximum.reduceat(order["frames"].to_numpy(), groups).clip(1, CLIP_FRAMES_LIMIT)
    firsts = groups[_first_of_shards(frames)]
    lengths = np.diff(firsts, append=len(order))
    names = [shard_id(order.slice(*part), recipe_hash) for part in zip(firsts, lengths, strict=True)]
    shard = pl.Series(names).gather(np.repeat(np.arange(len(names)), lengths))
    return clips[order["place"]].with_columns(shard=shard).select(list(PLAN_COLUMNS))


def _first_of_shards(frames: Int[np.ndarray, " G"]) -> Int[np.ndarray, " K"]:
    """Which of these groups of clips, by their frames, begin a shard."""
    total = int(frames.sum())
    count = shard_count(total)
    # The middle of each group decides: (frames before + half of its own) / total.
    middle = 2 * (np.cumsum(frames) - frames) + frames
    index = (middle * count // (2 * total)).clip(0, count - 1)
    return np.flatnonzero(np.diff(index, prepend=-1))


def shard_count(frames: int) -> int:
    """How many shards a number of frames is cut into; a function of the data alone."""
    return max(-(-frames // SHARD_FRAMES), min(SMALL_SHARD_COUNT, -(-frames // SMALL_SHARD_FRAMES)))


def shard_id(rows: pl.DataFrame, recipe_hash: str) -> str:
    """Hash of a shard's clips and the recipe, 16 hexadecimal digits."""
    line = pl.concat_str(pl.concat_str("clip", "source", "path", "part", separator="\0"), pl.lit("\n"))
    text = rows.select(line.str.join("")).item()
    return hashlib.blake2b((recipe_hash + text).encode(), digest_size=8).hexdigest()


def finished_shards(out: Path) -> set[str]:
    """Shards that exist: they appeared by one rename, so they are whole."""
    shards = out / "shards"
    if not shards.is_dir():
        return set()
    return {e.name for e in os.scandir(shards) if not e.name.startswith(".") and (Path(e) / "shard.json").exists()}


def read_plan(out: Path) -> tuple[int, pl.DataFrame]:
    """Number and rows of the plan that counts; 0 and no rows where there is none yet."""
    plans = sorted((out / "plans").glob("[0-9]*.parquet"))
    if not plans:
        return 0, pl.DataFrame(schema=PLAN_COLUMNS)
    try:
        return int(plans[-1].stem), pl.read_parquet(plans[-1]).select(list(PLAN_COLUMNS))
    except UNREADABLE as error:
        raise MotionloomError(f"{plans[-1]} is damaged ({error}): delete it and build again.") from None


def store_adopted(out: Path) -> None:
    """Write a plan that says what the finished shards say of themselves, for a corpus that no build has made."""
    number, stored = read_plan(out)
    rows = pl.concat([stored.clear(), *(_adopt(out, shard) for shard in sorted(finished_shards(out)))])
    rows = rows.sort("shard", *IDENTITY)
    if number == 0 or not rows.equals(stored.sort("shard", *IDENTITY)):
        _write_plan(out, number + 1, rows)


def _still_possible(pending: pl.DataFrame, done: pl.DataFrame, clips: pl.DataFrame) -> pl.DataFrame:
    """Rows of unbuilt shards all of whose clips are still there, as far as their sources were scanned, and in no existing shard."""
    impossible = (
        pending["source"].is_in(clips["source"].unique().implode()).to_numpy() & ~has(pending, clips, IDENTITY)
    ) | has(pending, done, IDENTITY)
    if not impossible.any():
        return pending
    shards = pending["shard"].filter(pl.Series(impossible)).unique()
    return pending.filter(~pl.col("shard").is_in(shards.implode()))


def _without(rows: pl.DataFrame, others: pl.DataFrame) -> pl.DataFrame:
    """The rows that `others` does not have; no copy where that is all of them."""
    known = has(rows, others, IDENTITY)
    return rows.filter(pl.Series(~known)) if known.any() else rows


def _mark_copies(new: pl.DataFrame, done: pl.DataFrame, out: Path) -> pl.DataFrame:
    """Name, for each new clip, the one of the same bytes that an existing shard has made a motion of."""
    shards = done.join(new, on="clip", how="semi")["shard"].unique().sort()
    if shards.is_empty():
        return new.with_columns(duplicate_of=pl.lit(""))
    tables = [pl.read_parquet(out / "shards" / shard / "clips.parquet") for shard in shards]
    schema = {"clip": pl.String, "duplicate_of": pl.String}
    first = [
        t.filter(pl.col("frames") > 0).select("clip", duplicate_of=pl.format("{}:{}", "source", "path")) for t in tables
    ]
    known = pl.concat([pl.DataFrame(schema=schema), *first]).sort("clip", "duplicate_of").unique("clip", keep="first")
    return new.join(known, on="clip", how="left").with_columns(pl.col("duplicate_of").fill_null(""))


def _recover(
    out: Path, number: int, stored: pl.DataFrame, finished: set[str], clips: pl.DataFrame, recipe_hash: str
) -> tuple[pl.DataFrame, set[str]]:
    """The stored plan with the shards that it does not name (a lost plan's, or a merge's), from their own rows; and the
    names of those that hold clips of others and cannot join it."""
    unnamed = sorted(finished - set(stored["shard"]))
    if not unnamed:
        return stored, set()
    if number == 0:
        # A plan is a function of its clips: where nothing has come or gone since, dealing again gives the lost one.
        anew = deal(clips.with_columns(duplicate_of=pl.lit("")), recipe_hash)
        if finished <= set(anew["shard"]):
            return anew, set()
    rows = pl.concat([_adopt(out, shard) for shard in unnamed])
    done = stored.filter(pl.col("shard").is_in(list(finished)))
    taken = pl.concat([
        rows.join(done, on=IDENTITY, how="semi"),
        rows.filter(pl.col("shard") != pl.col("shard").min().over(IDENTITY)),
    ])  # fmt: skip
    strays = set(taken["shard"])
    return pl.concat([stored, rows.join(taken, on="shard", how="anti")]), strays


def _adopt(out: Path, shard: str) -> pl.DataFrame:
    """Plan rows of a shard that exists though no plan names it: the plan was lost."""
    rows = pl.read_parquet(out / "shards" / shard / "clips.parquet")
    absent = {"byte_count": pl.lit(0, pl.Int64), "duplicate_of": pl.lit(""), "frames": pl.col("frames").fill_null(0)}
    rows = rows.with_columns(**absent, shard=pl.lit(shard)).select(
        pl.col(name).cast(kind) for name, kind in PLAN_COLUMNS.items()
    )
    return rows.with_columns(pl.col(pl.String).fill_null(""))


def _write_plan(out: Path, number: int, rows: pl.DataFrame) -> None:
    folder = out / "plans"
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / f"{number:05d}.parquet", lambda path: rows.write_parquet(path))
    for old in folder.glob("[0-9]*.parquet"):
        if int(old.stem) < number:
            old.unlink()


def clip_table(clips: Iterable[Clip], bytes_per_frame: float, *, chunk: int = 100_000) -> pl.DataFrame:
    """Clips as a table, a chunk at a time: millions of them as Python objects would not fit."""
    tables, rows = [pl.DataFrame(schema=CLIP_COLUMNS)], []
    for clip in clips:
        frames = min(max(int(clip.byte_count / bytes_per_frame), 1), CLIP_FRAMES_LIMIT)
        about = (clip.licence, clip.subject, clip.recording, clip.label, clip.byte_count, frames)
        rows.append((clip.source, clip.path, clip.part, *about))
        if len(rows) == chunk:
            tables.append(pl.DataFrame(rows, CLIP_COLUMNS, orient="row"))
            rows = []
    return pl.concat([*tables, pl.DataFrame(rows, CLIP_COLUMNS, orient="row")])
