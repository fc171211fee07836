"""Domain randomisation: in what each environment's robot, start, sensors and pushes differ, as a function of (seed, environment, step).

What an environment meets depends neither on when the run was resumed nor on the others beside it.
"""

# MuJoCo's package tells a type checker nothing of its classes.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from corpus import rotations
from corpus.errors import MotionloomError
from corpus.g1 import G1
from deploy.observation import RobotState
from trainer.random_numbers import uniform

Range = tuple[float, float]
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Randomisation:
    """Ranges of uniform draws; each field's default leaves things as they are. What is drawn once belongs to an environment
    for good, as a robot has its own motors."""

    friction: Range | None = None
    """Sliding friction of floor and robot, drawn once; None keeps the model's. Of the floor too, since of two that touch MuJoCo takes
    the rougher. 0.3 to 1.2 in mjlab's tracking."""
    torso_mass: Range = (0.0, 0.0)
    """Added to the torso [kg], drawn once; its inertia grows in proportion. −1 to 1 in MuJoCo Playground's G1."""
    torso_centre: Triple = (0.0, 0.0, 0.0)
    """Most by which the torso's centre of mass is moved along each of its axes [m], drawn once; the figures are BeyondMimic's."""
    kp: Range = (1.0, 1.0)
    """Factor on each motor's stiffness, drawn once. 0.9 to 1.1 in Holosoma."""
    kd: Range = (1.0, 1.0)
    """Factor on each motor's damping, likewise."""
    effort: Range = (1.0, 1.0)
    """Factor on each motor's torque limit, drawn once. Our own: hot motors give less, none gives more."""
    armature: Range = (1.0, 1.0)
    """Factor on each joint's armature, drawn once. 1 to 1.05 in MuJoCo Playground."""
    joint_offset: float = 0.0
    """Most by which a joint's encoder is off [rad], drawn once. 0.01 in BeyondMimic and mjlab."""
    delayed: float = 0.0
    """Share of the environments in which targets arrive one control step late. BeyondMimic and Holosoma's tracking have none."""
    push_interval_s: Range | None = None
    """Least and most time from one push to the next [s]; None never pushes. 1 to 3 in BeyondMimic."""
    push_linear: Triple = (0.0, 0.0, 0.0)
    """Most by which a push changes the root's velocity along the world's axes [m/s]; the figures are BeyondMimic's."""
    push_turning: Triple = (0.0, 0.0, 0.0)
    """The same of its angular velocity about its own axes [rad/s]."""
    start_position: Triple = (0.0, 0.0, 0.0)
    """Most by which the root starts off the reference along the world's axes [m]; starts are BeyondMimic's too."""
    start_rotation: Triple = (0.0, 0.0, 0.0)
    """Most by which it starts turned about its own axes [rad]."""
    start_linear: Triple = (0.0, 0.0, 0.0)
    """Most by which its velocity differs [m/s]."""
    start_turning: Triple = (0.0, 0.0, 0.0)
    """Most by which its angular velocity differs [rad/s]."""
    start_joints: float = 0.0
    """Most by which each joint starts off the reference, within its limits [rad]."""
    noise_joint_position: float = 0.0
    """Most by which a joint's angle is measured wrong, anew at every step [rad]. 0.01 in BeyondMimic."""
    noise_joint_speed: float = 0.0
    """The same of a joint's speed [rad/s]. 0.5 in BeyondMimic."""
    noise_turning: float = 0.0
    """The same of each component of the root's angular velocity [rad/s]. 0.2 in BeyondMimic."""
    noise_rotation: float = 0.0
    """The same of the root's orientation, about each of its axes [rad]; gravity and the reference are seen from it. For BeyondMimic's
    0.05 of the components of the orientation between robot and reference."""

    def __post_init__(self) -> None:
        for name, least in (("friction", 0.0), ("kp", 0.0), ("kd", 0.0), ("effort", 0.0), ("armature", 0.0),
                            ("torso_mass", -np.inf), ("push_interval_s", 0.0)):  # fmt: skip
            low, high = getattr(self, name) or (1.0, 1.0)
            if not (least <= low <= high < np.inf and high > least):
                raise MotionloomError(f"{name} {getattr(self, name)}: should be two numbers from {least} on that rise.")
        if not 0 <= self.delayed <= 1:
            raise MotionloomError(f"delayed {self.delayed}: should be a share from 0 to 1.")

    @property
    def varies_model(self) -> bool:
        """Do robots differ in what their MuJoCo model says?"""
        return any(getattr(self, name) != getattr(NONE, name) for name in OF_MODEL)


OF_MODEL = ("friction", "torso_mass", "torso_centre", "kp", "kd", "effort", "armature")
"""Fields that `vary_model` draws from."""

NONE = Randomisation()

