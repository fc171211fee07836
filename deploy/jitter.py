"""The jitter buffer: postures as a network brings them, late, lost, doubled and out of order, made a motion again.

No sockets and no clock of its own. The sender's clock is told from ours by the packets that came quickest; one sender is
followed until it has been silent for a while, so that a second one cannot make the motion jump to and fro.
"""

from __future__ import annotations

import bisect
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from corpus import rotations
from corpus.g1 import G1
from deploy.clock import SenderClock
from deploy.packets import QposPacket

OUTCOMES = ("taken", "double", "late", "other_sender", "clock", "order", "after_end", "full")
"""What may become of a packet. "clock": its time is nowhere near the stream's; "order": it contradicts its neighbours."""

FADE_S = 0.1
"""Beyond the newest posture the motion dies away as a critically damped spring would: with this time constant [s]."""
FASTEST = np.array([10.0] * 3 + [20.0] * 3 + [*G1.speed_limit])
"""Nothing moves faster: root [m/s, rad/s], joints [rad/s]."""
BRIDGE_S = 0.1
"""Where nothing was left to play, the motion returns to what comes then within about so long [s], not at once."""
MOST_POSTURES = 1024


@dataclass(frozen=True)
class JitterOptions:
    silence_s: float = 0.5
    """A sender that has been silent for so long may be followed by another, or by itself with a clock set anew [s]."""
    gap_s: float = 0.5
    """Over more missing motion than this nothing is interpolated: what follows is a new take [s]."""
    window_s: float = 4.0
    """Over so long the quickest packets tell the sender's clock [s]."""
    step_s: float = 2.0
    """Times further off than this are not believed [s]."""
    memory_s: float = 0.25
    """How long postures are kept that have been played [s]."""


class Times(NamedTuple):
    """When a packet was made, by the sender's clock, and when it came, by ours [s]."""

    made_s: float
    arrived_s: float


