"""What there is twice: near-duplicates, and what lies on both sides of a split."""

from __future__ import annotations

import numpy as np
import polars as pl
from jaxtyping import Bool, Int

from hme.fold import owners
from pipelines.ask.answer import Answer, part, said, share_of
from pipelines.ask.asked import Asked

NO_PART = "withheld"
"""What a split calls segments that it leaves out of all parts."""


def duplicates(asked: Asked) -> Answer:
    """Near-duplicates by kind, and by the sources of both."""
    rows = asked.kept("frames", "owner", "duplicates.group", "duplicates.keeper", "duplicates.kind", "duplicates.of")
    hours = pl.col("frames").sum() / asked.fps / 3600
    left_out = rows.filter(~pl.col("keeper"))
    table = (
        left_out.group_by("kind").agg(segments=pl.len(), hours=hours).sort("hours", "kind", descending=[True, False])
    )
    whole, gone = asked.hours(int(rows["frames"].sum())), float(table["hours"].sum())
    groups = int(rows["group"].drop_nulls().n_unique())
    pairs = _sources(asked, left_out).group_by("source", "of_source").agg(segments=pl.len(), hours=hours)
    pairs = pairs.sort("hours", "source", "of_source", descending=[True, False, False])
    across = pairs.filter(pl.col("source") != pl.col("of_source"))
    line = (
        f"{said(gone)} of {said(whole)} ({part(share_of(gone, whole))}) in {table['segments'].sum():,} segments are near-duplicates of "
        f"others, {said(float(across['hours'].sum()))} of them of another source; {groups:,} groups hang together."
    )
    return Answer(line, table, (), {"by source": pairs})


def leakage(asked: Asked) -> Answer:
    """Recordings and groups of near-duplicates that lie in several parts of the split."""
    known = asked.has("duplicates")
    rows = asked.kept("frames", "recording", "split.split", *["duplicates.group"] * known)
    frames = rows["frames"].to_numpy()
    place, sizes = _parts(asked, rows["split"], frames)
    # What is not in the largest part is what measures: there a leak does harm.
    measuring = place > 0
    bound = {"recordings": rows["recording"].to_numpy()}
    if known:
        bound["groups of near-duplicates"] = rows["group"].cast(pl.Int64).fill_null(-1).to_numpy()
    leaks, told = np.zeros(len(rows), bool), []
    for what, number in bound.items():
        torn, found = _torn(number, place)
        leaks |= (harmed := found & measuring)
        told.append((what, torn, int(harmed.sum()), asked.hours(frames[harmed].sum())))
    measured, leaked = (asked.hours(frames[chosen].sum()) for chosen in (measuring, leaks))
    table = pl.DataFrame(told, ["what", "in_several_parts", "segments", "hours"], orient="row")
    counts = " and ".join(f"{torn:,} {what}" for what, torn, *_ in told)
    line = (
        f"{counts} lie in several parts of the split: {said(leaked)} of {said(measured)} for validation and test "
        f"({part(share_of(leaked, measured))}) leak."
    )
    notes = () if known else ("near-duplicates have not been looked for: `loom dedup`",)
    return Answer(line, table, notes, {"parts": sizes})


def _parts(asked: Asked, split: pl.Series, frames: Int[np.ndarray, " S"]) -> tuple[Int[np.ndarray, " S"], pl.DataFrame]:
    """Each segment's part, −1 for none; and how large they are, the largest first, which is part 0."""
    names = split.unique().drop_nulls().sort().to_list()
    chosen = {name: (split == name).fill_null(False).to_numpy() for name in names}
    rows = [(name, int(mine.sum()), asked.hours(frames[mine].sum())) for name, mine in chosen.items()]
    sizes = pl.DataFrame(rows, {"part": pl.String, "segments": pl.Int64, "hours": pl.Float64}, orient="row")
    sizes = sizes.sort(pl.col("part") == NO_PART, -pl.col("hours"), "part")
    place = np.full(len(split), -1, np.int8)
    for number, name in enumerate(sizes["part"]):
        place[chosen[name]] = -1 if name == NO_PART else number
    return place, sizes


def _torn(number: Int[np.ndarray, " S"], place: Int[np.ndarray, " S"]) -> tuple[int, Bool[np.ndarray, " S"]]:
    """How many of what bears a number lie in several parts, and which segments are of such; −1 is no number, no part."""
    count = int(number.max(initial=0)) + 1
    first, several = np.zeros(count, np.int8), np.zeros(count, bool)
    bound = np.flatnonzero((number >= 0) & (place >= 0))
    number_bound, place_bound = number[bound], place[bound]
    first[number_bound] = place_bound  # any one of the parts it lies in
    several[number_bound[place_bound != first[number_bound]]] = True
    found = np.zeros(len(number), bool)
    found[bound] = several[number_bound]
    return int(several.sum()), found


def _sources(asked: Asked, left_out: pl.DataFrame) -> pl.DataFrame:
    """With the sources of both: the segment's own, and that of the one it is a copy of."""
    known, owner = asked.keys.column("key"), asked.keys.column("owner")
    key = left_out["of"].str.head(16).str.to_integer(base=16, dtype=pl.UInt64).to_numpy()
    of_owner = owner[np.searchsorted(known, key).clip(0, len(known) - 1)] if len(key) else np.zeros(0, np.uint16)
    # Out of scope is a source too.
    others = owners(asked.facts).select(of_owner="owner", of_source="source")
    return asked.by_owner(left_out.with_columns(of_owner=pl.Series(of_owner))).join(others, on="of_owner", how="left")
