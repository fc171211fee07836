"""Where the motion to follow comes from: every source shows the frames that a policy looks at, one control period after another.

Here those that lie on a disk; `deploy.live` listens to a stream, `deploy.planner` makes motion from commands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float

from corpus.errors import MotionloomError
from corpus.motion import RobotMotion, velocity
from deploy.contract import CONTROL_HZ
from deploy.stance import standing


@dataclass(frozen=True, eq=False)
class Preview:
    """The reference now and at the frames a policy looks at."""

    qpos: Float[np.ndarray, "F 36"]
    """At the frames that the source was made with, counted from now in control periods; the first is 0, now."""
    velocity: Float[np.ndarray, "F 35"]
    """As `corpus.motion.velocity`; of live sources estimated from the past alone."""
    status: str = "live"
    """One of `STATUSES`."""
    age_s: float = 0.0
    """Since the newest data that this rests on came, as far as it is later than it should be [s]; 0 for what lies on a disk."""


STATUSES = ("live", "held", "ended", "settling")
"""New frames; none came, so the last are held; there will be no more; the controller's own way to a stand."""


class ReferenceSource(Protocol):
    """Made with `frames`, (0, …) rising: what `look` shows."""

    name: str

    def begin(self) -> None:
        """From the next `look` on the motion is followed: what lies on a disk waits at its first frame until then."""
        ...

    def look(self, now_s: float) -> Preview | None:
        """Called once each control period, `now_s` on the clock of `time.monotonic`: each call is one frame further. Never waits;
        None as long as nothing has come yet."""
        ...

    def close(self) -> None: ...


class ClipSource:
    """A motion at the control rate, from its first frame to its last, which is then held."""

    def __init__(self, motion: RobotMotion, frames: tuple[int, ...], name: str = "clip"):
        if abs(motion.fps - CONTROL_HZ) > 1e-6:
            raise MotionloomError(f"{name} has {motion.fps:g} frames a second; should be resampled to {CONTROL_HZ:g}.")
        self.name = name
        self._qpos, self._velocity = np.asarray(motion.qpos, np.float64), velocity(motion).astype(np.float64)
        self._ahead = np.array(frames)
        self._place, self._going = 0, False

    @property
    def first(self) -> Float[np.ndarray, " 36"]:
        """The posture it begins in."""
        return self._qpos[0]

    def begin(self) -> None:
        self._place, self._going = 0, True

    def look(self, now_s: float) -> Preview:
        last = len(self._qpos) - 1
        places = np.minimum(self._place + (self._ahead if self._going else 0 * self._ahead), last)
        status = "ended" if self._place > last else "live"
        self._place += self._going
        return Preview(self._qpos[places], self._velocity[places] * self._going, status)

    def close(self) -> None:
        pass


class StandSource:
    """Standing still."""

    name = "stand"

    def __init__(self, frames: tuple[int, ...]):
        qpos = np.tile(standing(), (len(frames), 1))
        self._preview = Preview(qpos, np.zeros((len(frames), 35)))

    def begin(self) -> None:
        pass

    def look(self, now_s: float) -> Preview:
        return self._preview

    def close(self) -> None:
        pass
