"""How low a posture reaches: the lowest point of soles and capsules, quickly for a few frames at a time, without Warp."""

from __future__ import annotations

import functools

import numpy as np
from jaxtyping import Float

from corpus import rotations
from corpus.g1 import G1


def lowest(qpos: Float[np.ndarray, "T 36"]) -> Float[np.ndarray, " T"]:
    """Height of the robot's lowest point in each frame [m]."""
    shape, count = _shape(), len(qpos)
    up = np.empty((G1.body_count, count, 3))  # the world's vertical, seen from each body
    height = np.empty((G1.body_count, count))
    local = _local_turns(np.asarray(qpos[:, 7:], np.float64))
    up[0] = rotations.to_matrix(rotations.normalise(np.asarray(qpos[:, 3:7], np.float64)))[:, 2]
    height[0] = qpos[:, 2]
    for bodies, parents in shape.levels:
        height[bodies] = height[parents] + (up[parents] * G1.body_offset[bodies, None]).sum(-1)
        up[bodies] = (up[parents][..., None] * local[bodies - 1]).sum(-2)
    reach = height[shape.body] + (up[shape.body] * shape.point[:, None]).sum(-1) - shape.radius[:, None]
    return reach.min(0)


def _local_turns(joints: Float[np.ndarray, "T 29"]) -> Float[np.ndarray, "29 T 3 3"]:
    """Of each body in its parent: the fixed turn, then the joint's."""
    shape, angle = _shape(), joints.T[..., None, None]
    return shape.fixed + np.sin(angle) * shape.sine + (1 - np.cos(angle)) * shape.cosine


class _Shape:
    """The robot's tree level by level, and the points that may be lowest."""

    def __init__(self) -> None:
        depth = [0]
        for parent in G1.parents[1:]:
            depth.append(depth[parent] + 1)
        parents = np.array(G1.parents)
        groups = [np.flatnonzero(np.array(depth) == level) for level in range(1, max(depth) + 1)]
        self.levels = [(bodies, parents[bodies]) for bodies in groups]
        fixed = rotations.to_matrix(G1.body_rotation[1:])
        x, y, z = G1.joint_axis.T
        zero = 0 * x
        cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(-1, 3, 3)
        self.fixed, self.sine, self.cosine = (m[:, None] for m in (fixed, fixed @ cross, fixed @ cross @ cross))
        soles = [(G1.body(body), point, 0.0) for body, points in G1.ground_points.values() for point in points]
        ends = [(c.body, end, c.radius) for c in G1.capsules for end in (c.start, c.end)]
        body, point, radius = zip(*soles, *ends, strict=True)
        self.body, self.point, self.radius = np.array(body), np.array(point), np.array(radius)


_shape = functools.cache(_Shape)
