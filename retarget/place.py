"""Where targets lie, as sums of a person's joints, of vectors fixed in segments, and of steps towards a joint.

The kernel works on so many frames at once (`corpus.lanes`), in single precision about the clip's own origin: exact to a
micrometre for who walks ten metres.
"""

# Warp's annotations are for its own compiler; to a type checker they are calls and its scalars are not what they seem.
# pyright: reportInvalidTypeForm=false, reportArgumentType=false, reportCallIssue=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false, reportAttributeAccessIssue=false, reportIndexIssue=false, reportReturnType=false

import functools
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import warp as wp
from jaxtyping import Float

from corpus.lanes import LANES_CPU, lane_algebra
from corpus.warp_tools import device_array, ready, view

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


@wp.struct
class PlaceTable:
    """R roles and as many targets: how each segment's frame lies in its joint's, how the body's lies in that, and the terms of
    each target's place, end to end."""

    frames: wp.array(dtype=wp.vec4)
    body_rotation: wp.array(dtype=wp.vec4)
    joint_first: wp.array(dtype=int)
    joint_role: wp.array(dtype=int)
    joint_factor: wp.array(dtype=float)
    vector_first: wp.array(dtype=int)
    vector_role: wp.array(dtype=int)
    vector: wp.array(dtype=wp.vec3)
    step_first: wp.array(dtype=int)
    step_role: wp.array(dtype=int)
    step_end: wp.array(dtype=int)
    step_length: wp.array(dtype=float)
    constant: wp.array(dtype=wp.vec3)
    factor_sum: wp.array(dtype=wp.float64)
    """By what a target's place moves when the whole person does."""


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
        table = PlaceTable()
        # The kernel's quaternions have their scalar last.
        rows: list[tuple[str, Any, Any]] = [
            ("frames", np.roll(frames, -1, 1), wp.vec4), ("body_rotation", np.roll(body_rotation, -1, 1), wp.vec4),
            ("constant", [p.fixed for p in parts], wp.vec3),
            ("step_end", [index[end] for p in parts for _, end in p.steps], int),
        ]  # fmt: skip
        for name, value, dtype, terms in (
            ("joint", "factor", float, [[(index[role], x) for role, x in p.joints.items()] for p in parts]),
            ("vector", "", wp.vec3, [[(index[role], x) for role, x in p.vectors.items()] for p in parts]),
            ("step", "length", float, [[(index[start], x) for (start, _), x in p.steps.items()] for p in parts]),
        ):
            flat = [term for own in terms for term in own]
            rows += [
                (f"{name}_first", np.cumsum([0, *map(len, terms)]), int),
                (f"{name}_role", [role for role, _ in flat], int),
                (f"{name}_{value}".rstrip("_"), [x for _, x in flat], dtype),
            ]
        for name, values, dtype in rows:
            empty = np.zeros((0, 3) if dtype is wp.vec3 else 0)
            setattr(table, name, device_array(values if len(values) else empty, dtype, "cpu"))
        table.factor_sum = view([sum(p.joints.values()) for p in parts], wp.float64)
        self.table, self.kernel = table, _build_kernel(LANES_CPU)
        self.work = self.kernel.Work()
        self.memory = [
            wp.empty((1, len(self.roles), width), dtype=self.kernel.V, device="cpu") for width in (14, 3, 4, 9)
        ]
        self.work.pair, self.work.place, self.work.quaternion, self.work.turn = self.memory

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
        low = np.minimum(times.astype(np.int32), len(position) - 2)
        place, turn = (np.empty((len(times), len(self.roles), width)) for width in (3, 4))
        inputs = [view(position, wp.vec3d), view(rotation, wp.vec4d), view(joints, int), view(low, int)]
        inputs += [device_array(times - low, float, "cpu"), self.table, self.work]
        return ready(self.kernel.place_targets, 1, inputs, [view(place, wp.vec3d), view(turn, wp.vec4d)]), place, turn


