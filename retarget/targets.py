"""From a person's joints to the robot's targets: bones take the robot's lengths, directions stay the person's.

The feet's paths are the person's, scaled by the ratio of leg lengths about the ground: what stood still still stands still.
The pelvis hangs over them by the same ratio; the arms are rebuilt from the robot's shoulders along the person's bones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from corpus import rotations
from corpus.errors import Rejected
from corpus.motion import HumanMotion
from corpus.resample import band_limit, sample_times
from corpus.robot import Robot, forward_kinematics
from corpus.skeleton import Skeleton
from retarget.correspondence import SIDES, Correspondence, correspondence
from retarget.place import Place, Places, along, fixed, joint, towards
from retarget.solver import Targets

WEIGHTS: dict[str, tuple[float, float]] = {
    "pelvis": (20.0, 13.0),
    "chest": (0.0, 13.0),
    "hip": (0.0, 5.2),
    "knee": (10.0, 6.0),
    "ankle": (100.0, 7.0),
    "shoulder": (0.0, 5.2),
    "elbow": (15.0, 4.5),
    "wrist": (25.0, 6.0),
}
"""Position weight [1/m] and orientation weight [1/rad] by segment."""


HANDS_NEAR = 0.3
"""Wrists nearer to each other than this belong together [m]: hands that clap, hold each other or the same thing."""


@dataclass(frozen=True)
class Proportions:
    """Lengths that scaling needs [m]: of a person, or of the robot."""

    thigh: float
    shank: float
    hip_half_width: float
    ankle_height: float
    """Ankle above the sole of a flat foot."""

    @property
    def leg(self) -> float:
        return self.thigh + self.shank


def build_targets(
    human: HumanMotion, robot: Robot, fps: float, *, hands_near: float = HANDS_NEAR, hips_near: float = 0.0
) -> tuple[Targets, float]:
    """Targets at `fps` [Hz], and the scale robot leg / human leg.

    Where the person's hands come nearer to each other than `hands_near` [m] or, elbows bent, to a hip than `hips_near`, those of
    the robot do likewise: arms rebuilt from wider shoulders would clap past each other, and hang beside hips they rest on.
    """
    body = _measured(human.skeleton, robot)
    joints, position, rotation = body.joints, human.position, human.rotation
    if human.fps > fps:  # only what is needed is worth filtering
        position, rotation = band_limit(position[:, joints], rotation[:, joints], human.fps, fps)
        joints = list(range(len(joints)))
    times = sample_times(human.frame_count, human.fps, fps)
    arms = position[:, np.array(joints)[body.arms]]
    position, rotation = body.places.at(position, rotation, joints, times)
    _keep_hands(position, body, arms, times, hands_near, hips_near)
    return _targets(robot, position, rotation), body.scale


def _keep_hands(
    position: Float[np.ndarray, "S K 3"],
    body: _Measured,
    arms: Float[np.ndarray, "T 2 4 3"],
    times: Float[np.ndarray, " S"],
    hands_near: float,
    hips_near: float,
) -> None:
    """Move wrists to where the person's hands have them, scaled: on a hip, then about their middle to each other.

    `arms` are the person's hips, shoulders, elbows and wrists, left and right. Straight arms that hang by the hips do not count.
    """
    hip, shoulder, elbow, wrist = np.moveaxis(arms, 2, 0)
    if hips_near:
        upper, lower, way = elbow - shoulder, wrist - elbow, wrist - hip
        distance = np.linalg.norm(way, axis=2)
        stretch = np.einsum("tsa,tsa->ts", upper, lower)
        stretch /= np.maximum(np.linalg.norm(upper, axis=2) * np.linalg.norm(lower, axis=2), 1e-9)
        rests = _rise(3 - 3 * distance / hips_near) * _rise((BENT[0] - stretch) / (BENT[0] - BENT[1]))
        # As far off as the person's, scaled, but not inside the robot's hip, which is thicker.
        way *= (np.maximum(body.arm_scale * distance, body.hip_radius) / np.maximum(distance, 1e-9))[:, :, None]
        for side, (own_hip, own_wrist) in enumerate(body.arms[:, [0, 3]]):
            if rests[:, side].any():
                share = _at(times, rests[:, side, None])
                goal = position[:, own_hip] + _at(times, way[:, side])
                position[:, own_wrist] += share * (goal - position[:, own_wrist])
    apart = wrist[:, 1] - wrist[:, 0]
    gap = np.linalg.norm(apart, axis=1)
    if (gap < hands_near).any():
        left, right = body.arms[:, 3]
        share, way = _at(times, _rise(2 - 2 * gap / hands_near)[:, None]), _at(times, apart)
        correction = share * (body.arm_scale * way - (position[:, right] - position[:, left])) / 2
        position[:, left] -= correction
        position[:, right] += correction


BENT = (np.cos(np.radians(45)), np.cos(np.radians(70)))
"""Elbows begin to be bent, and are."""


def _rise(x: np.ndarray) -> np.ndarray:
    """Smoothly from 0 at 0 to 1 at 1."""
    x = np.clip(x, 0.0, 1.0)
    return x * x * (3 - 2 * x)


def _at(times: Float[np.ndarray, " S"], x: Float[np.ndarray, "T C"]) -> Float[np.ndarray, "S C"]:
    """Values between frames, linear."""
    low = np.minimum(times.astype(int), max(len(x) - 2, 0))
    share = (times - low)[:, None]
    return x[low] + share * (x[np.minimum(low + 1, len(x) - 1)] - x[low])


def _targets(robot: Robot, position: Float[np.ndarray, "T K 3"], rotation: Float[np.ndarray, "T K 4"]) -> Targets:
    weights = np.array([WEIGHTS[role.removeprefix("left_").removeprefix("right_")] for role in robot.segments])
    return Targets(
        bodies=tuple(robot.body(link) for link in robot.segments.values()),
        position=position,
        rotation=rotation,
        position_weight=weights[:, 0],
        rotation_weight=weights[:, 1],
    )


class TargetMaker:
    """Targets of one frame at a time, with everything made ready beforehand."""

    def __init__(self, skeleton: Skeleton, robot: Robot, *, hands_near: float = HANDS_NEAR, hips_near: float = 0.0):
        body = _measured(skeleton, robot)
        self.body, self.near = body, (hands_near, hips_near)
        self.arms = np.array(body.joints)[body.arms]
        count = len(skeleton.joint_names)
        # Between two frames that are the same nothing is to interpolate.
        self.position, self.rotation = np.zeros((2, count, 3)), np.zeros((2, count, 4))
        self.command, place, turn = body.places.prepare(self.position, self.rotation, body.joints, np.zeros(1))
        self.targets = _targets(robot, place, turn)
        self.bodies, self.scale = self.targets.bodies, body.scale
        self.base = self.bodies.index(0)
        self.weight = np.stack([self.targets.position_weight, self.targets.rotation_weight], 1)

    def frame(
        self, position: Float[np.ndarray, "J 3"], rotation: Float[np.ndarray, "J 4"]
    ) -> tuple[Float[np.ndarray, "K 3"], Float[np.ndarray, "K 4"]]:
        self.position[:], self.rotation[:] = position, rotation
        self.command.launch()
        _keep_hands(self.targets.position, self.body, position[None, self.arms], _NOW, *self.near)
        return self.targets.position[0].copy(), self.targets.rotation[0].copy()


_NOW = np.zeros(1)


@dataclass(frozen=True)
class _Measured:
    """What a person's skeleton means for the robot."""

    joints: list[int]
    """The joint of each role in `Robot.segments`."""
    places: Places
    scale: float
    """Robot leg length / human leg length."""
    arm_scale: float
    """The same of the arms."""
    hip_radius: float
    """A wrist is at least so far from the hip's centre with the hand on it [m]."""
    arms: Int[np.ndarray, "2 4"]
    """Which targets are hip, shoulder, elbow and wrist, left and right."""


