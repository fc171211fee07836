"""Movements by formula: steps from standing to standing, walking, turning, squatting, reaching, kicking, jumping, lying down and getting up.

Every movement is a closed form in time, so the same take can be written at any frame rate; `seed`, `style` and `height`
change it. Feet that stand do not slide: legs follow the feet, not the other way round.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from corpus import rotations
from corpus.g1 import G1
from corpus.motion import HumanMotion, RobotMotion
from corpus.robot import forward_kinematics
from corpus.skeleton import Skeleton
from corpus.sources import synthetic_body
from corpus.sources.synthetic_body import BALL_HEIGHT, Foot, Take

GRAVITY = 9.81
Times = Float[np.ndarray, " T"]


@dataclass(frozen=True)
class Style:
    tempo: float = 1.0
    """Speed of everything that is not ballistic."""
    size: float = 1.0
    """Size of strides, swings and bends."""
    lean: float = 0.0
    """Forward lean of the trunk [rad]."""


STYLES = {
    "neutral": Style(),
    "brisk": Style(tempo=1.2, size=1.1, lean=0.05),
    "tired": Style(tempo=0.85, size=0.85, lean=0.16),
    "proud": Style(tempo=0.95, size=1.05, lean=-0.05),
}


@dataclass(frozen=True)
class Person:
    """Who moves and how: everything a movement may depend on besides time."""

    skeleton: Skeleton
    rest: dict[str, Float[np.ndarray, " 3"]]
    """Joints from the pelvis when standing straight, x forward, y left, z up [m]."""
    style: Style
    random: np.random.Generator

    @property
    def pelvis_height(self) -> float:
        return BALL_HEIGHT - float(self.rest["left_foot"][2])

    @property
    def leg(self) -> float:
        return float(self.rest["left_hip"][2] - self.rest["left_ankle"][2])


def human_motion(
    kind: str,
    *,
    seed: int = 0,
    seconds: float = 4.0,
    fps: float = 50.0,
    height: float = synthetic_body.MEAN_HEIGHT,
    style: str = "neutral",
) -> HumanMotion:
    """A person of that height [m], on SMPL's 22 joints, doing one of `KINDS`."""
    if kind not in KINDS or style not in STYLES:
        raise ValueError(f"No movement {kind!r} in style {style!r}. Known: {', '.join(KINDS)}; {', '.join(STYLES)}.")
    times = np.arange(max(2, round(seconds * fps))) / fps
    # The kind is part of the seed, so that a walk and a kick of one seed do not share their draws.
    random = np.random.default_rng([seed, *kind.encode()])
    skeleton = synthetic_body.skeleton_of(height)
    person = Person(skeleton, synthetic_body.rest_position(skeleton), STYLES[style], random)
    heading, offset = random.uniform(-np.pi, np.pi), random.uniform(-2, 2, 2)
    return synthetic_body.assemble(_placed(KINDS[kind](times, seconds, person), heading, offset), skeleton, fps)


def _placed(take: Take, heading: float, offset: Float[np.ndarray, " 2"]) -> Take:
    """The same take elsewhere on the ground, facing another way."""
    turn = np.broadcast_to(rotations.about_z(np.array(heading)), take.turn.shape)
    shift = np.array([*offset, 0.0])
    feet = {
        side: Foot(rotations.rotate(turn, foot.ball) + shift, foot.yaw + heading, foot.heel, foot.toes_flat)
        for side, foot in take.feet.items()
    }
    return Take(rotations.rotate(turn, take.pelvis) + shift, rotations.multiply(turn, take.turn), feet, take.bends)


# --- the movements


def walk(times: Times, seconds: float, person: Person) -> Take:
    return _gait(times, person, curvature=person.random.uniform(-0.05, 0.05))


def turn(times: Times, seconds: float, person: Person) -> Take:
    """Walking a tight curve, about a full circle in nine seconds."""
    return _gait(times, person, curvature=person.random.choice([-1, 1]) * person.random.uniform(0.8, 1.2), stride=0.75)


def squat(times: Times, seconds: float, person: Person) -> Take:
    period = person.random.uniform(2.2, 3.0) / person.style.tempo
    deep = (1 - np.cos(2 * np.pi * times / period)) / 2 * person.style.size
    drop = person.random.uniform(0.25, 0.4) * person.leg
    pelvis = _standing(times, person) + deep[:, None] * np.array([-0.12 * person.leg, 0.0, -drop])
    take = Take(pelvis, _pitch(0.35 * deep), _planted(times, person, width=1.5))
    take.bends = _arms(times, forward=1.3 * deep, bend=0.3 + 0 * deep) | _trunk(pitch=0.3 * deep + person.style.lean)
    return take


