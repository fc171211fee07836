"""How much of a motion physics would not allow: terms of a segment, and a score of 100 minus their weighted sum.

Two presets. `published` is GQS's score with its own weights, limits and averages, but a foot's speed is that of the point of its
sole that touches (GQS reads MuJoCo's `cvel`, which refers to the centre of mass: a foot that rolls about a fixed point reads
0.9 m/s there), and speeds are taken from the positions, never from a stored array that may hold zeros. `contact` is ours.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from corpus import rotations
from corpus.errors import MotionloomError
from corpus.motion import RobotMotion
from corpus.posture import GROUND_POINTS, Postures, postures
from corpus.quality import OFF_GROUND, bearing_slide
from corpus.robot import Robot

ANKLE_HEIGHT = 0.05
"""A foot whose ankle is lower is in contact [m]."""
FREE_SLIDE = 0.1
"""Slide that costs nothing [m/s]."""
FREE_DEPTH = 0.01
"""Depth below the floor that costs nothing [m]."""
LEAST_FLIGHT_S = 1.0
"""Nobody is off the ground for so long [s]."""
MOST_CONTACTS = 10
"""More contacts of the robot with itself cost no more."""
SPIKE_SPEED, SPIKE_AROUND, SPIKE_SHARE = 5.0, 3, 0.35
"""Root speed of a spike [m/s]; frames on both sides, whose speeds stay under this share of it."""
ACCELERATION_WEIGHT = 0.05
"""Of squared accelerations beside squared speeds, in the complexity [s²]."""
BATCH_FRAMES = 10_000
"""Frames worked on at once: few enough to stay near the processor."""


@dataclass(frozen=True)
class PhysicsTerms:
    """What is wrong with a segment, one number each; and its complexity."""

    ankle_slide: float
    """Mean over the frames of what both feet, where their ankles are low, slide faster than 0.1 m/s, added up [m/s]."""
    sole_slide: float
    """Mean over the frames of what the bearing soles (`corpus.quality.FrameMeasures.slide`) slide faster than 0.1 m/s [m/s];
    a foot that swings past near the floor or drags beside a lying robot does not count."""
    over_speed: float
    """Mean over frames and joints of the speed beyond the joint's limit [rad/s]."""
    self_contacts: float
    """Mean number of pairs of the robot's own capsules that overlap, at most 10. GQS counts the contacts of its own model in
    MuJoCo."""
    acceleration: float
    """Mean over the frames of the norm of all 35 accelerations (GQS calls it jerk) [m/s², rad/s²]."""
    sunk: float
    """Mean over the frames of the depth below the floor beyond 1 cm [m]."""
    flight: float
    """Share of frames in flights of a second or more, with nothing within 5 cm of the floor."""
    flight_middles: float
    """Share of frames that have half a second of such a flight on both sides: how GQS counts."""
    spikes: float
    """Steps of the root faster than 5 m/s among steps of less than 0.35 of that, within 3 frames."""
    complexity: float
    """Mean over the frames of |q̇|² + 0.05 |q̈|²: how much happens; no fault."""


TERMS: tuple[str, ...] = tuple(field.name for field in fields(PhysicsTerms))


@dataclass(frozen=True)
class Preset:
    """A score: 100 less the weighted terms, never below 0."""

    weights: Mapping[str, float]
    """What one unit of a term costs, by its name in `TERMS`."""
    keep: float = 90.0
    """Segments that score lower are better left out."""


PRESETS = {
    "published": Preset(
        {"ankle_slide": 1.70, "over_speed": 44.22, "self_contacts": 0.17, "acceleration": 0.28, "sunk": 216.62,
         "flight_middles": 24.19}
    ),
    # Faults of contact alone, each costing the ten points where the field calls it bad; the rest weighs nothing since GQS's authors
    # found that leaving out fast motion and self-contact hurts training and that "jerk", which grows with every quick motion,
    # does neither. Slide of 0.2 m/s on average: public retargeters leave 0.02 to 0.14. Depth of 3 cm: a robot that is set down
    # there is thrown up. A tenth of the frames in a flight that nobody makes. One spike: GQS drops such clips altogether.
    "contact": Preset({"sole_slide": 100.0, "sunk": 500.0, "flight": 100.0, "spikes": 20.0}),
}  # fmt: skip


def terms(robot: Robot, motion: RobotMotion, outside: Postures) -> PhysicsTerms:
    """Of a segment; `outside` is `postures(robot, motion.qpos)`."""
    if len(outside.lowest) != motion.frame_count:
        raise MotionloomError(f"Postures of {len(outside.lowest)} frames for a motion of {motion.frame_count}.")
    found = _of_segments(robot, motion.qpos, np.array([motion.frame_count]), motion.fps, outside)
    return PhysicsTerms(**{name: float(found[name][0]) for name in TERMS})


