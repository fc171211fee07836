"""Put a clip on the floor: one height for all of it by majority vote, soles never below it, and nothing else sunk in."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage

from corpus.dynamics import GRAVITY
from corpus.posture import postures
from corpus.robot import Robot
from retarget.solver import Targets

UPRIGHT = 0.65
"""Whose hips are higher than this share of their height in the rest posture stands or stoops: no part but the feet is looked
after beforehand."""


@dataclass(frozen=True)
class GroundOptions:
    planted_speed: float = 0.2
    """A foot slower than this may stand on the floor and has a vote [m/s]."""
    planted_share: float = 0.05
    """With fewer votes than this share of the frames, the lowest reach of the feet decides instead."""
    allowed_depth: float = 0.01
    """What may sink into the floor without lifting the robot [m]."""
    window_s: float = 0.3
    """The lift rises and falls over about this time [s]."""
    off_ground: float = 0.03
    """With both soles higher than this a person may be in flight [m]."""
    shortest_flight_s: float = 0.1
    """Flights shorter than this are left as they are [s]."""


def ground_targets(
    targets: Targets, robot: Robot, fps: float, options: GroundOptions
) -> tuple[Targets, Float[np.ndarray, " C"]]:
    """Put the floor under each clip's targets at z = 0 and keep both soles on or above it; gives each clip's shift upwards too
    [m].

    The floor's height is the one most planted-foot frames agree on, so a stumble or a held leg does not move it. A foot
    that would cut into the floor is raised (the robot's sole is longer and stiffer than a person's), and so are the hands,
    knees and hips of one who kneels or lies. A robot smaller than the person would jump as on the moon: it flies higher, by
    gravity.
    """
    feet, heights = _soles(targets, robot)
    planted = _planted(targets, feet, fps, options)
    floors = np.array(
        [
            _floor_height(heights[start:stop], planted[start:stop], options)
            for start, stop in zip(targets.starts, targets.stops, strict=True)
        ]
    )
    clip = np.repeat(np.arange(len(floors)), np.subtract(targets.stops, targets.starts))
    position = targets.position.copy()
    position[:, :, 2] -= floors[clip, None]
    heights -= floors[clip, None]
    for column, foot in enumerate(feet):
        position[:, foot, 2] += np.maximum(-heights[:, column], 0.0)
    _raise_off_floor(position, targets, robot)
    _fly_by_gravity(position, np.minimum(*heights.T), clip, targets, fps, options)
    return replace(targets, position=position), -floors


def _raise_off_floor(position: Float[np.ndarray, "T K 3"], targets: Targets, robot: Robot) -> None:
    """Raise each target whose body's capsules would cut into the floor, in frames with low hips."""
    low = np.flatnonzero(position[:, targets.bodies.index(0), 2] < UPRIGHT * _hip_height(robot))
    if not len(low):
        return
    for target, body in enumerate(targets.bodies):
        if (balls := balls_of(robot, body)) is not None:
            lowest = lowest_of(position[low, target], targets.rotation[low, target], *balls)
            position[low, target, 2] += np.maximum(-lowest, 0.0)


def _fly_by_gravity(
    position: Float[np.ndarray, "T K 3"],
    soles: Float[np.ndarray, " T"],
    clip: Int[np.ndarray, " T"],
    targets: Targets,
    fps: float,
    options: GroundOptions,
) -> None:
    """Raise flights so that the base falls at g: what a scaled-down jump, in the same time, lacks of its height.

    A flight is a stretch with both soles off the ground in which the base follows a parabola that gravity, scaled or not, could
    have bent: who hangs, sits or stands on the hands does not fall.
    """
    off = soles > options.off_ground
    if not off.any():
        return
    base = position[:, targets.bodies.index(0), 2]
    edges = np.flatnonzero(np.diff(off, prepend=False, append=False))
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        seen = start > 0 and stop < len(off) and clip[start - 1] == clip[stop]  # take-off and landing, of one clip
        if not seen or stop - start < max(4, options.shortest_flight_s * fps):
            continue
        seconds = np.arange(start, stop) / fps
        fitted = np.polynomial.Polynomial.fit(seconds, base[start:stop], 2)
        fall = -float(fitted.deriv(2)(seconds[0]))
        off_parabola = np.abs(fitted(seconds) - base[start:stop]).max()
        if off_parabola < 0.02 and 0.4 * GRAVITY < fall < GRAVITY:
            since, until = seconds - (start - 1) / fps, stop / fps - seconds
            position[start:stop, :, 2] += ((GRAVITY - fall) / 2 * since * until)[:, None]


