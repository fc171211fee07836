"""`loom ask`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from pipelines.options import place, positive

OWN = ("by", "set", "frames", "hours", "number", "against", "clip", "file", "count")
"""Options that questions take; which takes which is told by `loom ask`."""


MOST_COLUMNS = 12
"""A table with more is printed row by row, a column to a line."""


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("out", nargs="?", type=place, metavar="CORPUS", help="a corpus: a folder or s3://bucket/folder")
    add("question", nargs="?", metavar="QUESTION", help="its name; without one, all are listed")
    own = parser.add_argument_group("options of questions").add_argument
    own("--by", metavar="WHAT", help="hours: by source, licence, cluster or source-cluster (default source)")
    own("--set", action="append", metavar="NAME=VALUE", help="what-if: another limit, as in gate.foot_slide_limit=0.2")
    own("--frames", type=positive, action="append", metavar="N", help="windows: a length of windows; may be repeated")
    own("--hours", type=float, metavar="H", help="tail: hours that every cluster should have")
    own("--number", type=int, metavar="K", help="cluster: which one")
    own("--against", type=place, metavar="OTHER", help="coverage, novelty, drift: another corpus")
    own("--clip", metavar="NAME", help="like: a clip's key or path, or a segment's name")
    own("--file", type=Path, metavar="PATH", help="like, novelty: a file of motion; novelty: also a folder of them")
    own("--count", type=positive, metavar="N", help="like: how many (default 10)")
    add("--licence", metavar="NAME", help="only clips under this licence, named in full")
    add("--source", metavar="NAME", help="only clips of this source")
    add("--hme", metavar="ID", help="by which embedder (default: the corpus's default)")
    add("--cache", type=Path, metavar="DIR", help="where copies of what lies on object storage are kept")
    add_output_options(parser)
    add("--json", action="store_true", help="print line, notes and tables as JSON")


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Where a table goes: what `write_table` reads."""
    parser.add_argument("--rows", type=int, default=20, metavar="N", help="most rows that are printed (default 20)")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the whole table as CSV")
    parser.add_argument("--parquet", type=Path, metavar="FILE", help="write the whole table as Parquet")


def run(options: argparse.Namespace) -> int:
    """Answer a question about a corpus: in one line, and with the table behind it."""
    from pipelines.ask import ask

    if options.question is None:
        _list()
        return 0
    given = {name: getattr(options, name) for name in OWN if getattr(options, name) is not None}
    answer = ask(
        options.out, options.question, licence=options.licence, source=options.source, hme=options.hme,
        cache=options.cache, **given,
    )  # fmt: skip
    if options.json:
        print(json.dumps(answer.to_dict(), ensure_ascii=False))
    else:
        print(printable(answer.line))
        for title, table in {"": answer.table, **answer.more}.items():
            print(f"\n{title}".rstrip())
            show(table, options.rows)
        for note in answer.notes:
            print(f"({printable(note)})")
    write_table(answer.table, options)
    return 0


def show(table, rows: int) -> None:
    """Print a table's first rows, and how many more there are."""
    from pipelines.console import print_table

    numeric = [name for name, kind in table.schema.items() if kind.is_numeric()]
    cells = [[_cell(value) for value in row] for row in table.head(max(rows, 0)).rows()]
    if table.width > MOST_COLUMNS:
        for number, row in enumerate(cells):
            print(f"{'' if number == 0 else chr(10)}row {number}")
            print_table(["column", "value"], [list(pair) for pair in zip(table.columns, row, strict=True)])
    else:
        print_table(table.columns, cells, numeric=numeric)
    if len(table) > rows:
        print(f"… and {len(table) - max(rows, 0):,} more rows (--rows, --csv, --parquet)")


def write_table(table, options: argparse.Namespace) -> None:
    """To the files that are named."""
    import sys

    from corpus.durable import replace_file

    for path, write in ((options.csv, table.write_csv), (options.parquet, table.write_parquet)):
        if path is not None:
            replace_file(path, write)
            print(f"wrote {path}", file=sys.stderr)


def printable(text: str) -> str:
    """A label or a file's name may hold what would command the terminal."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "�" for letter in text)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else printable(str(value))


def _list() -> None:
    from pipelines.ask import QUESTIONS
    from pipelines.console import print_table

    rows = [[name, one.meaning, " ".join(f"--{option}" for option in one.options)] for name, one in QUESTIONS.items()]
    print_table(["question", "what it asks", "options"], rows)
    print("\nloom ask CORPUS QUESTION [options]; --licence and --source narrow any of them")
