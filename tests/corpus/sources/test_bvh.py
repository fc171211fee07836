"""BVH of any skeleton: the parser against plain Python, kinematics against SciPy, and one person told by many skeletons."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from corpus import rotations
from corpus.errors import MotionloomError, Rejected
from corpus.motion import Clip, HumanMotion
from corpus.skeleton import ROLES
from corpus.sources import bvh
from corpus.sources.bvh_file import parse_bvh, world_motion
from corpus.sources.options import LoadOptions
from corpus.sources.synthetic import human_motion
from corpus.sources.synthetic_files import euler_degrees, write_bandai, write_lafan1
from corpus.sources.synthetic_layouts import on_layout
from retarget.correspondence import correspondence

ANGLES = ("Zrotation", "Xrotation", "Yrotation")
SIX = ("Xposition", "Yposition", "Zposition", *ANGLES)


@dataclass(frozen=True)
class Joint:
    name: str
    parent: str = ""
    offset: tuple[float, ...] = (0.0, 0.0, 0.0)
    channels: tuple[str, ...] = ANGLES
    end: tuple[float, ...] = (0.0, 0.0, 0.0)


def text_of(joints: list[Joint], values: np.ndarray, frame_time: str = "0.033333") -> str:
    """The joints in file order, depth first, and one line per frame with every digit."""
    lines = ["HIERARCHY"]

    def write(joint: Joint) -> None:
        lines.extend([f"{'JOINT' if joint.parent else 'ROOT'} {joint.name}", "{"])
        lines.append("OFFSET " + " ".join(map(repr, map(float, joint.offset))))
        lines.append(f"CHANNELS {len(joint.channels)} {' '.join(joint.channels)}")
        children = [child for child in joints if child.parent == joint.name]
        for child in children:
            write(child)
        if not children:
            lines.extend(["End Site", "{", "OFFSET " + " ".join(map(repr, map(float, joint.end))), "}"])
        lines.append("}")

    write(joints[0])
    lines += ["MOTION", f"Frames: {len(values)}", f"Frame Time: {frame_time}"]
    lines += [" ".join(map(repr, map(float, row))) for row in values]
    return "\n".join(lines) + "\n"


def load(path: Path, **options) -> HumanMotion:
    return bvh.load(path.parent, Clip("bvh", path.name, ""), LoadOptions(**options))


def reason(path: Path, **options) -> str:
    with pytest.raises(Rejected) as rejected:
        load(path, **options)
    return rejected.value.reason


# --- a person, told by skeletons of several makers

# Role → parent role, offset [cm] in a T-pose that faces +z with y up.
BODY: dict[str, tuple[str, tuple[float, float, float]]] = {
    "pelvis": ("", (0, 95, 0)),
    "left_hip": ("pelvis", (9, -5, 0)), "left_knee": ("left_hip", (0, -42, 0)), "left_ankle": ("left_knee", (0, -41, 0)),
    "left_toe": ("left_ankle", (0, -6, 14)),
    "right_hip": ("pelvis", (-9, -5, 0)), "right_knee": ("right_hip", (0, -42, 0)), "right_ankle": ("right_knee", (0, -41, 0)),
    "right_toe": ("right_ankle", (0, -6, 14)),
    "spine": ("pelvis", (0, 12, 0)), "chest": ("spine", (0, 20, 0)), "neck": ("chest", (0, 22, 0)), "head": ("neck", (0, 10, 0)),
    "left_collar": ("chest", (4, 17, 0)), "left_shoulder": ("left_collar", (13, 0, 0)), "left_elbow": ("left_shoulder", (29, 0, 0)),
    "left_wrist": ("left_elbow", (25, 0, 0)),
    "right_collar": ("chest", (-4, 17, 0)), "right_shoulder": ("right_collar", (-13, 0, 0)), "right_elbow": ("right_shoulder", (-29, 0, 0)),
    "right_wrist": ("right_elbow", (-25, 0, 0)),
}  # fmt: skip


def sided(trunk: str, limbs: str, left: str, right: str) -> dict[str, str]:
    """Names by role; `{}` in `left` stands for the limb's name."""
    roles = ("hip", "knee", "ankle", "toe", "collar", "shoulder", "elbow", "wrist")
    names = dict(zip(("pelvis", "spine", "chest", "neck", "head"), trunk.split(), strict=True))
    for side, pattern in (("left", left), ("right", right)):
        names |= {f"{side}_{r}": pattern.format(n) for r, n in zip(roles, limbs.split(), strict=True)}
    return names


MAKERS = {
    "mixamo": sided(
        "mixamorig:Hips mixamorig:Spine mixamorig:Spine2 mixamorig:Neck mixamorig:Head",
        "UpLeg Leg Foot ToeBase Shoulder Arm ForeArm Hand", "mixamorig:Left{}", "mixamorig:Right{}",
    ),
    "noitom": sided("Hips Spine Spine1 Neck Head", "UpLeg Leg Foot ToeBase Shoulder Arm ForeArm Hand", "Left{}", "Right{}"),
    "xsens": sided("Hips Chest Chest4 Neck Head", "Hip Knee Ankle Toe Collar Shoulder Elbow Wrist", "Left{}", "Right{}"),
    "soma": sided("Hips Spine1 Chest Neck1 Head", "Leg Shin Foot ToeBase Shoulder Arm ForeArm Hand", "Left{}", "Right{}"),
    "motive": sided("Hip Ab Chest Neck Head", "Thigh Shin Foot Toe Shoulder UArm FArm Hand", "L{}", "R{}"),
    "smpl": sided("Pelvis Spine1 Spine3 Neck Head", "Hip Knee Ankle Foot Collar Shoulder Elbow Wrist", "L_{}", "R_{}"),
    "unreal": sided("pelvis spine_01 spine_03 neck_01 head", "thigh calf foot ball clavicle upperarm lowerarm hand", "{}_l", "{}_r"),
    "biped": sided(
        "Bip01_Pelvis Bip01_Spine Bip01_Spine1 Bip01_Neck Bip01_Head",
        "Thigh Calf Foot Toe0 Clavicle UpperArm Forearm Hand", "Bip01_L_{}", "Bip01_R_{}",
    ),
    "vrm": sided("hips spine chest neck head", "UpperLeg LowerLeg Foot Toes Shoulder UpperArm LowerArm Hand", "left{}", "right{}"),
}  # fmt: skip


