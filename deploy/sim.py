"""A G1 in MuJoCo that takes `LowCmd` and gives `LowState`, as the robot does: motors, sensors, a rope to hang from at the start.

Made of the trainer's physics (`deploy.physics`), but a motor here obeys each command's own gains. Commands that stop coming leave
the last one in force for ever: whether the real robot's motors let go by themselves is not known, so nothing relies on it.
"""

# MuJoCo's package tells a type checker nothing of its classes.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from corpus import rotations
from corpus.errors import MotionloomError
from corpus.g1 import G1
from deploy.contract import GAINS, STANDING
from deploy.messages import JOINTS, LowCmd, LowState
from deploy.physics import Physics, build_model
from deploy.rope import Rope

GRAVITY = 9.81
MOTOR_TEMPERATURE = 30.0
"""[°C]; motors here stay as they are."""


@dataclass(frozen=True)
class SensorNoise:
    """Largest error of each sensor, evenly spread: what training's randomisation draws from."""

    joint_position: float = 0.01
    """[rad]"""
    joint_speed: float = 0.5
    """[rad/s]"""
    angular_velocity: float = 0.2
    """[rad/s]"""
    rotation: float = 0.02
    """Of the pelvis, about any axis [rad]."""
    acceleration: float = 0.5
    """[m/s²]"""


@dataclass(frozen=True)
class SimOptions:
    """Which robot stands or hangs there."""

    physics: Physics = Physics()
    mode_machine: int = 5
    """What the robot calls itself; commands that do not echo it are ignored and counted."""
    heading: float = 0.0
    """Of the robot at the start, in its sensors' world [rad]."""
    rope: str = "auto"
    """One of `ROPES`."""
    release_s: float = 3.0
    """"auto" lets the robot down once its legs' motors have held for so long [s]."""
    noise: SensorNoise | None = None
    seed: int = 0
    """Of the noise."""


ROPES = ("auto", "never", "always")
"""Hangs on a rope, which lets it down once its motors hold; stands on the floor, where time stands still until the first command
that holds it; hangs for ever."""


