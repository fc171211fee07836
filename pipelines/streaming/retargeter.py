"""Datagrams of a person in, postures of the robot at 50 Hz out; no sockets, and no clock of its own.

Frames are taken on the grid of the rate their sender states: what was lost for a moment is filled in, what comes too late is left
out, and after a longer break the retargeting begins anew.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float

from corpus import rotations
from corpus.errors import MotionloomError, Rejected
from corpus.g1 import G1
from corpus.sources.bvh_skeleton import SkeletonFile
from deploy.packets import BadPacket, QposPacket
from pipelines.streaming.human_packets import HumanFrame, HumanHello, decode_human
from pipelines.streaming.people import Person, Pose, between, person
from retarget.stream import Stream, StreamOptions

OUT_HZ = 50.0


@dataclass(frozen=True)
class RetargeterOptions:
    fill_s: float = 0.1
    """Over breaks of up to so long frames are filled in; over longer ones the retargeting begins anew [s]."""
    silence_s: float = 0.5
    """A sender that has been silent for so long may be followed by another [s]."""
    body_models: Path | None = None
    """Folder of the user's SMPL(-X) models."""
    skeleton: SkeletonFile | None = None
    """Of BVHs with joint names that nobody knows."""
    stream: StreamOptions = field(default_factory=StreamOptions)


class LiveRetargeter:
    """Follows one sender at a time; each of its takes goes out as a stream of its own."""

    def __init__(self, options: RetargeterOptions = RetargeterOptions(), *, seed: int | None = None):
        self.options, self.random = options, np.random.default_rng(seed)
        self.refused: Counter[str] = Counter()
        """What was left out, by reason."""
        self.lost = self.taken = self.restarts = 0
        """Frames that never came; frames retargeted; how often a take broke off for longer."""
        self.hello: HumanHello | None = None
        self.sender: int | None = None
        self.take: _Take | None = None
        self.heard_s, self.over = -np.inf, False

    def hear(self, data: bytes, arrived_s: float) -> list[QposPacket]:
        """What a datagram leads to; whatever is wrong with it is counted. `sent_s` of the packets is when it came."""
        try:
            return self._hear(data, arrived_s)
        except BadPacket as bad:
            self.refused[bad.reason] += 1
        except Rejected as rejected:
            self.refused[rejected.reason] += 1
        except MotionloomError:  # of a body model that cannot be read
            self.refused["body_model"] += 1
        return []

    def _hear(self, data: bytes, arrived_s: float) -> list[QposPacket]:
        given = decode_human(data)
        stream = given.stream if isinstance(given, HumanFrame) else given[0]
        if stream != self.sender:
            if self.sender is not None and not self.over and arrived_s - self.heard_s <= self.options.silence_s:
                self.refused["other_sender"] += 1
                return []
            if isinstance(given, HumanFrame):
                self.refused["no_hello"] += 1
                return []
            self.sender, self.hello, self.take, self.over = stream, None, None, False
        if isinstance(given, HumanFrame):
            return self._frame(given, arrived_s)
        self.heard_s = arrived_s
        if given[1] != self.hello:
            self.hello, self.take = given[1], None
        return []

    def _frame(self, frame: HumanFrame, arrived_s: float) -> list[QposPacket]:
        if self.over:
            if not frame.last:  # the end is told more than once
                self.refused["after_end"] += 1
            return []
        assert self.hello is not None, "whoever is followed has said hello"
        if self.take is None:
            who = person(
                self.hello, frame.numbers, body_models=self.options.body_models, skeleton=self.options.skeleton
            )
            number = int(self.random.integers(1, 2**32))
            self.take = _Take(who, self.hello.fps, self.options, frame.captured_s, number)
        take = self.take
        at, pose = round((frame.captured_s - take.start_s) * take.fps), take.who.pose(frame.numbers)
        missing = at - take.at - 1
        silent = arrived_s - self.heard_s > self.options.silence_s
        if missing < 0 and not silent:
            self.refused["late"] += 1
            return []
        self.heard_s = arrived_s
        if take.at >= 0 and (missing < 0 or missing > self.options.fill_s * take.fps):
            self.restarts += 1
            take.begin_anew(frame.captured_s)
            at, missing = 0, 0
        self.lost += max(missing, 0) if take.at >= 0 else 0
        found = take.push(pose, at)
        self.taken += 1
        if frame.last:
            found += take.finish()
            self.over = True
        return take.packets(found, arrived_s, last=frame.last)


