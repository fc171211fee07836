"""The Unitree G1 with 29 joints, as a value: `G1`.

Speed limits are the motors' own, effort limits revision 1.0's; both from Unitree's description (BSD-3, see NOTICE).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from corpus.robot import Robot, load_robot

_LEG_SPEED, _LEG_EFFORT = (32, 32, 32, 20, 37, 37), (88, 139, 88, 139, 50, 50)
_WAIST_SPEED, _WAIST_EFFORT = (32, 37, 37), (88, 50, 50)
_ARM_SPEED, _ARM_EFFORT = (37, 37, 37, 37, 37, 37, 37), (25, 25, 25, 25, 25, 5, 5)

SIDES = ("left", "right")

G1: Robot = load_robot(
    Path(__file__).parent / "models" / "g1_29dof.xml",
    name="g1",
    speed_limit=np.array([*_LEG_SPEED, *_LEG_SPEED, *_WAIST_SPEED, *_ARM_SPEED, *_ARM_SPEED], float),
    effort_limit=np.array([*_LEG_EFFORT, *_LEG_EFFORT, *_WAIST_EFFORT, *_ARM_EFFORT, *_ARM_EFFORT], float),
    soles={side: f"{side}_ankle_roll_link" for side in SIDES},
    segments={
        "pelvis": "pelvis",
        "chest": "torso_link",
        **{f"{side}_{role}": f"{side}_{link}_link" for side in SIDES for role, link in (
            ("hip", "hip_yaw"), ("knee", "knee"), ("ankle", "ankle_roll"),
            ("shoulder", "shoulder_yaw"), ("elbow", "elbow"), ("wrist", "wrist_yaw"),
        )},
    },
    centres={f"{side}_{joint}": f"{side}_{joint}_roll_link" for side in SIDES for joint in ("hip", "shoulder")},
)  # fmt: skip

KEY_BODIES = (
    "pelvis",
    "left_hip_roll_link", "left_knee_link", "left_ankle_roll_link",
    "right_hip_roll_link", "right_knee_link", "right_ankle_roll_link",
    "torso_link",
    "left_shoulder_roll_link", "left_elbow_link", "left_wrist_yaw_link",
    "right_shoulder_roll_link", "right_elbow_link", "right_wrist_yaw_link",
)  # fmt: skip
"""The fourteen bodies by which the field measures tracking and retargeting."""

JOINTS_23 = tuple(
    i
    for i, name in enumerate(G1.joint_names)
    if not name.endswith(("wrist_roll_joint", "wrist_pitch_joint", "wrist_yaw_joint"))
)
"""Where the joints of the 23-joint G1 stand among the 29."""

MUJOCO_TO_ISAACLAB = (
    0,
    3,
    6,
    9,
    13,
    17,
    1,
    4,
    7,
    10,
    14,
    18,
    2,
    5,
    8,
    11,
    15,
    19,
    21,
    23,
    25,
    27,
    12,
    16,
    20,
    22,
    24,
    26,
    28,
)
"""Entry m is the place of MuJoCo's joint m in IsaacLab's (breadth-first) order."""