def euler_deg(q: np.ndarray) -> np.ndarray:
    return euler_degrees(q, "zxy")


def person(
    names: dict[str, str], zero: dict[str, np.ndarray] | None = None, *, unit: float = 1.0
) -> tuple[list[Joint], np.ndarray]:
    """The same movement by joints of any names, and of any orientation at zero angles.

    `zero` says how joints are turned, in the world, in the T-pose: their zero pose is another one.
    """
    zero = {role: (zero or {}).get(role, np.array([1.0, 0, 0, 0])) for role in BODY}
    frames = 40
    t = np.arange(frames) / 30
    swing = {
        "left_hip": [-0.5, 0, 0], "left_knee": [0.7, 0.0, 0], "left_ankle": [-0.2, 0, 0.1], "left_shoulder": [0.2, -0.3, -0.9],
        "left_elbow": [0, -1.0, 0.2], "left_wrist": [0.3, 0, 0.2], "chest": [0.1, 0.3, 0], "spine": [0.1, 0, 0.1],
        "right_shoulder": [0.1, 0.2, 0.8], "right_elbow": [0.1, 0.6, 0], "right_hip": [0.2, 0.1, 0.1], "head": [0, 0.4, 0],
    }  # fmt: skip
    world, columns, joints = {}, [], []
    for role, (parent, offset) in BODY.items():
        turn = rotations.from_rotation_vector(np.outer(np.sin(2 * t), swing.get(role, [0.0, 0, 0])))
        if not parent:
            turn = rotations.from_rotation_vector(np.outer(t, [0.05, 0.9, 0.02]))
        world[role] = rotations.multiply(world[parent], turn) if parent else turn
        # The file's own frame: in the T-pose it is turned by `zero`.
        above = rotations.multiply(world[parent], zero[parent]) if parent else np.tile([1.0, 0, 0, 0], (frames, 1))
        local = rotations.multiply(rotations.conjugate(above), rotations.multiply(world[role], zero[role]))
        if not parent:
            columns.append((np.array(offset) + np.stack([20 * t, 2 * np.sin(t), 60 * t], 1)) * unit)
        columns.append(euler_deg(local))
        bone = rotations.rotate(rotations.conjugate(zero[parent]), np.array(offset, float)) if parent else np.zeros(3)
        joints.append(
            Joint(names[role], names.get(parent, ""), tuple(bone * unit), ANGLES if parent else SIX, (0, 0, 5 * unit))
        )
    return joints, np.concatenate(columns, 1)


def write(path: Path, joints: list[Joint], values: np.ndarray) -> Path:
    path.write_text(text_of(joints, values))
    return path


def segments(motion: HumanMotion) -> dict[str, np.ndarray]:
    """World orientation of every body segment, whatever frames its joints have."""
    table = correspondence(motion.skeleton)
    turned = {role: motion.rotation[:, motion.skeleton.index(table.joints[role])] for role in table.frames}
    return {role: rotations.multiply(q, np.broadcast_to(table.frames[role], q.shape)) for role, q in turned.items()}


def places(motion: HumanMotion) -> dict[str, np.ndarray]:
    return {role: motion.position[:, motion.skeleton.index(joint)] for role, joint in motion.skeleton.roles}


def apart(a: np.ndarray, b: np.ndarray) -> float:
    """The largest angle between two series of orientations [rad]."""
    return float(
        np.linalg.norm(rotations.to_rotation_vector(rotations.multiply(a, rotations.conjugate(b))), axis=-1).max()
    )


@pytest.fixture(scope="module")
def walker() -> tuple[list[Joint], np.ndarray]:
    return person(MAKERS["noitom"])


@pytest.fixture
def take(tmp_path, walker) -> Path:
    return write(tmp_path / "take.bvh", *walker)


@pytest.mark.parametrize("maker", MAKERS)
def test_common_joint_names_are_read_as_a_body(tmp_path, maker, take):
    motion = load(write(tmp_path / "other.bvh", *person(MAKERS[maker])))
    assert motion.skeleton.name == "generic"
    assert dict(motion.skeleton.roles) == {role: MAKERS[maker][role] for role in ROLES}
    same = load(take)
    assert np.allclose(motion.position, same.position, atol=1e-9)
    assert all(apart(q, segments(same)[role]) < 1e-6 for role, q in segments(motion).items())


def test_positions_are_those_of_the_movement_in_metres_with_z_up(take):
    motion = load(take)
    pelvis = places(motion)["pelvis"]
    t = np.arange(40) / 30
    assert np.allclose(pelvis, np.stack([0.2 * t, -0.6 * t, 0.95 + 0.02 * np.sin(t)], 1), atol=1e-9)
    assert motion.fps == 30.0
    assert motion.body_model == "file"
    foot = motion.skeleton.offsets[motion.skeleton.index("LeftFoot")]
    assert np.linalg.norm(foot) == pytest.approx(0.41)


