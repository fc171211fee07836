"""Whole-body inverse kinematics of clips: the host side of the kernel, and what to do where a motion would jump.

Quaternions are `[w x y z]`; positions go to the device relative to the base's target, so single precision suffices.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import warp as wp
from jaxtyping import Bool, Float, Int
from scipy.spatial.transform import Rotation

from corpus.lanes import LANES_CPU
from corpus.posture import lane_tree, outline
from corpus.robot import Robot
from corpus.warp_tools import device_array, ready
from retarget import kernel

GPU_THREADS = 65536
"""Most threads of a GPU, each with about 10 kB of scratch memory; further runs wait for their turn."""


@dataclass(frozen=True)
class ClearanceOptions:
    """How the robot's capsules keep off the floor and off each other."""

    allowed_overlap: float = 0.01
    """What two capsules may overlap by [m]: capsules are fatter than links."""
    allowed_depth: float = 0.01
    """What feet may sink into the floor [m]: their soles have targets, their capsules reach beyond them."""
    floor_weight: float = 300.0
    """Weight of a depth below the floor [1/m]."""
    apart_weight: float = 200.0
    """Weight of an overlap [1/m]."""


@dataclass(frozen=True)
class SolverOptions:
    first_iterations: int = 60
    """Most linearisations in a frame that starts from the rest posture."""
    iterations: int = 20
    """Most in every other frame, which starts from the frame before it or from a guide."""
    tolerance: float = 1e-3
    """A frame is solved when no joint moves by more than this in a step [rad]."""
    posture_weight: float = 0.6
    """Pull of every joint towards the rest posture [1/rad]; small, so that it decides only what the
    targets leave open (a straight arm's twist)."""
    run_length: int = 64
    """Frames solved one after another by a lane; the first of each run starts cold."""
    repairs: int = 4
    """Most rounds of joining runs that do not meet."""
    repair_jump: float = 0.1
    """Runs meet when no joint moves by more than this, and twice what it moves beside, between their ends [rad]."""
    wild_jump: float = 0.5
    """A jump inside a run beyond this is looked into as well [rad per frame]."""
    dear: float = 80.0
    """A frame that costs more than this may sit in a poor minimum, as floor poses do: it is solved from other postures too …"""
    other_starts: int = 8
    """… so many, drawn at random, the same for all."""
    clearance: ClearanceOptions = ClearanceOptions()


@dataclass(frozen=True)
class Targets:
    """Where bodies should be, frame by frame, and how much each counts. K targets, each on its own body."""

    bodies: tuple[int, ...]
    position: Float[np.ndarray, "T K 3"]
    """World positions [m]."""
    rotation: Float[np.ndarray, "T K 4"]
    """World orientations `[w x y z]`."""
    position_weight: Float[np.ndarray, "*T K"]
    """[1/m]; of every frame, or the same in all."""
    rotation_weight: Float[np.ndarray, "*T K"]
    """[1/rad]; likewise."""
    starts: tuple[int, ...] = (0,)
    """First frames of the clips, where several lie end to end."""

    @property
    def frame_count(self) -> int:
        return len(self.position)

    @property
    def stops(self) -> tuple[int, ...]:
        return (*self.starts[1:], self.frame_count)

    def part(self, start: int, stop: int) -> Targets:
        """Frames `start` to `stop` of one clip, as views."""
        weights = (self.position_weight, self.rotation_weight)
        weights = (weight[start:stop] if weight.ndim > 1 else weight for weight in weights)
        return Targets(self.bodies, self.position[start:stop], self.rotation[start:stop], *weights)


def join_targets(clips: Sequence[Targets]) -> Targets:
    """Targets of several clips, on the same bodies, as one; orientations in single precision, as the kernel takes them."""
    if any(clip.bodies != clips[0].bodies for clip in clips):
        raise ValueError("All clips must drive the same bodies.")
    weights = {}
    for name in ("position_weight", "rotation_weight"):
        own = [getattr(clip, name) for clip in clips]
        if any(weight.ndim > 1 or not np.array_equal(weight, own[0]) for weight in own):
            own = [np.broadcast_to(weight, clip.position.shape[:2]) for weight, clip in zip(own, clips, strict=True)]
            weights[name] = np.concatenate(own)
        else:
            weights[name] = own[0]
    position = np.concatenate([clip.position for clip in clips])
    rotation = np.concatenate([clip.rotation for clip in clips], dtype=np.float32, casting="same_kind")
    starts = np.cumsum([0, *[clip.frame_count for clip in clips[:-1]]]).tolist()
    return Targets(clips[0].bodies, position, rotation, **weights, starts=tuple(starts))


