"""The kernel: whole-body inverse kinematics of many frames, one thread per run of frames, one source for CPU and CUDA.

A target on a body is a spatial inertia (mass = position weight², rotational part = orientation weight²) with a wrench
(the weighted error). The Gauss-Newton step that minimises

    Σ_b  wp_b² |p_b − p*_b|² + wr_b² |log(R*_b R_bᵀ)|²  +  posture_weight² |q − q_rest|²

is then the forward-dynamics problem of that fictitious machine, and Featherstone's articulated-body recursion solves it in
one sweep up and one down the tree: no Jacobian and no Hessian is ever stored, damping adds to the pivots, and a joint held
at its limit is a joint that is left out. Around it runs Levenberg-Marquardt with an accept test on the true cost.

All quantities are in world axes about the robot's base, and targets are given relative to a centre that moves with the clip,
so single precision suffices. Warp's quaternions are `[x y z w]`; `solve` converts at its door.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import warp as wp
from jaxtyping import Float, Int

from corpus.robot import Robot

wp.config.log_level = wp.LOG_ERROR  # before its first use: it greets otherwise
wp.config.enable_backward = False



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
    """Runs meet when no joint moves by more than this from the last frame of one to the first of the next [rad]."""
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
    position_weight: Float[np.ndarray, "K"]
    """[1/m]"""
    rotation_weight: Float[np.ndarray, "K"]
    """[1/rad]"""

    @property
    def frame_count(self) -> int:
        return len(self.position)


@dataclass(frozen=True)
class Solution:
    qpos: Float[np.ndarray, "T Q"]
    cost: Float[np.ndarray, "T"]
    """Weighted squared error at the solution, posture term included."""
    iterations: Int[np.ndarray, "T"]


def solve(
    robot: Robot,
    targets: Targets,
    options: SolverOptions = SolverOptions(),
    *,
    device: str = "cpu",
    rest: Float[np.ndarray, "N"] | None = None,
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
    cost: Float[np.ndarray, "T"]
    iterations: Int[np.ndarray, "T"]


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

    def cold_start(self, frames: Int[np.ndarray, "R"]) -> _State:
        """The rest posture, the base at its target."""
        joints = np.clip(self.rest, self.robot.lower, self.robot.upper)
        count = len(frames)
        return _State(
            np.zeros((count, 3)), self.base_rotation[frames], np.tile(joints, (count, 1)), np.zeros(count), np.zeros(count)
        )

    def run(self, firsts: np.ndarray, lengths: np.ndarray, stride: int, start: _State, first_iterations: int) -> _State:
        """Solve `lengths[r]` frames from `firsts[r]` on, one after another; frames outside every run stay undefined."""
        device, joint_count, options = self.device, self.robot.joint_count, self.options
        root_position = wp.empty(self.frame_count, dtype=wp.vec3, device=device)
        root_rotation = wp.empty(self.frame_count, dtype=wp.quat, device=device)
        joints = wp.empty((self.frame_count, joint_count), dtype=float, device=device)
        cost = wp.empty(self.frame_count, dtype=float, device=device)
        iterations = wp.empty(self.frame_count, dtype=int, device=device)
        angle = np.concatenate([np.zeros((len(firsts), 1)), start.joints], 1).astype(np.float32)
        wp.launch(
            _solve_runs,
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
        suspicious[run_starts] |= jump[run_starts] > options.repair_jump
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
    start = _State(state.root_position[leaders], state.root_rotation[leaders], state.joints[leaders], *[np.zeros(0)] * 2)
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


@wp.func
def _rotation_log(q: wp.quat) -> wp.vec3:
    """Quaternion → axis times angle, the shorter way round."""
    v = wp.vec3(q[0], q[1], q[2])
    w = q[3]
    if w < 0.0:
        v = -v
        w = -w
    s = wp.length(v)
    scale = float(2.0)
    if s > 1.0e-6:
        scale = 2.0 * wp.atan2(s, w) / s
    return v * scale


@wp.func
def _rotation_exp(v: wp.vec3) -> wp.quat:
    angle = wp.length(v)
    scale = float(0.5)
    if angle > 1.0e-6:
        scale = wp.sin(0.5 * angle) / angle
    return wp.normalize(wp.quat(v[0] * scale, v[1] * scale, v[2] * scale, wp.cos(0.5 * angle)))


@wp.func
def _linearise(
    run: int,
    frame: int,
    root_p: wp.vec3,
    root_r: wp.quat,
    parents: wp.array(dtype=int),
    offset: wp.array(dtype=wp.vec3),
    fixed: wp.array(dtype=wp.quat),
    axis: wp.array(dtype=wp.vec3),
    task_of_body: wp.array(dtype=int),
    rest: wp.array(dtype=float),
    target_position: wp.array2d(dtype=wp.vec3),
    target_rotation: wp.array2d(dtype=wp.quat),
    position_weight2: wp.array(dtype=float),
    rotation_weight2: wp.array(dtype=float),
    posture2: float,
    angle: wp.array2d(dtype=float),
    rotation: wp.array2d(dtype=wp.quat),
    position: wp.array2d(dtype=wp.vec3),
    s_w: wp.array2d(dtype=wp.vec3),
    s_v: wp.array2d(dtype=wp.vec3),
    a_ww: wp.array2d(dtype=wp.mat33),
    a_wv: wp.array2d(dtype=wp.mat33),
    a_vv: wp.array2d(dtype=wp.mat33),
    f_w: wp.array2d(dtype=wp.vec3),
    f_v: wp.array2d(dtype=wp.vec3),
    g_w: wp.array2d(dtype=wp.vec3),
    g_v: wp.array2d(dtype=wp.vec3),
) -> float:
    """Forward kinematics about the base, each body's inertia and wrench from its target; gives the cost."""
    cost = float(0.0)
    for body in range(parents.shape[0]):
        turn = root_r
        place = wp.vec3(0.0, 0.0, 0.0)
        if body > 0:
            parent = parents[body]
            up = rotation[run, parent]
            place = position[run, parent] + wp.quat_rotate(up, offset[body])
            q = angle[run, body]
            half = 0.5 * q
            s = wp.sin(half)
            a = axis[body]
            turn = wp.mul(wp.mul(up, fixed[body]), wp.quat(a[0] * s, a[1] * s, a[2] * s, wp.cos(half)))
            world_axis = wp.quat_rotate(turn, a)
            s_w[run, body] = world_axis
            s_v[run, body] = wp.cross(place, world_axis)
            away = q - rest[body - 1]
            cost += posture2 * away * away
        rotation[run, body] = turn
        position[run, body] = place
        task = task_of_body[body]
        if task >= 0:
            m = position_weight2[task]
            n = rotation_weight2[task]
            error_p = target_position[frame, task] - root_p - place
            error_r = _rotation_log(wp.mul(target_rotation[frame, task], wp.quat_inverse(turn)))
            cost += m * wp.dot(error_p, error_p) + n * wp.dot(error_r, error_r)
            one = wp.identity(n=3, dtype=float)
            a_ww[run, body] = one * (n + m * wp.dot(place, place)) - wp.outer(place, place) * m
            a_wv[run, body] = wp.skew(place) * m
            a_vv[run, body] = one * m
            force = error_p * m
            torque = error_r * n + wp.cross(place, force)
            f_w[run, body] = torque
            f_v[run, body] = force
            g_w[run, body] = torque
            g_v[run, body] = force
        else:
            zero = wp.vec3(0.0, 0.0, 0.0)
            none = wp.mat33(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
            a_ww[run, body] = none
            a_wv[run, body] = none
            a_vv[run, body] = none
            f_w[run, body] = zero
            f_v[run, body] = zero
            g_w[run, body] = zero
            g_v[run, body] = zero
    return cost


@wp.func
def _eliminate(
    run: int,
    damping: float,
    posture2: float,
    parents: wp.array(dtype=int),
    lower: wp.array(dtype=float),
    upper: wp.array(dtype=float),
    rest: wp.array(dtype=float),
    angle: wp.array2d(dtype=float),
    s_w: wp.array2d(dtype=wp.vec3),
    s_v: wp.array2d(dtype=wp.vec3),
    a_ww: wp.array2d(dtype=wp.mat33),
    a_wv: wp.array2d(dtype=wp.mat33),
    a_vv: wp.array2d(dtype=wp.mat33),
    f_w: wp.array2d(dtype=wp.vec3),
    f_v: wp.array2d(dtype=wp.vec3),
    g_w: wp.array2d(dtype=wp.vec3),
    g_v: wp.array2d(dtype=wp.vec3),
    u_w: wp.array2d(dtype=wp.vec3),
    u_v: wp.array2d(dtype=wp.vec3),
    pivot: wp.array2d(dtype=float),
    drive: wp.array2d(dtype=float),
) -> float:
    """From the leaves to the base: take every joint out of the problem, leaving its parent's inertia and wrench.

    A joint at its limit whose gradient points outwards is held: pivot 0. Returns the largest free gradient.
    """
    for back in range(parents.shape[0] - 1):
        body = parents.shape[0] - 1 - back
        parent = parents[body]
        sw = s_w[run, body]
        sv = s_v[run, body]
        q = angle[run, body]
        pull = posture2 * (rest[body - 1] - q)
        gradient = wp.dot(sw, g_w[run, body]) + wp.dot(sv, g_v[run, body]) + pull
        ww = a_ww[run, body]
        wv = a_wv[run, body]
        vv = a_vv[run, body]
        tw = f_w[run, body]
        tv = f_v[run, body]
        held = (q <= lower[body - 1] and gradient < 0.0) or (q >= upper[body - 1] and gradient > 0.0)
        if held:
            pivot[run, body] = 0.0
        else:
            uw = ww * sw + wv * sv
            uv = wp.transpose(wv) * sw + vv * sv
            d = wp.dot(sw, uw) + wp.dot(sv, uv) + damping + posture2
            u = wp.dot(sw, tw) + wp.dot(sv, tv) + pull
            inverse = 1.0 / d
            u_w[run, body] = uw
            u_v[run, body] = uv
            pivot[run, body] = inverse
            drive[run, body] = u
            scaled_w = uw * inverse
            scaled_v = uv * inverse
            ww = ww - wp.outer(scaled_w, uw)
            wv = wv - wp.outer(scaled_w, uv)
            vv = vv - wp.outer(scaled_v, uv)
            tw = tw - scaled_w * u
            tv = tv - scaled_v * u
        a_ww[run, parent] = a_ww[run, parent] + ww
        a_wv[run, parent] = a_wv[run, parent] + wv
        a_vv[run, parent] = a_vv[run, parent] + vv
        f_w[run, parent] = f_w[run, parent] + tw
        f_v[run, parent] = f_v[run, parent] + tv
        g_w[run, parent] = g_w[run, parent] + g_w[run, body]
        g_v[run, parent] = g_v[run, parent] + g_v[run, body]
    return 0.0


@wp.func
def _substitute(
    run: int,
    damping: float,
    parents: wp.array(dtype=int),
    s_w: wp.array2d(dtype=wp.vec3),
    s_v: wp.array2d(dtype=wp.vec3),
    a_ww: wp.array2d(dtype=wp.mat33),
    a_wv: wp.array2d(dtype=wp.mat33),
    a_vv: wp.array2d(dtype=wp.mat33),
    f_w: wp.array2d(dtype=wp.vec3),
    f_v: wp.array2d(dtype=wp.vec3),
    u_w: wp.array2d(dtype=wp.vec3),
    u_v: wp.array2d(dtype=wp.vec3),
    v_w: wp.array2d(dtype=wp.vec3),
    v_v: wp.array2d(dtype=wp.vec3),
    pivot: wp.array2d(dtype=float),
    drive: wp.array2d(dtype=float),
    step: wp.array2d(dtype=float),
) -> float:
    """Solve the base's 6×6 block, then every joint from the base outwards; gives the largest turn of all [rad]."""
    one = wp.identity(n=3, dtype=float)
    vv_inverse = wp.inverse(a_vv[run, 0] + one * damping)
    wv = a_wv[run, 0]
    mixed = wv * vv_inverse
    schur = a_ww[run, 0] + one * damping - mixed * wp.transpose(wv)
    w = wp.inverse(schur) * (f_w[run, 0] - mixed * f_v[run, 0])
    v = vv_inverse * (f_v[run, 0] - wp.transpose(wv) * w)
    v_w[run, 0] = w
    v_v[run, 0] = v
    largest = wp.max(wp.length(w), 3.0 * wp.length(v))
    for body in range(1, parents.shape[0]):
        parent = parents[body]
        pw = v_w[run, parent]
        pv = v_v[run, parent]
        move = float(0.0)
        if pivot[run, body] > 0.0:
            move = (drive[run, body] - wp.dot(u_w[run, body], pw) - wp.dot(u_v[run, body], pv)) * pivot[run, body]
        step[run, body] = move
        v_w[run, body] = pw + s_w[run, body] * move
        v_v[run, body] = pv + s_v[run, body] * move
        largest = wp.max(largest, wp.abs(move))
    return largest


@wp.kernel
def _solve_runs(
    firsts: wp.array(dtype=int),
    lengths: wp.array(dtype=int),
    stride: int,
    start_position: wp.array(dtype=wp.vec3),
    start_rotation: wp.array(dtype=wp.quat),
    parents: wp.array(dtype=int),
    offset: wp.array(dtype=wp.vec3),
    fixed: wp.array(dtype=wp.quat),
    axis: wp.array(dtype=wp.vec3),
    lower: wp.array(dtype=float),
    upper: wp.array(dtype=float),
    task_of_body: wp.array(dtype=int),
    rest: wp.array(dtype=float),
    target_position: wp.array2d(dtype=wp.vec3),
    target_rotation: wp.array2d(dtype=wp.quat),
    position_weight2: wp.array(dtype=float),
    rotation_weight2: wp.array(dtype=float),
    base: int,
    first_iterations: int,
    later_iterations: int,
    tolerance: float,
    posture2: float,
    rotation: wp.array2d(dtype=wp.quat),
    position: wp.array2d(dtype=wp.vec3),
    s_w: wp.array2d(dtype=wp.vec3),
    s_v: wp.array2d(dtype=wp.vec3),
    a_ww: wp.array2d(dtype=wp.mat33),
    a_wv: wp.array2d(dtype=wp.mat33),
    a_vv: wp.array2d(dtype=wp.mat33),
    f_w: wp.array2d(dtype=wp.vec3),
    f_v: wp.array2d(dtype=wp.vec3),
    g_w: wp.array2d(dtype=wp.vec3),
    g_v: wp.array2d(dtype=wp.vec3),
    u_w: wp.array2d(dtype=wp.vec3),
    u_v: wp.array2d(dtype=wp.vec3),
    v_w: wp.array2d(dtype=wp.vec3),
    v_v: wp.array2d(dtype=wp.vec3),
    pivot: wp.array2d(dtype=float),
    drive: wp.array2d(dtype=float),
    step: wp.array2d(dtype=float),
    angle: wp.array2d(dtype=float),
    out_root_position: wp.array(dtype=wp.vec3),
    out_root_rotation: wp.array(dtype=wp.quat),
    out_joints: wp.array2d(dtype=float),
    out_cost: wp.array(dtype=float),
    out_iterations: wp.array(dtype=int),
):
    run = wp.tid()
    root_p = start_position[run]
    root_r = start_rotation[run]
    for count in range(lengths[run]):
        frame = firsts[run] + stride * count
        most = later_iterations
        if count == 0:
            most = first_iterations
        else:
            # Carry the turn of the target over, so that a spinning person is not chased from behind.
            turn = wp.mul(target_rotation[frame, base], wp.quat_inverse(target_rotation[frame - stride, base]))
            root_r = wp.normalize(wp.mul(turn, root_r))
        damping = float(1.0e-2)
        cost = _linearise(
            run, frame, root_p, root_r, parents, offset, fixed, axis, task_of_body, rest, target_position,
            target_rotation, position_weight2, rotation_weight2, posture2, angle, rotation, position, s_w, s_v,
            a_ww, a_wv, a_vv, f_w, f_v, g_w, g_v,
        )  # fmt: skip
        used = int(0)
        done = int(0)
        while done == 0 and used < most:
            used += 1
            _eliminate(
                run, damping, posture2, parents, lower, upper, rest, angle, s_w, s_v, a_ww, a_wv, a_vv, f_w, f_v,
                g_w, g_v, u_w, u_v, pivot, drive,
            )  # fmt: skip
            largest = _substitute(
                run, damping, parents, s_w, s_v, a_ww, a_wv, a_vv, f_w, f_v, u_w, u_v, v_w, v_v, pivot, drive, step
            )
            # Linearisation is worthless beyond about a radian.
            shrink = wp.min(1.0, 1.0 / wp.max(largest, 1.0e-9))
            old_p = root_p
            old_r = root_r
            root_p = root_p + v_v[run, 0] * shrink
            root_r = wp.normalize(wp.mul(_rotation_exp(v_w[run, 0] * shrink), root_r))
            for body in range(1, parents.shape[0]):
                old = angle[run, body]
                angle[run, body] = wp.clamp(old + step[run, body] * shrink, lower[body - 1], upper[body - 1])
                step[run, body] = old
            new_cost = _linearise(
                run, frame, root_p, root_r, parents, offset, fixed, axis, task_of_body, rest, target_position,
                target_rotation, position_weight2, rotation_weight2, posture2, angle, rotation, position, s_w, s_v,
                a_ww, a_wv, a_vv, f_w, f_v, g_w, g_v,
            )  # fmt: skip
            if new_cost <= cost * 1.000001:
                cost = new_cost
                damping = wp.max(damping * 0.3, 1.0e-3)
                if largest < tolerance:
                    done = 1
            else:
                root_p = old_p
                root_r = old_r
                for body in range(1, parents.shape[0]):
                    angle[run, body] = step[run, body]
                damping = damping * 10.0
                if largest < tolerance or damping > 1.0e6:
                    done = 1
                _linearise(
                    run, frame, root_p, root_r, parents, offset, fixed, axis, task_of_body, rest, target_position,
                    target_rotation, position_weight2, rotation_weight2, posture2, angle, rotation, position, s_w,
                    s_v, a_ww, a_wv, a_vv, f_w, f_v, g_w, g_v,
                )  # fmt: skip
        out_root_position[frame] = root_p
        out_root_rotation[frame] = root_r
        for body in range(1, parents.shape[0]):
            out_joints[frame, body - 1] = angle[run, body]
        out_cost[frame] = cost
        out_iterations[frame] = used
