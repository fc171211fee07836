"""Where the robot went: its root's path, worked out afterwards from joint angles and the sensor in its pelvis.

A robot on its feet moves against what stands on the floor: from one frame to the next its lowest sole points stay where they are. In
the air, where the sensor feels next to no force, its velocity goes on by that sensor alone, which feels gravity missing. Heights
come from the lowest point, which lies on the floor at z = 0; places drift, since nothing tells them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage, signal

from corpus import rotations
from corpus.dynamics import GRAVITY
from corpus.posture import RESTING, Postures, postures
from corpus.robot import Robot


@dataclass(frozen=True)
class OdometryOptions:
    near: float = 0.004
    """How far above the lowest point a sole point stops counting as standing [m], as the σ of a bell curve. Larger takes feet that
    are just about to land or have just left for standing ones."""
    free_fall: float = 4.0
    """With less than this felt by the sensor the robot is in the air [m/s²]; 9.81 is felt standing."""
    shortest_flight_s: float = 0.06
    """Shorter moments of little force are jolts, not flights [s]."""
    smooth_hz: float = 6.0
    """What is faster in the path is taken out: how it jerks when the weight goes from foot to foot [Hz]."""


def root_path(
    robot: Robot,
    root_rotation: Float[np.ndarray, "T 4"],
    joint_position: Float[np.ndarray, "T J"],
    fps: float,
    *,
    acceleration: Float[np.ndarray, "T 3"] | None = None,
    options: OdometryOptions = OdometryOptions(),
) -> Float[np.ndarray, "T 3"]:
    """The root's place in every frame [m], from x = y = 0 on; at an even rate. Without the sensor's `acceleration` [m/s²], which
    includes gravity, nothing is taken for a flight."""
    count = len(joint_position)
    qpos = np.concatenate([np.zeros((count, 3)), root_rotation, joint_position], 1)
    outside = postures(robot, qpos)
    aloft = np.zeros(count, bool)
    felt = None
    if acceleration is not None:
        aloft = _flights(acceleration, fps, options)
        felt = rotations.rotate(rotations.normalise(root_rotation), acceleration) - [0, 0, GRAVITY]
    path = _follow(_steps(outside, options), -outside.lowest, aloft, felt, fps)
    return _smooth(path, fps, options.smooth_hz)


def _steps(outside: Postures, options: OdometryOptions) -> Float[np.ndarray, "T-1 2"]:
    """How the root moves from frame to frame over what stands [m]."""
    soles = outside.soles
    height = soles[2] - soles[2].min(0)
    standing = np.exp(-((height / options.near) ** 2))
    weight = standing[:, 1:] * standing[:, :-1] + 1e-9
    step = -np.diff(soles[:2], axis=2)
    mean = (step * weight).sum(1) / weight.sum(0)
    # One who lies, kneels or leans on his hands is taken to rest where he is: his soles tell nothing.
    mean[:, (outside.lowest_besides_feet - outside.lowest < RESTING)[1:]] = 0
    return mean.T


def _flights(acceleration: Float[np.ndarray, "T 3"], fps: float, options: OdometryOptions) -> Bool[np.ndarray, " T"]:
    light = np.linalg.norm(acceleration, axis=1) < options.free_fall
    shortest = max(1, round(options.shortest_flight_s * fps))
    return ndimage.binary_opening(light, np.ones(shortest))


def _follow(
    steps: Float[np.ndarray, "T-1 2"],
    height: Float[np.ndarray, " T"],
    aloft: Bool[np.ndarray, " T"],
    felt: Float[np.ndarray, "T 3"] | None,
    fps: float,
) -> Float[np.ndarray, "T 3"]:
    """Add up: steps on the ground, and in each flight a path that leaves with the last speed on the ground and lands at the height
    at which it lands."""
    moved = steps.copy()
    place_z = height.copy()
    for first, last in _runs(aloft):
        if felt is None or first < 3 or last + 1 >= len(height):
            continue
        force = felt[first : last + 1]
        leaving = np.median(steps[first - 3 : first], axis=0) * fps
        gained = np.cumsum(np.concatenate([np.zeros((1, 2)), force[:, :2]]), axis=0) / fps
        moved[first - 1 : last + 1] = (leaving + gained) / fps
        # Half a frame before the first that feels light, and half a frame after the last, the feet are on the ground.
        ends = (height[first - 1] + height[first]) / 2, (height[last] + height[last + 1]) / 2
        place_z[first : last + 1] = _arc(force[:, 2], *ends, fps)
    xy = np.concatenate([np.zeros((1, 2)), np.cumsum(moved, axis=0)])
    return np.concatenate([xy, place_z[:, None]], 1)


def _smooth(path: Float[np.ndarray, "T 3"], fps: float, hz: float) -> Float[np.ndarray, "T 3"]:
    """Without what is faster, and neither late nor early; the same where the rate carries nothing faster."""
    if hz >= 0.45 * fps or len(path) < 3:
        return path
    found = signal.sosfiltfilt(
        signal.butter(2, hz, fs=fps, output="sos"), path, axis=0, padlen=min(len(path) - 1, int(fps / 2))
    )
    return found - found[0] * [1, 1, 0]


def _arc(force: Float[np.ndarray, " K"], start: float, stop: float, fps: float) -> Float[np.ndarray, " K"]:
    """Heights at the middles of K frames with these accelerations, between heights at their outer ends."""
    speed = np.concatenate([[0], np.cumsum(force)]) / fps
    rise = np.concatenate([[0], np.cumsum(speed[:-1] / fps + force / fps**2 / 2)])
    upwards = (stop - start - rise[-1]) / len(force)
    middle = np.arange(len(force)) + 0.5
    return start + rise[:-1] + speed[:-1] / fps / 2 + force / fps**2 / 8 + upwards * middle


def _runs(flags: Bool[np.ndarray, " T"]) -> list[tuple[int, int]]:
    """First and last frame of each stretch of True."""
    edge = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return [(int(a), int(b) - 1) for a, b in edge.reshape(-1, 2)]
