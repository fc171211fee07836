"""What goes between controller and robot: `LowState` from it, `LowCmd` to it, as Unitree's G1 names and means them.

Only the 29 joints of `corpus.g1.G1.joint_names`, in that order; their bytes on the wire, with the CRC, are `deploy.wire`'s business.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int

from corpus.g1 import G1

JOINTS = G1.joint_count
STOP_KD = 8.0
"""Damping of all joints of a robot that is to sink down softly [N·m·s/rad]; Unitree's figure."""


@dataclass(frozen=True, eq=False)
class LowState:
    """What the robot measures, at one moment."""

    tick: int
    """The robot's own clock [ms]; wraps at 2**32."""
    mode_machine: int
    """Which machine it says it is; to be echoed in every command."""
    joint_position: Float[np.ndarray, " J"]
    """[rad]"""
    joint_speed: Float[np.ndarray, " J"]
    """[rad/s]"""
    torque: Float[np.ndarray, " J"]
    """As the motors estimate it [N·m]."""
    root_rotation: Float[np.ndarray, " 4"]
    """Of the pelvis, `[w x y z]`; heading from wherever the sensor was switched on."""
    angular_velocity: Float[np.ndarray, " 3"]
    """Of the pelvis, in its own frame [rad/s]."""
    acceleration: Float[np.ndarray, " 3"]
    """Of the pelvis, in its own frame, gravity included: +9.81 along z where it stands still [m/s²]."""
    temperature: Float[np.ndarray, " J"]
    """Of each motor's hotter part [°C]."""
    motor_fault: Int[np.ndarray, " J"]
    """Unitree's `motorstate`: 0 where all is well."""
    remote: bytes = bytes(40)
    """The wireless remote's own packet: sticks and buttons (`deploy.remote`)."""


@dataclass(frozen=True, eq=False)
class LowCmd:
    """What each motor is to do: torque = kp·(position − q) + kd·(speed − dq) + torque, within what it can."""

    joint_position: Float[np.ndarray, " J"]
    """[rad]"""
    kp: Float[np.ndarray, " J"]
    """[N·m/rad]"""
    kd: Float[np.ndarray, " J"]
    """[N·m·s/rad]"""
    mode_machine: int = 0
    joint_speed: Float[np.ndarray, " J"] = field(default_factory=lambda: np.zeros(JOINTS))
    """[rad/s]"""
    torque: Float[np.ndarray, " J"] = field(default_factory=lambda: np.zeros(JOINTS))
    """Added to the controller's [N·m]."""
    enabled: Bool[np.ndarray, " J"] = field(default_factory=lambda: np.ones(JOINTS, bool))
    """Motors that are off do nothing at all."""


def damping(joint_position: Float[np.ndarray, " J"], mode_machine: int) -> LowCmd:
    """Let the robot sink down softly: no stiffness, only damping."""
    return LowCmd(joint_position, np.zeros(JOINTS), np.full(JOINTS, STOP_KD), mode_machine)
