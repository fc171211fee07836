"""What a G1 file does not say about itself: the order of its quaternions and joints, and whether it is a G1 at all."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from corpus import rotations
from corpus.errors import Rejected
from corpus.g1 import G1, JOINTS_23, MUJOCO_TO_ISAACLAB
from corpus.motion import RobotMotion, check_fps
from corpus.robot import forward_kinematics

LIMIT_SLACK = 0.35
"""Joint angles further than this beyond the G1's range are not the G1's [rad]."""
UPRIGHT, TILTED = 0.8, 0.5
"""Cosine of the pelvis' tilt that a standing robot reaches, and that a motion must reach somewhere to be plausible."""
BODY_TOLERANCE = 0.06
"""How far bodies by our kinematics may lie from those in a file [m]: revisions of the G1 differ by centimetres."""
SAMPLES = 600
"""Frames looked at where a whole clip would tell no more."""


def g1_motion(
    root_position: Any, root_rotation: Any, joints: Any, fps: Any, *, order: str, note: str = ""
) -> RobotMotion:
    """Put a motion together from a file's tables, checking shapes, rate, quaternions, gravity and joint ranges.

    `order` is that of the quaternions: "wxyz", "xyzw", or "auto" where nothing says it; 23 joints are lifted to 29.
    """
    position, rotation = as_matrix(root_position, "root position"), as_matrix(root_rotation, "root rotation")
    angles, lifted = widen(as_matrix(joints, "joints"))
    if position.shape != (len(angles), 3) or rotation.shape != (len(angles), 4):
        shapes = f"{position.shape}, {rotation.shape}, {angles.shape}"
        raise Rejected(
            "wrong_shape", "root position (T, 3), rotation (T, 4) and joints should go together", shape=shapes
        )
    if len(angles) < 2:
        raise Rejected("too_short", "fewer than two frames", frames=len(angles), minimum=2)
    fps = rate(fps)
    check_fps(fps)
    require_finite(position, rotation, angles)
    _check_units(position, angles)
    length = np.linalg.norm(rotation, axis=1, keepdims=True)
    if np.abs(length - 1).max() > 0.1:
        raise Rejected(
            "bad_quaternion", "root quaternions are not of unit length", worst=float(np.abs(length - 1).max())
        )
    choices = {"wxyz": rotation / length, "xyzw": np.roll(rotation / length, 1, axis=1)}
    if order == "auto":
        order = _quaternion_order(choices, position, angles, fps)
    check_upright(choices[order])
    qpos = np.concatenate([position, rotations.continuous(choices[order]), angles], 1)
    return RobotMotion(qpos, fps, note="; ".join(filter(None, (note, lifted))))


def _check_units(position: Float[np.ndarray, "T 3"], joints: Float[np.ndarray, "T 29"]) -> None:
    """Rejected where the numbers cannot be a G1's in metres and radians."""
    beyond = np.maximum(joints - G1.upper, G1.lower - joints).max(1)
    if np.mean(beyond > LIMIT_SLACK) > 0.5:
        largest = float(np.abs(joints).max())
        reason = "bad_unit" if largest > 2 * np.pi else "not_g1"
        hint = "angles look like degrees" if reason == "bad_unit" else "most frames lie outside the G1's joint limits"
        raise Rejected(reason, hint, largest=largest, beyond=float(np.median(beyond)), limit=LIMIT_SLACK)
    height = float(np.median(np.abs(position[:, 2])))
    if height > 10:
        raise Rejected("bad_unit", "the pelvis' height looks like centimetres", height=height)


def check_upright(chosen: Float[np.ndarray, "T 4"]) -> None:
    """Rejected where a root whose order the format states never stands up, and would do so read the other way."""
    other = {"as wxyz": np.roll(chosen, -1, axis=1), "as xyzw": np.roll(chosen, 1, axis=1)}
    if _best_up(chosen) > TILTED:
        return
    for how, quaternion in other.items():
        if np.median(_up(quaternion)) > UPRIGHT:
            raise Rejected("not_upright", f"the root stands up only when read {how}", up=_best_up(chosen))


def _quaternion_order(choices: dict[str, np.ndarray], position: np.ndarray, joints: np.ndarray, fps: float) -> str:
    """The gravity test; where both orders stand, the one whose supporting foot lies flat and still."""
    plausible = [order for order, quaternion in choices.items() if _best_up(quaternion) > UPRIGHT]
    if len(plausible) == 1:
        return plausible[0]
    typical = {order: float(np.median(_up(quaternion))) for order, quaternion in choices.items()}
    first, second = sorted(typical, key=lambda order: -typical[order])
    if typical[first] - typical[second] > 0.3 and typical[first] > TILTED:
        return first
    cost = {o: _footing_cost(np.concatenate([position, q, joints], 1), fps) for o, q in choices.items()}
    first, second = sorted(cost, key=lambda order: cost[order])
    if cost[second] - cost[first] > 0.02 and cost[first] < 0.8 * cost[second] and typical[first] > 0:
        return first
    numbers = {
        f"{name}_{order}": values[order] for name, values in (("up", typical), ("foot", cost)) for order in choices
    }
    raise Rejected("ambiguous_quaternion", "both orders look upright: pass --quat wxyz or --quat xyzw", **numbers)


