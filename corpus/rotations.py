"""Rotations, in one place: quaternions `[w x y z]`, rotation vectors, matrices and Euler angles, in NumPy and torch.

Every function takes arrays with any leading shape and works on the last axis (or last two, for matrices).
Those marked *both* accept NumPy arrays and torch tensors alike, and return the kind they got.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from jaxtyping import Float

Array = Any  # a NumPy array or a torch tensor


def _lib(array: Array) -> Any:
    """NumPy, or torch where `array` is a tensor; torch is never imported for it."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and isinstance(array, torch.Tensor) else np


def _stack(lib: Any, parts: list[Array]) -> Array:
    return lib.stack(parts, -1)


def multiply(a: Float[Array, "... 4"], b: Float[Array, "... 4"]) -> Float[Array, "... 4"]:
    """Hamilton product a·b: rotate by `b` first, then by `a`. *Both.*"""
    lib = _lib(a)
    aw, ax, ay, az = a[..., 0], a[..., 1], a[..., 2], a[..., 3]
    bw, bx, by, bz = b[..., 0], b[..., 1], b[..., 2], b[..., 3]
    return _stack(
        lib,
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
    )


def conjugate(q: Float[Array, "... 4"]) -> Float[Array, "... 4"]:
    """The inverse of a unit quaternion. *Both.*"""
    return _stack(_lib(q), [q[..., 0], -q[..., 1], -q[..., 2], -q[..., 3]])


def rotate(q: Float[Array, "... 4"], v: Float[Array, "... 3"]) -> Float[Array, "... 3"]:
    """Turn the vectors `v` by `q`. *Both.*"""
    lib = _lib(q)
    w, x, y, z = q[..., 0], q[..., 1], q[..., 2], q[..., 3]
    vx, vy, vz = v[..., 0], v[..., 1], v[..., 2]
    # v + 2w(u×v) + 2u×(u×v): 15 multiplications fewer than two Hamilton products
    tx, ty, tz = 2 * (y * vz - z * vy), 2 * (z * vx - x * vz), 2 * (x * vy - y * vx)
    return _stack(
        lib,
        [vx + w * tx + y * tz - z * ty, vy + w * ty + z * tx - x * tz, vz + w * tz + x * ty - y * tx],
    )


def normalise(q: Float[Array, "... N"]) -> Float[Array, "... N"]:
    """Scale to unit length. *Both.*"""
    return q / ((q * q).sum(-1)[..., None] ** 0.5)


def from_rotation_vector(v: Float[Array, "... 3"]) -> Float[Array, "... 4"]:
    """Axis times angle [rad] → quaternion. *Both.*"""
    lib = _lib(v)
    angle = ((v * v).sum(-1)) ** 0.5
    small = angle < 1e-8
    # sin(a/2)/a → 1/2 at zero
    scale = lib.where(small, 0.5 + 0 * angle, lib.sin(angle / 2) / lib.where(small, 1 + 0 * angle, angle))
    return _stack(lib, [lib.cos(angle / 2), v[..., 0] * scale, v[..., 1] * scale, v[..., 2] * scale])


def to_rotation_vector(q: Float[Array, "... 4"]) -> Float[Array, "... 3"]:
    """Quaternion → axis times angle [rad], the angle in [0, π]. *Both.*"""
    lib = _lib(q)
    q = lib.where((q[..., 0] < 0)[..., None], -q, q)
    s = ((q[..., 1:] ** 2).sum(-1)) ** 0.5
    small = s < 1e-8
    scale = lib.where(small, 2 + 0 * s, 2 * lib.arctan2(s, q[..., 0]) / lib.where(small, 1 + 0 * s, s))
    return q[..., 1:] * scale[..., None]


def to_matrix(q: Float[Array, "... 4"]) -> Float[Array, "... 3 3"]:
    """Quaternion → rotation matrix (columns are the turned axes). *Both.*"""
    lib = _lib(q)
    w, x, y, z = q[..., 0], q[..., 1], q[..., 2], q[..., 3]
    rows = [
        _stack(lib, [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)]),
        _stack(lib, [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)]),
        _stack(lib, [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]),
    ]
    return lib.stack(rows, -2)