@dataclass(frozen=True)
class Near:
    """Motions of all clips end to end, and how much they count."""

    qpos: Float[np.ndarray, "T Q"]
    weight: float
    """Pull of every joint towards its angle there [1/rad]."""
    clear: Bool[np.ndarray, " T"] | None = None
    """Frames in which capsules keep off the floor and off each other; none by default."""


@dataclass(frozen=True)
class Solution:
    qpos: Float[np.ndarray, "T Q"]
    cost: Float[np.ndarray, " T"]
    """Weighted squared error before the last, tiny step; posture term included."""
    position_error: Float[np.ndarray, " T"]
    """Mean distance of the position targets that have a weight from their bodies [m]."""
    orientation_error: Float[np.ndarray, " T"]
    """Mean angle between target and body of those that have one [rad]."""
    iterations: Int[np.ndarray, " T"]


def solve(
    robot: Robot,
    targets: Targets,
    options: SolverOptions = SolverOptions(),
    *,
    device: str = "cpu",
    rest: Float[np.ndarray, " N"] | None = None,
    near: Near | None = None,
) -> Solution:
    """Solve every frame; of several clips end to end each comes out as alone.

    Body 0, the base, must have a target, whose position centres the arithmetic. Every run of frames starts from the
    rest posture, so a frame's result does not hang on where the clip began. Where two runs do not meet, one of them sits
    in a worse minimum: it is solved again from its neighbour, and the cheaper stands.

    With `near` every frame starts from its own posture there, is drawn to it, and stays in its minimum; where it says so,
    capsules keep off the floor (z = 0) and off each other, and frames follow the one before. Where none would touch, that
    changes nothing.
    """
    if 0 not in targets.bodies:
        raise ValueError("Body 0, the base, needs a target.")
    problem = _Problem(robot, targets, options, device, robot.reference if rest is None else rest)
    state = _solve_cold(problem, options) if near is None else _solve_near(problem, near, options)
    qpos = np.empty((problem.frame_count, 7 + robot.joint_count))
    qpos[:, :3] = state.root_position + problem.centre
    qpos[:, 3:7] = state.root_rotation
    qpos[:, 7:] = state.joints
    error = state.error / problem.target_count
    return Solution(qpos, state.cost, error[:, 0], error[:, 1], state.iterations)


def _solve_cold(problem: _Problem, options: SolverOptions) -> _State:
    firsts = np.concatenate(
        [np.arange(start, stop, options.run_length) for start, stop in zip(problem.starts, problem.stops, strict=True)]
    )
    lengths = np.minimum(options.run_length, problem.stops[problem.clip_of_frame[firsts]] - firsts)
    state = problem.run(firsts, lengths, np.ones(len(firsts), int), problem.cold_start(firsts))
    _mend_jumps(problem, state, options, firsts)
    if _look_elsewhere(problem, state, options):
        _mend_jumps(problem, state, options, firsts)
    return state


def _solve_near(problem: _Problem, near: Near, options: SolverOptions) -> _State:
    start = _Posture(near.qpos[:, :3] - problem.centre, near.qpos[:, 3:7], near.qpos[:, 7:])
    if near.clear is None or not near.clear.any():
        return problem.run_each(np.arange(problem.frame_count), start, near)
    touching, free = np.flatnonzero(near.clear), np.flatnonzero(~near.clear)
    order = np.argsort(np.concatenate([touching, free]))
    # One after another: who pushes off the floor could go either way, and goes the way of the frame before.
    begins = np.diff(touching, prepend=-2) != 1
    begins |= np.isin(touching, problem.starts)
    firsts = touching[begins]
    lengths = np.diff(np.append(np.flatnonzero(begins), len(touching)))
    parts = [problem.run(firsts, lengths, np.ones(len(firsts), int), start[firsts], near=near, clear=True)]
    if len(free):
        parts.append(problem.run_each(free, start[free], near))
    return _State(*(np.concatenate(part)[order] for part in zip(*(vars(p).values() for p in parts), strict=True)))


