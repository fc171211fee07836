"""Retarget live motion: a person's frames in, the robot's postures out, one at a time, two frames later.

The same two passes as over a whole clip, as far as they can be had from the past and two frames of the future: every frame is
solved as it comes; the smoothed postures, seen from two frames on, guide a second solution in which standing feet are held.
"""

# Warp's annotations are for its own compiler; to a type checker they are calls and its scalars are not what they seem.
# pyright: reportInvalidTypeForm=false, reportArgumentType=false, reportCallIssue=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false, reportAttributeAccessIssue=false, reportIndexIssue=false, reportReturnType=false

from collections import deque
from dataclasses import dataclass, replace

import numpy as np
import warp as wp
from jaxtyping import Bool, Float

from corpus import rotations
from corpus.errors import Rejected
from corpus.g1 import G1
from corpus.posture import GROUND_POINTS
from corpus.robot import Robot
from corpus.skeleton import Skeleton
from corpus.warp_tools import from_rotation_vector, multiply, ready, rotate, rotation_vector, view
from retarget.footing import f64, inverse, level_turn, smoothstep
from retarget.ground import lowest_of, most_common
from retarget.retarget import RetargetOptions
from retarget.solver import FrameSolver, Targets
from retarget.targets import TargetMaker


@dataclass(frozen=True)
class StreamOptions:
    lag: int = 2
    """Frames a posture waits for what comes after it: more is smoother, and later."""
    most_fps: float = 60.0
    """Of a faster stream only every second, third … frame is taken, so that no more are left in a second [Hz]: two frames of
    the future must be worth something."""
    iterations: int = 10
    """Most linearisations in the second pass, half of what the first may take: what a frame may cost at most."""
    look_again: int = 10
    """Every so many frames one is solved from the rest posture too, and a better solution is taken."""
    floor: float | None = None
    """Height of the floor under the robot's soles [m]; None: found from where the feet stand."""
    floor_memory_s: float = 5.0
    """So long a standing foot has a vote on where the floor is [s]."""
    floor_speed: float = 0.1
    """How fast the floor may be corrected [m/s]."""
    memory_s: float = 0.4
    """How far back the smoother looks [s]."""
    retarget: RetargetOptions = RetargetOptions()
    """Weights, smoothing and footing, as over whole clips; `fps` is the stream's own."""


@dataclass(frozen=True)
class Posture:
    """The robot at one frame of the stream."""

    frame: int
    """Which of the frames that were pushed, from 0 on."""
    qpos: Float[np.ndarray, " Q"]
    stands: Bool[np.ndarray, " 4"]
    """Whether the person's left heel, left toe, right heel, right toe (`GROUND_POINTS`) stand."""


