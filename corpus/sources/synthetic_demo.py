"""A folder tree as a user has it: files of four data sets by formula, and among them what goes wrong in real ones."""

from __future__ import annotations

import io
import os
import shutil
import struct
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from corpus.motion import HumanMotion
from corpus.sources import synthetic_files as files
from corpus.sources.synthetic_layouts import on_layout
from corpus.sources.synthetic_moves import KINDS, STYLES, human_motion, robot_motion

HOSTILE_MARK = "a-pickle-ran-code"
"""The file that the hostile pickle would make beside itself, if anybody ran it."""


def write_demo_data(folder: Path, seed: int = 0, seconds: float = 4.0, copies: int = 2) -> dict[str, Path]:
    """Write `copies` takes of every movement for each of four data sets below `folder`, and a few broken files each.

    Gives the folder of each source. The same arguments write the same bytes.
    """
    roots = {name: folder / name for name in ("amass", "lafan1", "motionx", "phuma")}
    for place, name in enumerate(roots):
        roots[name].mkdir(parents=True, exist_ok=True)
        for number in range(copies):
            for kind in KINDS:
                WRITERS[name](roots[name], kind, number, seed * 1000 + place * 100 + number, seconds)
    _break_amass(roots["amass"], folder)
    _break_lafan1(roots["lafan1"])
    _break_motionx(roots["motionx"], seed, seconds)
    _break_phuma(roots["phuma"], seed)
    return roots


def _take(kind: str, number: int, seed: int, seconds: float, fps: float) -> tuple[HumanMotion, str]:
    """A movement and its style; getting down and up again takes its time."""
    style = list(STYLES)[number % len(STYLES)]
    scale = (1.0, 1.04, 0.96)[number % 3]
    length = max(6.0, 1.5 * seconds) if kind == "lie" else seconds
    return human_motion(kind, seed=seed, seconds=length, fps=fps, height=1.70 * scale, style=style), style


def _amass(root: Path, kind: str, number: int, seed: int, seconds: float) -> None:
    motion, _ = _take(kind, number, seed, seconds, 120.0)
    if number % 2:
        files.write_amass_smplx(motion, root / "MadeX" / f"s{number + 1:02d}" / f"{kind}_{number + 1:02d}_stageii.npz")
    else:
        path = root / "MadeH" / f"{number + 1:02d}" / f"{number + 1:02d}_{kind}_poses.npz"
        files.write_amass_smplh(motion, path, gender=b"female" if kind == "turn" else "male")


def _lafan1(root: Path, kind: str, number: int, seed: int, seconds: float) -> None:
    motion, _ = _take(kind, number, seed, seconds, 30.0)
    files.write_lafan1(on_layout(motion, "lafan1"), root / f"{kind}{number // 5 + 1}_subject{number % 5 + 1}.bvh")


def _motionx(root: Path, kind: str, number: int, seed: int, seconds: float) -> None:
    motion, style = _take(kind, number, seed, seconds, 30.0)
    files.write_motionx(motion, root / "made" / f"{kind}_clip{number + 1}.npy", text=f"a {style} person: {TEXTS[kind]}")


def _phuma(root: Path, kind: str, number: int, seed: int, seconds: float) -> None:
    motion, _ = _take(kind, number, seed, seconds, 30.0)
    files.write_phuma_human(motion, root / "human_pose" / "made", f"{kind}_{number + 1:02d}", contact=number % 2 == 1)
    if kind == "squat":
        robot = robot_motion(seed=seed, seconds=min(seconds, files.PHUMA_CHUNK_S))
        files.write_phuma_robot(robot, root / "robot_pose" / "made" / f"bend_{number + 1:02d}_chunk_0000.npy")


WRITERS = {"amass": _amass, "lafan1": _lafan1, "motionx": _motionx, "phuma": _phuma}
TEXTS = {
    "steps": "takes some steps and stops", "walk": "walks ahead", "turn": "walks in a circle", "squat": "does squats",
    "reach": "reaches up with one hand, then the other", "kick": "kicks forward", "jump": "jumps on the spot",
    "lie": "lies down on the back and gets up again",
}  # fmt: skip


# --- what goes wrong in real data


