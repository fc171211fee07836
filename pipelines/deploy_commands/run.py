"""`loom deploy run`."""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import fields
from pathlib import Path

CHECKLIST = """The robot itself has never been at hand when this was written. Before it moves:
  1. it hangs on a gantry, its feet just off the floor; nobody stands within two metres; somebody holds the e-stop;
  2. it is in debug mode (Unitree's own controller released), so that only this program commands its motors;
  3. a run of this bundle and this motion against `--robot sim` has ended well, and its picture was looked at;
  4. `loom deploy listen` has shown each joint and the IMU to be what they should, moved by hand;
  5. the first run only stands (--follow stand --hold 60, ended by ctrl-C), the second follows `stand`, the third a slow motion.
docs/deploy.md has the whole list."""


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("bundle", type=Path, metavar="BUNDLE", help="what `loom deploy export` wrote")
    add(
        "--robot",
        choices=("sim", "g1"),
        default="sim",
        help="a simulator (`loom deploy sim`), or the robot (default sim)",
    )
    about = "stand (default); CORPUS#SEGMENT; a motion file; live or live:PORT (`loom stream`); plan:INDEX (`loom deploy styles`)"
    add("--follow", default="stand", metavar="MOTION", help=about)
    add("--commands", metavar="FROM", help="of plan: keyboard, remote, a gamepad's device, or a script (.csv, .jsonl)")
    add("--source", metavar="NAME", help="what reads the motion file (default: whoever can)")
    about = "hold the stand so long before the motion begins; ctrl-C ends it there too (default 3)"
    add("--hold", type=float, default=3.0, metavar="S", help=about)
    add("--seconds", type=float, metavar="S", help="follow for so long at most (default: to its end, or ctrl-C)")
    add("--precision", choices=("float32", "int8"), default="float32", help="of the policy (default float32)")
    add("--domain", type=int, default=0, metavar="N", help="of DDS (default 0, as the robot's)")
    add("--interface", metavar="NAME", help="network of the robot (default for sim: lo)")
    about = "what the robot has to call itself (default 5, the G1 of 29 joints that our gains are for)"
    add("--machine", type=int, default=5, metavar="N", help=about)
    add("--with-sim", action="store_true", help="start the simulator too, and end it afterwards")
    add("--truth", type=Path, metavar="FILE", help="with --with-sim: where the robot really was, as npz")
    add("--log", type=Path, metavar="FILE.g1run", help="keep the run (default RUN-<time>.g1run; - keeps none)")
    add("--licence", default="", help="of the recording")
    add("--subject", default="", help="of the recording: which robot, who steers")
    add("--confirmed", action="store_true", help="g1: the checklist has been gone through")


def run(options: argparse.Namespace) -> int:
    """Stand up, follow a motion, stand, and damp; ctrl-C brings the robot to a stand and down, a second one damps it at once. A
    process beside it damps the robot should this one die."""
    from corpus.errors import MotionloomError
    from pipelines.deploy_run import Wanted, deploy_run

    if options.robot == "g1":
        if options.interface is None:
            raise MotionloomError("--robot g1 needs --interface, the network that the robot is on.")
        if options.with_sim:
            raise MotionloomError("--with-sim is for --robot sim.")
        if not options.confirmed and not _confirmed():
            raise MotionloomError("Not begun.")
    if not 0 <= options.hold < math.inf:
        raise MotionloomError(f"--hold should be 0 or more; got {options.hold:g}.")
    asked = vars(options) | {"interface": options.interface or "lo", "hold_s": options.hold}
    wanted = Wanted(**{field.name: asked[field.name] for field in fields(Wanted)})
    outcome = deploy_run(wanted, tell=lambda line: print(line, flush=True))
    return 1 if outcome.fault else 0


def _confirmed() -> bool:
    print(CHECKLIST)
    if not sys.stdin.isatty():
        return False
    return input('Type "go" to begin: ').strip() == "go"
