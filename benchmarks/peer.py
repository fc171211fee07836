"""The peer: whole-body IK of GMR's kind, one frame after another with mink and daqp, on our own targets.

Facts of the peer (github.com/YanjieZe/GMR, MIT; settings of its SMPL-X → G1 table): two stages per frame, each a
weighted set of frame tasks with Levenberg-Marquardt damping 1; solver daqp, damping 0.5, joint limits, at most 1 + 10
steps a stage, another step while the error fell by more than 0.001; the next frame starts where the last one ended.
Stage one weighs the positions of pelvis and feet, stage two nearly all. Targets are on the bodies ours are on, so both
solve the same problem. It runs on the model of `corpus`, without the optional velocity limit, which only slows it.
"""

# MuJoCo's package tells a type checker nothing of its classes.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import time
from dataclasses import dataclass

import mink  # pyright: ignore[reportMissingImports]
import mujoco
import numpy as np
from jaxtyping import Float

from corpus.robot import Robot
from retarget.solver import Targets

SOLVER, DAMPING, TASK_DAMPING = "daqp", 0.5, 1.0
MAX_FURTHER_STEPS, LEAST_PROGRESS = 10, 0.001

STAGES: tuple[dict[str, tuple[float, float]], ...] = (
    {"pelvis": (100, 10), "ankle": (100, 10), "": (0, 10)},
    {"pelvis": (100, 5), "ankle": (100, 50), "torso": (0, 10), "": (10, 5)},
)
"""Per stage: position and orientation weight of the bodies whose name holds the word; "" is every other body."""


@dataclass(frozen=True)
class PeerRun:
    qpos: Float[np.ndarray, "T Q"]
    core_seconds: float
    """CPU time of the process in the loop over the frames after the warm-up."""
    timed_frames: int
    solves: int
    """Quadratic programmes solved in the timed frames."""

    @property
    def frames_per_core_second(self) -> float:
        return self.timed_frames / self.core_seconds


def solve_like_gmr(robot: Robot, targets: Targets, *, warm_up_frames: int = 5) -> PeerRun:
    """Solve all frames in order; the first `warm_up_frames` are not timed. Setting the targets is not timed either."""
    model = mujoco.MjModel.from_xml_path(str(robot.mjcf))
    configuration = mink.Configuration(model)
    stages = [_tasks(robot, targets, weights) for weights in STAGES]
    limits = [mink.ConfigurationLimit(model)]
    qpos = np.empty((targets.frame_count, model.nq))
    core_seconds, solves = 0.0, 0
    warm_up_frames = min(warm_up_frames, targets.frame_count - 1)
    for frame in range(targets.frame_count):
        _set_targets(stages, targets, frame)
        start = time.process_time()
        count = sum(_descend(configuration, tasks, limits) for tasks in stages)
        if frame >= warm_up_frames:
            core_seconds += time.process_time() - start
            solves += count
        qpos[frame] = configuration.q
    return PeerRun(qpos, core_seconds, targets.frame_count - warm_up_frames, solves)


def _tasks(robot: Robot, targets: Targets, weights: dict[str, tuple[float, float]]) -> list[mink.FrameTask]:
    tasks = []
    for body in targets.bodies:
        name = robot.body_names[body]
        position, orientation = next(w for word, w in weights.items() if word in name)
        tasks.append(mink.FrameTask(name, "body", position, orientation, lm_damping=TASK_DAMPING))
    return tasks


def _set_targets(stages: list[list[mink.FrameTask]], targets: Targets, frame: int) -> None:
    for k in range(len(targets.bodies)):
        pose = mink.SE3.from_rotation_and_translation(mink.SO3(targets.rotation[frame, k]), targets.position[frame, k])
        for tasks in stages:
            tasks[k].set_target(pose)


def _descend(configuration: mink.Configuration, tasks: list[mink.FrameTask], limits: list) -> int:
    """Step until the error falls no further; gives the number of steps."""
    dt = configuration.model.opt.timestep
    error, steps = _error(configuration, tasks), 0
    while True:
        velocity = mink.solve_ik(configuration, tasks, dt, SOLVER, DAMPING, limits=limits)
        configuration.integrate_inplace(velocity, dt)
        steps += 1
        error, before = _error(configuration, tasks), error
        if before - error <= LEAST_PROGRESS or steps > MAX_FURTHER_STEPS:
            return steps


def _error(configuration: mink.Configuration, tasks: list[mink.FrameTask]) -> float:
    return float(np.linalg.norm(np.concatenate([task.compute_error(configuration) for task in tasks])))
