"""Motion already on the G1: CSV of three kinds, BeyondMimic and Humanoid-GPT npz, and the pickles of GMR, GMT, ASAP, SONIC."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Float

from corpus import rotations
from corpus.errors import Rejected
from corpus.g1 import G1, JOINTS_23, MUJOCO_TO_ISAACLAB
from corpus.motion import Clip, RobotMotion, check_fps
from corpus.robot import forward_kinematics
from corpus.sources.files import demand_suffix, open_path, scan_files, stem
from corpus.sources.lafan1 import take_of
from corpus.sources.options import LoadOptions
from corpus.sources.safe_files import npz_keys, read_npz, read_pickle

UPRIGHT = 0.35
"""Mean upward part of the root's z axis over a clip below which a motion does not stand [cosine]."""

RANGE_SLACK = 0.35
"""Joint angles may leave the G1's range by so much before the file is taken for another robot's [rad]."""


def scan(root: Path) -> Iterator[Clip]:
    """Every file; what the names and folders tell of licence, subject and take."""
    for clip in scan_files(root, "robot", "unknown: ask the owner"):
        recording, label, subject = take_of(stem(clip))
        folder = f"{root.name}/{PurePosixPath(clip.path).parent}".lower()
        if subject or "lafan" in folder:
            licence = "CC BY-NC-ND 4.0"
        else:
            licence = "CC BY 4.0" if _is_g1_moves(folder) else clip.licence
        yield replace(clip, recording=recording, label=label.replace("_", " "), subject=subject, licence=licence)


def load(root: Path, clip: Clip, options: LoadOptions) -> RobotMotion:
    """A motion of 29 joints in MuJoCo's order, at its own rate; `Rejected` where it is not the G1's."""
    demand_suffix(clip, ".csv", ".npz", ".pkl")
    path = open_path(root, clip)
    match path.suffix.lower():
        case ".csv":
            return _csv(path, _is_g1_moves(f"{root.name}/{clip.path}".lower()), options)
        case ".npz":
            return _npz(path, options)
    return _pickle(read_pickle(path), options)


def g1_motion(
    root_position: Any, root_rotation: Any, joints: Any, fps: Any, *, order: str, note: str = ""
) -> RobotMotion:
    """Put a motion together, checking everything: shapes, rate, quaternions, gravity, joint ranges.

    `order` is "wxyz" or "xyzw"; 23 joints are lifted to 29 with still wrists, and the motion says so.
    """
    position, rotation, angles = (_table(x, n) for x, n in ((root_position, "root position"), (root_rotation, "root rotation"), (joints, "joints")))
    if not len(position) == len(rotation) == len(angles):
        raise Rejected("wrong_shape", "root and joints differ in length", frames=len(position), joints=len(angles))
    if position.shape[1] != 3 or rotation.shape[1] != 4:
        raise Rejected("wrong_shape", "root is (T, 3) and (T, 4)", shape=str(rotation.shape))
    if order == "xyzw":
        rotation = rotation[:, [3, 0, 1, 2]]
    rotation = _unit(rotation)
    if angles.shape[1] == 23:
        lifted = np.zeros((len(angles), 29))
        lifted[:, JOINTS_23] = angles
        angles, note = lifted, "; ".join(filter(None, [note, "lifted from 23 joints: wrists held still"]))
    if angles.shape[1] != 29:
        raise Rejected("not_g1", "the G1 has 29 joints (or 23 without wrists)", joints=angles.shape[1])
    _check_range(angles)
    up = float(rotations.rotate(rotation, np.broadcast_to([0.0, 0.0, 1.0], position.shape))[:, 2].mean())
    if up < -UPRIGHT or (up < UPRIGHT and np.median(position[:, 2]) > 0.6):
        raise Rejected("not_upright", "the root lies or hangs at standing height: another quaternion order?", up=round(up, 3))
    return RobotMotion(np.concatenate([position, rotation, angles], 1), _rate(fps), note=note)


def _table(array: Any, name: str) -> Float[np.ndarray, "T C"]:
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind not in "fiu":
        raise Rejected("wrong_shape", f"{name} should be a table of numbers", shape=str(getattr(array, "shape", type(array).__name__)))
    if len(array) < 2:
        raise Rejected("too_short", "fewer than two frames", frames=len(array), minimum=2)
    if not np.isfinite(array).all():
        raise Rejected("not_finite", f"NaN or infinity in {name}")
    return array.astype(np.float64)


def _unit(rotation: Float[np.ndarray, "T 4"]) -> Float[np.ndarray, "T 4"]:
    norm = np.linalg.norm(rotation, axis=1)
    if np.abs(norm - 1).max() > 0.05:
        raise Rejected("wrong_shape", "root quaternions are not of unit length", worst_norm=round(float(norm[np.abs(norm - 1).argmax()]), 4))
    return rotation / norm[:, None]


