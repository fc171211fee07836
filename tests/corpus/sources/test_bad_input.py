"""Broken, hostile and mislabelled files: each ends as a `Rejected` with its reason, never as another exception."""

from __future__ import annotations

import io
import os
import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.errors import Rejected
from corpus.motion import Clip, HumanMotion
from corpus.sources import SOURCES, LoadOptions
from corpus.sources.files import content_key, list_files, open_path
from corpus.sources.safe_files import read_npy, read_npz, read_pickle

T = 40


def reason_of(source: str, root: Path, name: str, options: LoadOptions = LoadOptions()) -> str | None:
    """The reason a file is refused for, or None where it loads."""
    clip = next((c for c in SOURCES[source].scan(root) if c.path == name), Clip(source, name, ""))
    try:
        SOURCES[source].load(root, clip, options)
    except Rejected as rejected:
        return rejected.reason
    return None


def expect_sound(source: str, root: Path, name: str) -> None:
    """A file is refused with a reason in words, or gives numbers that are ones; nothing else may come of it."""
    try:
        raw = SOURCES[source].load(root, Clip(source, name, ""), LoadOptions())
    except Rejected as rejected:
        assert re.fullmatch("[a-z0-9_]+", rejected.reason)
        return
    turns = raw.rotation if isinstance(raw, HumanMotion) else raw.root_rotation
    places = raw.position if isinstance(raw, HumanMotion) else raw.qpos
    assert np.isfinite(places).all() and np.allclose(np.linalg.norm(turns, axis=-1), 1, atol=1e-3)


# ---------------------------------------------------------------- AMASS


def amass(**changes) -> dict:
    """A person standing, arms swinging, in AMASS's SMPL+H layout."""
    t = np.arange(T)[:, None] / 60
    poses = np.zeros((T, 156))
    poses[:, :3] = [np.pi / 2, 0, 0]
    poses[:, 3 * 16 : 3 * 16 + 3] = np.sin(3 * t) * [0, 0, 0.5]
    content = {
        "poses": poses, "trans": np.tile([0.0, 0.22, 0.93], (T, 1)), "betas": np.zeros(16),
        "gender": np.array("neutral"), "mocap_framerate": np.array(60.0),
    } | changes  # fmt: skip
    return {key: value for key, value in content.items() if value is not None}


def write_amass(root: Path, name: str = "take_poses.npz", **changes) -> str:
    np.savez(root / name, **amass(**changes))
    return name


def holed(array: np.ndarray, value: float) -> np.ndarray:
    array = array.copy()
    array[7, 1] = value
    return array


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"gender": np.array(b"female")}, None),
        ({"marker_meta": np.array({"a": 1}, dtype=object)}, None),
        ({"trans": None}, "missing_key"),
        ({"poses": None}, "missing_key"),
        ({"poses": holed(amass()["poses"], np.nan)}, "not_finite"),
        ({"trans": holed(amass()["trans"], np.inf)}, "not_finite"),
        ({"poses": amass()["poses"][:1], "trans": amass()["trans"][:1]}, "too_short"),
        ({"poses": amass()["poses"][:0], "trans": amass()["trans"][:0]}, "too_short"),
        ({"mocap_framerate": None}, "bad_frame_rate"),
        ({"mocap_framerate": np.array(0.0)}, "bad_frame_rate"),
        ({"mocap_framerate": np.array(-60.0)}, "bad_frame_rate"),
        ({"mocap_framerate": np.array(np.nan)}, "bad_frame_rate"),
        ({"mocap_framerate": np.array(1e9)}, "bad_frame_rate"),
        ({"mocap_framerate": np.array("fast")}, "bad_frame_rate"),
        ({"poses": amass()["poses"].astype(object)}, "object_array"),
        ({"poses": amass()["poses"][:, :150]}, "wrong_shape"),
        ({"trans": amass()["trans"][:-3]}, "wrong_shape"),
        ({"poses": np.zeros((T, 156))}, "all_zero_pose"),
        ({"poses": np.where(np.arange(156) < 3, 0.0, amass()["poses"]), "trans": np.tile([0, 1.2, 0.0], (T, 1))}, "wrong_axis"),
    ],
)  # fmt: skip
def test_amass_files(tmp_path, changes, reason):
    assert reason_of("amass", tmp_path, write_amass(tmp_path, **changes)) == reason


