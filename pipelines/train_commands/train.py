"""`loom train expert | student | demo`."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipelines.options import positive
from pipelines.train_commands.options import (
    SIZES,
    add_choice,
    add_run_options,
    add_student_options,
    one_thread,
    setup_of,
    student_of,
)

ACTIONS = ("residual", "absolute")
"""`deploy.contract.ACTIONS`, repeated here because reading them there takes a second."""


def add_options(parser: argparse.ArgumentParser) -> None:
    known = parser.add_subparsers(required=True, metavar="what")
    for function, text, add in (
        (expert, "an expert by PPO, for some clusters", _add_expert),
        (student, "a causal Transformer by DAgger, from experts", _add_student),
        (demo, "two or three experts and their student, on made-up motion", _add_demo),
    ):
        one = known.add_parser(function.__name__, help=text, description=function.__doc__)
        one.set_defaults(run=function)
        add(one)


def run(options: argparse.Namespace) -> int:
    """Train trackers of a corpus's motions. What was stopped, by ctrl-C or otherwise, goes on with the same command."""
    raise AssertionError("argparse asks for one of the commands below")


def expert(options: argparse.Namespace) -> int:
    """Train an expert by PPO on some clusters of a corpus (all of it, where none is named). What was stopped goes on with the same
    command, exactly as if it had not been."""
    from corpus.catalog import Corpus
    from deploy.contract import Contract
    from pipelines.training import train_cluster_expert
    from trainer.expert import ExpertOptions

    one_thread()
    train_cluster_expert(
        Corpus.open(options.out, cache=options.cache),
        options.into,
        clusters=options.cluster,
        hme_id=options.hme,
        split=options.split,
        plan=options.plan,
        setup=setup_of(options),
        contract=Contract(action=options.action),
        options=ExpertOptions(steps=options.steps, enough=options.enough, seed=options.seed),
    )
    return 0


def student(options: argparse.Namespace) -> int:
    """Train a student by DAgger: it acts more and more by itself, and every state it meets is labelled by the expert of the motion's
    cluster. Start it by `torchrun` for several processes."""
    from corpus.catalog import Corpus
    from pipelines.training import train_corpus_student
    from trainer.gpt import SIZES as sizes

    one_thread()
    train_corpus_student(
        Corpus.open(options.out, cache=options.cache),
        options.into,
        experts=options.expert,
        hme_id=options.hme,
        split=options.split,
        plan=options.plan,
        setup=setup_of(options),
        options=student_of(options, shape=sizes[options.size], seed=options.seed),
    )
    return 0


def demo(options: argparse.Namespace) -> int:
    """Make motion, cut it into clusters, train an expert on each and a student of them, and let the referee judge: experts, student,
    wrong experts and the reference replayed. Takes about half an hour on two cores."""
    from pipelines.train_demo import main

    return main(options.into)


def _add_expert(parser: argparse.ArgumentParser) -> None:
    add_run_options(parser, robots=512)
    add_choice(parser)
    add, steps = parser.add_argument, "control periods of all robots (default 2,000,000)"
    add("--cluster", type=int, nargs="+", default=[], metavar="N", help="clusters to train on (default: all segments)")
    add("--action", choices=ACTIONS, default="residual", help="added to the reference or the stance (default residual)")
    add("--steps", type=positive, default=2_000_000, metavar="N", help=steps)
    enough = "stop where so many of the last episodes ended well (default 1: never)"
    add("--enough", type=float, default=1.0, metavar="SHARE", help=enough)


def _add_student(parser: argparse.ArgumentParser) -> None:
    add_run_options(parser, robots=64)
    add_choice(parser)
    add_student_options(parser)
    size = "of the Transformer: 1.2, 5.7, 22 or 80 M parameters (default nano)"
    parser.add_argument("--size", choices=SIZES, default="nano", help=size)


def _add_demo(parser: argparse.ArgumentParser) -> None:
    about = "where to (default train-demo)"
    parser.add_argument("--out", dest="into", type=Path, default=Path("train-demo"), metavar="DIR", help=about)
