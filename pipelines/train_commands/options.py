"""Options that several commands of training share, and what they mean."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from corpus.errors import MotionloomError
from pipelines.options import add_corpus, positive, seed

PRESETS = ("none", "light", "training")
"""The keys of `trainer.randomise.PRESETS`, repeated here because reading them there takes a second."""
SIZES = ("nano", "S", "B", "L")
"""Likewise of `trainer.gpt.SIZES`."""
SIMULATORS = ("mujoco", "warp")
"""Likewise `pipelines.training.SIMULATORS`."""


def add_run_options(parser: argparse.ArgumentParser, *, robots: int) -> None:
    """A corpus, a folder, and how robots are simulated."""
    add_corpus(parser)
    add = parser.add_argument
    add("--run", dest="into", type=Path, required=True, metavar="DIR", help="folder of this run")
    add("--hme", metavar="ID", help="clusters of which embedder (default: the corpus's default)")
    add("--robots", type=positive, default=robots, metavar="N", help=f"simulated at a time (default {robots})")
    add(
        "--simulator", choices=SIMULATORS, default="mujoco", help="on the CPU, or mujoco_warp on a GPU (default mujoco)"
    )
    add("--threads", type=positive, default=1, metavar="N", help="of MuJoCo (default 1)")
    add("--seconds", type=float, default=10.0, metavar="S", help="longest episode (default 10)")
    add("--randomise", choices=PRESETS, default="training", help="robots, starts, sensors, pushes (default training)")
    add("--mirror", action="store_true", help="half of the motions left for right")
    add("--seed", type=seed, default=0, metavar="N")


def add_choice(parser: argparse.ArgumentParser) -> None:
    """Which segments are trained on."""
    about = "how often segments are drawn, as `loom balance` wrote it; experts' starts then do not follow failures"
    parser.add_argument("--split", metavar="NAME", help="only this part of `loom split`, as in train (default: all)")
    parser.add_argument("--plan", type=Path, metavar="FILE", help=about)


def add_student_options(parser: argparse.ArgumentParser) -> None:
    """Whom students learn from, and for how long."""
    add, about = parser.add_argument, "folders of experts, each with its clusters"
    add("--expert", type=Path, nargs="+", required=True, metavar="RUN", help=about)
    add("--rounds", type=positive, default=8, metavar="N", help="rollouts, each followed by training (default 8)")
    add("--steps", type=positive, default=150, metavar="N", help="gradient steps after each rollout (default 150)")
    add("--learning-rate", type=float, default=3e-4, metavar="X", help="at its highest (default 3e-4)")
    add("--device", default="cpu", metavar="NAME", help="where the student is trained (default cpu)")


def setup_of(options: argparse.Namespace) -> Any:
    """The `pipelines.training.Setup` that was asked for."""
    from pipelines.training import Setup

    names = ("robots", "simulator", "threads", "seconds", "randomise", "mirror", "seed")
    return Setup(**{name: getattr(options, name) for name in names})


def student_of(options: argparse.Namespace, **others: Any) -> Any:
    """The `trainer.student.StudentOptions` that were asked for."""
    from trainer.learner import Learning
    from trainer.student import StudentOptions

    learning = Learning(learning_rate=options.learning_rate)
    asked = {"rounds": options.rounds, "steps_per_round": options.steps, "device": options.device}
    return StudentOptions(learning=learning, **asked, **others)


def one_thread() -> None:
    """Small networks are slower on several threads, on a busy machine a hundred times; and runs are repeatable on one only."""
    try:
        import torch
    except ImportError as error:
        raise MotionloomError(f"Training and judging need torch ({error}): pip install 'motionloom[train]'.") from None
    torch.set_num_threads(1)