def _sum(one: dict, other: dict) -> dict:
    total = dict(one)
    for key, value in other.items():
        total[key] = total[key] + value if key in total else value
    return total


@functools.cache
def _build_kernel(lanes: int) -> SimpleNamespace:
    """The kernel `place_targets` for so many frames at once, and the types `V` and `Work` of its scratch memory."""
    algebra = lane_algebra(lanes)
    V, V3 = algebra.V, algebra.V3
    sub, mul, div, mad, nmad, root, select, at_most, maximum, lowest_lane = (
        algebra.sub, algebra.mul, algebra.div, algebra.mad, algebra.nmad, algebra.root, algebra.select,
        algebra.at_most, algebra.maximum, algebra.lowest_lane,
    )  # fmt: skip
    dot, sub3, mad3, place_of, matrix_of_quaternion = (
        algebra.dot, algebra.sub3, algebra.mad3, algebra.place_of, algebra.matrix_of_quaternion,
    )  # fmt: skip
    load3, load4, store4, load_matrix, store_matrix, quaternion_times = (
        algebra.load3, algebra.load4, algebra.store4, algebra.load_matrix, algebra.store_matrix, algebra.quaternion_times,
    )  # fmt: skip

    @wp.struct
    class Work:
        pair: wp.array3d(dtype=V)
        """Of each role: places before and after, quaternions before and after."""
        place: wp.array3d(dtype=V)
        quaternion: wp.array3d(dtype=V)
        turn: wp.array3d(dtype=V)

    @wp.func
    def sine_ratio(t: V, far: V) -> V:
        """sin(tθ) / sin θ where far = 1 − cos θ ≤ 0.05, by six terms of a series in `far` (Eberly, A Fast and Accurate Algorithm
        for Computing SLERP)."""
        one = V(1.0)
        square = mul(t, t)
        total = one
        total = mad(mul(far, total), nmad(square, V(1.0 / 78.0), V(6.0 / 13.0)), one)
        total = mad(mul(far, total), nmad(square, V(1.0 / 55.0), V(5.0 / 11.0)), one)
        total = mad(mul(far, total), nmad(square, V(1.0 / 36.0), V(4.0 / 9.0)), one)
        total = mad(mul(far, total), nmad(square, V(1.0 / 21.0), V(3.0 / 7.0)), one)
        total = mad(mul(far, total), nmad(square, V(1.0 / 10.0), V(2.0 / 5.0)), one)
        total = mad(mul(far, total), nmad(square, V(1.0 / 3.0), V(1.0 / 3.0)), one)
        return mul(t, total)

    @wp.func
    def interpolate(role: int, t: V, frame_of_segment: wp.vec4, work: Work):
        """A role's place, linear, and its segment's turn, by the shorter arc, at the share t of the way between two frames."""
        for k in range(3):
            before = work.pair[0, role, k]
            work.place[0, role, k] = mad(sub(work.pair[0, role, 3 + k], before), t, before)
        near = V(0.0)
        for k in range(4):
            near = mad(work.pair[0, role, 6 + k], work.pair[0, role, 10 + k], near)
        sign = select(at_most(V(0.0), near), V(1.0), V(-1.0))
        near = mul(near, sign)
        far = maximum(sub(V(1.0), near), V(0.0))
        wa = sine_ratio(sub(V(1.0), t), far)
        wb = sine_ratio(t, far)
        if lowest_lane(near) < 0.95:
            for lane in range(wp.static(lanes)):
                if near[lane] < 0.95:
                    angle = wp.acos(near[lane])
                    sine = wp.sin(angle)
                    wa[lane] = wp.sin((1.0 - t[lane]) * angle) / sine
                    wb[lane] = wp.sin(t[lane] * angle) / sine
        wb = mul(wb, sign)
        norm = V(0.0)
        for k in range(4):
            part = mad(work.pair[0, role, 6 + k], wa, mul(work.pair[0, role, 10 + k], wb))
            work.quaternion[0, role, k] = part
            norm = mad(part, part, norm)
        unit = div(V(1.0), root(norm))
        for k in range(4):
            work.quaternion[0, role, k] = mul(work.quaternion[0, role, k], unit)
        q = quaternion_times(load4(work.quaternion, 0, role, 0), frame_of_segment)
        store4(work.quaternion, 0, role, 0, q)
        store_matrix(work.turn, 0, role, 0, matrix_of_quaternion(q.x, q.y, q.z, q.w))

    @wp.func
    def place_of_target(target: int, table: PlaceTable, work: Work) -> V3:
        constant = table.constant[target]
        total = V3()
        total.x = V(constant[0])
        total.y = V(constant[1])
        total.z = V(constant[2])
        for i in range(table.joint_first[target], table.joint_first[target + 1]):
            total = mad3(load3(work.place, 0, table.joint_role[i], 0), V(table.joint_factor[i]), total)
        for i in range(table.vector_first[target], table.vector_first[target + 1]):
            total = place_of(load_matrix(work.turn, 0, table.vector_role[i], 0), table.vector[i], total)
        for i in range(table.step_first[target], table.step_first[target + 1]):
            way = sub3(load3(work.place, 0, table.step_end[i], 0), load3(work.place, 0, table.step_role[i], 0))
            length = maximum(root(dot(way, way)), V(1.0e-9))
            total = mad3(way, div(V(table.step_length[i]), length), total)
        return total

    @wp.kernel(module="unique")
    def place_targets(
        position: wp.array2d(dtype=wp.vec3d),
        rotation: wp.array2d(dtype=wp.vec4d),
        joints: wp.array(dtype=int),
        low: wp.array(dtype=int),
        share: wp.array(dtype=float),
        table: PlaceTable,
        work: Work,
        out_position: wp.array2d(dtype=wp.vec3d),
        out_rotation: wp.array2d(dtype=wp.vec4d),
    ):
        count = low.shape[0]
        origin = position[0, joints[0]]
        for first in range(0, count, wp.static(lanes)):
            t = V(0.0)
            for lane in range(wp.static(lanes)):
                sample = wp.min(first + lane, count - 1)
                frame = low[sample]
                t[lane] = share[sample]
                for role in range(joints.shape[0]):
                    own = joints[role]
                    before = wp.vec3(position[frame, own] - origin)
                    after = wp.vec3(position[frame + 1, own] - origin)
                    turn = wp.vec4(rotation[frame, own])
                    turn_after = wp.vec4(rotation[frame + 1, own])
                    for k in range(3):
                        work.pair[0, role, k][lane] = before[k]
                        work.pair[0, role, 3 + k][lane] = after[k]
                        work.pair[0, role, 6 + k][lane] = turn[k + 1]
                        work.pair[0, role, 10 + k][lane] = turn_after[k + 1]
                    work.pair[0, role, 9][lane] = turn[0]
                    work.pair[0, role, 13][lane] = turn_after[0]
            for role in range(joints.shape[0]):
                interpolate(role, t, table.frames[role], work)
            for target in range(out_position.shape[1]):
                place = place_of_target(target, table, work)
                moved = origin * table.factor_sum[target]
                q = quaternion_times(load4(work.quaternion, 0, target, 0), table.body_rotation[target])
                for lane in range(wp.min(count - first, wp.static(lanes))):
                    out_position[first + lane, target] = moved + wp.vec3d(
                        wp.float64(place.x[lane]), wp.float64(place.y[lane]), wp.float64(place.z[lane])
                    )
                    out_rotation[first + lane, target] = wp.vec4d(
                        wp.float64(q.w[lane]), wp.float64(q.x[lane]), wp.float64(q.y[lane]), wp.float64(q.z[lane])
                    )

    return SimpleNamespace(place_targets=place_targets, V=V, Work=Work)
