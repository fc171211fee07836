"""What a motion asks of the robot's motors and of the ground: inverse dynamics of whole clips. One source, CPU and CUDA.

Newton's and Euler's equations run down and up the tree (RNEA) in single precision. Forces, moments, velocities and places
are in world axes about the base's origin; bodies' frames are turned so that every joint turns about z.
"""

# Warp's annotations are for its own compiler; to a type checker they are calls and its scalars are not what they seem.
# pyright: reportInvalidTypeForm=false, reportArgumentType=false, reportCallIssue=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false, reportAttributeAccessIssue=false, reportIndexIssue=false, reportReturnType=false

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import warp as wp
from jaxtyping import Float, UInt8

from corpus import rotations
from corpus.lanes import LANES_CPU, lane_algebra, lane_rows
from corpus.posture import GROUND_POINTS, RESTING, THREADS, Postures, lane_tree
from corpus.robot import Robot
from corpus.warp_tools import device_array

GRAVITY = 9.81
"""[m/s²]"""
FRICTION = 1.0
"""What the floor can hold sideways, as a share of what presses on it: rubber soles on a dry floor."""
LEAST_PRESS = 0.05
"""Pressed by less than this share of the body weight, the floor has no centre of pressure to speak of."""


@dataclass(frozen=True)
class Dynamics:
    """What every frame asks of the motors and of the ground. A foot is in contact where its heel or toe is."""

    torque_use: Float[np.ndarray, " T"]
    """Largest joint torque as a share of the joint's limit. The ground carries the robot through the feet in contact;
    without any, or where another body rests on the floor, torques are those of a robot held by its base."""
    unexplained_force: Float[np.ndarray, " T"]
    """External force that no contact can give, in body weights. In flight all of it; else the pull that the ground would
    have to exert, and what the level force exceeds friction by."""
    support_distance: Float[np.ndarray, " T"]
    """Level distance of the centre of mass from the convex hull of all sole points of the feet in contact [m]: 0 within.
    NaN without a foot in contact, or where another body rests on the floor."""
    pressure_distance: Float[np.ndarray, " T"]
    """The same of the centre of pressure: where on the floor (z = 0) the needed force has no moment about a level axis.
    NaN likewise, and where the floor is hardly pressed or pulled."""


@dataclass(frozen=True)
class Forces:
    """What moves the robot in every frame; frames last."""

    torque: Float[np.ndarray, "N T"]
    """Of the motors [N·m]."""
    wrench: Float[np.ndarray, "6 T"]
    """From outside: force [N], and moment about the base's origin [N·m], in world axes."""


def dynamics(
    robot: Robot,
    qpos: Float[np.ndarray, "T Q"],
    fps: float,
    outside: Postures,
    contact: UInt8[np.ndarray, "T 4"],
    starts: Sequence[int] = (0,),
    *,
    device: str = "cpu",
) -> Dynamics:
    """Of every frame of a motion over the floor z = 0; `outside` is `postures(robot, qpos)`.

    Where several motions lie end to end, `starts` are their first frames: nothing is differentiated across them.
    """
    resting = outside.lowest_besides_feet < RESTING
    touching = contact.T.reshape(2, 2, -1).any(1)
    bears = touching & ~resting
    level = outside.soles[:2] - qpos.T[:2, None]
    ground = np.concatenate([qpos.T[2:3], bears, [touching.any(0) | resting], *level.transpose(1, 0, 2)])
    rate, acceleration = derivatives(qpos, fps, starts)
    _, result = _run(robot, qpos.T[3:], rate, acceleration, ground, device)
    use, unexplained, support, pressure, _, _, press = result[:7].astype(np.float64)
    stands = bears.any(0)
    pressed = stands & (press > LEAST_PRESS * GRAVITY * robot.mass.sum())
    return Dynamics(use, unexplained, np.where(stands, support, np.nan), np.where(pressed, pressure, np.nan))