class JitterBuffer:
    """Postures of one sender on its own time line, played `delay_s` after the quickest packets would allow."""

    def __init__(self, delay_s: float, options: JitterOptions = JitterOptions()):
        self.delay_s, self.options = delay_s, options
        self.counts: Counter[str] = Counter()
        self.stream: int | None = None
        self.takes = 0
        """How many motions have begun: where it rises, what follows has nothing to do with what came before."""
        self.clock = SenderClock(options.window_s)
        self.played_s = -np.inf
        """What has been shown, by the sender's clock: whatever comes for a moment before is late. The player sets it."""

    def push(self, packet: QposPacket, arrived_s: float) -> str:
        """Take a packet that came at `arrived_s` on our clock; gives its outcome, one of `OUTCOMES`."""
        outcome = self._take(packet, arrived_s)
        self.counts[outcome] += 1
        return outcome

    def play_time(self, now_s: float) -> float:
        """The moment to show now, by the sender's clock [s]."""
        return now_s - self.clock.offset(now_s) - self.delay_s

    def at(self, times_s: Float[np.ndarray, " K"]) -> Float[np.ndarray, "K Q"]:
        """Postures at these moments of the sender's clock: between two that came, or beyond the newest, dying away."""
        times, postures = self._arrays()
        if len(times) == 1:
            return np.repeat(postures, len(times_s), 0)
        right = np.clip(np.searchsorted(times, times_s), 1, len(times) - 1)
        left = right - 1
        share = np.clip((times_s - times[left]) / (times[right] - times[left]), 0.0, 1.0)
        found = postures[left] + share[:, None] * (postures[right] - postures[left])
        beyond = times_s - times[-1]
        if (ahead := beyond > 0).any():
            found[ahead] = _faded(postures[-1], self.end_velocity(), beyond[ahead])
        # Neighbours lie on one half of the sphere and near each other: straight lines do for arcs.
        found[:, 3:7] /= np.sqrt(np.einsum("ki,ki->k", found[:, 3:7], found[:, 3:7]))[:, None]
        return found

    def end_velocity(self) -> Float[np.ndarray, " V"]:
        """At the newest posture, from those before it: the slope of a parabola through the last five, which noise shakes less than
        a difference and which does not lag."""
        if self._velocity is None:
            self._velocity = _end_velocity(*self._arrays())
        return self._velocity

    @property
    def first_s(self) -> float:
        """The beginning of what there is, by the sender's clock [s]; so are the others."""
        return self.times[0]

    @property
    def newest_s(self) -> float:
        return self.times[-1]

    @property
    def end_s(self) -> float | None:
        """Where the take ends; None as long as nobody has said so."""
        return self.times[-1] if self.end is not None else None

    def used(self, until_s: float) -> tuple[float, Times]:
        """The newest packet that `at(until_s)` looks at: its number, and its times."""
        i = min(bisect.bisect_left(self.times, until_s), len(self.times) - 1)
        return self.numbers[i], self.stamps[i]

    def forget(self, before_s: float) -> None:
        """Drop postures that nobody will ask for again."""
        count = min(bisect.bisect_left(self.times, before_s - self.options.memory_s) - 1, len(self.times) - 8)
        if count > 0:
            for own in (self.numbers, self.times, self.postures, self.stamps):
                del own[:count]
            self._table = None

    def _take(self, packet: QposPacket, arrived_s: float) -> str:
        if self.stream is None or self._is_over(packet, arrived_s):
            return self._begin(packet, arrived_s)
        if packet.stream != self.stream:
            return "other_sender"
        number = self.top + _signed(packet.sequence - self.top)
        place = bisect.bisect_left(self.numbers, number)
        if place < len(self.numbers) and self.numbers[place] == number:
            return "double"
        if self.end is not None and number > self.end:
            return "after_end"
        if abs(arrived_s - packet.time_s - self.clock.offset(arrived_s)) > self.options.step_s:
            return "clock"
        return self._insert(packet, number, place, arrived_s)

    def _insert(self, packet: QposPacket, number: int, place: int, arrived_s: float) -> str:
        """Where it belongs, if it fits there."""
        time_s, is_newest = packet.time_s, place == len(self.times)
        ran_dry = self.played_s > self.times[-1]
        if time_s <= self.played_s + (min(BRIDGE_S, self.delay_s / 2) if ran_dry else 0.0):
            return "late"
        if len(self.times) >= MOST_POSTURES:
            return "full"
        after_one = place == 0 or self.times[place - 1] < time_s
        if not after_one or (not is_newest and (packet.last or time_s >= self.times[place])):
            return "order"
        if is_newest and time_s - self.times[-1] > self.options.gap_s:
            return self._begin(packet, arrived_s)
        if ran_dry:
            # Go on from what was shown meanwhile, not from where the motion broke off.
            self._put(
                place, self.numbers[-1] + 0.5, self.played_s, self.at(np.array([self.played_s]))[0], self.stamps[-1]
            )
            place += 1
        self._accept(packet, number, place, arrived_s)
        return "taken"

    def _is_over(self, packet: QposPacket, arrived_s: float) -> bool:
        """May this packet begin another take?"""
        silent_s = arrived_s - self.heard_s
        if self.end is not None:
            return packet.stream != self.stream and silent_s > self.delay_s + 0.1
        return silent_s > self.options.silence_s

    def _begin(self, packet: QposPacket, arrived_s: float) -> str:
        self.stream, self.end, self.played_s = packet.stream, None, -np.inf
        self.clock = SenderClock(self.options.window_s)
        self.numbers: list[float] = []
        self.times: list[float] = []
        self.postures: list[np.ndarray] = []
        self.stamps: list[Times] = []
        self.top = packet.sequence
        self.takes += 1
        self._accept(packet, packet.sequence, 0, arrived_s)
        return "taken"

    def _accept(self, packet: QposPacket, number: int, place: int, arrived_s: float) -> None:
        qpos = packet.qpos.copy()
        qpos[7:] = np.minimum(np.maximum(qpos[7:], G1.lower), G1.upper)
        self._put(place, number, packet.time_s, qpos, Times(packet.made_s, arrived_s))
        self.heard_s, self.top = arrived_s, max(self.top, number)
        self.clock.add(packet.time_s, arrived_s)
        if packet.last:
            self.end = number

    def _put(self, place: int, number: float, time_s: float, qpos: Float[np.ndarray, " Q"], stamp: Times) -> None:
        self.numbers.insert(place, number)
        self.times.insert(place, time_s)
        self.postures.insert(place, qpos)
        self.stamps.insert(place, stamp)
        for i in range(max(1, place), len(self.postures)):  # q and −q are one rotation
            if self.postures[i][3:7] @ self.postures[i - 1][3:7] < 0:
                self.postures[i][3:7] *= -1
        self._table = self._velocity = None

    def _arrays(self) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, "N Q"]]:
        if self._table is None:
            self._table = np.array(self.times), np.array(self.postures)
        return self._table

    end: int | None = None
    heard_s = -np.inf
    _table: tuple[np.ndarray, np.ndarray] | None = None
    _velocity: np.ndarray | None = None


def _end_velocity(times: Float[np.ndarray, " N"], postures: Float[np.ndarray, "N Q"]) -> Float[np.ndarray, " V"]:
    before = times[-5:] - times[-1]
    before = before[before > -0.15]
    if len(before) < 2:
        return np.zeros(postures.shape[1] - 1)
    own, newest = postures[-len(before) :], postures[-1]
    turn = rotations.to_rotation_vector(rotations.multiply(rotations.conjugate(newest[3:7]), own[:, 3:7]))
    moved = np.concatenate([own[:, :3] - newest[:3], turn, own[:, 7:] - newest[7:]], 1)
    scale = -before[0]
    powers = np.vander(before / scale, min(3, len(before)), increasing=True)
    slope = np.linalg.lstsq(powers, moved, rcond=None)[0][1] / scale
    return np.minimum(np.maximum(slope, -FASTEST), FASTEST)


def _faded(
    newest: Float[np.ndarray, " Q"], velocity: Float[np.ndarray, " V"], beyond_s: Float[np.ndarray, " K"]
) -> Float[np.ndarray, "K Q"]:
    """Postures so long after the newest, whose velocity (angular in the root's own frame) fades out."""
    way = (FADE_S * -np.expm1(-beyond_s / FADE_S))[:, None] * velocity
    turn = rotations.multiply(newest[None, 3:7], rotations.from_rotation_vector(way[:, 3:6]))
    joints = np.minimum(np.maximum(newest[7:] + way[:, 6:], G1.lower), G1.upper)
    return np.concatenate([newest[:3] + way[:, :3], turn, joints], 1)


def _signed(difference: int) -> int:
    """Of sequence numbers that wrap: the short way round."""
    return (difference + 0x80000000 & 0xFFFFFFFF) - 0x80000000
