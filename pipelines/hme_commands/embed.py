"""`loom embed`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pipelines.console import in_hours
from pipelines.options import add_running_options, place, positive, seed


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("out", type=place, metavar="CORPUS", help="a corpus: a folder or s3://bucket/folder")
    add(
        "--embedder",
        metavar="NAME|FILE",
        help="spectrum (the default where there is none yet), spectrum-2, published, or a file of a trained one",
    )
    add("--refit", action="store_true", help="find statistics anew; vectors by the old ones stay beside the new")
    add("--sample", type=positive, default=5000, metavar="N", help="segments to find them on (default 5000)")
    add("--seed", type=seed, default=0, metavar="N", help="which ones (default 0)")
    add_running_options(parser)


def run(options: argparse.Namespace) -> int:
    """Embed what is not embedded yet: a vector and plain traits of every kept segment, beside the corpus's shards. Segments that
    came later are embedded by the same embedder."""
    from pipelines.cluster import Cluster
    from pipelines.embed import embed

    cluster = Cluster(options.scheduler, options.workers, options.worker_memory, options.report)
    chosen = Path(options.embedder) if options.embedder and Path(options.embedder).is_file() else options.embedder
    done = embed(
        options.out, chosen, refit=options.refit, sample=options.sample, seed=options.seed, cluster=cluster,
        cache=options.cache,
    )  # fmt: skip
    for failure in done.failures:
        print(f"loom: shard {failure.task['shard']} failed: {failure.error}", file=sys.stderr)
        if options.traceback:
            print(failure.trace, file=sys.stderr)
    made = "fitted on this corpus" if done.fitted else "as before"
    if not done.done_count and done.complete:
        print(f"nothing to do: all {done.shard_count} shards are embedded by {done.hme_id}")
    else:
        rate = done.frame_count / max(done.cpu_seconds, 1e-6)
        print(
            f"embedded {done.segment_count:,} segments ({in_hours(done.frame_count, 50)} h) of {done.done_count} shards by "
            f"{done.hme_id} ({made}) in {done.seconds:.1f} s: {rate:,.0f} frames per core-second"
        )
    if not done.complete:
        print(f"loom: {len(done.missing)} shards are missing; run the same command to try again", file=sys.stderr)
    return 0 if done.complete else 1
