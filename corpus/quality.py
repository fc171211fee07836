"""How good a robot's motion is: measures with units, frame by frame and per segment, and the gate that judges them.

What lies between two frames (a speed, a slide, a step) belongs to the later one, so that a segment's measures never
look at the frames before it: where two segments meet there may be a jump.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from jaxtyping import Float

from corpus.contact import detect_contacts
from corpus.dynamics import dynamics
from corpus.errors import Rejected
from corpus.motion import RobotMotion
from corpus.posture import RESTING, Postures, postures
from corpus.robot import Robot

OFF_GROUND = 0.05
"""With every part of the robot higher than this, it is off the ground [m]; GQS's bound."""
BEARING = 0.01
"""Sole points this close to the lowest one, or to the floor, bear the robot [m]."""
AT_LIMIT = 1e-3
"""A joint this near to its limit, or beyond it, stands at it [rad]."""


@dataclass(frozen=True)
class Fit:
    """How well a robot follows a person, frame by frame; NaN for motion that came on the robot."""

    position_error: Float[np.ndarray, " T"]
    """Mean distance of bodies from their targets [m]."""
    orientation_error: Float[np.ndarray, " T"]
    """Mean angle between bodies and their targets [rad]."""
    smoothing: Float[np.ndarray, " T"]
    """Root mean square over the joints of what the last smoothing changed [rad]."""
    stands: Float[np.ndarray, "T 4"]
    """1 where the person's left heel, left toe, right heel, right toe stands, else 0."""

    @staticmethod
    def unknown(frame_count: int) -> Fit:
        missing = np.full(frame_count, np.nan)
        return Fit(missing, missing, missing, np.full((frame_count, 4), np.nan))

    @staticmethod
    def join(parts: Sequence[Fit]) -> Fit:
        """Those of several motions end to end."""
        return Fit(*(np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])))

    def slice(self, start: int, stop: int) -> Fit:
        """Frames `start` to `stop`, as views."""
        return Fit(*(value[start:stop] for value in vars(self).values()))


@dataclass(frozen=True)
class FrameMeasures:
    """One value per frame, and what the cutter needs."""

    fps: float
    slide: Float[np.ndarray, " T"]
    """Mean horizontal speed of the sole points that bear the robot, of the slower foot where both do, from the frame before
    [m/s]; NaN where no sole bears, or where another part of the body rests on the floor."""
    lowest: Float[np.ndarray, " T"]
    """Height of the lowest point of the robot: sole points and all collision capsules [m]."""
    at_limit: Float[np.ndarray, " T"]
    """1 where a joint stands at its limit or beyond, else 0."""
    speed_use: Float[np.ndarray, " T"]
    """Largest joint speed from the frame before, as a share of the joint's limit."""
    jerk: Float[np.ndarray, " T"]
    """Root mean square over the joints of the third derivative, from the three frames before [rad/s³]."""
    self_collision: Float[np.ndarray, " T"]
    """Deepest overlap of two collision capsules [m]."""
    root_speed: Float[np.ndarray, " T"]
    """Speed of the root from the frame before [m/s]."""
    joint_step: Float[np.ndarray, " T"]
    """Largest turn of a joint, or of the root, from the frame before [rad]; zero for the first."""
    root_step: Float[np.ndarray, " T"]
    """Root movement from the frame before [m]; zero for the first."""
    position_error: Float[np.ndarray, " T"]
    orientation_error: Float[np.ndarray, " T"]
    smoothing: Float[np.ndarray, " T"]
    contact_match: Float[np.ndarray, " T"]
    """Share of heels and toes that touch where the person's stand, and do not where they do not."""
    contact: Float[np.ndarray, " T"]
    """1 where a heel or toe touches, else 0."""
    torque_use: Float[np.ndarray, " T"]
    unexplained_force: Float[np.ndarray, " T"]
    support_distance: Float[np.ndarray, " T"]
    pressure_distance: Float[np.ndarray, " T"]
    """These four: see `corpus.dynamics.Dynamics`."""

    def slice(self, start: int, stop: int) -> FrameMeasures:
        """Frames `start` to `stop`, as views."""
        part = {name: value[start:stop] for name, value in vars(self).items() if name != "fps"}
        return FrameMeasures(self.fps, **part)


