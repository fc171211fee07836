"""The two loops over a BVH's numbers that must be fast: reading them, and turning them into world motion."""

# Warp's annotations are for its own compiler; to a type checker they are calls and its scalars are not what they seem.
# pyright: reportInvalidTypeForm=false, reportArgumentType=false, reportCallIssue=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false, reportAttributeAccessIssue=false, reportIndexIssue=false, reportReturnType=false

from collections.abc import Sequence

import numpy as np
import warp as wp
from jaxtyping import Float

from corpus.warp_tools import multiply, rotate, view


def read_table(text: bytes, rows: int, columns: int) -> Float[np.ndarray, "T C"] | None:
    """The numbers of `rows` lines with `columns` plain decimals each, rounded correctly; None for any other text.

    Up to 15 digits and powers of ten to 22 are exact in double precision, so one division rounds once. What has more, or
    is no such table, is for a slower reader to judge.
    """
    if not 0 < rows * columns <= (len(text) + 1) // 2:  # a number and a blank are two bytes at least
        return None
    values = np.empty((rows, columns))
    source = wp.array(np.frombuffer(text, np.uint8), dtype=wp.uint8, device="cpu", copy=False)
    good = wp.zeros(1, dtype=int, device="cpu")
    target = wp.array(values.reshape(-1), dtype=wp.float64, device="cpu", copy=False)
    wp.launch(_read, dim=1, inputs=[source, len(text), rows, columns, target, good], device="cpu")
    return values if good.numpy()[0] else None


_READ = r"""
    const unsigned char* p = text.data;
    const unsigned char* end = p + size;
    double* value = values.data;
    static const double ten[] = {1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    int row = 0;
    while (p < end) {
        int column = 0;
        while (true) {
            while (p < end && (*p == ' ' || *p == '\t' || *p == '\r' || *p == '\v' || *p == '\f')) ++p;
            if (p >= end || *p == '\n') break;
            if (row >= rows || column >= columns) return 0;
            bool negative = *p == '-';
            if (*p == '-' || *p == '+') ++p;
            unsigned long long mantissa = 0;
            int exponent = 0;
            const unsigned char* begin = p;
            for (; p < end && (unsigned)(*p - '0') < 10u; ++p) mantissa = mantissa * 10 + (*p - '0');
            long long digits = p - begin;
            if (p < end && *p == '.') {
                begin = ++p;
                for (; p < end && (unsigned)(*p - '0') < 10u; ++p) mantissa = mantissa * 10 + (*p - '0');
                digits += p - begin;
                exponent = begin - p;
            }
            if (digits == 0 || digits > 15) return 0;
            if (p < end && (*p == 'e' || *p == 'E')) {
                ++p;
                bool down = p < end && *p == '-';
                if (p < end && (*p == '-' || *p == '+')) ++p;
                int power = 0, powers = 0;
                for (; p < end && (unsigned)(*p - '0') < 10u && powers < 4; ++p, ++powers) power = power * 10 + (*p - '0');
                if (powers == 0) return 0;
                exponent += down ? -power : power;
            }
            if (p < end && *p > ' ') return 0;
            double number = (double)mantissa;
            if (mantissa != 0) {
                if (exponent < -22 || exponent > 22) return 0;
                number = exponent < 0 ? number / ten[-exponent] : number * ten[exponent];
            }
            value[(long long)row * columns + column] = negative ? -number : number;
            ++column;
        }
        if (column != 0) {
            if (column != columns) return 0;
            ++row;
        }
        if (p < end) ++p;
    }
    return row == rows;
"""


@wp.func_native(_READ)
def _read_rows(
    text: wp.array(dtype=wp.uint8), size: int, rows: int, columns: int, values: wp.array(dtype=wp.float64)
) -> int: ...


@wp.kernel
def _read(
    text: wp.array(dtype=wp.uint8),
    size: int,
    rows: int,
    columns: int,
    values: wp.array(dtype=wp.float64),
    good: wp.array(dtype=int),
):
    good[0] = _read_rows(text, size, rows, columns, values)