def test_a_robots_motion_named_as_an_amass_take_is_refused_by_its_keys(tmp_path):
    np.savez(tmp_path / "run_stageii.npz", joint_pos=np.zeros((T, 29)), fps=np.array([50.0]))
    assert reason_of("amass", tmp_path, "run_stageii.npz") == "not_human"


def test_a_body_shape_file_is_no_motion(tmp_path):
    assert reason_of("amass", tmp_path, write_amass(tmp_path, "neutral_stagei.npz")) == "not_motion"


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_npz_is_refused(tmp_path, share):
    path = tmp_path / write_amass(tmp_path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert reason_of("amass", tmp_path, path.name) == "truncated"


def test_a_header_that_claims_ten_gigabytes_is_not_believed(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**7, 156)})
    with zipfile.ZipFile(tmp_path / "huge.npz", "w") as archive:
        for name, value in amass().items():
            if name != "poses":
                stream = io.BytesIO()
                np.save(stream, value)
                archive.writestr(f"{name}.npy", stream.getvalue())
        archive.writestr("poses.npy", header.getvalue() + b"\0" * 1000)
    assert reason_of("amass", tmp_path, "huge.npz") == "absurd_size"


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_npz_is_refused_or_read_but_breaks_nothing(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("npz")
    path = folder / write_amass(folder)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content))
    expect_sound("amass", folder, path.name)


# ---------------------------------------------------------------- Motion-X


def motionx(*, sunk: float = 0.0) -> np.ndarray:
    rows = np.zeros((T, 322), np.float32)
    rows[:, 3 * 16 : 3 * 16 + 3] = np.sin(np.arange(T)[:, None] / 10) * [0, 0, 0.5]
    rows[:, 310] = 1.29 - sunk
    return rows


def save(root: Path, name: str, rows: np.ndarray) -> str:
    np.save(root / name, rows)
    return name


def test_motionx_that_lacks_the_pelvis_offset_is_raised_and_says_so(tmp_path):
    clip = Clip("motionx", save(tmp_path, "a.npy", motionx(sunk=0.3514)), "")
    motion = SOURCES["motionx"].load(tmp_path, clip, LoadOptions())
    right = SOURCES["motionx"].load(tmp_path, Clip("motionx", save(tmp_path, "b.npy", motionx()), ""), LoadOptions())
    assert "pelvis offset" in motion.note
    assert np.abs(motion.position[..., 2] - right.position[..., 2]).max() < 0.03


def upside_down() -> np.ndarray:
    rows = motionx()
    rows[:, 0] = np.pi
    rows[:, 310] = 0.0
    return rows


def lying_camera() -> np.ndarray:
    rows = motionx()
    rows[:, 312 - 3 + 1] = 4.0
    return rows


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (motionx(), None),
        (np.zeros((T, 322), np.float32), "all_zero_pose"),
        (upside_down(), "camera_space"),
        (lying_camera(), "camera_space"),
        (motionx()[:, :300], "wrong_shape"),
        (motionx()[:1], "too_short"),
        (motionx()[:0], "too_short"),
        (holed(motionx(), np.nan), "not_finite"),
    ],
)
def test_motionx_files(tmp_path, rows, reason):
    assert reason_of("motionx", tmp_path, save(tmp_path, "clip.npy", rows)) == reason


def test_motionx_npz_without_named_keys_is_refused(tmp_path):
    np.savez(tmp_path / "clip.npz", motion=motionx())
    assert reason_of("motionx", tmp_path, "clip.npz") == "missing_key"


