"""Selections as files beside a corpus: which segments were chosen, in which order."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Bool, Float

from corpus.errors import MotionloomError
from hme.select import Selection
from hme.space import Space
from hme.tables import read_segment_table, write_segment_table

COMMAND = "loom select"


def write_selection(
    space: Space, name: str, found: Selection, score: Float[np.ndarray, " S"], about: dict[str, str]
) -> Path:
    """A row per kept segment: `chosen`, `order` (from 0; null where not chosen), `distance`, physics `score`."""
    order = np.full(len(found.distance), -1, np.int64)
    order[found.order] = np.arange(len(found.order))
    columns = pl.DataFrame(
        {"chosen": found.chosen, "order": order, "distance": found.distance, "score": score.astype(np.float32)}
    ).with_columns(
        pl.when(pl.col("order") >= 0).then("order").alias("order"),
        # Infinite for the first pick: there was none to be far from.
        pl.when(pl.col("distance").is_finite()).then("distance").alias("distance"),
    )
    path = selection_path(space, name)
    write_segment_table(space.corpus, path, columns, hme_id=space.hme_id, about=about)
    return path


def read_selection(space: Space, name: str) -> pl.DataFrame:
    """The table; an error where the corpus has grown since."""
    path = selection_path(space, name)
    if not path.exists() and (known := names(space)):
        raise MotionloomError(f"{space.corpus.path} has no selection {name!r}. Known: {', '.join(known)}.")
    return read_segment_table(space.corpus, path, command=COMMAND, hme_id=space.hme_id)


def selection_mask(space: Space, name: str) -> Bool[np.ndarray, " S"]:
    """True for the chosen of the kept segments: times a plan's weights, it leaves out the others."""
    return read_selection(space, name)["chosen"].to_numpy()


def names(space: Space) -> list[str]:
    """Of the selections there are."""
    return sorted(path.stem for path in space.path("selections").glob("[!.]*.parquet"))


def selection_path(space: Space, name: str) -> Path:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", name):
        raise MotionloomError(
            f"A selection named {name!r}: letters, digits, points, dashes and underscores are allowed, 100 at most."
        )
    return space.path("selections", f"{name}.parquet")