class FrameSolver:
    """Solves one frame at a time, near another posture or from it, with everything made ready beforehand."""

    def __init__(
        self,
        robot: Robot,
        bodies: tuple[int, ...],
        options: SolverOptions = SolverOptions(),
        *,
        near_weight: float | None = None,
        clear: bool = False,
    ):
        """With `near_weight` [1/rad] joints are drawn to the posture a frame starts from, else to the rest posture; with
        `clear` the robot keeps off the floor and off itself."""
        one, count, still = np.ones(1, int), len(bodies), np.zeros((1, 7 + robot.joint_count))
        still[:, 3] = 1.0
        targets = Targets(
            bodies, np.zeros((1, count, 3)), np.tile(still[:, None, 3:7], (1, count, 1)), np.ones(count), np.ones(count)
        )
        problem = _Problem(robot, targets, options, "cpu", robot.reference)
        near = None if near_weight is None else Near(still, near_weight)
        self.command, self.job = problem.prepare(one - 1, one, one, problem.cold_start(one - 1), near=near, clear=clear)
        self.base, self.near, self.clear = problem.base, near is not None, clear
        names = (
            "position",
            "rotation",
            "weight2",
            "start_position",
            "start_rotation",
            "start_joints",
            "pull_to",
            "floor",
        )
        self.arrays = {name: getattr(self.job, name).numpy() for name in (*names, *RESULTS)}
        self.qpos = np.empty(7 + robot.joint_count)

    def solve(
        self,
        position: Float[np.ndarray, "K 3"],
        rotation: Float[np.ndarray, "K 4"],
        weight: Float[np.ndarray, "K 2"],
        start: Float[np.ndarray, " Q"],
    ) -> Float[np.ndarray, " Q"]:
        """The posture for these targets; `weight` is that of their positions [1/m] and orientations [1/rad]."""
        arrays, centre = self.arrays, position[self.base]
        arrays["position"][0] = position - centre
        arrays["rotation"][0] = rotation
        arrays["weight2"][0] = weight * weight
        arrays["start_position"][0] = start[:3] - centre
        arrays["start_rotation"][0] = start[3:7]
        arrays["start_joints"][0] = start[7:]
        if self.near:
            arrays["pull_to"][0] = start[7:]
        if self.clear:
            arrays["floor"][0] = -centre[2]
        self.command.launch()
        self.qpos[:3] = arrays["out_position"][0] + centre
        self.qpos[3:7] = arrays["out_rotation"][0]
        self.qpos[7:] = arrays["out_joints"][0]
        return self.qpos.copy()

    @property
    def cost(self) -> float:
        """Of the last solution: weighted squared error, pull included."""
        return float(self.arrays["out_cost"][0])


@dataclass
class _Posture:
    """Where the robot is in some frames, its root relative to the frame's centre."""

    root_position: Float[np.ndarray, "T 3"]
    root_rotation: Float[np.ndarray, "T 4"]
    joints: Float[np.ndarray, "T N"]

    def __getitem__(self, frames: np.ndarray) -> Self:
        return type(self)(*(value[frames] for value in vars(self).values()))


@dataclass
class _State(_Posture):
    """What has been found in some frames."""

    cost: Float[np.ndarray, " T"]
    error: Float[np.ndarray, "T 2"]
    """Sums of the distances and of the angles to the targets."""
    iterations: Int[np.ndarray, " T"]
    """0 where a frame was not reached."""

    def take(self, frames: np.ndarray, other: _State) -> None:
        for name, value in vars(self).items():
            value[frames] = getattr(other, name)


RESULTS = ("out_position", "out_rotation", "out_joints", "out_cost", "out_error", "out_iterations")
"""Arrays of a job in the order of `_State`."""