def from_matrix(m: Float[np.ndarray, "... 3 3"]) -> Float[np.ndarray, "... 4"]:
    """Rotation matrix → quaternion with w ≥ 0 (Shepperd: divide by the largest component)."""
    m = np.asarray(m)
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    squares = np.stack([1 + xx + yy + zz, 1 + xx - yy - zz, 1 - xx + yy - zz, 1 - xx - yy + zz], -1)
    a, b, c = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    d, e, f = m[..., 0, 1] + m[..., 1, 0], m[..., 0, 2] + m[..., 2, 0], m[..., 1, 2] + m[..., 2, 1]
    candidates = np.stack(
        [
            np.stack([squares[..., 0], a, b, c], -1),
            np.stack([a, squares[..., 1], d, e], -1),
            np.stack([b, d, squares[..., 2], f], -1),
            np.stack([c, e, f, squares[..., 3]], -1),
        ],
        -2,
    )
    best = squares.argmax(-1)[..., None, None]
    q = normalise(np.take_along_axis(candidates, best, -2)[..., 0, :])
    return np.where(q[..., :1] < 0, -q, q)


def from_euler(angles: Float[np.ndarray, "... 3"], order: str) -> Float[np.ndarray, "... 4"]:
    """Intrinsic Euler angles [rad] in the given order ("zyx": turn about z, then the new y, then the new x)."""
    return compose_axes(np.asarray(angles), order)


def compose_axes(angles: Float[np.ndarray, "... K"], axes: str) -> Float[np.ndarray, "... 4"]:
    """Turn about local coordinate axes one after another; any number of axes, as BVH channels may have."""
    w = np.ones(angles.shape[:-1])
    x = y = z = np.zeros(angles.shape[:-1])
    for column, axis in enumerate(axes):
        half = angles[..., column] / 2
        c, s = np.cos(half), np.sin(half)
        match axis:
            case "x":
                w, x, y, z = w * c - x * s, w * s + x * c, y * c + z * s, z * c - y * s
            case "y":
                w, x, y, z = w * c - y * s, x * c - z * s, w * s + y * c, z * c + x * s
            case "z":
                w, x, y, z = w * c - z * s, x * c + y * s, y * c - x * s, w * s + z * c
            case _:
                raise ValueError(f"Axis {axis!r} is none of x, y, z.")
    return np.stack([w, x, y, z], -1)


def slerp(a: Float[Array, "... 4"], b: Float[Array, "... 4"], t: Float[Array, ...]) -> Float[Array, "... 4"]:
    """Go from `a` to `b` along the shorter arc; `t` in [0, 1]. *Both.*"""
    lib = _lib(a)
    dot = (a * b).sum(-1)
    b = lib.where((dot < 0)[..., None], -b, b)
    dot = lib.clip(abs(dot), 0.0, 1.0)
    angle = lib.arccos(dot)
    near = dot > 1 - 1e-9
    sine = lib.where(near, 1 + 0 * dot, lib.sin(angle))
    wa = lib.where(near, 1 - t, lib.sin((1 - t) * angle) / sine)
    wb = lib.where(near, t + 0 * dot, lib.sin(t * angle) / sine)
    return normalise(a * wa[..., None] + b * wb[..., None])


def continuous(q: Float[np.ndarray, "T ... 4"]) -> Float[np.ndarray, "T ... 4"]:
    """Flip signs so that neighbours in time never jump to the antipode (q and −q are one rotation)."""
    if len(q) < 2:
        return q
    flips = np.where((q[1:] * q[:-1]).sum(-1) < 0, -1.0, 1.0)
    signs = np.concatenate([np.ones_like(flips[:1]), np.cumprod(flips, 0)])
    return q * signs[..., None]


def angular_velocity(q: Float[np.ndarray, "T ... 4"], fps: float) -> Float[np.ndarray, "T ... 3"]:
    """World-frame angular velocity [rad/s] by central differences, one-sided at both ends."""
    if len(q) < 2:
        return np.zeros((*q.shape[:-1], 3), q.dtype)
    step = to_rotation_vector(multiply(q[1:], conjugate(q[:-1]))) * fps
    return np.concatenate([step[:1], (step[1:] + step[:-1]) / 2, step[-1:]])


def heading(q: Float[Array, "... 4"]) -> Float[Array, ...]:
    """Angle of the turned x axis about the vertical [rad]. *Both.*"""
    lib = _lib(q)
    w, x, y, z = q[..., 0], q[..., 1], q[..., 2], q[..., 3]
    return lib.arctan2(2 * (x * y + w * z), 1 - 2 * (y * y + z * z))


def about_z(angle: Float[Array, ...]) -> Float[Array, "... 4"]:
    """The turn by `angle` [rad] about the vertical. *Both.*"""
    lib = _lib(angle)
    zero = 0 * angle
    return _stack(lib, [lib.cos(angle / 2), zero, zero, lib.sin(angle / 2)])


# Turns y-up data upright: (x, y, z) → (x, −z, y).
Y_UP_TO_Z_UP = np.array([np.sqrt(0.5), np.sqrt(0.5), 0.0, 0.0])