def test_a_text_beside_a_motion_becomes_its_label(tmp_path):
    (tmp_path / "motion_data").mkdir()
    (tmp_path / "texts").mkdir()
    save(tmp_path / "motion_data", "wave.npy", motionx())
    (tmp_path / "texts" / "wave.txt").write_text("a person waves\n")
    (clip,) = SOURCES["motionx"].scan(tmp_path)
    assert clip.label == "a person waves"


# ---------------------------------------------------------------- PHUMA and robot files


def robot_dict(joints: int = 29, **changes) -> dict:
    xyzw = np.tile([0.0, 0, 0, 1], (T, 1))
    return {
        "root_trans": np.tile([0, 0, 0.79], (T, 1)), "root_ori": xyzw, "dof_pos": np.zeros((T, joints)), "fps": 30,
    } | changes  # fmt: skip


def save_object(root: Path, name: str, content: object) -> str:
    np.save(root / name, np.array(content, dtype=object), allow_pickle=True)
    return name


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (robot_dict(), None),
        (robot_dict(27), "not_g1"),
        (robot_dict(fps=0), "bad_frame_rate"),
        (robot_dict(fps="thirty"), "bad_frame_rate"),
        ({"root_trans": np.zeros((T, 3))}, "missing_key"),
        (robot_dict(dof_pos=np.full((T, 29), 90.0)), "bad_unit"),
        (robot_dict(dof_pos=np.full((T, 29), np.nan)), "not_finite"),
        (robot_dict(root_ori=np.tile([1.0, 0, 0, 0], (T, 1))), "not_upright"),  # w first: upside down when read as xyzw
        (robot_dict(root_ori=np.zeros((T, 4))), "bad_quaternion"),
        (robot_dict(root_trans=np.zeros((T - 1, 3))), "wrong_shape"),
    ],
)
def test_phuma_robot_files(tmp_path, content, reason):
    assert reason_of("phuma", tmp_path, save_object(tmp_path, "clip.npy", content)) == reason


def test_a_23_joint_robot_is_lifted_with_still_wrists_and_says_so(tmp_path, g1):
    joints = np.random.default_rng(0).uniform(0.0, 0.1, (T, 23))
    clip = Clip("phuma", save_object(tmp_path, "clip.npy", robot_dict(23, dof_pos=joints)), "")
    motion = SOURCES["phuma"].load(tmp_path, clip, LoadOptions())
    wrists = ["wrist" in name for name in g1.joint_names]
    assert (motion.joint_position[:, wrists] == 0).all()
    assert np.array_equal(motion.joint_position[:, np.logical_not(wrists)], joints)
    assert "23 joints" in motion.note


@pytest.mark.parametrize("columns", [68, 70, 156])
def test_phuma_human_files_have_69_73_or_79_columns(tmp_path, columns):
    assert reason_of("phuma", tmp_path, save(tmp_path, "clip.npy", np.ones((T, columns), np.float32))) == "wrong_shape"


class _Payload:
    """Would make a file if it were unpickled."""

    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self):
        return (Path.touch, (self.target,))


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("kind", ["pkl", "npy"])
def test_a_pickle_that_would_run_code_does_not_run(tmp_path, protocol, kind):
    victim = tmp_path / "victim"
    content = robot_dict(extra=_Payload(victim))
    if kind == "pkl":
        (tmp_path / "a.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
        assert reason_of("robot", tmp_path, "a.pkl") == "unsafe_pickle"
    else:
        save_object(tmp_path, "a.npy", content)
        assert reason_of("phuma", tmp_path, "a.npy") == "unsafe_pickle"
    assert not victim.exists()


@pytest.mark.parametrize("protocol", range(6))
def test_a_harmless_pickle_of_arrays_reads_as_pickle_would(tmp_path, protocol):
    content = {
        "c": np.arange(6.0).reshape(2, 3), "f": np.asfortranarray(np.arange(6).reshape(2, 3)), "big": np.arange(3, dtype=">f4"),
        "scalar": np.float32(2.5), "list": [1, "two", None], "text": np.array(["a", "bc"]),
    }  # fmt: skip
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    got = read_pickle(tmp_path / "a.pkl")
    for key, value in content.items():
        assert np.array_equal(got[key], value)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_pickle_is_refused_or_read_but_breaks_nothing(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("pkl") / "a.pkl"
    content = bytearray(pickle.dumps(robot_dict(), protocol=data.draw(st.integers(0, 5))))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, min(len(content) - 1, 400)))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content[: data.draw(st.integers(1, len(content)))]))
    expect_sound("robot", path.parent, path.name)


