"""`loom train expert | student | demo`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pipelines.options import add_corpus, positive

PRESETS = ("none", "light", "training")
"""The keys of `trainer.randomise.PRESETS`, repeated here because reading them there takes a second."""
SIZES = ("nano", "S", "B", "L")
"""Likewise of `trainer.gpt.SIZES`."""


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
    from pipelines.training import train_cluster_expert
    from trainer.expert import ExpertOptions

    one_thread()
    train_cluster_expert(
        Corpus.open(options.out, cache=options.cache),
        options.into,
        clusters=options.cluster,
        hme_id=options.hme,
        plan=options.plan,
        setup=setup_of(options),
        options=ExpertOptions(steps=options.steps, enough=options.enough, seed=options.seed),
    )
    return 0


def student(options: argparse.Namespace) -> int:
    """Train a student by DAgger: it acts more and more by itself, and every state it meets is labelled by the expert of the motion's
    cluster. Start it by `torchrun` for several processes."""
    from corpus.catalog import Corpus
    from pipelines.training import train_corpus_student
    from trainer.gpt import SIZES as shapes
    from trainer.student import StudentOptions

    one_thread()
    train_corpus_student(
        Corpus.open(options.out, cache=options.cache),
        options.into,
        experts=options.expert,
        hme_id=options.hme,
        plan=options.plan,
        setup=setup_of(options),
        options=StudentOptions(
            shape=shapes[options.size],
            rounds=options.rounds,
            steps_per_round=options.steps,
            seed=options.seed,
            device=options.device,
        ),
    )
    return 0


def demo(options: argparse.Namespace) -> int:
    """Make motion, cut it into clusters, train an expert on each and a student of them, and let the referee judge: experts, student,
    wrong experts and the reference replayed. Takes about half an hour on two cores."""
    from pipelines.train_demo import main

    return main(options.into)


def _add_expert(parser: argparse.ArgumentParser) -> None:
    add_shared(parser, robots=192)
    add = parser.add_argument
    add("--cluster", type=int, nargs="+", default=[], metavar="N", help="clusters to train on (default: all segments)")
    add(
        "--steps",
        type=positive,
        default=2_000_000,
        metavar="N",
        help="control periods of all robots (default 2,000,000)",
    )
    add(
        "--enough",
        type=float,
        default=1.0,
        metavar="SHARE",
        help="stop where so many of the last episodes ended well (default 1: never)",
    )


def _add_student(parser: argparse.ArgumentParser) -> None:
    add_shared(parser, robots=64)
    add = parser.add_argument
    add(
        "--expert",
        type=Path,
        nargs="+",
        required=True,
        metavar="RUN",
        help="folders of experts, each with its clusters",
    )
    add(
        "--size",
        choices=SIZES,
        default="nano",
        help="of the Transformer: 1.2, 5.7, 22 or 80 M parameters (default nano)",
    )
    add("--rounds", type=positive, default=8, metavar="N", help="rollouts, each followed by training (default 8)")
    add("--steps", type=positive, default=150, metavar="N", help="gradient steps after each rollout (default 150)")
    add("--device", default="cpu", metavar="NAME", help="where the student is trained (default cpu)")


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", dest="into", type=Path, default=Path("train-demo"), metavar="DIR", help="where to (default train-demo)"
    )


def add_shared(parser: argparse.ArgumentParser, *, robots: int) -> None:
    add_corpus(parser)
    add = parser.add_argument
    add("--run", dest="into", type=Path, required=True, metavar="DIR", help="folder of this run")
    add("--plan", type=Path, metavar="FILE", help="how often segments are drawn, as `loom balance` wrote it")
    add("--hme", metavar="ID", help="clusters of which embedder (default: the corpus's default)")
    add("--robots", type=positive, default=robots, metavar="N", help=f"simulated at a time (default {robots})")
    add("--threads", type=positive, default=1, metavar="N", help="of MuJoCo (default 1)")
    add("--seconds", type=float, default=10.0, metavar="S", help="longest episode (default 10)")
    add(
        "--randomise", choices=PRESETS, default="training", help="robots, starts, sensors and pushes (default training)"
    )
    add("--mirror", action="store_true", help="half of the motions left for right")
    add("--seed", type=int, default=0, metavar="N")


def setup_of(options: argparse.Namespace) -> Any:
    from pipelines.training import Setup

    names = ("robots", "threads", "seconds", "randomise", "mirror", "seed")
    return Setup(**{name: getattr(options, name) for name in names})


def one_thread() -> None:
    """Small networks are slower on several threads, on a busy machine a hundred times; and runs are repeatable on one only."""
    import torch

    torch.set_num_threads(1)
