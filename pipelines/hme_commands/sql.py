"""`loom sql`."""

from __future__ import annotations

import argparse

from pipelines.hme_commands.ask import add_output_options
from pipelines.options import add_corpus


def add_options(parser: argparse.ArgumentParser) -> None:
    add_corpus(parser)
    about = "one SELECT over clips, segments, kept, traits, clusters, duplicates, split: those that exist"
    parser.add_argument("query", metavar="SELECT", help=about)
    parser.add_argument("--hme", metavar="ID", help="of which embedder (default: the corpus's default)")
    add_output_options(parser)


def run(options: argparse.Namespace) -> int:
    """Ask a corpus's tables in SQL (DuckDB, extra `sql`). Nothing but these tables can be read, and nothing written."""
    from corpus.catalog import Corpus
    from pipelines.hme_commands.ask import show, write_table
    from pipelines.sql import query

    table = query(Corpus.open(options.out, cache=options.cache), options.query, hme=options.hme)
    show(table, options.rows)
    write_table(table, options)
    return 0
