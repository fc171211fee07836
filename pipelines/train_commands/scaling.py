"""`loom scaling`."""

from __future__ import annotations

import argparse

from pipelines.options import seed
from pipelines.train_commands.options import (
    SIZES,
    add_run_options,
    add_student_options,
    one_thread,
    setup_of,
    student_of,
)


def add_options(parser: argparse.ArgumentParser) -> None:
    add_run_options(parser, robots=64)
    add_student_options(parser)
    add, share = parser.add_argument, "of the frames that may be trained on (default 1/16, 1/8, 1/4, 1/2, 1)"
    add("--size", choices=SIZES, nargs="+", default=["nano", "S", "B"], help="of students (default nano S B)")
    add("--share", type=float, nargs="+", default=[0.0625, 0.125, 0.25, 0.5, 1.0], metavar="X", help=share)
    add("--seeds", type=seed, nargs="+", default=[0], metavar="N", help="a student for each (default 0)")


def run(options: argparse.Namespace) -> int:
    """Train students of the same experts on nested parts of a corpus, in several sizes, judge all on recordings that none has seen,
    and fit L = E + A / N^α + B / D^β with intervals and a held-out largest run; with too few runs it refuses to. What is done is
    not done again."""
    from corpus.catalog import Corpus
    from pipelines.scaling import Grid, scale
    from trainer.scaling_report import table

    one_thread()
    told = scale(
        Corpus.open(options.out, cache=options.cache),
        options.into,
        experts=options.expert,
        hme_id=options.hme,
        grid=Grid(tuple(options.size), tuple(options.share), tuple(options.seeds)),
        setup=setup_of(options),
        options=student_of(options),
    )
    print(table(told))
    return 0
