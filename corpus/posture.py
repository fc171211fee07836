"""Where the robot's outside is, frame by frame: soles, lowest points, overlaps of its own capsules. One source, CPU and CUDA.

Kinematics run in single precision about the root's place on the ground, so they are exact to a micrometre anywhere.
"""

# Warp's annotations are for its own compiler; to a type checker they are calls and its scalars are not what they seem.
# pyright: reportInvalidTypeForm=false, reportArgumentType=false, reportCallIssue=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false, reportAttributeAccessIssue=false, reportIndexIssue=false, reportReturnType=false

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import warp as wp
from jaxtyping import Float, Int
from scipy.spatial.transform import Rotation

from corpus.lanes import LANES_CPU, lane_algebra, lane_rows
from corpus.robot import Robot
from corpus.warp_tools import device_array

GROUND_POINTS = ("left_heel", "left_toe", "right_heel", "right_toe")
"""The columns of `contact`."""

RESTING = 0.02
"""A body other than a foot that is lower than this lies, kneels or leans on the floor [m]."""

FAR = 1.0e6
"""Higher than anything [m]: what stands for the lowest of nothing."""

THREADS = 256
"""Threads a GPU gets, each for its share of the frames; a CPU has one."""


@dataclass(frozen=True)
class Postures:
    """The robot's outside in every frame; frames last."""

    soles: Float[np.ndarray, "3 P T"]
    """World x, y and z of the points of both soles: the same material points all the time [m]."""
    sole_group: Int[np.ndarray, " P"]
    """Index into `GROUND_POINTS` of each of them."""
    lowest: Float[np.ndarray, " T"]
    """Height of the robot's lowest point: sole points and all collision capsules [m]."""
    lowest_besides_feet: Float[np.ndarray, " T"]
    """The same without soles and the feet's capsules; infinite where the robot has no others [m]."""
    overlap: Float[np.ndarray, " T"]
    """Deepest overlap of two of the robot's own capsules, as deep as MuJoCo's contact; 0 where none touch [m]."""
    overlap_count: Float[np.ndarray, " T"]
    """How many pairs of the robot's own capsules overlap."""

    def lifted(self, height: Float[np.ndarray, " T"]) -> "Postures":
        """The same with every frame moved upwards."""
        soles = self.soles.copy()
        soles[2] += height
        lowest, besides = self.lowest + height, self.lowest_besides_feet + height
        return replace(self, soles=soles, lowest=lowest, lowest_besides_feet=besides)

    def slice(self, start: int, stop: int) -> "Postures":
        """Frames `start` to `stop`, as views."""
        part = {name: value[..., start:stop] for name, value in vars(self).items() if name != "sole_group"}
        return replace(self, **part)


def join_postures(parts: Sequence[Postures]) -> Postures:
    """Those of several motions as if they were one."""
    joined = {
        name: np.concatenate([getattr(part, name) for part in parts], axis=-1)
        for name in vars(parts[0])
        if name != "sole_group"
    }
    return replace(parts[0], **joined)


