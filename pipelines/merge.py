"""Merge corpora of one recipe into one: shards are taken over as they are; where two hold the same motion, it is kept once."""

from __future__ import annotations

import logging
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from corpus import catalog
from corpus.durable import sync
from corpus.errors import CorruptShard, MotionloomError, RecipeMismatch
from corpus.remote.bucket import is_url
from corpus.store import Shard, ShardWriter, verify_shard
from pipelines import plan
from pipelines.clips import as_json
from pipelines.place import Folder, check_places, locked, open_corpus, remove_leftovers
from pipelines.quarantine import set_aside, set_aside_torn
from pipelines.recipe import Recipe, differences
from pipelines.upkeep import stored_recipe

log = logging.getLogger(__name__)

Identity = tuple[str, str, str, str]
"""Source, path, part and content key of a clip: `plan.IDENTITY`."""


@dataclass(frozen=True)
class Merged:
    """What a merge did."""

    taken_count: int
    """Shards taken over byte for byte."""
    rewritten_count: int
    """Shards written anew without what other shards hold already."""
    dropped_count: int
    """Clips that stood in several corpora under the same name: one row of each is kept."""
    copy_count: int
    """Clips of the same bytes under other names: kept as rows with reason `duplicate_file`."""


def merge(corpora: Sequence[Path | str], out: Path | str) -> Merged:
    """Make the corpus `out` of others that one recipe made; they are only read. Run again after a kill, it goes on.

    Earlier corpora have precedence, but for clips that killed their worker there alone. The result depends on the corpora and
    their order alone.
    """
    if urls := [str(place) for place in (*corpora, out) if is_url(place)]:
        raise MotionloomError(
            f"{urls[0]}: a merge is made of folders, and makes one; copy what lies on object storage."
        )
    corpora, out = [Path(corpus).resolve() for corpus in corpora], Path(out).resolve()
    recipe = _common_recipe(corpora, out)
    check_places({}, Folder(out))
    with locked(out):
        open_corpus(out, recipe)
        remove_leftovers(out)
        set_aside_torn(out)
        (out / "shards").mkdir(exist_ok=True)
        clips = _all_clips(corpora)
        names = {shard: _take(rows, corpora, out, recipe) for (shard,), rows in clips.group_by("shard")}
        if strange := plan.finished_shards(out) - set(names.values()):
            raise MotionloomError(f"{out} holds shards of other corpora ({min(strange)}): name a new folder.")
        plan.store_adopted(out)
        catalog.fold(out)
    return Merged(
        taken_count=sum(shard == name for shard, name in names.items()),
        rewritten_count=sum(name is not None and shard != name for shard, name in names.items()),
        dropped_count=int(clips["again"].sum()),
        copy_count=int((clips["first"] != "").sum()),
    )


def _all_clips(corpora: list[Path]) -> pl.DataFrame:
    """A row per clip of every shard that the corpora hold, in their order: which corpus, which shard, `plan.IDENTITY`; `again`
    where an earlier shard holds the very clip, `first` (source:path) where one holds a motion of the same bytes."""
    tables, taken = [], set()
    for number, corpus in enumerate(corpora):
        for shard in sorted(plan.finished_shards(corpus) - taken):
            taken.add(shard)
            rows = Shard.open(corpus / "shards" / shard).clips.select([*plan.IDENTITY, "frames", "reason"])
            table = pl.DataFrame(rows).with_columns(
                corpus=pl.lit(number), shard=pl.lit(shard), order=pl.lit(len(taken))
            )
            tables.append(table)
    if not tables:
        raise MotionloomError(f"{', '.join(map(str, corpora))}: none of them holds a shard; build them first.")
    # A death may have been of that machine, with too little memory: what another made of the clip counts.
    late = pl.col("order") + len(taken) * (pl.col("reason") == "crashed_worker").fill_null(False)
    clips = pl.concat(tables).with_columns(again=late > late.min().over(plan.IDENTITY))
    moves = (pl.col("frames") > 0) & ~pl.col("again")
    first = clips.filter(moves).group_by("clip", maintain_order=True).first()
    first = first.select("clip", earliest="order", name=pl.format("{}:{}", "source", "path"))
    is_copy = moves & (pl.col("order") > pl.col("earliest"))
    clips = clips.join(first, on="clip", how="left", maintain_order="left")
    return clips.with_columns(first=pl.when(is_copy).then(pl.col("name")).otherwise(pl.lit("")))


