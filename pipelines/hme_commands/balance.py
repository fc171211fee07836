"""`loom balance`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.console import print_table
from pipelines.options import add_corpus, positive

if TYPE_CHECKING:
    import polars as pl

    from corpus.catalog import Corpus
    from hme.sampling.policy_spec import Spec
    from pipelines.balance import Balanced

EXTREMES = 5
"""Clusters that are listed of each end."""


def add_options(parser: argparse.ArgumentParser) -> None:
    add_corpus(parser)
    add = parser.add_argument
    add("--out", dest="plan", type=Path, required=True, metavar="FILE", help="where the plan goes: a Parquet file")
    add(
        "--policy",
        action="append",
        default=[],
        metavar="NAME[:OPTION=VALUE,…]",
        help="uniform, source:amass=0.5, cluster:tau=0.2, density:power=0.5, propensity:cap=10, quality:threshold=90, "
        "adaptive:preset=sonic; may be repeated",
    )
    add(
        "--mix",
        type=float,
        nargs="+",
        default=[],
        metavar="SHARE",
        help="of the windows for each policy (default: alike)",
    )
    add("--spec", type=Path, metavar="FILE", help="policies, shares and cap from a TOML or JSON file instead")
    add("--cap", type=float, metavar="N", help="no window more than N times as often as if all came equally often")
    add("--window", type=positive, default=64, metavar="N", help="frames of a window (default 64)")
    add("--selection", metavar="NAME", help="only what `loom select` chose under this name")
    add("--unique", action="store_true", help="of near-duplicates only the one that `loom dedup` keeps")
    add("--split", metavar="NAME", help="only this part of `loom split`, as in train")
    add("--licence", action="append", default=[], metavar="NAME", help="only under this licence; may be repeated")
    add(
        "--score",
        default="contact",
        metavar="NAME",
        help="physics score of the policy quality: contact (default), published",
    )
    add("--feedback", type=Path, metavar="FILE", help="where a tracker failed, for the policy adaptive")
    add("--hme", metavar="ID", help="clusters of which embedder (default: the corpus's default)")
    add(
        "--steps",
        type=positive,
        metavar="N",
        help="tell of a run of so many batches (default: the corpus's frames once)",
    )
    add("--batch-size", type=positive, default=1024, metavar="B", help="windows of a batch of all ranks (default 1024)")
    add(
        "--most-ratio",
        type=float,
        default=10.0,
        metavar="N",
        help="warn of clusters seen N times the mean (default 10)",
    )
    add("--most-epochs", type=float, default=float("inf"), metavar="N", help="… or for more than N epochs")


def run(options: argparse.Namespace) -> int:
    """Write a plan: how often the windows of each segment are to be drawn, for `corpus.loader`. Tells what it will show of each
    source and cluster, and warns of clusters that would be seen too often."""
    from corpus.catalog import Corpus
    from pipelines.balance import Allowed, Watch, balance

    corpus = Corpus.open(options.out, cache=options.cache)
    done = balance(
        corpus,
        _spec(options),
        options.plan,
        window=options.window,
        hme_id=options.hme,
        allowed=Allowed(options.selection, options.unique, options.split, tuple(options.licence)),
        feedback=options.feedback,
        score=options.score,
        watch=Watch(options.steps and options.steps * options.batch_size, options.most_ratio, options.most_epochs),
    )
    _tell(done, corpus)
    print(f"wrote {options.plan} ({done.hash})")
    return 0


def _spec(options: argparse.Namespace) -> Spec:
    from corpus.errors import MotionloomError
    from hme.sampling.policy_spec import parse_spec, read_spec

    if options.spec is None:
        return parse_spec(options.policy or ["uniform"], options.mix, options.cap)
    if options.policy or options.mix or options.cap is not None:
        raise MotionloomError("--spec says it all: leave --policy, --mix and --cap to the file.")
    return read_spec(options.spec)


def _tell(done: Balanced, corpus: Corpus) -> None:
    import numpy as np

    from hme.sampling.exposure import QUANTILES

    _print(done.by_source.table(done.pool.source_names, corpus.fps), "source")
    if groups := done.by_cluster:
        rows = groups.table([str(number) for number in range(len(groups.windows))], corpus.fps)
        rows = rows.sort("epochs", descending=True)
        if len(rows) > 2 * EXTREMES:
            rows = rows.head(EXTREMES).vstack(rows.tail(EXTREMES))
        _print(rows, "cluster (ends)")
    quantiles = np.quantile(done.clip_epochs(corpus), QUANTILES)
    told = ", ".join(f"{q:.0%} {epochs:,.3g}" for q, epochs in zip(QUANTILES, quantiles, strict=True))
    print(f"\nquantiles of the clips' epochs: {told}; mean {done.mean_epochs:,.3g}")
    drawn = corpus.frames[done.exposure.windows > 0].sum()
    print(
        f"drawn from {drawn / corpus.fps / 3600:,.3f} of {corpus.frames.sum() / corpus.fps / 3600:,.3f} h; effective sample size "
        f"{done.effective:.1%} of the windows that may be drawn"
    )
    if done.ginis:
        print(f"Gini of exposure over clusters: {done.ginis[0]:.3f} drawn evenly, {done.ginis[1]:.3f} by this plan")


def _print(rows: pl.DataFrame, title: str) -> None:
    columns = [title, "segments", "hours", "share held", "share drawn", "windows", "epochs"]
    cells = [
        [row["name"], f"{row['segments']:,}", f"{row['hours']:,.3f}", f"{row['share_natural']:.2%}", f"{row['share']:.2%}",
         f"{row['windows']:,.0f}", f"{row['epochs']:,.3g}"]
        for row in rows.to_dicts()
    ]  # fmt: skip
    print_table(columns, cells, numeric=columns[1:])
