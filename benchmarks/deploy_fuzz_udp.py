"""Random and mutated datagrams against everything that listens on UDP: nothing may crash, nothing unsafe may come out.

Half of the mutated ones get a checksum that fits, so that what lies behind it is tried too.

    python -m benchmarks.deploy_fuzz_udp --count 1000000
"""

from __future__ import annotations

import argparse
import json
import random
import struct
import zlib
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from corpus.g1 import G1
from deploy.live import Playout
from deploy.packets import BadPacket, QposPacket, decode, encode_qpos
from deploy.reference import Preview
from pipelines.streaming.human_packets import HumanFrame, HumanHello, decode_human, encode_frame, encode_hello
from pipelines.streaming.retargeter import LiveRetargeter

HUMAN_SHARE = 0.25
LOOK_EVERY = 25
"""Packets between two looks at the reference."""
RETARGET_EVERY = 50
"""Of so many human datagrams one goes through the whole retargeter."""


@dataclass
class Found:
    """What came of it."""

    outcomes: Counter[str] = field(default_factory=Counter)
    broken: int = 0
    crashes: int = 0
    unsafe: int = 0


def fuzz_packets(count: int, seed: int) -> dict[str, float]:
    """So many datagrams, whole and broken, through decoders, jitter buffer, play-out and retargeter: how many of them were broken
    (`fuzz_packets`), crashed, came out unsafe, were taken."""
    rng, found = random.Random(seed), Found()
    robot, human = _Robot(found), _Human(found)
    now_s, sent = 100.0, 0
    while sent < count:
        batch = min(5000, count - sent)
        for data, is_human, broken in _datagrams(rng, batch, now_s):
            now_s += 0.001
            found.broken += broken
            try:
                (human if is_human else robot).take(data, now_s)
            except Exception as error:  # whatever it is: that is what is looked for
                found.crashes += 1
                found.outcomes[f"crash {type(error).__name__}"] += 1
        sent += batch
    taken = found.outcomes["taken"] + found.outcomes["decoded"]
    return {
        "tried": float(count), "fuzz_packets": float(found.broken), "fuzz_crashes": float(found.crashes), "fuzz_unsafe": float(found.unsafe),
        "fuzz_taken": float(taken), "fuzz_refused": float(count - taken - found.crashes),
    }  # fmt: skip


class _Robot:
    """The controller's end; a fresh one now and then, so that its first packets are tried too."""

    def __init__(self, found: Found):
        self.found, self.count = found, 0

    def take(self, data: bytes, now_s: float) -> None:
        if self.count % 2000 == 0:
            self.playout = Playout((0, 1, 4, 10))
        self.count += 1
        try:
            packet = decode(data)
        except BadPacket as bad:
            self.found.outcomes[bad.reason] += 1
        else:
            self.found.unsafe += not bool(np.isfinite(packet.qpos).all())
            self.found.outcomes[self.playout.buffer.push(packet, now_s)] += 1
        if self.count % LOOK_EVERY == 0:
            self.found.unsafe += not is_safe(self.playout.look(now_s))


class _Human:
    """The retargeter's end."""

    def __init__(self, found: Found):
        self.found, self.count, self.retargeter = found, 0, LiveRetargeter(seed=0)

    def take(self, data: bytes, now_s: float) -> None:
        self.count += 1
        try:
            decode_human(data)
            self.found.outcomes["decoded"] += 1
        except BadPacket as bad:
            self.found.outcomes[bad.reason] += 1
        if self.count % RETARGET_EVERY == 0:
            for packet in self.retargeter.hear(data, now_s):
                self.found.unsafe += not _is_posture(packet.qpos[None])


def is_safe(preview: Preview | None) -> bool:
    """Numbers, rotations, and joints within the robot's limits."""
    return preview is None or (_is_posture(preview.qpos) and bool(np.isfinite(preview.velocity).all()))


def _is_posture(qpos: np.ndarray) -> bool:
    inside = (qpos[:, 7:] >= G1.lower - 1e-6) & (qpos[:, 7:] <= G1.upper + 1e-6)
    return bool(np.isfinite(qpos).all() and inside.all() and np.allclose(np.linalg.norm(qpos[:, 3:7], axis=1), 1))


# --- what is sent


def _datagrams(rng: random.Random, count: int, now_s: float):
    """Datagrams, with whether each is meant for the retargeter, and whether it is broken."""
    for k in range(count):
        is_human = rng.random() < HUMAN_SHARE
        at_s = now_s + k * 0.001 + rng.choice((0.0, 0.0, 0.3, -0.2))
        kind = rng.random()
        if kind < 0.2:
            yield rng.randbytes(rng.randrange(400)), is_human, True
            continue
        data = _human(rng, k, at_s) if is_human else _posture(rng, k, at_s)
        whole = kind < 0.4
        yield (data if whole else _mutated(rng, data)), is_human, not whole


def _posture(rng: random.Random, k: int, at_s: float) -> bytes:
    qpos = np.zeros(36)
    qpos[3] = 1.0
    qpos[7:] = rng.choice(_NUMBERS)[:29]
    stream = rng.choice((1, 1, 1, 1, 2))
    return encode_qpos(QposPacket(k, at_s, at_s, at_s, qpos, stream, rng.random() < 0.01))


def _human(rng: random.Random, k: int, at_s: float) -> bytes:
    stream = rng.choice((1, 1, 1, 2))
    if rng.random() < 0.3:
        return encode_hello(HumanHello("smpl", 50.0) if rng.random() < 0.5 else _BVH, stream, at_s)
    return encode_frame(HumanFrame(k, stream, at_s, rng.choice(_NUMBERS), rng.random() < 0.01), at_s)


_BVH = HumanHello(
    "bvh", 30.0, "y", hierarchy="HIERARCHY\nROOT Hips\n{\nOFFSET 0 0 0\nCHANNELS 3 Xposition Yposition Zposition\n}\n"
)
_NUMBERS = list(np.random.default_rng(0).normal(size=(64, 69)))
_EXTREMES = [
    *(struct.pack("<f", x) for x in (np.nan, np.inf, -np.inf, 1e30, 1e-40, 12.5, -12.6, 999.0, 2e3)),
    *(struct.pack("<d", x) for x in (np.nan, np.inf, 1e300, 1e9, -1e9, 1e-320)),
    *(struct.pack("<I", x) for x in (0, 0xFFFFFFFF, 0x80000000, 0x7FFFFFFF)),
]


def _mutated(rng: random.Random, data: bytes) -> bytes:
    """Bits flipped, numbers made extreme, ends cut off or added; every second time with a checksum that fits."""
    made = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        way, place = rng.randrange(4), rng.randrange(max(len(made), 1))
        if way == 0 and made:
            made[place] ^= 1 << rng.randrange(8)
        elif way == 1:
            extreme = rng.choice(_EXTREMES)
            place -= place % 4
            made[place : place + len(extreme)] = extreme
        elif way == 2 and rng.random() < 0.3:
            del made[place:]
        elif way == 3 and rng.random() < 0.3:
            made += rng.randbytes(rng.randrange(1, 40))
    if len(made) > 4 and rng.random() < 0.5:
        made[-4:] = struct.pack("<I", zlib.crc32(made[:-4]))
    return bytes(made)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    figures = fuzz_packets(options.count, options.seed)
    for name, value in figures.items():
        print(f"{name:15} {value:12,.0f}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
