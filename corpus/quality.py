"""How good a robot's motion is: measures with units, frame by frame and per segment, and the gate that judges them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int

from corpus import rotations
from corpus.contact import BodyStates, sole_points
from corpus.errors import Rejected
from corpus.motion import RobotMotion, differentiate
from corpus.robot import Capsule, Robot

TOUCHING = 0.015
"""A sole point lower than this bears on the ground and must not slide [m]."""
AIRBORNE = 0.05
"""With every part of the robot higher than this, it flies [m]."""


@dataclass(frozen=True)
class FrameMeasures:
    """One value per frame, and what the cutter needs."""

    fps: float
    slide: Float[np.ndarray, " T"]
    """Horizontal speed of the lowest point of the bearing foot; NaN where no foot touches [m/s]."""
    lowest: Float[np.ndarray, " T"]
    """Height of the lowest point of the robot [m]."""
    at_limit: Float[np.ndarray, " T"]
    """1 where a joint stands at its limit, else 0."""
    speed_use: Float[np.ndarray, " T"]
    """Largest joint speed as a share of the joint's limit."""
    jerk: Float[np.ndarray, " T"]
    """Root mean square over the joints of the third derivative [rad/s³]."""
    self_collision: Float[np.ndarray, " T"]
    """Deepest overlap of two collision capsules [m]."""
    root_speed: Float[np.ndarray, " T"]
    """[m/s]"""
    joint_step: Float[np.ndarray, " T"]
    """Largest joint movement from the frame before [rad]; zero for the first."""
    root_step: Float[np.ndarray, " T"]
    """Root movement from the frame before [m]; zero for the first."""
    position_error: Float[np.ndarray, " T"]
    orientation_error: Float[np.ndarray, " T"]
    contact: Float[np.ndarray, " T"]
    """1 where a heel or toe touches, else 0."""


@dataclass(frozen=True)
class Quality:
    """Measures of one segment; the columns of the segments table."""

    foot_slide: float
    """Mean speed of the bearing foot's lowest point [m/s]; 0 where no foot touches."""
    floating: float
    """Median height of the robot's lowest point above the floor, never negative [m]."""
    penetration: float
    """Depth below the floor that 1 % of the frames exceed [m]."""
    airborne_s: float
    """Longest stretch with nothing near the floor [s]."""
    limit_use: float
    """Share of frames with a joint at its limit."""
    speed_use: float
    """Highest joint speed as a share of its limit."""
    jerk: float
    """Median over the frames of the joints' RMS jerk [rad/s³]."""
    self_collision: float
    """Overlap of the robot's own capsules that 1 % of the frames exceed [m]."""
    root_speed: float
    """Highest speed of the root [m/s]."""
    position_error: float
    """Mean distance of bodies from their retargeting targets [m]; NaN for motion that came on the robot."""
    orientation_error: float
    """Mean angle between bodies and their targets [rad]; NaN likewise."""
    contact_share: float
    """Share of frames with a heel or toe on the ground."""


@dataclass(frozen=True)
class Gate:
    """What a segment may show at most. Each reject tells the measure and the limit."""

    foot_slide_limit: float = 0.4
    """Mean speed of touching feet [m/s]. Public retargeters leave 0.02 (standing) to 0.14 (running)."""
    floating_limit: float = 0.05
    """Median height above the floor [m]; the published filters call 0.05 m floating."""
    penetration_limit: float = 0.05
    """Depth below the floor [m]; ProtoMotions refuses 0.05 m."""
    airborne_s_limit: float = 1.0
    """Longest flight [s]; nobody jumps for a second."""
    limit_use_limit: float = 0.9
    """Share of frames at a joint limit."""
    speed_use_limit: float = 1.0
    """Share of the joints' speed limits."""
    jerk_limit: float = 3000.0
    """Median RMS joint jerk [rad/s³]: above it is noise, not motion."""
    self_collision_limit: float = 0.1
    """Overlap of the robot's own capsules [m]; the capsules are fatter than the links."""
    root_speed_limit: float = 10.0
    """Speed of the root [m/s]; HoloMotion's limit."""
    position_error_limit: float = 0.15
    """Mean distance from the targets [m]."""
    orientation_error_limit: float = 0.6
    """Mean angle from the targets [rad]."""

    def check(self, quality: Quality) -> None:
        """Raise `Rejected` naming the first measure over its limit; the reason is the measure's name."""
        for field in fields(self):
            measure = field.name.removesuffix("_limit")
            value, limit = getattr(quality, measure), getattr(self, field.name)
            if value > limit:
                raise Rejected(measure, value=round(float(value), 5), limit=limit)


