"""Commands for live motion: a file each, with its options (`add_options`) and what it does (`run`)."""

from __future__ import annotations

import argparse
import socket

from pipelines.hme_commands import add_modules

COMMANDS: dict[str, str] = {
    "stream": "retarget live human motion from UDP, and send the robot's postures on",
    "play": "send a recorded take in real time, as if it were live",
}
"""Name and, in few words, purpose; each is a module of this package."""


def add_commands(known: argparse._SubParsersAction) -> None:
    add_modules(known, __name__, COMMANDS)


def address(text: str) -> tuple[str, int]:
    """HOST:PORT, as numbers: asked for once, not with every packet."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT, as in 127.0.0.1:5005")
    try:
        return socket.gethostbyname(host), int(port)
    except OSError:
        raise argparse.ArgumentTypeError(f"no machine {host!r} is known here") from None


def port(text: str) -> int:
    if not text.isdecimal() or not int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is no port, 0 to 65535")
    return int(text)