def _rate(fps: Any) -> float:
    value = np.asarray(fps)
    if value.size != 1 or value.dtype.kind not in "fiu":
        raise Rejected("bad_frame_rate", f"the frame rate is {fps!r}"[:80])
    check_fps(float(value.reshape(-1)[0]))
    return float(value.reshape(-1)[0])


def _check_range(angles: Float[np.ndarray, "T 29"]) -> None:
    outside = np.maximum(angles - G1.upper, G1.lower - angles).max(1)
    share = float((outside > RANGE_SLACK).mean())
    if share > 0.5:
        reason = "bad_unit" if outside.max() > 10 else "not_g1"
        raise Rejected(reason, "joint angles leave the G1's range in most frames: degrees, or another robot?", share=round(share, 3))


def _is_g1_moves(path: str) -> bool:
    return "g1_moves" in path or "g1-moves" in path


def _csv(path: Path, g1_moves: bool, options: LoadOptions) -> RobotMotion:
    text = path.read_bytes().decode("utf-8", "replace")
    first = next(csv.reader([text.split("\n", 1)[0]]), [])
    if first and not _is_number(first[0]):
        return _bones_seed(first, text, options)
    rows = _rows(text, 36)
    note = ""
    if options.fps is None:
        note = "" if g1_moves else "no rate in the file: taken as 30 Hz"
    fps = options.fps or (60.0 if g1_moves else 30.0)
    if len(rows) < 2:
        raise Rejected("too_short", "fewer than two frames", frames=len(rows), minimum=2)
    order = options.quaternion
    if order == "auto":
        order, doubt = _gravity_test(rows[:, 3:7], rows[:, 2])
        note = "; ".join(filter(None, [note, doubt]))
    return g1_motion(rows[:, :3], rows[:, 3:7], rows[:, 7:], fps, order=order, note=note)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _rows(text: str, columns: int, skip: int = 0) -> Float[np.ndarray, "T C"]:
    lines = text.strip().split("\n")[skip:]
    widths = {line.count(",") + 1 for line in lines}
    if widths != {columns}:
        reason = "truncated" if len(widths) > 1 else "wrong_shape"
        raise Rejected(reason, f"every line should have {columns} columns", columns=str(sorted(widths))[:60])
    try:
        return np.array(",".join(lines).split(","), dtype=np.float64).reshape(-1, columns)
    except ValueError as error:
        raise Rejected("truncated", f"not a number: {error}") from None


def _gravity_test(quaternions: Float[np.ndarray, "T 4"], height: Float[np.ndarray, "T"]) -> tuple[str, str]:
    """"wxyz" or "xyzw", whichever keeps a standing robot upright, and a note where that was close.

    A robot that never turns away from +x stands in both readings (in the other it faces -x all the time): it is read as
    xyzw, the order of the CSV files in public, and the note says so. Where neither stands, the file is refused.
    """
    up = {}
    for order, columns in (("wxyz", [0, 1, 2, 3]), ("xyzw", [3, 0, 1, 2])):
        q = quaternions[:, columns]
        norm = np.maximum(np.linalg.norm(q, axis=1), 1e-9)
        x, y = q[:, 1] / norm, q[:, 2] / norm
        up[order] = 1 - 2 * (x * x + y * y)  # the root's z axis along the world's
    standing = height > 0.55
    if standing.sum() < 2:
        standing = np.ones(len(height), bool)
    score = {order: float(value[standing].mean()) for order, value in up.items()}
    best, other = sorted(score, key=lambda order: score[order], reverse=True)
    if score[best] < UPRIGHT or (score[best] - score[other] < 0.05 and score[best] < 0.9):
        raise Rejected(
            "ambiguous_quaternion", "both orders stand, or neither: give --quat", **{k: round(v, 3) for k, v in score.items()}
        )
    if score[best] - score[other] < 0.05:
        return "xyzw", "quaternion taken as xyzw: both orders stand"
    return best, ""


def _bones_seed(header: list[str], text: str, options: LoadOptions) -> RobotMotion:
    """BONES-SEED: centimetres, degrees, extrinsic xyz Euler angles, 120 Hz."""
    names = [name.strip() for name in header]
    wanted = [f"root_translate{a}" for a in "XYZ"] + [f"root_rotate{a}" for a in "XYZ"] + [f"{j}_dof" for j in G1.joint_names]
    missing = [name for name in wanted if name not in names]
    if missing:
        raise Rejected("not_g1", f"unknown CSV header; a BONES-SEED file has {', '.join(missing[:3])} …", missing=len(missing))
    rows = _rows(text, len(names), skip=1)[:, [names.index(name) for name in wanted]]
    if not np.isfinite(rows).all():
        raise Rejected("not_finite", "NaN or infinity")
    # Extrinsic xyz is intrinsic zyx with the angles reversed.
    rotation = rotations.from_euler(np.radians(rows[:, [5, 4, 3]]), "zyx")
    return g1_motion(rows[:, :3] / 100, rotation, np.radians(rows[:, 6:]), options.fps or 120.0, order="wxyz")