def frame_measures(
    robot: Robot,
    motion: RobotMotion,
    states: BodyStates,
    *,
    position_error: Float[np.ndarray, " T"] | None = None,
    orientation_error: Float[np.ndarray, " T"] | None = None,
) -> FrameMeasures:
    """Measure every frame; `states` are the bodies' poses, `motion.contact` must be filled."""
    if motion.contact is None:
        raise ValueError("Contacts are measured first: see corpus.contact.detect_contacts.")
    joints = motion.joint_position.astype(np.float64)
    missing = np.full(motion.frame_count, np.nan)
    steps = np.abs(np.diff(joints, axis=0, prepend=joints[:1]))
    root_steps = np.linalg.norm(np.diff(motion.root_position, axis=0, prepend=motion.root_position[:1]), axis=1)
    ends, radii = _capsule_ends(robot, states)
    soles = sole_points(robot, states).position
    body_low = (ends[..., 2] - radii).reshape(len(joints), -1).min(1)
    at_limit = ((joints - robot.lower < 1e-3) | (robot.upper - joints < 1e-3)).any(1)
    return FrameMeasures(
        fps=motion.fps,
        slide=_slide(soles, motion.fps),
        lowest=np.minimum(body_low, soles[..., 2].min(1)),
        at_limit=at_limit.astype(float),
        speed_use=(steps * motion.fps / robot.speed_limit).max(1),
        jerk=_jerk(joints, motion.fps),
        self_collision=_self_collision(robot, ends),
        root_speed=np.linalg.norm(differentiate(motion.root_position, motion.fps), axis=1),
        joint_step=steps.max(1),
        root_step=root_steps,
        position_error=missing if position_error is None else position_error,
        orientation_error=missing if orientation_error is None else orientation_error,
        contact=motion.contact.any(1).astype(float),
    )


def summarise(measures: FrameMeasures, start: int, stop: int) -> Quality:
    """The measures of the frames `start` to `stop`."""
    part = slice(start, stop)
    slide = measures.slide[part]
    lowest = measures.lowest[part]
    # A step belongs to the frame it leads to; the first frame's lies before the segment.
    inner = slice(start + 1, stop)
    return Quality(
        foot_slide=float(np.nanmean(slide)) if np.isfinite(slide).any() else 0.0,
        floating=float(max(np.median(lowest), 0.0)),
        penetration=float(max(-np.quantile(lowest, 0.01), 0.0)),
        airborne_s=_longest_run(lowest > AIRBORNE) / measures.fps,
        limit_use=float(measures.at_limit[part].mean()),
        speed_use=float(measures.speed_use[inner].max(initial=0.0)),
        jerk=float(np.median(measures.jerk[part])),
        self_collision=float(np.quantile(measures.self_collision[part], 0.99)),
        root_speed=float(measures.root_speed[part].max()),
        position_error=float(measures.position_error[part].mean()),
        orientation_error=float(measures.orientation_error[part].mean()),
        contact_share=float(measures.contact[part].mean()),
    )


def measure(robot: Robot, motion: RobotMotion) -> Quality:
    """All measures of a whole motion, contacts included."""
    from dataclasses import replace

    from corpus.contact import detect_contacts
    from corpus.robot import forward_kinematics

    states = forward_kinematics(robot, motion.qpos)
    if motion.contact is None:
        motion = replace(motion, contact=detect_contacts(robot, motion, states))
    return summarise(frame_measures(robot, motion, states), 0, motion.frame_count)


def _slide(soles: Float[np.ndarray, "T P 3"], fps: float) -> Float[np.ndarray, " T"]:
    """The material point that is lowest now must not move: a foot that rolls about its toe reads zero, one that slips its
    slip. Velocities come from the points' own paths, never from a body's centre."""
    frames = np.arange(len(soles))
    speed = np.linalg.norm(differentiate(soles[..., :2], fps), axis=2)
    half = soles.shape[1] // 2
    slides = []
    for foot in (slice(0, half), slice(half, None)):
        height = soles[:, foot, 2]
        lowest = height.argmin(1)
        value = speed[:, foot][frames, lowest]
        slides.append(np.where(height[frames, lowest] < TOUCHING, value, np.nan))
    # A foot that swings through just above the floor does not slide: the slower of two low feet is the one that bears.
    return np.fmin(*slides)


def _jerk(joints: Float[np.ndarray, "T N"], fps: float) -> Float[np.ndarray, " T"]:
    if len(joints) < 4:
        return np.zeros(len(joints))
    third = np.diff(joints, 3, axis=0) * fps**3
    rms = np.sqrt((third**2).mean(1))
    return np.concatenate([rms[:1], rms, rms[-1:], rms[-1:]])


def _longest_run(mask: np.ndarray) -> int:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.view(np.int8), [0]])))
    return int((edges[1::2] - edges[::2]).max(initial=0))


