"""`loom diversity`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from math import isfinite

from pipelines.console import print_table
from pipelines.options import add_corpus, place, positive, seed

TITLES = {
    "spread": "spread (geometric mean of σ)",
    "log_volume": "log-volume",
    "dimension_ratio": "dimensions for 95 %, share",
    "participation": "participation ratio",
    "vendi": "Vendi score, truncated",
    "cluster_entropy": "entropy of clusters [nats]",
    "effective_clusters": "effective clusters",
    "cluster_gini": "Gini of clusters",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    add_corpus(parser)
    add = parser.add_argument
    add("--by", choices=("source", "licence"), help="each by itself, and what it adds to the others")
    add(
        "--against", type=place, metavar="OTHER", help="another corpus, embedded by the same embedder: what has either?"
    )
    add("--sample", type=positive, default=10_000, metavar="N", help="vectors of a sample, at most (default 10000)")
    add("--seed", type=seed, default=0, metavar="N", help="of the samples (default 0)")
    add("--hme", metavar="ID", help="by which embedder's vectors (default: the corpus's default)")


def run(options: argparse.Namespace) -> int:
    """Tell how varied the motion is: spread, volume, dimensions, kinds and clusters, at one sample size, with 95 % intervals."""
    from corpus.catalog import Corpus
    from hme.diversity import DiversityOptions
    from hme.space import Space, ids
    from pipelines.diversity import added_by_source, corpus_diversity

    space = Space.open(Corpus.open(options.out, cache=options.cache), options.hme)
    asked = DiversityOptions(sample=options.sample, seed=options.seed)
    found = corpus_diversity(space, options=asked)
    if options.by:
        found |= corpus_diversity(space, by=options.by, options=asked)
    _show(found)
    if options.by and len(found) > 2:
        _show_added(added_by_source(space, by=options.by, options=asked), options.by)
    if options.against:
        against = Corpus.open(options.against, cache=options.cache)
        # The same embedder where it has that one, whichever it takes by default.
        other = Space.open(against, space.hme_id if space.hme_id in ids(against) else None)
        _show_comparison(space, other, asked)
    return 0


def _show(found: Mapping) -> None:
    rows = [["segments", *(f"{one.count:,}" for one in found.values())]]
    rows += [["sample", *(f"{one.sample:,}" for one in found.values())]]
    rows += [["sample for the Vendi score", *(f"{one.kernel_sample:,}" for one in found.values())]]
    rows += [["width of its kernel", *(f"{one.bandwidth:.3g}" for one in found.values())]]
    rows += [
        [title, *(_figure(getattr(one, name)) for one in found.values())]
        for name, title in TITLES.items()
        if any(getattr(one, name).value == getattr(one, name).value for one in found.values())
    ]
    print_table(["", *found], rows, numeric=list(found))
    trimmed = next(iter(found.values())).trimmed
    print(
        f"Outliers left out: {trimmed:.1%}. Kernel of the Vendi score: exp(−d²/2b²), b its width. Compare only what has the same "
        "samples and width."
    )


def _show_added(table, by: str) -> None:

    def is_known(told: Mapping, measure: str) -> bool:
        return all(
            (measure, control) in told and isfinite(told[measure, control]["value"]) for control in (False, True)
        )

    print(f"\nWhat each {by} adds to the others (in brackets: shuffled, what size alone does)")
    measures = ["log_volume", "effective_clusters", "uncovered"]
    rows = []
    for (name,), group in table.group_by("source", maintain_order=True):
        told = {(row["measure"], row["control"]): row for row in group.to_dicts()}
        cells = [
            f"{_range(told[measure, False])} [{told[measure, True]['value']:.3g}]" if is_known(told, measure) else "–"
            for measure in measures
        ]
        rows.append([name, f"{group['count'][0]:,}", *cells])
    columns = [by, "segments", "log-volume", "effective clusters", "share near nothing else"]
    print_table(columns, rows, numeric=columns[1:])


def _show_comparison(space, other, asked) -> None:
    from pipelines.diversity import compare

    covered, covers, new = compare(space, other, options=asked)
    here, there = str(space.corpus.path), str(other.corpus.path)
    print()
    print_table(
        ["of", "covered by", "share", "by its own kind"],
        [
            [here, there, _figure(covered.share), _figure(covered.own)],
            [there, here, _figure(covers.share), _figure(covers.own)],
        ],
        numeric=["share", "by its own kind"],
    )
    gain = f"{new.effective_clusters_gain:.3g}" if isfinite(new.effective_clusters_gain) else "–"
    print(
        f"{there} added to {here}: {new.beyond:.1%} of it lies farther off than half of the corpus's own do (50 % if it were "
        f"alike), {new.far:.1%} farther than 95 % (5 %); log-volume grows by {_figure(new.log_volume_gain)}, effective "
        f"clusters by {gain}."
    )


def _figure(figure) -> str:
    return "–" if figure.value != figure.value else _range(vars(figure))


def _range(row: Mapping) -> str:
    return f"{row['value']:.3g} ({row['low']:.3g} to {row['high']:.3g})"
