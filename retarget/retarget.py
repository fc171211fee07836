"""Retarget human motion to a robot: targets, whole-body inverse kinematics, ground; one clip at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from corpus import rotations
from corpus.errors import Rejected
from corpus.g1 import G1
from corpus.motion import CORPUS_FPS, HumanMotion, RobotMotion
from corpus.robot import Robot, forward_kinematics
from retarget.ground import GroundOptions, ground_targets, lift_off_floor
from retarget.solver import SolverOptions, Targets, solve
from retarget.targets import build_targets

MAX_FRAMES = 1_000_000
"""Longest clip taken, at 50 Hz (5.5 hours): more is a broken header."""


@dataclass(frozen=True)
class RetargetOptions:
    fps: float = CORPUS_FPS
    """Rate of the robot's motion [Hz]."""
    solver: SolverOptions = SolverOptions()
    ground: GroundOptions = GroundOptions()


@dataclass(frozen=True)
class Retargeted:
    motion: RobotMotion
    position_error: Float[np.ndarray, " T"]
    """Mean distance of the position targets that count from their bodies [m]."""
    orientation_error: Float[np.ndarray, " T"]
    """Mean angle between target and body [rad]."""
    scale: float
    """Robot leg length / human leg length."""
    lift: Float[np.ndarray, " T"]
    """How far the grounding moved each frame upwards [m]."""


def retarget(human: HumanMotion, robot: Robot = G1, options: RetargetOptions = RetargetOptions()) -> Retargeted:
    """The robot's motion that follows a person's, at `options.fps`, standing on z = 0; contacts are left open.

    Raises `Rejected` where the skeleton is unknown or the body's proportions are no person's.
    """
    if human.frame_count * options.fps / human.fps > MAX_FRAMES:
        raise Rejected("too_long", frames=human.frame_count, maximum=MAX_FRAMES)
    targets, scale = build_targets(human, robot, options.fps)
    if targets.frame_count < 2:
        raise Rejected("too_short", "fewer than two frames at the corpus rate", frames=human.frame_count, minimum=2)
    targets, shift = ground_targets(targets, robot, options.fps, options.ground)
    qpos = solve(robot, targets, options.solver).qpos
    qpos[:, 3:7] = rotations.continuous(qpos[:, 3:7])
    position, rotation = forward_kinematics(robot, qpos)
    position_error, orientation_error = target_errors(targets, position, rotation)
    lift = lift_off_floor(robot, position, rotation, options.fps, options.ground)
    qpos[:, 2] += lift
    motion = RobotMotion(qpos.astype(np.float32), options.fps, note=human.note)
    return Retargeted(motion, position_error, orientation_error, scale, shift + lift)


def warm_up() -> None:
    """Compile the kernel once, so that processes started afterwards find it in Warp's cache."""
    rest = np.zeros((2, 1, 3)), np.tile([1.0, 0.0, 0.0, 0.0], (2, 1, 1))
    solve(G1, Targets((0,), *rest, np.ones(1), np.ones(1)))


def target_errors(
    targets: Targets, position: Float[np.ndarray, "T B 3"], rotation: Float[np.ndarray, "T B 4"]
) -> tuple[Float[np.ndarray, " T"], Float[np.ndarray, " T"]]:
    """Mean position [m] and orientation error [rad] over the targets with a weight."""
    bodies = np.array(targets.bodies)
    placed, turned = targets.position_weight > 0, targets.rotation_weight > 0
    distance = np.linalg.norm(position[:, bodies[placed]] - targets.position[:, placed], axis=2)
    dot = np.abs((rotation[:, bodies[turned]] * targets.rotation[:, turned]).sum(2))
    return distance.mean(1), 2 * np.arccos(np.minimum(dot, 1.0)).mean(1)
