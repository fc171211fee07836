"""BVH of any skeleton: Bandai-Namco's and LAFAN1's by their names, others by common names or a file the user writes.

A skeleton file (TOML or JSON) says which joint plays which part; everything but `roles` may be left out:

    name = "studio"               # goes into the clip's row
    licence = "our own"
    unit = "cm"                   # m, cm, mm, in; found by leg length if left out
    up = "y"                      # y or z
    rest = "zero"                 # the pose with all rotations zero is a T-pose; or a frame number of the take, from 0

    [roles]                       # all of corpus.skeleton.ROLES but neck and head
    pelvis = "Hips"
    chest = "Spine3"
    left_hip = "LeftUpLeg"        # …
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from corpus import rotations
from corpus.errors import MotionloomError, Rejected
from corpus.motion import Clip, HumanMotion, check_fps
from corpus.skeleton import ROLES, Skeleton, forward_kinematics
from corpus.sources.files import demand_suffix, open_path, scan_files, stem
from corpus.sources.options import LoadOptions

MAX_JOINTS, MAX_DEPTH = 1000, 200
UNITS = {"m": 1.0, "cm": 0.01, "in": 0.0254, "mm": 0.001}
LEG_LENGTH = (0.5, 1.2)
"""Hip to ankle of anybody who is recorded [m]."""

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

COMMON_NAMES: dict[str, tuple[str, ...]] = {
    "pelvis": ("Hips", "Hip", "pelvis", "Pelvis"),
    "chest": ("Spine3", "Spine2", "Chest", "Chest4", "Chest3", "Spine1", "UpperChest", "Ab"),
    "neck": ("Neck", "neck", "Neck1"),
    "head": ("Head", "head"),
    **{
        f"{side}_{role}": tuple(n.format(S=side.capitalize(), s=side[0].upper(), l=side[0]) for n in names)
        for side in ("left", "right")
        for role, names in {
            "hip": ("{S}UpLeg", "{S}Hip", "{S}Thigh", "{s}Thigh", "{s}Hip"),
            "knee": ("{S}Leg", "{S}Knee", "{S}Shin", "{S}LowLeg", "{s}Shin", "{s}Knee"),
            "ankle": ("{S}Foot", "{S}Ankle", "{s}Foot", "{s}Ankle"),
            "toe": ("{S}ToeBase", "{S}Toe", "{S}Toes", "{s}Toe"),
            "shoulder": ("{S}Arm", "{S}Shoulder", "{S}UpArm", "{s}UArm", "{s}Shoulder"),
            "elbow": ("{S}ForeArm", "{S}Elbow", "{S}LowArm", "{s}FArm", "{s}Elbow"),
            "wrist": ("{S}Hand", "{S}Wrist", "{s}Hand", "{s}Wrist"),
        }.items()
    },
}
"""Joint names in use (Mixamo, Xsens, Noitom, OptiTrack, CMU), the likeliest first."""


def scan(root: Path) -> Iterator[Clip]:
    """Every file; Bandai-Namco's tell content and style by their names."""
    for clip in scan_files(root, "bvh", "unknown: ask the owner"):
        take = stem(clip)
        match = re.fullmatch(r"(dataset-\d+)_(.+)_([^_]+)_(\d+)", take)
        if match:
            yield replace(clip, licence="CC BY-NC 4.0", recording=take, label=f"{match[2]} ({match[3]})")
        else:
            yield replace(clip, recording=take, label=take)


def load(root: Path, clip: Clip, options: LoadOptions) -> HumanMotion:
    """A person's motion; `Rejected` where the file is broken or its skeleton unknown."""
    demand_suffix(clip, ".bvh")
    file = read_bvh(open_path(root, clip))
    names = {name.split(":")[-1] for name in file.joint_names}
    if names - {"joint_Root"} == BANDAI_JOINTS:
        return human_motion(
            file, "bandai", {"left_hip": "UpperLeg_L", "left_knee": "LowerLeg_L", "left_ankle": "Foot_L"}
        )
    if {name.replace("ToeBase", "Toe") for name in names} == LAFAN1_JOINTS and options.skeleton is None:
        return human_motion(file, "lafan1", LAFAN1_LEG)
    return _generic_motion(file, _skeleton_file(options.skeleton) if options.skeleton else _by_common_names(file))


LAFAN1_LEG = {"left_hip": "LeftUpLeg", "left_knee": "LeftLeg", "left_ankle": "LeftFoot"}


