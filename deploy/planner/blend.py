"""What is left of the motion before a jump: offsets to the new one, let go by springs, so that nothing moves suddenly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from corpus import rotations
from deploy import springs

JOINTS, TILT, CLEARANCE, WAY, TURNING = slice(0, 29), slice(29, 32), slice(32, 33), slice(33, 35), slice(35, 36)
WIDTH = 36
"""Joint angles [rad], how the pelvis leans [rotation vector], the height of the lowest point [m]; and what is kept only as a speed:
the way of the pelvis [m/s] and its heading's turning [rad/s], in its own heading."""


@dataclass(frozen=True, eq=False)
class Blend:
    """Offsets and their rates at the last frame that was made."""

    offset: Float[np.ndarray, " 36"]
    rate: Float[np.ndarray, " 36"]
    half_life_s: float

    @classmethod
    def none(cls, half_life_s: float) -> Blend:
        return cls(np.zeros(WIDTH), np.zeros(WIDTH), half_life_s)

    def after(self, times_s: Float[np.ndarray, " T"]) -> tuple[Float[np.ndarray, "T 36"], Float[np.ndarray, "T 36"]]:
        offset, rate = springs.spring(self.offset, self.rate, np.zeros(WIDTH), self.half_life_s, times_s[:, None])
        return np.asarray(offset), np.asarray(rate)

    @property
    def over(self) -> bool:
        """Whether nothing of it is to be seen any more."""
        return bool(np.abs(self.offset).max() < 1e-4 and np.abs(self.rate).max() < 1e-3)


def lean(rotation: Float[np.ndarray, "... 4"]) -> Float[np.ndarray, "... 4"]:
    """A rotation without its heading."""
    return rotations.multiply(rotations.about_z(-rotations.heading(rotation)), rotation)


def between(shown: Float[np.ndarray, " 36"], other: Float[np.ndarray, " 36"]) -> Float[np.ndarray, " 32"]:
    """What leads from another frame to the one shown: joints, then lean."""
    turn = rotations.multiply(lean(shown[3:7]), rotations.conjugate(lean(other[3:7])))
    return np.concatenate([shown[7:] - other[7:], rotations.to_rotation_vector(turn)])