@dataclass(frozen=True)
class Quality:
    """Measures of one segment; the columns of the segments table."""

    foot_slide: float
    """Mean horizontal speed of the sole points of the bearing foot [m/s]; 0 where none ever bears.

    The lowest sole bears whatever its speed (within 5 cm of the floor): a foot does not stop sliding by sliding fast.
    Frames in which the robot lies or kneels do not count: a foot may drag there."""
    floating: float
    """Median height of the robot's lowest point above the floor, never negative [m]."""
    penetration: float
    """Depth below the floor that 1 % of the frames exceed, of any collision capsule [m]."""
    airborne_s: float
    """Longest stretch with nothing within 5 cm of the floor, counted whole where it only reaches into the segment [s]."""
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
    contact_match: float
    """Share of heels and toes, over all frames, that touch just where the person's stand; NaN likewise."""
    smoothing: float
    """Mean over the frames of what smoothing changed, as RMS over the joints [rad]; NaN likewise."""
    torque_use: float
    """Joint torque as a share of its limit that 1 % of the frames exceed, by inverse dynamics with the feet bearing the
    robot. Resampled motion has kinks: the highest value says little."""
    unexplained_force: float
    """External force that no contact can give, in body weights, which 1 % of the frames exceed."""
    support_distance: float
    """Median level distance of the centre of mass from the soles' convex hull [m]; NaN where no foot ever bears alone.
    A walk is outside its support half the time."""
    pressure_distance: float
    """The same of the centre of pressure that the motion needs [m]: beyond a few centimetres it would tip over."""


@dataclass(frozen=True)
class Gate:
    """What a segment may show at most. Each reject tells the measure and the limit."""

    foot_slide_limit: float = 0.4
    """Mean speed of bearing soles [m/s]. Public retargeters leave 0.02 (standing) to 0.14 (running), a dance with turns on
    the spot shows 0.3; a foot faster than 0.4 is no contact anywhere."""
    floating_limit: float = 0.05
    """Median height above the floor [m]; GQS calls 0.05 m floating."""
    penetration_limit: float = 0.1
    """Depth below the floor [m]. ProtoMotions refuses bodies whose origins lie 0.05 m below, so surfaces at about 0.1 m;
    Unitree's own get-ups sink in by up to that, a body whose pelvis offset was forgotten by 0.35 m."""
    airborne_s_limit: float = 1.0
    """Longest flight [s]: ProtoMotions and GQS take 1 s; nobody jumps 1.2 m high."""
    limit_use_limit: float = 0.9
    """Share of frames at a joint limit."""
    speed_use_limit: float = 1.0
    """Share of the joints' speed limits: beyond, the motors cannot follow. Lower limits cost good motion: GQS's authors
    found that filtering high speed hurts."""
    jerk_limit: float = 3000.0
    """Median RMS joint jerk [rad/s³]: above it is noise, not motion. A dance has 300–1900, noise of 0.01 rad 5600."""
    self_collision_limit: float = 0.1
    """Overlap of the robot's own capsules [m]. Capsules are fatter than links, and filtering self-contact hurts training
    (GQS), so twice ProtoMotions' 0.05."""
    root_speed_limit: float = 10.0
    """Speed of the root [m/s]; HoloMotion's limit."""
    position_error_limit: float = 0.15
    """Mean distance from the targets [m]; GMR's own residual is 0.07."""
    orientation_error_limit: float = 0.6
    """Mean angle from the targets [rad]; GMR's own residual is 0.07 to 0.17."""

    def check(self, quality: Quality) -> None:
        """Raise `Rejected` naming the first measure over its limit; the reason is the measure's name.

        A measure that is NaN was not taken, and passes.
        """
        for field in fields(self):
            name = field.name.removesuffix("_limit")
            value, limit = getattr(quality, name), getattr(self, field.name)
            if value > limit:
                raise Rejected(name, value=round(float(value), 5), limit=limit)


