"""The G1's own wireless remote, as 40 bytes in `LowState.remote`: sticks and buttons.

Layout as Unitree documents it ("Remote control data" of its G1 developer guide): two bytes of head, 16 buttons as bits, then floats lx,
rx, ry, the trigger L2 and ly, little endian; sticks from −1 to 1, right and up positive; 16 bytes idle.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

BUTTONS = (
    "R1", "L1", "start", "select", "R2", "L2", "F1", "F2", "A", "B", "X", "Y", "up", "right", "down", "left",
)  # fmt: skip
"""Bit 0 first."""
SIZE = 40
_LAYOUT = struct.Struct("<2xH5f16x")


@dataclass(frozen=True)
class Remote:
    lx: float = 0.0
    """Left stick, right positive; from −1 to 1."""
    ly: float = 0.0
    """Left stick, up positive."""
    rx: float = 0.0
    ry: float = 0.0
    pressed: frozenset[str] = frozenset()
    """Out of `BUTTONS`."""


AT_REST = Remote()


def decode_remote(packet: bytes) -> Remote:
    """Sticks outside −1 to 1 are taken at their end; a packet of another size, or with sticks that are no finite numbers, is a remote
    at rest: nothing is pressed."""
    if len(packet) != SIZE:
        return AT_REST
    bits, lx, rx, ry, _, ly = _LAYOUT.unpack(packet)
    sticks = np.array([lx, ly, rx, ry])
    if not np.isfinite(sticks).all():
        return AT_REST
    lx, ly, rx, ry = np.clip(sticks, -1, 1).tolist()
    pressed = frozenset(name for place, name in enumerate(BUTTONS) if bits >> place & 1)
    return Remote(lx, ly, rx, ry, pressed)


def encode_remote(remote: Remote) -> bytes:
    """The packet of a remote in this state, for robots that are simulated."""
    bits = sum(1 << place for place, name in enumerate(BUTTONS) if name in remote.pressed)
    return _LAYOUT.pack(bits, remote.lx, remote.rx, remote.ry, 0.0, remote.ly)
