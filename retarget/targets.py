"""From a person's joints to the robot's targets: bones take the robot's lengths, directions stay the person's.

The feet's paths are the person's, scaled by the ratio of leg lengths about the ground: what stood still still stands still.
The pelvis hangs over them by the same ratio; the arms are rebuilt from the robot's shoulders along the person's bones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from corpus import rotations
from corpus.errors import Rejected
from corpus.motion import HumanMotion
from corpus.resample import resample
from corpus.robot import Robot, forward_kinematics
from corpus.skeleton import Skeleton
from retarget.correspondence import SIDES, Correspondence, correspondence
from retarget.solver import Targets

LINKS = {
    "pelvis": "pelvis",
    "chest": "torso_link",
    **{f"{side}_{role}": f"{side}_{link}_link" for side in SIDES for role, link in (
        ("hip", "hip_yaw"), ("knee", "knee"), ("ankle", "ankle_roll"),
        ("shoulder", "shoulder_yaw"), ("elbow", "elbow"), ("wrist", "wrist_yaw"),
    )},
}  # fmt: skip
"""Which body of the G1 each segment drives."""

WEIGHTS: dict[str, tuple[float, float]] = {
    "pelvis": (20.0, 10.0),
    "chest": (0.0, 10.0),
    "hip": (0.0, 4.0),
    "knee": (10.0, 4.0),
    "ankle": (100.0, 10.0),
    "shoulder": (0.0, 4.0),
    "elbow": (15.0, 4.0),
    "wrist": (25.0, 3.0),
}
"""Position weight [1/m] and orientation weight [1/rad] by segment."""

_SOURCE_ROLES = (
    "pelvis", "chest",
    *[f"{side}_{role}" for side in SIDES for role in ("hip", "knee", "ankle", "toe", "shoulder", "elbow", "wrist")],
)  # fmt: skip


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


def build_targets(human: HumanMotion, robot: Robot, fps: float) -> tuple[Targets, float]:
    """Targets at `fps` [Hz], and the scale robot leg / human leg."""
    table = correspondence(human.skeleton)
    person = _person(human.skeleton, table)
    body = _robot_posture(robot)
    scale = body.proportions.leg / person.leg
    motion = resample(_only_needed_joints(human, table), fps)
    at = {role: motion.position[:, i] for i, role in enumerate(_SOURCE_ROLES)}
    turn = {
        role: rotations.multiply(
            motion.rotation[:, i], np.broadcast_to(table.frames[role], motion.rotation[:, i].shape)
        )
        for i, role in enumerate(_SOURCE_ROLES)
        if role in LINKS
    }
    place = _places(at, turn, person, body, scale)
    roles = list(LINKS)
    rotation = [rotations.multiply(turn[r], np.broadcast_to(body.rotation[r], turn[r].shape)) for r in roles]
    weights = np.array([WEIGHTS[role.removeprefix("left_").removeprefix("right_")] for role in roles])
    targets = Targets(
        bodies=tuple(robot.body(LINKS[role]) for role in roles),
        position=np.stack([place[role] for role in roles], 1),
        rotation=np.stack(rotation, 1),
        position_weight=weights[:, 0],
        rotation_weight=weights[:, 1],
    )
    return targets, scale


class _RobotPosture:
    """The robot's own lengths, read from its model at joint angle zero."""

    def __init__(self, robot: Robot):
        zero = np.zeros((1, 7 + robot.joint_count))
        zero[0, 3] = 1.0
        position, rotation = forward_kinematics(robot, zero)
        at = {role: position[0, robot.body(link)] for role, link in LINKS.items()}
        self.rotation = {role: rotation[0, robot.body(link)] for role, link in LINKS.items()}
        hip = {side: position[0, robot.body(f"{side}_hip_roll_link")] for side in SIDES}
        sole = min(points[:, 2].min() for _, points in robot.ground_points.values())
        self.proportions = Proportions(
            thigh=_distance(hip["left"], at["left_knee"]),
            shank=_distance(at["left_knee"], at["left_ankle"]),
            hip_half_width=_distance(hip["left"], hip["right"]) / 2,
            ankle_height=-sole,
        )
        # The hips' height in the pelvis, halfway between them; sideways the robot is symmetric.
        self.hips_in_pelvis = (hip["left"] + hip["right"]) / 2 * [1, 0, 1]
        self.torso_in_pelvis = at["chest"]
        # The arm hangs straight below the shoulder's centre, which no single body's origin marks.
        shoulder = {side: position[0, robot.body(f"{side}_shoulder_roll_link")] for side in SIDES}
        self.shoulder_in_torso = {
            side: np.array([shoulder[side][0], at[f"{side}_shoulder"][1], shoulder[side][2]]) - at["chest"]
            for side in SIDES
        }
        self.yaw_in_shoulder = {s: at[f"{s}_shoulder"] - at["chest"] - self.shoulder_in_torso[s] for s in SIDES}
        self.elbow_in_shoulder = {s: at[f"{s}_elbow"] - at["chest"] - self.shoulder_in_torso[s] for s in SIDES}
        self.wrist_in_elbow = {s: at[f"{s}_wrist"] - at[f"{s}_elbow"] for s in SIDES}
        self.yaw_in_hip = {s: at[f"{s}_hip"] - hip[s] for s in SIDES}