TRAINING = Randomisation(
    friction=(0.3, 1.2),
    torso_mass=(-1.0, 1.0),
    torso_centre=(0.025, 0.05, 0.05),
    kp=(0.9, 1.1),
    kd=(0.9, 1.1),
    effort=(0.9, 1.0),
    armature=(1.0, 1.05),
    joint_offset=0.01,
    push_interval_s=(1.0, 3.0),
    push_linear=(0.5, 0.5, 0.2),
    push_turning=(0.52, 0.52, 0.78),
    start_position=(0.05, 0.05, 0.01),
    start_rotation=(0.1, 0.1, 0.2),
    start_linear=(0.5, 0.5, 0.2),
    start_turning=(0.52, 0.52, 0.78),
    start_joints=0.1,
    noise_joint_position=0.01,
    noise_joint_speed=0.5,
    noise_turning=0.2,
    noise_rotation=0.05,
)
"""As the field trains trackers of the G1."""

LIGHT = Randomisation(
    start_position=(0.02, 0.02, 0.005),
    start_rotation=(0.02, 0.02, 0.1),
    start_linear=(0.1, 0.1, 0.05),
    start_turning=(0.1, 0.1, 0.1),
    start_joints=0.03,
    noise_joint_position=0.01,
    noise_joint_speed=0.5,
    noise_turning=0.2,
    noise_rotation=0.02,
)
"""Sensors as noisy as in training, starts less so, one and the same robot, no pushes: what is learnt in minutes. A start 0.1 m/s off moves
the capture point by 0.1 / √(9.81 / 0.6) = 2.5 cm, which a robot whose centre of mass is 3 cm from its toes can still stand out."""

PRESETS = {"none": NONE, "light": LIGHT, "training": TRAINING}


# --- the robot: drawn once per environment


def vary_model(model: Any, randomisation: Randomisation, seed: int, env: int) -> Any:
    """A copy of an `MjModel` of `deploy.physics` as this environment has it, the constants that MuJoCo derives made anew."""
    import mujoco

    r, varied, motors = randomisation, copy.copy(model), model.nu
    numbers = uniform(seed, "model", 0, [env], 5 + 4 * motors)[0]
    kp, kd, effort, armature = numbers[5:].reshape(4, motors)
    torso = model.body("torso_link").id
    if r.friction is not None:
        varied.geom_friction[:, 0] = _within(r.friction, numbers[0])
    growth = 1 + _within(r.torso_mass, numbers[1]) / model.body_mass[torso]
    varied.body_mass[torso] *= growth
    varied.body_inertia[torso] *= growth
    varied.body_ipos[torso] += _about(r.torso_centre, numbers[2:5])
    stiffness = _within(r.kp, kp)
    varied.actuator_gainprm[:, 0] *= stiffness
    varied.actuator_biasprm[:, 1] *= stiffness
    varied.actuator_biasprm[:, 2] *= _within(r.kd, kd)
    varied.actuator_forcerange *= _within(r.effort, effort)[:, None]
    varied.dof_armature[model.jnt_dofadr[model.actuator_trnid[:, 0]]] *= _within(r.armature, armature)
    mujoco.mj_setConst(varied, mujoco.MjData(varied))
    return varied


VARIED = (
    "geom_friction", "body_mass", "body_inertia", "body_ipos", "actuator_gainprm", "actuator_biasprm", "actuator_forcerange",
    "dof_armature", "body_subtreemass", "body_invweight0", "dof_invweight0", "actuator_acc0",
)  # fmt: skip
"""The model's fields that `vary_model` changes: what it draws, and what the dynamics use of the constants derived from it."""


def varied_fields(
    model: Any, randomisation: Randomisation, seed: int, envs: Sequence[int] | Int[np.ndarray, " N"]
) -> dict[str, Float[np.ndarray, "N ..."]]:
    """The same numbers as `vary_model`'s, field by field, a row per environment; only of fields that differ from the model's."""
    rows: dict[str, list[np.ndarray]] = {name: [] for name in VARIED}
    for env in envs:
        varied = vary_model(model, randomisation, seed, int(env))
        for name in VARIED:
            rows[name].append(getattr(varied, name).copy())
    return {name: np.stack(of) for name, of in rows.items() if any((row != getattr(model, name)).any() for row in of)}


def joint_offsets(randomisation: Randomisation, seed: int, envs: Int[np.ndarray, " R"]) -> Float[np.ndarray, "R 29"]:
    """By how much each encoder is off [rad]: the robot reads `joint + offset`, and its motors drive to `target − offset`."""
    numbers = _kept(seed, "offset", 0, envs, len(G1.joint_names))
    return randomisation.joint_offset * (2 * numbers - 1)


