"""A live reference: postures that come over UDP, played out at the controller's pace, a moment of their future in view."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from corpus import rotations
from corpus.errors import MotionloomError
from deploy.datagrams import open_port, receive
from deploy.jitter import FASTEST, JitterBuffer, JitterOptions, Times
from deploy.packets import BadPacket, decode
from deploy.reference import Preview

PORT = 5005


@dataclass(frozen=True)
class LiveOptions:
    jitter_s: float = 0.03
    """Packets may be so much later than the quickest without being missed [s]; all motion is later by it."""
    preview_s: float | None = None
    """How much true future the policy sees, at the same cost [s]; None: all that it looks at. Frames beyond are guesses in which the
    motion dies away."""
    held_s: float = 0.1
    """Data that are later than this are missing: the source is held, no longer live [s]."""
    control_hz: float = 50.0
    bind: str = "127.0.0.1"
    """Whose packets are heard: those of this machine alone, or of everybody: 0.0.0.0."""
    jitter: JitterOptions = JitterOptions()

    def delay_s(self, frames: tuple[int, ...]) -> float:
        """From a packet's quickest arrival until its posture is frame 0 [s]."""
        preview_s = frames[-1] / self.control_hz if self.preview_s is None else self.preview_s
        if not (0 <= self.jitter_s <= 1 and 0 <= preview_s <= 1):
            raise MotionloomError(f"jitter_s {self.jitter_s} and preview_s {preview_s} should be 0 to 1 s.")
        return self.jitter_s + preview_s


class LiveSource:
    """A `ReferenceSource` that listens on a port; packets are read in `look`, with the arrival times the kernel gave them."""

    def __init__(self, port: int = PORT, frames: tuple[int, ...] = (0, 1, 4, 10), options: LiveOptions = LiveOptions()):
        self.playout = Playout(frames, options)
        self.refused: Counter[str] = Counter()
        """Datagrams that were thrown away, by reason: broken ones, and those of which the jitter buffer made nothing."""
        self.socket = open_port(port, options.bind)
        self.port: int = self.socket.getsockname()[1]
        self.name = f"live:{self.port}"
        self.looked_s = -np.inf

    def begin(self) -> None:
        """Live motion waits for nobody: the next look shows once more what the last one did."""
        self.playout.at_s -= self.playout.period

    def look(self, now_s: float) -> Preview | None:
        """The reference now; None until a first posture is due."""
        if now_s - self.looked_s > STALE_S:
            self._empty()
        self.looked_s = now_s
        for data, arrived_s in receive(self.socket, MOST_DATAGRAMS):
            self.hear(data, arrived_s)
        return self.playout.look(now_s)

    def hear(self, data: bytes, arrived_s: float) -> None:
        """Take a datagram, whatever it is."""
        try:
            outcome = self.playout.buffer.push(decode(data), arrived_s)
        except BadPacket as bad:
            outcome = bad.reason
        if outcome != "taken":
            self.refused[outcome] += 1

    @property
    def newest_used(self) -> Times | None:
        """Of the newest packet that the last preview was the first to look at; None where it saw nothing new."""
        return self.playout.newest_used

    def close(self) -> None:
        self.socket.close()

    def _empty(self) -> None:
        """Throw away what came while nobody looked."""
        for _ in range(MOST_QUEUED):
            try:
                self.socket.recv(1)
            except OSError:
                return


MOST_DATAGRAMS = 64
MOST_QUEUED = 10_000
STALE_S = 0.5

SLOWEST, RESET_S, SETTLE_S = 0.02, 0.2, 0.5
"""The play-out runs at most this share faster or slower than it should, to follow the sender's clock; where it is further off than
this [s], it jumps; else it comes back within about so long [s]."""


class Playout:
    """Goes through a jitter buffer, one control period with each look."""

    def __init__(self, frames: tuple[int, ...], options: LiveOptions = LiveOptions()):
        if not frames or list(frames) != sorted(set(frames)) or frames[0] != 0:
            raise MotionloomError(f"Frames {frames}: should rise from 0.")
        self.options, self.period = options, 1.0 / options.control_hz
        self.buffer = JitterBuffer(options.delay_s(frames), options.jitter)
        around = sorted({frame + step for frame in frames for step in (-1, 0, 1)})
        self.around = np.array(around) * self.period
        self.now_at, self.before_at, self.after_at = (
            np.array([around.index(frame + step) for frame in frames]) for step in (0, -1, 1)
        )
        self.at_s, self.take, self.used_number = -np.inf, 0, -np.inf
        self.newest_used: Times | None = None
        self.shown: Preview | None = None

    def look(self, now_s: float) -> Preview | None:
        """One control period further."""
        self.newest_used = None
        buffer = self.buffer
        if buffer.stream is None:
            return None
        self._advance(buffer.play_time(now_s))
        if self.at_s < buffer.first_s and self.take != buffer.takes:
            return self._waiting()
        if self.take != buffer.takes:
            self.take, self.used_number = buffer.takes, -np.inf
        buffer.played_s = self.at_s
        buffer.forget(self.at_s)
        qpos, velocity = self._motion()
        self._note_used()
        status, age_s = self._status(now_s)
        self.shown = Preview(qpos, velocity, status, age_s)
        return self.shown

    def _advance(self, wanted_s: float) -> None:
        """One period, a little more or less where the sender's clock says so."""
        off_s = wanted_s - (self.at_s + self.period)
        if abs(off_s) > RESET_S or self.take != self.buffer.takes:
            self.at_s = wanted_s
        else:
            share = min(max(off_s / SETTLE_S, -SLOWEST), SLOWEST)
            self.at_s += self.period * (1 + share)

    def _waiting(self) -> Preview | None:
        """Until a new take is due, what was shown last is held."""
        if self.shown is None:
            return None
        still = np.repeat(self.shown.qpos[:1], len(self.shown.qpos), 0)
        status = "ended" if self.shown.status == "ended" else "held"
        age_s = self.shown.age_s + self.period if status == "held" else 0.0
        self.shown = Preview(still, np.zeros_like(self.shown.velocity), status, age_s)
        return self.shown

    def _motion(self) -> tuple[Float[np.ndarray, "F 36"], Float[np.ndarray, "F 35"]]:
        """Postures and velocities: central differences as over whole clips, with what is known of the frames after."""
        postures = self.buffer.at(self.at_s + self.around)
        qpos, before, after = postures[self.now_at], postures[self.before_at], postures[self.after_at]
        rate = 0.5 / self.period
        turn = rotations.multiply(after[:, 3:7], rotations.conjugate(before[:, 3:7]))
        turn = rotations.rotate(rotations.conjugate(qpos[:, 3:7]), rotations.to_rotation_vector(turn))
        velocity = np.concatenate([after[:, :3] - before[:, :3], turn, after[:, 7:] - before[:, 7:]], 1) * rate
        return qpos, np.minimum(np.maximum(velocity, -FASTEST), FASTEST)

    def _note_used(self) -> None:
        number, times = self.buffer.used(self.at_s + float(self.around[-1]))
        if number > self.used_number:
            self.used_number, self.newest_used = number, times

    def _status(self, now_s: float) -> tuple[str, float]:
        end_s, newest_s = self.buffer.end_s, self.buffer.newest_s
        if end_s is not None:
            return ("ended" if self.at_s >= end_s else "live"), 0.0
        due_s = newest_s + self.buffer.clock.offset(now_s) + self.period + self.options.jitter_s
        age_s = max(0.0, now_s - due_s)
        return ("held" if age_s > self.options.held_s or self.at_s > newest_s else "live"), age_s
