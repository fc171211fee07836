"""`loom select`."""

from __future__ import annotations

import argparse

from pipelines.console import in_hours, print_table
from pipelines.options import add_corpus, seed


def add_options(parser: argparse.ArgumentParser) -> None:
    add_corpus(parser)
    add = parser.add_argument
    add("--budget", required=True, metavar="10%|'10% of hours'|25h|5000", help="how much to choose, of what is kept")
    add("--name", default="default", metavar="NAME", help="of the selection's file (default: default)")
    add("--alpha", type=float, default=0.99, metavar="A", help="1: by distance alone, 0: by complexity (default 0.99)")
    add("--min-score", type=float, metavar="S", help="leave out what scores less in physics, 0 to 100; 90 is usual")
    add("--score", default="contact", metavar="NAME", help="physics score: contact (default) or published")
    add("--source", action="append", default=[], metavar="NAME", help="only of this source; may be repeated")
    add("--licence", action="append", default=[], metavar="TEXT", help="only under this licence; may be repeated")
    add("--unique", action="store_true", help="without the near-duplicates that `loom dedup` found")
    add(
        "--seed", type=seed, default=0, metavar="N", help="of the parts that a large corpus is divided into (default 0)"
    )
    add("--hme", metavar="ID", help="by which embedder's vectors (default: the corpus's default)")


def run(options: argparse.Namespace) -> int:
    """Choose the segments that say most: each pick is the one farthest from all picked before, complex ones first among near
    equals. The sampler and the loader take the selection by its name."""
    from corpus.catalog import Corpus
    from hme.select import SelectOptions
    from hme.space import Space
    from pipelines.select import Budget, Filters, select_corpus

    budget = Budget.parse(options.budget)
    filters = Filters(
        options.min_score, options.score, tuple(options.source), tuple(options.licence), unique=options.unique
    )
    space = Space.open(Corpus.open(options.out, cache=options.cache), options.hme)
    done = select_corpus(
        space, budget, name=options.name, filters=filters, options=SelectOptions(options.alpha, seed=options.seed)
    )
    order, fps = done.selection.order, space.corpus.fps
    rows = [["kept", f"{len(done.frames):,}", in_hours(int(done.frames.sum()), fps)]]
    rows += [[f"left out: {why}", f"{count:,}", ""] for why, count in done.dropped.items()]
    rows += [["chosen", f"{len(order):,}", in_hours(int(done.frames[order].sum()), fps)]]
    print_table(["segments", "count", "hours"], rows, numeric=["count", "hours"])
    reach = done.selection.distance[~done.selection.chosen]
    if (reach >= 0).any():
        print(f"none of the rest lies farther than {reach[reach >= 0].max():.3f} from a chosen one")
    print(f"wrote {done.path} ({'exact' if done.selection.exact else 'by parts'})")
    return 0