def test_a_person_facing_forward_has_level_segments(tmp_path):
    joints, values = person(MAKERS["noitom"])
    still = np.zeros((2, values.shape[1]))
    still[:, 1] = 95
    motion = load(write(tmp_path / "still.bvh", joints, still))
    # The file faces its +z, which is −y of the world: a quarter turn clockwise from facing +x.
    facing = np.broadcast_to(rotations.about_z(np.array(-np.pi / 2)), (2, 4))
    upright = {role: q for role, q in segments(motion).items() if not role.endswith(("shoulder", "elbow", "wrist"))}
    assert all(apart(q, facing) < 1e-6 for q in upright.values())


def about(axis: tuple[float, float, float], degrees: float) -> np.ndarray:
    return rotations.from_rotation_vector(np.radians(degrees) * np.array(axis, float))


ARM = ("shoulder", "elbow", "wrist")
ZERO_POSES: dict[str, Callable[[], dict[str, np.ndarray]]] = {
    # In the T-pose these joints are turned by so much: at zero angles the arms hang lower, or the person faces elsewhere.
    "A-pose": lambda: {f"{s}_{r}": about((0, 0, 1), k * 45) for s, k in (("left", 1), ("right", -1)) for r in ARM},
    "hanging arms": lambda: {f"{s}_{r}": about((0, 0, 1), k * 90) for s, k in (("left", 1), ("right", -1)) for r in ARM},
    "legs astride": lambda: {f"{s}_{r}": about((0, 0, 1), -k * 15) for s, k in (("left", 1), ("right", -1)) for r in ("hip", "knee")},
    "facing −x": lambda: dict.fromkeys(BODY, about((0, 1, 0), 90)),
}  # fmt: skip


@pytest.mark.parametrize("pose", ZERO_POSES)
def test_it_does_not_matter_in_which_standing_pose_the_angles_are_zero(tmp_path, take, pose):
    motion = load(write(tmp_path / "other.bvh", *person(MAKERS["noitom"], ZERO_POSES[pose]())))
    same = load(take)
    assert np.allclose(motion.position, same.position, atol=1e-9)
    assert all(apart(q, segments(same)[role]) < 1e-6 for role, q in segments(motion).items())


def test_zero_angles_that_do_not_stand_need_a_rest_frame(tmp_path, take):
    """Every frame turned over, as LAFAN1's are: a frame of the take tells how the body lies in the joints."""
    rng = np.random.default_rng(3)
    zero = {role: rotations.normalise(rng.normal(size=4)) for role in BODY}
    joints, values = person(MAKERS["noitom"], zero)
    path = write(tmp_path / "other.bvh", joints, values)
    with pytest.raises(Rejected, match="rest = NUMBER"):
        load(path)
    motion = load(path, skeleton=skeleton_file(tmp_path, rest=0))  # the movement begins in the T-pose
    same = load(take)
    assert np.allclose(motion.position, same.position, atol=1e-9)
    assert all(apart(q, segments(same)[role]) < 1e-6 for role, q in segments(motion).items())
    assert reason(path, skeleton=skeleton_file(tmp_path, rest=40)) == "unknown_skeleton"


def test_a_generic_skeleton_means_the_same_as_smpls_own(tmp_path):
    """SMPL's 22 joints written as a BVH: segments differ by no more than the slope of its bones in the T-pose."""
    smpl = human_motion("walk", seed=2, seconds=1.5, fps=30.0)
    parents = smpl.skeleton.parents
    upright = np.broadcast_to(rotations.conjugate(rotations.Y_UP_TO_Z_UP), smpl.rotation[:, 0].shape)
    local = [rotations.multiply(upright, smpl.rotation[:, 0])] + [
        rotations.multiply(rotations.conjugate(smpl.rotation[:, p]), smpl.rotation[:, j])
        for j, p in enumerate(parents) if j
    ]  # fmt: skip
    x, y, z = smpl.position[:, 0].T
    order, joints = [], []

    def visit(j: int) -> None:
        order.append(j)
        names = smpl.skeleton.joint_names
        joints.append(
            Joint(names[j], names[parents[j]] if j else "", tuple(smpl.skeleton.offsets[j]), ANGLES if j else SIX)
        )
        for child in [c for c, p in enumerate(parents) if p == j]:
            visit(child)

    visit(0)
    values = np.concatenate([np.stack([x, z, -y], 1), *[euler_deg(local[j]) for j in order]], 1)
    motion = load(write(tmp_path / "smpl.bvh", joints, values))
    for role, place in places(motion).items():
        joint = correspondence(smpl.skeleton).joints[role]
        assert np.allclose(place, smpl.position[:, smpl.skeleton.index(joint)], atol=1e-6)
    theirs, ours = segments(smpl), segments(motion)
    # SMPL's table takes the frames as they are; a generic rest posture has arms and legs straightened.
    ideal = {"hip": [0, -1, 0], "knee": [0, -1, 0], "shoulder": [1, 0, 0], "elbow": [1, 0, 0], "wrist": [1, 0, 0]}
    below = {"hip": "knee", "knee": "ankle", "shoulder": "elbow", "elbow": "wrist", "wrist": "wrist"}
    for role in theirs.keys() & ours.keys():
        side, _, limb = role.partition("_")
        slope = 0.0
        if limb in ideal:
            bone = smpl.skeleton.offsets[smpl.skeleton.index(f"{side}_{below[limb]}")]
            straight = np.array(ideal[limb]) * (-1 if side == "right" and limb not in ("hip", "knee") else 1)
            slope = np.arccos(bone @ straight / np.linalg.norm(bone))
        assert apart(ours[role], theirs[role]) == pytest.approx(slope, abs=1e-5)