def _up(quaternion: Float[np.ndarray, "T 4"]) -> Float[np.ndarray, " T"]:
    """Vertical component of the root's own up axis: 1 standing, 0 lying, −1 upside down."""
    return 1 - 2 * (quaternion[:, 1] ** 2 + quaternion[:, 2] ** 2)


def _best_up(quaternion: np.ndarray) -> float:
    return float(np.percentile(_up(quaternion), 95))


def _footing_cost(qpos: Float[np.ndarray, "T 36"], fps: float) -> float:
    """How far the lower foot is from flat [rad] and still [m/s] in the typical frame; a wrong heading shows."""
    start = max(0, (len(qpos) - SAMPLES) // 2)
    position, rotation = forward_kinematics(G1, qpos[start : start + SAMPLES])
    feet = [G1.body("left_ankle_roll_link"), G1.body("right_ankle_roll_link")]
    lower = np.argmin(position[:, feet, 2], 1)
    rows = np.arange(len(lower))
    speed = np.linalg.norm(np.diff(position[:, feet], axis=0), axis=2)[rows[:-1], lower[:-1]] * fps
    tilt = np.arccos(np.clip(_up(rotation[rows, np.array(feet)[lower]]), -1, 1))
    return float(np.median(speed) + np.median(tilt))


def joints_in_mujoco_order(
    root: Float[np.ndarray, "T 7"], joints: Float[np.ndarray, "T 29"], bodies: Float[np.ndarray, "T B 3"]
) -> tuple[Float[np.ndarray, "T 29"], str]:
    """Joints of a simulator's file in our order, and a note: the order whose bodies lie where the file says they do."""
    require_finite(root, joints, bodies)
    choices = {"MuJoCo": joints, "IsaacLab": joints[:, MUJOCO_TO_ISAACLAB]}
    if bodies.shape[1] < len(JOINTS_23):
        worst = {name: _beyond_limits(q) for name, q in choices.items()}
    else:
        worst = {name: _body_error(np.concatenate([root, q], 1), bodies) for name, q in choices.items()}
    first, second = sorted(worst, key=lambda name: worst[name])
    if worst[first] > BODY_TOLERANCE:
        raise Rejected("not_g1", "the file's bodies do not lie where a G1's would", **_rounded(worst))
    if worst[second] - worst[first] < 1e-6:
        raise Rejected("ambiguous_joint_order", "joints fit MuJoCo's and IsaacLab's order alike", **_rounded(worst))
    return choices[first], "" if first == "MuJoCo" else "joints were in IsaacLab's order"


def _body_error(qpos: np.ndarray, bodies: np.ndarray) -> float:
    """Mean distance from each of our bodies to the nearest one in the file [m]; bodies may stand in any order."""
    step = max(1, len(qpos) // 20)
    ours, theirs = forward_kinematics(G1, qpos[::step])[0], bodies[::step]
    apart = np.linalg.norm(ours[:, :, None] - theirs[:, None], axis=3)
    return float(apart.min(2).mean())


def _beyond_limits(joints: np.ndarray) -> float:
    return float(np.maximum(np.maximum(joints - G1.upper, G1.lower - joints), 0).mean())


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {f"error_{name.lower()}": round(value, 4) for name, value in values.items()}


def widen(joints: Float[np.ndarray, "T N"]) -> tuple[Float[np.ndarray, "T 29"], str]:
    """29 joints and a note from 29 or 23; the wrists a 23-joint G1 lacks are at zero."""
    if joints.ndim != 2:
        raise Rejected("wrong_shape", "joint angles should be (T, 29) or (T, 23)", shape=str(joints.shape))
    if joints.shape[1] == G1.joint_count:
        return joints, ""
    if joints.shape[1] != len(JOINTS_23):
        raise Rejected("not_g1", "a G1 has 29 joints, or 23 without its wrists", joints=joints.shape[1])
    lifted = np.zeros((len(joints), G1.joint_count), joints.dtype)
    lifted[:, JOINTS_23] = joints
    return lifted, "23 joints lifted to 29: wrists at zero"


def require_finite(*arrays: np.ndarray) -> None:
    for array in arrays:
        bad = ~np.isfinite(array.reshape(len(array), -1)).all(1)
        if bad.any():
            raise Rejected("not_finite", "the file holds NaN or infinity", bad_frames=int(bad.sum()))


def rate(value: Any) -> float:
    """A frame rate as a number [Hz] from whatever a file holds."""
    if value is None:
        raise Rejected("missing_key", "the file carries no frame rate: pass --fps", key="fps")
    try:
        return float(np.asarray(value, float).ravel()[0])
    except (TypeError, ValueError, IndexError):
        raise Rejected("bad_frame_rate", "the frame rate is not a number", fps=str(value)[:40]) from None


def as_matrix(value: Any, name: str) -> Float[np.ndarray, "T C"]:
    try:
        array = np.asarray(value, float)
    except (TypeError, ValueError):
        raise Rejected("wrong_shape", f"{name} is not an array of numbers") from None
    if array.ndim != 2:
        raise Rejected("wrong_shape", f"{name} should have two dimensions", shape=str(array.shape))
    return array