def reach(times: Times, seconds: float, person: Person) -> Take:
    """One hand after the other goes up, forward or across, and comes back."""
    take = Take(
        _standing(times, person) - np.array([0.0, 0.0, 0.03]), _pitch(0 * times), _planted(times, person, width=1.2)
    )
    count = max(1, round(seconds / 2.0 * person.style.tempo))
    swings = {side: np.zeros(len(times)) for side in ("left", "right")}
    yaw = np.zeros(len(times))
    for i in range(count):
        side = "left" if (i + person.random.integers(2)) % 2 else "right"
        bump = np.sin(np.pi * np.clip(times * count / seconds - i, 0, 1)) ** 2
        swings[side] += bump * person.random.uniform(1.0, 2.4) * person.style.size
        yaw += bump * person.random.uniform(0.2, 0.6) * (-1 if side == "left" else 1)
    bend = {side: 0.25 + 0.5 * np.exp(-swing) for side, swing in swings.items()}
    arms = [_arms(times, forward=swings[side], bend=bend[side], sides=(side,)) for side in swings]
    take.bends = arms[0] | arms[1] | _trunk(pitch=person.style.lean + 0 * yaw, yaw=yaw)
    return take


def kick(times: Times, seconds: float, person: Person) -> Take:
    """Shift onto one leg, draw the other back, kick forward, and set it down where it stood."""
    side, sign = ("left", 1) if person.random.random() < 0.5 else ("right", -1)
    leg, rest = person.leg, person.rest[f"{side}_foot"]
    u = times / seconds
    home = np.array([rest[0], rest[1], BALL_HEIGHT])
    height = person.random.uniform(0.45, 0.75) * leg * person.style.size
    via = [
        home,
        home,
        home + np.array([-0.25 * leg, 0, 0.3 * leg]),
        home + np.array([0.62 * leg, -0.05 * sign, height]),
        home + np.array([0.1, 0, 0.2 * leg]),
        home,
    ]
    ball = _through(u, [0.0, 0.22, 0.4, 0.52, 0.7, 0.86], via)
    heel = _through(u, [0.0, 0.22, 0.4, 0.52, 0.7, 0.86], [[0.0], [0.0], [0.8], [-0.7], [0.2], [0.0]])[:, 0]
    away = _plateau(u, 0.04, 0.22, 0.86, 0.98)
    feet = _planted(times, person)
    feet[side] = Foot(ball, feet[side].yaw, heel)
    pelvis = _standing(times, person) + away[:, None] * np.array([-0.01, -sign * 0.8 * abs(rest[1]), -0.02])
    swing = np.sin(np.pi * np.clip((u - 0.4) / 0.3, 0, 1)) ** 2
    take = Take(pelvis, _pitch(-0.25 * swing), feet)
    take.bends = _arms(times, forward=0.6 * away - 0.3 * swing, bend=1.0 * away + 0.3) | _trunk(
        pitch=0.25 * swing + person.style.lean
    )
    return take


def jump(times: Times, seconds: float, person: Person) -> Take:
    """Crouch, push off, fly by gravity, land and crouch, once every two seconds or so."""
    count = max(1, round(seconds / 2.2))
    flight = person.random.uniform(0.34, 0.44) * np.sqrt(person.style.size)
    period, depth = seconds / count, 0.3 * person.leg
    s = np.mod(times, period) - period / 2  # zero at the top of the flight
    speed = GRAVITY * flight / 2
    # Push-off and landing: constant acceleration from the deepest point to the speed of take-off.
    push = 2 * depth / speed
    late = np.abs(s) - flight / 2
    air = speed**2 / (2 * GRAVITY) - GRAVITY * s**2 / 2
    ground = -depth + depth * np.square(np.clip(1 - late / push, 0, 1))
    settle = _ease(np.clip((late - push) / max(0.05, 0.5 * period - flight / 2 - push), 0, 1))
    height = np.where(late < 0, air, ground + depth * settle)
    crouch = np.clip(-height / depth, 0, 1)
    # Feet leave and meet the ground without a jolt, and hang back by no more than the raised heels allow.
    lift = np.maximum(air, 0) ** 2 / (np.maximum(air, 0) + 0.05)
    tiptoe = 0.5 * _ease(np.clip(1 - late / (0.6 * push), 0, 1))
    pelvis = _standing(times, person) + np.stack([-0.05 * crouch, 0 * s, height], 1)
    feet = _planted(times, person)
    for foot in feet.values():
        foot.ball = foot.ball + lift[:, None] * np.array([0.0, 0.0, 1.0])
        foot.heel = tiptoe
        foot.toes_flat = False
    take = Take(pelvis, _pitch(0.3 * crouch), feet)
    forward = 1.2 * np.exp(-((s / 0.35) ** 2)) - 0.4 * crouch
    take.bends = _arms(times, forward=forward, bend=0.4 + 0 * s) | _trunk(pitch=0.2 * crouch)
    return take