def csv_rows(order: str = "xyzw", count: int = T) -> np.ndarray:
    quaternion = {"xyzw": [0, 0.02, 0.0, 1], "wxyz": [1, 0, 0.02, 0.0]}[order]
    return np.concatenate(
        [np.tile([0, 0, 0.79], (count, 1)), np.tile(quaternion, (count, 1)), np.zeros((count, 29))], 1
    )


@pytest.mark.parametrize("order", ["xyzw", "wxyz"])
def test_the_gravity_test_tells_the_order_of_a_turning_robots_quaternion(tmp_path, order):
    heading = np.linspace(0, 1.5, T)
    rows = csv_rows()
    rows[:, 3:7] = np.stack([0 * heading, 0 * heading, np.sin(heading / 2), np.cos(heading / 2)], 1)
    if order == "wxyz":
        rows[:, 3:7] = rows[:, [6, 3, 4, 5]]
    np.savetxt(tmp_path / "a.csv", rows, delimiter=",")
    motion = SOURCES["robot"].load(tmp_path, Clip("robot", "a.csv", ""), LoadOptions())
    assert np.allclose(motion.root_rotation[:, 0], np.cos(heading / 2))


def test_a_standing_robot_that_could_be_read_either_way_is_refused(tmp_path):
    np.savetxt(tmp_path / "a.csv", csv_rows(), delimiter=",")
    assert reason_of("robot", tmp_path, "a.csv") == "ambiguous_quaternion"
    assert reason_of("robot", tmp_path, "a.csv", LoadOptions(quaternion="xyzw")) is None


@pytest.mark.parametrize(
    ("rows", "options", "reason"),
    [
        (csv_rows("wxyz"), LoadOptions(quaternion="xyzw"), "not_upright"),
        (csv_rows()[:, :35], LoadOptions(), "wrong_shape"),
        (csv_rows()[:1], LoadOptions(), "too_short"),
        (np.where(np.arange(36) < 7, csv_rows(), 57.0), LoadOptions(), "bad_unit"),
        (np.where((np.arange(36) >= 3) & (np.arange(36) < 7), 0.5, csv_rows()), LoadOptions(), "ambiguous_quaternion"),
    ],
)
def test_robot_csv_files(tmp_path, rows, options, reason):
    np.savetxt(tmp_path / "a.csv", rows, delimiter=",")
    assert reason_of("robot", tmp_path, "a.csv", options) == reason


def test_a_csv_cut_in_the_middle_of_a_line_is_refused(tmp_path):
    np.savetxt(tmp_path / "a.csv", csv_rows(), delimiter=",")
    path = tmp_path / "a.csv"
    path.write_bytes(path.read_bytes()[:-200])
    assert reason_of("robot", tmp_path, "a.csv") == "truncated"


# ---------------------------------------------------------------- BVH


