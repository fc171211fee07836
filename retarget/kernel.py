"""The kernel: inverse kinematics of many frames, one thread per run of frames, one source for CPU and CUDA.

A target on a body is a spatial inertia (mass = position weight², rotational part = orientation weight²) with a wrench
(the weighted error). The Gauss-Newton step that minimises

    Σ_b  wp_b² |p_b − p*_b|² + wr_b² |log(R*_b R_bᵀ)|²  +  posture_weight² |q − q_rest|²

is then the forward-dynamics problem of that fictitious machine, and Featherstone's articulated-body recursion solves it in
one sweep up and one down the tree: no Jacobian and no Hessian is ever stored, damping adds to the pivots, and a joint held
at its limit is a joint that is left out. Around it runs Levenberg-Marquardt with an accept test on the true cost.
All quantities are in world axes about the robot's base; quaternions are Warp's, `[x y z w]`.
"""

# Warp's annotations describe device arrays; to a type checker they are calls, and its scalars are not what they seem.
# pyright: reportInvalidTypeForm=false, reportArgumentType=false, reportCallIssue=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false, reportAttributeAccessIssue=false, reportIndexIssue=false, reportReturnType=false

import warp as wp

wp.config.log_level = wp.LOG_ERROR  # before its first use: it greets otherwise
wp.config.enable_backward = False


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
def solve_runs(
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
