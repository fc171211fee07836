"""`loom cluster`."""

from __future__ import annotations

import argparse

from pipelines.console import print_table
from pipelines.options import add_corpus, positive, seed


def add_options(parser: argparse.ArgumentParser) -> None:
    add_corpus(parser)
    add = parser.add_argument
    add("--clusters", type=positive, metavar="K", help="how many (default: by the number of segments, at most 384)")
    add("--seed", type=seed, metavar="N", help="of the random starts (default 0, or that of the clusters there are)")
    add("--hme", metavar="ID", help="of which embedder (default: the corpus's default)")
    add("--refit", action="store_true", help="find the centres anew though there are some")
    add("--stability", action="store_true", help="tell how much clusters change with seeds and subsamples")
    add("--list", type=int, default=20, metavar="N", help="how many clusters to list (default 20)")


def run(options: argparse.Namespace) -> int:
    """Group segments that are alike: K-means on a sample of the vectors, every segment assigned. Segments that came later are
    assigned to the clusters there are, unless others are asked for."""
    from corpus.catalog import Corpus
    from hme.cluster import describe, stability
    from hme.space import Space
    from pipelines.cluster_corpus import cluster_corpus

    space = Space.open(Corpus.open(options.out, cache=options.cache), options.hme)
    clusters, fitted = cluster_corpus(space, options.clusters, seed=options.seed, refit=options.refit)
    made = "found" if fitted else "there already"
    print(
        f"{clusters.count} clusters ({made}) of {len(space.vectors):,} segments, id {clusters.id}, embedder {space.hme_id}"
    )
    if options.stability:
        told = stability(space.vectors, clusters.count)
        print(
            f"adjusted Rand index: {told.seeds:.2f} between seeds, {told.subsamples:.2f} between halves of the segments"
        )
    columns = ["cluster", "segments", "hours", "share", "medoid", "labels", "sources"]
    rows = [
        [str(row["cluster"]), f"{row['segments']:,}", f"{row['hours']:.3f}", f"{row['share']:.1%}", row["medoid"],
         row["labels"] or "", row["sources"] or ""]
        for row in describe(space).head(options.list).to_dicts()
    ]  # fmt: skip
    print_table(columns, rows, numeric=columns[:4])
    return 0
