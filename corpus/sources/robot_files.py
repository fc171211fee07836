"""Motion that already is on the G1: CSV, npz and pickles of the projects that make it.

CSV of Unitree, g1-moves, kimodo and BONES-SEED; npz of BeyondMimic, mjlab, holosoma and Humanoid-GPT; pickles of GMR,
TWIST, GMT, SONIC, ASAP and PBHC.

What a file does not say is decided in `robot_checks`; CSV is read in `robot_csv`.
"""

from __future__ import annotations

import pickletools
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Float

from corpus.errors import Rejected
from corpus.g1 import G1
from corpus.motion import Clip, RobotMotion
from corpus.sources import safe_files
from corpus.sources.files import list_files, open_path
from corpus.sources.options import LoadOptions
from corpus.sources.robot_checks import as_matrix, g1_motion, joints_in_mujoco_order, rate, widen
from corpus.sources.robot_csv import is_g1_moves, read_csv

EXPECTED = ".csv of 36 columns or with BONES-SEED's header, .npz with joint_pos or qpos, .pkl with root and dof"
UNKNOWN_LICENCE = "unknown: ask the owner"
LAFAN1_NAME = re.compile(
    r"(?:aiming|dance|fallAndGetUp|fight|fightAndSports|ground|jumps|multipleActions|obstacles|push|pushAndFall"
    r"|pushAndStumble|run|spin|sprint|walk)\d+_(subject\d+)"
)
ROOT_KEYS = ("root_pos", "root_trans_offset", "root_trans")
ROTATION_KEYS = ("root_rot", "root_ori")
JOINT_KEYS = ("dof_pos", "dof")


def scan(root: Path) -> Iterator[Clip]:
    files = list(list_files(root))
    names = {path for path, _ in files}
    for path, byte_count in files:
        stem = PurePosixPath(path).with_suffix("")
        if path.endswith(".json") and f"{stem}.csv" in names:
            continue  # tells the rate of the CSV beside it
        for part, name in _parts(root, path, byte_count):
            yield _clip(root, path, byte_count, part, name or stem.name)


def load(root: Path, clip: Clip, options: LoadOptions) -> RobotMotion:
    path = open_path(root, clip)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise Rejected("not_motion", f"robot reads {EXPECTED}")
    return reader(path, root, clip, options)


def _clip(root: Path, path: str, byte_count: int, part: str, name: str) -> Clip:
    """What folder and name tell; chunks of a take share its recording."""
    recording = re.sub(r"_chunk_\d+$", "", name)
    lafan1 = LAFAN1_NAME.search(name)
    licence, subject = UNKNOWN_LICENCE, ""
    if lafan1:
        recording, subject, licence = lafan1.group(0), lafan1.group(1), "CC BY-NC-ND 4.0 (LAFAN1)"
    elif is_g1_moves(root, path):
        licence = "CC BY 4.0"
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", re.sub(r"_?subject\d+|_chunk_\d+$", "", recording))
    label = " ".join(word.lower() for word in words if len(word) > 1)
    return Clip("robot", path, licence, subject, recording, label, part, byte_count)


# --- npz


def _read_npz(path: Path, root: Path, clip: Clip, options: LoadOptions) -> RobotMotion:
    keys = set(safe_files.npz_keys(path))
    if "joint_pos" in keys:
        return _simulator_npz(path, keys, options)
    if "qpos" in keys:
        return _humanoid_gpt(path, options)
    raise Rejected("not_g1", f"has {', '.join(sorted(keys))}; expected {EXPECTED}"[:300])


def _simulator_npz(path: Path, keys: set[str], options: LoadOptions) -> RobotMotion:
    """BeyondMimic, mjlab, holosoma. Their root is the pelvis' body state, or the first 7 numbers of `joint_pos`."""
    data = safe_files.read_npz(path, ["fps", "joint_pos", "joint_names", "body_names", "body_pos_w", "body_quat_w"])
    fps, joints = rate(data.get("fps", options.fps)), as_matrix(data["joint_pos"], "joint_pos")
    if joints.shape[1] == 7 + G1.joint_count:
        state, joints = joints[:, :7], joints[:, 7:]
    else:
        if not {"body_pos_w", "body_quat_w"} <= keys:
            raise Rejected("missing_key", "joint_pos without a root needs body_pos_w and body_quat_w", key="body_pos_w")
        state = _root_state(data, len(joints))
    note = ""
    if joints.shape[1] == G1.joint_count and "joint_names" in data:
        joints = joints[:, _places(data["joint_names"])]
    elif joints.shape[1] == G1.joint_count:
        bodies = np.asarray(data.get("body_pos_w", state[:, None, :3]), float)
        joints, note = joints_in_mujoco_order(state, joints, bodies)
    else:
        joints, note = widen(joints)
    return g1_motion(state[:, :3], state[:, 3:7], joints, fps, order=_order("wxyz", options), note=note)


def _root_state(data: dict[str, np.ndarray], frame_count: int) -> Float[np.ndarray, "T 7"]:
    position, rotation = (np.asarray(data[key], float) for key in ("body_pos_w", "body_quat_w"))
    names = [str(name) for name in data.get("body_names", ())]
    pelvis = names.index("pelvis") if "pelvis" in names else 0
    good = position.ndim == rotation.ndim == 3 and len(position) == len(rotation) == frame_count
    if not good or position.shape[2] != 3 or rotation.shape[2] != 4 or position.shape[1] <= pelvis:
        shapes = f"{position.shape}, {rotation.shape}"
        raise Rejected("wrong_shape", "body_pos_w should be (T, B, 3) and body_quat_w (T, B, 4)", shape=shapes)
    return np.concatenate([position[:, pelvis], rotation[:, pelvis]], 1)


