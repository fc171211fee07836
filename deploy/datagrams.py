"""A UDP port to listen on, whose datagrams come with the time at which the kernel took them."""

from __future__ import annotations

import socket
import struct
import time

from corpus.errors import MotionloomError

_SO_TIMESTAMPNS = 35  # Linux; the socket module has no name for it
_TIMESPEC = struct.Struct("@qq")
_ROOM = socket.CMSG_SPACE(_TIMESPEC.size)


def open_port(port: int, bind: str) -> socket.socket:
    """Never waits; 0 takes a port that is free. `bind` is whose datagrams are heard: 127.0.0.1 this machine's, 0.0.0.0 all."""
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        opened.bind((bind, port))
    except (OSError, OverflowError) as error:
        opened.close()
        raise MotionloomError(f"Port {port} of {bind} cannot be heard: {error}.") from None
    opened.setblocking(False)
    return opened


def receive(opened: socket.socket, most: int, *, size: int = 2048) -> list[tuple[bytes, float]]:
    """What has come, and when [s] on the clock of `time.monotonic`; at most so many, so that a flood cannot hold anybody up."""
    found, behind_s = [], time.time() - time.monotonic()
    while len(found) < most:
        try:
            data, extra, _, _ = opened.recvmsg(size, _ROOM)
        except OSError:  # nothing more, or the network is down: no data either way
            break
        found.append((data, _arrival(extra, behind_s)))
    return found


def _arrival(extra: list[tuple[int, int, bytes]], behind_s: float) -> float:
    for level, kind, data in extra:
        if (level, kind, len(data)) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS, _TIMESPEC.size):
            seconds, nanoseconds = _TIMESPEC.unpack(data)
            return seconds + nanoseconds * 1e-9 - behind_s
    return time.monotonic()