class _Take:
    """One person's motion from its first frame on."""

    def __init__(self, who: Person, fps: float, options: RetargeterOptions, start_s: float, number: int):
        self.who, self.fps, self.options, self.number = who, fps, options, number
        self.sequence = 0
        self.pacer = Pacer()
        self.begin_anew(start_s)

    def begin_anew(self, start_s: float) -> None:
        """From a frame that nothing before leads to; what goes out is still one stream."""
        self.stream = Stream(self.who.skeleton, self.fps, G1, self.options.stream)
        self.start_s, self.at = start_s, -1
        self.pose: Pose | None = None
        self.pacer.skip()

    def push(self, pose: Pose, at: int) -> list[tuple[float, Float[np.ndarray, " Q"]]]:
        """The frame in place `at` of the grid and, before it, those that are missing; gives timed postures."""
        found = []
        if self.pose is None:
            self.start_s += at / self.fps
            at = 0
        while self.at < at:
            missing = at - self.at - 1
            now = pose if not missing or self.pose is None else between(self.pose, pose, 1 / (missing + 1))
            posture = self.stream.push(*now)
            self.at, self.pose = self.at + 1, now
            if posture is not None:
                found.append((self.start_s + posture.frame / self.fps, posture.qpos))
        return found

    def finish(self) -> list[tuple[float, Float[np.ndarray, " Q"]]]:
        return [(self.start_s + posture.frame / self.fps, posture.qpos) for posture in self.stream.finish()]

    def packets(
        self, postures: list[tuple[float, Float[np.ndarray, " Q"]]], arrived_s: float, *, last: bool
    ) -> list[QposPacket]:
        """Postures at the control rate, ready to go."""
        timed = [pair for at_s, qpos in postures for pair in self.pacer.until(at_s, qpos)]
        if last:
            timed += self.pacer.end()
        found = []
        for k, (at_s, qpos) in enumerate(timed):
            is_last = last and k == len(timed) - 1
            found.append(QposPacket(self.sequence, arrived_s, arrived_s, at_s, qpos, self.number, is_last))
            self.sequence = (self.sequence + 1) % 2**32
        return found


class Pacer:
    """Postures at any rate → postures every 20 ms, each as soon as the first one after it is known: up to one frame of the source
    later, half of one on average; at once where the source has 50 or 100 frames a second."""

    def __init__(self, hz: float = OUT_HZ):
        self.period = 1 / hz
        self.before: tuple[float, np.ndarray] | None = None
        self.next_s: float | None = None

    def until(self, at_s: float, qpos: Float[np.ndarray, " Q"]) -> list[tuple[float, Float[np.ndarray, " Q"]]]:
        """Those that are due once the posture at `at_s` is there."""
        found, slack_s = [], 1e-3 * self.period
        if self.next_s is None or self.before is None:
            # After a break: the grid goes on, but nothing is known of what lay between.
            self.next_s = at_s if self.next_s is None else max(self.next_s, at_s)
            found.append((self.next_s, qpos))
            self.next_s += self.period
        else:
            while self.next_s <= at_s + slack_s:
                found.append((self.next_s, _between(*self.before, at_s, qpos, self.next_s)))
                self.next_s += self.period
        self.before = at_s, qpos
        return found

    def skip(self) -> None:
        self.before = None

    def end(self) -> list[tuple[float, Float[np.ndarray, " Q"]]]:
        """The last posture, once more: where the take ends."""
        return [] if self.before is None or self.next_s is None else [(self.next_s, self.before[1])]


def _between(
    a_s: float, a: Float[np.ndarray, " Q"], b_s: float, b: Float[np.ndarray, " Q"], at_s: float
) -> Float[np.ndarray, " Q"]:
    share = min(max((at_s - a_s) / max(b_s - a_s, 1e-9), 0.0), 1.0)
    qpos = a + share * (b - a)
    qpos[3:7] = rotations.slerp(a[3:7], b[3:7], np.array(share))
    return qpos
