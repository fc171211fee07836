"""A robot as data: its tree of bodies, hinges and limits, read from an MJCF; forward kinematics over whole clips."""

# MuJoCo's package tells a type checker nothing of its classes.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from corpus import rotations


@dataclass(frozen=True, eq=False)
class Robot:
    """A floating base and hinges, one per body below it; body 0 is the base. Frames are the MJCF's body frames."""

    name: str
    mjcf: Path
    """The model file, for MuJoCo and Pinocchio."""
    body_names: tuple[str, ...]
    parents: tuple[int, ...]
    body_offset: Float[np.ndarray, "B 3"]
    """Each body's origin in its parent's frame [m]."""
    body_rotation: Float[np.ndarray, "B 4"]
    """Each body's orientation in its parent's frame at joint angle zero."""
    joint_names: tuple[str, ...]
    joint_axis: Float[np.ndarray, "N 3"]
    """Hinge axis in the frame of the body it moves: joint i moves body i + 1."""
    lower: Float[np.ndarray, " N"]
    upper: Float[np.ndarray, " N"]
    """Joint limits [rad]."""
    speed_limit: Float[np.ndarray, " N"]
    """Joint speed limits [rad/s]."""
    effort_limit: Float[np.ndarray, " N"]
    """Joint torque limits [N·m]."""
    mass: Float[np.ndarray, " B"]
    """Mass of each body [kg]."""
    centre_of_mass: Float[np.ndarray, "B 3"]
    """In the body's frame [m]."""
    inertia: Float[np.ndarray, "B 3 3"]
    """About the body's centre of mass, in the axes of the body's frame [kg·m²]."""
    ground_points: dict[str, tuple[str, Float[np.ndarray, "P 3"]]]
    """"left_heel", "left_toe", …: the body each belongs to, and points on its sole in the body's frame [m]."""
    segments: dict[str, str]
    """The body that each segment of a person drives, by its role (`corpus.skeleton.ROLES`)."""
    centres: dict[str, str]
    """"left_hip", "left_shoulder", …: the body whose origin is that joint's centre."""
    reference: Float[np.ndarray, " N"]
    """Joint angles of the rest posture: upright on flat feet, arms hanging, elbows bent forward by 90° [rad]."""
    capsules: tuple[Capsule, ...]
    """Collision shapes; a sphere is a capsule without length."""
    collision_pairs: Int[np.ndarray, "K 2"]
    """Pairs of `capsules` that may collide: not of one body, not of parent and child, not excluded by the model."""

    @functools.cached_property
    def rest(self) -> Float[np.ndarray, "1 Q"]:
        """The rest posture, the base at the origin, as a motion of one frame."""
        return np.array([[0, 0, 0, 1, 0, 0, 0, *self.reference]], float)

    @functools.cached_property
    def acceleration_limit(self) -> Float[np.ndarray, " N"]:
        """What each joint's motor gives to all that hangs on it, in the rest posture [rad/s²]: its torque limit over the inertia
        about its axis. Folded limbs are quicker."""
        position, rotation = (part[0] for part in forward_kinematics(self, self.rest))
        turn = rotations.to_matrix(rotation)
        centre = position + np.einsum("bij,bj->bi", turn, self.centre_of_mass)
        inertia = np.einsum("bij,bjk,blk->bil", turn, self.inertia, turn)
        limits = []
        for joint, own in enumerate(self.joint_axis):
            axis, hanging = turn[joint + 1] @ own, {joint + 1}
            for body in range(joint + 2, self.body_count):
                if self.parents[body] in hanging:
                    hanging.add(body)
            bodies = sorted(hanging)
            lever = np.cross(axis, centre[bodies] - position[joint + 1])
            about = np.einsum("i,bij,j->b", axis, inertia[bodies], axis) + self.mass[bodies] * (lever**2).sum(1)
            limits.append(self.effort_limit[joint] / max(float(about.sum()), 1e-9))
        return np.array(limits)

    @property
    def body_count(self) -> int:
        return len(self.body_names)

    @property
    def joint_count(self) -> int:
        return len(self.joint_names)

    def body(self, name: str) -> int:
        return self.body_names.index(name)