def bvh(
    joints: str = "",
    *,
    frames: int = 3,
    frame_time: str = "0.033333",
    cut: int = 0,
    scale: float = 1.0,
    extra: str = "",
) -> str:
    """A LAFAN1-like file with straight limbs."""
    lines: list[str] = ["HIERARCHY"]

    def joint(name: str, offset: tuple[float, float, float], children: list, depth: int) -> None:
        pad = "\t" * depth
        lines.append(f"{pad}{'ROOT' if depth == 0 else 'JOINT'} {name}")
        lines.append(f"{pad}{{")
        lines.append(f"{pad}\tOFFSET {' '.join(f'{x * scale:.6f}' for x in offset)}")
        positions = "6 Xposition Yposition Zposition " if depth == 0 else "3 "
        lines.append(f"{pad}\tCHANNELS {positions}Zrotation Yrotation Xrotation ")
        for child in children:
            joint(*child, depth + 1)
        if not children:
            lines.extend([f"{pad}\tEnd Site", f"{pad}\t{{", f"{pad}\t\tOFFSET 0 0 0", f"{pad}\t}}"])
        lines.append(f"{pad}}}")

    def leg(s: str, z: float):
        return (
            f"{s}UpLeg",
            (0, 0, z),
            [(f"{s}Leg", (43, 0, 0), [(f"{s}Foot", (42, 0, 0), [(f"{s}Toe", (17, 0, 0), [])])])],
        )

    def arm(s: str, z: float):
        return (
            f"{s}Shoulder",
            (19, 0, z),
            [(f"{s}Arm", (11, 0, 0), [(f"{s}ForeArm", (33, 0, 0), [(f"{s}Hand", (25, 0, 0), [])])])],
        )

    spine = ("Spine", (7, 0, 0), [("Spine1", (12, 0, 0), [("Spine2", (12, 0, 0), [
        ("Neck", (25, 0, 0), [("Head", (12, 0, 0), [])]), arm("Left", 6), arm("Right", -6)])])])  # fmt: skip
    joint("Hips", (170, 90, -500), [leg("Left", 10), leg("Right", -10), spine], 0)
    values = " ".join(["1.5"] * 69)
    body = (
        "\n".join(lines)
        + extra
        + f"\nMOTION\nFrames: {frames}\nFrame Time: {frame_time}\n"
        + "\n".join([values + " "] * 3)
        + "\n"
    )
    return body[: len(body) - cut]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (bvh(), None),
        (bvh(scale=0.01), None),
        (bvh(scale=1 / 2.54), None),
        (bvh(scale=0.1), "bad_unit"),  # decimetres: no unit of the list makes a person of them
        (bvh(scale=1000.0), "bad_unit"),
        (bvh(cut=40), "truncated"),
        (bvh(frames=4), "truncated"),
        (bvh(frames=2), "wrong_shape"),
        (bvh(frames=10**12), "truncated"),
        (bvh(frames=-1), "truncated"),
        (bvh(frame_time="0"), "bad_frame_rate"),
        (bvh(frame_time="nan"), "bad_frame_rate"),
        (bvh(frame_time="1e-9"), "bad_frame_rate"),
        (bvh(frame_time="fast"), "bad_frame_rate"),
        (bvh().replace("1.5", "nan", 1), "not_finite"),
        (bvh().replace("1.5", "oops", 1), "truncated"),
        (bvh().replace("JOINT LeftLeg", "JOINT LeftUpLeg"), "joint_named_twice"),
        (bvh().replace("JOINT LeftLeg", "JOINT LeftWing"), "unknown_skeleton"),
        (bvh().replace("OFFSET 7.000000 0.000000 0.000000", "OFFSET 7.0 x 0.0"), "bad_hierarchy"),
        (bvh().replace("CHANNELS 3", "CHANNELS 4", 1), "bad_hierarchy"),
        (bvh().replace("Zrotation", "Wrotation", 1), "bad_hierarchy"),
        ("HIERARCHY\n" + "ROOT a\n{\nOFFSET 0 0 0\n" + "".join(f"JOINT j{i}\n{{\nOFFSET 0 0 0\n" for i in range(400)), "truncated"),
        ("HIERARCHY\nROOT a\n{\nOFFSET 0 0 0\n" + "".join(f"JOINT j{i}\n{{\nOFFSET 0 0 0\n" for i in range(400)) + "\nMOTION\n", "bad_hierarchy"),
        (bvh(extra="\n}"), "bad_hierarchy"),
        (bvh().split("MOTION")[0], "truncated"),
        ("a picture of a cat", "truncated"),
    ],
)  # fmt: skip
def test_bvh_files(tmp_path, text, reason):
    (tmp_path / "take1_subject1.bvh").write_text(text)
    assert reason_of("lafan1", tmp_path, "take1_subject1.bvh") == reason


