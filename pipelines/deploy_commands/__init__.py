"""`loom deploy …`: a file for each command, with its options (`add_options`) and what it does (`run`)."""

from __future__ import annotations

import argparse

from pipelines.hme_commands import add_modules

COMMANDS: dict[str, str] = {
    "export": "a policy bundle of a student: what the robot runs, without torch",
    "sim": "a G1 in MuJoCo that speaks the robot's own protocol",
    "listen": "what the robot says of itself, without commanding anything",
    "run": "let a policy follow a motion on the simulator or the robot",
    "styles": "what the planner can be asked for; with a corpus, build its index",
    "judge": "how well a run followed its reference, and how punctual it was",
    "picture": "a run as a moving picture, a strip or curves",
}
"""Name and, in few words, purpose; each is a module of this package."""


def add_commands(known: argparse._SubParsersAction) -> None:
    deploy = known.add_parser("deploy", help="from a trained student to the robot's motors", description=__doc__)
    add_modules(deploy.add_subparsers(required=True, metavar="what"), __name__, COMMANDS)