@functools.cache
def _hip_height(robot: Robot) -> float:
    """The base above the soles in the rest posture [m]."""
    return -float(postures(robot, robot.rest, soles_only=True).lowest[0])


@functools.cache
def balls_of(robot: Robot, body: int) -> tuple[Float[np.ndarray, "P 3"], Float[np.ndarray, " P"]] | None:
    """Ends and radii of a body's capsules."""
    own = [capsule for capsule in robot.capsules if capsule.body == body]
    if not own:
        return None
    ends = np.array([end for capsule in own for end in (capsule.start, capsule.end)])
    return ends, np.repeat([capsule.radius for capsule in own], 2)


def lift_off_floor(lowest: Float[np.ndarray, " T"], fps: float, options: GroundOptions) -> Float[np.ndarray, " T"]:
    """How far to move each frame upwards [m] so that the robot's lowest point stays above z = 0 less the allowed depth.

    Bodies that lie or kneel are thicker than the person's; the lift rises and falls smoothly around such frames.
    """
    depth = np.maximum(-lowest - options.allowed_depth, 0.0)
    return _envelope(depth, fps, options.window_s)


def _planted(targets: Targets, feet: list[int], fps: float, options: GroundOptions) -> Bool[np.ndarray, "T 2"]:
    """Which feet are so slow that they may stand; speeds are central differences, one-sided at the ends of clips."""
    place = np.stack([targets.position[:, foot] for foot in feet], 1)
    step = np.diff(place, axis=0, append=place[-1:])
    starts, lasts = np.array(targets.starts), np.array(targets.stops) - 1
    step[lasts] = step[np.maximum(lasts - 1, starts)]
    before = np.roll(step, 1, axis=0)
    before[starts] = step[starts]
    velocity = step + before
    return np.einsum("tfa,tfa->tf", velocity, velocity) < (2 * options.planted_speed / fps) ** 2


def _floor_height(soles: Float[np.ndarray, "T 2"], planted: Bool[np.ndarray, "T 2"], options: GroundOptions) -> float:
    """Height most planted-foot frames agree on [m]; without enough of them, where the lower foot is lowest."""
    votes = soles[planted]
    if len(votes) >= max(2.0, options.planted_share * len(soles)):
        return most_common(votes)
    return float(np.quantile(soles.min(1), 0.02))


def _soles(targets: Targets, robot: Robot) -> tuple[list[int], Float[np.ndarray, "T 2"]]:
    """Which targets are the feet, and the lowest point of each sole while the foot is on its target [m]."""
    feet, heights = [], []
    for side in ("left", "right"):
        name, heel = robot.ground_points[f"{side}_heel"]
        foot = targets.bodies.index(robot.body(name))
        points = np.concatenate([heel, robot.ground_points[f"{side}_toe"][1]])
        heights.append(lowest_of(targets.position[:, foot], targets.rotation[:, foot], points))
        feet.append(foot)
    return feet, np.stack(heights, 1)


def lowest_of(
    origin: Float[np.ndarray, "T 3"],
    turn: Float[np.ndarray, "T 4"],
    points: Float[np.ndarray, "P 3"],
    radii: Float[np.ndarray, " P"] | float = 0.0,
) -> Float[np.ndarray, " T"]:
    """Height of the lowest of some balls fixed in a body [m]."""
    w, x, y, z = turn.T
    third_row = np.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], 1)
    return origin[:, 2] + (third_row @ points.T - radii).min(1)


def most_common(heights: Float[np.ndarray, " V"], width: float = 0.02) -> float:
    """Median of the votes in the fullest window of `width` [m]."""
    ordered = np.sort(heights)
    ends = np.searchsorted(ordered, ordered + width, side="right")
    best = int(np.argmax(ends - np.arange(len(ordered))))
    last = ends[best] - 1
    return float(ordered[(best + last) // 2] + ordered[(best + last + 1) // 2]) / 2


def _envelope(depth: Float[np.ndarray, " T"], fps: float, window_s: float) -> Float[np.ndarray, " T"]:
    """A smooth curve that never falls below `depth`."""
    if not depth.any():
        return depth
    half = max(1, round(window_s * fps / 2))
    window = np.hanning(2 * half + 3)[1:-1]
    return np.convolve(
        np.pad(ndimage.maximum_filter1d(depth, 2 * half + 1, mode="nearest"), half, "edge"),
        window / window.sum(),
        "valid",
    )
