"""BVH of any skeleton: Bandai-Namco's and LAFAN1's by their joint names, others by common names or a file the user writes.

The unit is found by the length of the leg. Files are y up, unless the person plainly stands along z. How to describe a
skeleton of one's own: `corpus.sources.bvh_skeleton`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float

from corpus import rotations
from corpus.errors import Rejected
from corpus.motion import Clip, HumanMotion
from corpus.skeleton import Skeleton
from corpus.sources.bvh_file import BvhFile, bone_offsets, read_bvh, world_motion
from corpus.sources.bvh_skeleton import SIDES, UNITS, SkeletonFile, read_skeleton_file, rest_rotations, roles_by_name
from corpus.sources.files import demand_suffix, open_path, scan_files, stem
from corpus.sources.options import LoadOptions

LEG_LENGTH = (0.5, 1.2)
"""Hip to knee to ankle of anybody who is recorded [m]."""

UNKNOWN_LICENCE, BANDAI_LICENCE, LAFAN1_LICENCE = "unknown: ask the owner", "CC BY-NC 4.0", "CC BY-NC-ND 4.0"
BANDAI_NAME = re.compile(r"dataset-\d+_(?P<content>.+)_(?P<style>[^_]+)_\d+")
LAFAN1_NAME = re.compile(
    r"(?P<label>aiming|dance|fallAndGetUp|fight|fightAndSports|ground|jumps|multipleActions|obstacles|push|pushAndFall"
    r"|pushAndStumble|run|sprint|walk)\d+_(?P<subject>subject\d+)(?=_|$)"
)

BANDAI_JOINTS = frozenset(
    ["Hips", "Spine", "Chest", "Neck", "Head"]
    + [f"{part}_{side}" for side in "LR" for part in (
        "Shoulder", "UpperArm", "LowerArm", "Hand", "UpperLeg", "LowerLeg", "Foot", "Toes")]
)  # fmt: skip
LAFAN1_JOINTS = frozenset(
    ["Hips", "Spine", "Spine1", "Spine2", "Neck", "Head"]
    + [f"{side}{part}" for side in ("Left", "Right") for part in (
        "UpLeg", "Leg", "Foot", "Toe", "Shoulder", "Arm", "ForeArm", "Hand")]
)  # fmt: skip


def scan(root: Path, skeleton: Path | None = None) -> Iterator[Clip]:
    """Every file; the public data sets' are told by their names, licence and subject of others by the `skeleton` file."""
    own = read_skeleton_file(skeleton) if skeleton else SkeletonFile({})
    for clip in scan_files(root, "bvh", own.licence or UNKNOWN_LICENCE):
        take = stem(clip)
        if bandai := BANDAI_NAME.fullmatch(take):
            yield replace(clip, licence=BANDAI_LICENCE, recording=take, label=bandai["content"])
        elif lafan1 := LAFAN1_NAME.match(take):
            yield replace(clip, licence=LAFAN1_LICENCE, recording=lafan1[0], **lafan1.groupdict())
        else:
            yield replace(clip, recording=take, label=take, subject=own.subject_of(clip.path))


def load(root: Path, clip: Clip, options: LoadOptions) -> HumanMotion:
    """A person's motion; `Rejected` where the file is broken or its skeleton unknown."""
    demand_suffix(clip, ".bvh")
    own = read_skeleton_file(options.skeleton) if options.skeleton else None
    motion = read_person(read_bvh(open_path(root, clip)), own)
    if motion.skeleton.name == "lafan1":
        refuse_obstacles(clip)
    return motion


def refuse_obstacles(clip: Clip) -> None:
    if re.match(r"obstacles\d", stem(clip), re.IGNORECASE):
        raise Rejected("needs_terrain", "LAFAN1's obstacle takes walk over boxes that are in no file")


def read_person(file: BvhFile, own: SkeletonFile | None = None) -> HumanMotion:
    """The user's skeleton file decides where all its joints are in the BVH; else the data sets we know; else the names."""
    if own is not None and set(own.roles.values()) <= set(file.joint_names):
        return generic_motion(file, own, note="roles by skeleton file")
    name = known_skeleton(file)
    if name:
        return known_motion(file, name)
    if own is not None:
        joint = next(joint for joint in own.roles.values() if joint not in file.joint_names)
        has = ", ".join(file.joint_names)[:1000]
        raise Rejected("missing_joint", f"the skeleton file names it; the BVH has: {has}", joint=joint)
    return generic_motion(
        file, SkeletonFile(roles_by_name(file.joint_names, file.parents)), note="roles by joint names"
    )


# --- the skeletons of public data sets


def known_skeleton(file: BvhFile) -> str:
    """ "lafan1", "bandai", or nothing."""
    return _known_skeleton(file.joint_names)


@lru_cache(64)
def _known_skeleton(joints: tuple[str, ...]) -> str:
    names = {_renamed(name) for name in joints}
    if names == LAFAN1_JOINTS:
        return "lafan1"
    return "bandai" if names - {"joint_Root"} == BANDAI_JOINTS else ""