def _npz(path: Path, options: LoadOptions) -> RobotMotion:
    keys = set(npz_keys(path))
    if {"joint_pos", "body_pos_w", "body_quat_w"} <= keys:
        return _beyond_mimic(read_npz(path, ("fps", "joint_pos", "body_pos_w", "body_quat_w", "joint_names")), options)
    if "qpos" in keys:
        # The velocities such files carry are all zero: they are computed from the positions, never read.
        file = read_npz(path, ("qpos", "frequency", "fps"))
        qpos = _table(file["qpos"], "qpos")
        if qpos.shape[1] not in (36, 30):
            raise Rejected("not_g1", "qpos of the G1 has 36 columns", columns=qpos.shape[1])
        fps = file.get("frequency", file.get("fps", options.fps or 50.0))
        return g1_motion(qpos[:, :3], qpos[:, 3:7], qpos[:, 7:], fps, order="wxyz")
    raise Rejected("not_g1", f"no robot motion: expected joint_pos with body_pos_w, or qpos; has {', '.join(sorted(keys))[:200]}")


def _beyond_mimic(file: dict[str, np.ndarray], options: LoadOptions) -> RobotMotion:
    joints = _table(file["joint_pos"], "joint_pos")
    places, turns = file["body_pos_w"], file["body_quat_w"]
    if places.ndim != 3 or turns.ndim != 3 or places.shape[:2] != turns.shape[:2] or places.shape[2:] != (3,) or turns.shape[2:] != (4,):
        raise Rejected("wrong_shape", "body_pos_w (T, B, 3) and body_quat_w (T, B, 4)", shape=str(places.shape))
    if len(places) != len(joints):
        raise Rejected("wrong_shape", "joints and bodies differ in length", frames=len(places), joints=len(joints))
    fps = file.get("fps", options.fps)
    if fps is None:
        raise Rejected("bad_frame_rate", "no fps in the file; give --fps")
    if joints.shape[1] == 36:  # holosoma writes the whole qpos, and names the joints
        names = [str(name) for name in file["joint_names"].reshape(-1)] if "joint_names" in file else list(G1.joint_names)
        if sorted(names) != sorted(G1.joint_names):
            raise Rejected("not_g1", f"joints: {', '.join(names)[:200]}")
        angles = joints[:, 7:][:, [names.index(name) for name in G1.joint_names]]
        return g1_motion(joints[:, :3], joints[:, 3:7], angles, fps, order="wxyz")
    if joints.shape[1] != 29:
        raise Rejected("not_g1", "the G1 has 29 joints", joints=joints.shape[1])
    root = _table(places[:, 0], "body_pos_w"), _table(turns[:, 0], "body_quat_w")
    isaac = joints[:, MUJOCO_TO_ISAACLAB]
    error = {name: _fit(root, angles, places) for name, angles in (("mujoco", joints), ("isaaclab", isaac))}
    best = min(error, key=lambda name: error[name])
    if error[best] > 0.05:
        raise Rejected("not_g1", "the bodies do not lie where the G1's joints put them", error_m=round(error[best], 3))
    return g1_motion(*root, joints if best == "mujoco" else isaac, fps, order="wxyz")


def _fit(root: tuple[np.ndarray, np.ndarray], angles: np.ndarray, places: np.ndarray) -> float:
    """How far the file's bodies lie from the nearest of ours, on average over a few frames [m]."""
    frames = np.linspace(0, len(angles) - 1, min(8, len(angles))).astype(int)
    ours, _ = forward_kinematics(G1, np.concatenate([root[0], root[1], angles], 1)[frames])
    theirs = places[frames]
    return float(np.linalg.norm(ours[:, :, None] - theirs[:, None], axis=3).min(2).mean())


def _pickle(content: Any, options: LoadOptions) -> RobotMotion:
    if isinstance(content, dict) and len(content) == 1 and isinstance(next(iter(content.values())), dict):
        content = next(iter(content.values()))  # motion_lib: name → motion
    if not isinstance(content, dict):
        raise Rejected("not_g1", "expected a dictionary of arrays")
    if any(isinstance(value, dict) for value in content.values()):
        raise Rejected("several_motions", "one file, several motions: split it into a file each", motions=len(content))
    keys = {"position": ("root_pos", "root_trans_offset", "root_trans"), "rotation": ("root_rot", "root_ori"), "joints": ("dof_pos", "dof")}
    found = {role: next((content[key] for key in names if key in content), None) for role, names in keys.items()}
    for role, value in found.items():
        if value is None:
            raise Rejected("missing_key", f"one of {', '.join(keys[role])}; has {', '.join(map(str, content))[:200]}", key=keys[role][0])
    fps = content.get("fps", options.fps)
    if fps is None:
        raise Rejected("bad_frame_rate", "no fps in the file; give --fps")
    order = options.quaternion if options.quaternion != "auto" else "xyzw"
    return g1_motion(found["position"], found["rotation"], found["joints"], fps, order=order)
