"""Retarget human motion to a robot: targets, whole-body inverse kinematics, ground; one clip at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from corpus import rotations
from corpus.errors import Rejected
from corpus.g1 import G1
from corpus.motion import CORPUS_FPS, HumanMotion, RobotMotion
from corpus.posture import Postures, postures
from corpus.robot import Robot
from retarget.ground import GroundOptions, ground_targets, lift_off_floor
from retarget.solver import Solution, SolverOptions, Targets, solve, solve_clips
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
    outside: Postures
    """Where the robot's soles and lowest points are, and how its capsules overlap, frame by frame."""
    position_error: Float[np.ndarray, " T"]
    """Mean distance of the position targets that count from their bodies, before grounding [m]."""
    orientation_error: Float[np.ndarray, " T"]
    """Mean angle between target and body [rad]."""
    scale: float | None
    """Robot leg length / human leg length; None for motion that came on the robot."""
    lift: Float[np.ndarray, " T"]
    """How far the grounding moved each frame upwards [m]."""


def retarget(human: HumanMotion, robot: Robot = G1, options: RetargetOptions = RetargetOptions()) -> Retargeted:
    """The robot's motion that follows a person's, at `options.fps`, standing on z = 0; contacts are left open.

    Raises `Rejected` where the skeleton is unknown or the body's proportions are no person's.
    """
    done = retarget_clips([human], robot, options)[0]
    if isinstance(done, Rejected):
        raise done
    return done


def retarget_clips(
    humans: Sequence[HumanMotion], robot: Robot = G1, options: RetargetOptions = RetargetOptions()
) -> list[Retargeted | Rejected]:
    """Several clips in one go, each exactly as alone; a clip that cannot be retargeted gives its reason."""
    aims = [_aim(human, robot, options) for human in humans]
    aimed = [aim for aim in aims if not isinstance(aim, Rejected)]
    if not aimed:
        return [aim for aim in aims if isinstance(aim, Rejected)]
    solutions = solve_clips(robot, [aim.targets for aim in aimed], options.solver)
    outside = postures(robot, np.concatenate([solution.qpos for solution in solutions]))
    done, start = [], 0
    for aim, solution in zip(aimed, solutions, strict=True):
        stop = start + len(solution.qpos)
        done.append(_stand(aim, solution, outside.slice(start, stop), options))
        start = stop
    left = iter(done)
    return [aim if isinstance(aim, Rejected) else next(left) for aim in aims]


@dataclass(frozen=True)
class _Aim:
    """What the solver is asked for."""

    targets: Targets
    scale: float
    shift: float
    """How far the floor's height moved the targets upwards [m]."""
    note: str


def _aim(human: HumanMotion, robot: Robot, options: RetargetOptions) -> _Aim | Rejected:
    if human.frame_count * options.fps / human.fps > MAX_FRAMES:
        return Rejected("too_long", frames=human.frame_count, maximum=MAX_FRAMES)
    try:
        targets, scale = build_targets(human, robot, options.fps)
    except Rejected as rejected:
        return rejected
    if targets.frame_count < 2:
        return Rejected("too_short", "fewer than two frames at the corpus rate", frames=human.frame_count, minimum=2)
    targets, shift = ground_targets(targets, robot, options.fps, options.ground)
    return _Aim(targets, scale, shift, human.note)


def _stand(aim: _Aim, solution: Solution, outside: Postures, options: RetargetOptions) -> Retargeted:
    """Lift what sinks into the floor."""
    lift = lift_off_floor(outside.lowest, options.fps, options.ground)
    qpos = solution.qpos
    qpos[:, 3:7] = rotations.continuous(qpos[:, 3:7])
    qpos[:, 2] += lift
    return Retargeted(
        motion=RobotMotion(qpos.astype(np.float32), options.fps, note=aim.note),
        outside=outside.lifted(lift),
        position_error=solution.position_error,
        orientation_error=solution.orientation_error,
        scale=aim.scale,
        lift=aim.shift + lift,
    )


def warm_up() -> None:
    """Compile the kernels once, so that processes started afterwards find it in Warp's cache."""
    rest = np.zeros((2, 1, 3)), np.tile([1.0, 0.0, 0.0, 0.0], (2, 1, 1))
    solution = solve(G1, Targets((0,), *rest, np.ones(1), np.ones(1)))
    postures(G1, solution.qpos)
