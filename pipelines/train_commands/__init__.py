"""Commands that train trackers and judge them: a file each, with its options (`add_options`) and what it does (`run`)."""

from __future__ import annotations

import argparse

from pipelines.hme_commands import add_modules

COMMANDS: dict[str, str] = {
    "train": "an expert on some clusters, a student of experts, or both as a demo",
    "evaluate": "trackers on a corpus, judged by three named rules",
    "scaling": "how students get better with more data and larger networks",
}
"""Name and, in few words, purpose; each is a module of this package."""


def add_commands(known: argparse._SubParsersAction) -> None:
    add_modules(known, __name__, COMMANDS)
