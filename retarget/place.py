"""Where targets lie, as sums of a person's joints, of vectors fixed in segments, and of steps towards a joint."""

# Warp's annotations are for its own compiler; to a type checker they are calls and its scalars are not what they seem.
# pyright: reportInvalidTypeForm=false, reportArgumentType=false, reportCallIssue=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false, reportAttributeAccessIssue=false, reportIndexIssue=false, reportReturnType=false

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import warp as wp
from jaxtyping import Float

from corpus.warp_tools import multiply, ready, rotate, slerp, view

Role = str


@dataclass(frozen=True)
class Place:
    """A point of the world, frame by frame, as a sum."""

    joints: dict[Role, float] = field(default_factory=dict)
    """Joint positions, each times a factor."""
    vectors: dict[Role, np.ndarray] = field(default_factory=dict)
    """Vectors fixed in segments [m]."""
    steps: dict[tuple[Role, Role], float] = field(default_factory=dict)
    """From one joint towards another, so far [m]."""
    fixed: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """The same in all frames [m]."""

    def __add__(self, other: "Place") -> "Place":
        x, y, z = (a + b for a, b in zip(self.fixed, other.fixed, strict=True))
        return Place(
            _sum(self.joints, other.joints), _sum(self.vectors, other.vectors), _sum(self.steps, other.steps), (x, y, z)
        )


def joint(role: Role, factor: float) -> Place:
    """A joint's position times a factor."""
    return Place(joints={role: factor})


def along(role: Role, vector: Float[np.ndarray, " 3"]) -> Place:
    """A vector in a segment's anatomical frame [m]."""
    return Place(vectors={role: vector})


def towards(start: Role, end: Role, length: float) -> Place:
    """So far along the line from one joint to another [m]."""
    return Place(steps={(start, end): length})


def fixed(x: float, y: float, z: float) -> Place:
    return Place(fixed=(x, y, z))


class Places:
    """K targets, packed for the kernel: where each lies, and how it turns.

    A target's orientation is that of the segment of the same role, times its anatomical frame (`frames`), times the
    body's own (`body_rotation`).
    """

    def __init__(
        self, places: dict[Role, Place], frames: Float[np.ndarray, "K 4"], body_rotation: Float[np.ndarray, "K 4"]
    ):
        self.roles = tuple(places)
        index = {role: i for i, role in enumerate(self.roles)}
        parts = places.values()
        joints = [[(index[role], factor) for role, factor in p.joints.items()] for p in parts]
        vectors = [[(index[role], vector) for role, vector in p.vectors.items()] for p in parts]
        steps = [[(index[a], (index[b], length)) for (a, b), length in p.steps.items()] for p in parts]
        self.packed = [
            view(frames, wp.vec4d),
            view(body_rotation, wp.vec4d),
            *_terms(joints, wp.float64),
            *_terms(vectors, wp.vec3d),
            *_terms(steps, wp.vec2d),
            view([p.fixed for p in parts], wp.vec3d),
        ]

    def at(
        self,
        position: Float[np.ndarray, "T J 3"],
        rotation: Float[np.ndarray, "T J 4"],
        joints: list[int],
        times: Float[np.ndarray, " S"],
    ) -> tuple[Float[np.ndarray, "S K 3"], Float[np.ndarray, "S K 4"]]:
        """The targets at `times` [frames]: positions between frames linear, orientations by slerp.

        `joints` tells which joint of the person plays each of `roles`.
        """
        command, place, turn = self.prepare(position, rotation, joints, times)
        command.launch()
        return place, turn

    def prepare(
        self,
        position: Float[np.ndarray, "T J 3"],
        rotation: Float[np.ndarray, "T J 4"],
        joints: list[int],
        times: Float[np.ndarray, " S"],
    ) -> tuple[Any, Float[np.ndarray, "S K 3"], Float[np.ndarray, "S K 4"]]:
        """What fills the two arrays with the targets, as often as it is launched; double precision, in order, it reads the
        very arrays given."""
        count, sample_count = len(self.roles), len(times)
        low = np.minimum(times.astype(np.int32), len(position) - 2)
        places = [np.empty((sample_count, count, 3)) for _ in range(2)]
        turns = [np.empty((sample_count, count, 4)) for _ in range(2)]
        inputs = [view(position, wp.vec3d), view(rotation, wp.vec4d), view(joints, int), view(low, int)]
        inputs += [view(times - low, wp.float64), *self.packed]
        outputs = [*(view(array, wp.vec3d) for array in places), *(view(array, wp.vec4d) for array in turns)]
        return ready(_place, sample_count, inputs, outputs), places[1], turns[1]


def _sum(one: dict, other: dict) -> dict:
    total = dict(one)
    for key, value in other.items():
        total[key] = total[key] + value if key in total else value
    return total


def _terms(terms: list[list[tuple[int, Any]]], dtype: Any) -> list[wp.array]:
    """Terms of all places end to end: where each place's begin, their roles, their values."""
    flat = [term for own in terms for term in own]
    first = np.cumsum([0, *map(len, terms)])
    return [view(first, int), view([role for role, _ in flat], int), view([value for _, value in flat], dtype)]


@wp.kernel
def _place(
    position: wp.array2d(dtype=wp.vec3d),
    rotation: wp.array2d(dtype=wp.vec4d),
    joints: wp.array(dtype=int),
    low: wp.array(dtype=int),
    share: wp.array(dtype=wp.float64),
    frames: wp.array(dtype=wp.vec4d),
    body_rotation: wp.array(dtype=wp.vec4d),
    joint_first: wp.array(dtype=int),
    joint_role: wp.array(dtype=int),
    joint_factor: wp.array(dtype=wp.float64),
    vector_first: wp.array(dtype=int),
    vector_role: wp.array(dtype=int),
    vector: wp.array(dtype=wp.vec3d),
    step_first: wp.array(dtype=int),
    step_role: wp.array(dtype=int),
    step: wp.array(dtype=wp.vec2d),
    constant: wp.array(dtype=wp.vec3d),
    place: wp.array2d(dtype=wp.vec3d),
    out_position: wp.array2d(dtype=wp.vec3d),
    turn: wp.array2d(dtype=wp.vec4d),
    out_rotation: wp.array2d(dtype=wp.vec4d),
):
    sample = wp.tid()
    frame = low[sample]
    t = share[sample]
    for role in range(joints.shape[0]):
        own = joints[role]
        before = position[frame, own]
        place[sample, role] = before + (position[frame + 1, own] - before) * t
        turn[sample, role] = multiply(slerp(rotation[frame, own], rotation[frame + 1, own], t), frames[role])
    for target in range(out_position.shape[1]):
        total = constant[target]
        for i in range(joint_first[target], joint_first[target + 1]):
            total += place[sample, joint_role[i]] * joint_factor[i]
        for i in range(vector_first[target], vector_first[target + 1]):
            total += rotate(turn[sample, vector_role[i]], vector[i])
        for i in range(step_first[target], step_first[target + 1]):
            way = place[sample, int(step[i][0])] - place[sample, step_role[i]]
            total += way * (step[i][1] / wp.max(wp.length(way), wp.float64(1.0e-9)))
        out_position[sample, target] = total
        out_rotation[sample, target] = multiply(turn[sample, target], body_rotation[target])