def lie(times: Times, seconds: float, person: Person) -> Take:
    """Squat, sit, lie down on the back with the feet where they stood, rest, and get up the same way."""
    leg, stand = person.leg, person.pelvis_height
    rest = float(person.random.uniform(0.06, 0.12))
    knots = [0.0, 0.04, 0.18, 0.3, 0.48 - rest / 2, 0.52 + rest / 2, 0.7, 0.82, 0.96]
    x, y = float(person.rest["left_ankle"][0]), 0.0
    deep, sit, flat = [x - 0.25 * leg, y, 0.42 * leg], [x - 0.5 * leg, y, 0.2 * leg], [x - 0.62 * leg, y, 0.13 * leg]
    up = [0.0, 0.0, stand]
    u = times / seconds
    pelvis = _through(u, knots, [up, up, deep, sit, flat, flat, sit, deep, up])
    pitch = _through(u, knots, [[v] for v in (0.0, 0.0, 0.55, -0.25, -1.5, -1.5, -0.25, 0.55, 0.0)])[:, 0]
    trunk = _through(u, knots, [[v] for v in (0.0, 0.0, 0.5, 0.3, 0.0, 0.0, 0.3, 0.5, 0.0)])[:, 0]
    arms = _through(u, knots, [[v] for v in (0.0, 0.0, 1.2, 0.5, 0.1, 0.1, 0.5, 1.2, 0.0)])[:, 0]
    take = Take(pelvis, _pitch(pitch), _planted(times, person, width=1.2))
    take.bends = _arms(times, forward=arms, bend=0.3 + 0 * arms, spread=0.35) | _trunk(pitch=trunk)
    return take


def steps(times: Times, seconds: float, person: Person) -> Take:
    """Standing, some steps straight on, standing: what a robot that begins and ends on its feet can follow."""
    style, leg = person.style, person.leg
    period = 0.6 / style.tempo * person.random.uniform(0.95, 1.05)
    length = 0.45 * leg * style.size * person.random.uniform(0.9, 1.1)
    count = max(2, int((seconds - 1.0) / period - 0.5))
    tau = (times - 0.5 * (seconds - (count + 0.5) * period)) / period  # steps since the first one began
    # Up to speed within two steps, and to rest again within two, half a step after the last foot has come down.
    along = length * (_rise(tau / 2) - _rise((tau - count + 1.5) / 2)) * 2
    active = _plateau(tau, -0.5, 0.5, count - 0.5, count + 0.5)
    sway = -0.3 * person.rest["left_foot"][1] * active * np.sin(np.pi * tau)
    height = np.full(len(times), person.pelvis_height - 0.03 * leg)
    take = Take(np.stack([along, sway, height], 1), _pitch(0 * times), _planted(times, person))
    for side, first in (("left", 0), ("right", 1)):
        foot = take.feet[side]
        for step in range(first, count, 2):
            flown = np.clip((tau - step - 0.12) / 0.76, 0, 1)
            # Each lands half a step length ahead of where the pelvis then is; the last one beside the other.
            before, after = (max(0.0, min(j, count - 1) - 0.5) for j in (step - 1, step + 1))
            foot.ball[:, 0] += length * (after - before) * _ease(flown)
            foot.ball[:, 2] += 0.08 * leg * 64 * (flown * (1 - flown)) ** 3
            foot.heel += (
                0.35 * _ease(np.clip((tau - step + 0.2) / 0.32, 0, 1)) * (1 - _ease(np.clip(flown / 0.5, 0, 1)))
            )
    swing = 0.3 * style.size * active * np.sin(np.pi * tau)
    arms = [
        _arms(times, forward=s * swing, bend=0.35 + 0 * tau, sides=(side,)) for side, s in (("left", -1), ("right", 1))
    ]
    take.bends = arms[0] | arms[1] | _trunk(pitch=style.lean + 0.04 * active)
    return take


