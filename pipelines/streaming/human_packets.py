"""What a capture system sends to `loom stream`: who moves (`HumanHello`, once a second), and every frame (`HumanFrame`).

Datagrams as `deploy.packets` frames them. A hello's payload is JSON, a frame's captured_s f64 and then its numbers as f32:
for SMPL and SMPL-X `trans` (3) [m] and a rotation vector for each joint (22 × 3) [rad], more joints being left aside; for BVH the
channels' values of a line of the file.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from deploy.packets import FRAME, HELLO, LAST, BadPacket, check_times, open_datagram, seal

KINDS = ("smpl", "smplx", "bvh")
"""The first with SMPL-H's body, as AMASS has it."""
AXES = {"smpl": ("z", "y"), "smplx": ("z", "y"), "bvh": ("", "y", "z")}
MOST_BYTES = 60_000
FPS_RANGE = (5.0, 1000.0)
LARGEST = 1e6
"""Numbers of a frame beyond are no motion's, in whatever unit."""
JOINTS = 22

_CAPTURED = struct.Struct("<d")


@dataclass(frozen=True)
class HumanHello:
    """Who will move and how it is told."""

    kind: str
    """One of `KINDS`."""
    fps: float
    """Frames in a second [Hz]."""
    up: str = "z"
    """Vertical axis of what is sent, "y" or "z"; of a BVH "" too: y, unless the first frame plainly stands along z."""
    gender: str = "neutral"
    betas: tuple[float, ...] = ()
    """SMPL's shape: of use where the receiver has body models."""
    bones: tuple[float, ...] = ()
    """Or the person's own bones: each of the 22 joints from its parent in SMPL's rest pose, 66 numbers [m]."""
    hierarchy: str = ""
    """Of a BVH: its text from HIERARCHY up to MOTION."""


@dataclass(frozen=True, eq=False)
class HumanFrame:
    """One frame of a person moving."""

    sequence: int
    stream: int
    """Drawn at random by each sender for each take."""
    captured_s: float
    """By the sender's clock [s]."""
    numbers: Float[np.ndarray, " N"]
    last: bool = False
    """The take ends here."""


def encode_hello(hello: HumanHello, stream: int, sent_s: float) -> bytes:
    data = seal(HELLO, json.dumps(asdict(hello)).encode(), 0, stream, sent_s)
    if len(data) > MOST_BYTES:
        raise BadPacket(
            "length", f"a hello has at most {MOST_BYTES} bytes, this {len(data)}: its HIERARCHY is too long"
        )
    return data


def encode_frame(frame: HumanFrame, sent_s: float) -> bytes:
    payload = _CAPTURED.pack(frame.captured_s) + np.asarray(frame.numbers, "<f4").tobytes()
    return seal(FRAME, payload, frame.sequence, frame.stream, sent_s, LAST if frame.last else 0)


def decode_human(data: bytes) -> tuple[int, HumanHello] | HumanFrame:
    """A frame, or a stream's number and its hello; raises `BadPacket`."""
    if len(data) > MOST_BYTES:
        raise BadPacket("length", f"a datagram has at most {MOST_BYTES} bytes, this {len(data)}")
    kind, flags, sequence, stream, _, payload = open_datagram(data)
    if kind == HELLO:
        return stream, _hello(bytes(payload))
    if kind != FRAME:
        raise BadPacket("kind", f"human motion is of kind {HELLO} or {FRAME}, this is {kind}")
    if len(payload) <= _CAPTURED.size or (len(payload) - _CAPTURED.size) % 4:
        raise BadPacket("length", f"a frame is a time and some float32, this has {len(payload)} bytes")
    (captured_s,) = _CAPTURED.unpack_from(payload)
    check_times(captured_s)
    numbers = np.frombuffer(payload, "<f4", -1, _CAPTURED.size)
    if not (np.abs(numbers) <= LARGEST).all():
        reason = "range" if np.isfinite(numbers).all() else "not_finite"
        raise BadPacket(reason, f"a frame's numbers lie within ±{LARGEST:.0e}")
    return HumanFrame(sequence, stream, captured_s, numbers.astype(np.float64), bool(flags & LAST))


def _hello(payload: bytes) -> HumanHello:
    try:
        given = json.loads(payload)
    except (ValueError, RecursionError):
        raise BadPacket("range", "a hello is JSON") from None
    names = set(HumanHello.__dataclass_fields__)
    if not isinstance(given, dict) or not {"kind", "fps"} <= set(given) <= names:
        raise BadPacket("range", f"a hello has some of {', '.join(sorted(names))}")
    betas, bones = (_numbers(given.get(name, [])) for name in ("betas", "bones"))
    words = {
        name: given.get(name, default) for name, default in (("up", "z"), ("gender", "neutral"), ("hierarchy", ""))
    }
    kind, fps = given["kind"], given["fps"]
    fits = (
        kind in KINDS if isinstance(kind, str) else False,
        _is_number(fps) and FPS_RANGE[0] <= fps <= FPS_RANGE[1],
        all(isinstance(word, str) for word in words.values()),
        len(betas) <= 300 and all(abs(beta) <= 100 for beta in betas),
        len(bones) in (0, 3 * JOINTS) and all(abs(bone) <= 2 for bone in bones),
    )
    if not all(fits) or words["up"] not in AXES[kind] or words["gender"] not in ("male", "female", "neutral"):
        raise BadPacket("range", f"a hello says kind ({', '.join(KINDS)}), fps, up, gender, betas, bones or hierarchy")
    if (kind == "bvh") != bool(words["hierarchy"]):
        raise BadPacket("range", "a BVH, and nothing else, comes with its HIERARCHY")
    return HumanHello(kind, float(fps), words["up"], words["gender"], betas, bones, words["hierarchy"])


def _numbers(values: Any) -> tuple[float, ...]:
    if not isinstance(values, list) or not all(_is_number(value) for value in values):
        raise BadPacket("not_finite", "betas and bones are lists of numbers")
    return tuple(float(value) for value in values)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9 and math.isfinite(value)
