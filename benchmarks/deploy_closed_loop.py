"""A stand and a corpus's segments, followed closed loop over DDS by a controller and a simulator, each a process of its own.

    python -m benchmarks.deploy_closed_loop BUNDLE CORPUS [--stand S] [--limit N]

BUNDLE is what `loom deploy export` made of a student, CORPUS what the student was trained on, as `loom train demo` leaves them. Each
segment is a whole run: rope, stand, the motion from its first frame to its last, settling, stand, damping. Judged by where the
robot truly was. The last line is JSON: closed_loop_{runs,followed,whole_body,mpkpe_mm,misses}, and each run.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from benchmarks.deploy import missed
from corpus.catalog import Corpus
from pipelines.deploy_run import Wanted, deploy_run
from pipelines.run_judge import judge_run
from trainer.scoreboard import scoreboard

DOMAIN = 91


def measure(bundle: Path, corpus: Path, *, stand_s: float = 20.0, limit: int | None = None) -> dict[str, Any]:
    opened = Corpus.open(corpus)
    labels = opened.of_clips("label").to_list()
    runs = [one(bundle, "stand", "stand", seconds=stand_s)]
    for segment in range(len(labels) if limit is None else min(limit, len(labels))):
        runs.append(
            one(bundle, f"{corpus}#{segment}", f"{segment} {labels[segment]}", frames=int(opened.frames[segment]))
        )
    return {
        "closed_loop_runs": len(runs),
        "closed_loop_followed": sum(run["followed"] for run in runs),
        "closed_loop_whole_body": sum(run["whole_body"] for run in runs),
        "closed_loop_mpkpe_mm": round(float(np.mean([run["mpkpe_mm"] for run in runs])), 1),
        "closed_loop_misses": sum(run["misses"] for run in runs),
        "closed_loop_periods": sum(run["periods"] for run in runs),
        "closed_loop_each": runs,
    }


def one(
    bundle: Path, follow: str, name: str, *, seconds: float | None = None, frames: int | None = None
) -> dict[str, Any]:
    """A run and what the referee says of it; `followed`: every frame, by the rule `trunk`, and it ended standing."""
    with tempfile.TemporaryDirectory() as folder:
        log, truth = Path(folder) / "run.g1run", Path(folder) / "truth.npz"
        wanted = Wanted(bundle, follow, seconds=seconds, domain=DOMAIN, with_sim=True, truth=truth, log=log)
        outcome = deploy_run(wanted)
        judged = judge_run(log, truth)
    figures = {
        row["measure"]: row["mean"] for row in scoreboard(judged.outcomes).to_dicts() if row["group"] == "overall"
    }
    whole = frames is None or outcome.tracked >= frames
    return {
        "name": name,
        "followed": bool(figures["trunk_success"] == 1.0 and whole and not outcome.fault),
        "whole_body": bool(figures["whole_body_success"] == 1.0),
        "tracked": outcome.tracked,
        "periods": outcome.periods,
        "misses": missed(outcome),
        "mpkpe_mm": round(figures["mpkpe_mm"], 1),
        "step_ms_p99": round(judged.timings.row(by_predicate=pl.col("name") == "step", named=True)["p99_ms"], 2),
        "fault": outcome.fault,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--stand", type=float, default=20.0)
    parser.add_argument("--limit", type=int)
    options = parser.parse_args()
    figures = measure(options.bundle, options.corpus, stand_s=options.stand, limit=options.limit)
    table = Table("motion", "frames followed", "trunk", "whole body", "MPKPE [mm]", "late periods", "fault")
    for run in figures["closed_loop_each"]:
        yes = ["yes" if run[key] else "no" for key in ("followed", "whole_body")]
        table.add_row(
            run["name"], str(run["tracked"]), *yes, f"{run['mpkpe_mm']}", str(run["misses"]), run["fault"] or "–"
        )
    Console(width=110).print(table)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
