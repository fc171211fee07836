"""How far a robot was from its reference: joints [rad], key bodies [mm], and how roughly it moved; of one rollout each.

Frame 0 is where both were put; what is measured begins at frame 1. A figure over the *executed* part ends with the frame at
which the robot failed, that frame included; one over the *whole* goes on to the end of the clip. Nothing is made up for the rest:
the referee lets a fallen robot lie, so both are of what it really did.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from corpus import rotations
from corpus.motion import CORPUS_FPS


@dataclass(frozen=True)
class Track:
    """What a robot did, or its reference, at 50 Hz. Bodies are `corpus.g1.KEY_BODIES`, the pelvis first."""

    joint_position: Float[np.ndarray, "T J"]
    """[rad]"""
    joint_speed: Float[np.ndarray, "T J"]
    """[rad/s]"""
    position: Float[np.ndarray, "T B 3"]
    """Of the bodies' origins in the world [m]."""
    rotation: Float[np.ndarray, "T B 4"]
    """Of the bodies in the world."""


def measure(robot: Track, reference: Track, executed: int) -> dict[str, float]:
    """Every metric by name over the first `executed` frames after frame 0, and as `<name>_whole` over all.

    NaN where there are too few frames for it.
    """
    frames = len(robot.position)
    found = {}
    for name, curve_of in METRICS.items():
        curve = curve_of(robot, reference)
        lost = frames - len(curve)  # a difference of two frames counts as the later one's
        found[name] = _mean(curve[max(1 - lost, 0) : max(executed + 1 - lost, 0)])
        found[f"{name}_whole"] = _mean(curve[max(1 - lost, 0) :])
    return found


def mpjpe(robot: Track, reference: Track) -> Float[np.ndarray, " T"]:
    """Mean over the joints of |q − q_ref| [rad]."""
    return abs(robot.joint_position - reference.joint_position).mean(-1)


def mpjve(robot: Track, reference: Track) -> Float[np.ndarray, " T"]:
    """Mean over the joints of |dq − dq_ref| [rad/s]."""
    return abs(robot.joint_speed - reference.joint_speed).mean(-1)


def mpkpe(robot: Track, reference: Track) -> Float[np.ndarray, " T"]:
    """Mean Euclidean distance of the key bodies in the heading frame [mm].

    Robot and reference are each seen from their own root: its x, y and heading are taken away, its height and tilt are not.
    So the pelvis counts with its height alone, and drift over the ground does not count.
    """
    return 1e3 * np.linalg.norm(_heading_error(robot, reference), axis=-1).mean(-1)


def mpkpe_per_axis(robot: Track, reference: Track) -> Float[np.ndarray, " T"]:
    """As Humanoid-GPT's public code has it [mm]: the same error along each of the robot's bodies' own axes, the mean of the
    three absolute values. Between 1/3 and 1/√3 of `mpkpe`."""
    turn = rotations.about_z(-rotations.heading(robot.rotation[:, :1]))
    own = rotations.multiply(np.broadcast_to(turn, robot.rotation.shape), robot.rotation)
    error = rotations.rotate(rotations.conjugate(own), _heading_error(robot, reference))
    return 1e3 * abs(error).mean((-1, -2))


def root_relative(robot: Track, reference: Track) -> Float[np.ndarray, " T"]:
    """SONIC's MPJPE [mm]: mean distance of the key bodies once each root's position is taken away, its heading and tilt not;
    the pelvis's own zero counts among the fourteen."""
    error = (robot.position - robot.position[:, :1]) - (reference.position - reference.position[:, :1])
    return 1e3 * np.linalg.norm(error, axis=-1).mean(-1)


def velocity_error(robot: Track, reference: Track) -> Float[np.ndarray, " T-1"]:
    """E_vel: mean over the key bodies of |Δp − Δp_ref| in the world, from frame to frame [mm/frame]."""
    return _difference_error(robot, reference, 1)


def acceleration_error(robot: Track, reference: Track) -> Float[np.ndarray, " T-2"]:
    """E_acc: the same of second differences [mm/frame²]."""
    return _difference_error(robot, reference, 2)


def jerk(robot: Track, reference: Track) -> Float[np.ndarray, " T-3"]:
    """The robot's own: mean over the joints of the third difference of their angles [rad/s³]."""
    return abs(np.diff(robot.joint_position, 3, axis=0)).mean(-1) * CORPUS_FPS**3


METRICS: dict[str, Callable[[Track, Track], np.ndarray]] = {
    "mpjpe_rad": mpjpe,
    "mpjve_rad_s": mpjve,
    "mpkpe_mm": mpkpe,
    "mpkpe_per_axis_mm": mpkpe_per_axis,
    "root_relative_mm": root_relative,
    "e_vel_mm_frame": velocity_error,
    "e_acc_mm_frame2": acceleration_error,
    "jerk_rad_s3": jerk,
}
"""All are better the smaller they are; names carry the unit."""


def heading_frame(
    position: Float[np.ndarray, "... B 3"], rotation: Float[np.ndarray, "... B 4"]
) -> Float[np.ndarray, "... B 3"]:
    """Bodies seen from the first of them: its x, y and heading taken away, heights kept [m]."""
    origin = position[..., :1, :] * [1, 1, 0]
    turn = rotations.about_z(-rotations.heading(rotation[..., :1, :]))
    return rotations.rotate(np.broadcast_to(turn, (*position.shape[:-1], 4)), position - origin)


def _heading_error(robot: Track, reference: Track) -> Float[np.ndarray, "T B 3"]:
    return heading_frame(reference.position, reference.rotation) - heading_frame(robot.position, robot.rotation)


def _difference_error(robot: Track, reference: Track, order: int) -> np.ndarray:
    error = np.diff(robot.position - reference.position, order, axis=0)
    return 1e3 * np.linalg.norm(error, axis=-1).mean(-1)


def _mean(curve: np.ndarray) -> float:
    return float(curve.mean(dtype=np.float64)) if len(curve) else float("nan")
