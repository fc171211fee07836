"""`loom dedup`."""

from __future__ import annotations

import argparse
import sys

from pipelines.console import counted, in_hours, print_table
from pipelines.options import add_running_options, place


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("out", type=place, metavar="CORPUS", help="a corpus: a folder or s3://bucket/folder")
    about = "distance of low-passed joints up to which motions are one [rad] (default 0.012)"
    add("--threshold", type=float, default=0.012, metavar="RAD", help=about)
    about = "share of a segment that kept ones must cover for it to be left out (default 0.8)"
    add("--overlap", type=float, default=0.8, metavar="SHARE", help=about)
    add("--list", type=int, default=0, metavar="N", help="list so many pairs, the farthest apart first")
    add_running_options(parser)


def run(options: argparse.Namespace) -> int:
    """Find near-duplicates within and across sources: exact, noisy, re-timed or mirrored copies, and chunks of longer motions, each
    verified on aligned motion. The longest of them is kept; nothing is deleted, the tables beside the corpus tell."""
    from hme.duplicates.find import DuplicateOptions
    from pipelines.cluster import Cluster
    from pipelines.dedup import dedup

    chosen = DuplicateOptions(threshold=options.threshold, overlap=options.overlap)
    cluster = Cluster(options.scheduler, options.workers, options.worker_memory, options.report)
    done = dedup(options.out, chosen, cluster=cluster, cache=options.cache)
    for failure in done.failures:
        print(f"loom: {failure.error}", file=sys.stderr)
        if options.traceback:
            print(failure.trace, file=sys.stderr)
    if not done.complete:
        print(f"loom: {done.missing_count} parts are missing; run the same command to try again", file=sys.stderr)
        return 1
    if done.done_now:
        print(
            f"compared {done.anchor_count:,} anchors and {done.candidate_count:,} candidates in {done.seconds:.1f} s "
            f"({done.cpu_seconds:.1f} s of processor time); {done.lost_count:,} candidates beyond the most were not aligned"
        )
    else:
        print("nothing to do: all segments are compared")
    _print_verdict(done.corpus)
    if options.list:
        _print_pairs(done.corpus, options.list)
    return 0


def _print_verdict(corpus) -> None:
    from pipelines.dedup_report import by_kind, by_sources

    columns = ["kind", "segments", "hours", "share"]
    print_table(columns, [
        [row["kind"], counted(row["segments"]), in_hours(row["frames"], corpus.fps), f"{row['share']:.2%}"]
        for row in by_kind(corpus).to_dicts()
    ], numeric=columns[1:])  # fmt: skip
    columns = ["source", "and source", "kind", "pairs", "hours shared"]
    rows = by_sources(corpus).to_dicts()
    if rows:
        print()
        print_table(columns, [
            [row["source"], row["other"], row["kind"], counted(row["pairs"]), f"{row['hours']:.3f}"] for row in rows
        ], numeric=columns[3:])  # fmt: skip


def _print_pairs(corpus, count: int) -> None:
    from pipelines.dedup_report import farthest

    columns = [
        "segment",
        "and segment",
        "kind",
        "mirrored",
        "tempo",
        "shift s",
        "shared s",
        "rad",
        "root",
        "strays rad",
    ]
    print()
    print_table(columns, [
        [row["segment_a"], row["segment_b"], row["kind"], "yes" if row["mirrored"] else "", f"{row['tempo']:.3f}",
         f"{row['shift_s']:.2f}", f"{row['stop_a'] - row['start_a']:.2f}", f"{row['distance']:.4f}",
         f"{row['root_distance']:.4f}", f"{row['spread']:.3f}"]
        for row in farthest(corpus, count).to_dicts()
    ], numeric=columns[4:])  # fmt: skip
