"""What a policy and the robot agree on: joints, gains, how an action becomes a target, what is observed, how often."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from corpus.errors import MotionloomError
from corpus.g1 import G1
from deploy.observation import ObservationSpec

ACTIONS = ("residual", "absolute")
CONTROL_HZ = 50.0


@dataclass(frozen=True, eq=False)
class Gains:
    """Of each joint's motor and its PD controller."""

    armature: Float[np.ndarray, " N"]
    """Inertia of the rotor, seen at the joint [kg·m²]."""
    kp: Float[np.ndarray, " N"]
    """[N·m/rad]"""
    kd: Float[np.ndarray, " N"]
    """[N·m·s/rad]"""
    effort: Float[np.ndarray, " N"]
    """Largest torque [N·m]."""


def gains_of(armature: Float[np.ndarray, " N"], effort: Float[np.ndarray, " N"], *, hz: float = 10.0) -> Gains:
    """Gains that move each rotor alone at a natural frequency of `hz` with a damping ratio of 2: soft, as trackers want them."""
    natural = 2 * np.pi * hz
    return Gains(armature, armature * natural**2, 4 * armature * natural, effort)


# Rotor inertias from Unitree's motor figures, gear ratio squared (BSD-3, see NOTICE).
_LEG = (0.010178, 0.025102, 0.010178, 0.025102, 0.007219, 0.007219)
_WAIST = (0.010178, 0.007219, 0.007219)
_ARM = (0.003610, 0.003610, 0.003610, 0.003610, 0.003610, 0.004250, 0.004250)
GAINS = gains_of(np.array([*_LEG, *_LEG, *_WAIST, *_ARM, *_ARM]), G1.effort_limit)


def _standing() -> Float[np.ndarray, " N"]:
    """Knees bent a little over flat feet, elbows bent, arms hanging off the body [rad]."""
    angle = {"hip_pitch": -0.312, "knee": 0.669, "ankle_pitch": -0.363, "elbow": 0.6, "shoulder_pitch": 0.2}
    sideways = {"shoulder_roll": 0.2}
    result = np.zeros(G1.joint_count)
    for i, name in enumerate(G1.joint_names):
        side, _, rest = name.removesuffix("_joint").partition("_")
        result[i] = angle.get(rest, 0.0) + sideways.get(rest, 0.0) * (1 if side == "left" else -1)
    return result


STANDING = _standing()
"""The G1's stance that absolute actions start from and a controller returns to."""


@dataclass(frozen=True, eq=False)
class Contract:
    """A policy says under which contract it was trained; a simulator or robot under another one refuses to run it."""

    joint_names: tuple[str, ...] = G1.joint_names
    default: Float[np.ndarray, " N"] = field(default_factory=lambda: STANDING)
    """Joint angles that observed angles are measured from, and absolute actions [rad]."""
    gains: Gains = GAINS
    action_scale: Float[np.ndarray, " N"] = field(default_factory=lambda: 0.25 * GAINS.effort / GAINS.kp)
    """What an action of 1 moves a joint's target by [rad]."""
    action: str = "residual"
    """"residual": actions are added to the reference's joint angles; "absolute": to `default`."""
    observation: ObservationSpec = ObservationSpec()
    control_hz: float = CONTROL_HZ

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise MotionloomError(f"No action {self.action!r}. Known: {', '.join(ACTIONS)}.")
        count = len(self.joint_names)
        for name, numbers in self._numbers().items():
            if numbers.shape != (count,) or not np.isfinite(numbers).all():
                raise MotionloomError(f"{name} should be {count} finite numbers, one per joint; got {numbers.shape}.")
        if not ((self.gains.kp > 0).all() and (self.action_scale > 0).all() and self.control_hz > 0):
            raise MotionloomError("kp, action_scale and control_hz should be above 0.")
        if not ((self.gains.effort > 0).all() and min(self.gains.kd.min(), self.gains.armature.min()) >= 0):
            raise MotionloomError("effort should be above 0, kd and armature at least 0.")

    def targets(
        self, action: Float[np.ndarray, "N J"], reference_joints: Float[np.ndarray, "N J"]
    ) -> Float[np.ndarray, "N J"]:
        """PD targets [rad] of an action; `reference_joints` are of the frame that the action leads to."""
        return self._origin(reference_joints) + self.action_scale * action

    def action_of(
        self, targets: Float[np.ndarray, "N J"], reference_joints: Float[np.ndarray, "N J"]
    ) -> Float[np.ndarray, "N J"]:
        """The action that leads to these PD targets: the inverse of `targets`."""
        return (targets - self._origin(reference_joints)) / self.action_scale

    @functools.cached_property
    def hash(self) -> str:
        """Of all of it: equal hashes mean that a policy can be exchanged."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "joint_names": list(self.joint_names),
            "action": self.action,
            "control_hz": self.control_hz,
            "observation": self.observation.to_json(),
            **{name: [float(x) for x in numbers] for name, numbers in self._numbers().items()},
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Contract:
        """The contract that `to_json` wrote; raises `MotionloomError` where something is missing or wrong."""
        try:
            numbers = {name: np.array(values[name], float) for name in _NUMBERS}
            return cls(
                joint_names=tuple(values["joint_names"]),
                default=numbers["default"],
                gains=Gains(*(numbers[name] for name in ("armature", "kp", "kd", "effort"))),
                action_scale=numbers["action_scale"],
                action=values["action"],
                observation=ObservationSpec.from_json(values["observation"]),
                control_hz=float(values["control_hz"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise MotionloomError(f"This is no contract of a policy ({error!r}).") from None

    def _origin(self, reference_joints: Float[np.ndarray, "N J"]) -> Float[np.ndarray, "..."]:
        return reference_joints if self.action == "residual" else self.default

    def _numbers(self) -> dict[str, np.ndarray]:
        gains = self.gains
        values = self.default, self.action_scale, gains.armature, gains.kp, gains.kd, gains.effort
        return dict(zip(_NUMBERS, values, strict=True))


_NUMBERS = ("default", "action_scale", "armature", "kp", "kd", "effort")