class Simulator:
    """The robot and its world; moves only when asked to, so that a test may run it on any clock."""

    def __init__(self, options: SimOptions = SimOptions()):
        import mujoco

        if options.rope not in ROPES:
            raise MotionloomError(f"No rope {options.rope!r}. Known: {', '.join(ROPES)}.")
        self.options = options
        self.model = build_model(GAINS, options.physics)
        self.model.actuator_gainprm[:, 0] = 1  # a control is a torque; gains come with each command
        self.data = mujoco.MjData(self.model)
        self.refused: Counter[str] = Counter()
        """Commands that were ignored, by reason: mode_machine, not_finite."""
        self.command: LowCmd | None = None
        """The one in force."""
        self.steps = 0
        self.rope = None if options.rope == "never" else Rope(self.model)
        self._acceleration = np.array([0.0, 0.0, GRAVITY])
        self._rng = np.random.default_rng(options.seed)
        self._held_s = 0.0
        self._place()
        self._obey(None)

    @property
    def time_s(self) -> float:
        """Since the start [s]."""
        return self.steps * self.options.physics.timestep_s

    @property
    def qpos(self) -> Float[np.ndarray, " 36"]:
        """Where the robot truly is."""
        return self.data.qpos.copy()

    @property
    def qvel(self) -> Float[np.ndarray, " 35"]:
        """As MuJoCo has it: the root's velocity in the world [m/s], its turning in its own frame, the joints' speeds [rad/s]."""
        return self.data.qvel.copy()

    def advance(self, command: LowCmd | None = None, *, steps: int = 1) -> LowState:
        """Let physics steps pass under this command, or without one under the last; what the sensors say then."""
        if command is not None and self._accepts(command):
            self.command = command
            self._obey(command)
        for _ in range(steps):
            self._step()
        return self.measure()

    def measure(self) -> LowState:
        """What the sensors say now."""
        data, noise = self.data, self._noise
        turned = rotations.from_rotation_vector(noise("rotation", 3))
        return LowState(
            tick=round(self.time_s * 1000),
            mode_machine=self.options.mode_machine,
            joint_position=data.qpos[7:] + noise("joint_position", JOINTS),
            joint_speed=data.qvel[6:] + noise("joint_speed", JOINTS),
            torque=data.actuator_force.copy(),
            root_rotation=rotations.multiply(rotations.normalise(data.qpos[3:7]), turned),
            angular_velocity=data.qvel[3:6] + noise("angular_velocity", 3),
            acceleration=self._acceleration + noise("acceleration", 3),
            temperature=np.full(JOINTS, MOTOR_TEMPERATURE),
            motor_fault=np.zeros(JOINTS, int),
        )

    def _accepts(self, command: LowCmd) -> bool:
        if command.mode_machine != self.options.mode_machine:
            self.refused["mode_machine"] += 1
            return False
        numbers = command.joint_position, command.joint_speed, command.torque, command.kp, command.kd
        if not np.isfinite(np.concatenate(numbers)).all():
            self.refused["not_finite"] += 1
            return False
        return True

    def _obey(self, command: LowCmd | None) -> None:
        """Set each motor to torque = kp·(position − q) + kd·(speed − dq) + torque; those that are off to nothing.

        What depends on q and dq goes into the actuator's bias, so that MuJoCo integrates the damping implicitly."""
        bias = self.model.actuator_biasprm
        bias[:, :3] = 0
        self.data.ctrl[:] = 0
        if command is not None:
            kp, kd = command.kp * command.enabled, command.kd * command.enabled
            bias[:, 1], bias[:, 2] = -kp, -kd
            asked = kp * command.joint_position + kd * command.joint_speed + command.torque
            self.data.ctrl[:] = asked * command.enabled

    def _step(self) -> None:
        import mujoco

        self.steps += 1
        if self.rope is None and self.command is None:
            return  # nothing holds the robot yet
        if self.rope is not None:
            self.rope.pull(self.data)
            self._release()
        before = self.data.qvel[:3].copy()
        mujoco.mj_step(self.model, self.data)
        if not np.isfinite(self.data.qpos).all():
            raise MotionloomError(f"The simulation has blown up at {self.time_s:.3f} s.")
        # What an accelerometer feels over the step; the contact forces within it are as jumpy as in the real one.
        felt = (self.data.qvel[:3] - before) / self.model.opt.timestep + [0, 0, GRAVITY]
        self._acceleration = rotations.rotate(rotations.conjugate(self.data.qpos[3:7]), felt)

    def _release(self) -> None:
        """Let the rope go once the legs' motors have held for long enough."""
        command, timestep_s = self.command, self.options.physics.timestep_s
        holds = command is not None and bool((command.kp * command.enabled)[_LEGS].min() > 0)
        self._held_s = self._held_s + timestep_s if holds else 0.0
        if self.rope is not None and self.options.rope == "auto" and self._held_s >= self.options.release_s:
            self.rope.release()

    def _place(self) -> None:
        """Upright in the stance, on the floor or on the rope."""
        import mujoco

        data = self.data
        data.qpos[:3], data.qpos[3:7] = 0, rotations.about_z(np.array(self.options.heading))
        data.qpos[7:] = STANDING
        mujoco.mj_kinematics(self.model, data)
        data.qpos[2] = -_lowest(self.model, data)
        if self.rope is not None:
            self.rope.hang(data)
        mujoco.mj_forward(self.model, data)

    def _noise(self, name: str, count: int) -> Float[np.ndarray, " N"]:
        noise = self.options.noise
        return np.zeros(count) if noise is None else getattr(noise, name) * self._rng.uniform(-1, 1, count)


_LEGS = [i for i, name in enumerate(G1.joint_names) if any(part in name for part in ("hip", "knee", "ankle"))]


def _lowest(model, data) -> float:
    """Height of the lowest point of the soles [m]."""
    names = [model.site(i).name for i in range(model.nsite)]
    return min(data.site(name).xpos[2] for name in names if "heel" in name or "toe" in name)
