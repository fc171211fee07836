"""Whole-body inverse kinematics of a clip: the host side of the kernel, and what to do where the motion would jump.

Quaternions are `[w x y z]` outside and `[x y z w]` on the device; positions go to the device relative to the base's target, so
single precision suffices.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import warp as wp
from jaxtyping import Float, Int

from corpus.robot import Robot
from retarget.kernel import solve_runs


@dataclass(frozen=True)
class SolverOptions:
    first_iterations: int = 60
    """Most Gauss-Newton steps for the first frame of a run, which starts from the rest posture."""
    iterations: int = 20
    """Most steps for every later frame, which starts from the frame before it."""
    tolerance: float = 1e-3
    """A frame is solved when no joint would move by more than this in the next step [rad]."""
    posture_weight: float = 0.6
    """Pull of every joint towards the rest posture [1/rad]; small, so that it decides only what the
    targets leave open (a straight arm's twist)."""
    run_length: int = 64
    """Frames solved one after another by a thread; the first of each run starts cold."""
    repairs: int = 4
    """Most rounds of joining runs that do not meet."""
    repair_jump: float = 0.1
    """Runs meet when no joint moves by more than this, and twice what it moves beside, between their ends [rad]."""
    wild_jump: float = 0.5
    """A jump inside a run beyond this is looked into as well [rad per frame]."""


@dataclass(frozen=True)
class Targets:
    """Where bodies should be, frame by frame, and how much each counts. K targets, each on its own body."""

    bodies: tuple[int, ...]
    position: Float[np.ndarray, "T K 3"]
    """World positions [m]."""
    rotation: Float[np.ndarray, "T K 4"]
    """World orientations `[w x y z]`."""
    position_weight: Float[np.ndarray, " K"]
    """[1/m]"""
    rotation_weight: Float[np.ndarray, " K"]
    """[1/rad]"""

    @property
    def frame_count(self) -> int:
        return len(self.position)


@dataclass(frozen=True)
class Solution:
    qpos: Float[np.ndarray, "T Q"]
    cost: Float[np.ndarray, " T"]
    """Weighted squared error at the solution, posture term included."""
    iterations: Int[np.ndarray, " T"]


def solve(
    robot: Robot,
    targets: Targets,
    options: SolverOptions = SolverOptions(),
    *,
    device: str = "cpu",
    rest: Float[np.ndarray, " N"] | None = None,
) -> Solution:
    """Solve every frame; body 0 (the base) must have a target, whose position centres the arithmetic.

    Every run of frames starts from the rest posture, so a frame's result does not hang on where the clip began. Where two
    runs do not meet, one of them sits in a worse minimum: it is solved again from its neighbour, and the cheaper stands.
    """
    if 0 not in targets.bodies:
        raise ValueError("Body 0, the base, needs a target.")
    problem = _Problem(robot, targets, options, device, np.zeros(robot.joint_count) if rest is None else rest)
    starts = np.arange(0, targets.frame_count, options.run_length)
    stops = np.minimum(starts + options.run_length, targets.frame_count)
    state = problem.run(starts, stops - starts, 1, problem.cold_start(starts), options.first_iterations)
    _mend_jumps(problem, state, options)
    qpos = np.empty((targets.frame_count, 7 + robot.joint_count))
    qpos[:, :3] = state.root_position + problem.centre
    qpos[:, 3:7] = state.root_rotation[:, [3, 0, 1, 2]]
    qpos[:, 7:] = state.joints
    return Solution(qpos, state.cost, state.iterations)


@dataclass
class _State:
    """Where the robot is in some frames: root relative to the frame's centre, quaternion in Warp's order."""

    root_position: Float[np.ndarray, "T 3"]
    root_rotation: Float[np.ndarray, "T 4"]
    joints: Float[np.ndarray, "T N"]
    cost: Float[np.ndarray, " T"]
    iterations: Int[np.ndarray, " T"]


class _Problem:
    """Targets and robot on the device; `run` solves any set of runs of frames, forwards or backwards in time."""

    def __init__(self, robot: Robot, targets: Targets, options: SolverOptions, device: str, rest: np.ndarray):
        self.robot, self.options, self.device, self.rest = robot, options, device, rest
        self.frame_count, self.base = targets.frame_count, targets.bodies.index(0)
        self.centre = targets.position[:, self.base].astype(np.float64)
        task_of_body = np.full(robot.body_count, -1, np.int32)
        task_of_body[list(targets.bodies)] = np.arange(len(targets.bodies))
        self.base_rotation = targets.rotation[:, self.base, [1, 2, 3, 0]].astype(np.float32)
        self.inputs = [
            *_device_model(robot, device),
            self._put(task_of_body, int),
            self._put(rest.astype(np.float32), float),
            self._put((targets.position - self.centre[:, None]).astype(np.float32), wp.vec3),
            self._put(targets.rotation[..., [1, 2, 3, 0]].astype(np.float32), wp.quat),
            self._put((targets.position_weight**2).astype(np.float32), float),
            self._put((targets.rotation_weight**2).astype(np.float32), float),
            self.base,
        ]

    def cold_start(self, frames: Int[np.ndarray, " R"]) -> _State:
        """The rest posture, the base at its target."""
        joints = np.clip(self.rest, self.robot.lower, self.robot.upper)
        count = len(frames)
        return _State(
            np.zeros((count, 3)),
            self.base_rotation[frames],
            np.tile(joints, (count, 1)),
            np.zeros(count),
            np.zeros(count),
        )

    def run(self, firsts: np.ndarray, lengths: np.ndarray, stride: int, start: _State, first_iterations: int) -> _State:
        """Solve `lengths[r]` frames from `firsts[r]` on, one after another; frames outside every run stay undefined."""
        device, joint_count, options = self.device, self.robot.joint_count, self.options
        root_position = wp.empty(self.frame_count, dtype=wp.vec3, device=device)  # pyright: ignore[reportArgumentType]
        root_rotation = wp.empty(self.frame_count, dtype=wp.quat, device=device)  # pyright: ignore[reportArgumentType]
        joints = wp.empty((self.frame_count, joint_count), dtype=float, device=device)
        cost = wp.empty(self.frame_count, dtype=float, device=device)
        iterations = wp.empty(self.frame_count, dtype=int, device=device)
        angle = np.concatenate([np.zeros((len(firsts), 1)), start.joints], 1).astype(np.float32)
        wp.launch(
            solve_runs,
            dim=len(firsts),
            inputs=[
                self._put(firsts.astype(np.int32), int), self._put(lengths.astype(np.int32), int), stride,
                self._put(start.root_position.astype(np.float32), wp.vec3),
                self._put(start.root_rotation.astype(np.float32), wp.quat),
                *self.inputs, first_iterations, options.iterations, options.tolerance, options.posture_weight**2,
                *_scratch(len(firsts), self.robot.body_count, device), self._put(angle, float),
            ],
            outputs=[root_position, root_rotation, joints, cost, iterations],
            device=device,
        )  # fmt: skip
        return _State(root_position.numpy(), root_rotation.numpy(), joints.numpy(), cost.numpy(), iterations.numpy())

    def _put(self, array: np.ndarray, dtype: type) -> wp.array:
        return wp.array(np.ascontiguousarray(array), dtype=dtype, device=self.device)


def _mend_jumps(problem: _Problem, state: _State, options: SolverOptions) -> None:
    """Where the motion jumps, try to carry either side's solution across; the cheaper stands, frame by frame."""
    run_starts = np.arange(options.run_length, problem.frame_count, options.run_length)
    settled = np.zeros(problem.frame_count, bool)
    for _ in range(options.repairs):
        jump = np.zeros(problem.frame_count)
        jump[1:] = np.abs(np.diff(state.joints, axis=0)).max(1)
        suspicious = jump > options.wild_jump
        around = np.maximum(jump[run_starts - 1], jump[np.minimum(run_starts + 1, problem.frame_count - 1)])
        suspicious[run_starts] |= jump[run_starts] > options.repair_jump + 2 * around
        broken = np.flatnonzero(suspicious & ~settled)
        if not len(broken):
            return
        settled[broken] = True
        for stride in (1, -1):
            for changed in _carry_across(problem, state, broken, stride):
                settled[changed.min() : changed.max() + 2] = False


def _carry_across(problem: _Problem, state: _State, broken: np.ndarray, stride: int) -> Iterator[np.ndarray]:
    """Solve on from the frame before each jump into what lies behind it (or backwards); gives the frames that won."""
    leaders, firsts = (broken - 1, broken) if stride == 1 else (broken, broken - 1)
    room = problem.frame_count - firsts if stride == 1 else firsts + 1
    lengths = np.minimum(problem.options.run_length, room)
    start = _State(
        state.root_position[leaders], state.root_rotation[leaders], state.joints[leaders], *[np.zeros(0)] * 2
    )
    other = problem.run(firsts, lengths, stride, start, problem.options.iterations)
    for first, length in zip(firsts, lengths, strict=True):
        frames = first + stride * np.arange(length)
        better = other.cost[frames] < state.cost[frames] * 0.999 - 1e-4
        frames = frames[: length if better.all() else int(np.argmin(better))]
        if len(frames):
            for name in ("root_position", "root_rotation", "joints", "cost", "iterations"):
                getattr(state, name)[frames] = getattr(other, name)[frames]
            yield frames


def _device_model(robot: Robot, device: str) -> tuple[wp.array, ...]:
    """The robot's tree on the device, kept from call to call."""
    key = (id(robot), device)
    if key not in _MODELS:

        def put(array: np.ndarray, dtype: type) -> wp.array:
            return wp.array(np.ascontiguousarray(array), dtype=dtype, device=device)

        axis = np.concatenate([np.zeros((1, 3)), robot.joint_axis]).astype(np.float32)
        arrays = (
            put(np.array(robot.parents, np.int32), int),
            put(robot.body_offset.astype(np.float32), wp.vec3),
            put(robot.body_rotation[:, [1, 2, 3, 0]].astype(np.float32), wp.quat),
            put(axis, wp.vec3),
            put(robot.lower.astype(np.float32), float),
            put(robot.upper.astype(np.float32), float),
        )
        _MODELS[key] = (robot, arrays)
    return _MODELS[key][1]


# The robot is kept beside its arrays so that its id stays taken.
_MODELS: dict[tuple[int, str], tuple[Robot, tuple[wp.array, ...]]] = {}


def _scratch(run_count: int, body_count: int, device: str) -> list[wp.array]:
    shape = (run_count, body_count)
    kinds = [wp.quat, wp.vec3, wp.vec3, wp.vec3, wp.mat33, wp.mat33, wp.mat33, *[wp.vec3] * 8, float, float, float]
    return [wp.empty(shape, dtype=kind, device=device) for kind in kinds]
