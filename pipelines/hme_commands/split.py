"""`loom split`."""

from __future__ import annotations

import argparse

from pipelines.console import counted, in_hours, print_table
from pipelines.options import add_corpus, seed


def add_options(parser: argparse.ArgumentParser) -> None:
    add_corpus(parser)
    add = parser.add_argument
    about = "of the frames, for training, validation and test (default 0.9 0.05 0.05)"
    add("--shares", type=float, nargs=3, default=(0.9, 0.05, 0.05), metavar="SHARE", help=about)
    add("--seed", type=seed, default=0, metavar="N", help="which motions go where (default 0)")
    add("--hme", metavar="ID", help="of which embedder clusters are divided evenly (default: the corpus's default)")
    add("--anew", action="store_true", help="deal everything out again, though it is split already")


def run(options: argparse.Namespace) -> int:
    """Divide a corpus into parts for training, validation and test. Segments of one recording stay together, and so do copies and
    motions that overlap (`loom dedup` comes first); every source and cluster is divided by the same shares. What is dealt out
    stays where it is when the corpus grows; a new segment that joins two parts is withheld from all."""
    from corpus.catalog import Corpus
    from hme.split import SPLITS, WITHHELD, SplitOptions
    from pipelines.split import split

    corpus = Corpus.open(options.out, cache=options.cache)
    done = split(corpus, SplitOptions(tuple(options.shares), options.seed), hme_id=options.hme, anew=options.anew)
    total = max(int(done.table["frames"].sum()), 1)
    rows = []
    for name in (*SPLITS, WITHHELD):
        part = done.table.filter(split=name)
        frames = int(part["frames"].sum())
        if len(part) or name != WITHHELD:
            rows.append([name, counted(part["unit"].n_unique()), counted(len(part)), in_hours(frames, corpus.fps),
                         f"{frames / total:.2%}"])  # fmt: skip
    columns = ["part", "units", "segments", "hours", "share"]
    print_table(columns, rows, numeric=columns[1:])
    evenly = "source and cluster" if done.by_cluster else "source alone (no clusters to go by)"
    print(f"divided evenly by {evenly}; {done.kept_count:,} segments stay where they were")
    bare = [
        name
        for name, share in zip(SPLITS, options.shares, strict=True)
        if share and done.table.filter(split=name).is_empty()
    ]
    if bare:
        count = done.table["unit"].n_unique()
        print(f"nothing is left for {' and '.join(bare)}: {count:,} units are too few, or too large, for these shares")
    print(f"pairs of like motions that lie in different parts: {len(done.leaks):,}")
    return 0