def test_bvh_of_any_unit_gives_the_same_person_in_metres(tmp_path):
    (tmp_path / "cm.bvh").write_text(bvh())
    (tmp_path / "m.bvh").write_text(bvh(scale=0.01))
    legs = [
        np.linalg.norm(SOURCES["lafan1"].load(tmp_path, Clip("lafan1", n, ""), LoadOptions()).skeleton.offsets[2])
        for n in ("cm.bvh", "m.bvh")
    ]
    assert legs == pytest.approx([0.43, 0.43])


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_bvh_is_refused_or_read_but_breaks_nothing(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("bvh")
    content = bytearray(bvh().encode())
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (folder / "a_subject1.bvh").write_bytes(bytes(content))
    expect_sound("lafan1", folder, "a_subject1.bvh")


# ---------------------------------------------------------------- files themselves


def test_a_link_out_of_the_folder_is_not_followed(tmp_path):
    outside = tmp_path / "outside"
    inside = tmp_path / "inside"
    outside.mkdir()
    inside.mkdir()
    write_amass(outside, "secret.npz")
    (inside / "link.npz").symlink_to(outside / "secret.npz")
    assert reason_of("amass", inside, "link.npz") == "outside_source"
    assert reason_of("amass", inside, "../outside/secret.npz") == "outside_source"
    (inside / "folder").symlink_to(outside)
    assert "folder/secret.npz" not in [path for path, _ in list_files(inside)]


def test_a_link_to_nowhere_or_to_itself_is_unreadable(tmp_path):
    (tmp_path / "gone.npz").symlink_to(tmp_path / "nothing.npz")
    (tmp_path / "loop.npz").symlink_to(tmp_path / "loop.npz")
    assert reason_of("amass", tmp_path, "gone.npz") == "unreadable"
    assert reason_of("amass", tmp_path, "loop.npz") == "unreadable"


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.npz")
    assert reason_of("amass", tmp_path, "pipe.npz") == "unreadable"


def test_an_empty_file_says_so(tmp_path):
    (tmp_path / "empty.npz").touch()
    assert reason_of("amass", tmp_path, "empty.npz") == "empty_file"


def test_a_file_that_cannot_be_opened_is_unreadable(tmp_path, monkeypatch):
    name = write_amass(tmp_path)
    opened = os.open

    def refuse(path, *args, **kwargs):
        if Path(path).name == name:
            raise PermissionError(13, "Permission denied")
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", refuse)
    assert reason_of("amass", tmp_path, name) == "unreadable"


@pytest.mark.parametrize("name", [b"caf\xe9_poses.npz", b"back\\x41slash.npz", "日本.npz".encode()])
def test_any_file_name_is_found_again(tmp_path, name):
    np.savez(tmp_path / "a.npz", **amass())
    (tmp_path / "a.npz").rename(tmp_path / os.fsdecode(name))
    (clip,) = SOURCES["amass"].scan(tmp_path)
    clip.path.encode("utf-8")
    assert open_path(tmp_path, clip).exists()
    assert SOURCES["amass"].load(tmp_path, clip, LoadOptions()).frame_count == T


def test_the_same_bytes_have_the_same_key_wherever_they_lie(tmp_path):
    for folder in ("a", "b/c"):
        (tmp_path / folder).mkdir(parents=True)
        write_amass(tmp_path / folder)
    keys = {content_key(tmp_path, clip).key for clip in SOURCES["amass"].scan(tmp_path)}
    assert len(keys) == 1


def test_npy_and_npz_of_good_files_read_as_numpy_reads_them(tmp_path):
    array = np.asfortranarray(np.arange(12.0).reshape(3, 4))
    np.save(tmp_path / "a.npy", array)
    np.savez_compressed(tmp_path / "a.npz", array=array)
    assert np.array_equal(read_npy(tmp_path / "a.npy"), array)
    assert np.array_equal(read_npz(tmp_path / "a.npz", ["array", "absent"])["array"], array)
