"""Where the robot's bodies are and how they move, for many robots at once: one Warp kernel, a thread per robot."""

# Warp's annotations are for its own compiler; to a type checker they are calls and its scalars are not what they seem.
# pyright: reportInvalidTypeForm=false, reportArgumentType=false, reportCallIssue=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false, reportAttributeAccessIssue=false, reportIndexIssue=false, reportReturnType=false

import functools
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import warp as wp
from jaxtyping import Float

from corpus.g1 import G1, KEY_BODIES
from corpus.robot import Robot
from corpus.warp_tools import multiply, ready, rotate, view

KEY = np.array([G1.body(name) for name in KEY_BODIES])


@dataclass(frozen=True)
class BodyStates:
    """Of N robots' key bodies (`corpus.g1.KEY_BODIES`, in that order), in the world."""

    position: Float[np.ndarray, "N B 3"]
    """Of each body's origin [m]."""
    rotation: Float[np.ndarray, "N B 4"]
    velocity: Float[np.ndarray, "N B 3"]
    """Of each body's origin [m/s]."""
    turning: Float[np.ndarray, "N B 3"]
    """Angular velocity [rad/s]."""

    def rows(self, rows: Any) -> "BodyStates":
        """Some robots' bodies, as views where `rows` is a slice."""
        return BodyStates(*(getattr(self, name)[rows] for name in _ARRAYS))

    def put(self, rows: Any, others: "BodyStates") -> None:
        """Write others' bodies in the place of these rows."""
        for name in _ARRAYS:
            getattr(self, name)[rows] = getattr(others, name)


_ARRAYS = ("position", "rotation", "velocity", "turning")


def body_states(qpos: Float[np.ndarray, "N 36"], qvel: Float[np.ndarray, "N 35"]) -> BodyStates:
    """Forward kinematics of the G1; `qvel` as `corpus.motion.velocity`."""
    state, bodies, launch = _room(len(qpos), threading.get_ident())
    state[:, : qpos.shape[1]], state[:, qpos.shape[1] :] = qpos, qvel
    launch.launch()
    key = bodies[:, KEY]  # a copy
    return BodyStates(key[..., :3], key[..., 3:7], key[..., 7:10], key[..., 10:])


@functools.lru_cache(maxsize=64)
def _room(count: int, thread: int) -> tuple[np.ndarray, np.ndarray, Any]:
    """Arrays for so many robots, and the launch that fills the second from the first, made ready once: it costs as much as running it."""
    state = np.zeros((count, 2 * G1.joint_count + 13))
    bodies = np.empty((count, G1.body_count, 13))
    return state, bodies, ready(_bodies, count, [_tree(G1), view(state, wp.float64), view(bodies, wp.float64)])


@wp.struct
class Tree:
    """A robot's tree of bodies, as the kernel reads it: body i + 1 hangs on a hinge at its own origin."""

    body_count: wp.int32
    parent: wp.array(dtype=wp.int32)
    offset: wp.array(dtype=wp.vec3d)
    rotation: wp.array(dtype=wp.vec4d)
    axis: wp.array(dtype=wp.vec3d)


@functools.cache
def _tree(robot: Robot) -> Any:
    tree = Tree()
    tree.body_count = robot.body_count
    tree.parent = wp.array(np.array(robot.parents, np.int32), dtype=wp.int32, device="cpu")
    tree.offset = wp.array(robot.body_offset, dtype=wp.vec3d, device="cpu")
    tree.rotation = wp.array(robot.body_rotation, dtype=wp.vec4d, device="cpu")
    tree.axis = wp.array(robot.joint_axis, dtype=wp.vec3d, device="cpu")
    return tree


@wp.func
def vec3_at(rows: wp.array3d(dtype=wp.float64), i: wp.int32, body: wp.int32, column: wp.int32) -> wp.vec3d:
    return wp.vec3d(rows[i, body, column], rows[i, body, column + 1], rows[i, body, column + 2])


@wp.func
def write(
    rows: wp.array3d(dtype=wp.float64),
    i: wp.int32,
    body: wp.int32,
    position: wp.vec3d,
    rotation: wp.vec4d,
    velocity: wp.vec3d,
    turning: wp.vec3d,
):
    for k in range(3):
        rows[i, body, k] = position[k]
        rows[i, body, 7 + k] = velocity[k]
        rows[i, body, 10 + k] = turning[k]
    for k in range(4):
        rows[i, body, 3 + k] = rotation[k]


@wp.kernel(enable_backward=False, module="unique")
def _bodies(tree: Tree, state: wp.array2d(dtype=wp.float64), bodies: wp.array3d(dtype=wp.float64)):
    """A row of `state` is qpos and qvel; a row of `bodies` position, rotation, velocity, turning of every body."""
    i = wp.tid()
    joints = tree.body_count - 1
    root = wp.vec3d(state[i, 0], state[i, 1], state[i, 2])
    turn = wp.normalize(wp.vec4d(state[i, 3], state[i, 4], state[i, 5], state[i, 6]))
    at = 7 + joints  # where qvel begins
    linear = wp.vec3d(state[i, at], state[i, at + 1], state[i, at + 2])
    angular = rotate(turn, wp.vec3d(state[i, at + 3], state[i, at + 4], state[i, at + 5]))
    write(bodies, i, 0, root, turn, linear, angular)
    for body in range(1, tree.body_count):
        parent = tree.parent[body]
        above = wp.vec4d(bodies[i, parent, 3], bodies[i, parent, 4], bodies[i, parent, 5], bodies[i, parent, 6])
        lever = rotate(above, tree.offset[body])
        fixed = multiply(above, tree.rotation[body])
        axis = rotate(fixed, tree.axis[body - 1])
        half = wp.float64(0.5) * state[i, 6 + body]
        own = tree.axis[body - 1] * wp.sin(half)
        frame = multiply(fixed, wp.vec4d(wp.cos(half), own[0], own[1], own[2]))
        above_turning = vec3_at(bodies, i, parent, 10)
        velocity = vec3_at(bodies, i, parent, 7) + wp.cross(above_turning, lever)
        turning = above_turning + axis * state[i, at + 5 + body]
        write(bodies, i, body, vec3_at(bodies, i, parent, 0) + lever, frame, velocity, turning)
