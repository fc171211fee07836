"""What a question is, and what an answer is: a line that says it, and the table behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl


@dataclass(frozen=True)
class Answer:
    """Every number of the line stands in a table, or is a sum over one."""

    line: str
    """The answer in one sentence, with numbers and units."""
    table: pl.DataFrame
    notes: tuple[str, ...] = ()
    """What the answer does not know, or how it was counted."""
    more: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    """Further tables by title."""

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON; numbers that are none become null."""
        return {
            "line": self.line,
            "notes": list(self.notes),
            "table": _plain(self.table),
            "more": {title: _plain(table) for title, table in self.more.items()},
        }


@dataclass(frozen=True)
class Question:
    meaning: str
    """In one line, what is asked."""
    answer: Callable[..., Answer]
    """Takes what was opened and the question's own options."""
    options: tuple[str, ...] = ()
    """Names of options that it takes besides `licence` and `source`."""
    required: tuple[str, ...] = ()
    """Of these, one must be given."""


def in_hours(frames: float, fps: float) -> float:
    return float(frames) / fps / 3600


def said(hours: float) -> str:
    """Hours in words: minutes and seconds where they are few."""
    if hours >= 1 or hours == 0:
        return f"{hours:,.2f} h"
    return f"{hours * 60:.1f} min" if hours * 60 >= 1 else f"{hours * 3600:.1f} s"


def part(share: float) -> str:
    """A share as per cent; small ones are not said to be none."""
    return f"{share:.1%}" if share == 0 or share >= 0.001 else f"{share * 100:.2g}%"


def share_of(value: float, whole: float) -> float:
    """0 of nothing."""
    return float(value) / float(whole) if whole else 0.0


def _plain(table: pl.DataFrame) -> list[dict[str, Any]]:
    return table.with_columns(pl.col(pl.Float32, pl.Float64).fill_nan(None)).to_dicts()
