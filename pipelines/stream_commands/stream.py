"""`loom stream`."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipelines.stream_commands import address, port


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--listen", type=port, required=True, metavar="PORT", help="where human motion comes in; 0: any free one")
    add("--to", type=address, required=True, metavar="HOST:PORT", help="where the robot's postures go: the controller")
    add("--bind", default="127.0.0.1", metavar="ADDRESS", help="0.0.0.0 hears other machines too (default 127.0.0.1)")
    add("--seconds", type=float, metavar="S", help="stop after so long (default: on ctrl-C)")
    add("--floor", type=float, metavar="M", help="height of the floor [m] (default: found from where the feet stand)")
    add("--body-models", type=Path, metavar="DIR", help="your SMPL-X / SMPL-H files, for senders that state betas")
    add("--skeleton", type=Path, metavar="FILE", help="roles of a BVH's joints where their names do not tell them")


def run(options: argparse.Namespace) -> int:
    """Retarget human motion as it arrives over UDP (SMPL, SMPL-X or BVH frames; docs/deploy.md says how they look) and send the
    robot's postures on, 50 a second. Each second a line says how it goes. Anything broken is refused and counted."""
    from corpus.sources.bvh_skeleton import read_skeleton_file
    from pipelines.streaming.retargeter import RetargeterOptions
    from pipelines.streaming.serve import serve
    from retarget.stream import StreamOptions

    chosen = RetargeterOptions(
        body_models=options.body_models,
        skeleton=read_skeleton_file(options.skeleton) if options.skeleton else None,
        stream=StreamOptions(floor=options.floor),
    )
    try:
        serve(
            options.listen,
            options.to,
            chosen,
            bind=options.bind,
            seconds=options.seconds,
            tell=lambda status: print(status.line(), flush=True),
            ready=lambda number: print(f"listening on {options.bind}:{number}", flush=True),
        )
    except KeyboardInterrupt:
        print("stopped")
    return 0
