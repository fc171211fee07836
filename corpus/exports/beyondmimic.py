"""Write robot motion as BeyondMimic's npz: joint angles and speeds, and the state of every body in the world.

Joints and bodies are in MuJoCo's order, as in mjlab; their names go along, which IsaacLab's own files lack.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from corpus import rotations
from corpus.motion import RobotMotion, differentiate
from corpus.robot import Robot, forward_kinematics


def write_beyondmimic(motion: RobotMotion, path: Path, robot: Robot) -> Path:
    """Write `motion` to `path`; body states come from forward kinematics, speeds from central differences."""
    arrays = beyondmimic(motion, robot)
    half_made = path.with_name(f".{path.name}.part")
    with half_made.open("wb") as file:
        np.savez(file, **arrays)
    half_made.replace(path)
    return path


def beyondmimic(motion: RobotMotion, robot: Robot) -> dict[str, Any]:
    """The file's arrays by name: [m], [rad], [m/s], [rad/s]; quaternions wxyz."""
    position, rotation = forward_kinematics(robot, motion.qpos)
    rotation = rotations.continuous(rotation)
    joints = motion.joint_position.astype(np.float64)
    states = {
        "joint_pos": joints,
        "joint_vel": differentiate(joints, motion.fps),
        "body_pos_w": position,
        "body_quat_w": rotation,
        "body_lin_vel_w": differentiate(position, motion.fps),
        "body_ang_vel_w": rotations.angular_velocity(rotation, motion.fps),
    }
    return {
        "fps": np.array([motion.fps]),
        **{name: np.ascontiguousarray(array, dtype=np.float32) for name, array in states.items()},
        "joint_names": np.array(robot.joint_names),
        "body_names": np.array(robot.body_names),
    }