class Stream:
    """One live take. Frames come at a steady rate; what has been given out is never changed."""

    def __init__(self, skeleton: Skeleton, fps: float, robot: Robot = G1, options: StreamOptions = StreamOptions()):
        """`skeleton` as of a clip of the same source; raises `Rejected` where it is unknown or no person's."""
        if not 5.0 <= fps <= 1000.0:
            raise ValueError(f"A stream has 5 to 1000 frames a second, got {fps}.")
        self.every = max(1, int(fps / options.most_fps + 0.999))
        fps /= self.every
        self.robot, self.fps, self.options = robot, fps, options
        how = options.retarget
        self.maker = TargetMaker(skeleton, robot, hands_near=how.hands_near, hips_near=how.hips_near)
        self.joint_count = len(skeleton.joint_names)
        first = replace(how.first, first_iterations=2 * options.iterations)
        self.first = FrameSolver(robot, self.maker.bodies, first)
        second = replace(how.second, iterations=options.iterations)
        self.second = FrameSolver(robot, self.maker.bodies, second, near_weight=how.guide_weight, clear=True)
        self.feet = _Feet(self.maker.targets, robot, fps, options)
        self.length = max(options.lag + 2, round(options.memory_s * fps) + options.lag)
        self.shares = _shares(self.length, options.lag, fps, (how.guide.root_cutoff, how.guide.cutoff))
        self.targets: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=options.lag + 1)
        self.solved: deque[np.ndarray] = deque(maxlen=self.length)
        self.step = robot.speed_limit * how.finish.speed_share / fps
        self.last: np.ndarray | None = None
        self.rest = np.clip(robot.reference, robot.lower, robot.upper)
        self.pushed = self.count = self.given = 0

    def push(self, position: Float[np.ndarray, "J 3"], rotation: Float[np.ndarray, "J 4"]) -> Posture | None:
        """Take a frame, in world coordinates [m] and `[w x y z]`; gives the posture of the frame taken `lag` before it.

        Raises `Rejected` for a frame with a wrong shape, NaN or no rotation, and goes on as if it had not been there.
        """
        position, rotation = self._checked(position, rotation)
        self.pushed += 1
        if (self.pushed - 1) % self.every:
            return None
        targets = self.maker.frame(position, rotation)
        self.feet.vote(*targets)
        self.targets.append(targets)
        self.solved.append(self._solve(*targets))
        self.count += 1
        return self._give(self.options.lag) if self.count > self.options.lag else None

    def finish(self) -> list[Posture]:
        """The postures that still wait for frames which will not come."""
        return [self._give(after) for after in range(self.count - self.given - 1, -1, -1)]

    def _give(self, after: int) -> Posture:
        """The posture with so many frames after it."""
        share = self.shares[len(self.solved), after]
        solved = np.array(self.solved)
        guide = np.concatenate([share[0] @ solved[:, :7], share[1] @ solved[:, 7:]])
        guide[3:7] /= np.sqrt(guide[3:7] @ guide[3:7])
        guide[2] -= self.feet.floor[0]
        ahead = self.targets[-after] if after else None
        targets = self.targets[-1 - after]
        turn = self.feet.turned(guide, targets[1])
        position, rotation, weight = self.feet.hold(targets, self.maker.weight, ahead, turn)
        position[self.maker.base] = guide[:3]
        weight[self.maker.base, 0] = self.options.retarget.guide_root_weight
        qpos = self.second.solve(position, rotation, weight, guide)
        if self.last is not None:
            qpos[7:] = np.minimum(np.maximum(qpos[7:], self.last[7:] - self.step), self.last[7:] + self.step)
            if qpos[3:7] @ self.last[3:7] < 0:
                qpos[3:7] *= -1
        self.last = qpos
        self.given += 1
        return Posture((self.given - 1) * self.every, qpos.copy(), self.feet.stands.ravel() > 0)

    def _solve(self, position: np.ndarray, rotation: np.ndarray) -> Float[np.ndarray, " Q"]:
        """From the frame before, and now and then from the rest posture: who was caught in a worse minimum gets out of it."""
        base, weight = self.maker.base, self.maker.weight
        root = np.concatenate([position[base], rotation[base]])
        found, cost = None, np.inf
        if self.solved:
            # The base turns as its target does, so that a spinning person is not chased from behind.
            found = self.first.solve(position, rotation, weight, np.concatenate([root, self.solved[-1][7:]]))
            cost = self.first.cost
        if found is None or self.count % self.options.look_again == 0:
            other = self.first.solve(position, rotation, weight, np.concatenate([root, self.rest]))
            if found is None or self.first.cost < 0.99 * cost - 1e-3:
                found = other
        if self.solved and found[3:7] @ self.solved[-1][3:7] < 0:
            found[3:7] *= -1
        return found

    def _checked(self, position: np.ndarray, rotation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        position, rotation = np.asarray(position, np.float64), np.asarray(rotation, np.float64)
        if position.shape != (self.joint_count, 3) or rotation.shape != (self.joint_count, 4):
            raise Rejected(
                "bad_shape",
                f"a frame is ({self.joint_count}, 3) and ({self.joint_count}, 4)",
                position=list(position.shape),
                rotation=list(rotation.shape),
            )
        norm = np.einsum("jk,jk->j", rotation, rotation)
        if not (np.isfinite(position).all() and np.isfinite(norm).all() and (norm > 0.25).all()):
            raise Rejected("not_finite", "a frame holds NaN, infinity or a quaternion of no length", frame=self.pushed)
        return position, rotation / np.sqrt(norm)[:, None]


def _shares(
    length: int, lag: int, fps: float, cutoffs: tuple[float, float]
) -> dict[tuple[int, int], list[Float[np.ndarray, " n"]]]:
    """How much each of the last n frames counts in the smoothed value of the one with so many frames after it: a row of the
    inverse of what `smooth` solves over whole clips, for the root and for joints."""
    rows = {}
    for count in range(1, length + 1):
        differences = np.diff(np.eye(count), 2, axis=0) if count > 2 else np.zeros((0, count))
        inverses = [
            np.linalg.inv(np.eye(count) + (fps / (2 * np.pi * cutoff)) ** 4 * differences.T @ differences)
            for cutoff in cutoffs
        ]
        for after in range(min(lag + 1, count)):
            rows[count, after] = [inverse[count - 1 - after] for inverse in inverses]
    return rows


MOST_TURN = 0.5
"""No foot is turned more against the person's [rad]."""
UNKNOWN = 1.0e9
"""Where the ends of the feet were before the first frame [m]."""


class _Feet:
    """The floor, and feet that stand on it: `retarget.footing` for one frame at a time."""

    def __init__(self, targets: Targets, robot: Robot, fps: float, options: StreamOptions):
        self.fps, self.options, self.how = fps, options, options.retarget.footing
        how, count = self.how, len(targets.bodies)
        grounds = [[robot.ground_points[GROUND_POINTS[2 * side + end]] for end in range(2)] for side in range(2)]
        self.foot = [targets.bodies.index(robot.body(own[0][0])) for own in grounds]
        self.chains = [_chain(robot, robot.body(own[0][0])) for own in grounds]
        self.soles = np.array([np.concatenate([points for _, points in own]) for own in grounds])
        self.floor = np.array([0.0 if options.floor is None else options.floor])
        self.votes: deque[float] = deque(maxlen=max(2, round(options.floor_memory_s * fps)))
        self.voters: np.ndarray | None = None
        # What the kernel reads and writes: this frame's targets and the next one's, weights, and what stands.
        self.position, self.rotation = np.zeros((2, count, 3)), np.zeros((2, count, 4))
        self.weight, self.follows, self.stands = np.zeros((count, 2)), np.zeros(1, np.int32), np.zeros((2, 2), np.int32)
        middles = np.array([[points.mean(0) for _, points in own] for own in grounds])
        limits = wp.vec4d(how.low, how.high, how.slow / fps, how.fast / fps)
        shortest = max(1, round(how.shortest_s * fps))
        # Shares a frame: of levelling out, of settling into a stand, and of what is left of one while the foot swings.
        rates = wp.vec3d(
            1 / max(1.0, how.level_s * fps),
            np.exp(-3 / max(1.0, how.level_s * fps)),
            np.exp(-3 / max(1.0, how.lead_s * fps)),
        )
        state = [
            view(self.stands, int), view(np.zeros((2, 2)), wp.float64), view(np.full((2, 2, 3), UNKNOWN), wp.vec3d),
            *(view(np.zeros(shape), dtype) for shape, dtype in (
                ((2, 2, 3), wp.vec3d), ((2, 2, 3), wp.vec3d),
                ((2, 3), wp.vec3d), ((2, 2), wp.float64),
            )),
        ]  # fmt: skip
        self.command = ready(
            _hold,
            2,
            [
                view(np.array(self.foot), int), view(middles, wp.vec3d), view(self.soles, wp.vec3d), limits, shortest,
                how.drift, rates, wp.vec2d(how.hold_weight, how.level_weight),
                view(self.follows, int), *state,
            ],
            [view(self.position, wp.vec3d), view(self.rotation, wp.vec4d), view(self.weight, wp.float64)],
        )  # fmt: skip

    def vote(self, position: Float[np.ndarray, "K 3"], rotation: Float[np.ndarray, "K 4"]) -> None:
        """Let feet that stand say where the floor is; the first frame's lower foot until enough have."""
        if self.options.floor is not None:
            return
        place, turn = position[self.foot], rotation[self.foot]
        lowest = np.concatenate([lowest_of(place[k : k + 1], turn[k : k + 1], self.soles[k]) for k in range(2)])
        if self.voters is None:
            self.floor[0] = lowest.min()
        else:
            moved = place - self.voters
            slow = (moved * moved).sum(1) * self.fps**2 < self.options.retarget.ground.planted_speed**2
            self.votes.extend(lowest[slow].tolist())
        self.voters = place
        if len(self.votes) >= 0.2 * self.fps:
            most = self.options.floor_speed / self.fps
            self.floor += np.clip(most_common(np.array(self.votes)) - self.floor, -most, most)

    def turned(self, guide: Float[np.ndarray, " Q"], rotation: Float[np.ndarray, "K 4"]) -> Float[np.ndarray, " 2"]:
        """By how much the guide has each foot turned out otherwise than the person [rad]: a foot is held as the robot reaches it,
        knee and hip considered, as over whole clips."""
        found = np.empty((2, 4))
        for side, chain in enumerate(self.chains):
            found[side] = guide[3:7]
            for joint, axis, fixed in chain:
                half = 0.5 * guide[7 + joint]
                hinge = np.array([np.cos(half), *(np.sin(half) * axis)])
                found[side] = rotations.multiply(rotations.multiply(found[side], fixed), hinge)
        turn = rotations.heading(found) - rotations.heading(rotation[self.foot])
        return np.clip((turn + np.pi) % (2 * np.pi) - np.pi, -MOST_TURN, MOST_TURN)

    def hold(
        self,
        targets: tuple[Float[np.ndarray, "K 3"], Float[np.ndarray, "K 4"]],
        weight: Float[np.ndarray, "K 2"],
        ahead: tuple[np.ndarray, np.ndarray] | None,
        turn: Float[np.ndarray, " 2"],
    ) -> tuple[Float[np.ndarray, "K 3"], Float[np.ndarray, "K 4"], Float[np.ndarray, "K 2"]]:
        """Targets over the floor z = 0 that hold what stands, and their weights; valid until the next call.

        `ahead` are the next frame's targets, where there are any; feet are turned by `turn` about the vertical [rad].
        """
        self.position[0], self.rotation[0] = targets
        if ahead is not None:
            self.position[1], self.rotation[1] = ahead
        self.follows[0] = ahead is not None
        self.rotation[:, self.foot] = rotations.multiply(rotations.about_z(turn)[None], self.rotation[:, self.foot])
        self.position[:, :, 2] -= self.floor
        self.weight[:] = weight
        self.command.launch()
        return self.position[0], self.rotation[0], self.weight


def _chain(robot: Robot, body: int) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """From the base to a body: joint, its axis, and the fixed turn before it."""
    bodies = []
    while body > 0:
        bodies.append((body - 1, robot.joint_axis[body - 1], np.asarray(robot.body_rotation[body], np.float64)))
        body = int(robot.parents[body])
    return bodies[::-1]


@wp.func
def level(v: wp.vec3d) -> wp.vec3d:
    return wp.vec3d(v[0], v[1], f64(0.0))


@wp.func
def towards(value: wp.float64, goal: wp.float64, most: wp.float64) -> wp.float64:
    return value + wp.clamp(goal - value, -most, most)


@wp.func
def find_stands(
    foot: int,
    ends: wp.array2d(dtype=wp.vec3d),
    limits: wp.vec4d,
    shortest: int,
    drift: wp.float64,
    follows: int,
    place: wp.array2d(dtype=wp.vec3d),
    rotation: wp.array2d(dtype=wp.vec4d),
    body: int,
    stands: wp.array2d(dtype=int),
    pause: wp.array2d(dtype=wp.float64),
    before: wp.array2d(dtype=wp.vec3d),
    origin: wp.array2d(dtype=wp.vec3d),
    anchor: wp.array2d(dtype=wp.vec3d),
    offset: wp.array(dtype=wp.vec3d),
):
    """Low and slow, with hysteresis; whoever creeps away from where it began to stand stands no more.

    Where the set of standing ends changes, those that stand go on from where the foot is.
    """
    changed = int(0)
    for end in range(2):
        here = place[0, body] + rotate(rotation[0, body], ends[foot, end])
        step = f64(1.0e9)
        if before[foot, end][2] < f64(wp.static(UNKNOWN)):
            step = wp.length(here - before[foot, end])
        if follows > 0:
            step = wp.min(step, wp.length(place[1, body] + rotate(rotation[1, body], ends[foot, end]) - here))
        before[foot, end] = here
        pause[foot, end] = wp.max(pause[foot, end] - f64(1.0), f64(0.0))
        stood = stands[foot, end]
        now = int(0)
        if stood > 0:
            if wp.length(level(here - origin[foot, end])) > drift:
                pause[foot, end] = f64(shortest)
            elif here[2] < limits[1] and step < limits[3]:
                now = 1
        if now == 0 and pause[foot, end] == f64(0.0) and here[2] < limits[0] and step < limits[2]:
            now = 1
        if now > stood:
            origin[foot, end] = here
        if now != stood:
            changed = 1
        stands[foot, end] = now
    if changed > 0:
        for end in range(2):
            anchor[foot, end] = before[foot, end] + level(offset[foot])


@wp.func
def level_out(
    foot: int,
    ends: wp.array2d(dtype=wp.vec3d),
    most: wp.float64,
    turn: wp.vec4d,
    stands: wp.array2d(dtype=int),
    anchor: wp.array2d(dtype=wp.vec3d),
    shares: wp.array2d(dtype=wp.float64),
) -> wp.vec4d:
    """Turn a foot that stands on heel and toe level and along its anchors, little by little."""
    flat = stands[foot, 0] * stands[foot, 1]
    shares[foot, 1] = towards(shares[foot, 1], f64(flat), most)
    if shares[foot, 1] == f64(0.0):
        return turn
    sole = ends[foot, 1] - ends[foot, 0]
    way = rotate(turn, sole)
    if flat > 0:
        way = anchor[foot, 1] - anchor[foot, 0]
    correction = rotation_vector(multiply(level_turn(way, sole), inverse(turn)))
    return multiply(from_rotation_vector(correction * smoothstep(shares[foot, 1])), turn)


@wp.func
def shifted(
    foot: int,
    ends: wp.array2d(dtype=wp.vec3d),
    rates: wp.vec3d,
    place: wp.vec3d,
    turn: wp.vec4d,
    stands: wp.array2d(dtype=int),
    anchor: wp.array2d(dtype=wp.vec3d),
    offset: wp.array(dtype=wp.vec3d),
    shares: wp.array2d(dtype=wp.float64),
) -> wp.vec3d:
    """The foot's place with its standing ends on their anchors: it is kept at once, height and what is left after a stand are
    made up for little by little."""
    wanted = wp.vec3d(f64(0.0), f64(0.0), f64(0.0))
    lowest = f64(1.0e9)
    count = f64(0.0)
    for end in range(2):
        if stands[foot, end] > 0:
            point = place + rotate(turn, ends[foot, end])
            wanted += anchor[foot, end] - point
            lowest = wp.min(lowest, point[2])
            count += f64(1.0)
    shares[foot, 0] = towards(shares[foot, 0], wp.min(count, f64(1.0)), rates[0])
    if count > f64(0.0):
        height = -lowest + (offset[foot][2] + lowest) * rates[1]
        offset[foot] = wp.vec3d(wanted[0] / count, wanted[1] / count, height)
    else:
        offset[foot] = offset[foot] * rates[2]
    return place + offset[foot]


@wp.kernel
def _hold(
    feet: wp.array(dtype=int),
    ends: wp.array2d(dtype=wp.vec3d),
    soles: wp.array2d(dtype=wp.vec3d),
    limits: wp.vec4d,
    shortest: int,
    drift: wp.float64,
    rates: wp.vec3d,
    more: wp.vec2d,
    follows: wp.array(dtype=int),
    stands: wp.array2d(dtype=int),
    pause: wp.array2d(dtype=wp.float64),
    before: wp.array2d(dtype=wp.vec3d),
    origin: wp.array2d(dtype=wp.vec3d),
    anchor: wp.array2d(dtype=wp.vec3d),
    offset: wp.array(dtype=wp.vec3d),
    shares: wp.array2d(dtype=wp.float64),
    position: wp.array2d(dtype=wp.vec3d),
    rotation: wp.array2d(dtype=wp.vec4d),
    weight: wp.array2d(dtype=wp.float64),
):
    foot = wp.tid()
    body = feet[foot]
    find_stands(
        foot, ends, limits, shortest, drift, follows[0], position, rotation, body,
        stands, pause, before, origin, anchor, offset,
    )  # fmt: skip
    turn = level_out(foot, ends, rates[0], rotation[0, body], stands, anchor, shares)
    place = shifted(foot, ends, rates, position[0, body], turn, stands, anchor, offset, shares)
    lowest = f64(1.0e9)
    for point in range(soles.shape[1]):
        lowest = wp.min(lowest, place[2] + rotate(turn, soles[foot, point])[2])
    position[0, body] = place + wp.vec3d(f64(0.0), f64(0.0), wp.max(-lowest, f64(0.0)))
    rotation[0, body] = turn
    for kind in range(2):
        weight[body, kind] = weight[body, kind] * (f64(1.0) + (more[kind] - f64(1.0)) * shares[foot, kind])
