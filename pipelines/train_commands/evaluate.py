"""`loom evaluate`."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipelines.options import add_corpus, positive, seed
from pipelines.train_commands.options import PRESETS, one_thread


def add_options(parser: argparse.ArgumentParser) -> None:
    add_corpus(parser)
    add = parser.add_argument
    add(
        "--policy",
        nargs="+",
        default=["pd"],
        metavar="P",
        help="pd (the reference replayed), folders of runs, JSON files that describe ONNX trackers (default pd)",
    )
    add("--cluster", type=int, nargs="+", default=[], metavar="N", help="only segments of these clusters")
    add("--split", metavar="NAME", help="only this part of `loom split`, as in test")
    add("--limit", type=positive, metavar="N", help="only so many segments, spread evenly over the corpus")
    add("--starts", type=positive, metavar="N", help="random starts per segment (default: one, at its first frame)")
    add("--seconds", type=float, metavar="S", help="longest rollout (default: to the segment's end)")
    add("--randomise", choices=PRESETS, default="none", help="robots, starts, sensors and pushes (default none)")
    add("--feet", choices=("corners", "capsules"), default="corners", help="what touches the ground (default corners)")
    add(
        "--threads", type=positive, default=1, metavar="N", help="of MuJoCo; outcomes do not depend on them (default 1)"
    )
    about = "of starts and noise; another than training had (default 1)"
    add("--seed", type=seed, default=1, metavar="N", help=about)
    add("--hme", metavar="ID", help="clusters of which embedder (default: the corpus's default, if there is one)")
    add("--json", type=Path, metavar="FILE", help="all figures and outcomes in a file")


def run(options: argparse.Namespace) -> int:
    """Let trackers follow a corpus's segments in MuJoCo on the CPU, and tell how many they follow to the end under each of three
    rules, how near they stay, and how sure that is. The same command gives the same figures, bit for bit."""
    from corpus.catalog import Corpus
    from deploy.physics import Physics
    from pipelines.evaluate import Chosen, evaluate_corpus
    from trainer.evaluate import Trial
    from trainer.randomise import PRESETS as presets
    from trainer.scoreboard import as_text

    one_thread()
    trial = Trial(
        starts=options.starts,
        seconds=options.seconds,
        randomisation=presets[options.randomise],
        physics=Physics(feet=options.feet),
        seed=options.seed,
        threads=options.threads,
    )
    chosen = Chosen(tuple(options.cluster), options.split, options.limit, options.hme)
    corpus = Corpus.open(options.out, cache=options.cache)
    scores = evaluate_corpus(corpus, options.policy, trial, chosen, options.json)
    print(as_text(scores))
    return 0