def frame_measures(
    robot: Robot,
    motion: RobotMotion,
    outside: Postures,
    fit: Fit | None = None,
    *,
    starts: Sequence[int] = (0,),
) -> FrameMeasures:
    """Measure every frame; `outside` is `postures(robot, motion.qpos)`, `fit` tells how it follows a person. Contacts are
    detected where the motion has none.

    Where several motions lie end to end, `starts` are their first frames: nothing is measured across them.
    """
    contact = detect_contacts(motion.fps, outside, starts) if motion.contact is None else motion.contact
    joints = motion.joint_position.astype(np.float64)
    step = np.zeros_like(joints)
    np.abs(joints[1:] - joints[:-1], out=step[1:])
    root_path = motion.root_position.astype(np.float64)
    root_move = root_path[1:] - root_path[:-1]
    root_step = np.concatenate([[0.0], np.sqrt(np.einsum("ta,ta->t", root_move, root_move))])
    at_limit = (joints < robot.lower + AT_LIMIT) | (joints > robot.upper - AT_LIMIT)
    joint_step = np.maximum(step.max(1), _root_turn(motion.root_rotation.astype(np.float64)))
    speed_use = (step * (motion.fps / robot.speed_limit)).max(1)
    slide, jerk = bearing_slide(outside, motion.fps), _jerk(joints, motion.fps)
    for start in starts:
        joint_step[start] = speed_use[start] = root_step[start] = jerk[start : start + 3] = 0.0
        slide[start] = np.nan
    fit = Fit.unknown(motion.frame_count) if fit is None else fit
    forces = dynamics(robot, motion.qpos, motion.fps, outside, contact, starts)
    match = np.where(np.isnan(fit.stands), np.nan, (contact > 0) == (fit.stands > 0))
    return FrameMeasures(
        fps=motion.fps,
        slide=slide,
        lowest=outside.lowest,
        at_limit=np.any(at_limit, axis=1).astype(float),
        speed_use=speed_use,
        jerk=jerk,
        self_collision=outside.overlap,
        root_speed=root_step * motion.fps,
        joint_step=joint_step,
        root_step=root_step,
        position_error=fit.position_error,
        orientation_error=fit.orientation_error,
        smoothing=fit.smoothing,
        contact_match=match.mean(1),
        contact=np.any(contact, axis=1).astype(float),
        **vars(forces),
    )


def summarise(measures: FrameMeasures, start: int, stop: int) -> Quality:
    """The measures of the frames `start` to `stop`."""

    def rows(*names: str, first: int = start) -> Float[np.ndarray, "M n"]:
        return np.array([getattr(measures, name)[first:stop] for name in names])

    slide = measures.slide[start + 1 : stop]
    slide = slide[~np.isnan(slide)]
    jerk = measures.jerk[start + 3 : stop]
    means = ("at_limit", "position_error", "orientation_error", "contact", "contact_match", "smoothing")
    limit_use, position_error, orientation_error, contact_share, contact_match, smoothing = (
        rows(*means).mean(1).tolist()
    )
    lowest, overlap, torque, force = rows("lowest", "self_collision", "torque_use", "unexplained_force")
    penetration, overlap, torque, force = _high(np.array([-lowest, overlap, torque, force])).tolist()
    highest = rows("speed_use", "root_speed", first=start + 1).max(1, initial=0.0).tolist()
    return Quality(
        foot_slide=float(slide.mean()) if len(slide) else 0.0,
        floating=max(_median(lowest), 0.0),
        penetration=max(penetration, 0.0),
        airborne_s=float(_airborne_s(measures)[start:stop].max(initial=0.0)),
        limit_use=limit_use,
        speed_use=highest[0],
        jerk=_median(jerk) if len(jerk) else 0.0,
        self_collision=overlap,
        root_speed=highest[1],
        position_error=position_error,
        orientation_error=orientation_error,
        contact_share=contact_share,
        contact_match=contact_match,
        smoothing=smoothing,
        torque_use=torque,
        unexplained_force=force,
        support_distance=_known_median(measures.support_distance[start:stop]),
        pressure_distance=_known_median(measures.pressure_distance[start:stop]),
    )