def _take(rows: pl.DataFrame, corpora: list[Path], out: Path, recipe: Recipe) -> str | None:
    """Bring one shard over; gives the name under which it stands in the merged corpus, None where nothing of it is left."""
    path = corpora[rows["corpus"][0]] / "shards" / rows["shard"][0]
    again = set(rows.filter("again").select(plan.IDENTITY).rows())
    copies = {
        tuple(who): first for *who, first in rows.filter(pl.col("first") != "").select(*plan.IDENTITY, "first").rows()
    }
    if len(again) == len(rows):
        return None
    if again or copies:
        return _rewrite(Shard.open(path), out, recipe, again, copies)
    _copy_whole(path, out / "shards" / path.name)
    return path.name


def _copy_whole(source: Path, target: Path) -> None:
    """A shard's bytes under the same name, checked, by one rename."""
    if target.exists():
        if not (problems := verify_shard(target)):
            return
        set_aside(target.parent.parent, target, problems[0])
    temporary = target.with_name(f".tmp-{target.name}-{uuid.uuid4().hex[:8]}")
    try:
        shutil.copytree(source, temporary)
        for path in (*temporary.rglob("*"), temporary):
            sync(path)
        # Not what was copied but the copy is looked at: a bad disk or a damaged source shows here.
        Shard.open(temporary, checksums=True)
        temporary.rename(target)
        sync(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _rewrite(shard: Shard, out: Path, recipe: Recipe, again: set[Identity], copies: dict[Identity, str]) -> str:
    """Write a shard without the rows `again`, and with those of `copies` as duplicates; gives its name."""
    left = [clip for clip in shard.clips.to_pylist() if identity(clip) not in again]
    marks = "\0".join(text for who, first in sorted(copies.items()) for text in (*who, first))
    names = pl.DataFrame([identity(clip) for clip in left], plan.IDENTITY, orient="row")
    name = plan.shard_id(names, f"{recipe.hash}\0merged\0{marks}")
    # Clips of the same bytes share a key; only the one that made a motion has segments.
    segments: dict[str, list[dict]] = {}
    for segment in shard.segments.to_pylist():
        segments.setdefault(segment["clip"], []).append(segment)
    with ShardWriter(out / "shards", name, recipe.hash, columns=shard.qpos.shape[1]) as writer:
        for clip in left:
            mine = segments.get(clip["clip"], []) if clip["frames"] else []
            if first := copies.get(identity(clip)):
                writer.add(_as_copy(clip, first), [], None)
            else:
                writer.take(clip, mine, shard)
        writer.commit()
    return name


def _as_copy(clip: dict, first: str) -> dict:
    nothing = dict.fromkeys(("frames", "frames_kept", "frames_rejected", "frames_cut"), 0)
    unknown = dict.fromkeys(("source_fps", "source_frames", "scale"))
    why = {"status": "rejected", "reason": "duplicate_file", "detail": f"the same bytes as {first}"}
    return clip | nothing | unknown | why | {"numbers": as_json({"first": first}), "body_model": "", "note": ""}


def identity(clip: dict) -> Identity:
    return clip["source"], clip["path"], clip["part"], clip["clip"]


def _common_recipe(corpora: list[Path], out: Path) -> Recipe:
    if len(corpora) < 2 or len(set(corpora)) < len(corpora) or out in corpora:
        raise MotionloomError("A merge takes at least two different corpora, and a folder that is none of them.")
    recipes = [stored_recipe(corpus) for corpus in corpora]
    for corpus, recipe in zip(corpora, recipes, strict=True):
        if recipe.hash != recipes[0].hash:
            told = differences(recipe.to_json(), recipes[0])
            raise RecipeMismatch(f"{corpus} and {corpora[0]} were made by different recipes ({told}).")
        finished = plan.finished_shards(corpus)
        if unbuilt := set(plan.read_plan(corpus)[1]["shard"]) - finished:
            log.warning(
                "%s lacks %d shards that it has planned: what they would hold is not merged", corpus, len(unbuilt)
            )
        for shard in finished:
            if (made := Shard.open(corpus / "shards" / shard).recipe) != recipe.hash:
                raise CorruptShard(f"{corpus / 'shards' / shard}: made by recipe {made}, its corpus by {recipe.hash}.")
    return recipes[0]
