"""`loom deploy picture`."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("run_file", type=Path, metavar="RUN.g1run", help="what a run left behind")
    add("out", type=Path, metavar="OUT", help="a file .gif or .webp (moving), .png (a strip), .svg (poses and curves)")
    about = "where the robot really was, as a simulator wrote it down (default: worked out from its legs)"
    add("--truth", type=Path, metavar="FILE.npz", help=about)
    add("--stretch", default="", metavar="NAME", help="as `loom deploy judge` calls it (default: the longest)")
    add("--seconds", type=float, default=20.0, metavar="S", help="of the run at most (default 20)")


def run(options: argparse.Namespace) -> int:
    """Show a run: the robot, and beside it what it was to do."""
    from corpus.errors import MotionloomError
    from pipelines.run_picture import PictureOptions, draw_run

    if not options.seconds > 0:
        raise MotionloomError(f"--seconds should be above 0; got {options.seconds:g}.")
    chosen = PictureOptions(seconds=options.seconds)
    out, how = draw_run(options.run_file, options.out, truth=options.truth, stretch=options.stretch, options=chosen)
    print(f"{out}: {how}")
    return 0
