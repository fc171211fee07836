"""What the gate would keep by other limits, from the measures that were stored."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import polars as pl
from jaxtyping import Bool

from corpus.errors import MotionloomError
from hme.fold import gate_limits
from pipelines.ask.answer import Answer, said
from pipelines.ask.asked import Asked


def what_if(asked: Asked, *, set: Sequence[str]) -> Answer:
    """`set` holds limits as in "gate.foot_slide_limit=0.2"."""
    changed = _limits(set, gate_limits(asked.corpus))
    rows = asked.judged("kept", "frames", "owner", "over", *changed)
    now = rows["kept"].to_numpy().astype(bool)
    then = _passes(rows, changed, gate_limits(asked.corpus))
    told = rows.select("owner", "frames", now=pl.Series(now), then=pl.Series(then))
    told = told.group_by("owner", "now", "then").agg(segments=pl.len(), hours=pl.col("frames").sum() / asked.fps / 3600)
    table = pl.DataFrame([
        {"what": what, **told.filter(chosen).select(pl.col("segments", "hours").sum()).row(0, named=True)}
        for what, chosen in _PARTS.items()
    ])  # fmt: skip
    sources = asked.by_owner(told).group_by("source").agg(**{
        what: pl.col("hours").filter(chosen).sum() for what, chosen in _PARTS.items()
    }).sort("source")  # fmt: skip
    count, passed = (dict(zip(table["what"], table[name], strict=True)) for name in ("segments", "hours"))
    line = (
        f"With {', '.join(f'{name} ≤ {limit:g}' for name, limit in changed.items())}, {said(passed['then'])} in "
        f"{count['then']:,} segments would be kept, instead of {said(passed['now'])} in {count['now']:,}: "
        f"{said(passed['gained'])} gained, {said(passed['lost'])} lost."
    )
    return Answer(line, table, _unknown(asked, count["gained"]), {"hours by source": sources})


_PARTS = {
    "now": pl.col("now"),
    "then": pl.col("then"),
    "gained": pl.col("then") & ~pl.col("now"),
    "lost": pl.col("now") & ~pl.col("then"),
}


def _limits(texts: Sequence[str], known: dict[str, float]) -> dict[str, float]:
    """Measure and new limit."""
    found: dict[str, float] = {}
    for text in texts:
        name, _, value = text.partition("=")
        measure = name.removeprefix("gate.").removesuffix("_limit")
        if measure not in known:
            choices = ", ".join(f"gate.{name}_limit={limit:g}" for name, limit in known.items()) or "none"
            raise MotionloomError(
                f"What if {name!r}? Stored measures tell of the gate's limits only; everything else is known by building. "
                f"This corpus has: {choices}."
            )
        try:
            found[measure] = float(value)
        except ValueError:
            raise MotionloomError(f"{text!r}: expected {name}=NUMBER.") from None
        if math.isnan(found[measure]):
            raise MotionloomError(f"{text!r}: expected {name}=NUMBER.")
    return found


def _passes(rows: pl.DataFrame, changed: dict[str, float], known: dict[str, float]) -> Bool[np.ndarray, " N"]:
    """Over none of the limits that stay, and of those that change by the measures themselves; one that was not taken passes."""
    others = np.uint32(sum(1 << bit for bit, name in enumerate(known) if name not in changed))
    passes = (rows["over"].to_numpy() & others) == 0
    for name, limit in changed.items():
        # An equal limit judges as it did: measures are stored rounded.
        bit = np.uint32(1 << list(known).index(name))
        same = limit == known[name]
        passes &= (rows["over"].to_numpy() & bit) == 0 if same else ~(rows[name].to_numpy() > limit)
    return passes


def _unknown(asked: Asked, gained: int) -> tuple[str, ...]:
    unread = int((asked.owners["clips"] - asked.owners["clips_retargeted"]).sum())
    cut = said(asked.hours(int(asked.owners["frames_cut"].sum())))
    notes = [
        f"not known: {unread:,} clips that gave no motion were never measured, and {cut} were cut away before the gate"
    ]
    if gained:
        notes.append("frames of rejected segments are not stored: to have what is gained, build anew by the new limits")
    return tuple(notes)