def postures(
    robot: Robot, qpos: Float[np.ndarray, "T Q"], *, soles_only: bool = False, device: str = "cpu"
) -> Postures:
    """Of every frame of a motion, or of several end to end: frames do not look at each other.

    With `soles_only` the capsules are left out: the soles are the lowest there is, and nothing overlaps.
    """
    frame_count = len(qpos)
    on_cpu = wp.get_device(device).is_cpu
    lanes = LANES_CPU if on_cpu else 1
    kernel, shape = _build_kernel(lanes), outline(robot, device)
    blocks = -(-frame_count // lanes)
    threads = 1 if on_cpu else min(THREADS, blocks)

    def empty(*shape: int) -> wp.array:
        return wp.empty(shape, dtype=kernel.V, device=device)

    work = kernel.Work()
    memory = empty(threads, robot.body_count, 12), empty(threads, len(robot.capsules), 6)
    work.pose, work.span = memory
    soles, heights = empty(len(shape.sole_group) * 3, blocks), empty(4, blocks)
    source = lane_rows(qpos.T[2:], lanes, device)
    wp.launch(
        kernel.measure,
        dim=threads,
        inputs=[source, shape.model, work, soles, heights, threads, int(not soles_only)],
        device=device,
    )
    sole = soles.numpy().reshape(-1, 3, blocks * lanes)[:, :, :frame_count].transpose(1, 0, 2).astype(np.float64)
    sole[:2] += np.asarray(qpos[:, :2], np.float64).T[:, None]
    lowest, besides, overlap, count = heights.numpy().reshape(4, -1)[:, :frame_count].astype(np.float64)
    return Postures(sole, shape.sole_group, lowest, np.where(besides > FAR / 2, np.inf, besides), overlap, count)


def lane_tree(robot: Robot) -> tuple[Float[np.ndarray, "B 3 3"], Float[np.ndarray, "B 3"], Float[np.ndarray, "B 3 3"]]:
    """The tree with every body's frame turned so that its joint turns about z.

    Gives those frames seen from the robot's own, and each body's offset and fixed turn seen from its parent's new frame.
    """
    frames = np.array([np.eye(3), *(_frame_about(axis) for axis in robot.joint_axis)])
    own = Rotation.from_quat(robot.body_rotation[:, [1, 2, 3, 0]]).as_matrix()
    offset, fixed = np.zeros((robot.body_count, 3)), np.tile(np.eye(3), (robot.body_count, 1, 1))
    for body in range(1, robot.body_count):
        up = frames[robot.parents[body]].T
        offset[body], fixed[body] = up @ robot.body_offset[body], up @ own[body] @ frames[body]
    return frames, offset, fixed


def _frame_about(axis: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    """A right-handed frame whose third column is the axis."""
    z = axis / np.linalg.norm(axis)
    x = np.cross(np.eye(3)[np.argmin(np.abs(z))], z)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z], 1)


@wp.struct
class OutlineModel:
    """A robot's tree, the points of its soles, its capsules, and which of them can touch."""

    parents: wp.array(dtype=int)
    offset: wp.array(dtype=wp.vec3)
    fixed: wp.array(dtype=wp.mat33)
    sole_body: wp.array(dtype=int)
    sole_point: wp.array(dtype=wp.vec3)
    capsule_body: wp.array(dtype=int)
    capsule_centre: wp.array(dtype=wp.vec3)
    capsule_half: wp.array(dtype=wp.vec3)
    capsule_radius: wp.array(dtype=float)
    capsule_of_foot: wp.array(dtype=int)
    bundle_one: wp.array(dtype=int)
    """Bundles of capsules, in pairs: the capsule at the heart of each, and within what distance of the hearts they may
    touch; then which stretch of the capsule pairs is theirs."""
    bundle_other: wp.array(dtype=int)
    bundle_reach: wp.array(dtype=float)
    bundle_first: wp.array(dtype=int)
    pair_one: wp.array(dtype=int)
    pair_other: wp.array(dtype=int)


@dataclass(frozen=True)
class Outline:
    """A robot's shape on the device."""

    model: OutlineModel
    sole_group: Int[np.ndarray, " P"]


@functools.cache
def outline(robot: Robot, device: str) -> Outline:
    frames, offset, fixed = lane_tree(robot)
    soles = [
        (group, robot.body(body), point)
        for group, (body, points) in enumerate(robot.ground_points[name] for name in GROUND_POINTS)
        for point in points
    ]
    bodies = np.array([capsule.body for capsule in robot.capsules])
    ends = np.array([[capsule.start, capsule.end] for capsule in robot.capsules])
    turned = np.einsum("cji,cej->cei", frames[bodies], ends)
    feet = {body for _, body, _ in soles}
    one, other, reach, first, pairs = _bundles(robot, bodies, ends)
    model = OutlineModel()
    for name, array, dtype in (
        ("parents", robot.parents, int),
        ("offset", offset, wp.vec3),
        ("fixed", fixed, wp.mat33),
        ("sole_body", [body for _, body, _ in soles], int),
        ("sole_point", [frames[body].T @ point for _, body, point in soles], wp.vec3),
        ("capsule_body", bodies, int),
        ("capsule_centre", turned.mean(1), wp.vec3),
        ("capsule_half", (turned[:, 1] - turned[:, 0]) / 2, wp.vec3),
        ("capsule_radius", [capsule.radius for capsule in robot.capsules], float),
        ("capsule_of_foot", [capsule.body in feet for capsule in robot.capsules], int),
        ("bundle_one", one, int),
        ("bundle_other", other, int),
        ("bundle_reach", reach, float),
        ("bundle_first", first, int),
        ("pair_one", pairs[:, 0], int),
        ("pair_other", pairs[:, 1], int),
    ):
        setattr(model, name, device_array(array, dtype, device))
    return Outline(model, np.array([group for group, _, _ in soles]))


