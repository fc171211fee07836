"""Tables and numbers as the commands print them."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def print_table(columns: list[str], rows: list[list[str]], *, numeric: Sequence[str] = ()) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in numeric else "left", no_wrap=column in numeric)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # Text: a file's name is no markup
    # A log has no width: rich would take 80 columns and cut names short.
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def counted(number: int | None) -> str:
    return "–" if number is None else f"{number:,}"


def in_hours(frames: int | None, fps: float) -> str:
    return "–" if frames is None else f"{frames / fps / 3600:,.3f}"


def in_bytes(byte_count: int) -> str:
    value = float(byte_count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:,.1f} TB"
