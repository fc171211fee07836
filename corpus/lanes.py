"""Arithmetic on lanes, for Warp kernels: every number is a vector of as many numbers as the processor takes at once.

On a CPU a kernel works on `LANES_CPU` frames in step, so that each line below is one SIMD instruction; on a GPU a thread is
a lane already, and the width is 1. The text of a kernel is the same for both.
"""

# Warp's annotations are for its own compiler; to a type checker they are calls and its scalars are not what they seem.
# pyright: reportInvalidTypeForm=false, reportGeneralTypeIssues=false, reportReturnType=false, reportOperatorIssue=false
# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportCallIssue=false

import functools
from types import SimpleNamespace
from typing import Any

import numpy as np
import warp as wp

import corpus.warp_tools  # noqa: F401  Warp's settings, before its first use

LANES_CPU = 16
"""Frames per instruction: 16 floats are one AVX-512 register, two of AVX2, four of SSE or NEON."""


_FUNCTIONS = ("fma", "min", "max", "abs", "sqrt", "roundeven")
_SCALAR_FUNCTIONS = ("fmaf", "wp::min", "wp::max", "fabsf", "sqrtf", "rintf")


def _code(lanes: int, parameters: str, text: str) -> str:
    """The C++ body of a function of lanes: `text` is statements and, last, an expression in lower-case parameters.

    `F` is the lane type; parameters after "|" are the same for all lanes. FMA, MIN, MAX, ABS, SQRT and ROUNDEVEN work on
    `F`. A width of 1 gives plain C++, since the compilers for GPUs know no vector types.
    """
    vectors, _, scalars = parameters.partition("|")
    functions = _SCALAR_FUNCTIONS if lanes == 1 else [f"__builtin_elementwise_{name}" for name in _FUNCTIONS]
    for name, function in zip(_FUNCTIONS, functions, strict=True):
        text = text.replace(f"{name.upper()}(", f"{function}(")
    *steps, result = text.split(";")
    kind = "float F" if lanes == 1 else f"float F __attribute__((ext_vector_type({lanes})))"
    load = "F {0} = {0}_.c[0];" if lanes == 1 else "F {0}; __builtin_memcpy(&{0}, &{0}_, sizeof(F));"
    store = "lanes_.c[0] = out;" if lanes == 1 else "__builtin_memcpy(&lanes_, &out, sizeof(F));"
    return "\n".join([
        f"typedef {kind};",
        *(load.format(name) for name in vectors.split()),
        *(f"F {name} = (F)({name}_);" for name in scalars.split()),
        *(f"{step.strip()};" for step in steps),
        f"F out = {result.strip()};",
        f"wp::vec_t<{lanes}, wp::float32> lanes_; {store} return lanes_;",
    ])  # fmt: skip


# Sine and cosine of half the angle, brought into ±π, by polynomials good to single precision there.
_HALF_ANGLE = (
    "F turns = ROUNDEVEN(a * (F)(0.15915494f)); F h = (F)(0.5f) * FMA(turns, (F)(-6.2831855f), a); F z = h * h;"
    "F s = h * FMA(FMA(FMA(FMA(FMA((F)(-2.3889859e-8f), z, (F)(2.7525562e-6f)), z, (F)(-1.9840874e-4f)), z,"
    "(F)(8.3333310e-3f)), z, (F)(-0.16666667f)), z, (F)(1.0f));"
)
_COSINE = (
    "F c = FMA(FMA(FMA(FMA(FMA((F)(-2.6051615e-7f), z, (F)(2.4760495e-5f)), z, (F)(-1.3888378e-3f)), z,"
    "(F)(0.041666638f)), z, (F)(-0.5f)), z, (F)(1.0f));"
)
# θ / sin θ from c = cos θ. With u = sin²(θ/2) = (1 − c)/2, arcsin(√w)/√w is a polynomial in w = min(u, 1 − u) ≤ ½, fitted
# to 5e-8. At θ = π the axis is lost: the floor under w keeps the result finite there.
_ANGLE_PER_SINE = (
    "F u = FMA((F)(-0.5f), c, (F)(0.5f)); F w = MAX(MIN(u, (F)(1.0f) - u), (F)(1.0e-8f));"
    "F p = FMA(FMA(FMA(FMA(FMA(FMA(FMA((F)(0.086037584f), w, (F)(-0.050191976f)), w, (F)(0.049307179f)), w,"
    "(F)(0.025185188f)), w, (F)(0.045106150f)), w, (F)(0.074984781f)), w, (F)(0.16666675f)), w, (F)(1.0f));"
    "F root = SQRT(w);"
    "(u < (F)(0.5f) ? p : ((F)(1.5707963f) - root * p) / root) / SQRT((F)(1.0f) - w)"
)


