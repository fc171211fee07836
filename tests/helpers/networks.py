"""Made-up networks: when which packets of a motion arrive."""

from __future__ import annotations

import numpy as np

from corpus.g1 import G1
from deploy.packets import QposPacket


def smooth_motion(times: np.ndarray, seed: int = 0) -> np.ndarray:
    """A wandering root and swinging joints as closed forms of time, so that any moment's truth is known; (T, 36)."""
    rng = np.random.default_rng(seed)
    hz, phase = rng.uniform(0.2, 1.5, 32), rng.uniform(0, 6, 32)
    wave = np.sin(2 * np.pi * hz * times[:, None] + phase)
    middle, half = (G1.lower + G1.upper) / 2, (G1.upper - G1.lower) / 2
    heading = 0.8 * times + 0.5 * wave[:, 0]
    qpos = np.zeros((len(times), 36))
    qpos[:, :3] = np.stack([0.7 * times + 0.05 * wave[:, 1], 0.1 * wave[:, 2], 0.75 + 0.03 * wave[:, 1]], 1)
    qpos[:, 3], qpos[:, 6] = np.cos(heading / 2), np.sin(heading / 2)
    qpos[:, 7:] = middle + np.minimum(0.5 * half, 0.4) * wave[:, 3:]
    return qpos


def packets(seconds: float, *, stream: int = 1, start_s: float = 100.0, fps: float = 50.0, first: int = 0, seed: int = 0,
            end: bool = False) -> list[QposPacket]:  # fmt: skip
    """`smooth_motion` as its sender sends it; sequence numbers may begin anywhere."""
    count = round(seconds * fps)
    times = start_s + np.arange(count) / fps
    qpos = smooth_motion(times - start_s, seed)
    return [
        QposPacket((first + k) % 2**32, t, t, t, qpos[k], stream, end and k == count - 1) for k, t in enumerate(times)
    ]


def deliver(
    sent: list[QposPacket], *, seed: int = 0, lost: float = 0.0, jitter_s: float = 0.0, doubled: float = 0.0,
    delay_s: float = 0.01, ahead_s: float = -50.0, rate: float = 1.0,
) -> list[tuple[float, QposPacket]]:  # fmt: skip
    """(arrival on our clock, packet) in order of arrival: our clock is `ahead_s` ahead and `rate` times as fast."""
    rng = np.random.default_rng(seed)
    found = []
    for packet in sent:
        for _ in range(1 + (rng.random() < doubled)):
            if rng.random() >= lost:
                at_s = sent[0].sent_s + (packet.sent_s - sent[0].sent_s) * rate + ahead_s
                found.append((at_s + delay_s + rng.uniform(0, jitter_s), packet))
    return sorted(found, key=lambda pair: pair[0])