@dataclass(frozen=True)
class Capsule:
    body: int
    start: Float[np.ndarray, " 3"]
    end: Float[np.ndarray, " 3"]
    """Ends of its axis in the body's frame [m]."""
    radius: float


def load_robot(
    mjcf: Path,
    *,
    name: str,
    speed_limit: np.ndarray,
    effort_limit: np.ndarray,
    soles: dict[str, str],
    segments: dict[str, str],
    centres: dict[str, str],
    reference: dict[str, float] | None = None,
) -> Robot:
    """Read a robot with a free base and one hinge per body from an MJCF.

    `soles` maps "left" and "right" to the foot bodies, whose sites named `<side>_heel*` and `<side>_toe*` are the points of
    the sole. `segments` and `centres` tell which bodies a person's segments drive, `reference` the joint angles of the rest
    posture [rad] that are not zero. Collision shapes are the capsules and spheres; others are not looked at.
    """
    import mujoco

    model = mujoco.MjModel.from_xml_path(str(mjcf))
    if model.njnt != model.nbody - 1 or model.jnt_type[0] != mujoco.mjtJoint.mjJNT_FREE:
        raise ValueError(f"{mjcf}: expected a free base and one hinge per body, got {model.njnt} joints.")
    if not np.allclose(model.jnt_pos[1:], 0):
        raise ValueError(f"{mjcf}: a hinge off its body's origin is not supported.")
    _check_table(mjcf, model, segments, centres, soles)
    ground_points = {}
    for side, body in soles.items():
        for end in ("heel", "toe"):
            sites = [i for i in range(model.nsite) if model.site(i).name.startswith(f"{side}_{end}")]
            if not sites:
                raise ValueError(f"{mjcf}: no sites named {side}_{end}* tell where the sole of {body} is.")
            ground_points[f"{side}_{end}"] = (body, np.array([model.site_pos[i] for i in sites]))
    capsules, geoms = _capsules(model)
    principal = rotations.to_matrix(np.array(model.body_iquat[1:]))
    return Robot(
        name=name,
        mjcf=mjcf,
        body_names=tuple(model.body(i).name for i in range(1, model.nbody)),
        parents=tuple(int(p) - 1 for p in model.body_parentid[1:]),
        body_offset=np.array(model.body_pos[1:]),
        body_rotation=np.array(model.body_quat[1:]),
        joint_names=tuple(model.joint(i).name for i in range(1, model.njnt)),
        joint_axis=np.array(model.jnt_axis[1:]),
        lower=np.array(model.jnt_range[1:, 0]),
        upper=np.array(model.jnt_range[1:, 1]),
        speed_limit=speed_limit,
        effort_limit=effort_limit,
        mass=np.array(model.body_mass[1:]),
        centre_of_mass=np.array(model.body_ipos[1:]),
        inertia=np.einsum("bij,bj,bkj->bik", principal, model.body_inertia[1:], principal),
        ground_points=ground_points,
        segments=segments,
        centres=centres,
        reference=_reference(mjcf, model, reference or {}),
        capsules=tuple(capsules),
        collision_pairs=_collision_pairs(model, geoms),
    )


def forward_kinematics(
    robot: Robot, qpos: Float[np.ndarray, "T Q"]
) -> tuple[Float[np.ndarray, "T B 3"], Float[np.ndarray, "T B 4"]]:
    """World positions [m] and orientations of all bodies, float64; memory order is body-major."""
    qpos = np.asarray(qpos, np.float64)
    frame_count = len(qpos)
    position = np.empty((robot.body_count, frame_count, 3))
    rotation = np.empty((robot.body_count, frame_count, 4))
    position[0], rotation[0] = qpos[:, :3], rotations.normalise(qpos[:, 3:7])
    half = qpos[:, 7:].T / 2
    cosine, sine = np.cos(half), np.sin(half)
    for body in range(1, robot.body_count):
        parent, joint = robot.parents[body], body - 1
        offset = np.broadcast_to(robot.body_offset[body], (frame_count, 3))
        position[body] = position[parent] + rotations.rotate(rotation[parent], offset)
        hinge = np.concatenate([cosine[joint][:, None], sine[joint][:, None] * robot.joint_axis[joint]], 1)
        fixed = robot.body_rotation[body]
        if not np.array_equal(fixed, [1, 0, 0, 0]):
            hinge = rotations.multiply(np.broadcast_to(fixed, hinge.shape), hinge)
        rotation[body] = rotations.multiply(rotation[parent], hinge)
    return position.transpose(1, 0, 2), rotation.transpose(1, 0, 2)