def lane_rows(rows: Any, lanes: int, device: str) -> wp.array:
    """R rows of T numbers as (R, blocks) lane vectors: frames lie last, so that a vector is so many frames of one number; the last
    one is filled up by the last frame."""
    frame_count = rows.shape[1]
    blocks = -(-frame_count // lanes)
    filled = np.empty((len(rows), blocks * lanes), np.float32)
    filled[:, :frame_count] = rows
    filled[:, frame_count:] = filled[:, frame_count - 1 : frame_count]
    on_cpu = wp.get_device(device).is_cpu
    return wp.array(filled.reshape(-1, blocks, lanes), dtype=lane_algebra(lanes).V, device=device, copy=not on_cpu)


@functools.cache
def lane_algebra(lanes: int) -> SimpleNamespace:
    """The lane type `V`, vectors and matrices of lanes, and what can be done with them."""
    V = wp.types.vector(length=lanes, dtype=wp.float32)
    code = functools.partial(_code, lanes)

    @wp.struct
    class V3:
        x: V
        y: V
        z: V

    @wp.struct
    class V4:
        x: V
        y: V
        z: V
        w: V

    @wp.struct
    class M3:
        xx: V
        xy: V
        xz: V
        yx: V
        yy: V
        yz: V
        zx: V
        zy: V
        zz: V

    @wp.struct
    class S3:
        """A symmetric matrix."""

        xx: V
        xy: V
        xz: V
        yy: V
        yz: V
        zz: V

    @wp.func_native(code("a b", "a + b"))
    def add(a_: V, b_: V) -> V: ...

    @wp.func_native(code("a b", "a - b"))
    def sub(a_: V, b_: V) -> V: ...

    @wp.func_native(code("a b", "a * b"))
    def mul(a_: V, b_: V) -> V: ...

    @wp.func_native(code("a b", "a / b"))
    def div(a_: V, b_: V) -> V: ...

    @wp.func_native(code("a b c", "FMA(a, b, c)"))
    def mad(a_: V, b_: V, c_: V) -> V: ...

    @wp.func_native(code("a b c", "FMA(-a, b, c)"))
    def nmad(a_: V, b_: V, c_: V) -> V: ...

    @wp.func_native(code("a | s", "a * s"))
    def scale(a_: V, s_: float) -> V: ...

    @wp.func_native(code("a c | s", "FMA(a, s, c)"))
    def scale_add(a_: V, s_: float, c_: V) -> V: ...

    @wp.func_native(code("a | low high", "MIN(MAX(a, low), high)"))
    def clamp(a_: V, low_: float, high_: float) -> V: ...

    @wp.func_native(code("a b", "MAX(a, ABS(b))"))
    def max_abs(a_: V, b_: V) -> V: ...

    @wp.func_native(code("a b", "MAX(a, b)"))
    def maximum(a_: V, b_: V) -> V: ...

    @wp.func_native(code("a b", "MIN(a, b)"))
    def minimum(a_: V, b_: V) -> V: ...

    @wp.func_native(code("a", "ABS(a)"))
    def absolute(a_: V) -> V: ...

    @wp.func_native(code("a", "SQRT(a)"))
    def root(a_: V) -> V: ...

    @wp.func
    def lowest_lane(a: V) -> float:
        lowest = a[0]
        for lane in range(1, wp.static(lanes)):
            lowest = wp.min(lowest, a[lane])
        return lowest

    @wp.func_native(code("mask a b", "(mask != (F)(0.0f)) ? a : b"))
    def select(mask_: V, a_: V, b_: V) -> V: ...

    @wp.func_native(code("a b", "(a <= b) ? (F)(1.0f) : (F)(0.0f)"))
    def at_most(a_: V, b_: V) -> V: ...

    @wp.func_native(
        code(
            "q g | low high",
            "(((q <= low) & (g < (F)(0.0f))) | ((q >= high) & (g > (F)(0.0f)))) ? (F)(0.0f) : (F)(1.0f)",
        )
    )
    def is_free(q_: V, g_: V, low_: float, high_: float) -> V: ...

    @wp.func_native(code("a", _HALF_ANGLE + _COSINE + "(F)(2.0f) * s * c"))
    def sine(a_: V) -> V: ...

    @wp.func_native(code("a", _HALF_ANGLE + "FMA((F)(-2.0f) * s, s, (F)(1.0f))"))
    def cosine(a_: V) -> V: ...

    @wp.func_native(code("c", _ANGLE_PER_SINE))
    def angle_per_sine(c_: V) -> V: ...

    @wp.func
    def dot(a: V3, b: V3) -> V:
        return mad(a.x, b.x, mad(a.y, b.y, mul(a.z, b.z)))

    @wp.func
    def cross(a: V3, b: V3) -> V3:
        r = V3()
        r.x = nmad(a.z, b.y, mul(a.y, b.z))
        r.y = nmad(a.x, b.z, mul(a.z, b.x))
        r.z = nmad(a.y, b.x, mul(a.x, b.y))
        return r

    @wp.func
    def add3(a: V3, b: V3) -> V3:
        r = V3()
        r.x = add(a.x, b.x)
        r.y = add(a.y, b.y)
        r.z = add(a.z, b.z)
        return r

    @wp.func
    def sub3(a: V3, b: V3) -> V3:
        r = V3()
        r.x = sub(a.x, b.x)
        r.y = sub(a.y, b.y)
        r.z = sub(a.z, b.z)
        return r

    @wp.func
    def scale3(a: V3, s: V) -> V3:
        r = V3()
        r.x = mul(a.x, s)
        r.y = mul(a.y, s)
        r.z = mul(a.z, s)
        return r

    @wp.func
    def mad3(a: V3, s: V, b: V3) -> V3:
        r = V3()
        r.x = mad(a.x, s, b.x)
        r.y = mad(a.y, s, b.y)
        r.z = mad(a.z, s, b.z)
        return r

    @wp.func
    def nmad3(a: V3, s: V, b: V3) -> V3:
        r = V3()
        r.x = nmad(a.x, s, b.x)
        r.y = nmad(a.y, s, b.y)
        r.z = nmad(a.z, s, b.z)
        return r

    @wp.func
    def symmetric_times(a: S3, b: V3) -> V3:
        r = V3()
        r.x = mad(a.xx, b.x, mad(a.xy, b.y, mul(a.xz, b.z)))
        r.y = mad(a.xy, b.x, mad(a.yy, b.y, mul(a.yz, b.z)))
        r.z = mad(a.xz, b.x, mad(a.yz, b.y, mul(a.zz, b.z)))
        return r

    @wp.func
    def times(a: M3, b: V3) -> V3:
        r = V3()
        r.x = mad(a.xx, b.x, mad(a.xy, b.y, mul(a.xz, b.z)))
        r.y = mad(a.yx, b.x, mad(a.yy, b.y, mul(a.yz, b.z)))
        r.z = mad(a.zx, b.x, mad(a.zy, b.y, mul(a.zz, b.z)))
        return r

    @wp.func
    def transposed_times(a: M3, b: V3) -> V3:
        r = V3()
        r.x = mad(a.xx, b.x, mad(a.yx, b.y, mul(a.zx, b.z)))
        r.y = mad(a.xy, b.x, mad(a.yy, b.y, mul(a.zy, b.z)))
        r.z = mad(a.xz, b.x, mad(a.yz, b.y, mul(a.zz, b.z)))
        return r

    @wp.func
    def times_symmetric(a: M3, b: S3) -> M3:
        r = M3()
        r.xx = mad(a.xx, b.xx, mad(a.xy, b.xy, mul(a.xz, b.xz)))
        r.xy = mad(a.xx, b.xy, mad(a.xy, b.yy, mul(a.xz, b.yz)))
        r.xz = mad(a.xx, b.xz, mad(a.xy, b.yz, mul(a.xz, b.zz)))
        r.yx = mad(a.yx, b.xx, mad(a.yy, b.xy, mul(a.yz, b.xz)))
        r.yy = mad(a.yx, b.xy, mad(a.yy, b.yy, mul(a.yz, b.yz)))
        r.yz = mad(a.yx, b.xz, mad(a.yy, b.yz, mul(a.yz, b.zz)))
        r.zx = mad(a.zx, b.xx, mad(a.zy, b.xy, mul(a.zz, b.xz)))
        r.zy = mad(a.zx, b.xy, mad(a.zy, b.yy, mul(a.zz, b.yz)))
        r.zz = mad(a.zx, b.xz, mad(a.zy, b.yz, mul(a.zz, b.zz)))
        return r

    @wp.func
    def times_constant(a: M3, f: wp.mat33) -> M3:
        """A matrix that is the same in all lanes on the right."""
        r = M3()
        r.xx = scale_add(a.xx, f[0, 0], scale_add(a.xy, f[1, 0], scale(a.xz, f[2, 0])))
        r.xy = scale_add(a.xx, f[0, 1], scale_add(a.xy, f[1, 1], scale(a.xz, f[2, 1])))
        r.xz = scale_add(a.xx, f[0, 2], scale_add(a.xy, f[1, 2], scale(a.xz, f[2, 2])))
        r.yx = scale_add(a.yx, f[0, 0], scale_add(a.yy, f[1, 0], scale(a.yz, f[2, 0])))
        r.yy = scale_add(a.yx, f[0, 1], scale_add(a.yy, f[1, 1], scale(a.yz, f[2, 1])))
        r.yz = scale_add(a.yx, f[0, 2], scale_add(a.yy, f[1, 2], scale(a.yz, f[2, 2])))
        r.zx = scale_add(a.zx, f[0, 0], scale_add(a.zy, f[1, 0], scale(a.zz, f[2, 0])))
        r.zy = scale_add(a.zx, f[0, 1], scale_add(a.zy, f[1, 1], scale(a.zz, f[2, 1])))
        r.zz = scale_add(a.zx, f[0, 2], scale_add(a.zy, f[1, 2], scale(a.zz, f[2, 2])))
        return r

    @wp.func
    def constant_times(f: wp.mat33, b: V3) -> V3:
        """A matrix that is the same in all lanes on the left."""
        r = V3()
        r.x = scale_add(b.x, f[0, 0], scale_add(b.y, f[0, 1], scale(b.z, f[0, 2])))
        r.y = scale_add(b.x, f[1, 0], scale_add(b.y, f[1, 1], scale(b.z, f[1, 2])))
        r.z = scale_add(b.x, f[2, 0], scale_add(b.y, f[2, 1], scale(b.z, f[2, 2])))
        return r

    @wp.func
    def place_of(a: M3, o: wp.vec3, base: V3) -> V3:
        """base + a·o, o the same in all lanes."""
        r = V3()
        r.x = scale_add(a.xx, o[0], scale_add(a.xy, o[1], scale_add(a.xz, o[2], base.x)))
        r.y = scale_add(a.yx, o[0], scale_add(a.yy, o[1], scale_add(a.yz, o[2], base.y)))
        r.z = scale_add(a.zx, o[0], scale_add(a.zy, o[1], scale_add(a.zz, o[2], base.z)))
        return r

    @wp.func
    def turned_about_z(a: M3, sine_: V, cosine_: V) -> M3:
        """a · Rz: the columns x and y turn."""
        r = M3()
        r.xx = mad(a.xy, sine_, mul(a.xx, cosine_))
        r.yx = mad(a.yy, sine_, mul(a.yx, cosine_))
        r.zx = mad(a.zy, sine_, mul(a.zx, cosine_))
        r.xy = nmad(a.xx, sine_, mul(a.xy, cosine_))
        r.yy = nmad(a.yx, sine_, mul(a.yy, cosine_))
        r.zy = nmad(a.zx, sine_, mul(a.zy, cosine_))
        r.xz = a.xz
        r.yz = a.yz
        r.zz = a.zz
        return r

    @wp.func
    def trace_of_product(a: M3, b: M3) -> V:
        """Trace of a bᵀ."""
        x = mad(a.xx, b.xx, mad(a.xy, b.xy, mul(a.xz, b.xz)))
        y = mad(a.yx, b.yx, mad(a.yy, b.yy, mad(a.yz, b.yz, x)))
        return mad(a.zx, b.zx, mad(a.zy, b.zy, mad(a.zz, b.zz, y)))

    @wp.func
    def skew_of_product(a: M3, b: M3) -> V3:
        """Twice the vector of the skew part of a bᵀ: of two rotations, 2 sin θ times the axis from b to a."""
        r = V3()
        r.x = mad(a.zx, b.yx, mad(a.zy, b.yy, mul(a.zz, b.yz)))
        r.x = sub(r.x, mad(a.yx, b.zx, mad(a.yy, b.zy, mul(a.yz, b.zz))))
        r.y = mad(a.xx, b.zx, mad(a.xy, b.zy, mul(a.xz, b.zz)))
        r.y = sub(r.y, mad(a.zx, b.xx, mad(a.zy, b.xy, mul(a.zz, b.xz))))
        r.z = mad(a.yx, b.xx, mad(a.yy, b.xy, mul(a.yz, b.xz)))
        r.z = sub(r.z, mad(a.xx, b.yx, mad(a.xy, b.yy, mul(a.xz, b.yz))))
        return r

    @wp.func
    def rotation_error(goal: M3, turn: M3) -> V3:
        """log(goal turnᵀ): axis times angle."""
        cosine_ = scale(sub(trace_of_product(goal, turn), V(1.0)), 0.5)
        return scale3(skew_of_product(goal, turn), scale(angle_per_sine(cosine_), 0.5))

    @wp.func
    def minus_outer_symmetric(a: S3, b: V3, c: V3) -> S3:
        r = S3()
        r.xx = nmad(b.x, c.x, a.xx)
        r.xy = nmad(b.x, c.y, a.xy)
        r.xz = nmad(b.x, c.z, a.xz)
        r.yy = nmad(b.y, c.y, a.yy)
        r.yz = nmad(b.y, c.z, a.yz)
        r.zz = nmad(b.z, c.z, a.zz)
        return r

    @wp.func
    def minus_outer(a: M3, b: V3, c: V3) -> M3:
        r = M3()
        r.xx = nmad(b.x, c.x, a.xx)
        r.xy = nmad(b.x, c.y, a.xy)
        r.xz = nmad(b.x, c.z, a.xz)
        r.yx = nmad(b.y, c.x, a.yx)
        r.yy = nmad(b.y, c.y, a.yy)
        r.yz = nmad(b.y, c.z, a.yz)
        r.zx = nmad(b.z, c.x, a.zx)
        r.zy = nmad(b.z, c.y, a.zy)
        r.zz = nmad(b.z, c.z, a.zz)
        return r

    @wp.func
    def plus_diagonal(a: S3, d: V) -> S3:
        r = a
        r.xx = add(a.xx, d)
        r.yy = add(a.yy, d)
        r.zz = add(a.zz, d)
        return r

    @wp.func
    def inverse(a: S3) -> S3:
        r = S3()
        r.xx = nmad(a.yz, a.yz, mul(a.yy, a.zz))
        r.xy = nmad(a.xy, a.zz, mul(a.xz, a.yz))
        r.xz = nmad(a.xz, a.yy, mul(a.xy, a.yz))
        r.yy = nmad(a.xz, a.xz, mul(a.xx, a.zz))
        r.yz = nmad(a.xx, a.yz, mul(a.xy, a.xz))
        r.zz = nmad(a.xy, a.xy, mul(a.xx, a.yy))
        k = div(V(1.0), mad(a.xx, r.xx, mad(a.xy, r.xy, mul(a.xz, r.xz))))
        r.xx = mul(r.xx, k)
        r.xy = mul(r.xy, k)
        r.xz = mul(r.xz, k)
        r.yy = mul(r.yy, k)
        r.yz = mul(r.yz, k)
        r.zz = mul(r.zz, k)
        return r

    @wp.func
    def nearest(apart: V3, u: V3, v: V3):
        """Where segments with half axes u and v, `apart` from the second's centre to the first's, are nearest to each other:
        shares of u and v from −1 to 1 (Ericson, Real-Time Collision Detection, 5.1.9)."""
        uu = dot(u, u)
        vv = dot(v, v)
        uv = dot(u, v)
        uw = dot(u, apart)
        vw = dot(v, apart)
        tiny = V(1.0e-12)
        determinant = sub(mul(uu, vv), mul(uv, uv))
        # Nearly parallel: any point of the first will do to begin with, the others follow from it.
        parallel = at_most(determinant, scale(mul(uu, vv), 5.0e-7))
        s = clamp(div(sub(mul(uv, vw), mul(vv, uw)), maximum(determinant, tiny)), -1.0, 1.0)
        s = select(parallel, V(0.0), s)
        t = clamp(div(mad(uv, s, vw), maximum(vv, tiny)), -1.0, 1.0)
        s = clamp(div(sub(mul(uv, t), uw), maximum(uu, tiny)), -1.0, 1.0)
        return s, t

    @wp.func
    def matrix_of_quaternion(x: V, y: V, z: V, w: V) -> M3:
        r = M3()
        one = V(1.0)
        two = V(2.0)
        r.xx = nmad(two, mad(y, y, mul(z, z)), one)
        r.xy = mul(two, nmad(w, z, mul(x, y)))
        r.xz = mul(two, mad(w, y, mul(x, z)))
        r.yx = mul(two, mad(w, z, mul(x, y)))
        r.yy = nmad(two, mad(x, x, mul(z, z)), one)
        r.yz = mul(two, nmad(w, x, mul(y, z)))
        r.zx = mul(two, nmad(w, y, mul(x, z)))
        r.zy = mul(two, mad(w, x, mul(y, z)))
        r.zz = nmad(two, mad(x, x, mul(y, y)), one)
        return r

    @wp.func
    def load3(a: wp.array3d(dtype=V), thread: int, row: int, first: int) -> V3:
        r = V3()
        r.x = a[thread, row, first]
        r.y = a[thread, row, first + 1]
        r.z = a[thread, row, first + 2]
        return r

    @wp.func
    def store3(a: wp.array3d(dtype=V), thread: int, row: int, first: int, v: V3):
        a[thread, row, first] = v.x
        a[thread, row, first + 1] = v.y
        a[thread, row, first + 2] = v.z

    @wp.func
    def load_symmetric(a: wp.array3d(dtype=V), thread: int, row: int, first: int) -> S3:
        r = S3()
        r.xx = a[thread, row, first]
        r.xy = a[thread, row, first + 1]
        r.xz = a[thread, row, first + 2]
        r.yy = a[thread, row, first + 3]
        r.yz = a[thread, row, first + 4]
        r.zz = a[thread, row, first + 5]
        return r

    @wp.func
    def store_symmetric(a: wp.array3d(dtype=V), thread: int, row: int, first: int, m: S3):
        a[thread, row, first] = m.xx
        a[thread, row, first + 1] = m.xy
        a[thread, row, first + 2] = m.xz
        a[thread, row, first + 3] = m.yy
        a[thread, row, first + 4] = m.yz
        a[thread, row, first + 5] = m.zz

    @wp.func
    def load_matrix(a: wp.array3d(dtype=V), thread: int, row: int, first: int) -> M3:
        r = M3()
        r.xx = a[thread, row, first]
        r.xy = a[thread, row, first + 1]
        r.xz = a[thread, row, first + 2]
        r.yx = a[thread, row, first + 3]
        r.yy = a[thread, row, first + 4]
        r.yz = a[thread, row, first + 5]
        r.zx = a[thread, row, first + 6]
        r.zy = a[thread, row, first + 7]
        r.zz = a[thread, row, first + 8]
        return r

    @wp.func
    def store_matrix(a: wp.array3d(dtype=V), thread: int, row: int, first: int, m: M3):
        a[thread, row, first] = m.xx
        a[thread, row, first + 1] = m.xy
        a[thread, row, first + 2] = m.xz
        a[thread, row, first + 3] = m.yx
        a[thread, row, first + 4] = m.yy
        a[thread, row, first + 5] = m.yz
        a[thread, row, first + 6] = m.zx
        a[thread, row, first + 7] = m.zy
        a[thread, row, first + 8] = m.zz

    @wp.func
    def quaternion_times(a: V4, q: wp.vec4) -> V4:
        """A quaternion times one that is the same in all lanes, their scalars last."""
        r = V4()
        r.x = scale_add(a.w, q[0], scale_add(a.x, q[3], scale_add(a.y, q[2], scale(a.z, -q[1]))))
        r.y = scale_add(a.w, q[1], scale_add(a.y, q[3], scale_add(a.z, q[0], scale(a.x, -q[2]))))
        r.z = scale_add(a.w, q[2], scale_add(a.z, q[3], scale_add(a.x, q[1], scale(a.y, -q[0]))))
        r.w = scale_add(a.w, q[3], scale_add(a.x, -q[0], scale_add(a.y, -q[1], scale(a.z, -q[2]))))
        return r

    @wp.func
    def load4(a: wp.array3d(dtype=V), thread: int, row: int, first: int) -> V4:
        r = V4()
        r.x = a[thread, row, first]
        r.y = a[thread, row, first + 1]
        r.z = a[thread, row, first + 2]
        r.w = a[thread, row, first + 3]
        return r

    @wp.func
    def store4(a: wp.array3d(dtype=V), thread: int, row: int, first: int, q: V4):
        a[thread, row, first] = q.x
        a[thread, row, first + 1] = q.y
        a[thread, row, first + 2] = q.z
        a[thread, row, first + 3] = q.w

    @wp.func
    def gather3(a: wp.array3d(dtype=V), thread: int, row: int, first: int, v: V3):
        a[thread, row, first] = add(a[thread, row, first], v.x)
        a[thread, row, first + 1] = add(a[thread, row, first + 1], v.y)
        a[thread, row, first + 2] = add(a[thread, row, first + 2], v.z)

    @wp.func
    def gather_symmetric(a: wp.array3d(dtype=V), thread: int, row: int, first: int, m: S3):
        a[thread, row, first] = add(a[thread, row, first], m.xx)
        a[thread, row, first + 1] = add(a[thread, row, first + 1], m.xy)
        a[thread, row, first + 2] = add(a[thread, row, first + 2], m.xz)
        a[thread, row, first + 3] = add(a[thread, row, first + 3], m.yy)
        a[thread, row, first + 4] = add(a[thread, row, first + 4], m.yz)
        a[thread, row, first + 5] = add(a[thread, row, first + 5], m.zz)

    @wp.func
    def gather_matrix(a: wp.array3d(dtype=V), thread: int, row: int, first: int, m: M3):
        a[thread, row, first] = add(a[thread, row, first], m.xx)
        a[thread, row, first + 1] = add(a[thread, row, first + 1], m.xy)
        a[thread, row, first + 2] = add(a[thread, row, first + 2], m.xz)
        a[thread, row, first + 3] = add(a[thread, row, first + 3], m.yx)
        a[thread, row, first + 4] = add(a[thread, row, first + 4], m.yy)
        a[thread, row, first + 5] = add(a[thread, row, first + 5], m.yz)
        a[thread, row, first + 6] = add(a[thread, row, first + 6], m.zx)
        a[thread, row, first + 7] = add(a[thread, row, first + 7], m.zy)
        a[thread, row, first + 8] = add(a[thread, row, first + 8], m.zz)

    return SimpleNamespace(**{name: value for name, value in locals().items() if not name.startswith("_")})