def _measured(skeleton: Skeleton, robot: Robot) -> _Measured:
    """Kept from clip to clip: a data set's takes share few skeletons."""
    rest = None if skeleton.rest_rotation is None else skeleton.rest_rotation.tobytes()
    key = robot, skeleton.name, skeleton.joint_names, skeleton.offsets.tobytes(), skeleton.roles, rest
    if key not in _MEASURED:
        if len(_MEASURED) >= 256:
            _MEASURED.clear()
        _MEASURED[key] = _measure(skeleton, robot)
    return _MEASURED[key]


_MEASURED: dict[tuple, _Measured] = {}


def _measure(skeleton: Skeleton, robot: Robot) -> _Measured:
    table = correspondence(skeleton)
    person = _person(skeleton, table)
    body = _RobotPosture(robot)
    scale = body.proportions.leg / person.leg
    places = _places(person, body, scale)
    packed = Places(
        {role: places[role] for role in robot.segments},
        np.array([table.frames[role] for role in robot.segments]),
        np.array([body.rotation[role] for role in robot.segments]),
    )
    roles = list(robot.segments)
    return _Measured(
        joints=[skeleton.index(table.joints[role]) for role in roles],
        places=packed,
        scale=scale,
        arm_scale=body.arm / _arm(skeleton, table),
        hip_radius=_thickest(robot, ("pelvis", "left_hip")) + _thickest(robot, ("left_elbow", "left_wrist")),
        arms=np.array([[roles.index(f"{s}_{role}") for role in ("hip", "shoulder", "elbow", "wrist")] for s in SIDES]),
    )


