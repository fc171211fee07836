"""docs/deploy.md says of safety, packets and bundle what the code does."""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path

from corpus.recording import EVENT_BYTES, HEADER_BYTES, RECORD
from deploy.bundle import BUNDLE, PROBE, STEP_INPUTS, STEP_OUTPUTS, STEPS, WINDOW
from deploy.modes import MODES
from deploy.packets import REASONS
from deploy.planner.commands import Command
from deploy.safety import CHECKS, Limits
from deploy.stages import STAGES
from pipelines.deploy_commands import COMMANDS

DOCS = Path(__file__).resolve().parents[2] / "docs"
TEXT = (DOCS / "deploy.md").read_text(encoding="utf-8")


def rows(header: str) -> dict[str, list[str]]:
    """The table under this header: its first cell, without backticks, → all cells."""
    lines = TEXT[TEXT.index(header) :].splitlines()[2:]
    table = lines[: next((i for i, line in enumerate(lines) if not line.startswith("|")), len(lines))]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    return {row[0].strip("`"): row for row in cells}


def test_the_table_of_safety_names_every_check_and_where_it_leads():
    table = rows("| check | a fault where | limit | leads to |")
    assert [name for name in table if name in CHECKS] == list(CHECKS)
    assert len(table) == len(CHECKS) + 1, "one more row: what is clamped"
    for name, check in CHECKS.items():
        assert table[name][3] == ("settle" if '"settle"' in inspect.getsource(check) else "damping")


def test_the_table_of_safety_tells_every_limit_as_it_is():
    table = rows("| check | a fault where | limit | leads to |")
    told = dict(re.findall(r"`(\w+)` ([\d.]+(?: to [\d.]+)?)", ", ".join(row[2] for row in table.values())))
    limits = dataclasses.asdict(Limits()).items()
    assert told == {n: " to ".join(f"{x:g}" for x in (v if isinstance(v, tuple) else (v,))) for n, v in limits}


def test_every_mode_and_stage_is_told():
    assert set(rows("| mode | what commands")) == set(MODES)
    assert set(rows("| stage | what |")) == set(STAGES)


def test_every_command_is_told():
    for name in COMMANDS:
        assert f"`loom deploy {name}" in TEXT or f"`{name}`" in TEXT


def test_the_bundles_files_and_the_graphs_names_are_told():
    table = rows("| file | what |")
    assert set(table) == {BUNDLE, WINDOW, PROBE, *STEPS.values()}
    assert all(f"`{name}`" in table[STEPS["float32"]][1] for name in (*STEP_INPUTS, *STEP_OUTPUTS))


def test_every_reason_to_refuse_a_datagram_is_told():
    assert all(f"`{reason}`" in TEXT for reason in REASONS)


def test_every_part_of_a_command_is_told():
    assert all(field.name in TEXT for field in dataclasses.fields(Command))


def test_a_recording_is_told_as_it_is_written():
    text = (DOCS / "format.md").read_text(encoding="utf-8")
    text = text[text.index("# A recording") :]
    told = [
        name for line in text.splitlines() if (cells := line.split("|"))[2:] for name in cells[1].strip().split(", ")
    ]
    assert [name for name in told if name in (RECORD.names or ())] == list(RECORD.names or ())
    assert all(f"{number:,}" in text for number in (HEADER_BYTES, EVENT_BYTES)) and str(RECORD.itemsize) in text
