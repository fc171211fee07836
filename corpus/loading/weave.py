"""The kernel that weaves windows: warped in time, mirrored, turned, with velocities. One source, CPU and CUDA."""

# Warp's annotations are for its own compiler; to a type checker they are calls and its scalars are not what they seem.
# pyright: reportInvalidTypeForm=false, reportArgumentType=false, reportCallIssue=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false, reportAttributeAccessIssue=false, reportIndexIssue=false, reportReturnType=false
# pyright: reportAssignmentType=false

import functools

import warp as wp

from corpus.loading.window_kernels import (
    RATE,
    SHOW,
    Moment,
    Task,
    Window,
    moment_of,
    number_at,
    put,
    put_flag,
    put_touches,
    quaternion_of,
    row_at,
)  # fmt: skip


@functools.cache
def build_weave(mirror: tuple[int, ...]) -> wp.Kernel:
    """The kernel `weave` for rows of `len(mirror)` columns; column c of the mirrored robot is column |m| − 1 of the robot, with
    the sign of m = mirror[c]."""
    columns = len(mirror)
    row_bytes = 4 * columns

    @wp.func_native(_blend_code(tuple(range(1, columns + 1))))
    def blend(to: wp.uint64, a: wp.uint64, b: wp.uint64, share: float): ...

    @wp.func_native(_blend_code(mirror))
    def blend_mirrored(to: wp.uint64, a: wp.uint64, b: wp.uint64, share: float): ...

    @wp.func_native(_rate_code(columns))
    def put_rates(to: wp.uint64, place: int, low: wp.uint64, high: wp.uint64, turn: wp.vec3, per_step: float): ...

    @wp.func
    def put_root(to: wp.uint64, window: Window, a: wp.uint64, b: wp.uint64, share: float, turn: wp.vec2):
        """The root's level position and orientation once more: linear, normalised, the short way; and turned."""
        p = quaternion_of(a)
        q = quaternion_of(b)
        q = p * (1.0 - share) + q * wp.where(wp.dot(p, q) < 0.0, -share, share)
        q = q / wp.length(q)
        if window.mirrored == 1:
            q = wp.vec4(q[0], -q[1], q[2], -q[3])
        if window.yaw != 0.0:
            c = turn[0]
            s = turn[1]
            q = wp.vec4(c * q[0] - s * q[3], c * q[1] - s * q[2], c * q[2] + s * q[1], c * q[3] + s * q[0])
            pivot = row_at(window.rows, window.start, row_bytes)
            y_sign = wp.where(window.mirrored == 1, -1.0, 1.0)
            px = number_at(pivot, 0)
            py = number_at(pivot, 1) * y_sign
            x = number_at(to, 0) - px
            y = number_at(to, 1) - py
            cosine = c * c - s * s
            sine = 2.0 * s * c
            put(to, 0, px + cosine * x - sine * y)
            put(to, 1, py + sine * x + cosine * y)
        for k in range(4):
            put(to, 3 + k, q[k])

    @wp.func
    def show(to: wp.uint64, window: Window, frame: int, turn: wp.vec2) -> Moment:
        at = moment_of(window, frame)
        a = row_at(window.rows, at.row, row_bytes)
        b = a
        if at.share > 0.0:
            b = a + wp.uint64(row_bytes)
        if window.mirrored == 1:
            blend_mirrored(to, a, b, at.share)
        else:
            blend(to, a, b, at.share)
        if at.share > 0.0 or window.yaw != 0.0:
            put_root(to, window, a, b, at.share, turn)
        return at

    @wp.func
    def show_frames(task: Task, window: Window, number: int, begin: int, end: int):
        turn = wp.vec2(wp.cos(0.5 * window.yaw), wp.sin(0.5 * window.yaw))
        for j in range(begin, end):
            place = number * task.length + j
            at = show(row_at(task.qpos, place, row_bytes), window, j - task.history, turn)
            put_flag(task.valid, place, at.inside)
            if task.contact != wp.uint64(0):
                put_touches(task.contact, place, window.touches, at.row + int(at.share + 0.5), window.mirrored)
        if task.velocity != wp.uint64(0):
            if begin == 0:
                show(row_at(task.edges, 2 * number, row_bytes), window, -1 - task.history, turn)
            if end == task.length:
                show(row_at(task.edges, 2 * number + 1, row_bytes), window, task.length - task.history, turn)

    @wp.func
    def shown(task: Task, number: int, j: int) -> wp.uint64:
        if j < 0:
            return row_at(task.edges, 2 * number, row_bytes)
        if j == task.length:
            return row_at(task.edges, 2 * number + 1, row_bytes)
        return row_at(task.qpos, number * task.length + j, row_bytes)

    @wp.func
    def find_rates(task: Task, window: Window, number: int, begin: int, end: int):
        """Central differences between the frames around each, one-sided where the segment ends, zero beyond it."""
        here = shown(task, number, begin)
        is_here = moment_of(window, begin - task.history).inside
        before = shown(task, number, begin - 1)
        step_before = is_here and moment_of(window, begin - 1 - task.history).inside
        turn_before = wp.vec3()
        if step_before:
            turn_before = turn_between(before, here)
        for j in range(begin, end):
            after = shown(task, number, j + 1)
            is_after = moment_of(window, j + 1 - task.history).inside
            step_after = is_here and is_after
            turn_after = wp.vec3()
            low = here
            high = here
            per_step = float(task.fps)
            if step_before:
                low = before
            if step_after:
                turn_after = turn_between(here, after)
                high = after
                if step_before:
                    per_step = 0.5 * task.fps
            put_rates(
                task.velocity, number * task.length + j, low, high, (turn_before + turn_after) * per_step, per_step
            )
            before = here
            here = after
            is_here = is_after
            step_before = step_after
            turn_before = turn_after

    @wp.kernel(module="unique")
    def weave(windows: wp.array(dtype=Window), task: Task):
        number, piece = wp.tid()
        window = windows[number]
        begin = piece * task.frames_per_thread
        end = wp.min(begin + task.frames_per_thread, task.length)
        if task.steps & SHOW != 0:
            show_frames(task, window, number, begin, end)
        if task.steps & RATE != 0:
            find_rates(task, window, number, begin, end)

    return weave


