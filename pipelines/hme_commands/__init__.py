"""Commands about what is in a corpus: a file each, with its options (`add_options`) and what it does (`run`)."""

from __future__ import annotations

import argparse
import importlib

COMMANDS: dict[str, str] = {
    "embed": "what every segment of a corpus is like, in numbers",
    "learn": "train an embedder on a corpus",
    "cluster": "groups of segments that are alike",
    "dedup": "which segments are copies of which",
    "split": "parts for training, validation and test that tell nothing of each other",
    "diversity": "how varied a corpus is, and what it has that another lacks",
    "select": "the segments that say most, to a budget",
    "balance": "a plan of how often segments are drawn",
    "ask": "questions about a corpus, each answered in a line",
    "sql": "a corpus's tables in SQL",
}
"""Name and, in few words, purpose; each is a module of this package."""


def add_commands(known: argparse._SubParsersAction) -> None:
    add_modules(known, __name__, COMMANDS)


def add_modules(known: argparse._SubParsersAction, package: str, commands: dict[str, str]) -> None:
    """A command for each of these modules of a package."""
    for name, text in commands.items():
        module = importlib.import_module(f"{package}.{name}")
        parser = known.add_parser(name, help=text, description=module.run.__doc__)
        parser.set_defaults(run=module.run)
        module.add_options(parser)