# --- what a skeleton leaves open


def test_fingers_and_twist_joints_are_passed_over(tmp_path, walker, take):
    joints, values = walker
    hand = next(i for i, joint in enumerate(joints) if joint.name == "LeftHand")
    extra = [Joint(f"LeftFinger{i}", "LeftHand", (5, 0, i)) for i in range(20)]
    column = 6 + 3 * hand
    values = np.concatenate([values[:, :column], np.random.default_rng(0).normal(size=(40, 60)), values[:, column:]], 1)
    motion = load(write(tmp_path / "other.bvh", [*joints[: hand + 1], *extra, *joints[hand + 1 :]], values))
    assert motion.skeleton.joint_names == load(take).skeleton.joint_names
    assert np.allclose(motion.position, load(take).position)


def test_a_foot_without_toes_ends_at_its_end_site(tmp_path, walker, take):
    joints, values = walker
    toes = [i for i, joint in enumerate(joints) if joint.name.endswith("ToeBase")]
    columns = [c for i in toes for c in range(3 + 3 * i, 6 + 3 * i)]
    ends = {joint.parent: joint.offset for joint in joints if joint.name.endswith("ToeBase")}
    kept = [replace(j, end=ends.get(j.name, j.end)) for i, j in enumerate(joints) if i not in toes]
    motion = load(write(tmp_path / "other.bvh", kept, np.delete(values, columns, 1)))
    for role in ("left_toe", "right_toe"):
        assert np.allclose(places(motion)[role], places(load(take))[role])
    none = [replace(joint, end=(0, 0, 0)) for joint in kept]
    assert reason(write(tmp_path / "none.bvh", none, np.delete(values, columns, 1))) == "missing_joint"


@pytest.mark.parametrize(("unit", "factor"), [("m", 0.01), ("cm", 1.0), ("inch", 1 / 2.54), ("mm", 10.0)])
def test_the_length_of_the_leg_tells_the_unit(tmp_path, take, unit, factor):
    motion = load(write(tmp_path / "other.bvh", *person(MAKERS["noitom"], unit=factor)))
    assert np.allclose(motion.position, load(take).position, atol=1e-9)
    assert f"unit {unit}" in motion.note


@pytest.mark.parametrize("factor", [0.1, 0.0001, 100.0])
def test_a_leg_no_unit_fits_is_refused(tmp_path, factor):
    path = write(tmp_path / "other.bvh", *person(MAKERS["noitom"], unit=factor))
    assert reason(path) == "bad_unit"
    assert reason(path, skeleton=skeleton_file(tmp_path, unit="cm")) == "bad_unit"
    motion = load(path, skeleton=skeleton_file(tmp_path, scale=0.01 / factor))
    assert motion.position[0, 0, 2] == pytest.approx(0.95)


def test_a_file_with_z_up_is_seen_by_the_standing_person(tmp_path, take):
    joints, values = person(MAKERS["noitom"])
    turn = rotations.Y_UP_TO_Z_UP

    def upright(vectors):
        return rotations.rotate(np.broadcast_to(turn, (*np.shape(vectors)[:-1], 4)), np.asarray(vectors, float))

    # Offsets turned by hand, every angle's axis likewise: (x, y, z) → (x, −z, y).
    turned = [replace(joint, offset=tuple(upright(joint.offset))) for joint in joints]
    values = values.copy()
    values[:, :3] = upright(values[:, :3])
    for column in range(3, values.shape[1], 3):
        q = rotations.from_euler(np.radians(values[:, column : column + 3]), "zxy")
        around = np.broadcast_to(turn, q.shape)
        values[:, column : column + 3] = euler_deg(
            rotations.multiply(rotations.multiply(around, q), rotations.conjugate(around))
        )
    path = write(tmp_path / "other.bvh", turned, values)
    motion, same = load(path), load(take)
    assert "z up" in motion.note
    assert np.allclose(motion.position, same.position, atol=1e-9)
    assert all(apart(q, segments(same)[role]) < 1e-6 for role, q in segments(motion).items())
    assert np.allclose(load(path, skeleton=skeleton_file(tmp_path, up="z")).position, same.position, atol=1e-9)


@pytest.mark.parametrize("yaw", range(0, 360, 45))
def test_somebody_lying_is_not_taken_for_a_file_with_z_up(tmp_path, walker, yaw):
    joints, values = walker
    lying = np.zeros((40, values.shape[1]))
    lying[:, 1] = 12  # the pelvis over the floor [cm]
    back = rotations.multiply(about((0, 1, 0), yaw), about((1, 0, 0), -90))
    lying[:, 3:6] = euler_deg(back)
    head = rotations.rotate(about((0, 1, 0), yaw), np.array([0.0, 0, -1]))
    lying[:, [0, 2]] = 85 * head[[0, 2]]  # the feet at the origin, the most misleading place
    motion = load(write(tmp_path / "other.bvh", joints, lying))
    assert "z up" not in motion.note
    assert motion.position[..., 2].max() < 0.5


# --- the user's skeleton file


def skeleton_file(folder: Path, *, roles: dict[str, str] | None = None, suffix: str = "toml", **fields) -> Path:
    roles = roles or {role: MAKERS["noitom"][role] for role in ROLES}
    path = folder / f"skeleton.{suffix}"
    if suffix == "json":
        path.write_text(json.dumps({**fields, "roles": roles}))
    else:
        lines = [f"{name} = {json.dumps(value)}" for name, value in fields.items()]
        path.write_text(
            "\n".join([*lines, "[roles]", *[f"{role} = {json.dumps(joint)}" for role, joint in roles.items()]])
        )
    return path


