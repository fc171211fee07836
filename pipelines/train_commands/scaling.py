"""`loom scaling`."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipelines.options import positive
from pipelines.train_commands.train import SIZES, add_shared, one_thread, setup_of


def add_options(parser: argparse.ArgumentParser) -> None:
    add_shared(parser, robots=64)
    add = parser.add_argument
    add(
        "--expert",
        type=Path,
        nargs="+",
        required=True,
        metavar="RUN",
        help="folders of experts, each with its clusters",
    )
    add("--size", choices=SIZES, nargs="+", default=["nano", "S"], help="of students (default nano S)")
    add(
        "--share",
        type=float,
        nargs="+",
        default=[0.125, 0.25, 0.5, 1.0],
        metavar="X",
        help="of the corpus (default 1/8 to 1)",
    )
    add("--seeds", type=int, nargs="+", default=[0], metavar="N", help="a student for each (default 0)")
    add("--rounds", type=positive, default=8, metavar="N", help="rollouts of each student (default 8)")
    add("--steps", type=positive, default=150, metavar="N", help="gradient steps after each (default 150)")
    add("--device", default="cpu", metavar="NAME", help="where students are trained (default cpu)")


def run(options: argparse.Namespace) -> int:
    """Train students of the same experts on nested parts of a corpus, in several sizes, judge all on recordings that none has seen,
    and fit L = E + A / N^α + B / D^β with intervals and a held-out largest run; with too few runs it refuses to. What is done is
    not done again."""
    from corpus.catalog import Corpus
    from pipelines.scaling import Grid, scale
    from trainer.scaling_report import table
    from trainer.student import StudentOptions

    one_thread()
    told = scale(
        Corpus.open(options.out, cache=options.cache),
        options.into,
        experts=options.expert,
        hme_id=options.hme,
        grid=Grid(tuple(options.size), tuple(options.share), tuple(options.seeds)),
        setup=setup_of(options),
        options=StudentOptions(rounds=options.rounds, steps_per_round=options.steps, device=options.device),
    )
    print(table(told))
    return 0
