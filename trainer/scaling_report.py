"""What a grid of runs tells: the law with its intervals, the held-out largest run, a table and a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from corpus.durable import replace_file
from corpus.errors import MotionloomError
from trainer.plot import COLOURS, Axis, Curve, draw_curves
from trainer.scaling_fit import FitOptions, ScalingFit, fit_scaling


@dataclass(frozen=True)
class ScalingReport:
    rows: list[dict[str, Any]]
    """One for each pair of size and data: means over the seeds, and what the law says."""
    fit: ScalingFit | None
    refused: str
    """Why no law was fitted; empty where one was."""
    diverged: int
    """Runs without a finite loss, which are in no mean and no fit."""


def report(folder: Path, rows: Sequence[Mapping[str, Any]], options: FitOptions = FitOptions()) -> ScalingReport:
    """Write `scaling.json`, `scaling.txt` and `scaling.svg` into the folder. Where runs are too few for a law, they say so."""
    told = summary(rows, options)
    fit = told.fit and told.fit.to_json()
    content = {"rows": told.rows, "fit": fit, "refused": told.refused, "diverged": told.diverged}
    for name, text in (
        ("scaling.json", json.dumps(content, indent=1) + "\n"),
        ("scaling.txt", table(told)),
        ("scaling.svg", picture(told)),
    ):
        replace_file(folder / name, lambda path, text=text: path.write_text(text))
    return told


def summary(rows: Sequence[Mapping[str, Any]], options: FitOptions = FitOptions()) -> ScalingReport:
    """Fit the law to the rows of `run_grid`, and sum them up."""
    whole = [row for row in rows if row["loss"] is not None]
    n, d, loss = (np.array([row[name] for row in whole], float) for name in ("parameters", "frames", "loss"))
    try:
        fit, refused = fit_scaling(n, d, loss, options), ""
    except MotionloomError as error:
        fit, refused = None, str(error)
    pairs = sorted({(row["parameters"], row["frames"]) for row in whole})
    summed = [_summed([row for row in whole if (row["parameters"], row["frames"]) == pair], fit) for pair in pairs]
    return ScalingReport(summed, fit, refused, len(rows) - len(whole))


def table(told: ScalingReport) -> str:
    """For people: a line per size and data, the law, and how the held-out run compares."""
    columns = ("size", "parameters", "share", "frames", "runs", "loss", "± seeds", "law", "success")
    lines = [columns, *(_cells(row) for row in told.rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    text = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    if told.diverged:
        text.append(f"{told.diverged} runs diverged and are left out.")
    return "\n".join([*text, "", *(_law_lines(told.fit) if told.fit else [told.refused]), ""])


def picture(told: ScalingReport) -> str:
    """Loss over frames, a colour per size: dots are measured, lines are the law, the bar is what was to be expected of the largest run."""
    curves = []
    sizes = sorted({row["parameters"] for row in told.rows})
    for number, parameters in enumerate(sizes):
        rows = [row for row in told.rows if row["parameters"] == parameters]
        colour = COLOURS[number % len(COLOURS)]
        frames = np.array([row["frames"] for row in rows], float)
        curves.append(Curve(rows[0]["size"], frames, np.array([row["loss"] for row in rows]), colour, dots=True))
        if told.fit and len(rows):
            along = np.geomspace(frames.min(), frames.max(), 40)
            curves.append(Curve("", along, told.fit.law.at(parameters, along), colour))
    held = told.fit and told.fit.held_out
    if held:
        low, high, at = np.array([held.low]), np.array([held.high]), np.array([held.frames])
        curves.append(
            Curve("held out: expected", at, np.array([held.predicted]), "#1d2329", dots=True, low=low, high=high)
        )
    return draw_curves(
        curves, Axis("frames of motion", True), Axis("validation loss", True), title="Loss by data and size"
    )


def _summed(rows: Sequence[Mapping[str, Any]], fit: ScalingFit | None) -> dict[str, Any]:
    first, loss = rows[0], np.array([row["loss"] for row in rows])
    success = [row["success"] for row in rows if row.get("success") is not None]
    law = None if fit is None else float(fit.law.at(first["parameters"], first["frames"]))
    held = fit.held_out if fit else None
    return {
        "size": first["size"], "parameters": first["parameters"], "share": first["share"], "frames": first["frames"],
        "runs": len(rows), "loss": float(np.exp(np.log(loss).mean())), "deviation": float(loss.std(ddof=1)) if len(rows) > 1 else None,
        "law": law, "success": float(np.mean(success)) if success else None,
        "held_out": held is not None and (first["parameters"], first["frames"]) == (held.parameters, held.frames),
    }  # fmt: skip


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    def number(name: str) -> str:
        return "–" if row[name] is None else f"{row[name]:.4g}"

    return (row["size"] + (" (held out)" if row["held_out"] else ""), f"{row['parameters']:,}", f"{row['share']:.4g}",
            f"{row['frames']:,}", str(row["runs"]), number("loss"), number("deviation"), number("law"), number("success"))  # fmt: skip


def _law_lines(fit: ScalingFit) -> list[str]:
    law, share = fit.law, f"{100 * fit.options.confidence:g} %"
    lines = [f"L = {law.E:.4g} + {law.A:.4g} / N^{law.alpha:.3g} + {law.B:.4g} / D^{law.beta:.3g}"]
    lines += [f"  {name} in [{low:.3g}, {high:.3g}]" for name, (low, high) in fit.intervals.items()]
    lines.append(
        f"  ({share} intervals by bootstrap over runs; runs scatter by {100 * fit.scatter:.2g} % about the law)"
    )
    lines += [f"  {note}" for note in fit.notes]
    if held := fit.held_out:
        verdict = "inside" if held.inside else "OUTSIDE"
        lines.append(
            f"held out: N {held.parameters:,.0f}, D {held.frames:,.0f}: expected {held.predicted:.4g} in [{held.low:.4g}, "
            f"{held.high:.4g}], measured {held.measured:.4g}: {verdict}"
        )
    return lines