class _Problem:
    """Targets and robot on the device; `run` solves any set of runs of frames, forwards or backwards."""

    def __init__(
        self, robot: Robot, targets: Targets, options: SolverOptions, device: str, rest: Float[np.ndarray, " N"]
    ):
        self.robot, self.options, self.device = robot, options, device
        self.rest = rest
        self.starts, self.stops = np.array(targets.starts), np.array(targets.stops)
        self.frame_count = targets.frame_count
        self.clip_of_frame = np.repeat(np.arange(len(self.starts)), self.stops - self.starts)
        bodies = targets.bodies
        self.base = bodies.index(0)
        self.centre = targets.position[:, self.base].astype(np.float64)
        position = np.empty((self.frame_count, len(bodies), 3), np.float32)
        np.subtract(targets.position, self.centre[:, None], out=position, casting="same_kind")
        rotation = targets.rotation.astype(np.float32, copy=False)
        self.base_rotation = rotation[:, self.base]
        weights = np.broadcast_arrays(targets.position_weight, targets.rotation_weight)
        weight2 = np.square(np.stack(weights, -1, dtype=np.float32, casting="same_kind"))
        self.target_count = np.maximum(np.count_nonzero(weight2, axis=-2), 1)
        weight2 = weight2.reshape(-1, len(bodies), 2)  # of every frame, or one for all
        self.model = _device_model(robot, bodies, device)
        self.targets = {
            "position": self._put(position, wp.vec3),
            "rotation": self._put(rotation, wp.vec4),
            "weight2": self._put(weight2, wp.vec2),
        }

    def cold_start(self, frames: Int[np.ndarray, " R"]) -> _Posture:
        """The rest posture, the base at its target."""
        count = len(frames)
        joints = np.clip(self.rest, self.robot.lower, self.robot.upper)
        joints = np.broadcast_to(joints, (count, len(joints)))
        return _Posture(np.zeros((count, 3)), self.base_rotation[frames], joints)

    def run_each(self, frames: Int[np.ndarray, " R"], start: _Posture, near: Near) -> _State:
        """Solve these frames, each from its own start."""
        ones = np.ones(len(frames), int)
        return self.run(frames, ones, ones, start, near=near)

    def run(
        self,
        firsts: np.ndarray,
        lengths: np.ndarray,
        strides: np.ndarray,
        start: _Posture,
        cost_to_beat: np.ndarray | None = None,
        near: Near | None = None,
        clear: bool = False,
    ) -> _State:
        """Solve `lengths[r]` frames from `firsts[r]` on, `strides[r]` apart, one after another; results run by run.

        With `cost_to_beat`, of all frames, a run ends where it does not fall below it.
        """
        command, job = self.prepare(firsts, lengths, strides, start, cost_to_beat, near, clear)
        command.launch()
        return _State(*(getattr(job, name).numpy() for name in RESULTS))

    def prepare(
        self,
        firsts: np.ndarray,
        lengths: np.ndarray,
        strides: np.ndarray,
        start: _Posture,
        cost_to_beat: np.ndarray | None = None,
        near: Near | None = None,
        clear: bool = False,
    ) -> tuple[Any, Any]:
        """What does it, as often as it is launched, and the job, which holds all arrays."""
        options, joint_count = self.options, self.robot.joint_count
        job = kernel.Job()
        for name, value in self.targets.items():
            setattr(job, name, value)
        places, count = np.cumsum(lengths) - lengths, int(lengths.sum())
        job.firsts, job.lengths, job.strides, job.places = (
            self._put(x, int) for x in (firsts, lengths, strides, places)
        )
        job.start_position = self._put(start.root_position, wp.vec3)
        job.start_rotation = self._put(start.root_rotation, wp.vec4)
        job.start_joints = self._put(start.joints, float)
        # A run from the rest posture starts from far away, others from beside their frame.
        cold = cost_to_beat is None and near is None
        job.first_iterations = options.first_iterations if cold else options.iterations
        beaten = np.full(self.frame_count, np.inf) if cost_to_beat is None else cost_to_beat
        job.cost_to_beat = self._put(beaten, float)
        # The postures that joints are drawn to, frame by frame, or one for all.
        pulled = self.rest[None] if near is None else near.qpos[:, 7:]
        job.pull_to = self._put(pulled, float)
        job.later_iterations = options.iterations
        job.tolerance, job.posture2 = options.tolerance, (options.posture_weight if near is None else near.weight) ** 2
        job.clear, clearance = int(clear), options.clearance
        job.floor = self._put(-self.centre[:, 2] if clear else np.zeros(0), float)
        job.allowed_depth, job.allowed_overlap = clearance.allowed_depth, clearance.allowed_overlap
        job.floor2, job.apart2 = clearance.floor_weight**2, clearance.apart_weight**2
        shapes = (count, count, (count, joint_count), count, count, count)
        for name, dtype, shape in zip(RESULTS, (wp.vec3, wp.vec4, float, float, wp.vec2, int), shapes, strict=True):
            setattr(job, name, wp.zeros(shape, dtype=dtype, device=self.device))
        # A CPU runs one thread of many lanes; on a GPU every run has a thread of its own, as far as memory goes.
        on_cpu = wp.get_device(self.device).is_cpu
        lanes, threads = (LANES_CPU, 1) if on_cpu else (1, min(len(firsts), GPU_THREADS))
        built = kernel.build_kernel(lanes)
        work, memory = built.Work(), []
        counts = {"B": self.robot.body_count, "C": len(self.robot.capsules), "K": self.model.axes.shape[0], "1": 1}
        for name, (rows, width) in kernel.WORK.items():
            memory.append(wp.zeros((threads, counts[rows], width), dtype=built.V, device=self.device))
            setattr(work, name, memory[-1])
        state = wp.zeros((threads, lanes, kernel.LANE_STATE), dtype=int, device=self.device)
        inputs = [job, self.model, outline(self.robot, self.device).model, work, state, threads]
        return ready(built.solve_runs, threads, inputs, device=self.device), job

    def _put(self, array: np.ndarray, dtype: type) -> wp.array:
        return device_array(array, dtype, self.device)


