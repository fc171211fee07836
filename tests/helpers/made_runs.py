"""Runs by formula: what a controller would have written down, without one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from corpus.g1 import G1
from corpus.motion import RobotMotion, velocity
from corpus.posture import postures
from deploy.contract import GAINS, STANDING, Contract
from deploy.log import RunLog, Step
from deploy.messages import LowCmd, LowState


def squat(seconds: float = 4.0, *, deep: float = 0.25, period_s: float = 2.0) -> RobotMotion:
    """Down and up on both soles, trunk upright, over one place."""
    t = np.arange(round(seconds * 50)) / 50
    qpos = np.zeros((len(t), 36))
    qpos[:, 3], qpos[:, 7:] = 1.0, STANDING
    bend = deep * (1 - np.cos(2 * np.pi * t / period_s))
    for side in ("left", "right"):
        for joint, share in (("hip_pitch", -1), ("knee", 2), ("ankle_pitch", -1)):
            qpos[:, 7 + G1.joint_names.index(f"{side}_{joint}_joint")] += share * bend
    qpos[:, 2] -= postures(G1, qpos, soles_only=True).lowest
    return RobotMotion(qpos, 50.0)


def step_of(
    number: int,
    qpos: np.ndarray,
    qvel: np.ndarray,
    reference: np.ndarray | None,
    *,
    mode: str = "track",
    time_s: float | None = None,
) -> Step:
    """The control period of a robot in this state."""
    state = LowState(
        tick=number * 20,
        mode_machine=5,
        joint_position=qpos[7:],
        joint_speed=qvel[6:],
        torque=np.zeros(29),
        root_rotation=qpos[3:7],
        angular_velocity=qvel[3:6],
        acceleration=np.array([0, 0, 9.81]),
        temperature=np.full(29, 40.0),
        motor_fault=np.zeros(29, int),
    )
    command = LowCmd(qpos[7:], GAINS.kp, GAINS.kd)
    when = 100.0 + number * 0.02 if time_s is None else time_s
    action = None if reference is None else np.zeros(29)
    stages = {"read": 1e-5, "infer": 4e-4} if reference is not None else {"read": 1e-5}
    return Step(when, state, mode, reference, action, command, stages, "live" if reference is not None else "")


def write_run(
    path: Path,
    robot: RobotMotion,
    reference: RobotMotion | None = None,
    *,
    modes: list[str] | None = None,
    time_s: np.ndarray | None = None,
    **options: str,
) -> Path:
    """A run in which the robot did this; its reference is the same motion unless given."""
    asked, qvel = (reference or robot).qpos, velocity(robot)
    with RunLog(path, Contract(), {"made": "by formula"}, **options) as log:
        for i in range(robot.frame_count):
            mode = modes[i] if modes else "track"
            when = None if time_s is None else float(time_s[i])
            shown = asked[i] if mode == "track" else None
            log.add(step_of(i, robot.qpos[i], qvel[i], shown, mode=mode, time_s=when))
    return path
