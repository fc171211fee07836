"""Another robot by the same code: half as tall, 23 joints in another order, arms stretched sideways at angle zero."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from corpus import rotations
from corpus.posture import postures
from corpus.robot import Robot, forward_kinematics, load_robot
from corpus.sources.synthetic_moves import human_motion
from retarget.retarget import retarget
from retarget.stream import Stream

SIDES = ("left", "right")
SIDE = {"left": "l", "right": "r"}
THIGH, SHANK, UPPER_ARM, FOREARM = 0.22, 0.21, 0.15, 0.14


def leg(side: str, sign: int) -> str:
    s = SIDE[side]
    sites = "".join(
        f'<site name="{side}_{end}_{k}" pos="{x} {y} -0.04"/>'
        for end, x in (("heel", -0.04), ("toe", 0.09))
        for k, y in enumerate((-0.03, 0.03))
    )
    return f"""
    <body name="{s}_hip_a" pos="0 {0.07 * sign} -0.05"><joint name="{s}_hip_yaw" axis="0 0 1" range="-1 1"/><inertial pos="0 0 0" mass="0.3" diaginertia="1e-3 1e-3 1e-3"/>
     <body name="{s}_hip_b"><joint name="{s}_hip_roll" axis="1 0 0" range="-0.8 0.8"/><inertial pos="0 0 0" mass="0.3" diaginertia="1e-3 1e-3 1e-3"/>
      <body name="{s}_thigh"><joint name="{s}_hip_pitch" axis="0 1 0" range="-2 1"/><geom type="capsule" fromto="0 0 -0.04 0 0 -0.18" size="0.035"/>
       <body name="{s}_shank" pos="0 0 {-THIGH}"><joint name="{s}_knee" axis="0 1 0" range="0 2.3"/><geom type="capsule" fromto="0 0 -0.04 0 0 -0.16" size="0.03"/>
        <body name="{s}_ankle" pos="0 0 {-SHANK}"><joint name="{s}_ankle_pitch" axis="0 1 0" range="-1 0.8"/><inertial pos="0 0 0" mass="0.1" diaginertia="1e-4 1e-4 1e-4"/>
         <body name="{s}_foot"><joint name="{s}_ankle_roll" axis="1 0 0" range="-0.5 0.5"/><geom type="capsule" fromto="-0.03 0 -0.03 0.08 0 -0.03" size="0.01"/>{sites}</body>
        </body></body></body></body></body>"""


def arm(side: str, sign: int) -> str:
    s, along = SIDE[side], sign
    return f"""
    <body name="{s}_shoulder_a" pos="0 {0.11 * sign} 0.2"><joint name="{s}_shoulder_roll" axis="1 0 0" range="-2 2"/><inertial pos="0 0 0" mass="0.2" diaginertia="1e-4 1e-4 1e-4"/>
     <body name="{s}_shoulder_b"><joint name="{s}_shoulder_yaw" axis="0 0 1" range="-2.5 2.5"/><inertial pos="0 0 0" mass="0.2" diaginertia="1e-4 1e-4 1e-4"/>
      <body name="{s}_upper_arm"><joint name="{s}_shoulder_twist" axis="0 1 0" range="-2.5 2.5"/><geom type="capsule" fromto="0 {0.04 * along} 0 0 {0.11 * along} 0" size="0.025"/>
       <body name="{s}_forearm" pos="0 {UPPER_ARM * along} 0"><joint name="{s}_elbow" axis="0 0 1" range="{"-2.4 0.1" if sign > 0 else "-0.1 2.4"}"/><geom type="capsule" fromto="0 {0.03 * along} 0 0 {0.1 * along} 0" size="0.02"/>
        <body name="{s}_hand" pos="0 {FOREARM * along} 0"><joint name="{s}_wrist" axis="0 1 0" range="-1.5 1.5"/><geom type="sphere" size="0.03"/></body>
       </body></body></body></body>"""


@pytest.fixture(scope="module")
def mjcf(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("robot") / "toddler.xml"
    path.write_text(f"""<mujoco model="toddler"><compiler angle="radian"/><worldbody>
    <body name="base"><freejoint name="root"/><geom type="sphere" size="0.06" mass="3"/>
    {arm_and_trunk()}{leg("right", -1)}{leg("left", 1)}
    </body></worldbody></mujoco>""")
    return path


def arm_and_trunk() -> str:
    return f"""<body name="trunk" pos="0 0 0.05"><joint name="waist" axis="0 0 1" range="-1.5 1.5"/>
    <geom type="capsule" fromto="0 0 0.06 0 0 0.17" size="0.06"/>{arm("left", 1)}{arm("right", -1)}</body>"""


def table() -> dict:
    return {
        "soles": {side: f"{SIDE[side]}_foot" for side in SIDES},
        "segments": {
            "pelvis": "base",
            "chest": "trunk",
            **{f"{side}_{role}": f"{SIDE[side]}_{body}" for side in SIDES for role, body in (
                ("hip", "thigh"), ("knee", "shank"), ("ankle", "foot"),
                ("shoulder", "upper_arm"), ("elbow", "forearm"), ("wrist", "hand"),
            )},
        },
        "centres": {f"{side}_{joint}": f"{SIDE[side]}_{joint}_a" for side in SIDES for joint in ("hip", "shoulder")},
        "reference": {
            "l_shoulder_roll": -np.pi / 2, "r_shoulder_roll": np.pi / 2, "l_elbow": -np.pi / 2, "r_elbow": np.pi / 2,
        },
    }  # fmt: skip


def load(mjcf: Path, **changed) -> Robot:
    return load_robot(
        mjcf, name="toddler", speed_limit=np.full(23, 15.0), effort_limit=np.full(23, 20.0), **(table() | changed)
    )


@pytest.fixture(scope="module")
def toddler(mjcf) -> Robot:
    return load(mjcf)


def at(robot: Robot, qpos: np.ndarray, body: str) -> np.ndarray:
    return forward_kinematics(robot, qpos)[0][:, robot.body(body)]


def test_it_stands_on_its_soles_as_its_table_says(toddler):
    rest = np.array([[0, 0, 0, 1, 0, 0, 0, *toddler.reference]], float)
    lowest = postures(toddler, rest).lowest[0]
    assert lowest == pytest.approx(-(0.05 + THIGH + SHANK + 0.04), abs=1e-6)
    assert at(toddler, rest, "l_hand")[0] == pytest.approx([FOREARM, 0.11, 0.25 - UPPER_ARM], abs=1e-9)


@pytest.mark.parametrize("kind", ["walk", "squat", "reach"])
def test_it_follows_a_person(toddler, kind):
    done = retarget(human_motion(kind, seed=4, seconds=3.0), toddler)
    motion = done.motion
    # A leg of 0.43 m on a person of about 0.8 m.
    assert 0.4 < done.scale < 0.7
    assert done.fit.position_error.mean() < 0.03 and done.fit.orientation_error.mean() < 0.35
    joints = motion.joint_position
    assert (joints >= toddler.lower - 1e-6).all() and (joints <= toddler.upper + 1e-6).all()
    assert np.abs(np.quantile(done.outside.lowest, [0.05, 0.95])).max() < 0.015
    assert np.median(np.linalg.norm(np.diff(at(toddler, motion.qpos, "l_foot"), axis=0), axis=1)) * 50 < 0.5


def test_hands_go_where_the_persons_go(toddler, g1):
    """Seen from the shoulder and in arm lengths, the two robots' hands point the same way."""
    human = human_motion("reach", seed=4, seconds=3.0)
    ways = []
    for robot, shoulder, hand in (
        (toddler, "l_shoulder_a", "l_hand"), (g1, "left_shoulder_roll_link", "left_wrist_yaw_link"),
    ):  # fmt: skip
        qpos = retarget(human, robot).motion.qpos
        way = at(robot, qpos, hand) - at(robot, qpos, shoulder)
        ways.append(way / np.linalg.norm(way, axis=1, keepdims=True))
    cosine = np.einsum("ta,ta->t", *ways)
    assert np.quantile(cosine, 0.05) > 0.9


