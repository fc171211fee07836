"""`loom stream`'s loop: datagrams of a person in at one port, the robot's postures out to another."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from corpus.sources.synthetic_moves import human_motion
from deploy.datagrams import open_port, receive
from deploy.packets import encode_qpos
from pipelines.streaming.human_packets import MOST_BYTES
from pipelines.streaming.retargeter import LiveRetargeter, RetargeterOptions
from retarget.stream import Stream, StreamOptions

LAST_COPIES = 3
MOST_DATAGRAMS = 64


@dataclass(frozen=True)
class Status:
    """What happened since the status before; lost and refused since the start."""

    seconds: float
    frames: int
    packets: int
    retarget_ms: tuple[float, ...]
    """From a frame's arrival in the kernel until all that it leads to is sent, for each frame that led to something [ms]."""
    lost: int
    refused: dict[str, int]

    def line(self) -> str:
        ranks = np.percentile(self.retarget_ms, [50, 99]) if self.retarget_ms else ()
        times = " ".join(f"{name} {value:.1f}" for name, value in zip(("p50", "p99"), ranks, strict=False)) or "–"
        refused = ", ".join(f"{name} {count}" for name, count in sorted(self.refused.items())) or "none"
        rates = f"in {self.frames / self.seconds:5.1f} fps, out {self.packets / self.seconds:5.1f} fps"
        return f"{rates}, retarget ms {times}, lost {self.lost}, refused {refused}"


def warm(options: StreamOptions) -> None:
    """Compile or load what the first frame would else wait for."""
    human = human_motion("walk", seconds=0.5, fps=50.0)
    stream = Stream(human.skeleton, human.fps, options=options)
    for position, rotation in zip(human.position, human.rotation, strict=True):
        stream.push(position, rotation)


def serve(
    listen: int,
    to: tuple[str, int],
    options: RetargeterOptions = RetargeterOptions(),
    *,
    bind: str = "127.0.0.1",
    seconds: float | None = None,
    tell: Callable[[Status], None] = lambda status: None,
    ready: Callable[[int], None] = lambda port: None,
) -> None:
    """Retarget what comes to port `listen` and send it on, for so long or until interrupted; `tell` is called every second,
    `ready` with the port once frames may come."""
    warm(options.stream)
    with open_port(listen, bind) as inward, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outward:
        loop = _Loop(LiveRetargeter(options), inward, outward, to)
        ready(inward.getsockname()[1])
        began_s = told_s = time.monotonic()
        while seconds is None or time.monotonic() - began_s < seconds:
            select.select([inward], [], [], 0.05)
            loop.turn()
            if (passed_s := time.monotonic() - told_s) >= 1.0:
                tell(loop.status(passed_s))
                told_s = time.monotonic()


class _Loop:
    def __init__(self, retargeter: LiveRetargeter, inward: socket.socket, outward: socket.socket, to: tuple[str, int]):
        self.retargeter, self.inward, self.outward, self.to = retargeter, inward, outward, to
        self.packets = self.frames = 0
        self.took_ms: list[float] = []

    def turn(self) -> None:
        """Everything that has come."""
        for data, arrived_s in receive(self.inward, MOST_DATAGRAMS, size=MOST_BYTES + 1):
            found = self.retargeter.hear(data, arrived_s)
            for packet in found:
                out = encode_qpos(replace(packet, sent_s=time.monotonic()))
                for _ in range(LAST_COPIES if packet.last else 1):
                    self._send(out)
            if found:
                self.packets += len(found)
                self.took_ms.append((time.monotonic() - arrived_s) * 1e3)

    def status(self, seconds: float) -> Status:
        """Since it was asked last."""
        own = self.retargeter
        status = Status(
            seconds, own.taken - self.frames, self.packets, tuple(self.took_ms), own.lost, dict(own.refused)
        )
        self.frames, self.packets, self.took_ms = own.taken, 0, []
        return status

    def _send(self, data: bytes) -> None:
        try:
            self.outward.sendto(data, self.to)
        except OSError:  # nobody listens, or the network is down: the next one may get through
            self.retargeter.refused["not_sent"] += 1