def delayed(randomisation: Randomisation, seed: int, envs: Int[np.ndarray, " R"]) -> Bool[np.ndarray, " R"]:
    """Do targets arrive one control step late?"""
    return uniform(seed, "delay", 0, envs, 1)[:, 0] < randomisation.delayed


# --- what happens at a step, counted from the run's beginning


def pushes(
    randomisation: Randomisation, seed: int, step: int, envs: Int[np.ndarray, " R"], *, control_hz: float = 50.0
) -> Float[np.ndarray, "R 6"]:
    """What to add to the root's six velocities at this step; zero where no push is due.

    Time is cut into stretches of the mean interval, in each environment from another moment on. Each stretch has one push,
    drawn anywhere in its first part, which is as long as leaves two pushes between the least and the most interval apart.
    """
    if randomisation.push_interval_s is None:
        return np.zeros((len(envs), 6))
    least, most = (seconds * control_hz for seconds in randomisation.push_interval_s)
    stretch = max(1, round((least + most) / 2))
    part = min(round((most - least) / 2) + 1, stretch)
    time = step + np.floor(_kept(seed, "phase", 0, envs, 1)[:, 0] * stretch).astype(int)
    number, place = np.divmod(time, stretch)
    first = int(number.min(initial=number.max(initial=0)))  # they are of two stretches at most
    moments = np.concatenate([_kept(seed, "moment", first + later, envs, 1) for later in (0, 1)], 1)
    due = np.floor(moments[np.arange(len(envs)), number - first] * part) == place
    kick = np.zeros((len(envs), 6))
    kick[due] = 2 * uniform(seed, "push", step, envs[due], 6) - 1
    return kick * (*randomisation.push_linear, *randomisation.push_turning)


def varied_start(
    randomisation: Randomisation,
    seed: int,
    step: int,
    envs: Int[np.ndarray, " R"],
    qpos: Float[np.ndarray, "R 36"],
    qvel: Float[np.ndarray, "R 35"],
) -> tuple[Float[np.ndarray, "R 36"], Float[np.ndarray, "R 35"]]:
    """Where environments that begin at this step do so instead; joints stay within their limits, or as far out as they were."""
    r, qpos, qvel = randomisation, np.array(qpos, float), np.array(qvel, float)
    numbers = 2 * uniform(seed, "start", step, envs, 12 + len(G1.joint_names)) - 1
    joints = qpos[:, 7:]
    low, high = np.minimum(G1.lower, joints), np.maximum(G1.upper, joints)
    qpos[:, :3] += numbers[:, :3] * r.start_position
    qpos[:, 3:7] = rotations.multiply(qpos[:, 3:7], rotations.from_rotation_vector(numbers[:, 3:6] * r.start_rotation))
    qvel[:, :6] += numbers[:, 6:12] * (*r.start_linear, *r.start_turning)
    qpos[:, 7:] = np.clip(joints + r.start_joints * numbers[:, 12:], low, high)
    return qpos, qvel


def measured(
    state: RobotState, randomisation: Randomisation, seed: int, step: int, envs: Int[np.ndarray, " R"]
) -> RobotState:
    """What sensors say of the true state at this step: encoders' offsets, and noise."""
    r, joints = randomisation, len(G1.joint_names)
    numbers = 2 * uniform(seed, "noise", step, envs, 2 * joints + 6) - 1
    position, speed, turning, lean = np.split(numbers, [joints, 2 * joints, 2 * joints + 3], 1)
    tilt = rotations.from_rotation_vector(r.noise_rotation * lean)
    return replace(
        state,
        joint_position=state.joint_position + joint_offsets(r, seed, envs) + r.noise_joint_position * position,
        joint_speed=state.joint_speed + r.noise_joint_speed * speed,
        root_rotation=rotations.multiply(state.root_rotation, tilt),
        angular_velocity=state.angular_velocity + r.noise_turning * turning,
    )


def _kept(seed: int, purpose: str, event: int, envs: Int[np.ndarray, " R"], count: int) -> Float[np.ndarray, "R count"]:
    """As `uniform`, kept in memory: asked for again at every step."""
    return _drawn(seed, purpose, event, np.asarray(envs, np.int64).tobytes(), count)


@functools.lru_cache(maxsize=64)
def _drawn(seed: int, purpose: str, event: int, envs: bytes, count: int) -> Float[np.ndarray, "R count"]:
    numbers = uniform(seed, purpose, event, np.frombuffer(envs, np.int64), count)
    numbers.flags.writeable = False
    return numbers


def _within(limits: Range, number: np.ndarray) -> np.ndarray:
    return limits[0] + (limits[1] - limits[0]) * number


def _about(most: Triple, numbers: np.ndarray) -> np.ndarray:
    return np.asarray(most) * (2 * numbers - 1)
