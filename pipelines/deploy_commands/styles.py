"""`loom deploy styles`."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipelines.console import print_table
from pipelines.options import place, positive


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("index", type=Path, metavar="INDEX", help="the folder of the index")
    add("--corpus", type=place, metavar="OUT", help="build the index of this corpus, unless it is there and up to date")
    add("--cache", type=Path, metavar="DIR", help="where copies of what lies on object storage are kept")
    add("--hme", metavar="ID", help="clusters of which embedder (default: the corpus's default, if there is one)")
    add("--list", type=positive, default=40, metavar="N", help="how many styles to list (default 40)")


def run(options: argparse.Namespace) -> int:
    """List the styles that the planner can be asked for: labels and clusters, with the time, the speeds and the heights of the pelvis
    that the corpus holds of each. With `--corpus`, build the planner's index first."""
    from deploy.planner.styles import describe

    index = _index(options)
    seconds = len(index.qpos) / 50
    print(f"{len(index.motions):,} motions, {seconds / 3600:.2f} h, upright at {index.about['upright']:.2f} m")
    columns = ["style", "motions", "seconds", "speed m/s", "pelvis m"]
    told = describe(index)
    rows = [
        [style.name, f"{style.motions:,}", f"{style.seconds:,.0f}", _range(style.speed), _range(style.height)]
        for style in told[: options.list]
    ]
    print_table(columns, rows, numeric=columns[1:])
    if len(told) > options.list:
        print(f"… and {len(told) - options.list:,} more: --list {len(told)}")
    return 0


def _index(options: argparse.Namespace):
    from deploy.planner.index import Index

    if options.corpus is None:
        return Index.open(options.index)
    from corpus.catalog import Corpus
    from pipelines.planner_index import planner_index

    corpus = Corpus.open(options.corpus, cache=options.cache)
    index, built = planner_index(corpus, options.index, hme_id=options.hme)
    print(f"{options.index} {'built' if built else 'is up to date'}")
    return index


def _range(values: tuple[float, float]) -> str:
    return f"{values[0]:.2f}–{values[1]:.2f}"
