"""Select the segments of an embedded corpus that say most, to a budget."""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from corpus.errors import MotionloomError
from hme.duplicates.tables import unique_segments
from hme.physics_score import PRESETS, score
from hme.select import Selection, SelectOptions, select
from hme.selections import selection_path, write_selection
from hme.space import Space, hme_folder
from hme.traits import read_traits
from pipelines.place import locked

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Budget:
    """How much may be chosen."""

    amount: float
    unit: str
    """"share" of the kept segments, "share of hours", "segments" or "hours"."""

    @classmethod
    def parse(cls, text: str) -> Budget:
        """From "10%" or "10% of segments", "10% of hours", "25h", "5000"."""
        if found := re.fullmatch(r"([0-9.]+)\s*(%|h|)(?:\s*of (segments|hours))?", text.strip()):
            number, unit, of = found.groups()
            if (
                number.count(".") <= 1
                and number != "."
                and 0 < float(number) < math.inf
                and (unit == "%" or of is None)
            ):
                if unit == "%":
                    return cls(float(number) / 100, "share of hours" if of == "hours" else "share")
                return cls(float(number), "hours" if unit else "segments")
        raise MotionloomError(
            f"A budget of {text!r}: expected, for example, 10%, '10% of hours', 25h or 5000 (segments)."
        )

    def costs(self, frames: Int[np.ndarray, " S"], fps: float) -> tuple[float, Float[np.ndarray, " S"]]:
        """What may be spent, and what each segment costs."""
        if self.unit == "hours":
            return self.amount * 3600 * fps, frames.astype(float)
        if self.unit == "share of hours":
            return self.amount * float(frames.sum()), frames.astype(float)
        whole = self.amount * len(frames) if self.unit == "share" else self.amount
        return max(1.0, math.floor(whole + 1e-9)), np.ones(len(frames))


@dataclass(frozen=True)
class Filters:
    """Which segments may be chosen at all."""

    min_score: float | None = None
    """Least physics score."""
    preset: str = "contact"
    """Which score: a key of `hme.physics_score.PRESETS`."""
    sources: tuple[str, ...] = ()
    """Only of these sources; all where empty."""
    licences: tuple[str, ...] = ()
    """Only under these licences; all where empty."""
    unique: bool = False
    """Without near-duplicates of others, as `loom dedup` found them."""


@dataclass(frozen=True)
class Selected:
    """What a run did."""

    path: Path
    selection: Selection
    frames: Int[np.ndarray, " S"]
    """Of every kept segment."""
    dropped: dict[str, int]
    """How many segments each filter left out, one after the other."""


def select_corpus(
    space: Space,
    budget: Budget,
    *,
    name: str,
    filters: Filters = Filters(),
    options: SelectOptions = SelectOptions(),
) -> Selected:
    """Choose, and write `selections/<name>.parquet`; a share is one of all kept segments, whatever the filters leave."""
    selection_path(space, name)
    if filters.preset not in PRESETS:
        raise MotionloomError(f"No physics score named {filters.preset!r}. Known: {', '.join(PRESETS)}.")
    traits = read_traits(space.corpus)
    physics = score(
        {term: traits[term].to_numpy() for term in PRESETS[filters.preset].weights}, PRESETS[filters.preset]
    )
    allowed, dropped = allowed_by(space, filters, physics)
    frames = space.corpus.frames
    spend, cost = budget.costs(frames, space.corpus.fps)
    found = select(space.vectors, traits["complexity"].to_numpy(), spend, cost=cost, allowed=allowed, options=options)
    about = {
        "budget": json.dumps(asdict(budget)),
        "filters": json.dumps(asdict(filters)),
        "options": json.dumps(asdict(options)),
    }
    with locked(hme_folder(space.corpus)):
        path = write_selection(space, name, found, physics, about)
    return Selected(path, found, frames, dropped)


def allowed_by(
    space: Space, filters: Filters, physics: Float[np.ndarray, " S"]
) -> tuple[Bool[np.ndarray, " S"], dict[str, int]]:
    """Which segments pass all filters, and how many each left out of those before."""
    allowed, dropped = np.ones(len(physics), bool), {}

    def drop(why: str, passes: Bool[np.ndarray, " S"]) -> None:
        nonlocal allowed
        dropped[why] = int((allowed & ~passes).sum())
        allowed = allowed & passes

    if filters.min_score is not None:
        drop(f"{filters.preset} score below {filters.min_score:g}", physics >= filters.min_score)
    for column, wanted in (("source", filters.sources), ("licence", filters.licences)):
        if wanted:
            drop(f"other {column}", _is_one_of(space, column, wanted))
    if filters.unique:
        drop("near-duplicates", unique_segments(space.corpus))
    return allowed, dropped


def _is_one_of(space: Space, column: str, wanted: Sequence[str]) -> Bool[np.ndarray, " S"]:
    values = space.corpus.of_clips(column)
    if unknown := sorted(set(wanted) - set(values.unique())):
        known = ", ".join(map(repr, sorted(values.unique())))
        raise MotionloomError(f"No kept segments of {column} {', '.join(map(repr, unknown))}. Known: {known}.")
    return values.is_in(list(wanted)).to_numpy()