KINDS: dict[str, Callable[[Times, float, Person], Take]] = {
    "steps": steps, "walk": walk, "turn": turn, "squat": squat, "reach": reach, "kick": kick, "jump": jump, "lie": lie,
}  # fmt: skip


# --- what they share


def _gait(times: Times, person: Person, *, curvature: float, stride: float = 1.0) -> Take:
    """Steps along an arc of the given curvature [1/m]: each foot stands for 62 % of a cycle; its heel rises."""
    style, leg = person.style, person.leg
    period = 1.12 / style.tempo * person.random.uniform(0.95, 1.05)
    cycle_length = stride * 1.35 * leg * style.size * person.random.uniform(0.9, 1.1)
    phase = times / period + person.random.uniform()
    feet = {
        side: _step(phase - half, half, side, person, cycle_length, curvature)
        for side, half in (("left", 0.0), ("right", 0.5))
    }
    along, wave = cycle_length * phase, 2 * np.pi * phase
    sway = 0.25 * person.rest["left_foot"][1] * np.cos(wave)
    level = _on_arc(along, sway, curvature)
    height = person.pelvis_height - 0.045 * leg + 0.012 * np.cos(2 * wave)
    yaw = curvature * along - 0.08 * np.sin(wave)
    tilt = rotations.from_rotation_vector(np.stack([0.03 * np.cos(wave), 0 * wave, 0 * wave], 1))
    take = Take(np.concatenate([level, height[:, None]], 1), rotations.multiply(rotations.about_z(yaw), tilt), feet)
    swing = 0.45 * style.size * np.sin(wave)
    arms = [
        _arms(times, forward=s * swing, bend=0.35 + 0.15 * s * np.sin(wave), sides=(side,))
        for side, s in (("left", 1), ("right", -1))
    ]
    take.bends = arms[0] | arms[1] | _trunk(pitch=style.lean + 0.04 + 0 * wave, yaw=0.14 * np.sin(wave))
    return take


def _step(phase: Times, half: float, side: str, person: Person, cycle_length: float, curvature: float) -> Foot:
    """One foot of a gait; `phase` counts its cycles, whole numbers where the pelvis passes over it."""
    stance = 0.62
    cycle = np.floor(phase + 0.5)
    # In the air from half the stance after one passing to half the stance before the next.
    flown = np.clip((np.mod(phase, 1.0) - stance / 2) / (1 - stance), 0, 1)
    begun = np.where(phase - cycle < 0, cycle - 1, cycle)
    arc = cycle_length * (begun + half + _ease(flown)) + person.rest["left_foot"][0]
    lateral = person.rest[f"{side}_foot"][1] * 0.8
    ground = _on_arc(arc, np.full(len(phase), lateral), curvature)
    lift = 0.09 * person.leg * 64 * (flown * (1 - flown)) ** 3
    p = np.mod(phase, 1.0)
    rise = _ease(np.clip((p - 0.14) / (stance / 2 - 0.14), 0, 1)) * (1 - _ease(np.clip((p - stance / 2) / 0.28, 0, 1)))
    return Foot(np.concatenate([ground, (BALL_HEIGHT + lift)[:, None]], 1), curvature * arc, 0.6 * rise)


def _on_arc(along: Times, left: Times, curvature: float) -> Float[np.ndarray, "T 2"]:
    """Points `left` of an arc from the origin along +x, `along` metres on it."""
    angle = curvature * along
    # sin(a)/a and (1 − cos a)/a, whole at zero: np.sinc is sin(πx)/(πx).
    x, y = along * np.sinc(angle / np.pi), along * np.sin(angle / 2) * np.sinc(angle / 2 / np.pi)
    return np.stack([x - left * np.sin(angle), y + left * np.cos(angle)], 1)


def _standing(times: Times, person: Person) -> Float[np.ndarray, "T 3"]:
    sway = 0.004 * np.sin(2 * np.pi * 0.4 * times + person.random.uniform(0, 6))
    return np.stack([sway, 0 * times, np.full(len(times), person.pelvis_height)], 1)


def _planted(times: Times, person: Person, *, width: float = 1.0) -> dict[str, Foot]:
    still = np.zeros(len(times))
    feet = {}
    for side in ("left", "right"):
        x, y, _ = person.rest[f"{side}_foot"]
        feet[side] = Foot(np.tile([x, y * width, BALL_HEIGHT], (len(times), 1)), still + 0.1 * np.sign(y), still.copy())
    return feet