def _break_amass(root: Path, folder: Path) -> None:
    broken = root / "Broken" / "01"
    broken.mkdir(parents=True, exist_ok=True)
    good = human_motion("walk", seed=77, seconds=1.5, fps=60.0)
    whole = files.write_amass_smplh(good, broken / "whole_poses.npz")
    with np.load(whole) as file:
        arrays = dict(file)
    whole.rename(broken / "twin_a_poses.npz")
    shutil.copyfile(broken / "twin_a_poses.npz", broken / "twin_b_poses.npz")
    bad = arrays["poses"].copy()
    bad[20:25, 7] = np.nan
    _npz(broken / "nan_poses.npz", arrays | {"poses": bad})
    _npz(broken / "one_frame_poses.npz", arrays | {key: arrays[key][:1] for key in ("poses", "trans", "dmpls")})
    _npz(broken / "no_rate_poses.npz", {key: value for key, value in arrays.items() if key != "mocap_framerate"})
    _npz(broken / "objects_poses.npz", arrays | {"poses": arrays["poses"].astype(object)})
    data = (broken / "twin_a_poses.npz").read_bytes()
    (broken / "cut_poses.npz").write_bytes(data[: len(data) // 2])
    _absurd_npz(broken / "ten_gigabytes_poses.npz", arrays)
    robot = robot_motion(seconds=1.0)
    _npz(broken / "robot_stageii.npz", {"fps": np.array([30.0]), "joint_pos": robot.joint_position, "qpos": robot.qpos})
    (broken / "notes.txt").write_text("not a motion\n", encoding="utf-8")
    outside = folder / "outside"
    outside.mkdir(exist_ok=True)
    shutil.copyfile(broken / "twin_a_poses.npz", outside / "private_poses.npz")
    link = broken / "link_poses.npz"
    link.unlink(missing_ok=True)
    link.symlink_to(Path("..") / ".." / ".." / "outside" / "private_poses.npz")
    try:
        # A name from a system that is not UTF-8: a good file all the same.
        name = os.fsencode(broken) + b"/caf\xe9_poses.npz"
        with open(name, "wb") as file:  # noqa: PTH123
            np.savez(file, **(arrays | {"trans": arrays["trans"] + [1.0, 0, 0]}))
    except OSError:
        pass  # this file system takes UTF-8 only


def _break_lafan1(root: Path) -> None:
    good = files.write_lafan1(
        on_layout(human_motion("kick", seed=78, seconds=1.5, fps=30.0), "lafan1"), root / "cut1_subject9.bvh"
    )
    text = good.read_text(encoding="ascii")
    good.write_text(text[: int(len(text) * 0.7)], encoding="ascii")
    lines = text.splitlines()
    lines[-3] = " ".join(lines[-3].split()[:-4])
    (root / "short1_subject9.bvh").write_text("\n".join(lines) + "\n", encoding="ascii")
    (root / "twice1_subject9.bvh").write_text(text.replace("JOINT RightLeg", "JOINT LeftLeg"), encoding="ascii")
    (root / "norate1_subject9.bvh").write_text(
        text.replace("Frame Time: 0.033333", "Frame Time: 0.000000"), encoding="ascii"
    )
    (root / "empty1_subject9.bvh").write_bytes(b"")


def _break_motionx(root: Path, seed: int, seconds: float) -> None:
    broken = root / "broken"
    broken.mkdir(parents=True, exist_ok=True)
    # Written without the pelvis' offset: buried by 0.35 m, which a reader can mend or refuse, but not store.
    files.write_motionx(human_motion("walk", seed=seed + 79, seconds=seconds, fps=30.0), broken / "sunk.npy", sunk=True)
    good = np.load(files.write_motionx(human_motion("reach", seed=80, seconds=2.0, fps=30.0), broken / "good.npy"))
    camera = good.copy()
    camera[:, 0:3] = [np.pi, 0.0, 0.0]
    camera[:, 310] = -camera[:, 310]
    np.save(broken / "camera_space.npy", camera)
    still = np.zeros_like(good)
    still[:, 310] = 1.3
    np.save(broken / "all_zero.npy", still)
    np.save(broken / "columns_300.npy", good[:, :300])
    np.save(broken / "one_frame.npy", good[:1])
    data = (broken / "good.npy").read_bytes()
    (broken / "cut.npy").write_bytes(data[:-1000])
    (broken / "good.npy").unlink()


def _break_phuma(root: Path, seed: int) -> None:
    broken = root / "broken"
    broken.mkdir(parents=True, exist_ok=True)
    good = human_motion("squat", seed=seed + 81, seconds=2.0, fps=30.0)
    table = np.load(files.write_phuma_human(good, broken, "good")[0])
    (broken / "good_chunk_0000.npy").rename(broken / "twin_chunk_0000.npy")
    shutil.copyfile(broken / "twin_chunk_0000.npy", broken / "twin_again_chunk_0000.npy")
    np.save(broken / "columns_64_chunk_0000.npy", table[:, :64])
    bad = table.copy()
    bad[5] = np.inf
    np.save(broken / "infinite_chunk_0000.npy", bad)
    holder = np.empty((), object)
    holder[()] = _Hostile(str(broken / HOSTILE_MARK))
    np.save(broken / "hostile_chunk_0000.npy", holder, allow_pickle=True)
    robot = robot_motion(seconds=1.0)
    h1 = replace(robot, qpos=robot.qpos[:, : 7 + 27])
    files.write_phuma_robot(h1, broken / "h1_2_chunk_0000.npy")


class _Hostile:
    """Pickles into a call: whoever loads it without care makes a folder."""

    def __init__(self, path: str):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def _npz(path: Path, arrays: dict[str, Any]) -> None:
    with path.open("wb") as file:
        np.savez(file, **arrays)


def _absurd_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """A header that claims ten gigabytes over a few bytes."""
    text = "{'descr': '<f8', 'fortran_order': False, 'shape': (8000000, 156), }"
    text += " " * (63 - (len(text) + 10) % 64) + "\n"
    header = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode("ascii")
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            data = io.BytesIO()
            np.save(data, array)
            content = header + b"\0" * 64 if name == "poses" else data.getvalue()
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content)