STRANGE = {role: f"bone {i} (dup)" for i, role in enumerate(BODY)}


@pytest.mark.parametrize("suffix", ["toml", "json"])
def test_a_skeleton_file_names_joints_that_nobody_knows(tmp_path, take, suffix):
    path = write(tmp_path / "other.bvh", *person(STRANGE))
    with pytest.raises(Rejected, match=r"write a skeleton file.*bone 3 \(dup\)"):
        load(path)
    own = skeleton_file(tmp_path, roles={role: STRANGE[role] for role in ROLES}, suffix=suffix)
    assert np.allclose(load(path, skeleton=own).position, load(take).position)


def test_a_skeleton_file_for_other_joints_leaves_known_skeletons_alone(tmp_path, take):
    own = skeleton_file(tmp_path, roles={role: f"bone {role}" for role in ROLES})
    assert reason(take, skeleton=own) == "missing_joint"
    lafan1 = write_lafan1(on_layout(human_motion("walk", seconds=1.0, fps=30.0), "lafan1"), tmp_path / "x.bvh")
    assert load(lafan1, skeleton=own).skeleton.name == "lafan1"


def test_a_skeleton_file_tells_licence_and_subject_when_scanning(tmp_path, take):
    own = skeleton_file(tmp_path, licence="CC0", subject=r"^(\w+)/")
    (tmp_path / "anna").mkdir()
    take.rename(tmp_path / "anna" / "jump.bvh")
    told = {clip.path: (clip.licence, clip.subject, clip.recording) for clip in bvh.scan(tmp_path, own)}
    assert told["anna/jump.bvh"] == ("CC0", "anna", "jump")
    (clip,) = [clip for clip in bvh.scan(tmp_path) if clip.path == "anna/jump.bvh"]
    assert clip.licence.startswith("unknown")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"unit": "feet"}, "unit is one of m, cm, inch, mm"),
        ({"scale": -1}, "scale is a positive number"),
        ({"scale": True}, "scale is a positive number"),
        ({"scale": 0.01, "unit": "cm"}, "instead of unit"),
        ({"up": "x"}, "up is y or z"),
        ({"rest": -1}, "rest is"),
        ({"rest": "t-pose"}, "rest is"),
        ({"licence": 4}, "are texts"),
        ({"subject": "("}, "no regular expression"),
        ({"units": "cm"}, "unknown units; known: roles"),
        ({"roles": {"pelvis": "Hips"}}, "roles are missing: chest"),
        ({"roles": {"tail": "Tail"}}, "unknown roles tail; known: pelvis"),
        ({"roles": dict(zip(ROLES, ROLES, strict=True)) | {"neck": "head"}}, "two roles have the same joint"),
        ({"roles": dict.fromkeys(ROLES, 1)}, "role = joint name"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_skeleton_file_says_what_would_be_right(tmp_path, take, fields, says):
    with pytest.raises(MotionloomError, match=r"skeleton\.toml") as error:
        load(take, skeleton=skeleton_file(tmp_path, **fields))
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.toml", b"= ="), ("a.json", b"{"), ("a.json", b"[]"), ("a.toml", b"\xff"), ("a.toml", None)],
)
def test_what_is_no_skeleton_file_is_one_line_of_error(tmp_path, take, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(MotionloomError, match=name) as error:
        load(take, skeleton=tmp_path / name)
    assert len(str(error.value).splitlines()) == 1


# --- public data sets


def test_bandais_names_tell_the_content(tmp_path):
    (tmp_path / "dataset-2_walk-turn-left_not-confident_001.bvh").touch()
    (tmp_path / "walk1_subject1__f0_1800.bvh").touch()
    (tmp_path / "LICENSE").touch()
    told = {c.recording: (c.licence, c.label, c.subject) for c in bvh.scan(tmp_path)}
    assert told == {
        "dataset-2_walk-turn-left_not-confident_001": ("CC BY-NC 4.0", "walk-turn-left", ""),
        "walk1_subject1": ("CC BY-NC-ND 4.0", "walk", "subject1"),
        "LICENSE": ("unknown: ask the owner", "LICENSE", ""),
    }
    assert reason(tmp_path / "LICENSE") == "not_motion"


def test_bandais_root_goes_into_the_hips(tmp_path):
    motion = on_layout(human_motion("turn", seed=3, seconds=1.0, fps=30.0), "bandai")
    path = write_bandai(motion, tmp_path / "x.bvh")
    plain = load(path)
    assert (plain.skeleton.name, plain.skeleton.joint_names) == ("bandai", motion.skeleton.joint_names)
    assert np.abs(plain.position - motion.position).max() < 1e-5
    text = path.read_text()
    head, rows = (
        text[: text.index("\n", text.index("Frame Time")) + 1],
        text[text.index("\n", text.index("Frame Time")) + 1 :],
    )
    moved = "\n".join(
        " ".join(["100", "0", "50", "0", "0", "90", *row.split()[6:]]) for row in rows.strip().split("\n")
    )
    path.write_text(head + moved + "\n")
    turned = load(path)
    quarter = np.broadcast_to(rotations.about_z(np.array(np.pi / 2)), plain.rotation.shape)
    assert np.allclose(turned.position, rotations.rotate(quarter, plain.position) + [1.0, -0.5, 0.0], atol=1e-9)
    assert apart(turned.rotation, rotations.multiply(quarter, plain.rotation)) < 1e-6


def test_bones_a_file_moves_are_where_the_file_says(tmp_path):
    motion = on_layout(human_motion("walk", seconds=1.0, fps=30.0), "bandai")
    path = write_bandai(motion, tmp_path / "x.bvh")
    head, rows = path.read_text().split("Frame Time: 0.033333\n")
    # The left shank longer in the channels, the OFFSET as before.
    joint = 1 + motion.skeleton.index("Foot_L")
    table = np.array([row.split() for row in rows.strip().split("\n")], float)
    table[:, 6 * joint : 6 * joint + 3] *= 1.1
    path.write_text(head + "Frame Time: 0.033333\n" + "\n".join(" ".join(f"{v:.6f}" for v in row) for row in table))
    longer = load(path)
    shank = motion.skeleton.offsets[motion.skeleton.index("Foot_L")]
    assert np.allclose(longer.skeleton.offsets[longer.skeleton.index("Foot_L")], 1.1 * shank, atol=1e-6)
    foot, knee = (longer.position[:, longer.skeleton.index(name)] for name in ("Foot_L", "LowerLeg_L"))
    assert np.allclose(np.linalg.norm(foot - knee, axis=1), 1.1 * np.linalg.norm(shank), atol=1e-6)


def test_lafan1s_obstacles_need_terrain_here_too(tmp_path):
    path = write_lafan1(
        on_layout(human_motion("walk", seconds=1.0, fps=30.0), "lafan1"), tmp_path / "obstacles1_subject1.bvh"
    )
    assert reason(path) == "needs_terrain"


# --- kinematics against SciPy

AXIS_LISTS = st.lists(st.sampled_from("XYZ"), max_size=3, unique=True)


@st.composite
def trees(draw) -> tuple[list[Joint], np.ndarray]:
    count = draw(st.integers(1, 6))
    joints = []
    for i in range(count):
        channels = [f"{axis}position" for axis in draw(AXIS_LISTS)] + [f"{axis}rotation" for axis in draw(AXIS_LISTS)]
        channels = draw(st.permutations(channels))
        parent = f"j{draw(st.integers(0, i - 1))}" if i else ""
        offset = tuple(draw(st.lists(st.floats(-5, 5), min_size=3, max_size=3)))
        joints.append(Joint(f"j{i}", parent, offset, tuple(channels)))
    order: list[Joint] = []

    def visit(joint: Joint) -> None:
        order.append(joint)
        for child in joints:
            if child.parent == joint.name:
                visit(child)

    visit(joints[0])
    if not any(joint.channels for joint in order):
        order[0] = replace(order[0], channels=("Xrotation",))
    width = sum(len(joint.channels) for joint in order)
    values = np.random.default_rng(draw(st.integers(0, 1000))).uniform(-400, 400, (3, width))
    return order, values


@settings(max_examples=60, deadline=None)
@given(trees())
def test_kinematics_equal_scipys(tree):
    joints, values = tree
    file = parse_bvh(text_of(joints, values).encode())
    position, rotation = world_motion(file, np.array([1.0, 0, 0, 0]))
    for frame, row in enumerate(values):
        place, turn, column = {}, {}, 0
        for i, joint in enumerate(joints):
            offset, order, angles = np.array(joint.offset, float), "", []
            for channel in joint.channels:
                if channel.endswith("position"):
                    offset["XYZ".index(channel[0])] = row[column]
                else:
                    order, angles = order + channel[0], [*angles, row[column]]
                column += 1
            local = Rotation.from_euler(order, angles, degrees=True) if order else Rotation.identity()
            above = turn.get(joint.parent, Rotation.identity())
            place[joint.name] = place.get(joint.parent, np.zeros(3)) + above.apply(offset)
            turn[joint.name] = above * local
            assert np.allclose(position[frame, i], place[joint.name], atol=1e-9)
            assert np.allclose(rotations.to_matrix(rotation[frame, i]), turn[joint.name].as_matrix(), atol=1e-9)


def test_a_subset_of_joints_is_where_all_of_them_are(walker):
    file = parse_bvh(text_of(*walker).encode())
    everything = world_motion(file, rotations.Y_UP_TO_Z_UP)
    some = world_motion(file, rotations.Y_UP_TO_Z_UP, [0, 4, 11])
    assert all(np.array_equal(whole[:, [0, 4, 11]], part) for whole, part in zip(everything, some, strict=True))


# --- the parser

ONE = [Joint("a", channels=("Xposition", "Yposition"))]
BLANKS = st.sampled_from([" ", "  ", "\t", " \t "])
NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.integers(-(10**9), 10**9).map(str),
    st.sampled_from(["-0", "+1.5", ".5", "5.", "1e-05", "1E+3", "-2.5e-7", "000.100", "1.7976931348623157e308"]),
)


@settings(max_examples=120, deadline=None)
@given(
    st.lists(st.tuples(NUMBERS, NUMBERS), min_size=2, max_size=8), BLANKS, st.sampled_from(["", " ", "\t"]),
    st.sampled_from(["\n", "\r\n", "\n\n"]), st.booleans(), st.booleans(),
)  # fmt: skip
def test_numbers_read_as_python_reads_them(rows, blank, tail, newline, ends, marked):
    head = text_of(ONE, np.zeros((0, 2))).replace("Frames: 0", f"Frames: {len(rows)}")
    body = newline.join(blank.join(row) + tail for row in rows) + (newline if ends else "")
    text = ("\ufeff" if marked else "") + head.replace("\n", newline) + body
    values = parse_bvh(text.encode()).values
    assert np.array_equal(values, [[float(word) for word in row] for row in rows])


def good() -> str:
    return text_of(ONE + [Joint("b", "a", (0, 1, 0))], np.arange(15.0).reshape(3, 5))


def nested(depth: int) -> str:
    opened = "".join(f"JOINT j{i}\n{{\nOFFSET 0 0 0\nCHANNELS 1 Xrotation\n" for i in range(depth))
    return "HIERARCHY\nROOT r\n{\nOFFSET 0 0 0\nCHANNELS 1 Xrotation\n" + opened + "}\n" * (depth + 1) + "MOTION\n"


def many(count: int) -> str:
    listed = "".join(f"JOINT j{i}\n{{\nOFFSET 0 0 0\nCHANNELS 1 Xrotation\n}}\n" for i in range(count))
    return "HIERARCHY\nROOT r\n{\nOFFSET 0 0 0\nCHANNELS 1 Xrotation\n" + listed + "}\nMOTION\n"


BROKEN: list[tuple[str, Callable[[str], str | bytes], str]] = [
    ("a line has fewer values than channels", lambda t: t.replace("7.0 8.0", "7.0"), "truncated"),
    ("a line has more values than channels", lambda t: t.replace("7.0 8.0", "7.0 8.0 8.0"), "wrong_shape"),
    ("a value has slipped into the line before", lambda t: t.replace("4.0\n5.0", "4.0 5.0\n"), "wrong_shape"),
    ("the same between tabs", lambda t: t.replace(".0 ", ".0\t").replace("9.0\n10.0\t", "9.0\t10.0\n"), "wrong_shape"),
    ("cut within the last line", lambda t: t[:-8], "truncated"),
    ("cut after a line", lambda t: t[: t.rindex("10.0")], "truncated"),
    ("cut within a number", lambda t: t.replace("14.0", "-"), "truncated"),
    ("cut in the header", lambda t: t[:40], "truncated"),
    ("cut after MOTION", lambda t: t[: t.index("Frames")], "truncated"),
    ("cut after Frames", lambda t: t[: t.index("Frame Time")], "bad_frame_rate"),
    ("no values", lambda t: t[: t.index("0.0 1.0 2.0")], "truncated"),
    ("more frames promised", lambda t: t.replace("Frames: 3", "Frames: 4"), "truncated"),
    ("fewer frames promised", lambda t: t.replace("Frames: 3", "Frames: 2"), "wrong_shape"),
    ("absurdly many frames", lambda t: t.replace("Frames: 3", "Frames: 999999999999999"), "truncated"),
    ("a count of a million digits", lambda t: t.replace("Frames: 3", "Frames: " + "9" * 10**6), "truncated"),
    ("a negative count", lambda t: t.replace("Frames: 3", "Frames: -3"), "truncated"),
    ("a count that is none", lambda t: t.replace("Frames: 3", "Frames: three"), "truncated"),
    ("no frame", lambda t: t[: t.index("0.0 1.0 2.0")].replace("Frames: 3", "Frames: 0"), "too_short"),
    ("one frame", lambda t: t[: t.index("5.0 6.0")].replace("Frames: 3", "Frames: 1"), "too_short"),
    ("no frame time", lambda t: t.replace("Frame Time: 0.033333\n", ""), "bad_frame_rate"),
    ("an empty frame time", lambda t: t.replace("0.033333", ""), "bad_frame_rate"),
    ("a frame time of zero", lambda t: t.replace("0.033333", "0.0"), "bad_frame_rate"),
    ("a negative frame time", lambda t: t.replace("0.033333", "-0.033333"), "bad_frame_rate"),
    ("an absurdly short frame time", lambda t: t.replace("0.033333", "1e-300"), "bad_frame_rate"),
    ("an absurdly long frame time", lambda t: t.replace("0.033333", "33.3"), "bad_frame_rate"),
    ("a frame time that is none", lambda t: t.replace("0.033333", "nan"), "bad_frame_rate"),
    ("a frame time with a comma", lambda t: t.replace("0.033333", "0,033333"), "bad_frame_rate"),
    ("NaN", lambda t: t.replace("7.0", "nan"), "not_finite"),
    ("NaN as Windows prints it", lambda t: t.replace("7.0", "-nan(ind)"), "not_finite"),
    ("infinity", lambda t: t.replace("7.0", "inf"), "not_finite"),
    ("beyond all numbers", lambda t: t.replace("7.0", "1e999"), "not_finite"),
    ("numbers with a comma", lambda t: t.replace("7.0", "7,0"), "truncated"),
    ("a word among the numbers", lambda t: t.replace("7.0", "seven"), "truncated"),
    ("Python's own way with numbers", lambda t: t.replace("7.0", "7_0"), "truncated"),
    ("a separator of long ago", lambda t: t.replace("7.0 ", "7.0\x1f"), "truncated"),
    ("a joint named twice", lambda t: t.replace("JOINT b", "JOINT a"), "joint_named_twice"),
    ("a joint within its end site", lambda t: t.replace("End Site\n{", "End Site\n{\nJOINT c\n{"), "bad_hierarchy"),
    ("a second root", lambda t: t.replace("MOTION", "ROOT c\n{\nOFFSET 0 0 0\nCHANNELS 0\n}\nMOTION"), "bad_hierarchy"),
    ("a joint without a root", lambda t: t.replace("ROOT", "JOINT"), "bad_hierarchy"),
    ("a joint without a name", lambda t: t.replace("JOINT b", "JOINT"), "bad_hierarchy"),
    ("a joint without an offset", lambda t: t.replace("OFFSET 0.0 1.0 0.0\n", ""), "bad_hierarchy"),
    ("a joint with two offsets", lambda t: t.replace("OFFSET 0.0 1.0 0.0", "OFFSET 0 1 0\nOFFSET 0 1 0"), "bad_hierarchy"),
    ("an offset of two numbers", lambda t: t.replace("OFFSET 0.0 1.0 0.0", "OFFSET 0.0 1.0"), "bad_hierarchy"),
    ("an infinite offset", lambda t: t.replace("OFFSET 0.0 1.0 0.0", "OFFSET 0.0 1e999 0.0"), "bad_hierarchy"),
    ("a joint without channels", lambda t: t.replace("CHANNELS 2 Xposition Yposition\n", ""), "bad_hierarchy"),
    ("more channels than counted", lambda t: t.replace("CHANNELS 2", "CHANNELS 1"), "bad_hierarchy"),
    ("a channel twice", lambda t: t.replace("Xposition Yposition", "Xposition Xposition"), "bad_hierarchy"),
    ("an unknown channel", lambda t: t.replace("Yposition", "Wposition"), "bad_hierarchy"),
    ("no channel at all", lambda _: text_of([Joint("a", channels=())], np.zeros((3, 0))), "bad_hierarchy"),
    ("an open brace", lambda t: t.replace("}\nMOTION", "MOTION"), "bad_hierarchy"),
    ("one brace too many", lambda t: t.replace("}\nMOTION", "}\n}\nMOTION"), "bad_hierarchy"),
    ("two open braces in a row", lambda t: t.replace("ROOT a\n{", "ROOT a\n{\n{"), "bad_hierarchy"),
    ("a line nobody knows", lambda t: t.replace("End Site", "Middle Site"), "bad_hierarchy"),
    ("no joints", lambda _: "HIERARCHY\nMOTION\nFrames: 3\nFrame Time: 0.03\n", "bad_hierarchy"),
    ("deeper than any body", lambda _: nested(200), "bad_hierarchy"),
    ("a hundred thousand deep", lambda _: nested(100_000), "truncated"),
    ("more joints than any body", lambda _: many(2000), "bad_hierarchy"),
    ("an endless header", lambda t: t.replace("MOTION", " " * (1 << 20) + "\nMOTION"), "truncated"),
    ("another text", lambda _: "time,x,y\n0,1,2\n", "truncated"),
    ("a picture", lambda _: b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "not_motion"),
    ("UTF-16", lambda t: t.encode("utf-16"), "not_motion"),
    ("NUL bytes in a name", lambda t: t.replace("JOINT b", "JOINT b\0"), "not_motion"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "expected"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_a_broken_file_is_refused_with_its_reason(tmp_path, change, expected):
    broken = change(good())
    data = broken if isinstance(broken, bytes) else broken.encode()
    assert data != good().encode()
    (tmp_path / "x.bvh").write_bytes(data)
    assert reason(tmp_path / "x.bvh") == expected


def test_the_unbroken_file_is_read():
    file = parse_bvh(good().encode())
    assert np.array_equal(file.values, np.arange(15.0).reshape(3, 5))
    assert (file.joint_names, file.parents, file.fps) == (("a", "b"), (-1, 0), 30.0)
    assert file.end_sites == {1: (0.0, 0.0, 0.0)}


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.replace("\n{", " {"), lambda t: t.replace("\n", "\r\n"), lambda t: t.upper().replace("FRAME TIME", "Frame Time").replace(
            "FRAMES", "Frames").replace("A\n{", "a\n{").replace("B\n{", "b\n{"), lambda t: t.replace("\nOFFSET", "\n\n   OFFSET"),
        lambda t: t.replace("Frames: 3", "Frames:\t3 ").replace("Time: ", "Time:   "), lambda t: t.rstrip("\n"), lambda t: t + "\n \n",
    ],
)  # fmt: skip
def test_harmless_differences_are_read_alike(change):
    file, same = parse_bvh(change(good()).encode()), parse_bvh(good().encode())
    assert np.array_equal(file.values, same.values)
    assert (file.joint_names, file.parents, file.channels, file.fps) == (
        same.joint_names,
        same.parents,
        same.channels,
        same.fps,
    )


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damage_anywhere_is_refused_or_read_but_breaks_nothing(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("bvh") / "x.bvh"
    content = bytearray(write(path, *SMALL).read_bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content[: data.draw(st.integers(1, len(content)))] if data.draw(st.booleans()) else content))
    try:
        motion = load(path)
    except Rejected as rejected:
        assert rejected.reason
    else:
        assert np.isfinite(motion.position).all()


SMALL = (person(MAKERS["noitom"])[0], np.round(person(MAKERS["noitom"])[1][:3], 3))


@pytest.mark.parametrize(
    ("frame_time", "fps"),
    [
        ("0.033333", 30), ("0.0333333", 30), ("0.03333", 30), ("0.0333", 30), ("0.033", 30), (".0333333", 30), ("0.008333", 120),
        ("0.00833", 120), ("0.0083", 120), ("0.016667", 60), ("0.016666", 60), ("0.0167", 60), ("0.01", 100), ("0.010000", 100),
        ("0.02", 50), ("0.04", 25), ("0.005", 200), ("0.0333667", 1 / 0.0333667), ("0.016683", 1 / 0.016683), ("0.03", 1 / 0.03),
        ("0.034", 1 / 0.034), ("0.0111111", 90), ("1e-2", 100), ("0.5", 2), ("0.0041667", 240),
    ],
)  # fmt: skip
def test_a_rounded_frame_time_is_the_rate_it_stands_for(frame_time, fps):
    assert parse_bvh(good().replace("0.033333", frame_time).encode()).fps == pytest.approx(fps, rel=1e-12)
