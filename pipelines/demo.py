"""Show the whole way on small data: files of four data sets, some broken, become a corpus, a report and batches."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float
from rich.console import Console
from rich.table import Table
from rich.text import Text

from corpus.catalog import Corpus
from corpus.loader import batches, open_windows
from corpus.loading.sampler import exposure
from corpus.sources.synthetic import write_demo_data
from hme.duplicates.tables import unique_segments
from hme.sampling.exposure import gini
from hme.sampling.policy_spec import parse_spec
from hme.space import Space
from pipelines.balance import Allowed, Balanced, balance
from pipelines.build import Outcome, build
from pipelines.cluster import Cluster
from pipelines.cluster_corpus import cluster_corpus
from pipelines.dedup import dedup
from pipelines.embed import embed
from pipelines.inventory import ledger_of, reject_reasons
from pipelines.report import write_report

BATCH_SIZE, WINDOW, STEPS = 256, 64, 100
"""Windows in a batch, frames in a window, batches drawn."""
POLICY = "cluster:tau=0"
"""Every cluster equally often."""
INLINE = Cluster("inline")
"""So little work takes less time than to start workers for it."""


def main(out: Path, sources: dict[str, Path] | None = None) -> int:
    """Build a corpus below `out` from `sources`, or from made-up files where none are given; gives the exit code."""
    console, start = Console(), time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    corpus_folder = out / ("own-corpus" if sources else "corpus")
    if not sources:
        sources = write_demo_data(out / "data")
        count = sum(1 for path in (out / "data").rglob("*") if path.is_file())
        console.print(
            f"wrote {count} made-up files for {', '.join(sorted(sources))} below {out / 'data'}, some of them broken"
        )
    outcome = build(sources, corpus_folder, progress=True)
    show_outcome(console, outcome)
    show_ledger(console, corpus_folder)
    show_rejects(console, corpus_folder)
    draw_batches(console, corpus_folder, look_for_likeness(console, corpus_folder))
    commands = next_steps(corpus_folder, sources)
    write_report(corpus_folder, out / "report.html", commands=commands)
    console.print(f"\nreport: {out / 'report.html'}  ({time.monotonic() - start:.0f} s in all)")
    console.print("go on with:\n" + "\n".join(f"  {line}" for line in commands), highlight=False, soft_wrap=True)
    return 0 if outcome.complete else 1


def show_outcome(console: Console, outcome: Outcome) -> None:
    if not outcome.built_count and outcome.complete:
        console.print(f"nothing to build: all {outcome.shard_count} shards exist")
    else:
        rate = outcome.frame_count / max(outcome.worker_seconds, 1e-9)
        console.print(
            f"built {outcome.built_count} of {outcome.shard_count} shards: {outcome.frame_count:,} frames, "
            f"{rate:,.0f} per second of a worker, at most {outcome.peak_memory_mb:.0f} MiB in one"
        )
    for failure in outcome.failures:
        console.print(Text(f"shard {failure.task['shard']} failed: {failure.error}", style="red"))


def show_ledger(console: Console, out: Path) -> None:
    """What there was, what was kept, what can be drawn from it: in = passed + rejected + cut away."""
    book, fps = ledger_of(out)
    columns = ("source", "licence", "clips", "in s", "passed s", "rejected s", "cut s", "virtual s")
    names = ("frames", "frames_kept", "frames_rejected", "frames_cut", "frames_virtual")
    cells = [
        [row["source"], row["licence"], row["clips"], *(f"{row[n] / fps:,.1f}" for n in names)] for row in book.lines()
    ]
    console.print(_table("What was kept", columns, cells, numeric=columns[2:]))


def show_rejects(console: Console, out: Path) -> None:
    """Why the rest was not: each reason with its count and one example."""
    _, fps = ledger_of(out)
    example = {(row["kind"], row["reason"]): row["example"] for row in _examples(out).to_dicts()}
    cells = [
        [kind, reason, count, f"{frames / fps:,.1f}", example.get((kind, reason), "")]
        for kind, reason, count, frames in reject_reasons(out, limit=40)
    ]
    columns = ("what", "reason", "count", "seconds", "for example")
    console.print(_table("What was left out", columns, cells, numeric=("count", "seconds")))


def look_for_likeness(console: Console, out: Path) -> Balanced | None:
    """Vectors, clusters, near-duplicates, and a plan that shows every cluster equally often; None where nothing was kept."""
    corpus = Corpus.open(out)
    if not len(corpus.frames):
        return None
    embed(out, cluster=INLINE)
    space = Space.open(corpus)
    clusters, _ = cluster_corpus(space)
    dedup(out, cluster=INLINE)
    copies = int((~unique_segments(corpus)).sum())
    console.print(
        f"embedded {len(space.vectors)} segments: {clusters.count} clusters of what moves alike, {copies} segments are copies of "
        f"others or of parts of them"
    )
    choice: dict[str, Any] = {"window": _window(corpus), "allowed": Allowed(unique=True)}
    balanced = balance(corpus, parse_spec([POLICY]), plan_of(out), **choice)
    told = balanced.by_source.table(balanced.pool.source_names, corpus.fps)
    cells = [
        [row["name"], f"{row['share_natural']:.1%}", f"{row['share']:.1%}", f"{row['epochs']:.2f}"]
        for row in told.to_dicts()
    ]
    columns = ("source", "share held", "share drawn", "epochs")
    console.print(_table(f"What the plan {POLICY} shows", columns, cells, numeric=columns[1:]))
    return balanced


def draw_batches(console: Console, out: Path, balanced: Balanced | None) -> None:
    """Batches of windows by the plan: shapes, how fast they come on one core, and how evenly from the clusters."""
    corpus = Corpus.open(out)
    if balanced is None:
        console.print("no segment was kept: no batches to draw")
        return
    window = _window(corpus)
    share: dict[str, Any] = {"batch_size": BATCH_SIZE, "window": window, "seed": 0, "steps": STEPS + 1}
    drawn = batches(corpus, weights=plan_of(out), **share)
    first = next(drawn)
    start = time.perf_counter()
    count = sum(1 for _ in drawn)
    seconds = time.perf_counter() - start
    shapes = ", ".join(
        f"{name} {'×'.join(map(str, array.shape))} {array.dtype}"
        for name in ("qpos", "velocity", "contact", "segment", "frame")
        if (array := getattr(first, name)) is not None
    )
    rate = count * BATCH_SIZE * window / max(seconds, 1e-9)
    console.print(f"batches by the plan: {shapes}; {rate / 1e6:.1f} M frames/s", highlight=False, soft_wrap=True)
    evenness = {
        name: gini(_seen_by_cluster(corpus, balanced, weights, **share))
        for name, weights in (("all windows alike", None), ("by the plan", plan_of(out)))
    }
    told = ", ".join(f"{value:.2f} {name}" for name, value in evenness.items())
    console.print(f"Gini of how often clusters were drawn: {told}")


def _seen_by_cluster(
    corpus: Corpus, balanced: Balanced, weights: Path | None, *, steps: int, **share: Any
) -> Float[np.ndarray, " K"]:
    """Windows drawn of each cluster that holds any."""
    pool, sampler = balanced.pool, open_windows(corpus, weights=weights, **share).sampler
    assert pool.cluster is not None
    count = int(pool.cluster.max()) + 1
    mine = pool.windows > 0
    seen = np.bincount(pool.cluster[mine], exposure(sampler, 0, steps)[mine], count)
    return seen[np.bincount(pool.cluster[mine], minlength=count) > 0]


def plan_of(out: Path) -> Path:
    """Where the demo's plan for a corpus lies."""
    return out.parent / f"{out.name}-plan.parquet"


