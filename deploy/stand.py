"""Standing by stiff joints, with ankles that answer to the lean of the pelvis: no policy, nothing learned.

The soft gains of a tracker cannot hold the G1 upright: gravity topples it with 219 N·m a radian, two ankles at their tracking
gains hold against 57. So a stand is stiffer, and its ankles give way to no lean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from corpus.g1 import G1
from deploy.messages import LowCmd, LowState
from deploy.observation import gravity, lean


@dataclass(frozen=True)
class StandOptions:
    ramp_s: float = 2.0
    """In which joints go to the standing posture [s]."""
    hold_s: float = 3.0
    """A stand is held so long before a motion may begin [s]: a robot that hung on a rope is let down meanwhile."""
    leg: tuple[float, float] = (200.0, 5.0)
    """kp [N·m/rad] and kd [N·m·s/rad] of hips, knees and waist."""
    ankle: tuple[float, float] = (80.0, 5.0)
    arm: tuple[float, float] = (40.0, 2.0)
    lean_gain: float = 2.0
    """Radians an ankle turns against each radian of lean."""
    lean_rate_gain: float = 0.2
    """… and against each rad/s."""
    trim: float = 0.06
    """Ankles reach so much further down [rad]: what the robot's weight, 3 cm ahead of them, bends them up."""


def _joints(*parts: str) -> list[int]:
    return [i for i, name in enumerate(G1.joint_names) if any(part in name for part in parts)]


ANKLES, LEGS = _joints("ankle"), _joints("hip", "knee", "waist")
PITCH, ROLL = _joints("ankle_pitch"), _joints("ankle_roll")


def stand_gains(options: StandOptions) -> tuple[Float[np.ndarray, " J"], Float[np.ndarray, " J"]]:
    """kp and kd of all joints."""
    gains = np.tile(np.array(options.arm), (G1.joint_count, 1))
    gains[LEGS], gains[ANKLES] = options.leg, options.ankle
    return gains[:, 0].copy(), gains[:, 1].copy()


def stand_command(
    state: LowState,
    start: Float[np.ndarray, " J"],
    posture: Float[np.ndarray, " J"],
    since_s: float,
    options: StandOptions = StandOptions(),
    *,
    stiff: bool = False,
) -> LowCmd:
    """`since_s` after the stand was begun with the joints at `start` [rad]: on the way to `posture`, or holding it.

    A robot that already bears its weight needs all stiffness at once (`stiff`); one that hangs gets it little by little.
    """
    u = min(1.0, max(0.0, since_s / options.ramp_s))
    share = u * u * (3 - 2 * u)
    target = start + share * (posture - start)
    (pitch, roll), turn = lean(gravity(state.root_rotation)), state.angular_velocity
    most = 0.4 * (1.0 if stiff else share)  # an ankle answers as far as the robot is up
    target[PITCH] += 0.0 if stiff else options.trim * share
    target[PITCH] += np.clip(options.lean_gain * pitch + options.lean_rate_gain * turn[1], -most, most)
    target[ROLL] += np.clip(options.lean_gain * roll + options.lean_rate_gain * turn[0], -most, most)
    kp, kd = stand_gains(options)
    return LowCmd(
        np.clip(target, G1.lower, G1.upper), kp * (1.0 if stiff else min(1.0, 0.2 + u)), kd, state.mode_machine
    )