class _RobotPosture:
    """The robot's own lengths, read from its model in its rest posture."""

    def __init__(self, robot: Robot):
        position, rotation = forward_kinematics(robot, robot.rest)
        at = {role: position[0, robot.body(link)] for role, link in robot.segments.items()}
        self.rotation = {role: rotation[0, robot.body(link)] for role, link in robot.segments.items()}
        hip = {side: position[0, robot.body(robot.centres[f"{side}_hip"])] for side in SIDES}
        soles = [
            position[0, robot.body(body)] + rotations.rotate(rotation[0, robot.body(body)], point)
            for body, points in robot.ground_points.values()
            for point in points
        ]
        self.proportions = Proportions(
            thigh=_distance(hip["left"], at["left_knee"]),
            shank=_distance(at["left_knee"], at["left_ankle"]),
            hip_half_width=_distance(hip["left"], hip["right"]) / 2,
            ankle_height=float(np.mean([at[f"{s}_ankle"][2] for s in SIDES]) - min(point[2] for point in soles)),
        )
        # The hips' height in the pelvis, halfway between them; sideways the robot is symmetric.
        self.hips_in_pelvis = (hip["left"] + hip["right"]) / 2 * [1, 0, 1]
        self.torso_in_pelvis = at["chest"]
        # The arm hangs straight below the shoulder's centre, which no single body's origin marks.
        shoulder = {side: position[0, robot.body(robot.centres[f"{side}_shoulder"])] for side in SIDES}
        self.shoulder_in_torso = {
            side: np.array([shoulder[side][0], at[f"{side}_shoulder"][1], shoulder[side][2]]) - at["chest"]
            for side in SIDES
        }
        self.yaw_in_shoulder = {s: at[f"{s}_shoulder"] - at["chest"] - self.shoulder_in_torso[s] for s in SIDES}
        self.elbow_in_shoulder = {s: at[f"{s}_elbow"] - at["chest"] - self.shoulder_in_torso[s] for s in SIDES}
        self.wrist_in_elbow = {s: at[f"{s}_wrist"] - at[f"{s}_elbow"] for s in SIDES}
        self.arm = sum(float(np.linalg.norm(way["left"])) for way in (self.elbow_in_shoulder, self.wrist_in_elbow))
        self.yaw_in_hip = {s: at[f"{s}_hip"] - hip[s] for s in SIDES}