def _look_elsewhere(problem: _Problem, state: _State, options: SolverOptions) -> bool:
    """Solve dear frames from other postures too; the cheapest stands where it is a good deal cheaper. Was there any?"""
    robot, random = problem.robot, np.random.default_rng(0)
    dear = np.flatnonzero(state.cost > options.dear)
    if not (len(dear) and options.other_starts):
        return False
    others = problem.rest + random.normal(0.0, 0.8, (options.other_starts, robot.joint_count))
    frames, one = np.tile(dear, len(others)), np.ones(len(dear) * len(others), int)
    start = problem.cold_start(frames)
    start.joints = np.repeat(np.clip(others, robot.lower, robot.upper), len(dear), axis=0)
    found = problem.run(frames, one, one, start, cost_to_beat=0.9 * state.cost)
    cheapest = found.cost.reshape(len(others), -1).argmin(0) * len(dear) + np.arange(len(dear))
    better = found.cost[cheapest] < 0.9 * state.cost[dear]
    state.take(dear[better], found[cheapest[better]])
    return bool(better.any())


def _mend_jumps(problem: _Problem, state: _State, options: SolverOptions, run_starts: Int[np.ndarray, " R"]) -> None:
    """Where the motion jumps, try to carry either side's solution across; the cheaper stands, frame by frame."""
    last = problem.frame_count - 1
    joins = run_starts[~np.isin(run_starts, problem.starts)]
    settled = np.zeros(problem.frame_count, bool)
    for _ in range(options.repairs):
        jump = np.zeros(problem.frame_count)
        jump[1:] = np.abs(np.diff(state.joints, axis=0)).max(1)
        jump[problem.starts] = 0.0
        suspicious = jump > options.wild_jump
        suspicious[joins] |= jump[joins] > options.repair_jump + 2 * np.maximum(
            jump[joins - 1], jump[np.minimum(joins + 1, last)]
        )
        broken = np.flatnonzero(suspicious & ~settled)
        if not len(broken):
            return
        settled[broken] = True
        for changed in _carry_across(problem, state, broken):
            settled[changed.min() : changed.max() + 2] = False


def _carry_across(problem: _Problem, state: _State, broken: np.ndarray) -> list[np.ndarray]:
    """Solve on from the frame before each jump into what lies behind it, and backwards; gives the frames that won."""
    clip = problem.clip_of_frame[broken]
    firsts = np.concatenate([broken, broken - 1])
    leaders = np.concatenate([broken - 1, broken])
    strides = np.repeat([1, -1], len(broken))
    room = np.concatenate([problem.stops[clip] - broken, broken - problem.starts[clip]])
    lengths = np.minimum(problem.options.run_length, room)
    to_beat = state.cost * 0.999 - 1e-4
    other = problem.run(firsts, lengths, strides, state[leaders], to_beat)
    won, place = [], 0
    for first, length, stride in zip(firsts, lengths, strides, strict=True):
        frames, found = first + stride * np.arange(length), np.arange(place, place + length)
        place += length
        better = (other.iterations[found] > 0) & (other.cost[found] < to_beat[frames])
        count = length if better.all() else int(np.argmin(better))
        if count:
            state.take(frames[:count], other[found[:count]])
            won.append(frames[:count])
    return won


@functools.cache
def _device_model(robot: Robot, bodies: tuple[int, ...], device: str) -> Any:
    """Every body's frame is turned so that its joint's axis is z."""
    frames, offset, fixed = lane_tree(robot)
    task_of_body = np.full(robot.body_count, -1)
    task_of_body[list(bodies)] = np.arange(len(bodies))
    model = kernel.Model()
    for name, array, dtype in (
        ("parents", robot.parents, int),
        ("offset", offset, wp.vec3),
        ("fixed", fixed, wp.mat33),
        ("lower", [0.0, *robot.lower], float),
        ("upper", [0.0, *robot.upper], float),
        ("task_of_body", task_of_body, int),
        ("axes", Rotation.from_matrix(frames[list(bodies)]).as_quat(), wp.vec4),
    ):
        setattr(model, name, device_array(array, dtype, device))
    return model
