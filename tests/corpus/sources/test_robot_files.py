"""Motion already on the G1: every real file stands upright or is refused for the right reason; made files read back."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from corpus import rotations
from corpus.errors import Rejected
from corpus.g1 import G1, JOINTS_23, MUJOCO_TO_ISAACLAB
from corpus.motion import Clip, RobotMotion
from corpus.robot import forward_kinematics
from corpus.sources import robot_files
from corpus.sources.options import LoadOptions
from corpus.sources.synthetic_moves import robot_motion

REFUSED = {"g1rp_01.npz": "not_g1", "h12_example.npy": "not_g1", "SOURCE.txt": "not_motion"}


def read(path: Path, **options) -> RobotMotion:
    clip = next(clip for clip in robot_files.scan(path.parent) if clip.path == path.name)
    return robot_files.load(path.parent, clip, LoadOptions(**options))


def reason(path: Path, **options) -> str:
    with pytest.raises(Rejected) as caught:
        read(path, **options)
    return caught.value.reason


@pytest.fixture
def motion() -> RobotMotion:
    return robot_motion(seed=3, seconds=1.5, fps=60.0)


def swaying(motion: RobotMotion) -> RobotMotion:
    """The same with a pelvis that turns away from +x, so that the order of its quaternions shows."""
    turn = rotations.about_z(np.linspace(0.6, 1.4, motion.frame_count))
    return RobotMotion(np.concatenate([motion.qpos[:, :3], turn, motion.qpos[:, 7:]], 1), motion.fps)


# --- real files


@pytest.mark.data
@pytest.mark.parametrize("folder", ["g1_formats", "g1_moves", "lafan1_g1_csv"])
def test_real_files_stand_upright_or_say_why_not(shared, folder):
    clips = list(robot_files.scan(shared / folder))
    assert len(clips) == sum(1 for path in (shared / folder).rglob("*") if path.is_file())
    for clip in clips:
        name = Path(clip.path).name
        if name in REFUSED:
            with pytest.raises(Rejected) as caught:
                robot_files.load(shared / folder, clip, LoadOptions())
            assert caught.value.reason == REFUSED[name], clip.path
            continue
        motion = robot_files.load(shared / folder, clip, LoadOptions())
        up = rotations.rotate(motion.root_rotation, np.tile([0.0, 0.0, 1.0], (motion.frame_count, 1)))[:, 2]
        standing = motion.root_position[:, 2] > 0.65
        assert standing.mean() > 0.3 and up[standing].mean() > 0.9, clip.path
        feet = forward_kinematics(G1, motion.qpos[::10])[0][
            :, [G1.body("left_ankle_roll_link"), G1.body("right_ankle_roll_link")], 2
        ]
        assert -0.05 < np.median(feet.min(1)) < 0.2, clip.path


@pytest.mark.data
@pytest.mark.parametrize("name", ["B_HandsUp", "M_ShortMove12"])
def test_csv_and_npz_of_one_take_agree(shared, name):
    csv, npz = (read(shared / "g1_moves" / f"{name}.{suffix}") for suffix in ("csv", "npz"))
    assert csv.fps == npz.fps == 60.0
    count = min(csv.frame_count, npz.frame_count)
    assert abs(csv.frame_count - npz.frame_count) <= 1
    assert np.abs(csv.qpos[:count, 7:] - npz.qpos[:count, 7:]).max() < 1e-5
    assert np.abs(csv.qpos[:count, :3] - npz.qpos[:count, :3]).max() < 1e-5
    apart = rotations.multiply(rotations.conjugate(csv.root_rotation[:count]), npz.root_rotation[:count])
    assert np.abs(rotations.to_rotation_vector(apart)).max() < 1e-4


@pytest.mark.data
def test_names_tell_take_subject_and_licence(shared):
    clips = {clip.path: clip for clip in robot_files.scan(shared)}
    dance = clips["lafan1_g1_csv/dance1_subject1.csv"]
    assert (dance.recording, dance.subject, dance.label) == ("dance1_subject1", "subject1", "dance")
    assert dance.licence.startswith("CC BY-NC-ND 4.0")
    assert clips["g1_moves/B_HandsUp.csv"].licence == "CC BY 4.0"
    assert clips["g1_moves/B_HandsUp.csv"].recording == clips["g1_moves/B_HandsUp.npz"].recording
    assert clips["g1_formats/gmt/squat.pkl"].licence == "unknown: ask the owner"
    # A pickle of another project that names the take of LAFAN1 it was made from.
    horse = clips["g1_formats/pbhc/Horse-stance_pose.pkl"]
    assert horse.recording == "fightAndSports1_subject4" and horse.licence.startswith("CC BY-NC-ND")


@pytest.mark.data
def test_the_order_of_real_quaternions_is_found_even_when_written_the_other_way(shared, tmp_path):
    for name in ("g1_moves/B_HandsUp.csv", "lafan1_g1_csv/walk1_subject1.csv", "g1_formats/kimodo/output_walk.csv"):
        table = np.loadtxt(shared / name, delimiter=",", max_rows=1200)
        right = read(shared / name).qpos[: len(table)]
        for shift in (-1, 1):
            swapped = table.copy()
            swapped[:, 3:7] = np.roll(table[:, 3:7], shift, axis=1)
            # Rolling one way gives the other order; the other way gives neither, and must not pass as the same.
            np.savetxt(tmp_path / f"a{shift}.csv", swapped, delimiter=",")
            given = "wxyz" if "kimodo" in name else "xyzw"
            if (shift == 1) == (given == "xyzw"):
                found = read(tmp_path / f"a{shift}.csv").qpos
                assert np.abs(np.abs((found[:, 3:7] * right[:, 3:7]).sum(1)) - 1).max() < 1e-6, name


# --- CSV


@pytest.mark.parametrize("order", ["wxyz", "xyzw"])
def test_gravity_decides_the_order_of_quaternions(motion, tmp_path, order):
    motion = swaying(motion)
    table = motion.qpos.copy()
    if order == "xyzw":
        table[:, 3:7] = np.roll(table[:, 3:7], -1, axis=1)
    np.savetxt(tmp_path / "a.csv", table, delimiter=",")
    assert np.allclose(read(tmp_path / "a.csv").qpos, motion.qpos, atol=1e-9)


def test_a_robot_facing_x_for_ever_is_ambiguous_and_the_user_can_tell(motion, tmp_path):
    table = np.tile(motion.qpos[:1], (60, 1))
    table[:, 3:7] = [0.0, 0.0, 0.0, 1.0]  # facing +x as xyzw, facing −x as wxyz
    np.savetxt(tmp_path / "a.csv", table, delimiter=",")
    assert reason(tmp_path / "a.csv") == "ambiguous_quaternion"
    assert np.allclose(read(tmp_path / "a.csv", quaternion="xyzw").root_rotation, [1, 0, 0, 0])
    assert np.allclose(read(tmp_path / "a.csv", quaternion="wxyz").root_rotation, [0, 0, 0, 1])


def test_a_csv_takes_its_rate_from_options_then_neighbours_then_names(motion, tmp_path):
    table = swaying(motion).qpos
    for folder in ("g1-moves", "other"):
        (tmp_path / folder).mkdir()
        np.savetxt(tmp_path / folder / "take.csv", table, delimiter=",")
    assert read(tmp_path / "g1-moves" / "take.csv").fps == 60.0
    plain = read(tmp_path / "other" / "take.csv")
    assert plain.fps == 30.0 and "30 Hz assumed" in plain.note
    assert read(tmp_path / "other" / "take.csv", fps=120.0).fps == 120.0
    (tmp_path / "other" / "take.json").write_text(json.dumps({"fps": 50}))
    assert read(tmp_path / "other" / "take.csv").fps == 50.0
    assert [clip.path for clip in robot_files.scan(tmp_path / "other")] == ["take.csv"]


def test_bad_csv_is_refused_by_name(motion, tmp_path):
    table = swaying(motion).qpos
    bad = table.copy()
    bad[7, 20] = np.nan
    degrees = table.copy()
    degrees[:, 7:] = np.degrees(degrees[:, 7:])
    cm = table.copy()
    cm[:, :3] *= 100
    for name, rows in {"columns": table[:, :35], "nan": bad, "one": table[:1], "degrees": degrees, "cm": cm}.items():
        np.savetxt(tmp_path / f"{name}.csv", rows, delimiter=",")
    text = (tmp_path / "degrees.csv").read_text()
    np.savetxt(tmp_path / "cut.csv", table, delimiter=",")
    (tmp_path / "cut.csv").write_text((tmp_path / "cut.csv").read_text()[:-300])
    (tmp_path / "words.csv").write_text("a,b,c\n1,2,3\n4,5,6\n")
    (tmp_path / "binary.csv").write_bytes(bytes(range(256)) * 8)
    (tmp_path / "norm.csv").write_text(text)
    assert reason(tmp_path / "columns.csv") == "wrong_shape"
    assert reason(tmp_path / "nan.csv") == "not_finite"
    assert reason(tmp_path / "one.csv") == "too_short"
    assert reason(tmp_path / "degrees.csv") == "bad_unit"
    assert reason(tmp_path / "cm.csv") == "bad_unit"
    assert reason(tmp_path / "cut.csv") == "truncated"
    assert reason(tmp_path / "words.csv") == "missing_key"
    assert reason(tmp_path / "binary.csv") in ("wrong_shape", "missing_key", "too_short")


def test_bones_seed_is_centimetres_degrees_and_extrinsic_angles(motion, tmp_path):
    from scipy.spatial.transform import Rotation

    turns = Rotation.from_euler("xyz", np.random.default_rng(0).uniform(-0.6, 0.6, (motion.frame_count, 3)))
    names = ["Frame", *[f"root_translate{a}" for a in "XYZ"], *[f"root_rotate{a}" for a in "XYZ"]]
    names += [f"{name}_dof" for name in G1.joint_names]
    columns = [np.arange(motion.frame_count)[:, None], motion.qpos[:, :3] * 100, turns.as_euler("xyz", degrees=True)]
    rows = np.concatenate([*columns, np.degrees(motion.qpos[:, 7:])], 1)
    np.savetxt(tmp_path / "a.csv", rows, delimiter=",", header=",".join(names), comments="")
    found = read(tmp_path / "a.csv")
    assert found.fps == 120.0
    assert np.allclose(found.qpos[:, :3], motion.qpos[:, :3]) and np.allclose(found.qpos[:, 7:], motion.qpos[:, 7:])
    xyzw = np.roll(found.root_rotation, -1, axis=1)
    assert (Rotation.from_quat(xyzw) * turns.inv()).magnitude().max() < 1e-6


# --- npz


def simulator_file(path: Path, motion: RobotMotion, joints: np.ndarray, **more) -> Path:
    position, rotation = forward_kinematics(G1, motion.qpos)
    np.savez(path, fps=np.array([60.0]), joint_pos=joints, body_pos_w=position, body_quat_w=rotation, **more)
    return path


def bending(motion: RobotMotion) -> RobotMotion:
    """Joints that all differ, so that their order shows."""
    qpos = swaying(motion).qpos.copy()
    qpos[:, 7:] = np.clip(np.linspace(-0.4, 0.5, 29) + 0.1 * np.sin(np.arange(29)), G1.lower, G1.upper)
    return RobotMotion(qpos, motion.fps)


def test_joint_order_is_the_one_whose_bodies_lie_right(motion, tmp_path):
    motion = bending(motion)
    isaaclab = np.empty_like(motion.qpos[:, 7:])
    isaaclab[:, list(MUJOCO_TO_ISAACLAB)] = motion.qpos[:, 7:]
    ours = read(simulator_file(tmp_path / "mujoco.npz", motion, motion.qpos[:, 7:]))
    theirs = read(simulator_file(tmp_path / "isaaclab.npz", motion, isaaclab))
    assert np.allclose(ours.qpos, motion.qpos) and ours.note == ""
    assert np.allclose(theirs.qpos, motion.qpos) and "IsaacLab" in theirs.note


def test_named_joints_need_no_guess(motion, tmp_path):
    shuffle = np.random.default_rng(0).permutation(29)
    names = np.array(G1.joint_names)[shuffle]
    motion = bending(motion)
    found = read(simulator_file(tmp_path / "a.npz", motion, motion.qpos[:, 7:][:, shuffle], joint_names=names))
    assert np.allclose(found.qpos, motion.qpos)
    wrong = np.where(names == "waist_yaw_joint", "torso_joint", names)
    assert reason(simulator_file(tmp_path / "b.npz", motion, motion.qpos[:, 7:], joint_names=wrong)) == "not_g1"


def test_bodies_that_are_no_g1s_are_refused(motion, tmp_path):
    motion = bending(motion)
    path = simulator_file(tmp_path / "a.npz", motion, motion.qpos[:, 7:])
    with np.load(path) as file:
        arrays = dict(file)
    arrays["body_pos_w"] = arrays["body_pos_w"] * 1.4
    np.savez(path, **arrays)
    assert reason(path) == "not_g1"


def test_humanoid_gpt_speeds_are_never_read(motion, tmp_path):
    qvel = np.full((motion.frame_count, 35), np.nan)
    np.savez(tmp_path / "a.npz", qpos=motion.qpos, qvel=qvel, frequency=np.array(60))
    found = read(tmp_path / "a.npz")
    assert np.allclose(found.qpos, motion.qpos) and found.fps == 60.0


def test_an_npz_of_something_else_is_refused_by_its_keys(tmp_path):
    np.savez(tmp_path / "a_stageii.npz", poses=np.zeros((9, 165)), trans=np.zeros((9, 3)))
    with pytest.raises(Rejected, match="poses") as caught:
        read(tmp_path / "a_stageii.npz")
    assert caught.value.reason == "not_g1"


# --- pickles


def pickled(path: Path, motion: RobotMotion, *, joints=slice(None), **changes) -> Path:
    xyzw = np.roll(motion.root_rotation, -1, axis=1)
    content = {
        "fps": 60.0,
        "root_pos": motion.root_position,
        "root_rot": xyzw,
        "dof_pos": motion.joint_position[:, joints],
    }
    path.write_bytes(pickle.dumps(content | changes))
    return path


def test_23_joints_are_lifted_with_wrists_at_zero_and_a_note(motion, tmp_path):
    found = read(pickled(tmp_path / "a.pkl", swaying(motion), joints=list(JOINTS_23)))
    wrists = [i for i in range(29) if i not in JOINTS_23]
    assert np.allclose(found.joint_position[:, JOINTS_23], motion.joint_position[:, JOINTS_23])
    assert not found.joint_position[:, wrists].any() and "23" in found.note


def test_another_robots_pickle_is_refused(motion, tmp_path):
    assert reason(pickled(tmp_path / "a.pkl", motion, joints=slice(27))) == "not_g1"
    assert reason(pickled(tmp_path / "b.pkl", motion, root_rot=motion.root_position)) == "wrong_shape"
    assert reason(pickled(tmp_path / "c.pkl", motion, fps=None)) == "missing_key"
    assert reason(pickled(tmp_path / "d.pkl", motion, fps=1e9)) == "bad_frame_rate"
    assert reason(pickled(tmp_path / "e.pkl", motion, root_pos=motion.root_position[:, :0])) == "wrong_shape"


def test_a_pickle_with_the_wrong_order_of_quaternions_is_not_upright(motion, tmp_path):
    path = pickled(tmp_path / "a.pkl", motion, root_rot=np.tile([1.0, 0, 0, 0], (motion.frame_count, 1)))
    assert reason(path) == "not_upright"
    assert np.allclose(read(path, quaternion="wxyz").root_rotation, [1, 0, 0, 0])


def test_a_library_gives_a_clip_for_every_motion(motion, tmp_path):
    names = ["dance1_subject2_cut", "home/somebody/kick"]
    library = {}
    for i, name in enumerate(names):
        library[name] = pickle.loads(pickled(tmp_path / "x.pkl", swaying(motion), fps=30 + i).read_bytes())
    (tmp_path / "x.pkl").unlink()
    (tmp_path / "all.pkl").write_bytes(pickle.dumps(library))
    clips = list(robot_files.scan(tmp_path))
    assert [clip.part for clip in clips] == names
    assert [clip.recording for clip in clips] == ["dance1_subject2", "kick"]
    assert [robot_files.load(tmp_path, clip, LoadOptions()).fps for clip in clips] == [30.0, 31.0]


def test_a_pickle_that_would_run_code_is_a_row(tmp_path):
    class Hostile:
        def __reduce__(self):
            return Path.mkdir, (tmp_path / "ran",)

    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"motion": Hostile()}))
    clips = list(robot_files.scan(tmp_path))
    with pytest.raises(Rejected) as caught:
        robot_files.load(tmp_path, clips[0], LoadOptions())
    assert caught.value.reason == "unsafe_pickle" and not (tmp_path / "ran").exists()


def test_every_other_file_is_a_clip_with_a_reason(tmp_path):
    (tmp_path / "readme.md").write_text("x")
    (tmp_path / "noise.pkl").write_bytes(b"\x00\x01\x02")
    (tmp_path / "noise.npz").write_bytes(b"PK\x03\x04")
    (tmp_path / "noise.npy").write_bytes(b"\x93NUMPY")
    (tmp_path / "empty.csv").write_bytes(b"")
    found = {}
    for clip in robot_files.scan(tmp_path):
        with pytest.raises(Rejected) as caught:
            robot_files.load(tmp_path, clip, LoadOptions())
        found[clip.path] = caught.value.reason
    assert found == {
        "readme.md": "not_motion", "noise.pkl": "truncated", "noise.npz": "truncated", "noise.npy": "truncated",
        "empty.csv": "empty_file",
    }  # fmt: skip
    assert isinstance(next(robot_files.scan(tmp_path)), Clip)
