"""`loom play`."""

from __future__ import annotations

import argparse
import contextlib
import socket
from functools import partial
from pathlib import Path

from pipelines.options import SOURCE_NAMES
from pipelines.stream_commands import address


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("file", type=Path, metavar="FILE", help="a recorded take that a source reads")
    add("--to", type=address, required=True, metavar="HOST:PORT", help="`loom stream`, or with --robot the controller")
    add("--robot", action="store_true", help="the file is a robot's motion: send its postures as they are")
    add("--source", choices=SOURCE_NAMES, metavar="NAME", help="what reads the file (default: whoever can)")
    add("--speed", type=_above_zero, default=1.0, metavar="X", help="times the speed it was recorded at (default 1)")
    about = "hold the first and the last frame for so long: who is to be followed stands still first (default 0)"
    add("--hold", type=_seconds, default=0.0, metavar="S", help=about)
    add("--loop", action="store_true", help="over and over, until ctrl-C")
    add("--drop", type=_share, default=0.0, metavar="P", help="of a bad network: share of packets lost (default 0)")
    add("--jitter-ms", type=float, default=0.0, metavar="MS", help="each up to so much late (default 0)")
    add("--duplicate", type=_share, default=0.0, metavar="P", help="share sent twice (default 0)")
    add("--seed", type=int, default=0, metavar="N", help="of the bad network's luck (default 0)")


def run(options: argparse.Namespace) -> int:
    """Send a recorded take over UDP in real time: it stands in for a VR system, a camera or a generator. A person's motion goes to
    `loom stream`, a robot's (--robot) straight to the controller."""
    import secrets
    import time
    from dataclasses import replace

    from corpus.motion import RobotMotion
    from pipelines.streaming import player

    network = player.BadNetwork(options.drop, options.jitter_ms / 1e3, options.duplicate, options.seed)
    if options.robot:
        motion = player.robot_take(options.file, source=options.source)
        motion = RobotMotion(player.held(motion.qpos, motion.fps * options.speed, options.hold), motion.fps)
        count, schedule = motion.frame_count, partial(player.robot_schedule, motion)
    else:
        take = player.human_take(options.file, source=options.source)
        take = replace(take, frames=player.held(take.frames, take.hello.fps * options.speed, options.hold))
        count, schedule = len(take.frames), partial(player.human_schedule, take)
    pause_s = 0.0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outward:
        while True:
            # Each round is a stream of its own: nothing leads from the take's end to its beginning.
            start_s = time.monotonic() + player.start_after(count) + pause_s
            sent = schedule(start_s, secrets.randbits(32), network, speed=options.speed, ends=not options.loop)
            print(f"{count} frames in {len(sent)} packets", flush=True)
            player.send_on_time(sent, partial(_send, outward, options.to))
            if not options.loop:
                return 0
            pause_s = player.PAUSE_S


def _send(outward: socket.socket, to: tuple[str, int], data: bytes) -> None:
    with contextlib.suppress(ConnectionError):  # nobody listens yet
        outward.sendto(data, to)


def _above_zero(text: str) -> float:
    value = float(text)
    if not 0.01 <= value <= 100:
        raise argparse.ArgumentTypeError("should be 0.01 to 100")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 60:
        raise argparse.ArgumentTypeError("should be 0 to 60")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError("should be 0 to 1")
    return value