@lru_cache(maxsize=8)
def _collision_model(robot_id: int) -> tuple[tuple[Capsule, ...], Int[np.ndarray, "K 2"]]:
    """Capsules with each foot's thin ones bundled into one, and the pairs of them that may collide."""
    robot = _ROBOTS[robot_id]
    bundles: list[Capsule] = []
    member = {}
    soles = {robot.body(body) for body, _ in robot.ground_points.values()}
    for body in sorted({capsule.body for capsule in robot.capsules}):
        own = [i for i, capsule in enumerate(robot.capsules) if capsule.body == body]
        groups = [own] if body in soles else [[i] for i in own]
        for group in groups:
            member.update(dict.fromkeys(group, len(bundles)))
            bundles.append(_bundle([robot.capsules[i] for i in group]))
    pairs = sorted({tuple(sorted((member[int(a)], member[int(b)]))) for a, b in robot.collision_pairs})
    return tuple(bundles), np.array(pairs, np.int64).reshape(-1, 2)


_ROBOTS: dict[int, Robot] = {}


def _bundle(capsules: list[Capsule]) -> Capsule:
    """The longest of some side-by-side capsules, thickened until it holds half of the others' spread."""
    if len(capsules) == 1:
        return capsules[0]
    core = max(capsules, key=lambda c: float(np.linalg.norm(c.end - c.start)))
    spread = max(abs(float(point[1] - core.start[1])) for c in capsules for point in (c.start, c.end))
    return Capsule(core.body, core.start, core.end, core.radius + spread / 2)


def _capsule_ends(robot: Robot, states: BodyStates) -> tuple[Float[np.ndarray, "T C 2 3"], Float[np.ndarray, "C 1"]]:
    """World positions of both ends of every (bundled) capsule, float32."""
    _ROBOTS[id(robot)] = robot
    capsules, _ = _collision_model(id(robot))
    index = [capsule.body for capsule in capsules]
    position, rotation = states[0][:, index].astype(np.float32), states[1][:, index].astype(np.float32)
    local = np.array([[c.start, c.end] for c in capsules], np.float32)
    ends = rotations.rotate(rotation[:, :, None], np.broadcast_to(local, (len(position), *local.shape)))
    # Only the real foot capsules reach the floor: the bundle's extra girth lies sideways.
    real = {body: capsule.radius for capsule in robot.capsules for body in [capsule.body]}
    radii = np.array(
        [[real[c.body] if robot.body_names[c.body].endswith("ankle_roll_link") else c.radius] for c in capsules]
    )
    return position[:, :, None] + ends, radii


def _self_collision(robot: Robot, ends: Float[np.ndarray, "T C 2 3"]) -> Float[np.ndarray, " T"]:
    """Deepest overlap in each frame; pairs that stay apart for the whole clip are passed over early."""
    capsules, pairs = _collision_model(id(robot))
    centre = ends.mean(2)
    radius = np.array([c.radius for c in capsules], np.float32)
    reach = radius + np.array([np.linalg.norm(c.end - c.start) / 2 for c in capsules], np.float32)
    gap = np.linalg.norm(centre[:, pairs[:, 0]] - centre[:, pairs[:, 1]], axis=2) - reach[pairs].sum(1)
    pairs = pairs[gap.min(0) < 0]
    if not len(pairs):
        return np.zeros(len(ends))
    a, b = ends[:, pairs[:, 0]], ends[:, pairs[:, 1]]
    distance = segment_distance(a[:, :, 0], a[:, :, 1], b[:, :, 0], b[:, :, 1])
    return np.maximum(radius[pairs].sum(1) - distance, 0.0).max(1).astype(np.float64)


def segment_distance(
    a0: Float[np.ndarray, "... 3"],
    a1: Float[np.ndarray, "... 3"],
    b0: Float[np.ndarray, "... 3"],
    b1: Float[np.ndarray, "... 3"],
) -> Float[np.ndarray, ...]:
    """Shortest distance between two line segments [m] (Ericson, Real-Time Collision Detection, 5.1.9)."""
    u, v, w = a1 - a0, b1 - b0, a0 - b0
    uu, vv, uv = (u * u).sum(-1), (v * v).sum(-1), (u * v).sum(-1)
    uw, vw = (u * w).sum(-1), (v * w).sum(-1)
    tiny = np.finfo(a0.dtype).eps
    determinant = uu * vv - uv * uv
    s = np.where(determinant > tiny, np.clip((uv * vw - uw * vv) / np.maximum(determinant, tiny), 0, 1), 0)
    t = np.clip((uv * s + vw) / np.maximum(vv, tiny), 0, 1)
    s = np.clip((uv * t - uw) / np.maximum(uu, tiny), 0, 1)
    return np.linalg.norm(w + s[..., None] * u - t[..., None] * v, axis=-1)
