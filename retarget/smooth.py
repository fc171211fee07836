"""A smoother over whole clips: one banded system per joint and clip, then the joints' speed limits, met exactly."""

# Warp's annotations are for its own compiler; to a type checker they are calls and its scalars are not what they seem.
# pyright: reportInvalidTypeForm=false, reportArgumentType=false, reportCallIssue=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false, reportAttributeAccessIssue=false, reportIndexIssue=false, reportReturnType=false

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import warp as wp
from jaxtyping import Float

from corpus import rotations
from corpus.robot import Robot
from corpus.warp_tools import view


@dataclass(frozen=True)
class SmoothOptions:
    cutoff: float = 6.0
    """Joint motion of this frequency loses half its amplitude [Hz]; people's is below 6 Hz."""
    root_cutoff: float = 6.0
    """The same of the root's motion, which has the whole mass to move [Hz]."""
    speed_share: float = 0.98
    """Joints keep below this share of their speed limits; 0 lets them go as fast as they like."""
    acceleration_share: float = 3.0
    """… and about below so many times `Robot.acceleration_limit`, which outstretched limbs have: kicks reach the threefold,
    glitches the thirtyfold. 0 leaves accelerations alone, as does a `speed_share` of 0."""


def smooth(
    robot: Robot,
    qpos: Float[np.ndarray, "T Q"],
    starts: Sequence[int],
    fps: float,
    options: SmoothOptions = SmoothOptions(),
) -> Float[np.ndarray, "T Q"]:
    """The smoothest motion near `qpos`: minimises Σ (x − q)² + λ Σ (second differences of x)² for every column alone.

    λ = (fps / (2π · cutoff))⁴, so the result hardly depends on the frame rate; nothing lags, since both directions count.
    Joints then keep to their limits, of speed exactly, of acceleration nearly; rates do not matter. Clips lie end to end, each from one of `starts` on.
    """
    out = np.array(qpos, np.float64)
    # q and −q are one rotation: neighbours in time take the same of the two.
    flips = np.where(np.einsum("tk,tk->t", out[1:, 3:7], out[:-1, 3:7]) < 0, -1.0, 1.0)
    if (flips < 0).any():
        out[1:, 3:7] *= np.cumprod(flips)[:, None]
    ends = [*starts[1:], len(out)]
    factors = view(np.empty((len(out), 3)), wp.float64)
    step = robot.speed_limit * options.speed_share / fps
    bend = robot.acceleration_limit * options.acceleration_share / fps**2
    for columns, cutoff, bounds in (
        (out[:, :7], options.root_cutoff, [np.zeros(7)] * 4),
        (out[:, 7:], options.cutoff, [step, bend, robot.lower, robot.upper]),
    ):
        wp.launch(
            _smooth,
            dim=len(starts),
            inputs=[
                view(starts, int), view(ends, int), (fps / (2 * np.pi * cutoff)) ** 4,
                *(view(bound, wp.float64) for bound in bounds),
            ],
            outputs=[factors, view(np.empty((2, *columns.shape)), wp.float64), view(columns, wp.float64)],
            device="cpu",
        )  # fmt: skip
    out[:, 3:7] = rotations.normalise(out[:, 3:7])
    return out


SWEEPS = wp.constant(100)
"""Most times the accelerations of a joint are brought down."""


@wp.func
def solve_columns(
    first: int,
    last: int,
    stiffness: wp.float64,
    factors: wp.array2d(dtype=wp.float64),
    x: wp.array2d(dtype=wp.float64),
):
    """(I + λ DᵀD) x = q for every column, in place; D takes second differences."""
    columns = x.shape[1]
    zero = wp.float64(0.0)
    # LDLᵀ of I + λ DᵀD, five diagonals: the inverse of each pivot, and the two entries of L before it.
    for t in range(first, last + 1):
        # The second differences that hold x[t]: centred on t − 1, t and t + 1, where those are inside the clip.
        left = zero
        middle = zero
        right = zero
        if t - 1 > first:
            left = wp.float64(1.0)
        if t > first and t < last:
            middle = wp.float64(1.0)
        if t + 1 < last:
            right = wp.float64(1.0)
        one = zero
        two = zero
        pivot = wp.float64(1.0) + stiffness * (left + wp.float64(4.0) * middle + right)
        if t - 1 > first:
            two = stiffness * left * factors[t - 2, 0]
            pivot -= two * two / factors[t - 2, 0]
        if t > first:
            one = wp.float64(-2.0) * stiffness * (left + middle)
            if t - 1 > first:
                one -= two * factors[t - 1, 1] / factors[t - 2, 0]
            one = one * factors[t - 1, 0]
            pivot -= one * one / factors[t - 1, 0]
        factors[t, 0] = wp.float64(1.0) / pivot
        factors[t, 1] = one
        factors[t, 2] = two
        for c in range(columns):
            if t > first:
                x[t, c] = x[t, c] - one * x[t - 1, c]
            if t - 1 > first:
                x[t, c] = x[t, c] - two * x[t - 2, c]
    for back in range(last - first + 1):
        t = last - back
        for c in range(columns):
            value = x[t, c] * factors[t, 0]
            if back > 0:
                value -= factors[t + 1, 1] * x[t + 1, c]
            if back > 1:
                value -= factors[t + 2, 2] * x[t + 2, c]
            x[t, c] = value