def _robot_posture(robot: Robot) -> _RobotPosture:
    """Kept from clip to clip; the robot stands beside its lengths so that its id stays taken."""
    if id(robot) not in _POSTURES:
        _POSTURES[id(robot)] = (robot, _RobotPosture(robot))
    return _POSTURES[id(robot)][1]


_POSTURES: dict[int, tuple[Robot, _RobotPosture]] = {}


def _places(
    at: dict[str, np.ndarray], turn: dict[str, np.ndarray], person: Proportions, body: _RobotPosture, scale: float
) -> dict[str, Float[np.ndarray, "T 3"]]:
    """World positions of the driven bodies."""

    def along(role: str, vector: np.ndarray) -> np.ndarray:
        return rotations.rotate(turn[role], np.broadcast_to(vector, at["pelvis"].shape))

    robot = body.proportions
    # Heights count from the ankle's height over a flat sole, which does not scale like the leg.
    lift = np.array([0.0, 0.0, robot.ankle_height - scale * person.ankle_height])
    hips = scale * (at["left_hip"] + at["right_hip"]) / 2 + lift
    place = {"pelvis": hips - along("pelvis", body.hips_in_pelvis)}
    place["chest"] = place["pelvis"] + along("pelvis", body.torso_in_pelvis)
    spread = robot.hip_half_width - scale * person.hip_half_width
    for side, sign in (("left", 1.0), ("right", -1.0)):
        # The robot's hips are wider: the feet go apart along the foot's own left, constant while it stands.
        outwards = np.array([0.0, sign * spread, 0.0])
        place[f"{side}_ankle"] = scale * at[f"{side}_ankle"] + lift + along(f"{side}_ankle", outwards)
        hip = hips + along("pelvis", np.array([0.0, sign * robot.hip_half_width, 0.0]))
        place[f"{side}_hip"] = hip + along(f"{side}_hip", body.yaw_in_hip[side])
        place[f"{side}_knee"] = hip + robot.thigh * _direction(at[f"{side}_knee"] - at[f"{side}_hip"])
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


def _only_needed_joints(human: HumanMotion, table: Correspondence) -> HumanMotion:
    """Drop the joints no target comes from before anything is computed for them."""
    order = [human.skeleton.index(table.joints[role]) for role in _SOURCE_ROLES]
    skeleton = Skeleton(
        human.skeleton.name, tuple(_SOURCE_ROLES), (-1, *[0] * (len(order) - 1)), human.skeleton.offsets[order]
    )
    return replace(human, skeleton=skeleton, position=human.position[:, order], rotation=human.rotation[:, order])


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b))


def _direction(v: Float[np.ndarray, "T 3"]) -> Float[np.ndarray, "T 3"]:
    return v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-9)
