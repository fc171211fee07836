"""The kernel: inverse kinematics of many frames, one lane per run of frames, one source for CPU and CUDA.

A target on a body is a spatial inertia (mass = position weight², rotational part = orientation weight²) with a wrench
(the weighted error). The Gauss-Newton step that minimises

    Σ_b  wp_b² |p_b − p*_b|² + wr_b² |log(R*_b R_bᵀ)|²  +  posture_weight² |q − q_pull|²

(and, where asked for, plus the weighted squared depths of the robot's capsules below the floor and inside each other)

is then the forward-dynamics problem of that fictitious machine, and Featherstone's articulated-body recursion solves it in
one sweep up and one down the tree: no Jacobian and no Hessian is ever stored, damping adds to the pivots, and a joint held
at its limit is a joint that is left out. Around it runs Levenberg-Marquardt with an accept test on the true cost.

All lanes of a thread take their steps together, each on its own frame: whoever is done writes its frame down, takes the
next one and goes on, so no lane waits for another. Whatever a lane computes is independent of its neighbours.

Quantities are in world axes about the robot's base; bodies' frames are turned so that every joint turns about z.
"""

# Warp's annotations are for its own compiler; to a type checker they are calls and its scalars are not what they seem.
# pyright: reportInvalidTypeForm=false, reportArgumentType=false, reportCallIssue=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false, reportAttributeAccessIssue=false, reportIndexIssue=false, reportReturnType=false

import functools
from types import SimpleNamespace

import warp as wp

from corpus.lanes import lane_algebra
from corpus.posture import OutlineModel

FIRST_DAMPING = 1.0e-2
LEAST_DAMPING = 1.0e-3
REFUSED_DAMPING = 10.0
"""Weights are in the thousands: what was refused needs this much at least to be refused no more."""


# What a lane is at: its frame (−1: none), its run's stride and the frames to come, linearisations used and allowed, whether it
# is done and wants another frame, and the place of its result.
FRAME, STRIDE, TO_COME, USED, ALLOWED, DONE, PLACE = range(7)
LANE_STATE = 7


@wp.struct
class Model:
    """A robot's tree; B bodies, body 0 the base. Parents come before their children."""

    parents: wp.array(dtype=int)
    offset: wp.array(dtype=wp.vec3)
    fixed: wp.array(dtype=wp.mat33)
    lower: wp.array(dtype=float)
    upper: wp.array(dtype=float)
    task_of_body: wp.array(dtype=int)
    axes: wp.array(dtype=wp.vec4)
    """Of each target's body: its joint's frame, whose z is the axis, seen from the robot's own frame of that body; a quaternion
    with its scalar last."""


@wp.struct
class Job:
    """What to solve: R runs of frames out of T, K targets in each, and where the results go.

    Quaternions are `[w x y z]`; positions are relative to a point near the base, so that single precision suffices.
    """

    firsts: wp.array(dtype=int)
    lengths: wp.array(dtype=int)
    strides: wp.array(dtype=int)
    places: wp.array(dtype=int)
    """Where in the results a run's first frame goes; the others follow it."""
    start_position: wp.array(dtype=wp.vec3)
    start_rotation: wp.array(dtype=wp.vec4)
    start_joints: wp.array2d(dtype=float)
    cost_to_beat: wp.array(dtype=float)
    """Of each frame; a run ends with the first frame that does not fall below it."""
    position: wp.array2d(dtype=wp.vec3)
    rotation: wp.array2d(dtype=wp.vec4)
    weight2: wp.array2d(dtype=wp.vec2)
    """Squared weights of position and orientation: of every frame, or one for all."""
    first_iterations: int
    later_iterations: int
    tolerance: float
    posture2: float
    pull_to: wp.array2d(dtype=float)
    """The postures that joints are drawn to: of every frame, or one for all."""
    clear: int
    """1: capsules keep off the floor and off each other; 0: nobody looks at them."""
    floor: wp.array(dtype=float)
    """Of each frame: height of the floor [m]."""
    allowed_depth: float
    """How deep feet may go below it, whose soles have targets [m]."""
    allowed_overlap: float
    """What two capsules may overlap by [m]."""
    floor2: float
    apart2: float
    """Squared weights of depths below the floor and of overlaps."""
    out_position: wp.array(dtype=wp.vec3)
    out_rotation: wp.array(dtype=wp.vec4)
    out_joints: wp.array2d(dtype=float)
    out_cost: wp.array(dtype=float)
    out_error: wp.array(dtype=wp.vec2)
    """Sums of the distances and angles to the targets that have a weight."""
    out_iterations: wp.array(dtype=int)