def inverse_dynamics(
    robot: Robot,
    qpos: Float[np.ndarray, "T Q"],
    rate: Float[np.ndarray, "3+N T"],
    acceleration: Float[np.ndarray, "6+N T"],
    *,
    device: str = "cpu",
) -> Forces:
    """Torques and the wrench on the base that give the robot these accelerations under gravity; nothing else touches it.

    `rate` and `acceleration` are those of `derivatives`.
    """
    in_the_air = np.zeros((4 + 2 * len(_sole_points(robot)), len(qpos)))
    torque, result = _run(robot, qpos.T[3:], rate, acceleration, in_the_air, device)
    return Forces(torque, result[4:])


def derivatives(
    qpos: Float[np.ndarray, "T Q"], fps: float, starts: Sequence[int] = (0,)
) -> tuple[Float[np.ndarray, "3+N T"], Float[np.ndarray, "6+N T"]]:
    """Rates: turning of the base in world axes [rad/s], joint speeds. Accelerations: of the base's origin [m/s²], its
    turning and the joints [rad/s²].

    With the steps s from frame to frame (of the base's orientation: axis times angle in world axes), a rate is
    (s[t−1,t] + s[t,t+1]) fps / 2 and an acceleration (s[t,t+1] − s[t−1,t]) fps². A motion's first and last frame have
    those of their neighbours; a motion of less than three frames stands still.
    """
    frame_count = len(qpos)
    step = np.zeros((qpos.shape[1] - 1, frame_count + 1), np.float32)
    np.subtract(qpos.T[:3, 1:], qpos.T[:3, :-1], out=step[:3, 1:-1], casting="unsafe")
    np.subtract(qpos.T[7:, 1:], qpos.T[7:, :-1], out=step[6:, 1:-1], casting="unsafe")
    turn = np.asarray(qpos[:, 3:7], np.float64)
    step[3:6, 1:-1] = rotations.to_rotation_vector(rotations.multiply(turn[1:], rotations.conjugate(turn[:-1]))).T
    rate, acceleration = step[3:, 1:] + step[3:, :-1], step[:, 1:] - step[:, :-1]
    rate *= fps / 2
    acceleration *= fps**2
    first = np.asarray(starts)
    last = np.append(first[1:], frame_count) - 1
    short = last - first < 2
    for values in (rate, acceleration):
        values[:, first] = np.where(short, 0, values[:, np.minimum(first + 1, last)])
        values[:, last] = np.where(short, 0, values[:, np.maximum(last - 1, first)])
    return rate, acceleration


