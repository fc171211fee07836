"""A rehearsal as a person reads it: each stage as it is done, what was found, and the sum for a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pipelines.cluster import default_workers
from pipelines.rehearsal.estimate import Factor, estimate, overhead_fraction, workers_fed
from pipelines.rehearsal.rehearse import Found, Rehearsal, figures, rehearse

ROWS = (
    ("clips from the readers, as a table", "plan", "table_seconds", "s"),
    ("their keys, all remembered", "plan", "keys_seconds", "s"),
    ("dealing them to shards", "plan", "deal_seconds", "s"),
    ("the plan on the disk", "plan", "plan_bytes", "B"),
    ("memory of planning", "plan", "peak_mb", "MiB"),
    ("planning again, half of the shards built", "resume", "stage_seconds", "s"),
    ("memory of that", "resume", "peak_mb", "MiB"),
    ("folding the catalog", "fold", "fold_seconds", "s"),
    ("memory of that", "fold", "peak_mb", "MiB"),
    ("opening the corpus, from the disk", "open", "open_seconds", "s"),
    ("memory of that", "open", "peak_mb", "MiB"),
    ("kept segments", "open", "kept_segments", ""),
    ("the ledger", "query", "ledger_seconds", "s"),
    ("hours by source", "query", "hours_by_source_seconds", "s"),
    ("rejects by reason", "query", "rejects_by_reason_seconds", "s"),
    ("the longest segments", "query", "longest_segments_seconds", "s"),
    ("preparing to draw", "draw", "sampler_seconds", "s"),
    ("drawing 1,024 windows", "draw", "draw_ms_per_1024", "ms"),
    ("opening and mapping all shards", "draw", "map_all_seconds", "s"),
    ("copying 1,024 windows from holes", "draw", "gather_ms_per_1024", "ms"),
    ("mappings held", "draw", "maps", ""),
    ("of so many at most (vm.max_map_count)", "draw", "map_limit", ""),
    ("file descriptors held", "draw", "descriptors", ""),
    ("a shard's task", "schedule", "task_bytes", "B"),
    ("sending it: wall time", "schedule", "wall_ms", "ms"),
    ("sending it: client and scheduler", "schedule", "busy_ms", "ms"),
    ("the same with the shard's name alone", "schedule", "named_busy_ms", "ms"),
    ("walking over a file", "look", "walk_us", "µs"),
    ("learning its key, first time", "look", "first_us", "µs"),
    ("learning its key again", "look", "again_us", "µs"),
)  # fmt: skip
"""What is shown of the stages: what it is, stage, name, unit."""


def rehearse_aloud(rehearsal: Rehearsal, place: Path, *, cores: int, keep: bool = False) -> dict[str, Any]:
    """Rehearse, print what comes of it and what a cluster of so many cores would take; gives `figures`."""
    console, workers = Console(width=140, highlight=False), default_workers()
    console.print(f"{rehearsal.clips:,} clips, {rehearsal.frames:,} frames, all made up")

    def told(stage: str, numbers: dict[str, Any]) -> None:
        console.print(f"  {stage}: {numbers['stage_seconds']:.1f} s, {numbers['peak_mb']:,.0f} MiB")

    found = rehearse(rehearsal, place, workers=workers, keep=keep, told=told)
    console.print(_table_of_stages(found))
    console.print(
        f"\nWith {workers} workers here, {overhead_fraction(found, workers):.2%} of the core time goes into sending tasks. "
        f"Client and scheduler are busy 2 % of the time with {workers_fed(found, 0.02):,.1f} workers, always with "
        f"{workers_fed(found):,.0f}."
    )
    factors = estimate(found, frames=rehearsal.frames, clips=rehearsal.clips, cores=cores)
    console.print(_table_of_factors(factors, f"\nTo build it with {cores:,} cores"))
    return figures(found, workers)


def _table_of_stages(found: Found) -> Table:
    table = _table("\nWhat was found", "what", "value", "unit")
    for title, stage, name, unit in ROWS:
        table.add_row(title, _readable(found[stage][name]), unit)
    return table


def _table_of_factors(factors: list[Factor], title: str) -> Table:
    table = _table(title, "what", "value", "unit", "from", "note")
    for factor in factors:
        table.add_row(factor.name, _readable(factor.value), factor.unit, factor.origin, factor.note)
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column == "value" else "left")
    return table


def _readable(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() or abs(value) >= 1000 else f"{value:,.3g}"