class JointTree:
    """The joints of a BVH, packed for the kernel.

    `channels` names each joint's, in the order of the columns of values: "Xposition", which replaces the offset,
    "Zrotation" [degrees], and so on. `slots` is where each joint's pose goes in the results.
    """

    def __init__(
        self,
        parents: Sequence[int],
        offsets: Float[np.ndarray, "J 3"],
        channels: Sequence[Sequence[str]],
        slots: Sequence[int] | None = None,
    ):
        kinds = np.array([_KINDS[channel] for own in channels for channel in own], np.int32)
        self.joint_count = len(parents)
        self.turning = np.flatnonzero(kinds > 2)
        self.packed = [
            view(parents, int),
            view(range(len(parents)) if slots is None else slots, int),
            view(offsets, wp.vec3d),
            view(kinds, int),
            view(np.cumsum(kinds > 2) - 1, int),
            view(np.cumsum([0, *map(len, channels)]), int),
        ]

    def poses(
        self, values: Float[np.ndarray, "T C"], root_turn: Float[np.ndarray, " 4"]
    ) -> tuple[Float[np.ndarray, "T J 3"], Float[np.ndarray, "T J 4"]]:
        """World positions [the file's unit] and orientations of every joint, turned by `root_turn`."""
        # Sine and cosine of half an angle from the tangent of a quarter: one function instead of two, and a fast one.
        tangent = np.tan(values.take(self.turning, axis=1) * (np.pi / 720))
        position, rotation = (np.empty((len(values), self.joint_count, width)) for width in (3, 4))
        wp.launch(
            _pose,
            dim=len(values),
            inputs=[view(values, wp.float64), view(tangent, wp.float64), *self.packed, wp.vec4d(*root_turn)],
            outputs=[view(position, wp.vec3d), view(rotation, wp.vec4d)],
            device="cpu",
        )
        return position, rotation


_KINDS = {
    f"{axis}{kind}": 3 * turns + i
    for turns, kind in enumerate(("position", "rotation"))
    for i, axis in enumerate("XYZ")
}
"""Channels as the kernel has them."""


@wp.kernel
def _pose(
    values: wp.array2d(dtype=wp.float64),
    tangent: wp.array2d(dtype=wp.float64),
    parents: wp.array(dtype=int),
    slots: wp.array(dtype=int),
    offsets: wp.array(dtype=wp.vec3d),
    kinds: wp.array(dtype=int),
    angle_column: wp.array(dtype=int),
    first: wp.array(dtype=int),
    root_turn: wp.vec4d,
    position: wp.array2d(dtype=wp.vec3d),
    rotation: wp.array2d(dtype=wp.vec4d),
):
    frame = wp.tid()
    for joint in range(parents.shape[0]):
        place = offsets[joint]
        turn = wp.vec4d(wp.float64(1.0), wp.float64(0.0), wp.float64(0.0), wp.float64(0.0))
        for column in range(first[joint], first[joint + 1]):
            kind = kinds[column]
            if kind < 3:
                place[kind] = values[frame, column]
            else:
                t = tangent[frame, angle_column[column]]
                c = wp.float64(2.0) / (wp.float64(1.0) + t * t)
                s = t * c
                c = c - wp.float64(1.0)
                w = turn[0]
                x = turn[1]
                y = turn[2]
                z = turn[3]
                if kind == 3:
                    turn = wp.vec4d(w * c - x * s, w * s + x * c, y * c + z * s, z * c - y * s)
                elif kind == 4:
                    turn = wp.vec4d(w * c - y * s, x * c - z * s, w * s + y * c, z * c + x * s)
                else:
                    turn = wp.vec4d(w * c - z * s, x * c + y * s, y * c - x * s, w * s + z * c)
        up = root_turn
        origin = wp.vec3d(wp.float64(0.0), wp.float64(0.0), wp.float64(0.0))
        parent = parents[joint]
        if parent >= 0:
            up = rotation[frame, slots[parent]]
            origin = position[frame, slots[parent]]
        position[frame, slots[joint]] = origin + rotate(up, place)
        rotation[frame, slots[joint]] = multiply(up, turn)