def _pitch(angle: Times) -> Float[np.ndarray, "T 4"]:
    """Bowing forward by `angle` [rad]."""
    return rotations.from_rotation_vector(angle[:, None] * np.array([0.0, 1.0, 0.0]))


def _trunk(*, pitch: Times, yaw: Times | None = None) -> dict[str, Float[np.ndarray, "T 3"]]:
    """A third of the bend in each joint of the spine; SMPL's x is left (bow), its y is up (turn)."""
    share = np.stack([pitch, 0 * pitch if yaw is None else yaw, 0 * pitch], 1) / 3
    return {"spine1": share, "spine2": share, "spine3": share, "neck": -0.5 * share, "head": -0.5 * share}


def _arms(
    times: Times, *, forward: Times, bend: Times, spread: float = 0.18, sides: tuple[str, ...] = ("left", "right")
) -> dict[str, Float[np.ndarray, "T 3"]]:
    """Arms hanging from the T-pose, swung `forward`, elbows bent [rad]; `spread` keeps them off the body."""
    result = {}
    still = 0 * times
    for side in sides:
        sign = 1.0 if side == "left" else -1.0
        hang = rotations.from_rotation_vector(np.stack([still, still, still - sign * (np.pi / 2 - spread)], 1))
        swing = rotations.from_rotation_vector(np.stack([-forward, still, still], 1))
        result[f"{side}_shoulder"] = rotations.to_rotation_vector(rotations.multiply(swing, hang))
        result[f"{side}_elbow"] = np.stack([still, -sign * bend, still], 1)
    return result


def _ease(u: np.ndarray) -> np.ndarray:
    """From 0 to 1 with speed and acceleration zero at both ends."""
    return u**3 * (10 - 15 * u + 6 * u * u)


def _rise(u: np.ndarray) -> np.ndarray:
    """The integral of `_ease` from 0 on: half of it is passed at 1, and from there it goes on at speed 1."""
    eased = np.clip(u, 0, 1)
    return eased**4 * (2.5 - 3 * eased + eased * eased) + np.maximum(u - 1, 0)


def _plateau(u: Times, rise: float, top: float, fall: float, end: float) -> Times:
    return _ease(np.clip((u - rise) / (top - rise), 0, 1)) * (1 - _ease(np.clip((u - fall) / (end - fall), 0, 1)))


def _through(u: Times, knots: list[float], values: list) -> Float[np.ndarray, "T C"]:
    """Eased from value to value; before the first and after the last it rests."""
    points = np.array(values, float)
    result = np.tile(points[0], (len(u), 1))
    for i in range(1, len(knots)):
        share = _ease(np.clip((u - knots[i - 1]) / (knots[i] - knots[i - 1]), 0, 1))
        result = result + share[:, None] * (points[i] - points[i - 1])
    return result


# --- the robot itself


def robot_motion(*, seed: int = 0, seconds: float = 3.0, fps: float = 30.0) -> RobotMotion:
    """A G1 that bends its knees over flat, planted feet and swings its arms."""
    random = np.random.default_rng([seed, 29])
    times = np.arange(max(2, round(seconds * fps))) / fps
    deep = 0.35 + 0.3 * np.sin(2 * np.pi * times / random.uniform(1.6, 2.4) + random.uniform(0, 6))
    swing = 0.5 * np.sin(2 * np.pi * times / random.uniform(1.2, 2.0))
    joints = np.zeros((len(times), G1.joint_count))
    for side, sign in (("left", 1.0), ("right", -1.0)):
        angles = {
            "hip_pitch": -deep,
            "knee": 2 * deep,
            "ankle_pitch": -deep,
            "shoulder_pitch": sign * swing,
            "elbow": 0.6 + 0 * deep,
        }
        for name, angle in angles.items():
            joints[:, G1.joint_names.index(f"{side}_{name}_joint")] = angle
    level = np.concatenate([np.zeros((len(times), 3)), np.tile([1.0, 0, 0, 0], (len(times), 1)), joints], 1)
    position, rotation = forward_kinematics(G1, level)
    name, sole = G1.ground_points["left_heel"]
    foot = G1.body(name)
    heel = position[:, foot] + rotations.rotate(rotation[:, foot], np.broadcast_to(sole[0], (len(times), 3)))
    heading = np.tile(rotations.about_z(np.array(random.uniform(-2.5, 2.5))), (len(times), 1))
    # The feet stay where they are: the root moves against them.
    root = rotations.rotate(heading, -(heel - heel[:1] * np.array([1.0, 1.0, 0.0])))
    return RobotMotion(np.concatenate([root, heading, joints], 1), fps)
