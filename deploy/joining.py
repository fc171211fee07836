"""Waiting for somebody to follow: the robot stands as the person stands, so that nothing jumps when it begins to follow.

Live motion waits for nobody. Who joins it in the midst of a step asks the policy for one that nobody has begun; so the robot waits
until the person stands still on both feet, takes their posture meanwhile, and begins to follow from there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from corpus.g1 import G1
from deploy.reference import Preview
from deploy.stance import can_be_stood_in


@dataclass(frozen=True)
class JoinOptions:
    """When a live motion may be joined."""

    joint_speed: float = 1.0
    """Whose joints move faster does not stand still [rad/s]."""
    root_speed: float = 0.15
    """… whose pelvis moves faster [m/s]."""
    near: float = 0.1
    """The robot is in the person's posture where no joint is asked for more than this away [rad]."""
    pace: float = 0.5
    """How fast a standing robot takes the person's posture [rad/s]."""
    still_s: float = 0.3
    """So long the person has to stand still [s]."""


class Joining:
    """A stand that follows the posture of a standing person, and tells when the robot may go with them."""

    def __init__(self, options: JoinOptions = JoinOptions()):
        self.options = options
        self._still_s = 0.0
        self._judged: tuple[Float[np.ndarray, " 36"], bool] | None = None

    def follow(
        self, preview: Preview | None, posture: Float[np.ndarray, " J"], period_s: float
    ) -> Float[np.ndarray, " J"]:
        """The posture to stand in, a control period after `posture`; called each of them."""
        if preview is None or not (stands_still(preview, self.options) and self._can_be_stood_in(preview.qpos[0])):
            self._still_s = 0.0
            return posture
        self._still_s += period_s
        most = self.options.pace * period_s
        wanted = np.clip(preview.qpos[0, 7:], G1.lower, G1.upper)
        return posture + np.clip(wanted - posture, -most, most)

    def ready(self, preview: Preview, posture: Float[np.ndarray, " J"]) -> bool:
        """The person has been standing still, and the robot stands as they do."""
        return (
            self._still_s >= self.options.still_s
            and float(np.abs(preview.qpos[0, 7:] - posture).max()) < self.options.near
        )

    def _can_be_stood_in(self, qpos: Float[np.ndarray, " 36"]) -> bool:
        """Judged anew where the person has moved: it takes a tenth of a control period."""
        if self._judged is None or np.abs(qpos[3:] - self._judged[0][3:]).max() > MOVED:
            self._judged = qpos.copy(), can_be_stood_in(qpos)
        return self._judged[1]


MOVED = 0.02
"""[rad]"""


def stands_still(preview: Preview, options: JoinOptions = JoinOptions()) -> bool:
    """Whether nobody moves, now and as far as can be seen."""
    speed = np.abs(preview.velocity)
    calm = speed[:, :3].max() < options.root_speed and speed[:, 3:].max() < options.joint_speed
    return bool(preview.status == "live" and np.isfinite(preview.qpos).all() and calm)