@wp.func
def breaks_limits(
    first: int,
    last: int,
    limit: wp.array(dtype=wp.float64),
    lower: wp.array(dtype=wp.float64),
    upper: wp.array(dtype=wp.float64),
    x: wp.array2d(dtype=wp.float64),
) -> bool:
    for t in range(first, last + 1):
        for c in range(x.shape[1]):
            if x[t, c] < lower[c] or x[t, c] > upper[c]:
                return True
            if t > first and wp.abs(x[t, c] - x[t - 1, c]) > limit[c]:
                return True
    return False


@wp.func
def bend_use(first: int, last: int, c: int, bound: wp.float64, x: wp.array2d(dtype=wp.float64)) -> wp.float64:
    """The largest second difference of a column, as a share of its bound."""
    largest = wp.float64(0.0)
    for t in range(first + 1, last):
        largest = wp.max(largest, wp.abs(x[t + 1, c] - wp.float64(2.0) * x[t, c] + x[t - 1, c]))
    return largest / bound


@wp.func
def bends(first: int, last: int, bend: wp.array(dtype=wp.float64), x: wp.array2d(dtype=wp.float64)) -> bool:
    """Does a second difference exceed its bound?"""
    for t in range(first + 1, last):
        for c in range(x.shape[1]):
            if wp.abs(x[t + 1, c] - wp.float64(2.0) * x[t, c] + x[t - 1, c]) > bend[c]:
                return True
    return False


@wp.func
def straighten(first: int, last: int, bend: wp.array(dtype=wp.float64), x: wp.array2d(dtype=wp.float64)):
    """Each second difference beyond its bound is brought to it by the least change of the three values it hangs on, again and
    again (Kaczmarz' projections), until none is by a twentieth beyond it."""
    for c in range(x.shape[1]):
        sweeps = int(0)
        while sweeps < SWEEPS and bend_use(first, last, c, bend[c], x) > wp.float64(1.05):
            sweeps += 1
            for t in range(first + 1, last):
                difference = x[t + 1, c] - wp.float64(2.0) * x[t, c] + x[t - 1, c]
                sixth = (difference - wp.clamp(difference, -bend[c], bend[c])) / wp.float64(6.0)
                x[t - 1, c] = x[t - 1, c] - sixth
                x[t, c] = x[t, c] + wp.float64(2.0) * sixth
                x[t + 1, c] = x[t + 1, c] - sixth


@wp.func
def keep_to_limits(
    first: int,
    last: int,
    limit: wp.array(dtype=wp.float64),
    lower: wp.array(dtype=wp.float64),
    upper: wp.array(dtype=wp.float64),
    curves: wp.array3d(dtype=wp.float64),
    x: wp.array2d(dtype=wp.float64),
):
    """The mean of the lowest curve above and the highest curve below that keep to a limit keeps to it too."""
    columns = x.shape[1]
    for t in range(first, last + 1):
        for c in range(columns):
            inside = wp.clamp(x[t, c], lower[c], upper[c])
            curves[0, t, c] = inside
            curves[1, t, c] = inside
            if t > first:
                curves[0, t, c] = wp.max(inside, curves[0, t - 1, c] - limit[c])
                curves[1, t, c] = wp.min(inside, curves[1, t - 1, c] + limit[c])
    for back in range(last - first + 1):
        t = last - back
        for c in range(columns):
            if back > 0:
                curves[0, t, c] = wp.max(curves[0, t, c], curves[0, t + 1, c] - limit[c])
                curves[1, t, c] = wp.min(curves[1, t, c], curves[1, t + 1, c] + limit[c])
            x[t, c] = wp.float64(0.5) * (curves[0, t, c] + curves[1, t, c])


@wp.kernel
def _smooth(
    starts: wp.array(dtype=int),
    ends: wp.array(dtype=int),
    stiffness: wp.float64,
    limit: wp.array(dtype=wp.float64),
    bend: wp.array(dtype=wp.float64),
    lower: wp.array(dtype=wp.float64),
    upper: wp.array(dtype=wp.float64),
    factors: wp.array2d(dtype=wp.float64),
    curves: wp.array3d(dtype=wp.float64),
    x: wp.array2d(dtype=wp.float64),
):
    clip = wp.tid()
    first = starts[clip]
    last = ends[clip] - 1
    solve_columns(first, last, stiffness, factors, x)
    if limit[0] <= wp.float64(0.0):
        return
    # Most clips keep to all limits as they are.
    if bend[0] > wp.float64(0.0) and bends(first, last, bend, x):
        straighten(first, last, bend, x)
    if breaks_limits(first, last, limit, lower, upper, x):
        keep_to_limits(first, last, limit, lower, upper, curves, x)