@wp.func
def turn_between(a: wp.uint64, b: wp.uint64) -> wp.vec3:
    """Rotation vector from one row's orientation to the other's, in the root's own frame, the shorter way round."""
    p = quaternion_of(a)
    q = quaternion_of(b)
    w = wp.dot(p, q)
    u = wp.vec3(p[1], p[2], p[3])
    v = wp.vec3(q[1], q[2], q[3])
    v = v * p[0] - u * q[0] - wp.cross(u, v)
    if w < 0.0:
        v = -v
    # 2 arcsin(s) / s by its series, good to 2e-8 for turns below 29°; the longer ones are rare.
    z = wp.dot(v, v)
    if z < 0.0625:
        return v * (2.0 + z * (1.0 / 3.0 + z * (3.0 / 20.0 + z * (5.0 / 56.0 + z * (35.0 / 576.0)))))
    sine = wp.sqrt(z)
    return v * (2.0 * wp.atan2(sine, wp.abs(w)) / sine)


def _blend_code(source: tuple[int, ...]) -> str:
    """C++: every column of `to` between rows `a` and `b`, each from its signed source column; neighbours that stay neighbours
    are one loop."""
    code = [
        "float* t = (float*)to; const float* x = (const float*)a; const float* y = (const float*)b;",
        f"const float sign[] = {{{', '.join('-1.0f' if s < 0 else '1.0f' for s in source)}}};",
    ]
    breaks = [c for c in range(1, len(source)) if abs(source[c]) != abs(source[c - 1]) + 1]
    for begin, end in zip([0, *breaks], [*breaks, len(source)], strict=True):
        s = f"c + {abs(source[begin]) - 1 - begin}"
        code.append(f"for (int c = {begin}; c < {end}; ++c) t[c] = sign[c] * (x[{s}] + share * (y[{s}] - x[{s}]));")
    return "\n".join(code)


def _rate_code(columns: int) -> str:
    """C++: root linear, root angular (given), joints."""
    return (
        f"float* t = (float*)to + (long long)place * {columns - 1};"
        "const float* x = (const float*)low; const float* y = (const float*)high;"
        f"for (int c = 7; c < {columns}; ++c) t[c - 1] = (y[c] - x[c]) * per_step;"
        "for (int c = 0; c < 3; ++c) { t[c] = (y[c] - x[c]) * per_step; t[c + 3] = turn[c]; }"
    )
