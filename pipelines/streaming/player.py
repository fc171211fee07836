"""Recorded takes sent as if they were live: a schedule of datagrams, over a network that may be bad."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from corpus import rotations
from corpus.body_model import MEAN_PELVIS
from corpus.errors import MotionloomError, Rejected
from corpus.motion import HumanMotion, RobotMotion
from corpus.sources.bvh import read_person
from corpus.sources.bvh_file import parse_bvh
from corpus.sources.options import LoadOptions
from deploy.packets import QposPacket, encode_qpos
from pipelines.one_file import read_file
from pipelines.streaming.human_packets import HumanFrame, HumanHello, encode_frame, encode_hello

Schedule = list[tuple[float, bytes]]
"""When to send what [s], from the take's start on; in order."""

HELLO_EVERY_S = 1.0
LAST_COPIES = 3
"""So often the last packet goes out: without it nobody knows that the take ended."""
PAUSE_S = 0.7
"""Between two rounds: longer than a receiver clings to a sender that fell silent."""


@dataclass(frozen=True)
class BadNetwork:
    """What happens to datagrams between here and there."""

    drop: float = 0.0
    """Share that gets lost."""
    jitter_s: float = 0.0
    """Each is late by up to so much, at random [s]: they overtake each other."""
    duplicate: float = 0.0
    """Share that arrives twice."""
    seed: int = 0


@dataclass(frozen=True)
class HumanTake:
    """A person's motion as it is sent."""

    hello: HumanHello
    frames: Float[np.ndarray, "T N"]


def human_take(path: Path, load: LoadOptions = LoadOptions(), *, source: str | None = None) -> HumanTake:
    """A BVH's own lines, or the SMPL parameters of whatever else a source reads as a person's motion."""
    if path.suffix.lower() == ".bvh":
        return _bvh_take(path)
    raw = read_file(path, load, name=source).raw
    if not isinstance(raw, HumanMotion):
        raise MotionloomError(f"{path} is a robot's motion: send it with --robot.")
    return smpl_take(raw)


def robot_take(path: Path, load: LoadOptions = LoadOptions(), *, source: str | None = None) -> RobotMotion:
    raw = read_file(path, load, name=source).raw
    if not isinstance(raw, RobotMotion):
        raise MotionloomError(f"{path} is a person's motion: send it without --robot, to `loom stream`.")
    return raw


def held(frames: Float[np.ndarray, "T N"], fps: float, seconds: float) -> Float[np.ndarray, "U N"]:
    """Frames whose first and last are held for so long: a person waits before and after, as live ones do."""
    count = round(seconds * fps)
    return np.concatenate([np.repeat(frames[:1], count, 0), frames, np.repeat(frames[-1:], count, 0)])


def smpl_take(motion: HumanMotion, kind: str = "smplx") -> HumanTake:
    """The motion of SMPL's 22 joints as `trans` and rotation vectors, with the bones of whoever moved."""
    if motion.skeleton.name != "smpl":
        raise MotionloomError(f"A skeleton of SMPL's joints can be sent, not one of {motion.skeleton.name}.")
    parents = np.maximum(motion.skeleton.parents, 0)
    local = rotations.multiply(rotations.conjugate(motion.rotation[:, parents]), motion.rotation)
    local[:, 0] = motion.rotation[:, 0]
    turns = rotations.to_rotation_vector(local).reshape(motion.frame_count, -1)
    trans = motion.position[:, 0] - MEAN_PELVIS["smplx" if kind == "smplx" else "smplh"]
    hello = HumanHello(kind, motion.fps, bones=tuple(motion.skeleton.offsets.ravel().tolist()))
    return HumanTake(hello, np.concatenate([trans, turns], 1))


def _bvh_take(path: Path) -> HumanTake:
    data = path.read_bytes()
    try:
        file = parse_bvh(data)
    except Rejected as rejected:
        raise MotionloomError(f"{path}: {rejected}.") from None
    try:
        up = "z" if "z up" in read_person(file).note else "y"
    except Rejected:  # a skeleton that only the receiver can read
        up = ""
    mark = re.search(rb"^[ \t]*MOTION[ \t]*\r?$", data, re.MULTILINE)
    assert mark is not None, "the parser found it"
    text = data[: mark.start()].removeprefix(b"\xef\xbb\xbf").decode("utf-8", "backslashreplace")
    return HumanTake(HumanHello("bvh", file.fps, up, hierarchy=text), file.values)


def human_schedule(
    take: HumanTake, start_s: float, stream: int, network: BadNetwork = BadNetwork(), *, speed: float = 1.0, ends: bool = True
) -> Schedule:  # fmt: skip
    """Hellos and frames of a take that begins at `start_s` on the sender's clock."""
    fps = take.hello.fps * speed
    hello, count = replace(take.hello, fps=fps), len(take.frames)
    times = start_s + np.arange(count) / fps
    greetings = [start_s - 0.06, start_s - 0.04, *np.arange(start_s - 0.02, times[-1], HELLO_EVERY_S).tolist()]
    sent: Schedule = [(at_s, encode_hello(hello, stream, at_s)) for at_s in greetings]
    for k, (at_s, numbers) in enumerate(zip(times.tolist(), take.frames, strict=True)):
        last = ends and k == count - 1
        data = encode_frame(HumanFrame(k, stream, at_s, numbers, last), at_s)
        sent += [(at_s, data)] * (LAST_COPIES if last else 1)
    return disturbed(sent, network)


def robot_schedule(
    motion: RobotMotion, start_s: float, stream: int, network: BadNetwork = BadNetwork(), *, speed: float = 1.0, ends: bool = True
) -> Schedule:  # fmt: skip
    """The postures of a robot's motion, as `loom stream` would send them."""
    sent: Schedule = []
    count = motion.frame_count
    for k, qpos in enumerate(motion.qpos):
        at_s, last = start_s + k / (motion.fps * speed), ends and k == count - 1
        data = encode_qpos(QposPacket(k, at_s, at_s, at_s, qpos, stream, last))
        sent += [(at_s, data)] * (LAST_COPIES if last else 1)
    return disturbed(sent, network)


def disturbed(sent: Schedule, network: BadNetwork) -> Schedule:
    """What a bad network makes of it."""
    random, found = np.random.default_rng(network.seed), []
    for at_s, data in sent:
        for _ in range(1 + int(random.random() < network.duplicate)):
            if random.random() >= network.drop:
                found.append((at_s + random.uniform(0, network.jitter_s), data))
    return sorted(found, key=lambda pair: pair[0])


def start_after(frames: int) -> float:
    """How long it may take until a schedule of so many frames is made [s]."""
    return 0.2 + 1e-4 * frames


def send_on_time(schedule: Schedule, send: Callable[[bytes], object]) -> None:
    """Each datagram at its moment of `time.monotonic`."""
    for at_s, data in schedule:
        while (wait_s := at_s - time.monotonic()) > 0:
            time.sleep(wait_s)
        send(data)