def known_motion(file: BvhFile, name: str) -> HumanMotion:
    """All joints but Bandai-Namco's joint_Root, whose motion goes into the hips."""
    bones = bone_offsets(file)
    # The root has no bone: its offset is only where the take began, and other takes of the same person share the rest.
    bones[_roots(file.joint_names, file.parents)] = 0.0
    kept, skeleton, metre, roles = _known_bones(file.joint_names, file.parents, bones.tobytes(), name)
    position, rotation, note = _world(file, roles, metre, kept, "")
    return HumanMotion(skeleton, position, rotation, file.fps, "file", note)


@lru_cache(64)
def _roots(joints: tuple[str, ...], above: tuple[int, ...]) -> list[int]:
    """Joints without a bone above them: the root, and what hangs on Bandai-Namco's joint_Root."""
    return [i for i, parent in enumerate(above) if parent < 0 or joints[parent] == "joint_Root"]


@lru_cache(256)
def _known_bones(
    joints: tuple[str, ...], above: tuple[int, ...], bones: bytes, name: str
) -> tuple[list[int], Skeleton, float, dict[str, str]]:
    """Which joints are kept, the skeleton they make, metres per unit, and roles: the takes of a data set share them."""
    kept = [i for i, joint in enumerate(joints) if joint != "joint_Root"]
    roles = roles_by_name(joints, above)
    offsets = np.frombuffer(bones).reshape(-1, 3)
    metre, _ = _metres(joints, above, roles, offsets, None)
    new_index = {joint: i for i, joint in enumerate(kept)}
    parents = tuple(new_index.get(above[joint], -1) for joint in kept)
    skeleton = Skeleton(name, tuple(_renamed(joints[joint]) for joint in kept), parents, offsets[kept] * metre)
    return kept, skeleton, metre, roles


def _renamed(joint: str) -> str:
    """Without a name space; LAFAN1's toes are LeftToeBase in some copies."""
    joint = joint.rsplit(":", 1)[-1]
    return joint.removesuffix("Base") if joint in ("LeftToeBase", "RightToeBase") else joint


# --- any other skeleton


def generic_motion(file: BvhFile, own: SkeletonFile, *, note: str) -> HumanMotion:
    """The joints that have a role, each hanging on the nearest one above it that has one."""
    file, roles = _with_toes(file, own.roles)
    index = {role: file.joint_names.index(joint) for role, joint in roles.items()}
    kept = sorted(index.values())
    if kept[0] != index["pelvis"]:
        raise Rejected(
            "bad_hierarchy", "the pelvis must be above the other joints that have a role", pelvis=roles["pelvis"]
        )
    offsets = bone_offsets(file)
    metre, unit = _metres(file.joint_names, file.parents, roles, offsets, own)
    position, rotation, up_note = _world(file, roles, metre, kept, own.up)
    parents = _parents_among(file, kept)
    zero = _zero_positions(file.parents, offsets) * metre
    bones = np.array([zero[j] - zero[kept[p]] if p >= 0 else np.zeros(3) for j, p in zip(kept, parents, strict=True)])
    rest = _rest(file, own, index, position, rotation, zero, kept, up_note)
    names = tuple(file.joint_names[joint] for joint in kept)
    skeleton = Skeleton("generic", names, parents, bones, tuple(roles.items()), rest)
    return HumanMotion(skeleton, position, rotation, file.fps, "file", "; ".join(filter(None, [note, unit, up_note])))


def _with_toes(file: BvhFile, roles: dict[str, str]) -> tuple[BvhFile, dict[str, str]]:
    """Where a foot has no toe joint, its end site becomes one."""
    roles = dict(roles)
    for side in SIDES:
        if f"{side}_toe" in roles:
            continue
        foot = file.joint_names.index(roles[f"{side}_ankle"])
        if not any(file.end_sites.get(foot, ())):
            raise Rejected("missing_joint", f"{file.joint_names[foot]} has no end site either", joint=f"{side}_toe")
        roles[f"{side}_toe"] = f"{file.joint_names[foot]} end"
        file = replace(
            file,
            joint_names=(*file.joint_names, roles[f"{side}_toe"]),
            parents=(*file.parents, foot),
            offsets=np.concatenate([file.offsets, [file.end_sites[foot]]]),
            channels=(*file.channels, ()),
        )
    return file, roles


def _parents_among(file: BvhFile, kept: list[int]) -> tuple[int, ...]:
    """For each kept joint the position, among the kept, of the nearest one above it; the pelvis where there is none."""
    parents = [-1]
    for joint in kept[1:]:
        above = file.parents[joint]
        while above >= 0 and above not in kept:
            above = file.parents[above]
        parents.append(kept.index(above) if above >= 0 else 0)
    return tuple(parents)