@dataclass(frozen=True)
class BvhFile:
    """What a BVH holds, in its own unit and axes."""

    joint_names: tuple[str, ...]
    parents: tuple[int, ...]
    offsets: Float[np.ndarray, "J 3"]
    channels: tuple[tuple[str, ...], ...]
    """Per joint, such as ("Xposition", …, "Zrotation")."""
    values: Float[np.ndarray, "T C"]
    fps: float


def read_bvh(path: Path) -> BvhFile:
    """Parse a file strictly: what does not fit is `Rejected` with what was expected."""
    data = path.read_bytes()
    mark = re.search(rb"^[ \t]*MOTION[ \t]*\r?$", data, re.MULTILINE)
    if not data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"HIERARCHY") or mark is None:
        raise Rejected("truncated", "a BVH has a HIERARCHY and a MOTION part")
    names, parents, offsets, channels = _hierarchy(
        data[: mark.start()].decode("utf-8", "replace").replace("\ufeff", "")
    )
    head = re.match(rb"\s*Frames:\s*(\S+)\s+Frame Time:\s*(\S+)[^\n]*\n?", data[mark.end() :])
    if head is None:
        raise Rejected("truncated", "no 'Frames:' and 'Frame Time:' lines")
    try:
        frame_count, frame_time = int(head[1]), float(head[2])
    except ValueError:
        raise Rejected("bad_frame_rate", f"Frames {head[1][:20]!r}, Frame Time {head[2][:20]!r}") from None
    if not frame_time > 0:
        raise Rejected("bad_frame_rate", "the frame time is not positive", frame_time=frame_time)
    check_fps(1.0 / frame_time)
    values = _values(data[mark.end() + head.end() :], frame_count, sum(map(len, channels)))
    return BvhFile(names, parents, offsets, channels, values, _nominal_rate(1.0 / frame_time))


def _nominal_rate(fps: float) -> float:
    """0.033333 s means 30 Hz: snap to a whole rate within the digits that were written."""
    return float(round(fps)) if abs(fps - round(fps)) < 2e-3 * fps else fps


def _values(text: bytes, frame_count: int, channel_count: int) -> Float[np.ndarray, "T C"]:
    if frame_count < 0 or frame_count * channel_count > len(text):
        raise Rejected("truncated", "fewer values than frames × channels", frames=frame_count, channels=channel_count)
    try:
        values = np.array(text.split(), dtype=np.float64)
    except ValueError as error:
        raise Rejected("truncated", f"not a number in the motion: {error}") from None
    if len(values) != frame_count * channel_count:
        raise Rejected(
            "truncated" if len(values) < frame_count * channel_count else "wrong_shape",
            "values should be frames × channels", values=len(values), frames=frame_count, channels=channel_count,
        )  # fmt: skip
    if not np.isfinite(values).all():
        raise Rejected("not_finite", "NaN or infinity in the motion")
    return values.reshape(frame_count, channel_count)


def _hierarchy(
    text: str,
) -> tuple[tuple[str, ...], tuple[int, ...], Float[np.ndarray, "J 3"], tuple[tuple[str, ...], ...]]:
    names: list[str] = []
    parents: list[int] = []
    offsets: list[list[float]] = []
    channels: list[tuple[str, ...]] = []
    stack: list[int] = []  # open joints; −1 stands for an end site
    pending: int | None = None
    for line in text.splitlines():
        words = line.split()
        if not words:
            continue
        match words[0].upper():
            case "HIERARCHY":
                continue
            case "ROOT" | "JOINT":
                if len(names) >= MAX_JOINTS or len(stack) >= MAX_DEPTH:
                    raise Rejected("bad_hierarchy", "too many joints or too deep", joints=len(names), depth=len(stack))
                if (words[0].upper() == "ROOT") != (not stack) or (not stack and names) or len(words) < 2:
                    raise Rejected("bad_hierarchy", f"misplaced line {line.strip()[:40]!r}")
                parents.append(stack[-1] if stack else -1)
                names.append(words[1])
                offsets.append([])
                channels.append(())
                pending = len(names) - 1
            case "END":
                pending = -1
            case "{":
                if pending is None:
                    raise Rejected("bad_hierarchy", "a brace without a joint")
                stack.append(pending)
                pending = None
            case "}":
                if not stack:
                    raise Rejected("bad_hierarchy", "one closing brace too many")
                stack.pop()
            case "OFFSET":
                if stack and stack[-1] >= 0:
                    offsets[stack[-1]] = _numbers(words[1:4], line)
            case "CHANNELS":
                if stack and stack[-1] >= 0:
                    channels[stack[-1]] = _channels(words, line)
            case _:
                raise Rejected("bad_hierarchy", f"unknown line {line.strip()[:40]!r}")
    if stack or not names or any(len(offset) != 3 for offset in offsets):
        raise Rejected("bad_hierarchy", "unclosed braces, no joints, or a joint without OFFSET")
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise Rejected("joint_named_twice", f"joint {twice!r} occurs more than once", joint=twice)
    return tuple(names), tuple(parents), np.array(offsets), tuple(channels)