def test_it_follows_a_live_stream(toddler):
    human = human_motion("walk", seed=4, seconds=2.0)
    stream = Stream(human.skeleton, 50.0, toddler)
    given = [stream.push(*frame) for frame in zip(human.position, human.rotation, strict=True)]
    qpos = np.array([posture.qpos for posture in given if posture is not None] + [p.qpos for p in stream.finish()])
    whole = retarget(human, toddler).motion.qpos
    assert np.abs(qpos[:, 7:] - whole[:, 7:]).mean() < 0.05


def test_a_mirrored_person_makes_a_mirrored_robot(toddler):
    human = human_motion("squat", seed=4, seconds=1.0)
    qpos = retarget(human, toddler).motion.qpos
    left, right = (at(toddler, qpos, f"{s}_foot") for s in "lr")
    middle, turn = qpos[:, :3], np.broadcast_to(rotations.conjugate(qpos[0, 3:7]), (len(qpos), 4))
    # A squat is about the same on both sides.
    one, other = rotations.rotate(turn, left - middle), rotations.rotate(turn, right - middle)
    assert np.abs(one * [1, -1, 1] - other).max() < 0.05


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"segments": {"pelvis": "base"}}, "segments are pelvis, chest"),
        ({"segments": table()["segments"] | {"chest": "torso"}}, "no bodies torso"),
        ({"segments": table()["segments"] | {"chest": "l_hand"}}, "a body of its own"),
        ({"centres": {}}, "centres are left_hip"),
        ({"soles": {"left": "l_hand", "right": "r_foot", "tail": "base"}}, "soles are left, right"),
        ({"reference": {"l_knie": 1.0}}, "no joints l_knie"),
    ],
)
def test_a_table_that_does_not_fit_the_model_is_refused(mjcf, changed, said):
    with pytest.raises(ValueError, match=said):
        load(mjcf, **changed)
