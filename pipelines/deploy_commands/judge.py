"""`loom deploy judge`."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("run_file", type=Path, metavar="RUN.g1run", help="what a run left behind")
    about = "where the robot really was, as a simulator wrote it down (default: worked out from its legs)"
    add("--truth", type=Path, metavar="FILE.npz", help=about)
    add("--json", type=Path, metavar="FILE", help="all figures in a file")


def run(options: argparse.Namespace) -> int:
    """Tell how well a run on the robot or in a simulator followed its reference, by the rules and figures of `loom evaluate`; how
    punctual the controller was; and what happened."""
    from pipelines.run_judge import as_text, judge_run, write_json

    judged = judge_run(options.run_file, options.truth)
    if options.json:
        write_json(options.json, judged)
    print(as_text(judged), end="")
    return 0