def _numbers(words: list[str], line: str) -> list[float]:
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        numbers = []
    if len(numbers) != 3 or not np.isfinite(numbers).all():
        raise Rejected("bad_hierarchy", f"an OFFSET has three numbers: {line.strip()[:40]!r}")
    return numbers


def _channels(words: list[str], line: str) -> tuple[str, ...]:
    channels = tuple(word[:1].upper() + word[1:].lower() for word in words[2:])
    known = all(re.fullmatch(r"[XYZ](position|rotation)", channel) for channel in channels)
    if len(words) < 2 or words[1] != str(len(channels)) or not known or len(set(channels)) != len(channels):
        raise Rejected("bad_hierarchy", f"unknown CHANNELS: {line.strip()[:60]!r}")
    return channels


def human_motion(
    file: BvhFile, name: str, leg: dict[str, str], unit: str | None = None, up: str | None = None
) -> HumanMotion:
    """World motion in metres, z up; `leg` names the left hip, knee and ankle, by which the unit is found."""
    position, rotation = _world(file)
    names = [
        n.split(":")[-1].replace("ToeBase", "Toe") if name == "lafan1" else n.split(":")[-1] for n in file.joint_names
    ]
    parents, offsets = file.parents, file.offsets.copy()
    _rest_offsets(file, offsets)
    if names[0] == "joint_Root":  # Bandai-Namco's hips hang on a root of their own
        names, parents = names[1:], tuple(p - 1 for p in parents[1:])
        position, rotation, offsets = position[:, 1:], rotation[:, 1:], offsets[1:]
    scale = UNITS[unit] if unit else _unit_scale(names, offsets, leg)
    position = position * scale
    if (up or "y") == "y":
        turn = np.broadcast_to(rotations.Y_UP_TO_Z_UP, rotation.shape)
        position = rotations.rotate(turn, position)
        rotation = rotations.multiply(turn, rotation)
    skeleton = Skeleton(name, tuple(names), parents, offsets * scale)
    return HumanMotion(skeleton, position, rotation, file.fps, body_model="file")


def _rest_offsets(file: BvhFile, offsets: Float[np.ndarray, "J 3"]) -> None:
    """Where a file animates a bone's offset, the bone is what the first frame says."""
    column = 0
    for joint, channels in enumerate(file.channels):
        for channel in channels:
            if channel.endswith("position") and file.parents[joint] >= 0 and len(file.values):
                offsets[joint, "XYZ".index(channel[0])] = file.values[0, column]
            column += 1


def _world(file: BvhFile) -> tuple[Float[np.ndarray, "T J 3"], Float[np.ndarray, "T J 4"]]:
    """Forward kinematics in the file's own unit and axes. Position channels replace offsets, the root's included."""
    frame_count, joint_count = len(file.values), len(file.joint_names)
    if frame_count < 2:
        raise Rejected("too_short", "fewer than two frames", frames=frame_count, minimum=2)
    local_position = np.broadcast_to(file.offsets, (frame_count, joint_count, 3)).copy()
    local_rotation = np.zeros((frame_count, joint_count, 4))
    groups: dict[str, tuple[list[int], list[list[int]]]] = {}
    column = 0
    for joint, channels in enumerate(file.channels):
        order, columns = "", []
        for channel in channels:
            if channel.endswith("position"):
                local_position[:, joint, "XYZ".index(channel[0])] = file.values[:, column]
            else:
                order += channel[0].lower()
                columns.append(column)
            column += 1
        joints, all_columns = groups.setdefault(order, ([], []))
        joints.append(joint)
        all_columns.append(columns)
    for order, (joints, columns) in groups.items():
        angles = np.radians(file.values[:, np.array(columns, int).reshape(len(joints), len(order))])
        local_rotation[:, joints] = rotations.compose_axes(angles, order)
    skeleton = Skeleton("file", file.joint_names, file.parents, file.offsets)
    return forward_kinematics(skeleton, local_position[:, 0], local_rotation, local_position=local_position)


def _unit_scale(names: list[str], offsets: Float[np.ndarray, "J 3"], leg: dict[str, str]) -> float:
    """Metres per unit, by the length from hip to ankle; inches are told from centimetres by the range."""
    length = sum(float(np.linalg.norm(offsets[names.index(leg[role])])) for role in ("left_knee", "left_ankle"))
    for scale in UNITS.values():
        if LEG_LENGTH[0] <= length * scale <= LEG_LENGTH[1]:
            return scale
    raise Rejected(
        "bad_unit",
        f"no unit makes the leg 0.5–1.2 m long (tried {', '.join(UNITS)})",
        leg_in_file_units=round(length, 4),
    )