def measure_terms(
    robot: Robot, qpos: Float[np.ndarray, "T Q"], lengths: Int[np.ndarray, " S"], *, fps: float
) -> dict[str, Float[np.ndarray, " S"]]:
    """Of segments that lie end to end: a number for each, by the names in `TERMS`."""
    ends = np.cumsum(lengths)
    first = np.flatnonzero(np.diff((ends - 1) // BATCH_FRAMES, prepend=-1))
    parts = []
    for some in np.split(np.arange(len(lengths)), first[1:]):
        rows = slice(int(ends[some[0]] - lengths[some[0]]), int(ends[some[-1]]))
        parts.append(_of_segments(robot, qpos[rows], lengths[some], fps, postures(robot, qpos[rows])))
    return {name: np.concatenate([part[name] for part in parts]).astype(np.float32) for name in TERMS}


def score(values: Mapping[str, Any], preset: Preset = PRESETS["contact"]) -> Float[np.ndarray, " S"]:
    """Scores of segments, 0 to 100; `values` holds the terms by name, a number for each segment."""
    if unknown := sorted(set(preset.weights) - set(TERMS)):
        raise MotionloomError(f"No terms {', '.join(unknown)}. Known: {', '.join(TERMS)}.")
    if absent := sorted(set(preset.weights) - set(values)):
        raise MotionloomError(f"The score needs {', '.join(absent)}, which were not taken; `loom embed` takes them.")
    total = 0.0
    for name, weight in preset.weights.items():
        column = np.asarray(values[name], np.float64)
        if missing := int(np.count_nonzero(~np.isfinite(column))):
            raise MotionloomError(f"{name} is missing for {missing} segments: what was not measured is not faultless.")
        total = total + weight * column
    return np.maximum(100 - np.atleast_1d(total), 0)


def _of_segments(
    robot: Robot, qpos: Float[np.ndarray, "T Q"], lengths: Int[np.ndarray, " S"], fps: float, outside: Postures
) -> dict[str, Float[np.ndarray, " S"]]:
    """Segments that lie end to end; what lies between two frames belongs to the later one, and a first frame has none."""
    if qpos.shape[1] != 7 + robot.joint_count:
        raise MotionloomError(f"Motion of {qpos.shape[1]} columns: {robot.name} has {7 + robot.joint_count}.")
    starts = np.cumsum(lengths) - lengths

    def total(values: Float[np.ndarray, " T"]) -> Float[np.ndarray, " S"]:
        return np.add.reduceat(values, starts, dtype=np.float64)

    def since_start(values: Float[np.ndarray, "T ..."]) -> Float[np.ndarray, "T ..."]:
        values[starts] = 0
        return values

    speed = _velocities(qpos, lengths, fps)
    acceleration = since_start(np.diff(speed, axis=0, prepend=speed[:1]) * np.float32(fps))
    power = np.einsum("td,td->t", acceleration, acceleration)
    beyond = np.maximum(np.abs(speed[:, 6:]) - robot.speed_limit.astype(np.float32), 0)
    slide = since_start(np.nan_to_num(bearing_slide(outside, fps)))
    flight, middles = _flights(outside.lowest > OFF_GROUND, starts, lengths, round(LEAST_FLIGHT_S * fps))
    return {
        "ankle_slide": total(since_start(_ankle_slide(robot, outside, fps))) / lengths,
        "sole_slide": total(np.maximum(slide - FREE_SLIDE, 0)) / lengths,
        "over_speed": total(beyond.mean(1)) / lengths,
        "self_contacts": total(np.minimum(outside.overlap_count, MOST_CONTACTS)) / lengths,
        "acceleration": total(np.sqrt(power)) / lengths,
        "sunk": total(np.maximum(-outside.lowest - FREE_DEPTH, 0)) / lengths,
        "flight": flight,
        "flight_middles": middles,
        "spikes": _spikes(qpos[:, :3].astype(np.float64), starts, lengths, fps),
        "complexity": total(np.einsum("td,td->t", speed, speed)) / lengths
        + ACCELERATION_WEIGHT * total(power) / np.maximum(lengths - 1, 1),
    }


def _velocities(qpos: Float[np.ndarray, "T Q"], lengths: Int[np.ndarray, " S"], fps: float) -> Float[np.ndarray, "T V"]:
    """`corpus.motion.velocity` of each segment, in single precision."""
    turn = qpos[:, 3:7].astype(np.float64)
    step = np.zeros((len(qpos) + 1, qpos.shape[1] - 1), np.float32)
    step[1:-1, :3] = qpos[1:, :3] - qpos[:-1, :3]
    step[1:-1, 3:6] = rotations.to_rotation_vector(rotations.multiply(turn[1:], rotations.conjugate(turn[:-1])))
    step[1:-1, 6:] = qpos[1:, 7:] - qpos[:-1, 7:]
    step *= np.float32(fps)
    last = np.cumsum(lengths) - 1
    first = last - lengths + 1
    speed = (step[1:] + step[:-1]) / 2
    brief = (lengths < 2)[:, None]
    speed[first], speed[last] = np.where(brief, 0, step[first + 1]), np.where(brief, 0, step[last])
    speed[:, 3:6] = rotations.rotate(rotations.conjugate(turn), speed[:, 3:6])
    return speed


def _ankle_slide(robot: Robot, outside: Postures, fps: float) -> Float[np.ndarray, " T"]:
    """What both feet slide too fast, from the frame before [m/s]: the points of a sole that bear before and after."""
    total = np.zeros(len(outside.lowest))
    for points, build in zip(_feet(outside), _ankles(robot), strict=True):
        sole = outside.soles[:, points]
        low = (_ankle_height(sole, build) < ANKLE_HEIGHT)[1:]
        # The point that is lowest before and after: about it the foot rolls.
        lowest = (sole[2, :, 1:] + sole[2, :, :-1]).argmin(0)
        step = np.take_along_axis(np.diff(sole[:2], axis=2), lowest[None, None], 1)[:, 0]
        speed = np.hypot(*step) * fps
        total[1:] += np.where(low, np.maximum(speed - FREE_SLIDE, 0), 0)
    return total


def _feet(outside: Postures) -> tuple[Bool[np.ndarray, " P"], Bool[np.ndarray, " P"]]:
    """Which of the sole points are the left foot's, and the right one's."""
    return outside.sole_group < 2, outside.sole_group >= 2


def _ankle_height(
    sole: Float[np.ndarray, "3 P T"], build: tuple[int, int, int, Float[np.ndarray, "3"]]
) -> Float[np.ndarray, " T"]:
    corner, one, other, share = build
    u, v = sole[:, one] - sole[:, corner], sole[:, other] - sole[:, corner]
    upright = u[0] * v[1] - u[1] * v[0]
    return sole[2, corner] + share[0] * u[2] + share[1] * v[2] + share[2] * upright


@functools.cache
def _ankles(robot: Robot) -> list[tuple[int, int, int, Float[np.ndarray, "3"]]]:
    """How each foot's origin is made of three points of its sole: corner + a·u + b·v + c·(u × v)."""
    builds = []
    for side in ("left", "right"):
        points = np.concatenate([robot.ground_points[name][1] for name in GROUND_POINTS if name.startswith(side)])
        area = [
            (float(np.linalg.norm(np.cross(points[one] - points[0], points[other] - points[0]))), one, other)
            for one in range(1, len(points))
            for other in range(one + 1, len(points))
        ]
        size, one, other = max(area, default=(0.0, 0, 0))
        if size < 1e-6:
            raise MotionloomError(
                f"{robot.name}: the sole points of the {side} foot lie on a line; three corners are needed."
            )
        u, v = points[one] - points[0], points[other] - points[0]
        share = np.linalg.solve(np.stack([u, v, np.cross(u, v)], 1), -points[0])
        builds.append((0, one, other, share))
    return builds


def _flights(
    off: Bool[np.ndarray, " T"], starts: Int[np.ndarray, " S"], lengths: Int[np.ndarray, " S"], least: int
) -> tuple[Float[np.ndarray, " S"], Float[np.ndarray, " S"]]:
    """Share of each segment's frames in flights of at least so many frames, and of those with half of them on both sides."""
    before, after = np.roll(off, 1), np.roll(off, -1)
    before[starts], after[starts + lengths - 1] = False, False
    begins, ends = np.flatnonzero(off & ~before), np.flatnonzero(off & ~after) + 1
    long = ends - begins >= least
    segment, run = np.searchsorted(starts, begins[long], side="right") - 1, (ends - begins)[long]
    whole, middles = (np.bincount(segment, run - less, len(starts)) for less in (0, least - 1))
    return whole / lengths, middles / lengths


def _spikes(
    place: Float[np.ndarray, "T 3"], starts: Int[np.ndarray, " S"], lengths: Int[np.ndarray, " S"], fps: float
) -> Float[np.ndarray, " S"]:
    step = np.linalg.norm(np.diff(place, axis=0, prepend=place[:1]), axis=1) * fps
    step[starts] = 0
    found = np.zeros(len(starts))
    for segment in np.flatnonzero(np.maximum.reduceat(step, starts) > SPIKE_SPEED):
        own = step[starts[segment] + 1 : starts[segment] + lengths[segment]]
        around = np.lib.stride_tricks.sliding_window_view(np.pad(own, SPIKE_AROUND), 2 * SPIKE_AROUND + 1).copy()
        around[:, SPIKE_AROUND] = 0
        # With no step beside it nothing tells whether it is a spike.
        found[segment] = ((own > SPIKE_SPEED) & (around.max(1) < SPIKE_SHARE * own)).sum() * (len(own) > 1)
    return found