def _window(corpus: Corpus) -> int:
    return min(WINDOW, int(corpus.frames.max()))


def next_steps(out: Path, sources: dict[str, Path]) -> list[str]:
    given = " ".join(f"--source {name}={root}" for name, root in sorted(sources.items()))
    return [
        f"loom info {out}      # what it holds",
        f"loom ask {out}       # questions, and what they answer",
        f"loom verify {out}    # every checksum",
        f"loom build {given} --out {out}      # does what is missing: new files, or all of it after ctrl-C",
        "loom build --source amass=DIR --source lafan1=DIR --source motionx=DIR --source phuma=DIR --out my-corpus",
        f'python -c "from pathlib import Path; from corpus.catalog import Corpus; '
        f"print(Corpus.open(Path('{out}')).segments.collect())\"",
    ]


def _examples(out: Path) -> pl.DataFrame:
    """One file for every reason."""
    corpus = Corpus.open(out)
    clips = corpus.clips.select("clip", "status", "reason", "frames", example=pl.format("{}: {}", "source", "path"))
    left_out = clips.filter(pl.col("status") == "rejected").select(pl.lit("clips").alias("kind"), "reason", "example")
    rejected = corpus.segments.filter(pl.col("status") == "rejected").select("clip", "reason")
    of_clip = clips.filter(pl.col("frames") > 0).select("clip", "example")
    segments = rejected.join(of_clip, on="clip").select(pl.lit("segments").alias("kind"), "reason", "example")
    return pl.concat([left_out, segments]).group_by("kind", "reason").agg(pl.col("example").min()).collect()


def _table(title: str, columns: tuple[str, ...], rows: list[list], *, numeric: tuple[str, ...]) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in numeric else "left", no_wrap=column in numeric)
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))  # Text: a file's name is no markup
    return table
