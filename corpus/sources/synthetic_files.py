"""Put made-up motion on disk in the formats of the data sets, true to the byte where their readers look.

SMPL-like formats take a motion of SMPL's 22 joints, BVH one of `synthetic_layouts.on_layout`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from corpus import rotations
from corpus.body_model import MEAN_PELVIS
from corpus.motion import HumanMotion, RobotMotion

PHUMA_CHUNK_S = 4.0
"""Longest chunk of PHUMA [s]."""


def write_amass_smplh(motion: HumanMotion, path: Path, *, gender: str | bytes = "neutral") -> Path:
    """AMASS as SMPL+H: `poses` (T, 156), `mocap_framerate`."""
    root, body = _axis_angles(motion)
    frame_count = motion.frame_count
    return _save(
        path,
        trans=motion.position[:, 0] - MEAN_PELVIS["smplh"],
        gender=np.array(gender),
        mocap_framerate=np.array(motion.fps),
        betas=np.zeros(16),
        dmpls=np.zeros((frame_count, 8)),
        poses=np.concatenate([root, body, np.zeros((frame_count, 90))], 1),
    )


def write_amass_smplx(motion: HumanMotion, path: Path) -> Path:
    """AMASS as SMPL-X (`*_stageii.npz`): `root_orient`, `pose_body` … beside `poses` (T, 165), `mocap_frame_rate`."""
    root, body = _axis_angles(motion)
    hand, jaw, eye = (np.zeros((motion.frame_count, width)) for width in (90, 3, 6))
    return _save(
        path,
        gender=np.array("neutral"),
        surface_model_type=np.array("smplx"),
        mocap_frame_rate=np.array(motion.fps),
        mocap_time_length=np.array(motion.frame_count / motion.fps),
        trans=motion.position[:, 0] - MEAN_PELVIS["smplx"],
        poses=np.concatenate([root, body, jaw, eye, hand], 1),
        betas=np.zeros(16),
        num_betas=np.array(16),
        root_orient=root,
        pose_body=body,
        pose_hand=hand,
        pose_jaw=jaw,
        pose_eye=eye,
    )


def write_motionx(motion: HumanMotion, path: Path, *, text: str | None = None, sunk: bool = False) -> Path:
    """Motion-X: (T, 322) float32, y up; label in a `.txt` beside it. `sunk`: the known fault, no pelvis offset."""
    root, body, pelvis = _y_up(motion)
    table = np.zeros((motion.frame_count, 322), np.float32)
    table[:, 0:3], table[:, 3:66] = root, body
    # The fault turns the translation without the pelvis' own place in the body, which does not turn with it.
    in_z_up = motion.position[:, 0] - MEAN_PELVIS["smplx"]
    table[:, 309:312] = _turned(in_z_up) if sunk else pelvis - MEAN_PELVIS["smplx"]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, table)
    if text is not None:
        path.with_suffix(".txt").write_text(text + "\n", encoding="utf-8")
    return path


def write_phuma_human(motion: HumanMotion, folder: Path, name: str, *, contact: bool = False) -> list[Path]:
    """PHUMA's human pose: (T, 69) float32, 73 with contacts, y up, in chunks `<name>_chunk_0000.npy` of at most 4 s."""
    root, body, pelvis = _y_up(motion)
    table = np.concatenate([pelvis - MEAN_PELVIS["smplx"], root, body], 1).astype(np.float32)
    if contact:
        table = np.concatenate([table, np.ones((len(table), 4), np.float32)], 1)
    folder.mkdir(parents=True, exist_ok=True)
    length, paths = int(PHUMA_CHUNK_S * motion.fps), []
    for i, start in enumerate(range(0, len(table), length)):
        paths.append(folder / f"{name}_chunk_{i:04d}.npy")
        np.save(paths[-1], table[start : start + length])
    return paths