WORK = {
    "turn": ("B", 9),
    "place": ("B", 3),
    "gathered": ("B", 33),
    "force_per_rate": ("B", 6),
    "pivot": ("B", 1),
    "step": ("B", 1),
    "velocity": ("B", 6),
    "trial": ("B", 1),
    "known": ("B", 1),
    "pull_to": ("B", 1),
    "target": ("K", 9),
    "trial_root": ("1", 7),
    "known_root": ("1", 7),
    "damping": ("1", 1),
    "cost": ("1", 1),
    "trial_error": ("1", 2),
    "error": ("1", 2),
    "fresh": ("1", 1),
    "floor": ("1", 1),
    "span": ("C", 6),
}
"""Scratch arrays of a thread: how many rows, and lane vectors in each."""


@functools.cache
def build_kernel(lanes: int) -> SimpleNamespace:
    """The kernel `solve_runs` for so many lanes a thread, and the types `V` and `Work` of its scratch memory."""
    algebra = lane_algebra(lanes)
    V, V3, M3, S3 = algebra.V, algebra.V3, algebra.M3, algebra.S3
    add, sub, mul, div, mad, nmad = algebra.add, algebra.sub, algebra.mul, algebra.div, algebra.mad, algebra.nmad
    scale, scale_add, clamp, max_abs, maximum = (
        algebra.scale, algebra.scale_add, algebra.clamp, algebra.max_abs, algebra.maximum,
    )  # fmt: skip
    select, at_most, is_free, sine, cosine, root = (
        algebra.select, algebra.at_most, algebra.is_free, algebra.sine, algebra.cosine, algebra.root,
    )  # fmt: skip
    dot, cross, add3, sub3, scale3, mad3, nmad3, lowest_lane, nearest = (
        algebra.dot, algebra.cross, algebra.add3, algebra.sub3, algebra.scale3, algebra.mad3, algebra.nmad3,
        algebra.lowest_lane, algebra.nearest,
    )  # fmt: skip
    times, transposed_times, symmetric_times, times_symmetric, times_constant = (
        algebra.times, algebra.transposed_times, algebra.symmetric_times, algebra.times_symmetric,
        algebra.times_constant,
    )  # fmt: skip
    minus_outer, minus_outer_symmetric, plus_diagonal, inverse = (
        algebra.minus_outer, algebra.minus_outer_symmetric, algebra.plus_diagonal, algebra.inverse,
    )  # fmt: skip
    place_of, turned_about_z, rotation_error, matrix_of_quaternion = (
        algebra.place_of, algebra.turned_about_z, algebra.rotation_error, algebra.matrix_of_quaternion,
    )  # fmt: skip

    load3, store3, load_symmetric, store_symmetric, load_matrix, store_matrix = (
        algebra.load3, algebra.store3, algebra.load_symmetric, algebra.store_symmetric, algebra.load_matrix,
        algebra.store_matrix,
    )  # fmt: skip
    quaternion_times, load4 = algebra.quaternion_times, algebra.load4
    gather3, gather_symmetric, gather_matrix = algebra.gather3, algebra.gather_symmetric, algebra.gather_matrix

    @wp.struct
    class Work:
        turn: wp.array3d(dtype=V)
        place: wp.array3d(dtype=V)
        gathered: wp.array3d(dtype=V)
        force_per_rate: wp.array3d(dtype=V)
        pivot: wp.array3d(dtype=V)
        step: wp.array3d(dtype=V)
        velocity: wp.array3d(dtype=V)
        trial: wp.array3d(dtype=V)
        known: wp.array3d(dtype=V)
        pull_to: wp.array3d(dtype=V)
        target: wp.array3d(dtype=V)
        trial_root: wp.array3d(dtype=V)
        known_root: wp.array3d(dtype=V)
        damping: wp.array3d(dtype=V)
        cost: wp.array3d(dtype=V)
        trial_error: wp.array3d(dtype=V)
        error: wp.array3d(dtype=V)
        fresh: wp.array3d(dtype=V)
        floor: wp.array3d(dtype=V)
        span: wp.array3d(dtype=V)

    @wp.func
    def goal_of(thread: int, task: int, a: wp.vec4, work: Work) -> M3:
        """The orientation that a target asks of its body's joint frame `a`."""
        q = quaternion_times(load4(work.target, thread, task, 0), a)
        return matrix_of_quaternion(q.x, q.y, q.z, q.w)

    @wp.func
    def aim(thread: int, body: int, task: int, axes: wp.vec4, turn: M3, place: V3, base: V3, work: Work) -> V:
        """The inertia and wrench of a body's target and how far it is off, written to `work`; gives its part of the cost."""
        error = sub3(sub3(load3(work.target, thread, task, 4), base), place)
        turn_error = rotation_error(goal_of(thread, task, axes, work), turn)
        mass = work.target[thread, task, 7]
        stiffness = work.target[thread, task, 8]
        lever = scale3(place, mass)
        square_x = mul(lever.x, place.x)
        square_y = mul(lever.y, place.y)
        square_z = mul(lever.z, place.z)
        nothing = V(0.0)
        work.gathered[thread, body, 0] = add(stiffness, add(square_y, square_z))
        work.gathered[thread, body, 1] = nmad(lever.x, place.y, nothing)
        work.gathered[thread, body, 2] = nmad(lever.x, place.z, nothing)
        work.gathered[thread, body, 3] = add(stiffness, add(square_x, square_z))
        work.gathered[thread, body, 4] = nmad(lever.y, place.z, nothing)
        work.gathered[thread, body, 5] = add(stiffness, add(square_x, square_y))
        work.gathered[thread, body, 6] = nothing
        work.gathered[thread, body, 7] = sub(nothing, lever.z)
        work.gathered[thread, body, 8] = lever.y
        work.gathered[thread, body, 9] = lever.z
        work.gathered[thread, body, 10] = nothing
        work.gathered[thread, body, 11] = sub(nothing, lever.x)
        work.gathered[thread, body, 12] = sub(nothing, lever.y)
        work.gathered[thread, body, 13] = lever.x
        work.gathered[thread, body, 14] = nothing
        work.gathered[thread, body, 15] = mass
        work.gathered[thread, body, 16] = nothing
        work.gathered[thread, body, 17] = nothing
        work.gathered[thread, body, 18] = mass
        work.gathered[thread, body, 19] = nothing
        work.gathered[thread, body, 20] = mass
        force = scale3(error, mass)
        torque = add3(scale3(turn_error, stiffness), cross(place, force))
        store3(work.gathered, thread, body, 21, torque)
        store3(work.gathered, thread, body, 24, force)
        store3(work.gathered, thread, body, 27, torque)
        store3(work.gathered, thread, body, 30, force)
        square = dot(error, error)
        turn_square = dot(turn_error, turn_error)
        distance = select(mass, root(square), nothing)
        angle = select(stiffness, root(turn_square), nothing)
        work.trial_error[thread, 0, 0] = add(work.trial_error[thread, 0, 0], distance)
        work.trial_error[thread, 0, 1] = add(work.trial_error[thread, 0, 1], angle)
        return mad(mass, square, mul(stiffness, turn_square))

    @wp.func
    def linearise(thread: int, posture2: float, model: Model, work: Work) -> V:
        """Forward kinematics about the base and the targets' inertias and wrenches, at the trial posture; gives its cost."""
        base = load3(work.trial_root, thread, 0, 0)
        work.trial_error[thread, 0, 0] = V(0.0)
        work.trial_error[thread, 0, 1] = V(0.0)
        turn = matrix_of_quaternion(
            work.trial_root[thread, 0, 3], work.trial_root[thread, 0, 4],
            work.trial_root[thread, 0, 5], work.trial_root[thread, 0, 6],
        )  # fmt: skip
        place = V3()
        place.x = V(0.0)
        place.y = V(0.0)
        place.z = V(0.0)
        store_matrix(work.turn, thread, 0, 0, turn)
        store3(work.place, thread, 0, 0, place)
        root_task = model.task_of_body[0]
        cost = aim(thread, 0, root_task, model.axes[root_task], turn, place, base, work)
        for body in range(1, model.parents.shape[0]):
            parent = model.parents[body]
            above = load_matrix(work.turn, thread, parent, 0)
            at = place_of(above, model.offset[body], load3(work.place, thread, parent, 0))
            angle = work.trial[thread, body, 0]
            own = turned_about_z(times_constant(above, model.fixed[body]), sine(angle), cosine(angle))
            store_matrix(work.turn, thread, body, 0, own)
            store3(work.place, thread, body, 0, at)
            away = sub(angle, work.pull_to[thread, body, 0])
            cost = scale_add(mul(away, away), posture2, cost)
            task = model.task_of_body[body]
            if task >= 0:
                cost = add(cost, aim(thread, body, task, model.axes[task], own, at, base, work))
            else:
                for k in range(33):
                    work.gathered[thread, body, k] = V(0.0)
        return cost

    @wp.func
    def push(thread: int, body: int, point: V3, normal: V3, stiffness: V, depth: V, work: Work):
        """Draw the body along `normal` at `point` by `depth`: an inertia of one direction, and its wrench."""
        lever = cross(point, normal)
        heavy = scale3(lever, stiffness)
        firm = scale3(normal, stiffness)
        minus_heavy = scale3(heavy, V(-1.0))
        minus_firm = scale3(firm, V(-1.0))
        ww = load_symmetric(work.gathered, thread, body, 0)
        wv = load_matrix(work.gathered, thread, body, 6)
        vv = load_symmetric(work.gathered, thread, body, 15)
        store_symmetric(work.gathered, thread, body, 0, minus_outer_symmetric(ww, minus_heavy, lever))
        store_matrix(work.gathered, thread, body, 6, minus_outer(wv, minus_heavy, normal))
        store_symmetric(work.gathered, thread, body, 15, minus_outer_symmetric(vv, minus_firm, normal))
        torque = scale3(heavy, depth)
        force = scale3(firm, depth)
        gather3(work.gathered, thread, body, 21, torque)
        gather3(work.gathered, thread, body, 24, force)
        gather3(work.gathered, thread, body, 27, torque)
        gather3(work.gathered, thread, body, 30, force)

    @wp.func
    def keep_off_floor(thread: int, weight2: float, allowed: float, outline: OutlineModel, work: Work) -> V:
        """Both ends of every capsule, the feet's as far as `allowed`; gives the cost. Places the capsules."""
        cost = V(0.0)
        nothing = V(0.0)
        origin = V3()
        origin.x = nothing
        origin.y = nothing
        origin.z = nothing
        up = origin
        up.z = V(1.0)
        floor = sub(work.floor[thread, 0, 0], work.trial_root[thread, 0, 2])
        for capsule in range(outline.capsule_body.shape[0]):
            body = outline.capsule_body[capsule]
            turn = load_matrix(work.turn, thread, body, 0)
            centre = place_of(turn, outline.capsule_centre[capsule], load3(work.place, thread, body, 0))
            half = place_of(turn, outline.capsule_half[capsule], origin)
            store3(work.span, thread, capsule, 0, centre)
            store3(work.span, thread, capsule, 3, half)
            ground = floor
            if outline.capsule_of_foot[capsule] > 0:
                ground = sub(floor, V(allowed))
            for end in range(2):
                point = add3(centre, half)
                if end == 1:
                    point = sub3(centre, half)
                point.z = sub(point.z, V(outline.capsule_radius[capsule]))
                depth = maximum(sub(ground, point.z), nothing)
                if lowest_lane(sub(nothing, depth)) < 0.0:
                    push(thread, body, point, up, select(depth, V(weight2), nothing), depth, work)
                    cost = scale_add(mul(depth, depth), weight2, cost)
        return cost

    @wp.func
    def keep_apart(thread: int, weight2: float, allowed: float, outline: OutlineModel, work: Work) -> V:
        """Push overlapping capsules apart; gives the cost.

        A depth couples two bodies, which the recursion cannot hold. (a − b)² ≤ 2 a² + 2 b², equal where a = −b: each body is
        drawn half the way with twice the weight, which gives the same gradient and never steps too far.
        """
        cost = V(0.0)
        nothing = V(0.0)
        for bundle in range(outline.bundle_one.shape[0]):
            hearts = sub3(
                load3(work.span, thread, outline.bundle_one[bundle], 0),
                load3(work.span, thread, outline.bundle_other[bundle], 0),
            )
            reach = outline.bundle_reach[bundle]
            if lowest_lane(dot(hearts, hearts)) < reach * reach:
                for k in range(outline.bundle_first[bundle], outline.bundle_first[bundle + 1]):
                    one = outline.pair_one[k]
                    other = outline.pair_other[k]
                    here = load3(work.span, thread, one, 0)
                    there = load3(work.span, thread, other, 0)
                    u = load3(work.span, thread, one, 3)
                    v = load3(work.span, thread, other, 3)
                    s, t = nearest(sub3(here, there), u, v)
                    here = mad3(u, s, here)
                    there = mad3(v, t, there)
                    way = sub3(here, there)
                    gap = maximum(root(dot(way, way)), V(1.0e-6))
                    radii = outline.capsule_radius[one] + outline.capsule_radius[other]
                    depth = maximum(sub(V(radii - allowed), gap), nothing)
                    if lowest_lane(sub(nothing, depth)) < 0.0:
                        normal = scale3(way, div(V(1.0), gap))
                        half = scale(depth, 0.5)
                        stiffness = select(depth, V(2.0 * weight2), nothing)
                        push(thread, outline.capsule_body[one], here, normal, stiffness, half, work)
                        away = scale3(normal, V(-1.0))
                        push(thread, outline.capsule_body[other], there, away, stiffness, half, work)
                        cost = scale_add(mul(depth, depth), weight2, cost)
        return cost

    @wp.func
    def joint_axis(thread: int, body: int, work: Work) -> V3:
        r = V3()
        r.x = work.turn[thread, body, 2]
        r.y = work.turn[thread, body, 5]
        r.z = work.turn[thread, body, 8]
        return r

    @wp.func
    def eliminate(thread: int, posture2: float, damping: V, model: Model, work: Work):
        """Upwards, take every joint out of the problem.

        It leaves its parent an inertia (ww, wv, vv), a wrench (tw, tv) and, for the test at the limits, the plain sum of the
        wrenches below it (gw, gv): the gradient. A joint at its limit that is pushed outwards is held: its pivot is 0.
        """
        count = model.parents.shape[0]
        for back in range(count - 1):
            body = count - 1 - back
            ww = load_symmetric(work.gathered, thread, body, 0)
            wv = load_matrix(work.gathered, thread, body, 6)
            vv = load_symmetric(work.gathered, thread, body, 15)
            tw = load3(work.gathered, thread, body, 21)
            tv = load3(work.gathered, thread, body, 24)
            gw = load3(work.gathered, thread, body, 27)
            gv = load3(work.gathered, thread, body, 30)
            sw = joint_axis(thread, body, work)
            sv = cross(load3(work.place, thread, body, 0), sw)
            angle = work.trial[thread, body, 0]
            pull = scale(sub(work.pull_to[thread, body, 0], angle), posture2)
            gradient = add(add(dot(sw, gw), dot(sv, gv)), pull)
            uw = add3(symmetric_times(ww, sw), times(wv, sv))
            uv = add3(transposed_times(wv, sw), symmetric_times(vv, sv))
            inertia = add(add(dot(sw, uw), dot(sv, uv)), add(damping, V(posture2)))
            drive = add(add(dot(sw, tw), dot(sv, tv)), pull)
            pivot = div(is_free(angle, gradient, model.lower[body], model.upper[body]), inertia)
            store3(work.force_per_rate, thread, body, 0, uw)
            store3(work.force_per_rate, thread, body, 3, uv)
            work.pivot[thread, body, 0] = pivot
            work.step[thread, body, 0] = drive
            pw = scale3(uw, pivot)
            pv = scale3(uv, pivot)
            parent = model.parents[body]
            gather_symmetric(work.gathered, thread, parent, 0, minus_outer_symmetric(ww, pw, uw))
            gather_matrix(work.gathered, thread, parent, 6, minus_outer(wv, pw, uv))
            gather_symmetric(work.gathered, thread, parent, 15, minus_outer_symmetric(vv, pv, uv))
            gather3(work.gathered, thread, parent, 21, nmad3(pw, drive, tw))
            gather3(work.gathered, thread, parent, 24, nmad3(pv, drive, tv))
            gather3(work.gathered, thread, parent, 27, gw)
            gather3(work.gathered, thread, parent, 30, gv)

    @wp.func
    def solve_base(thread: int, damping: V, work: Work):
        """The base's velocity, from its 6×6 block by the Schur complement."""
        base_ww = load_symmetric(work.gathered, thread, 0, 0)
        base_wv = load_matrix(work.gathered, thread, 0, 6)
        base_tw = load3(work.gathered, thread, 0, 21)
        base_tv = load3(work.gathered, thread, 0, 24)
        across = inverse(plus_diagonal(load_symmetric(work.gathered, thread, 0, 15), damping))
        mixed = times_symmetric(base_wv, across)
        schur = S3()
        schur.xx = nmad(
            mixed.xx, base_wv.xx, nmad(mixed.xy, base_wv.xy, nmad(mixed.xz, base_wv.xz, add(base_ww.xx, damping)))
        )
        schur.xy = nmad(mixed.xx, base_wv.yx, nmad(mixed.xy, base_wv.yy, nmad(mixed.xz, base_wv.yz, base_ww.xy)))
        schur.xz = nmad(mixed.xx, base_wv.zx, nmad(mixed.xy, base_wv.zy, nmad(mixed.xz, base_wv.zz, base_ww.xz)))
        schur.yy = nmad(
            mixed.yx, base_wv.yx, nmad(mixed.yy, base_wv.yy, nmad(mixed.yz, base_wv.yz, add(base_ww.yy, damping)))
        )
        schur.yz = nmad(mixed.yx, base_wv.zx, nmad(mixed.yy, base_wv.zy, nmad(mixed.yz, base_wv.zz, base_ww.yz)))
        schur.zz = nmad(
            mixed.zx, base_wv.zx, nmad(mixed.zy, base_wv.zy, nmad(mixed.zz, base_wv.zz, add(base_ww.zz, damping)))
        )
        w = symmetric_times(inverse(schur), sub3(base_tw, times(mixed, base_tv)))
        v = symmetric_times(across, sub3(base_tv, transposed_times(base_wv, w)))
        store3(work.velocity, thread, 0, 0, w)
        store3(work.velocity, thread, 0, 3, v)

    @wp.func
    def substitute(thread: int, model: Model, work: Work) -> V:
        """Downwards, every joint's step; gives the largest turn of all, the base's shift counted at 3 rad/m [rad]."""
        w = load3(work.velocity, thread, 0, 0)
        v = load3(work.velocity, thread, 0, 3)
        largest = max_abs(max_abs(max_abs(scale(max_abs(max_abs(max_abs(V(0.0), v.x), v.y), v.z), 3.0), w.x), w.y), w.z)
        for body in range(1, model.parents.shape[0]):
            parent = model.parents[body]
            above_w = load3(work.velocity, thread, parent, 0)
            above_v = load3(work.velocity, thread, parent, 3)
            given = add(
                dot(load3(work.force_per_rate, thread, body, 0), above_w),
                dot(load3(work.force_per_rate, thread, body, 3), above_v),
            )
            turn = mul(sub(work.step[thread, body, 0], given), work.pivot[thread, body, 0])
            work.step[thread, body, 0] = turn
            largest = max_abs(largest, turn)
            axis = joint_axis(thread, body, work)
            store3(work.velocity, thread, body, 0, mad3(axis, turn, above_w))
            lever = cross(load3(work.place, thread, body, 0), axis)
            store3(work.velocity, thread, body, 3, mad3(lever, turn, above_v))
        return largest

    @wp.func
    def take_step(thread: int, accept: V, largest: V, model: Model, work: Work):
        """Known posture := trial where it was accepted; then trial := known + step, or known where it was not."""
        # Linearisation is worthless beyond about a radian.
        share = div(accept, maximum(V(1.0), largest))
        for body in range(1, model.parents.shape[0]):
            known = select(accept, work.trial[thread, body, 0], work.known[thread, body, 0])
            work.known[thread, body, 0] = known
            moved = mad(work.step[thread, body, 0], share, known)
            work.trial[thread, body, 0] = clamp(moved, model.lower[body], model.upper[body])
        for k in range(7):
            known = select(accept, work.trial_root[thread, 0, k], work.known_root[thread, 0, k])
            work.known_root[thread, 0, k] = known
            work.trial_root[thread, 0, k] = known
        shift = load3(work.velocity, thread, 0, 3)
        store3(work.trial_root, thread, 0, 0, mad3(shift, share, load3(work.trial_root, thread, 0, 0)))
        # The quaternion of a turn of at most a radian, by its series; then one Newton step to unit length.
        turn = scale3(load3(work.velocity, thread, 0, 0), share)
        square = dot(turn, turn)
        vector = nmad(square, nmad(square, V(1.0 / 3840.0), V(1.0 / 48.0)), V(0.5))
        scalar = nmad(square, nmad(square, nmad(square, V(1.0 / 46080.0), V(1.0 / 384.0)), V(0.125)), V(1.0))
        turn = scale3(turn, vector)
        x = work.trial_root[thread, 0, 3]
        y = work.trial_root[thread, 0, 4]
        z = work.trial_root[thread, 0, 5]
        w = work.trial_root[thread, 0, 6]
        new_x = add(mad(scalar, x, mul(turn.x, w)), nmad(turn.z, y, mul(turn.y, z)))
        new_y = add(mad(scalar, y, mul(turn.y, w)), nmad(turn.x, z, mul(turn.z, x)))
        new_z = add(mad(scalar, z, mul(turn.z, w)), nmad(turn.y, x, mul(turn.x, y)))
        new_w = nmad(turn.x, x, nmad(turn.y, y, nmad(turn.z, z, mul(scalar, w))))
        norm = mad(new_x, new_x, mad(new_y, new_y, mad(new_z, new_z, mul(new_w, new_w))))
        unit = nmad(V(0.5), norm, V(1.5))
        work.trial_root[thread, 0, 3] = mul(new_x, unit)
        work.trial_root[thread, 0, 4] = mul(new_y, unit)
        work.trial_root[thread, 0, 5] = mul(new_z, unit)
        work.trial_root[thread, 0, 6] = mul(new_w, unit)

    @wp.func
    def write_frame(thread: int, lane: int, job: Job, model: Model, work: Work, state: wp.array3d(dtype=int)) -> int:
        """Write a lane's frame to the results; gives 1 where its cost is as low as was asked for."""
        place = state[thread, lane, PLACE]
        state[thread, lane, PLACE] = place + 1
        base = work.trial_root
        job.out_position[place] = wp.vec3(base[thread, 0, 0][lane], base[thread, 0, 1][lane], base[thread, 0, 2][lane])
        job.out_rotation[place] = wp.vec4(
            base[thread, 0, 6][lane], base[thread, 0, 3][lane], base[thread, 0, 4][lane], base[thread, 0, 5][lane]
        )
        job.out_cost[place] = work.cost[thread, 0, 0][lane]
        job.out_error[place] = wp.vec2(work.error[thread, 0, 0][lane], work.error[thread, 0, 1][lane])
        job.out_iterations[place] = state[thread, lane, USED]
        for body in range(1, model.parents.shape[0]):
            job.out_joints[place, body - 1] = work.trial[thread, body, 0][lane]
        if work.cost[thread, 0, 0][lane] < job.cost_to_beat[state[thread, lane, FRAME]]:
            return 1
        return 0

    @wp.func
    def quaternion(q: wp.vec4) -> wp.quat:
        return wp.quat(q[1], q[2], q[3], q[0])

    @wp.func
    def start_run(thread: int, lane: int, run: int, job: Job, model: Model, work: Work):
        """The lane takes its first frame's posture from the job."""
        position = job.start_position[run]
        rotation = quaternion(job.start_rotation[run])
        for k in range(3):
            work.trial_root[thread, 0, k][lane] = position[k]
        for k in range(4):
            work.trial_root[thread, 0, 3 + k][lane] = rotation[k]
        for body in range(1, model.parents.shape[0]):
            work.trial[thread, body, 0][lane] = job.start_joints[run, body - 1]

    @wp.func
    def carry_root(thread: int, lane: int, old_frame: int, frame: int, job: Job, model: Model, work: Work):
        """The base turns as its target does, so that a spinning person is not chased from behind."""
        base = model.task_of_body[0]
        turn = wp.mul(quaternion(job.rotation[frame, base]), wp.quat_inverse(quaternion(job.rotation[old_frame, base])))
        old = wp.quat(
            work.trial_root[thread, 0, 3][lane], work.trial_root[thread, 0, 4][lane],
            work.trial_root[thread, 0, 5][lane], work.trial_root[thread, 0, 6][lane],
        )  # fmt: skip
        carried = wp.normalize(wp.mul(turn, old))
        for k in range(4):
            work.trial_root[thread, 0, 3 + k][lane] = carried[k]

    @wp.func
    def load_targets(thread: int, lane: int, frame: int, job: Job, model: Model, work: Work):
        if job.clear > 0:
            work.floor[thread, 0, 0][lane] = job.floor[frame]
        posture = wp.min(frame, job.pull_to.shape[0] - 1)
        for body in range(1, model.parents.shape[0]):
            work.pull_to[thread, body, 0][lane] = job.pull_to[posture, body - 1]
        for task in range(job.position.shape[1]):
            rotation = job.rotation[frame, task]
            position = job.position[frame, task]
            weight2 = job.weight2[wp.min(frame, job.weight2.shape[0] - 1), task]
            for k in range(3):
                work.target[thread, task, k][lane] = rotation[k + 1]
                work.target[thread, task, 4 + k][lane] = position[k]
            work.target[thread, task, 3][lane] = rotation[0]
            work.target[thread, task, 7][lane] = weight2[0]
            work.target[thread, task, 8][lane] = weight2[1]

    @wp.func
    def next_frame(
        thread: int, lane: int, run: int, good: int, job: Job, model: Model, work: Work, state: wp.array3d(dtype=int)
    ) -> int:
        """Give a lane the next frame of its run, or the first of `run` (−1: there is none left); gives 1 where it took that."""
        frame = state[thread, lane, FRAME]
        new = int(-1)
        took = int(0)
        if frame >= 0 and state[thread, lane, TO_COME] > 0 and good > 0:
            new = frame + state[thread, lane, STRIDE]
            state[thread, lane, TO_COME] = state[thread, lane, TO_COME] - 1
            state[thread, lane, ALLOWED] = job.later_iterations
            carry_root(thread, lane, frame, new, job, model, work)
        elif run >= 0:
            took = int(1)
            new = job.firsts[run]
            state[thread, lane, STRIDE] = job.strides[run]
            state[thread, lane, TO_COME] = job.lengths[run] - 1
            state[thread, lane, ALLOWED] = job.first_iterations
            state[thread, lane, PLACE] = job.places[run]
            start_run(thread, lane, run, job, model, work)
        state[thread, lane, FRAME] = new
        state[thread, lane, USED] = 0
        state[thread, lane, DONE] = 0
        if new >= 0:
            work.damping[thread, 0, 0][lane] = FIRST_DAMPING
            work.fresh[thread, 0, 0][lane] = 1.0
            load_targets(thread, lane, new, job, model, work)
        return took

    @wp.func
    def improve(thread: int, job: Job, model: Model, outline: OutlineModel, work: Work, state: wp.array3d(dtype=int)):
        """One linearisation and one step of all lanes, and which of them are done with their frames."""
        trial_cost = linearise(thread, job.posture2, model, work)
        if job.clear > 0:
            trial_cost = add(trial_cost, keep_off_floor(thread, job.floor2, job.allowed_depth, outline, work))
            trial_cost = add(trial_cost, keep_apart(thread, job.apart2, job.allowed_overlap, outline, work))
        cost = work.cost[thread, 0, 0]
        fresh = work.fresh[thread, 0, 0]
        accept = maximum(fresh, at_most(trial_cost, scale(cost, 1.000001)))
        damping = work.damping[thread, 0, 0]
        eased = maximum(scale(damping, 0.3), V(LEAST_DAMPING))
        raised = maximum(scale(damping, 10.0), V(REFUSED_DAMPING))
        damping = select(fresh, damping, select(accept, eased, raised))
        work.damping[thread, 0, 0] = damping
        work.cost[thread, 0, 0] = select(accept, trial_cost, cost)
        for k in range(2):
            work.error[thread, 0, k] = select(accept, work.trial_error[thread, 0, k], work.error[thread, 0, k])
        # A posture that was refused is taken back and linearised anew, which asks for no further proof.
        work.fresh[thread, 0, 0] = sub(V(1.0), accept)
        eliminate(thread, job.posture2, damping, model, work)
        solve_base(thread, damping, work)
        largest = substitute(thread, model, work)
        take_step(thread, accept, largest, model, work)
        for lane in range(state.shape[1]):
            if state[thread, lane, FRAME] >= 0:
                used = state[thread, lane, USED] + 1
                state[thread, lane, USED] = used
                if accept[lane] > 0.0 and largest[lane] < job.tolerance:
                    state[thread, lane, DONE] = 1
                elif used >= state[thread, lane, ALLOWED]:
                    # The last step was never tried: what is known to be good stands.
                    for body in range(1, model.parents.shape[0]):
                        work.trial[thread, body, 0][lane] = work.known[thread, body, 0][lane]
                    for k in range(7):
                        work.trial_root[thread, 0, k][lane] = work.known_root[thread, 0, k][lane]
                    state[thread, lane, DONE] = 1

    @wp.kernel(module="unique")
    def solve_runs(
        job: Job, model: Model, outline: OutlineModel, work: Work, state: wp.array3d(dtype=int), threads: int
    ):
        thread = wp.tid()
        lane_count = state.shape[1]
        run_count = job.firsts.shape[0]
        share = (run_count + threads - 1) / threads
        next_run = wp.min(thread * share, run_count)
        stop_run = wp.min(next_run + share, run_count)
        for lane in range(lane_count):
            state[thread, lane, FRAME] = -1
            state[thread, lane, DONE] = 1
        going = int(1)
        while going > 0:
            going = int(0)
            for lane in range(lane_count):
                if state[thread, lane, DONE] > 0:
                    good = int(0)
                    if state[thread, lane, FRAME] >= 0:
                        good = write_frame(thread, lane, job, model, work, state)
                    run = int(-1)
                    if next_run < stop_run:
                        run = next_run
                    next_run += next_frame(thread, lane, run, good, job, model, work, state)
                if state[thread, lane, FRAME] >= 0:
                    going += 1
            if going > 0:
                improve(thread, job, model, outline, work, state)

    return SimpleNamespace(solve_runs=solve_runs, V=V, Work=Work)
