"""Retarget human motion to a robot: targets, inverse kinematics in two passes with a smoother between and after, ground.

The first pass finds every frame's own optimum. Smoothed, it guides the second, in which standing feet are held where the first
left them. A last light smoothing keeps all joints within their speed limits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from corpus import rotations
from corpus.dynamics import dynamics
from corpus.errors import Rejected
from corpus.g1 import G1
from corpus.motion import CORPUS_FPS, HumanMotion, RobotMotion
from corpus.posture import Postures, join_postures, postures
from corpus.quality import Fit
from corpus.robot import Robot, forward_kinematics
from corpus.sources.synthetic_moves import human_motion
from retarget.footing import FootingOptions, hold_feet, hold_limbs
from retarget.ground import GroundOptions, ground_targets, lift_off_floor
from retarget.smooth import SmoothOptions, smooth
from retarget.solver import Near, SolverOptions, Targets, join_targets, solve
from retarget.targets import HANDS_NEAR, build_targets

LONG, MARGIN = 32_768, 100
"""Clips longer than this [frames] are followed in pieces, each with so many frames of its neighbours: memory stays bounded, and
nothing reaches further than two seconds."""

MAX_FRAMES = 1_000_000
"""Longest clip taken, at 50 Hz (5.5 hours): more is a broken header."""


@dataclass(frozen=True)
class RetargetOptions:
    fps: float = CORPUS_FPS
    """Rate of the robot's motion [Hz]."""
    first: SolverOptions = SolverOptions(tolerance=1e-2, repairs=2)
    """The first pass, which the second makes exact."""
    second: SolverOptions = SolverOptions(tolerance=5e-3)
    hands_near: float = HANDS_NEAR
    """Hands nearer to each other than this are kept so [m]; 0: they are left to the arms."""
    hips_near: float = 0.0
    """Hands on bent arms nearer to a hip than this are kept there [m]; 0: they are left to the arms. With 0.3 they end 4 to 10
    cm nearer to it (five Bandai-Namco takes), at the cost of where the forearms point."""
    ground: GroundOptions = GroundOptions()
    footing: FootingOptions = FootingOptions()
    guide: SmoothOptions = SmoothOptions(cutoff=6.0, root_cutoff=4.0, speed_share=0.0)
    """How smooth a motion the second pass is drawn to."""
    guide_weight: float = 4.1
    """How strongly it draws every joint [1/rad]."""
    guide_root_weight: float = 100.0
    """How strongly it draws the root's position [1/m]: held feet must not tug at it."""
    near_floor: float = 0.02
    """Where the guide has anything but a foot lower than this above the floor [m] …"""
    sunk: float = 0.02
    """… or a foot deeper below it than this [m], or links inside each other, the second pass keeps the robot clear of both."""
    finish: SmoothOptions = SmoothOptions(cutoff=20.0, root_cutoff=20.0)
    """The last smoothing; little, since it takes feet off their holds."""


@dataclass(frozen=True)
class Retargeted:
    motion: RobotMotion
    outside: Postures
    """Where the robot's soles and lowest points are, and how its capsules overlap, frame by frame."""
    fit: Fit
    """How well it follows, frame by frame; errors are those before the last smoothing and grounding."""
    scale: float | None
    """Robot leg length / human leg length; None for motion that came on the robot."""
    lift: Float[np.ndarray, " T"]
    """How far the grounding moved each frame upwards [m]."""


def retarget(human: HumanMotion, robot: Robot = G1, options: RetargetOptions = RetargetOptions()) -> Retargeted:
    """The robot's motion that follows a person's, at `options.fps`, standing on z = 0; contacts are left open.

    Raises `Rejected` where the skeleton is unknown or the body's proportions are no person's.
    """
    done = retarget_clips([human], robot, options)[0]
    if isinstance(done, Rejected):
        raise done
    return done


def retarget_clips(
    humans: Sequence[HumanMotion], robot: Robot = G1, options: RetargetOptions = RetargetOptions()
) -> list[Retargeted | Rejected]:
    """Several clips in one go, each exactly as alone; a clip that cannot be retargeted gives its reason."""
    aims = [_aim(human, robot, options) for human in humans]
    aimed = [aim for aim in aims if not isinstance(aim, Rejected)]
    if not aimed:
        return [aim for aim in aims if isinstance(aim, Rejected)]
    targets, shifts = ground_targets(join_targets([aim.targets for aim in aimed]), robot, options.fps, options.ground)
    whole = follow(targets, robot, options)
    done = []
    for aim, shift, start, stop in zip(aimed, shifts, targets.starts, targets.stops, strict=True):
        own = slice(start, stop)
        done.append(
            Retargeted(
                motion=RobotMotion(whole.qpos[own].astype(np.float32), options.fps, note=aim.note),
                outside=whole.outside.slice(start, stop),
                fit=whole.fit.slice(start, stop),
                scale=aim.scale,
                lift=shift + whole.lift[own],
            )
        )
    left = iter(done)
    return [aim if isinstance(aim, Rejected) else next(left) for aim in aims]


