"""`loom deploy listen`."""

from __future__ import annotations

import argparse
import math


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--domain", type=int, default=0, metavar="N", help="of DDS (default 0, as the robot's)")
    add("--interface", default="lo", metavar="NAME", help="network of the robot (default lo, for the simulator)")
    add("--seconds", type=float, default=math.inf, metavar="S", help="end after so long (default: on ctrl-C)")


def run(options: argparse.Namespace) -> int:
    """Tell once a second what the robot says of itself, and send nothing: to see that joints, signs and sensors are as they should be
    before anything moves. First all joints; then how it leans, and whichever joints have been moved by hand."""
    from pipelines.listening import listen

    try:
        listen(options.domain, options.interface, options.seconds, lambda line: print(line, flush=True))
    except KeyboardInterrupt:
        print("stopped")
    return 0
