"""From one motion into another without a jump, and from any motion to a stand: offsets that fade as critically damped springs.

come = Settling(qpos, velocity)         # from a posture in motion
preview = come.preview(tau, frames)     # to standing, `tau` seconds later
offset = Offset.between(now, wanted)    # from what was followed to what shall be
preview = offset.added(preview, tau)
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from corpus import rotations
from deploy.contract import CONTROL_HZ, STANDING
from deploy.reference import Preview
from deploy.springs import spring
from deploy.stance import stand_height

HALF_LIFE_S = 0.15
"""In which an offset halves; after six of them it is gone [s]."""
SLOWEST_S, SECONDS_PER_RAD = 0.4, 0.25
"""A robot that comes up from deep down takes longer, or it would throw itself off its toes: the half-life of a way to a stand grows
with the joint that is farthest away [s], [s/rad]."""
REST = 10.0
"""Half-lives after which a posture has come to rest."""


def faded(
    x: Float[np.ndarray, " C"], v: Float[np.ndarray, " C"], tau: Float[np.ndarray, " F"], half_life: float = HALF_LIFE_S
) -> tuple[Float[np.ndarray, "F C"], Float[np.ndarray, "F C"]]:
    """An offset and its rate, `tau` seconds after it was `x` and moved at `v`: it is drawn to zero."""
    return spring(x, v, 0.0, half_life, np.maximum(tau, 0.0)[:, None])


@dataclass(frozen=True, eq=False)
class Offset:
    """What is added to a motion at its beginning, so that it begins where the robot's reference is: height, lean and joints. Place
    and heading are not the robot's to know: motions begin wherever it stands, facing its way."""

    position: Float[np.ndarray, " 1+3+J"]
    """Height [m], lean as a rotation vector in the pelvis' frame [rad], joints [rad]."""
    velocity: Float[np.ndarray, " 1+3+J"]

    @classmethod
    def between(
        cls,
        qpos: Float[np.ndarray, " 36"],
        velocity: Float[np.ndarray, " 35"],
        wanted_qpos: Float[np.ndarray, " 36"],
        wanted_velocity: Float[np.ndarray, " 35"],
    ) -> Offset:
        """That makes `wanted` what is followed until now."""
        lean = rotations.multiply(rotations.conjugate(_leaning(wanted_qpos[3:7])), _leaning(qpos[3:7]))
        position = np.concatenate([qpos[2:3] - wanted_qpos[2:3], _vector(lean), qpos[7:] - wanted_qpos[7:]])
        rate = np.concatenate([velocity[2:3] - wanted_velocity[2:3], np.zeros(3), velocity[6:] - wanted_velocity[6:]])
        return cls(position, rate)

    def added(self, preview: Preview, tau: Float[np.ndarray, " F"]) -> Preview:
        """The preview with what is left of the offset, its frames `tau` seconds after the beginning."""
        x, v = faded(self.position, self.velocity, tau)
        qpos, velocity = preview.qpos.copy(), preview.velocity.copy()
        qpos[:, 2] += x[:, 0]
        qpos[:, 3:7] = rotations.multiply(qpos[:, 3:7], rotations.from_rotation_vector(x[:, 1:4]))
        qpos[:, 7:] += x[:, 4:]
        velocity[:, 2] += v[:, 0]
        velocity[:, 3:6] += v[:, 1:4]
        velocity[:, 6:] += v[:, 4:]
        return replace(preview, qpos=qpos, velocity=velocity)


class Settling:
    """A reference that comes to rest in `STANDING`, from a posture in motion, facing where that one faced."""

    settled_s: float
    """How long that takes [s]."""

    def __init__(self, qpos: Float[np.ndarray, " 36"], velocity: Float[np.ndarray, " 35"]):
        heading = rotations.about_z(rotations.heading(qpos[3:7]))
        lean = _vector(rotations.multiply(rotations.conjugate(heading), qpos[3:7]))
        turning = rotations.rotate(qpos[3:7], velocity[3:6])
        farthest = float(np.abs(qpos[7:] - STANDING).max())
        self._half_life = min(max(SECONDS_PER_RAD * farthest, HALF_LIFE_S), SLOWEST_S)
        self.settled_s = REST * self._half_life
        self._end = np.concatenate(
            [qpos[:2] + 0.5 * self._half_life * velocity[:2], [stand_height()], heading, STANDING]
        )
        x = np.concatenate([qpos[:3] - self._end[:3], lean, qpos[7:] - STANDING])
        v = np.concatenate([velocity[:3], rotations.rotate(rotations.conjugate(heading), turning), velocity[6:]])
        self._x, self._v = x, v

    def preview(self, tau_s: float, frames: tuple[int, ...]) -> Preview:
        """At these frames from `tau_s` after it began."""
        tau = tau_s + np.array(frames) / CONTROL_HZ
        x, v = faded(self._x, self._v, tau, self._half_life)
        qpos = np.tile(self._end, (len(frames), 1))
        qpos[:, :3] += x[:, :3]
        qpos[:, 3:7] = rotations.multiply(qpos[:, 3:7], rotations.from_rotation_vector(x[:, 3:6]))
        qpos[:, 7:] += x[:, 6:]
        turning = rotations.rotate(rotations.from_rotation_vector(-x[:, 3:6]), v[:, 3:6])
        return Preview(qpos, np.concatenate([v[:, :3], turning, v[:, 6:]], 1), status="settling")


def _leaning(rotation: Float[np.ndarray, " 4"]) -> Float[np.ndarray, " 4"]:
    """What is left of an orientation without its heading."""
    return rotations.multiply(rotations.about_z(-rotations.heading(rotation)), rotation)


def _vector(rotation: Float[np.ndarray, " 4"]) -> Float[np.ndarray, " 3"]:
    return rotations.to_rotation_vector(rotation if rotation[0] >= 0 else -rotation)