def _bundles(
    robot: Robot, bodies: Int[np.ndarray, " C"], ends: Float[np.ndarray, "C 2 3"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Bundle the capsules of bodies that have more than two (a foot's seven are one), and sort the pairs by bundle."""
    radius = np.array([capsule.radius for capsule in robot.capsules])
    length = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1)
    own = [np.flatnonzero(bodies == body) for body in np.unique(bodies)]
    groups = [group for of_body in own for group in ([of_body] if len(of_body) > 2 else of_body[:, None])]
    hearts = np.array([group[length[group].argmax()] for group in groups])
    home, reach = np.empty(len(bodies), int), np.empty(len(groups))
    for index, (heart, group) in enumerate(zip(hearts, groups, strict=True)):
        home[group] = index
        reach[index] = (np.linalg.norm(ends[group] - ends[heart].mean(0), axis=2) + radius[group, None]).max()
    bundles = np.sort(home[robot.collision_pairs], axis=1)
    order = np.lexsort((bundles[:, 1], bundles[:, 0]))
    met, first = np.unique(bundles[order], axis=0, return_index=True)
    one, other = met.T
    stretches = np.append(first, len(order))
    return hearts[one], hearts[other], reach[one] + reach[other], stretches, robot.collision_pairs[order]


@functools.cache
def _build_kernel(lanes: int) -> SimpleNamespace:
    """The kernel `measure` for so many lanes a thread, and the types `V` and `Work` of its scratch memory."""
    algebra = lane_algebra(lanes)
    V, V3 = algebra.V, algebra.V3
    dot, sub, mul, div, mad, sub3, nearest = (
        algebra.dot, algebra.sub, algebra.mul, algebra.div, algebra.mad, algebra.sub3, algebra.nearest,
    )  # fmt: skip
    mad3, nmad3, place_of, turned_about_z, times_constant, matrix_of_quaternion = (
        algebra.mad3, algebra.nmad3, algebra.place_of, algebra.turned_about_z, algebra.times_constant,
        algebra.matrix_of_quaternion,
    )  # fmt: skip
    sine, cosine, root, absolute, maximum, minimum, lowest_lane = (
        algebra.sine, algebra.cosine, algebra.root, algebra.absolute, algebra.maximum, algebra.minimum,
        algebra.lowest_lane,
    )  # fmt: skip
    load3, store3, load_matrix, store_matrix = (
        algebra.load3, algebra.store3, algebra.load_matrix, algebra.store_matrix,
    )  # fmt: skip

    @wp.struct
    class Work:
        pose: wp.array3d(dtype=V)
        span: wp.array3d(dtype=V)

    @wp.func
    def kinematics(thread: int, block: int, qpos: wp.array2d(dtype=V), model: OutlineModel, work: Work):
        """Turn (9) and place (3) of every body, about the root's place on the ground."""
        x = qpos[2, block]
        y = qpos[3, block]
        z = qpos[4, block]
        w = qpos[1, block]
        unit = div(V(1.0), root(mad(x, x, mad(y, y, mad(z, z, mul(w, w))))))
        turn = matrix_of_quaternion(mul(x, unit), mul(y, unit), mul(z, unit), mul(w, unit))
        place = V3()
        place.x = V(0.0)
        place.y = V(0.0)
        place.z = qpos[0, block]
        store_matrix(work.pose, thread, 0, 0, turn)
        store3(work.pose, thread, 0, 9, place)
        for body in range(1, model.parents.shape[0]):
            parent = model.parents[body]
            above = load_matrix(work.pose, thread, parent, 0)
            angle = qpos[4 + body, block]
            own = turned_about_z(times_constant(above, model.fixed[body]), sine(angle), cosine(angle))
            store_matrix(work.pose, thread, body, 0, own)
            store3(work.pose, thread, body, 9, place_of(above, model.offset[body], load3(work.pose, thread, parent, 9)))

    @wp.func
    def gap(apart: V3, u: V3, v: V3) -> V:
        """Distance of segments with half axes u and v, `apart` from the second's centre to the first's."""
        s, t = nearest(apart, u, v)
        between = nmad3(v, t, mad3(u, s, apart))
        return root(dot(between, between))

    @wp.func
    def find_overlaps(thread: int, block: int, model: OutlineModel, work: Work, heights: wp.array2d(dtype=V)):
        """The deepest overlap, and how many there are."""
        depth = V(0.0)
        count = V(0.0)
        for pair in range(model.bundle_one.shape[0]):
            hearts = sub3(
                load3(work.span, thread, model.bundle_one[pair], 0),
                load3(work.span, thread, model.bundle_other[pair], 0),
            )
            reach = model.bundle_reach[pair]
            if lowest_lane(dot(hearts, hearts)) < reach * reach:
                for k in range(model.bundle_first[pair], model.bundle_first[pair + 1]):
                    one = model.pair_one[k]
                    other = model.pair_other[k]
                    apart = sub3(load3(work.span, thread, one, 0), load3(work.span, thread, other, 0))
                    u = load3(work.span, thread, one, 3)
                    v = load3(work.span, thread, other, 3)
                    radii = model.capsule_radius[one] + model.capsule_radius[other]
                    deep = sub(V(radii), gap(apart, u, v))
                    depth = maximum(depth, deep)
                    # 1 beyond a nanometre, lane by lane.
                    count = mad(minimum(mul(maximum(deep, V(0.0)), V(1.0e9)), V(1.0)), V(1.0), count)
        heights[2, block] = depth
        heights[3, block] = count

    @wp.kernel(module="unique")
    def measure(
        qpos: wp.array2d(dtype=V),
        model: OutlineModel,
        work: Work,
        soles: wp.array2d(dtype=V),
        heights: wp.array2d(dtype=V),
        threads: int,
        with_capsules: int,
    ):
        thread = wp.tid()
        nothing = V3()
        nothing.x = V(0.0)
        nothing.y = V(0.0)
        nothing.z = V(0.0)
        for block in range(thread, qpos.shape[1], threads):
            kinematics(thread, block, qpos, model, work)
            lowest = V(FAR)
            besides = V(FAR)
            for point in range(model.sole_body.shape[0]):
                body = model.sole_body[point]
                place = place_of(
                    load_matrix(work.pose, thread, body, 0),
                    model.sole_point[point],
                    load3(work.pose, thread, body, 9),
                )
                soles[3 * point, block] = place.x
                soles[3 * point + 1, block] = place.y
                soles[3 * point + 2, block] = place.z
                lowest = minimum(lowest, place.z)
            for capsule in range(with_capsules * model.capsule_body.shape[0]):
                body = model.capsule_body[capsule]
                turn = load_matrix(work.pose, thread, body, 0)
                centre = place_of(turn, model.capsule_centre[capsule], load3(work.pose, thread, body, 9))
                half = place_of(turn, model.capsule_half[capsule], nothing)
                store3(work.span, thread, capsule, 0, centre)
                store3(work.span, thread, capsule, 3, half)
                bottom = sub(sub(centre.z, absolute(half.z)), V(model.capsule_radius[capsule]))
                lowest = minimum(lowest, bottom)
                if model.capsule_of_foot[capsule] == 0:
                    besides = minimum(besides, bottom)
            heights[0, block] = lowest
            heights[1, block] = besides
            heights[2, block] = V(0.0)
            heights[3, block] = V(0.0)
            if with_capsules > 0:
                find_overlaps(thread, block, model, work, heights)

    return SimpleNamespace(measure=measure, V=V, Work=Work)