def _run(
    robot: Robot, pose: np.ndarray, rate: np.ndarray, acceleration: np.ndarray, ground: np.ndarray, device: str
) -> tuple[Float[np.ndarray, "N T"], Float[np.ndarray, "10 T"]]:
    """The kernel's torques and results. `ground` has rows: the base's height, does the left foot bear, the right one, is
    there a contact at all, and x and y of each sole point about the base's origin."""
    frame_count = pose.shape[1]
    on_cpu = wp.get_device(device).is_cpu
    lanes = LANES_CPU if on_cpu else 1
    kernel, machine = _build_kernel(lanes), _machine(robot, device)
    blocks = -(-frame_count // lanes)
    threads = 1 if on_cpu else min(THREADS, blocks)

    def empty(*shape: int) -> wp.array:
        return wp.empty(shape, dtype=kernel.V, device=device)

    work = kernel.Work()
    memory = empty(threads, robot.body_count, 27), empty(threads, len(_sole_points(robot)), 2)
    work.body, work.hull = memory
    torque, result = empty(robot.joint_count, blocks), empty(10, blocks)
    inputs = [lane_rows(rows, lanes, device) for rows in (pose, rate, acceleration, ground)]
    wp.launch(kernel.measure, dim=threads, inputs=[*inputs, machine, work, torque, result, threads], device=device)
    return tuple(array.numpy().reshape(len(array), -1)[:, :frame_count] for array in (torque, result))


@wp.struct
class MachineModel:
    """A robot's tree with its masses, and the points of its soles."""

    parents: wp.array(dtype=int)
    offset: wp.array(dtype=wp.vec3)
    fixed: wp.array(dtype=wp.mat33)
    mass: wp.array(dtype=float)
    centre: wp.array(dtype=wp.vec3)
    inertia: wp.array(dtype=wp.mat33)
    per_limit: wp.array(dtype=float)
    """One over the torque limit of the body's joint."""
    foot_body: wp.array(dtype=int)
    point_foot: wp.array(dtype=int)
    point_share: wp.array(dtype=float)
    """One over the number of points of the same foot."""
    whole_mass: float


@functools.cache
def _machine(robot: Robot, device: str) -> MachineModel:
    frames, offset, fixed = lane_tree(robot)
    feet = np.array(_sole_points(robot))
    model = MachineModel()
    for name, array, dtype in (
        ("parents", robot.parents, int),
        ("offset", offset, wp.vec3),
        ("fixed", fixed, wp.mat33),
        ("mass", robot.mass, float),
        ("centre", np.einsum("bji,bj->bi", frames, robot.centre_of_mass), wp.vec3),
        ("inertia", np.einsum("bji,bjk,bkl->bil", frames, robot.inertia, frames), wp.mat33),
        ("per_limit", np.concatenate([[0.0], 1 / robot.effort_limit]), float),
        ("foot_body", [robot.body(robot.ground_points[side][0]) for side in ("left_heel", "right_heel")], int),
        ("point_foot", feet, int),
        ("point_share", 1 / np.bincount(feet)[feet], float),
    ):
        setattr(model, name, device_array(array, dtype, device))
    model.whole_mass = float(robot.mass.sum())
    return model


def _sole_points(robot: Robot) -> list[int]:
    """The foot of every sole point, 0 the left one, in the order of `Postures.soles`."""
    return [group // 2 for group, name in enumerate(GROUND_POINTS) for _ in robot.ground_points[name][1]]


@functools.cache
def _build_kernel(lanes: int) -> SimpleNamespace:
    """The kernel `measure` for so many lanes a thread, and the types `V` and `Work` of its scratch memory."""
    algebra = lane_algebra(lanes)
    V, V3, M3 = algebra.V, algebra.V3, algebra.M3
    add, sub, mul, div, mad, nmad, scale, scale_add = (
        algebra.add, algebra.sub, algebra.mul, algebra.div, algebra.mad, algebra.nmad, algebra.scale,
        algebra.scale_add,
    )  # fmt: skip
    sine, cosine, root, absolute, maximum, minimum, clamp, select, at_most = (
        algebra.sine, algebra.cosine, algebra.root, algebra.absolute, algebra.maximum, algebra.minimum, algebra.clamp,
        algebra.select, algebra.at_most,
    )  # fmt: skip
    dot, cross, add3, sub3, scale3, mad3 = (
        algebra.dot, algebra.cross, algebra.add3, algebra.sub3, algebra.scale3, algebra.mad3,
    )  # fmt: skip
    times, transposed_times, times_constant, constant_times, place_of, turned_about_z, matrix_of_quaternion = (
        algebra.times, algebra.transposed_times, algebra.times_constant, algebra.constant_times, algebra.place_of,
        algebra.turned_about_z, algebra.matrix_of_quaternion,
    )  # fmt: skip
    load3, store3, load_matrix, store_matrix, gather3 = (
        algebra.load3, algebra.store3, algebra.load_matrix, algebra.store_matrix, algebra.gather3,
    )  # fmt: skip
    # Of each body in the scratch memory: orientation, place, angular velocity, angular acceleration and its origin's
    # acceleration; then the force and moment that move it and, after the sweep up, all bodies below it.
    TURN, PLACE, TURNING, SPIN, PUSH, FORCE, MOMENT = 0, 9, 12, 15, 18, 21, 24

    @wp.struct
    class Work:
        body: wp.array3d(dtype=V)
        hull: wp.array3d(dtype=V)

    @wp.func
    def vector(x: V, y: V, z: V) -> V3:
        r = V3()
        r.x = x
        r.y = y
        r.z = z
        return r

    @wp.func
    def moved(about: V3, turning: V3, spin: V3, push: V3) -> V3:
        """Acceleration of a point of a body `about` from its origin."""
        return add3(push, add3(cross(spin, about), cross(turning, cross(turning, about))))

    @wp.func
    def forces_on(
        thread: int, body: int, turn: M3, place: V3, turning: V3, spin: V3, push: V3, model: MachineModel, work: Work
    ) -> V3:
        """Keep a body's motion, with the force and moment it takes; gives its centre of mass times its mass."""
        store_matrix(work.body, thread, body, wp.static(TURN), turn)
        store3(work.body, thread, body, wp.static(PLACE), place)
        store3(work.body, thread, body, wp.static(TURNING), turning)
        store3(work.body, thread, body, wp.static(SPIN), spin)
        store3(work.body, thread, body, wp.static(PUSH), push)
        zero = V(0.0)
        about = place_of(turn, model.centre[body], vector(zero, zero, zero))
        mass = V(model.mass[body])
        force = scale3(moved(about, turning, spin, push), mass)
        own_turning = transposed_times(turn, turning)
        momentum = constant_times(model.inertia[body], own_turning)
        change = constant_times(model.inertia[body], transposed_times(turn, spin))
        centre = add3(place, about)
        moment = add3(times(turn, add3(change, cross(own_turning, momentum))), cross(centre, force))
        store3(work.body, thread, body, wp.static(FORCE), force)
        store3(work.body, thread, body, wp.static(MOMENT), moment)
        return scale3(centre, mass)

    @wp.func
    def sweep_down(
        thread: int,
        block: int,
        pose: wp.array2d(dtype=V),
        rate: wp.array2d(dtype=V),
        acceleration: wp.array2d(dtype=V),
        model: MachineModel,
        work: Work,
    ) -> V3:
        """The force and moment that every body takes by itself; gives the centre of mass times the mass."""
        w = pose[0, block]
        x = pose[1, block]
        y = pose[2, block]
        z = pose[3, block]
        unit = div(V(1.0), root(mad(x, x, mad(y, y, mad(z, z, mul(w, w))))))
        zero = V(0.0)
        # The base rising at g: what gravity asks of every body without any being told.
        rising = add(acceleration[2, block], V(wp.static(GRAVITY)))
        whole = forces_on(
            thread,
            0,
            matrix_of_quaternion(mul(x, unit), mul(y, unit), mul(z, unit), mul(w, unit)),
            vector(zero, zero, zero),
            vector(rate[0, block], rate[1, block], rate[2, block]),
            vector(acceleration[3, block], acceleration[4, block], acceleration[5, block]),
            vector(acceleration[0, block], acceleration[1, block], rising),
            model,
            work,
        )
        for body in range(1, model.parents.shape[0]):
            parent = model.parents[body]
            above = load_matrix(work.body, thread, parent, wp.static(TURN))
            turning = load3(work.body, thread, parent, wp.static(TURNING))
            spin = load3(work.body, thread, parent, wp.static(SPIN))
            about = place_of(above, model.offset[body], vector(zero, zero, zero))
            push = moved(about, turning, spin, load3(work.body, thread, parent, wp.static(PUSH)))
            place = add3(load3(work.body, thread, parent, wp.static(PLACE)), about)
            angle = pose[3 + body, block]
            turn = turned_about_z(times_constant(above, model.fixed[body]), sine(angle), cosine(angle))
            axis = vector(turn.xz, turn.yz, turn.zz)
            own = scale3(axis, rate[2 + body, block])
            spin = mad3(axis, acceleration[5 + body, block], add3(spin, cross(turning, own)))
            turning = add3(turning, own)
            part = forces_on(thread, body, turn, place, turning, spin, push, model, work)
            whole.x = add(whole.x, part.x)
            whole.y = add(whole.y, part.y)
            whole.z = add(whole.z, part.z)
        return whole

    @wp.func
    def about_joint(thread: int, body: int, force: V3, moment: V3, work: Work) -> V:
        """What a force and a moment about the base's origin are about the axis of a body's joint."""
        axis = vector(
            work.body[thread, body, wp.static(TURN + 2)],
            work.body[thread, body, wp.static(TURN + 5)],
            work.body[thread, body, wp.static(TURN + 8)],
        )
        return dot(axis, sub3(moment, cross(load3(work.body, thread, body, wp.static(PLACE)), force)))

    @wp.func
    def sweep_up(thread: int, block: int, model: MachineModel, work: Work, torque: wp.array2d(dtype=V)):
        """Gather forces and moments towards the base; each joint gives what is about its axis."""
        count = model.parents.shape[0]
        for back in range(count - 1):
            body = count - 1 - back
            force = load3(work.body, thread, body, wp.static(FORCE))
            moment = load3(work.body, thread, body, wp.static(MOMENT))
            torque[body - 1, block] = about_joint(thread, body, force, moment, work)
            gather3(work.body, thread, model.parents[body], wp.static(FORCE), force)
            gather3(work.body, thread, model.parents[body], wp.static(MOMENT), moment)

    @wp.func
    def sole_centre(block: int, foot: int, ground: wp.array2d(dtype=V), model: MachineModel) -> V3:
        """The mean of a foot's points, on the base's level."""
        x = V(0.0)
        y = V(0.0)
        for point in range(model.point_foot.shape[0]):
            if model.point_foot[point] == foot:
                x = scale_add(ground[4 + 2 * point, block], model.point_share[point], x)
                y = scale_add(ground[5 + 2 * point, block], model.point_share[point], y)
        return vector(x, y, V(0.0))

    @wp.func
    def stand_on(
        thread: int,
        block: int,
        foot: int,
        force: V3,
        moment: V3,
        model: MachineModel,
        work: Work,
        torque: wp.array2d(dtype=V),
    ):
        """Take off the leg's joints what the ground gives to the foot."""
        body = model.foot_body[foot]
        while body > 0:
            torque[body - 1, block] = sub(torque[body - 1, block], about_joint(thread, body, force, moment, work))
            body = model.parents[body]

    @wp.func
    def share_between_feet(
        thread: int,
        block: int,
        x: V,
        y: V,
        force: V3,
        moment: V3,
        left: V3,
        right: V3,
        ground: wp.array2d(dtype=V),
        model: MachineModel,
        work: Work,
        torque: wp.array2d(dtype=V),
    ):
        """With both feet on the ground, each takes a share, by where between the soles' centres the centre of pressure
        (x, y) lies.

        A share acts about its own sole: as far off the sole's centre as the whole is off the shares' common centre, so
        that the shares together are the whole.
        """
        line = sub3(right, left)
        along = mad(sub(x, left.x), line.x, mul(sub(y, left.y), line.y))
        between = clamp(div(along, maximum(dot(line, line), V(1.0e-6))), 0.0, 1.0)
        of_right = mul(ground[2, block], select(ground[1, block], between, V(1.0)))
        of_left = mul(ground[1, block], sub(V(1.0), of_right))
        middle = mad3(left, of_left, scale3(right, of_right))
        left_moment = scale3(add3(moment, cross(sub3(left, middle), force)), of_left)
        right_moment = scale3(add3(moment, cross(sub3(right, middle), force)), of_right)
        stand_on(thread, block, 0, scale3(force, of_left), left_moment, model, work, torque)
        stand_on(thread, block, 1, scale3(force, of_right), right_moment, model, work, torque)

    @wp.func
    def make_hull(thread: int, block: int, inner: V3, ground: wp.array2d(dtype=V), model: MachineModel, work: Work):
        """The sole points that bear; in place of the others `inner`, a point within their hull."""
        for point in range(model.point_foot.shape[0]):
            bears = ground[1 + model.point_foot[point], block]
            work.hull[thread, point, 0] = select(bears, ground[4 + 2 * point, block], inner.x)
            work.hull[thread, point, 1] = select(bears, ground[5 + 2 * point, block], inner.y)

    @wp.func
    def hull_distance(thread: int, x: V, y: V, work: Work) -> V:
        """Distance of (x, y) from the convex hull of the points in `work.hull`, 0 within.

        Seen from outside, one of the points has all others on its left, and the nearest point of the hull lies on a
        segment between two of them, be it an edge of the hull or not.
        """
        outside = V(0.0)
        nearest = V(1.0e12)
        for i in range(work.hull.shape[1]):
            ax = sub(work.hull[thread, i, 0], x)
            ay = sub(work.hull[thread, i, 1], y)
            square = mad(ax, ax, mul(ay, ay))
            leftmost = V(1.0e12)
            for j in range(work.hull.shape[1]):
                bx = sub(work.hull[thread, j, 0], x)
                by = sub(work.hull[thread, j, 1], y)
                leftmost = minimum(leftmost, nmad(ay, bx, mul(ax, by)))
                ex = sub(bx, ax)
                ey = sub(by, ay)
                length = maximum(mad(ex, ex, mul(ey, ey)), V(1.0e-12))
                t = clamp(div(nmad(ax, ex, nmad(ay, ey, V(0.0))), length), 0.0, 1.0)
                nx = mad(t, ex, ax)
                ny = mad(t, ey, ay)
                nearest = minimum(nearest, mad(nx, nx, mul(ny, ny)))
            # Rounding must not hide a point in line with an edge; that makes the hull a micrometre smaller.
            outside = maximum(outside, at_most(scale_add(square, -1.0e-6, V(-1.0e-8)), leftmost))
        return select(outside, root(nearest), V(0.0))

    @wp.func
    def unexplained(supported: V, force: V3, weight: float) -> V:
        press = maximum(force.z, V(0.0))
        pull = sub(press, force.z)
        level = mad(force.x, force.x, mul(force.y, force.y))
        slip = maximum(scale_add(press, -wp.static(FRICTION), root(level)), V(0.0))
        return scale(select(supported, add(pull, slip), root(mad(force.z, force.z, level))), 1.0 / weight)

    @wp.kernel(module="unique")
    def measure(
        pose: wp.array2d(dtype=V),
        rate: wp.array2d(dtype=V),
        acceleration: wp.array2d(dtype=V),
        ground: wp.array2d(dtype=V),
        model: MachineModel,
        work: Work,
        torque: wp.array2d(dtype=V),
        result: wp.array2d(dtype=V),
        threads: int,
    ):
        """Results: use of torque, unexplained force, distances of the centres of mass and pressure, wrench on the base."""
        thread = wp.tid()
        weight = model.whole_mass * wp.static(GRAVITY)
        for block in range(thread, pose.shape[1], threads):
            whole = sweep_down(thread, block, pose, rate, acceleration, model, work)
            sweep_up(thread, block, model, work, torque)
            force = load3(work.body, thread, 0, wp.static(FORCE))
            moment = load3(work.body, thread, 0, wp.static(MOMENT))
            height = ground[0, block]
            press = maximum(force.z, V(wp.static(LEAST_PRESS) * weight))
            x = div(nmad(height, force.x, sub(V(0.0), moment.y)), press)
            y = div(nmad(height, force.y, moment.x), press)
            left = sole_centre(block, 0, ground, model)
            right = sole_centre(block, 1, ground, model)
            share_between_feet(thread, block, x, y, force, moment, left, right, ground, model, work, torque)
            bears = ground[1, block]
            inner = vector(select(bears, left.x, right.x), select(bears, left.y, right.y), V(0.0))
            make_hull(thread, block, inner, ground, model, work)
            use = V(0.0)
            for body in range(1, model.parents.shape[0]):
                use = maximum(use, scale(absolute(torque[body - 1, block]), model.per_limit[body]))
            result[0, block] = use
            result[1, block] = unexplained(ground[3, block], force, weight)
            result[2, block] = hull_distance(
                thread, scale(whole.x, 1.0 / model.whole_mass), scale(whole.y, 1.0 / model.whole_mass), work
            )
            result[3, block] = hull_distance(thread, x, y, work)
            result[4, block] = force.x
            result[5, block] = force.y
            result[6, block] = force.z
            result[7, block] = moment.x
            result[8, block] = moment.y
            result[9, block] = moment.z

    return SimpleNamespace(measure=measure, V=V, Work=Work)
