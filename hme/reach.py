"""Where hands and feet are, seen from the root: what joint angles tell only together. One thread per sample.

Positions of wrists and ankles in the root's own frame depend on joint angles alone: on no place, no heading, and no posture
in which one is undefined.
"""

# Warp's annotations are for its own compiler; to a type checker they are calls and its scalars are not what they seem.
# pyright: reportInvalidTypeForm=false, reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false
# pyright: reportOperatorIssue=false

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import warp as wp
from jaxtyping import Float, Int

import corpus.warp_tools  # noqa: F401  Warp's settings, before its first use
from corpus.errors import MotionloomError
from corpus.robot import Robot

ENDS = ("left_wrist", "right_wrist", "left_ankle", "right_ankle")
"""Segments whose bodies' origins are told."""


@dataclass(frozen=True)
class Limbs:
    """The links from the root to each end, chain after chain."""

    start: Int[np.ndarray, " E+1"]
    """Chain e is links `start[e]` to `start[e + 1]`."""
    joint: Int[np.ndarray, " L"]
    """The joint that moves each link."""
    offset: Float[np.ndarray, "L 3"]
    """From the link before, in its frame [m]."""
    rotation: Float[np.ndarray, "L 4"]
    """Likewise, `[w x y z]`, at angle zero."""
    axis: Float[np.ndarray, "L 3"]
    """Of the joint, in the link's frame."""

    @classmethod
    def of(cls, robot: Robot) -> "Limbs":
        chains = [_chain(robot, robot.body(robot.segments[end])) for end in ENDS]
        body = np.concatenate(chains)
        return cls(
            np.cumsum([0, *map(len, chains)]).astype(np.int32),
            (body - 1).astype(np.int32),
            robot.body_offset[body].astype(np.float32),
            robot.body_rotation[body].astype(np.float32),
            robot.joint_axis[body - 1].astype(np.float32),
        )

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Limbs":
        """As `vars` gives them."""
        return cls(**{name: arrays[name] for name in cls.__dataclass_fields__})


def reach(limbs: Limbs, joint_position: Float[np.ndarray, "R N"]) -> Float[np.ndarray, "R 3*E"]:
    """Positions of the ends in the root's frame [m], by joint angles [rad]."""
    if joint_position.shape[1] <= limbs.joint.max():
        raise MotionloomError(
            f"The motions have {joint_position.shape[1]} joints, these limbs are of a robot with {limbs.joint.max() + 1} at least."
        )
    angles = np.ascontiguousarray(joint_position, np.float32)
    out = np.empty((len(angles), 3 * (len(limbs.start) - 1)), np.float32)
    wp.launch(
        follow,
        dim=len(angles),
        inputs=[
            _array(limbs.start, int), _array(limbs.joint, int), _array(limbs.offset, wp.vec3),
            _array(limbs.rotation[:, [1, 2, 3, 0]], wp.quat), _array(limbs.axis, wp.vec3), _array(angles, float),
            _array(out, float),
        ],
        device="cpu",
    )  # fmt: skip
    return out


@wp.kernel(module="unique")
def follow(
    start: wp.array(dtype=int), joint: wp.array(dtype=int), offset: wp.array(dtype=wp.vec3),
    rotation: wp.array(dtype=wp.quat), axis: wp.array(dtype=wp.vec3), angles: wp.array2d(dtype=float),
    out: wp.array2d(dtype=float),
):  # fmt: skip
    """Each chain from the root outwards."""
    i = wp.tid()
    for end in range(start.shape[0] - 1):
        place = wp.vec3(0.0, 0.0, 0.0)
        turn = wp.quat(0.0, 0.0, 0.0, 1.0)
        for link in range(start[end], start[end + 1]):
            place = place + wp.quat_rotate(turn, offset[link])
            turn = turn * rotation[link] * wp.quat_from_axis_angle(axis[link], angles[i, joint[link]])
        for k in range(3):
            out[i, 3 * end + k] = place[k]


def _chain(robot: Robot, body: int) -> np.ndarray:
    links = []
    while body:
        links.append(body)
        body = int(robot.parents[body])
    return np.array(links[::-1])


def _array(values: np.ndarray, dtype: object) -> wp.array:
    return wp.array(np.ascontiguousarray(values), dtype=dtype, device="cpu", copy=False)