def write_phuma_robot(motion: RobotMotion, path: Path) -> Path:
    """PHUMA's robot pose: a pickled dict in a 0-d object array, quaternions xyzw."""
    found = {
        "root_trans": motion.root_position.astype(np.float32),
        "root_ori": np.roll(motion.root_rotation, -1, axis=1).astype(np.float32),
        "dof_pos": motion.joint_position.astype(np.float32),
        "fps": int(motion.fps),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    holder = np.empty((), object)
    holder[()] = found
    np.save(path, holder, allow_pickle=True)
    return path


def write_lafan1(motion: HumanMotion, path: Path) -> Path:
    """LAFAN1: centimetres, y up, root position and z-y-x Euler degrees, every line of numbers ending with a blank."""
    turns = _local_turns(motion)
    root = _turned(motion.position[:, 0]) * 100
    numbers = np.concatenate([root, euler_degrees(turns, "zyx").reshape(len(root), -1)], 1)
    offsets = motion.skeleton.offsets * 100
    offsets = np.concatenate([root[:1], offsets[1:]])  # the position channels replace it
    angles = "Zrotation Yrotation Xrotation"
    channels = [f"6 Xposition Yposition Zposition {angles}", *[f"3 {angles}"] * (len(offsets) - 1)]
    return _write_bvh(
        path, motion.skeleton.joint_names, motion.skeleton.parents, offsets, channels, numbers, motion.fps
    )


def write_bandai(motion: HumanMotion, path: Path) -> Path:
    """Bandai-Namco: as LAFAN1, but a still `joint_Root` on top, six channels on every joint, z-x-y Euler degrees."""
    skeleton = motion.skeleton
    turns = euler_degrees(_local_turns(motion), "zxy")
    root = _turned(motion.position[:, 0]) * 100
    places = np.tile(skeleton.offsets * 100, (len(root), 1, 1))
    places[:, 0] = root
    numbers = np.concatenate([places, turns], 2).reshape(len(root), -1)
    numbers = np.concatenate([np.zeros((len(root), 6)), numbers], 1)
    names, parents = ("joint_Root", *skeleton.joint_names), (-1, *[parent + 1 for parent in skeleton.parents])
    offsets = np.concatenate([np.zeros((1, 3)), root[:1], skeleton.offsets[1:] * 100])
    channels = ["6 Xposition Yposition Zposition Zrotation Xrotation Yrotation"] * len(names)
    return _write_bvh(path, names, parents, offsets, channels, numbers, motion.fps)


def euler_degrees(q: Float[np.ndarray, "... 4"], order: str) -> Float[np.ndarray, "... 3"]:
    """Intrinsic angles [deg] in the order "zyx" or "zxy"."""
    m = rotations.to_matrix(q)
    first = np.arctan2(m[..., 1, 0], m[..., 0, 0]) if order == "zyx" else np.arctan2(-m[..., 0, 1], m[..., 1, 1])
    # At the singularity the first angle is noise: the other two are read off what is left, so that all three agree.
    rest = rotations.to_matrix(rotations.multiply(rotations.about_z(-first), q))
    if order == "zyx":
        middle, last = np.arctan2(-rest[..., 2, 0], rest[..., 0, 0]), np.arctan2(-rest[..., 1, 2], rest[..., 1, 1])
    else:
        middle, last = np.arctan2(rest[..., 2, 1], rest[..., 1, 1]), np.arctan2(rest[..., 0, 2], rest[..., 0, 0])
    return np.degrees(np.stack([first, middle, last], -1))


def _axis_angles(motion: HumanMotion) -> tuple[Float[np.ndarray, "T 3"], Float[np.ndarray, "T 63"]]:
    """Root orientation in the world and local rotations of the 21 other joints, as rotation vectors."""
    parents = list(motion.skeleton.parents[1:])
    local = rotations.multiply(rotations.conjugate(motion.rotation[:, parents]), motion.rotation[:, 1:])
    body = rotations.to_rotation_vector(local).reshape(motion.frame_count, -1)
    return rotations.to_rotation_vector(motion.rotation[:, 0]), body


def _y_up(motion: HumanMotion) -> tuple[Float[np.ndarray, "T 3"], Float[np.ndarray, "T 63"], Float[np.ndarray, "T 3"]]:
    """Root orientation and body as rotation vectors, and the pelvis' position, in a y-up world."""
    upright = np.broadcast_to(rotations.conjugate(rotations.Y_UP_TO_Z_UP), motion.rotation[:, 0].shape)
    root = rotations.to_rotation_vector(rotations.multiply(upright, motion.rotation[:, 0]))
    return root, _axis_angles(motion)[1], _turned(motion.position[:, 0])


def _local_turns(motion: HumanMotion) -> Float[np.ndarray, "T J 4"]:
    """Rotations of every joint in its parent's frame; the root's in a y-up world."""
    parents = list(motion.skeleton.parents[1:])
    upright = np.broadcast_to(rotations.conjugate(rotations.Y_UP_TO_Z_UP), motion.rotation[:, 0].shape)
    root = rotations.multiply(upright, motion.rotation[:, 0])
    rest = rotations.multiply(rotations.conjugate(motion.rotation[:, parents]), motion.rotation[:, 1:])
    return np.concatenate([root[:, None], rest], 1)


def _turned(position: Float[np.ndarray, "T 3"]) -> Float[np.ndarray, "T 3"]:
    """z up → y up."""
    return np.stack([position[:, 0], position[:, 2], -position[:, 1]], 1)


def _write_bvh(
    path: Path,
    names: tuple[str, ...],
    parents: tuple[int, ...],
    offsets: Float[np.ndarray, "J 3"],
    channels: list[str],
    numbers: Float[np.ndarray, "T C"],
    fps: float,
) -> Path:
    lines = ["HIERARCHY"]

    def joint(index: int, depth: int) -> None:
        tab = "\t" * depth
        lines.append(f"{tab}{'ROOT' if parents[index] < 0 else 'JOINT'} {names[index]}")
        place = " ".join(f"{value:.6f}" for value in offsets[index])
        lines.extend([tab + "{", f"{tab}\tOFFSET {place}", f"{tab}\tCHANNELS {channels[index]} "])
        children = [i for i, parent in enumerate(parents) if parent == index]
        for child in children:
            joint(child, depth + 1)
        if not children:
            lines.extend([f"{tab}\tEnd Site", tab + "\t{", f"{tab}\t\tOFFSET 0.000000 0.000000 0.000000", tab + "\t}"])
        lines.append(tab + "}")

    joint(0, 0)
    lines += ["MOTION", f"Frames: {len(numbers)}", f"Frame Time: {1 / fps:.6f}"]
    row = " ".join(["%.6f"] * numbers.shape[1]) + " "
    lines += [row % tuple(values) for values in numbers]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="ascii")
    return path


def _save(path: Path, **arrays: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.savez(file, **arrays)
    return path
