"""How deep the robot's collision capsules overlap one another, over whole clips at once, without a physics engine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from corpus.contact import BodyStates, fixed_points
from corpus.robot import Robot

Spans = Float[np.ndarray, "3 C T"]
"""x, y and z of something for every capsule, frames last: long, contiguous rows."""


def capsule_spans(robot: Robot, states: BodyStates) -> tuple[Spans, Spans, Float[np.ndarray, " C"]]:
    """Centre and half axis of every capsule in the world, and its radius [m]; float32.

    Centres are taken from the root's place on the ground, so that float32 is exact to a micrometre anywhere.
    """
    position, rotation = states
    bodies = np.array([capsule.body for capsule in robot.capsules])
    ends = np.array([[capsule.start, capsule.end] for capsule in robot.capsules])
    place = position[:, :1] * np.array([1.0, 1.0, 0.0])
    near, turn = (position - place).astype(np.float32), rotation.astype(np.float32)
    centre = fixed_points((near, turn), bodies, ends.mean(1))
    half = fixed_points((np.zeros_like(near), turn), bodies, (ends[:, 1] - ends[:, 0]) / 2)
    return centre, half, np.array([capsule.radius for capsule in robot.capsules], np.float32)


def deepest_overlap(
    robot: Robot, centre: Spans, half: Spans, radius: Float[np.ndarray, " C"]
) -> Float[np.ndarray, " T"]:
    """Deepest overlap of two capsules in each frame [m], 0 where none touch; equals MuJoCo's contact depth.

    First the balls around bundles of capsules (a foot's seven are one), then the capsules of the frames that are left.
    """
    plan = _plan(robot)
    one, other, frame = _near(plan, centre)
    depth = np.zeros(centre.shape[2])
    apart = centre[:, one, frame] - centre[:, other, frame]
    close = _dot(apart, apart) < (plan.ball[one] + plan.ball[other]) ** 2
    one, other, frame = one[close], other[close], frame[close]
    distance = _distance(apart[:, close], half[:, one, frame], half[:, other, frame])
    np.maximum.at(depth, frame, radius[one] + radius[other] - distance)
    return depth


def segment_distance(
    a0: Float[np.ndarray, "... 3"],
    a1: Float[np.ndarray, "... 3"],
    b0: Float[np.ndarray, "... 3"],
    b1: Float[np.ndarray, "... 3"],
) -> Float[np.ndarray, " ..."]:
    """Shortest distance between two line segments [m]."""
    parts = ((a0 + a1) / 2 - (b0 + b1) / 2, (a1 - a0) / 2, (b1 - b0) / 2)
    return _distance(*(np.moveaxis(part, -1, 0) for part in parts))


@dataclass(frozen=True)
class _Plan:
    """Which capsules to compare; made once per robot."""

    robot: Robot
    core: Int[np.ndarray, " G"]
    """The capsule whose centre stands for each bundle."""
    reach: Float[np.ndarray, " G"]
    """Radius of the ball about that centre that holds the whole bundle [m]."""
    ball: Float[np.ndarray, " C"]
    """Radius of the ball that holds a capsule [m]."""
    bundle_pairs: Int[np.ndarray, "H 2"]
    first: Int[np.ndarray, " H"]
    count: Int[np.ndarray, " H"]
    """Where the capsule pairs of each pair of bundles lie in `pairs`."""
    pairs: Int[np.ndarray, "K 2"]


_PLANS: dict[int, _Plan] = {}


def _plan(robot: Robot) -> _Plan:
    """From the cache; a plan holds its robot, so that the id cannot become another's."""
    if id(robot) not in _PLANS:
        _PLANS[id(robot)] = _make_plan(robot)
    return _PLANS[id(robot)]


def _make_plan(robot: Robot) -> _Plan:
    """Bundle the capsules of bodies that have more than two, and sort the pairs by bundle."""
    capsules = robot.capsules
    bodies = np.array([capsule.body for capsule in capsules])
    ends = np.array([[capsule.start, capsule.end] for capsule in capsules])
    radius = np.array([capsule.radius for capsule in capsules])
    length = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1)
    own = [np.flatnonzero(bodies == body) for body in np.unique(bodies)]
    groups = [group for of_body in own for group in ([of_body] if len(of_body) > 2 else of_body[:, None])]
    core = np.array([group[length[group].argmax()] for group in groups])
    home = np.empty(len(capsules), np.int64)
    reach = np.empty(len(groups), np.float32)
    for index, (heart, group) in enumerate(zip(core, groups, strict=True)):
        home[group] = index
        reach[index] = (np.linalg.norm(ends[group] - ends[heart].mean(0), axis=2) + radius[group, None]).max()
    bundles = np.sort(home[robot.collision_pairs], axis=1)
    order = np.lexsort((bundles[:, 1], bundles[:, 0]))
    bundle_pairs, first, count = np.unique(bundles[order], axis=0, return_index=True, return_counts=True)
    ball = (length / 2 + radius).astype(np.float32)
    return _Plan(robot, core, reach, ball, bundle_pairs, first, count, robot.collision_pairs[order])


def _near(plan: _Plan, centre: Spans) -> tuple[Int[np.ndarray, " M"], Int[np.ndarray, " M"], Int[np.ndarray, " M"]]:
    """Capsules one and other, and the frame, wherever the balls around their bundles meet."""
    a, b = plan.bundle_pairs.T
    x, y, z = (centre[axis, plan.core] for axis in range(3))
    square = (x[a] - x[b]) ** 2 + (y[a] - y[b]) ** 2 + (z[a] - z[b]) ** 2
    met: Bool[np.ndarray, "H T"] = square < ((plan.reach[a] + plan.reach[b]) ** 2)[:, None]
    pair, frame = np.nonzero(met)
    # Every pair of bundles stands for a stretch of the list of capsule pairs.
    count = plan.count[pair]
    place = np.repeat(plan.first[pair] - (np.cumsum(count) - count), count) + np.arange(count.sum())
    one, other = plan.pairs[place].T
    return one, other, np.repeat(frame, count)


def _distance(
    apart: Float[np.ndarray, "3 ..."], u: Float[np.ndarray, "3 ..."], v: Float[np.ndarray, "3 ..."]
) -> Float[np.ndarray, " ..."]:
    """Between segments with half axes `u` and `v`, `apart` from the second's centre to the first's (Ericson, Real-Time
    Collision Detection, 5.1.9, with parameters from −1 to 1)."""
    uu, vv, uv = _dot(u, u), _dot(v, v), _dot(u, v)
    uw, vw = _dot(u, apart), _dot(v, apart)
    tiny = np.finfo(apart.dtype).tiny
    determinant = uu * vv - uv * uv
    # Nearly parallel: any point of the first will do to begin with, the others follow from it.
    slanted = determinant > 4 * np.finfo(apart.dtype).eps * uu * vv
    s = np.where(slanted, np.clip((uv * vw - vv * uw) / np.where(slanted, determinant, 1), -1, 1), 0)
    t = np.clip((uv * s + vw) / np.maximum(vv, tiny), -1, 1)
    s = np.clip((uv * t - uw) / np.maximum(uu, tiny), -1, 1)
    between = apart + s * u - t * v
    return np.sqrt(_dot(between, between))


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
