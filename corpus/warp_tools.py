"""What all Warp kernels share: its settings, arrays on the device, and quaternions `[w x y z]` in double precision by the
formulas of `corpus.rotations`."""

# Warp's annotations are for its own compiler; to a type checker they are calls and its scalars are not what they seem.
# pyright: reportInvalidTypeForm=false, reportArgumentType=false, reportCallIssue=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false, reportAttributeAccessIssue=false, reportIndexIssue=false, reportReturnType=false

from typing import Any

import numpy as np
import warp as wp

wp.config.log_level = wp.LOG_ERROR  # before its first use: it greets otherwise
wp.config.enable_backward = False


def device_array(array: Any, dtype: type, device: str) -> wp.array:
    """The array in single precision on the device; on the CPU it may be the very array given."""
    host = np.ascontiguousarray(array, np.int32 if dtype is int else np.float32)
    return wp.array(host, dtype=dtype, device=device, copy=not wp.get_device(device).is_cpu)


def view(array: Any, dtype: Any) -> wp.array:
    """Warp's view of an array in double precision on the CPU, copied only where it must be."""
    array = np.asarray(array, np.int32 if dtype is int else np.float64)
    # Leading axes may have gaps between them, the numbers of one element not.
    if array.strides and array.strides[-1] != array.itemsize:
        array = np.ascontiguousarray(array)
    return wp.array(array, dtype=dtype, device="cpu", copy=False)


def ready(kernel: Any, threads: int, inputs: list, outputs: list | None = None, device: str = "cpu") -> Any:
    """A launch made ready: every `launch()` of it reads and writes the same arrays, at a few microseconds' cost."""
    return wp.launch(kernel, dim=threads, inputs=inputs, outputs=outputs or [], device=device, record_cmd=True)


@wp.func
def multiply(a: wp.vec4d, b: wp.vec4d) -> wp.vec4d:
    """Hamilton product, `[w x y z]`."""
    return wp.vec4d(
        a[0] * b[0] - a[1] * b[1] - a[2] * b[2] - a[3] * b[3],
        a[0] * b[1] + a[1] * b[0] + a[2] * b[3] - a[3] * b[2],
        a[0] * b[2] - a[1] * b[3] + a[2] * b[0] + a[3] * b[1],
        a[0] * b[3] + a[1] * b[2] - a[2] * b[1] + a[3] * b[0],
    )


@wp.func
def rotate(q: wp.vec4d, v: wp.vec3d) -> wp.vec3d:
    u = wp.vec3d(q[1], q[2], q[3])
    t = wp.cross(u, v)
    t = t + t
    return v + t * q[0] + wp.cross(u, t)


@wp.func
def rotation_vector(q: wp.vec4d) -> wp.vec3d:
    """Axis times angle, the shorter way round."""
    v = wp.vec3d(q[1], q[2], q[3])
    w = q[0]
    if w < wp.float64(0.0):
        v = -v
        w = -w
    s = wp.length(v)
    if s < wp.float64(1.0e-12):
        return v + v
    return v * (wp.float64(2.0) * wp.atan2(s, w) / s)


@wp.func
def from_rotation_vector(v: wp.vec3d) -> wp.vec4d:
    angle = wp.length(v)
    scale = wp.float64(0.5)
    if angle > wp.float64(1.0e-12):
        scale = wp.sin(wp.float64(0.5) * angle) / angle
    return wp.vec4d(wp.cos(wp.float64(0.5) * angle), v[0] * scale, v[1] * scale, v[2] * scale)
