"""Where the motion to follow comes from: every source shows the frames that a policy looks at, one control period after another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float


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


STATUSES = ("live", "held", "ended")
"""New frames; none came, so the last are held; there will be no more."""


class ReferenceSource(Protocol):
    """Made with `frames`, (0, …) rising: what `look` shows."""

    name: str

    def look(self, now_s: float) -> Preview | None:
        """Called once each control period, `now_s` on the clock of `time.monotonic`: each call is one frame further. Never waits;
        None as long as nothing has come yet."""
        ...

    def close(self) -> None: ...
