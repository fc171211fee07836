"""Broken and hostile bytes for whoever reads the robot's messages: nothing may crash, and nothing but numbers may come through.

    python -m benchmarks.deploy_fuzz [--count N] [--seed N]

Of each kind of damage in `DAMAGES` as many, half to states, half to commands. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np

from deploy.messages import JOINTS, LowCmd, LowState
from deploy.wire import (
    COMMAND,
    STATE,
    BadMessage,
    decode_command,
    decode_state,
    encode_command,
    encode_state,
    sealed,
)

WORDS = np.array(
    [0x7FC00000, 0x7F800001, 0xFFBFFFFF, 0x7F800000, 0xFF800000, 0x7F7FFFFF, 0x00000001, 0x80000000, 0xFFFFFFFF], "<u4"
)
"""NaNs, quiet and signalling, infinities, the largest float, the smallest, −0, the largest integer."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_200_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    start_s = time.monotonic()
    figures = fuzz_wire(options.count, options.seed)
    for name, count in figures.items():
        print(f"{name:>12} {count:10d}")
    print(json.dumps(figures | {"seconds": round(time.monotonic() - start_s, 1)}))


def fuzz_wire(count: int, seed: int) -> dict[str, int]:
    """How many messages were tried, how many of them broken, accepted and refused, by reason; raises where one breaks the promise."""
    outcomes: Counter[str] = Counter(tried=count, fuzz_packets=count - count // len(DAMAGES), accepted=0)
    for data, is_state in damaged(count, seed):
        try:
            message = decode_state(data) if is_state else decode_command(data)
        except BadMessage as error:
            outcomes[error.reason] += 1
        else:
            check(message)
            outcomes["accepted"] += 1
    return dict(outcomes)


def check(message: LowCmd | LowState) -> None:
    """All that a decoder promises of what it gives; raises `AssertionError`."""
    numbers = [value for value in vars(message).values() if isinstance(value, np.ndarray)]
    assert np.isfinite(np.concatenate(numbers)).all()
    assert 0 <= message.mode_machine < 256
    if isinstance(message, LowState):
        assert abs(np.linalg.norm(message.root_rotation) - 1) < 1e-9
        assert len(message.remote) == 40
        assert 0 <= message.tick < 2**32


def damaged(count: int, seed: int) -> Iterator[tuple[bytes, bool]]:
    """So many messages, and of each whether it pretends to be a state."""
    rng = np.random.default_rng(seed)
    whole = {False: _command(rng), True: _state(rng)}
    for i in range(count):
        is_state = i % 2 == 0
        yield DAMAGES[i // 2 % len(DAMAGES)](rng, whole[is_state]), is_state


def _noise(rng: np.random.Generator, whole: bytes) -> bytes:
    return rng.bytes(int(rng.integers(0, 3000)))


def _noise_of_its_length(rng: np.random.Generator, whole: bytes) -> bytes:
    return rng.bytes(len(whole))


def _cut(rng: np.random.Generator, whole: bytes) -> bytes:
    return whole[: int(rng.integers(len(whole)))]


def _longer(rng: np.random.Generator, whole: bytes) -> bytes:
    return whole + rng.bytes(int(rng.integers(1, 100)))


def _flipped(rng: np.random.Generator, whole: bytes) -> bytes:
    """One to a hundred bits."""
    data = bytearray(whole)
    for bit in rng.integers(8 * len(data), size=int(rng.integers(1, 100))).tolist():
        data[bit // 8] ^= 1 << bit % 8
    return bytes(data)


def _forged(rng: np.random.Generator, whole: bytes) -> bytes:
    """Words of it are others, under a right CRC: a sender that is wrong, not a wire."""
    dtype = STATE if len(whole) > COMMAND.itemsize else COMMAND
    message = _struct(whole, dtype)
    words = message.reshape(1).view("<u4")
    places = rng.integers(len(words), size=int(rng.integers(1, 4)))
    random = rng.integers(0, 2**32, len(places), dtype=np.uint32)
    words[places] = np.where(rng.random(len(places)) < 0.5, random, rng.choice(WORDS, len(places)))
    return sealed(message)


def unharmed(rng: np.random.Generator, whole: bytes) -> bytes:
    return whole


DAMAGES: tuple[Callable[[np.random.Generator, bytes], bytes], ...] = (
    _noise, _noise_of_its_length, _cut, _longer, _flipped, _forged, _forged, unharmed,
)  # fmt: skip


def _struct(whole: bytes, dtype: np.dtype) -> np.ndarray:
    """The C struct of the wire's bytes, to be written to."""
    first = 70 if dtype is STATE else 2
    data = whole[:first] + bytes(2) + whole[first : first + 2] + bytes(2) + whole[first + 2 :]
    return np.frombuffer(bytearray(data), dtype).reshape(())


def _command(rng: np.random.Generator) -> bytes:
    q, kp, kd, dq, tau = rng.random((5, JOINTS))
    return encode_command(LowCmd(q, kp, kd, 5, dq, tau))


def _state(rng: np.random.Generator) -> bytes:
    q, dq, tau, temperature = rng.random((4, JOINTS))
    turning, pull = rng.random((2, 3))
    up = np.array([1.0, 0, 0, 0])
    return encode_state(
        LowState(7, 5, q, dq, tau, up, turning, pull, temperature, np.zeros(JOINTS, int), rng.bytes(40))
    )


if __name__ == "__main__":
    main()
