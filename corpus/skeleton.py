"""A skeleton: named joints in a tree with bone offsets, and forward kinematics over whole clips at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from corpus import rotations
from corpus.errors import Rejected


@dataclass(frozen=True)
class Skeleton:
    """Joints in an order in which every parent comes before its children."""

    name: str
    """Which correspondence table fits: a key of `retarget.correspondence.CORRESPONDENCES`, or "generic"."""
    joint_names: tuple[str, ...]
    parents: tuple[int, ...]
    """Index of each joint's parent; −1 for the root."""
    offsets: Float[np.ndarray, "J 3"]
    """Each joint's position in its parent's frame [m]."""
    roles: tuple[tuple[str, str], ...] = ()
    """For "generic": pairs (role, joint name), the roles those of `ROLES`."""
    rest_rotation: Float[np.ndarray, "J 4"] | None = None
    """For "generic": world orientation of each joint while the person stands upright in a T-pose facing +x."""

    def __post_init__(self) -> None:
        count = len(self.joint_names)
        if len(set(self.joint_names)) != count:
            twice = next(n for n in self.joint_names if self.joint_names.count(n) > 1)
            raise Rejected("joint_named_twice", f"joint {twice!r} occurs more than once", joint=twice)
        if any(parent >= joint for joint, parent in enumerate(self.parents)) or self.parents[0] != -1:
            raise Rejected("bad_hierarchy", "a parent must come before its children, and the first joint is the root")
        if self.offsets.shape != (count, 3) or len(self.parents) != count:
            raise Rejected("wrong_shape", f"offsets should be ({count}, 3)", shape=str(self.offsets.shape))

    @property
    def joint_count(self) -> int:
        return len(self.joint_names)

    def index(self, joint: str) -> int:
        """Position of a joint in the arrays; Rejected where the skeleton has no such joint."""
        try:
            return self.joint_names.index(joint)
        except ValueError:
            raise Rejected("missing_joint", f"has: {', '.join(self.joint_names)}", joint=joint) from None


ROLES = (
    "pelvis", "chest", "neck", "head",
    "left_hip", "left_knee", "left_ankle", "left_toe", "right_hip", "right_knee", "right_ankle", "right_toe",
    "left_shoulder", "left_elbow", "left_wrist", "right_shoulder", "right_elbow", "right_wrist",
)  # fmt: skip
"""What a joint is on a human body, by the joint at its upper end ("left_knee" turns the left shank)."""


def forward_kinematics(
    skeleton: Skeleton,
    root_position: Float[np.ndarray, "T 3"],
    local_rotation: Float[np.ndarray, "T J 4"],
    *,
    local_position: Float[np.ndarray, "T J 3"] | None = None,
) -> tuple[Float[np.ndarray, "T J 3"], Float[np.ndarray, "T J 4"]]:
    """World positions [m] and orientations of all joints.

    `local_position` replaces the bone offsets where a file animates them (6-channel BVH); the root's row is unused.
    """
    frame_count, joint_count = local_rotation.shape[:2]
    position = np.empty((joint_count, frame_count, 3))
    rotation = np.empty((joint_count, frame_count, 4))
    local = local_rotation.transpose(1, 0, 2)
    for joints, parents in _generations(skeleton.parents):
        if parents[0] < 0:
            position[joints] = root_position
            rotation[joints] = local[joints]
            continue
        if local_position is None:
            bones = np.broadcast_to(skeleton.offsets[joints, None], (len(joints), frame_count, 3))
        else:
            bones = local_position.transpose(1, 0, 2)[joints]
        above = rotation[parents]
        position[joints] = position[parents] + rotations.rotate(above, bones)
        rotation[joints] = rotations.multiply(above, local[joints])
    return position.transpose(1, 0, 2), rotation.transpose(1, 0, 2)


def _generations(parents: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """Joints of the same depth with their parents, from the root down: one pass serves them all."""
    depths: list[int] = []
    for parent in parents:
        depths.append(depths[parent] + 1 if parent >= 0 else 0)
    generations = [[j for j, depth in enumerate(depths) if depth == level] for level in range(max(depths) + 1)]
    return [(joints, [parents[joint] for joint in joints]) for joints in generations]