def body_errors(
    human: HumanMotion, motion: RobotMotion, robot: Robot = G1, options: RetargetOptions = RetargetOptions()
) -> tuple[dict[str, Float[np.ndarray, " T"]], dict[str, Float[np.ndarray, " T"]]]:
    """Distance [m] and angle [rad] of each driven body from its target, by the segment that drives it, frame by frame.

    Targets are those that the robot was asked to follow, before standing feet were held; the shoulders', hips' and chest's
    places are asked of nobody and told all the same. Raises `Rejected` as `retarget` does.
    """
    aim = _aim(human, robot, options)
    if isinstance(aim, Rejected):
        raise aim
    targets, _ = ground_targets(aim.targets, robot, options.fps, options.ground)
    position, rotation = (part[:, list(targets.bodies)] for part in forward_kinematics(robot, motion.qpos))
    distance = np.linalg.norm(position - targets.position, axis=2)
    turn = rotations.multiply(rotation, rotations.conjugate(targets.rotation))
    angle = np.linalg.norm(rotations.to_rotation_vector(turn), axis=2)
    return dict(zip(robot.segments, distance.T, strict=True)), dict(zip(robot.segments, angle.T, strict=True))


@dataclass(frozen=True)
class Followed:
    """The robot following targets; of several clips end to end."""

    qpos: Float[np.ndarray, "T Q"]
    outside: Postures
    fit: Fit
    lift: Float[np.ndarray, " T"]
    """How far each frame was moved upwards so that nothing sinks into the floor [m]."""

    def slice(self, start: int, stop: int) -> Followed:
        """Frames `start` to `stop`, as views."""
        part = slice(start, stop)
        return Followed(self.qpos[part], self.outside.slice(start, stop), self.fit.slice(start, stop), self.lift[part])


def follow(targets: Targets, robot: Robot, options: RetargetOptions = RetargetOptions()) -> Followed:
    """The robot's motion that follows grounded targets: smooth, within all limits, standing feet held, nothing below the floor."""
    if targets.frame_count <= LONG:
        return _follow(targets, robot, options)
    done = []
    for first, last in zip(targets.starts, targets.stops, strict=True):
        for start in range(first, last, LONG):
            stop = min(start + LONG, last)
            lead, trail = min(MARGIN, start - first), min(MARGIN, last - stop)
            whole = _follow(targets.part(start - lead, stop + trail), robot, options)
            done.append(whole.slice(lead, lead + stop - start))
    return Followed(
        np.concatenate([piece.qpos for piece in done]),
        join_postures([piece.outside for piece in done]),
        Fit.join([piece.fit for piece in done]),
        np.concatenate([piece.lift for piece in done]),
    )


def _follow(targets: Targets, robot: Robot, options: RetargetOptions) -> Followed:
    first = solve(robot, targets, options.first).qpos
    guide = smooth(robot, first, targets.starts, options.fps, options.guide)
    found = postures(robot, guide)
    held, stands = hold_feet(targets, robot, options.fps, found, options.footing)
    held = hold_limbs(held, robot, options.fps, options.footing)
    base = targets.bodies.index(0)
    held.position[:, base], held.position_weight[:, base] = guide[:, :3], options.guide_root_weight
    clear = (
        (found.overlap > options.second.clearance.allowed_overlap)
        | (found.lowest_besides_feet < options.near_floor)
        | (found.lowest < -options.sunk)
    )
    second = solve(robot, held, options.second, near=Near(guide, options.guide_weight, clear))
    qpos = smooth(robot, second.qpos, targets.starts, options.fps, options.finish)
    outside = postures(robot, qpos)
    lift = np.concatenate(
        [
            lift_off_floor(outside.lowest[start:stop], options.fps, options.ground)
            for start, stop in zip(targets.starts, targets.stops, strict=True)
        ]
    )
    qpos[:, 2] += lift
    change = qpos[:, 7:] - second.qpos[:, 7:]
    smoothing = np.sqrt(np.einsum("tn,tn->t", change, change) / robot.joint_count)
    fit = Fit(second.position_error, second.orientation_error, smoothing, stands.astype(float))
    return Followed(qpos, outside.lifted(lift), fit, lift)


@dataclass(frozen=True)
class _Aim:
    """What the solver is asked for, wherever the floor may be."""

    targets: Targets
    scale: float
    note: str


def _aim(human: HumanMotion, robot: Robot, options: RetargetOptions) -> _Aim | Rejected:
    if human.frame_count * options.fps / human.fps > MAX_FRAMES:
        return Rejected("too_long", frames=human.frame_count, maximum=MAX_FRAMES)
    try:
        targets, scale = build_targets(
            human, robot, options.fps, hands_near=options.hands_near, hips_near=options.hips_near
        )
    except Rejected as rejected:
        return rejected
    if targets.frame_count < 2:
        return Rejected("too_short", "fewer than two frames at the corpus rate", frames=human.frame_count, minimum=2)
    return _Aim(targets, scale, human.note)


def warm_up() -> None:
    """Compile the kernels once, so that processes started afterwards find them in Warp's cache."""
    done = retarget(human_motion("walk", seconds=0.2))
    contact = np.ones((done.motion.frame_count, 4), np.uint8)
    dynamics(G1, done.motion.qpos, CORPUS_FPS, done.outside, contact)