def measure(robot: Robot, motion: RobotMotion) -> Quality:
    """All measures of a whole motion, contacts included."""
    outside = postures(robot, motion.qpos)
    return summarise(frame_measures(robot, replace(motion, contact=None), outside), 0, motion.frame_count)


def bearing_slide(outside: Postures, fps: float) -> Float[np.ndarray, " T"]:
    """`FrameMeasures.slide`: a material point that bears before and after a step must not have moved. A foot that rolls about
    its toe reads zero, one that slips its slip. Speeds come from the points' own paths, never from a body's centre."""
    height = outside.soles[2]
    lowest = height.min(0)
    resting = outside.lowest_besides_feet < RESTING
    # Where one foot cuts into the floor, the other one on it bears too.
    bears = (height < np.maximum(lowest, 0) + BEARING) & (lowest < OFF_GROUND) & ~resting
    both = bears[:, 1:] & bears[:, :-1]
    level = np.diff(outside.soles[:2], axis=2)
    speed = np.where(both, np.sqrt(level[0] ** 2 + level[1] ** 2) * fps, 0.0)
    # A foot that swings through at the height of the other's sole does not slide (it would be most of what a walk shows):
    # the slower of two low feet is the one that bears.
    means = []
    for foot in (outside.sole_group < 2, outside.sole_group >= 2):
        count = both[foot].sum(0)
        means.append(speed[foot].sum(0) / np.where(count, count, np.nan))
    return np.concatenate([[np.nan], np.fmin(*means)])


def _root_turn(q: Float[np.ndarray, "T 4"]) -> Float[np.ndarray, " T"]:
    """Angle from the frame before [rad], by the chord: an arc cosine would be blind to small turns."""
    same, opposite = q[1:] - q[:-1], q[1:] + q[:-1]
    chord = np.sqrt(np.minimum(np.einsum("tk,tk->t", same, same), np.einsum("tk,tk->t", opposite, opposite)))
    return np.concatenate([[0.0], 4 * np.arcsin(np.minimum(chord / 2, 1.0))])


def _airborne_s(measures: FrameMeasures) -> Float[np.ndarray, " T"]:
    """How long the stretch off the ground lasts that each frame is part of [s]; zero on the ground."""
    off = measures.lowest > OFF_GROUND
    edges = np.flatnonzero(np.diff(off, prepend=False, append=False))
    lasting = np.zeros(len(off))
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        lasting[start:stop] = (stop - start) / measures.fps
    return lasting


def _median(values: Float[np.ndarray, " T"]) -> float:
    half = len(values) // 2
    parted = np.partition(values, half)
    return float(parted[half] if len(values) % 2 else (parted[:half].max() + parted[half]) / 2)


def _known_median(values: Float[np.ndarray, " T"]) -> float:
    known = values[~np.isnan(values)]
    return _median(known) if len(known) else np.nan


def _high(values: Float[np.ndarray, "... T"]) -> Float[np.ndarray, "..."]:
    """What 1 % of the values exceed."""
    place = int(0.99 * (values.shape[-1] - 1) + 0.5)
    return np.partition(values, place)[..., place]


def _jerk(joints: Float[np.ndarray, "T N"], fps: float) -> Float[np.ndarray, " T"]:
    if len(joints) < 4:
        return np.zeros(len(joints))
    third = np.diff(joints, 3, axis=0)
    rms = np.sqrt(np.einsum("tn,tn->t", third, third) / joints.shape[1]) * fps**3
    return np.concatenate([np.zeros(3), rms])