def _places(person: Proportions, body: _RobotPosture, scale: float) -> dict[str, Place]:
    """Where the driven bodies should be in the world, in terms of the person's joints and segments."""
    robot = body.proportions
    # Heights count from the ankle's height over a flat sole, which does not scale like the leg.
    lift = fixed(0.0, 0.0, robot.ankle_height - scale * person.ankle_height)
    hips = joint("left_hip", scale / 2) + joint("right_hip", scale / 2) + lift
    place = {"pelvis": hips + along("pelvis", -body.hips_in_pelvis)}
    place["chest"] = place["pelvis"] + along("pelvis", body.torso_in_pelvis)
    spread = robot.hip_half_width - scale * person.hip_half_width
    for side, sign in (("left", 1.0), ("right", -1.0)):
        # The robot's hips are wider: the feet go apart along the foot's own left, constant while it stands.
        outwards = np.array([0.0, sign * spread, 0.0])
        place[f"{side}_ankle"] = joint(f"{side}_ankle", scale) + lift + along(f"{side}_ankle", outwards)
        hip = hips + along("pelvis", np.array([0.0, sign * robot.hip_half_width, 0.0]))
        place[f"{side}_hip"] = hip + along(f"{side}_hip", body.yaw_in_hip[side])
        place[f"{side}_knee"] = hip + towards(f"{side}_hip", f"{side}_knee", robot.thigh)
        shoulder = place["chest"] + along("chest", body.shoulder_in_torso[side])
        place[f"{side}_shoulder"] = shoulder + along(f"{side}_shoulder", body.yaw_in_shoulder[side])
        place[f"{side}_elbow"] = shoulder + along(f"{side}_shoulder", body.elbow_in_shoulder[side])
        place[f"{side}_wrist"] = place[f"{side}_elbow"] + along(f"{side}_elbow", body.wrist_in_elbow[side])
    return place


def _person(skeleton: Skeleton, table: Correspondence) -> Proportions:
    """A person's lengths from the skeleton's own bones, both sides averaged."""
    bone = {
        role: np.mean([np.linalg.norm(skeleton.offsets[skeleton.index(table.joints[f"{s}_{role}"])]) for s in SIDES])
        for role in ("knee", "ankle", "toe")
    }
    hips = [skeleton.offsets[skeleton.index(table.joints[f"{side}_hip"])] for side in SIDES]
    toe = skeleton.offsets[skeleton.index(table.joints["left_toe"])]
    toe_in_foot = rotations.rotate(rotations.conjugate(table.frames["left_ankle"]), toe)
    person = Proportions(
        thigh=float(bone["knee"]),
        shank=float(bone["ankle"]),
        hip_half_width=_distance(hips[0], hips[1]) / 2,
        ankle_height=float(max(-toe_in_foot[2], 0.0) + table.toe_height),
    )
    if not 0.3 < person.leg < 1.5:
        raise Rejected("bad_unit", "legs are 0.3 to 1.5 m long", leg_m=round(person.leg, 4))
    return person


def _thickest(robot: Robot, roles: tuple[str, ...]) -> float:
    """The largest radius of these bodies' capsules [m]."""
    bodies = {robot.body(robot.segments[role]) for role in roles}
    return max((capsule.radius for capsule in robot.capsules if capsule.body in bodies), default=0.0)


def _arm(skeleton: Skeleton, table: Correspondence) -> float:
    """Length of a person's arm from shoulder to wrist [m]."""
    bones = (skeleton.offsets[skeleton.index(table.joints[f"left_{role}"])] for role in ("elbow", "wrist"))
    return max(float(sum(np.linalg.norm(bone) for bone in bones)), 1e-3)


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b))