SEGMENTS = ("pelvis", "chest", *(f"{side}_{role}" for side in ("left", "right") for role in (
    "hip", "knee", "ankle", "shoulder", "elbow", "wrist",
)))  # fmt: skip
"""Roles that drive a body."""
CENTRES = tuple(f"{side}_{joint}" for side in ("left", "right") for joint in ("hip", "shoulder"))


def _check_table(mjcf: Path, model, segments: dict[str, str], centres: dict[str, str], soles: dict[str, str]) -> None:
    """Raise where a table lacks a row or names a body that the model does not have."""
    known = [model.body(i).name for i in range(1, model.nbody)]
    for told, table, rows in (
        ("segments", segments, SEGMENTS),
        ("centres", centres, CENTRES),
        ("soles", soles, ("left", "right")),
    ):
        if set(table) != set(rows):
            raise ValueError(f"{mjcf}: {told} are {', '.join(rows)}; got {', '.join(table)}.")
        if unknown := sorted(set(table.values()) - set(known)):
            raise ValueError(f"{mjcf}: no bodies {', '.join(unknown)}; known: {', '.join(known)}.")
    if segments["pelvis"] != known[0] or len(set(segments.values())) < len(segments):
        raise ValueError(f"{mjcf}: the pelvis drives the base, {known[0]}, and every segment a body of its own.")


def _reference(mjcf: Path, model, angles: dict[str, float]) -> np.ndarray:
    names = [model.joint(i).name for i in range(1, model.njnt)]
    if unknown := sorted(set(angles) - set(names)):
        raise ValueError(f"{mjcf}: no joints {', '.join(unknown)}; known: {', '.join(names)}.")
    return np.array([angles.get(name, 0.0) for name in names])


def _capsules(model) -> tuple[list[Capsule], list[int]]:
    import mujoco

    capsules, geoms = [], []
    for geom in range(model.ngeom):
        kind, body = int(model.geom_type[geom]), int(model.geom_bodyid[geom]) - 1
        if body < 0 or kind not in (int(mujoco.mjtGeom.mjGEOM_CAPSULE), int(mujoco.mjtGeom.mjGEOM_SPHERE)):
            continue
        if model.geom_contype[geom] == 0 and model.geom_conaffinity[geom] == 0:
            continue
        centre = np.array(model.geom_pos[geom])
        half = model.geom_size[geom, 1] if kind == int(mujoco.mjtGeom.mjGEOM_CAPSULE) else 0.0
        reach = rotations.rotate(np.array(model.geom_quat[geom]), np.array([0.0, 0.0, half]))
        capsules.append(Capsule(body, centre - reach, centre + reach, float(model.geom_size[geom, 0])))
        geoms.append(geom)
    return capsules, geoms


def _collision_pairs(model, geoms: list[int]) -> np.ndarray:
    """MuJoCo's own rule: different bodies, not parent and child (the world's children excepted), not excluded."""
    excluded = {(int(s) >> 16, int(s) & 0xFFFF) for s in model.exclude_signature}
    body = model.geom_bodyid
    pairs = []
    for i, a in enumerate(geoms):
        for j, b in enumerate(geoms[:i]):
            low, high = sorted((int(body[a]), int(body[b])))
            related = low == high or model.body_parentid[high] == low
            if not related and (low, high) not in excluded:
                pairs.append((j, i))
    return np.array(pairs, np.int64).reshape(-1, 2)