@dataclass(frozen=True)
class _Mapping:
    roles: dict[str, str]
    name: str = "bvh"
    unit: str | None = None
    up: str = "y"
    rest: str | int = "zero"


def _by_common_names(file: BvhFile) -> _Mapping:
    short = {name.split(":")[-1]: name.split(":")[-1] for name in file.joint_names}
    roles = {role: next((n for n in names if n in short), None) for role, names in COMMON_NAMES.items()}
    missing = [role for role, joint in roles.items() if joint is None and role not in ("neck", "head")]
    if missing:
        raise Rejected(
            "unknown_skeleton",
            f"no joint found for {', '.join(missing)}; write a skeleton file (--skeleton). Joints: {', '.join(short)}",
        )
    return _Mapping({role: joint for role, joint in roles.items() if joint is not None})


def _skeleton_file(path: Path) -> _Mapping:
    try:
        text = path.read_text()
        content = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        roles = dict(content["roles"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MotionloomError(f"{path}: not a skeleton file ({type(error).__name__}: {error}).") from None
    unknown = set(roles) - set(ROLES)
    missing = set(ROLES) - {"neck", "head"} - set(roles)
    if unknown or missing or content.get("unit", "m") not in UNITS or content.get("up", "y") not in ("y", "z"):
        raise MotionloomError(
            f"{path}: roles missing: {sorted(missing) or 'none'}, unknown: {sorted(unknown) or 'none'}; "
            f"unit is one of {', '.join(UNITS)}, up is y or z."
        )
    return _Mapping(
        roles, content.get("name", "bvh"), content.get("unit"), content.get("up", "y"), content.get("rest", "zero")
    )


def _generic_motion(file: BvhFile, mapping: _Mapping) -> HumanMotion:
    names = [name.split(":")[-1] for name in file.joint_names]
    for role, joint in mapping.roles.items():
        if joint not in names:
            raise Rejected("missing_joint", f"{role} should be {joint!r}; joints: {', '.join(names)}", joint=joint)
    motion = human_motion(file, "generic", mapping.roles, mapping.unit, mapping.up)
    if mapping.rest == "zero":
        zero = replace(file, values=_zero_pose(file))
        rest = human_motion(zero, "generic", mapping.roles, mapping.unit, mapping.up)
        frame = 0
    else:
        rest, frame = motion, int(mapping.rest)
        if not 0 <= frame < motion.frame_count:
            raise Rejected("no_rest_pose", f"rest frame {frame} is not in the take", frames=motion.frame_count)
    rest_rotation = _facing_x(rest, frame, mapping.roles)
    skeleton = replace(motion.skeleton, roles=tuple(mapping.roles.items()), rest_rotation=rest_rotation)
    return replace(motion, skeleton=skeleton, note=f"skeleton read as {mapping.name}")


def _zero_pose(file: BvhFile) -> Float[np.ndarray, "2 C"]:
    """Two frames with all rotations zero, positions as in the first frame."""
    kept = [channel.endswith("position") for channels in file.channels for channel in channels]
    return np.where(kept, file.values[:1], 0.0).repeat(2, 0)


def _facing_x(rest: HumanMotion, frame: int, roles: dict[str, str]) -> Float[np.ndarray, "J 4"]:
    """World orientations in the rest pose, turned so that the person faces +x; refuses what is no T- or A-pose."""
    at = {role: rest.position[frame, rest.skeleton.index(joint)] for role, joint in roles.items()}
    left = at["left_hip"] - at["right_hip"] + at["left_shoulder"] - at["right_shoulder"]
    upright = at["chest"][2] > at["pelvis"][2] > max(at["left_ankle"][2], at["right_ankle"][2]) + 0.3
    arms = [at[f"{s}_wrist"] - at[f"{s}_shoulder"] for s in ("left", "right")]
    sideways = all(
        np.linalg.norm(a[:2]) > 0.3 * np.linalg.norm(a) and s * (a @ left) > 0
        for a, s in zip(arms, (1, -1), strict=True)
    )
    if not upright or not sideways:
        raise Rejected(
            "no_rest_pose", "the rest pose is no upright T-pose; name a frame that is one: rest = N in a skeleton file"
        )
    facing = np.arctan2(-left[0], left[1])
    turn = np.broadcast_to(rotations.about_z(np.array(-facing)), rest.rotation[frame].shape)
    return rotations.multiply(turn, rest.rotation[frame])
