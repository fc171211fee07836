"""A BVH's frames one at a time, as the file reader makes a person of a whole file."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from corpus import rotations
from corpus.errors import Rejected
from corpus.skeleton import Skeleton
from corpus.sources.bvh import (
    _IDENTITY,
    _Z_UP_NOTE,
    _known_bones,
    _metres,
    _roots,
    _with_toes,
    generic_motion,
    known_motion,
    known_skeleton,
)
from corpus.sources.bvh_file import BvhFile, bone_offsets, parse_bvh, world_motion
from corpus.sources.bvh_skeleton import SkeletonFile, roles_by_name


@dataclass(frozen=True)
class LiveBvh:
    """What does not change from frame to frame."""

    skeleton: Skeleton
    file: BvhFile
    kept: list[int]
    """Which of the file's joints the skeleton has."""
    metre: float
    """Metres per unit of the file."""
    turn: Float[np.ndarray, " 4"]
    """From the file's axes to z up."""

    def pose(self, values: Float[np.ndarray, " C"]) -> tuple[Float[np.ndarray, "J 3"], Float[np.ndarray, "J 4"]]:
        """World positions [m] and orientations, z up, of a frame's channel values."""
        position, rotation = world_motion(replace(self.file, values=values[None]), self.turn, self.kept)
        return position[0] * self.metre, rotation[0]


def read_hierarchy(text: str) -> BvhFile:
    """A file of two frames, all zero, from the text between HIERARCHY and MOTION; `Rejected` where it is broken."""
    empty = _channel_count(text)
    zeros = (" ".join(["0"] * empty) + "\n") * 2
    return parse_bvh((text + "\nMOTION\nFrames: 2\nFrame Time: 0.02\n" + zeros).encode("utf-8", "backslashreplace"))


def _channel_count(text: str) -> int:
    """How many numbers a frame has, as the text counts them; `read_hierarchy` then looks closer."""
    words = text.split()
    counts = [words[i + 1] for i, word in enumerate(words[:-1]) if word.upper() == "CHANNELS"]
    if not counts or not all(count.isdecimal() and len(count) <= 2 for count in counts):
        raise Rejected("bad_hierarchy", "CHANNELS is followed by a count")
    return sum(map(int, counts))


def live_bvh(file: BvhFile, first: Float[np.ndarray, " C"], own: SkeletonFile | None = None, up: str = "") -> LiveBvh:
    """How frames of this header are read; unit, bones and, where `up` does not say it, the vertical are told by the first."""
    file = replace(file, values=np.stack([first, first]))
    if own is not None and own.rest is not None:
        raise Rejected("unknown_skeleton", "a live take has no rest frame: the pose at zero angles must stand upright")
    told = own is not None and set(own.roles.values()) <= set(file.joint_names)
    name = "" if told else known_skeleton(file)
    if name:
        motion, bones = known_motion(file, name), bone_offsets(file)
        bones[_roots(file.joint_names, file.parents)] = 0.0
        kept, _, metre, _ = _known_bones(file.joint_names, file.parents, bones.tobytes(), name)
    else:
        own = own if told and own else SkeletonFile(roles_by_name(file.joint_names, file.parents))
        own = replace(own, up=up or own.up)
        motion = generic_motion(file, own, note="")
        file, roles = _with_toes(file, own.roles)
        kept = sorted(file.joint_names.index(joint) for joint in roles.values())
        metre, _ = _metres(file.joint_names, file.parents, roles, bone_offsets(file), own)
        up = own.up
    z_up = up == "z" or (up == "" and _Z_UP_NOTE in motion.note)
    return LiveBvh(motion.skeleton, file, kept, metre, _IDENTITY if z_up else rotations.Y_UP_TO_Z_UP)