def _places(names: np.ndarray) -> list[int]:
    """Where each of our joints stands among a file's; Rejected where one is absent."""
    given = [str(name).removesuffix("_joint") for name in names.ravel()]
    for name in G1.joint_names:
        if name.removesuffix("_joint") not in given:
            raise Rejected("not_g1", "joint_names lacks one of the G1's joints", joint=name)
    return [given.index(name.removesuffix("_joint")) for name in G1.joint_names]


def _humanoid_gpt(path: Path, options: LoadOptions) -> RobotMotion:
    """`qpos` alone is read: the released converter writes all-zero `qvel`, and velocities are ours to compute."""
    data = safe_files.read_npz(path, ["qpos", "frequency", "fps"])
    qpos = as_matrix(data["qpos"], "qpos")
    if qpos.shape[1] != 7 + G1.joint_count:
        raise Rejected("not_g1", "qpos should be (T, 36)", shape=str(qpos.shape))
    fps = rate(data["frequency"] if "frequency" in data else data.get("fps", options.fps))
    return g1_motion(qpos[:, :3], qpos[:, 3:7], qpos[:, 7:], fps, order=_order("wxyz", options))


# --- pickles


def _read_pickle(path: Path, root: Path, clip: Clip, options: LoadOptions) -> RobotMotion:
    status = path.stat()
    found = _unpickled(path, status.st_mtime_ns, status.st_size)
    if clip.part:
        found = found.get(clip.part)
    elif _is_library(found):
        found = next(iter(found.values()))
    if not isinstance(found, dict):
        raise Rejected("not_motion", f"expected a dict with {ROOT_KEYS[0]}, {ROTATION_KEYS[0]} and {JOINT_KEYS[0]}")
    return _from_dict(found, options)


def _from_dict(found: dict, options: LoadOptions) -> RobotMotion:
    given = found.get("fps", found.get("mocap_framerate", options.fps))
    root, rotation, joints = (_field(found, keys) for keys in (ROOT_KEYS, ROTATION_KEYS, JOINT_KEYS))
    return g1_motion(root, rotation, joints, given, order=_order("xyzw", options))


def _order(stated: str, options: LoadOptions) -> str:
    """The format's own order of quaternions, unless the user overrules it."""
    return stated if options.quaternion == "auto" else options.quaternion


@lru_cache(maxsize=1)
def _unpickled(path: Path, changed_ns: int, byte_count: int) -> dict:
    """The last file read: its motions tend to be asked for one after another."""
    found = safe_files.read_pickle(path)
    if not isinstance(found, dict):
        raise Rejected("not_motion", f"expected a dict, found {type(found).__name__}")
    return found


def _parts(root: Path, path: str, byte_count: int) -> list[tuple[str, str]]:
    """Pairs (part, name): a motion library's names, else one part without a name.

    Only where the first key of a pickle is no field of a motion is the file read for the others.
    """
    if PurePosixPath(path).suffix.lower() not in (".pkl", ".joblib"):
        return [("", "")]
    try:
        found = open_path(root, Clip("robot", path, "", byte_count=byte_count))
        first = _first_key(found)
        if first is None or first in {*ROOT_KEYS, *ROTATION_KEYS, *JOINT_KEYS, "fps"}:
            return [("", "")]
        status = found.stat()
        library = _unpickled(found, status.st_mtime_ns, status.st_size)
    except Rejected:
        return [("", "")]  # `load` says why
    if not _is_library(library):
        return [("", "")]
    name = {key: str(key).rsplit("/", 1)[-1] for key in library}
    if len(library) == 1:
        return [("", next(iter(name.values())))]
    return [(key, name[key]) for key in sorted(library)]


def _is_library(found: dict) -> bool:
    return bool(found) and all(isinstance(k, str) and isinstance(v, dict) for k, v in found.items())


def _first_key(path: Path) -> str | None:
    """The first text in a pickle's opcodes; nothing is built or run."""
    with path.open("rb") as file:
        head = file.read(4096)
    try:
        for _, argument, _ in pickletools.genops(head):
            if isinstance(argument, str):
                return argument
    except Exception:  # cut short, compressed or no pickle: `load` looks properly
        pass
    return None


def _field(found: dict, keys: tuple[str, ...]) -> np.ndarray:
    for key in keys:
        if key in found:
            return found[key]
    raise Rejected("missing_key", f"has {', '.join(map(str, found))}"[:200], key=" or ".join(keys))


def _read_npy(path: Path, root: Path, clip: Clip, options: LoadOptions) -> RobotMotion:
    """Only a pickled dict as PHUMA writes it can be a robot's motion."""
    if not safe_files.is_object_npy(path):
        raise Rejected("not_g1", f"a plain array; expected {EXPECTED}")
    found = safe_files.read_npy_object(path)
    if not isinstance(found, dict):
        raise Rejected("not_motion", f"expected a dict, found {type(found).__name__}")
    return _from_dict(found, options)


READERS: dict[str, Callable[[Path, Path, Clip, LoadOptions], RobotMotion]] = {
    ".csv": read_csv,
    ".npz": _read_npz,
    ".pkl": _read_pickle,
    ".joblib": _read_pickle,
    ".npy": _read_npy,
}