def _zero_positions(parents: tuple[int, ...], offsets: Float[np.ndarray, "J 3"]) -> Float[np.ndarray, "J 3"]:
    """Where the joints are at zero angles, when all frames are parallel."""
    zero = offsets.copy()
    for joint, parent in enumerate(parents):
        if parent >= 0:
            zero[joint] += zero[parent]
    return zero


def _rest(
    file: BvhFile,
    own: SkeletonFile,
    index: dict[str, int],
    position: Float[np.ndarray, "T K 3"],
    rotation: Float[np.ndarray, "T K 4"],
    zero: Float[np.ndarray, "J 3"],
    kept: list[int],
    up_note: str,
) -> Float[np.ndarray, "K 4"]:
    """Orientation of each kept joint in a T-pose facing +x."""
    if own.rest is None:
        upright = rotations.Y_UP_TO_Z_UP if _is_y_up(own.up, up_note) else _IDENTITY
        place = {role: rotations.rotate(upright, zero[joint]) for role, joint in index.items()}
        turn = dict.fromkeys(index, upright)
    elif own.rest < file.frame_count:
        place = {role: position[own.rest, kept.index(joint)] for role, joint in index.items()}
        turn = {role: rotation[own.rest, kept.index(joint)] for role, joint in index.items()}
    else:
        raise Rejected(
            "unknown_skeleton", "the take ends before the rest frame", rest=own.rest, frames=file.frame_count
        )
    rest = rest_rotations(place, turn)
    by_joint = {joint: rest[role] for role, joint in index.items()}
    return np.array([by_joint[joint] for joint in kept])


# --- unit and axes

_IDENTITY = np.array([1.0, 0.0, 0.0, 0.0])
_Z_UP_NOTE = "read as z up"


def _metres(
    joints: tuple[str, ...],
    parents: tuple[int, ...],
    roles: dict[str, str],
    offsets: Float[np.ndarray, "J 3"],
    own: SkeletonFile | None,
) -> tuple[float, str]:
    """Metres per unit of the file, checked by the length from hip to knee to ankle; and a note."""
    zero = _zero_positions(parents, offsets)
    at = {role: zero[joints.index(joint)] for role, joint in roles.items()}
    bones = [at[f"{side}_{a}"] - at[f"{side}_{b}"] for side in SIDES for a, b in (("knee", "hip"), ("ankle", "knee"))]
    leg = float(np.linalg.norm(bones, axis=1).sum()) / 2
    stated = own and (own.scale or UNITS.get(own.unit))
    for unit, metre in {own.unit or "scale": stated}.items() if own and stated else UNITS.items():
        if LEG_LENGTH[0] <= leg * metre <= LEG_LENGTH[1]:
            return metre, f"unit {unit}"
    tried = f"{own.unit or own.scale} as stated" if own and stated else ", ".join(UNITS)
    raise Rejected(
        "bad_unit",
        f"no unit makes the leg {LEG_LENGTH[0]} to {LEG_LENGTH[1]} m long (tried {tried})",
        leg=round(leg, 4),
    )


def _world(
    file: BvhFile, roles: dict[str, str], metre: float, kept: list[int], up: str
) -> tuple[Float[np.ndarray, "T K 3"], Float[np.ndarray, "T K 4"], str]:
    """World motion in metres, z up, of the kept joints; and a note where the file turned out to be z up."""
    if up != "z":
        position, rotation = world_motion(file, rotations.Y_UP_TO_Z_UP, kept)
        position *= metre
        if up == "y" or not _stands_along_z(
            position, {r: kept.index(file.joint_names.index(j)) for r, j in roles.items()}
        ):
            return position, rotation, ""
    position, rotation = world_motion(file, _IDENTITY, kept)
    return position * metre, rotation, _Z_UP_NOTE


def _is_y_up(stated: str, note: str) -> bool:
    return stated != "z" and note != _Z_UP_NOTE


def _stands_along_z(position: Float[np.ndarray, "T K 3"], index: dict[str, int]) -> bool:
    """Is a file that was turned from y up in truth z up? Only where the whole clip says so.

    The trunk points along the file's z, the feet keep to the floor there, and it is nobody lying on a floor of a y-up file.
    """
    x, y, z = 0, 2, 1  # the file's axes, after turning; its z is −1 times ours
    position = position[:: max(1, len(position) // 64)]
    at = {role: position[:, i] for role, i in index.items()}
    trunk = (at["left_shoulder"] + at["right_shoulder"]) / 2 - at["pelvis"]
    lean = (trunk / np.maximum(np.linalg.norm(trunk, axis=1, keepdims=True), 1e-9)).mean(0)
    if -lean[z] < 0.8 or abs(lean[y]) > 0.3 or abs(lean[x]) > 0.5:
        return False
    lowest = float((-np.stack([at["left_ankle"], at["right_ankle"]])[..., z]).min())
    body = np.stack(
        [at[role][:, y] for role in ("pelvis", "left_shoulder", "right_shoulder", "left_ankle", "right_ankle")]
    )
    lies = body.min() > -0.15 and body.max() < 0.6
    return abs(lowest) < 0.3 and not lies
