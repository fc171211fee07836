"""Retargeting judged by geometry, by symmetry, by cutting, and by Unitree's own retargeting of the same takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from corpus import rotations
from corpus.errors import Rejected
from corpus.motion import Clip, HumanMotion, RobotMotion
from corpus.resample import resample
from corpus.robot import forward_kinematics
from corpus.skeleton import Skeleton
from corpus.skeleton import forward_kinematics as skeleton_kinematics
from corpus.sources.synthetic_moves import human_motion
from retarget import retarget as module
from retarget.retarget import RetargetOptions, retarget
from retarget.targets import build_targets

# A person of round numbers in SMPL's frames (x left, y up, z forward), T-pose.
NAMES = [
    "pelvis",
    "left_hip",
    "right_hip",
    "spine1",
    "left_knee",
    "right_knee",
    "spine2",
    "left_ankle",
    "right_ankle",
    "spine3",
    "left_foot",
    "right_foot",
    "neck",
    "left_collar",
    "right_collar",
    "head",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
]
PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19)
OFFSETS = {
    "hip": (0.1, -0.08, 0), "knee": (0, -0.4, 0), "ankle": (0, -0.4, 0), "foot": (0, -0.06, 0.13),
    "spine1": (0, 0.1, 0), "spine2": (0, 0.13, 0), "spine3": (0, 0.06, 0), "neck": (0, 0.2, 0), "head": (0, 0.1, 0),
    "collar": (0.08, 0.11, 0), "shoulder": (0.1, 0, 0), "elbow": (0.26, 0, 0), "wrist": (0.25, 0, 0),
}  # fmt: skip
UPRIGHT = rotations.from_matrix(np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]]))  # z forward → world x, x left → world y


def person() -> Skeleton:
    offsets = np.zeros((22, 3))
    for i, name in enumerate(NAMES[1:], 1):
        side, _, part = name.rpartition("_")
        offsets[i] = np.array(OFFSETS[part]) * ([-1, 1, 1] if side == "right" else [1, 1, 1])
    return Skeleton("smpl", tuple(NAMES), PARENTS, offsets)


def pose(
    local: dict[str, np.ndarray], frame_count: int = 50, root: np.ndarray | None = None, fps: float = 50.0
) -> HumanMotion:
    """A motion from rotation vectors per joint, (3,) or (T, 3), in SMPL's frames."""
    skeleton = person()
    turns = np.zeros((frame_count, 22, 3))
    for name, vector in local.items():
        turns[:, NAMES.index(name)] = vector
    rotation = rotations.from_rotation_vector(turns)
    rotation[:, 0] = rotations.multiply(np.broadcast_to(UPRIGHT, (frame_count, 4)), rotation[:, 0])
    root = np.tile([0.0, 0.0, 0.96], (frame_count, 1)) if root is None else root
    position, world = skeleton_kinematics(skeleton, root, rotation)
    return HumanMotion(skeleton, position, world, fps, "test")


def bodies(g1, motion: RobotMotion) -> dict[str, np.ndarray]:
    position, _ = forward_kinematics(g1, motion.qpos)
    return {name: position[:, i] for i, name in enumerate(g1.body_names)}


def load(shared: Path, source: str, folder: str, name: str):
    from corpus.sources import SOURCES
    from corpus.sources.options import LoadOptions

    clip = Clip(source=source, path=name, licence="")
    return SOURCES[source].load(shared / folder, clip, LoadOptions())


def test_a_t_pose_stretches_the_robots_arms_sideways(g1):
    at = bodies(g1, retarget(pose({})).motion)
    for side, sign in (("left", 1), ("right", -1)):
        reach = (at[f"{side}_wrist_yaw_link"] - at[f"{side}_shoulder_roll_link"])[25]
        assert sign * reach[1] > 0.33
        assert abs(reach[0]) < 0.06 and abs(reach[2]) < 0.08


def test_a_standing_person_stands_on_flat_soles_at_ground_height(g1):
    motion = retarget(pose({})).motion
    position, rotation = forward_kinematics(g1, motion.qpos)
    for body, points in g1.ground_points.values():
        i = g1.body(body)
        world = position[:, i, None] + rotations.rotate(rotation[:, i, None], points[None])
        assert np.abs(world[..., 2]).max() < 0.004


def test_a_person_facing_x_makes_a_robot_facing_x(g1):
    assert abs(rotations.heading(retarget(pose({})).motion.root_rotation)).max() < 0.01


def test_bending_the_elbows_by_a_right_angle_gives_the_robots_zero_posture(g1):
    """Arms hanging, forearms forward: the posture in which all of the G1's joints read zero."""
    hang = rotations.to_rotation_vector(rotations.from_rotation_vector(np.array([0, 0, -np.pi / 2])))
    bend = np.array([0, -np.pi / 2, 0.0])  # T-pose forearm (+x) towards +z
    motion = retarget(
        pose({"left_shoulder": hang, "right_shoulder": -hang, "left_elbow": bend, "right_elbow": -bend})
    ).motion
    arms = [i for i, name in enumerate(g1.joint_names) if any(part in name for part in ("shoulder", "elbow", "wrist"))]
    assert np.abs(motion.joint_position[:, arms]).max() < 0.1


def waving_walk(frame_count: int = 150) -> dict[str, np.ndarray]:
    t = np.arange(frame_count)[:, None] / 50
    swing = 0.4 * np.sin(2 * np.pi * t)
    return {
        "left_hip": swing * [-1, 0, 0], "right_hip": swing * [1, 0, 0],
        "left_knee": (0.3 + 0.3 * np.sin(2 * np.pi * t)) * [1, 0, 0], "right_knee": (0.3 - 0.3 * np.sin(2 * np.pi * t)) * [1, 0, 0],
        "left_shoulder": np.concatenate([0.5 * swing, 0 * t, -1.2 + 0.3 * swing], 1), "left_elbow": 0.7 * np.array([0, -1.0, 0]) + 0 * t,
        "right_shoulder": np.concatenate([-0.5 * swing, 0 * t, 1.0 + 0.2 * swing], 1), "spine2": 0.2 * swing * [0, 1, 0],
    }  # fmt: skip


def other_side(name: str) -> str:
    return name.replace("left", "#").replace("right", "left").replace("#", "right")


def mirrored(motion: HumanMotion) -> HumanMotion:
    """Reflect y and swap left and right; the rotation of a reflected frame reflects x too (its local x points left)."""
    swap = [NAMES.index(other_side(name)) for name in NAMES]
    position = motion.position[:, swap] * [1, -1, 1]
    matrix = rotations.to_matrix(motion.rotation[:, swap])
    matrix = np.diag([1.0, -1, 1]) @ matrix @ np.diag([-1.0, 1, 1])
    return replace(motion, position=position, rotation=rotations.from_matrix(matrix))


def test_a_mirrored_person_makes_a_mirrored_robot(g1):
    human = pose(waving_walk(), 150)
    straight, mirror = (retarget(h).motion.joint_position for h in (human, mirrored(human)))
    swap = [g1.joint_names.index(other_side(n)) for n in g1.joint_names]
    sign = np.array([-1.0 if ("roll" in n or "yaw" in n) else 1.0 for n in g1.joint_names])
    # The G1's own left and right differ by a few tenths of a millimetre.
    assert np.abs(straight[:, swap] * sign - mirror).max() < 0.02


def test_turning_and_moving_the_person_turns_and_moves_the_robot(g1):
    human = pose(waving_walk(), 150)
    turn = rotations.about_z(np.array(2.0))
    moved = replace(
        human,
        position=rotations.rotate(np.broadcast_to(turn, human.rotation.shape), human.position) + [3.0, -1.0, 0.0],
        rotation=rotations.multiply(np.broadcast_to(turn, human.rotation.shape), human.rotation),
    )
    a, b = retarget(human).motion, retarget(moved).motion
    assert np.abs(a.joint_position - b.joint_position).max() < 2e-3


def test_a_planted_foot_does_not_slide(g1):
    """The pelvis sways over a foot that stays where it is, by two-link leg geometry."""
    human = pose({}, 100)
    sway = 0.05 * np.sin(np.arange(100) / 50 * 2 * np.pi)
    position = human.position.copy()
    legs = [NAMES.index(f"{s}_{j}") for s in ("left", "right") for j in ("ankle", "foot")]
    position[:, [i for i in range(22) if i not in legs], 1] += sway[:, None]
    at = bodies(g1, retarget(replace(human, position=position)).motion)
    for side in ("left", "right"):
        foot = at[f"{side}_ankle_roll_link"]
        assert np.abs(foot - foot.mean(0)).max() < 0.004


def test_cutting_a_clip_changes_no_frame_away_from_the_cut(g1):
    human = pose(waving_walk(), 150)
    whole = retarget(human).motion
    tail = retarget(replace(human, position=human.position[60:], rotation=human.rotation[60:])).motion
    assert np.abs(whole.joint_position[60:] - tail.joint_position).max() < 0.02


def test_a_long_clip_done_in_pieces_comes_out_as_whole(g1, monkeypatch):
    human = pose(waving_walk(600), 600)
    whole = retarget(human)
    monkeypatch.setattr(module, "LONG", 170)
    pieces = retarget(human)
    assert np.abs(whole.motion.joint_position - pieces.motion.joint_position).max() < 0.02
    assert np.abs(whole.motion.root_position - pieces.motion.root_position).max() < 0.005
    assert np.abs(whole.outside.soles - pieces.outside.soles).max() < 0.02
    assert (whole.fit.stands == pieces.fit.stands).mean() > 0.99


def test_the_frame_rate_of_the_recording_does_not_matter(g1):
    t = np.arange(301) / 100
    human = pose({"left_shoulder": np.outer(np.sin(2 * t), [0, 0, 0.8])}, 301, fps=100.0)
    half = replace(human, position=human.position[::2], rotation=human.rotation[::2], fps=50.0)
    a, b = retarget(human).motion, retarget(half).motion
    assert len(a.qpos) == len(b.qpos)
    assert np.abs(a.joint_position - b.joint_position)[10:-10].max() < 0.01


def test_an_unknown_skeleton_is_refused_by_name():
    human = pose({})
    with pytest.raises(Rejected, match="unknown_skeleton"):
        retarget(replace(human, skeleton=replace(human.skeleton, name="generic")))


def test_a_skeleton_in_centimetres_is_refused():
    human = pose({})
    large = replace(human.skeleton, offsets=human.skeleton.offsets * 100)
    with pytest.raises(Rejected, match="bad_unit"):
        retarget(replace(human, skeleton=large, position=human.position * 100))


def test_a_generic_skeleton_with_its_rest_posture_equals_the_table(g1):
    """SMPL's own T-pose as a rest posture gives what the SMPL table gives."""
    human = pose(waving_walk(), 60 + 90)
    roles = {
        "pelvis": "pelvis", "chest": "spine3", "neck": "neck", "head": "head",
        **{f"{s}_{r}": f"{s}_{j}" for s in ("left", "right") for r, j in (
            ("hip", "hip"), ("knee", "knee"), ("ankle", "ankle"), ("toe", "foot"),
            ("shoulder", "shoulder"), ("elbow", "elbow"), ("wrist", "wrist"))},
    }  # fmt: skip
    generic = replace(
        human.skeleton, name="generic", roles=tuple(roles.items()), rest_rotation=np.tile(UPRIGHT, (22, 1))
    )
    a, b = retarget(human).motion, retarget(replace(human, skeleton=generic)).motion
    assert np.abs(a.joint_position - b.joint_position).max() < 1e-3


@pytest.mark.data
@pytest.mark.parametrize(
    ("bvh", "csv", "first"),
    [
        ("dance1_subject1__f0_1800.bvh", "dance1_subject1.csv", 0),
        ("walk1_subject1__f0_1800.bvh", "walk1_subject1.csv", 0),
        ("fallAndGetUp3_subject1__f150_1950.bvh", "fallAndGetUp3_subject1.csv", 150),
    ],
)
def test_lafan1_travels_as_unitrees_own_retargeting_does(shared, capsys, bvh, csv, first):
    """Planar root speed at the takes' 30 Hz, smoothed over 0.17 s: correlation ≥ 0.95 and best at zero lag."""
    ours = resample(retarget(load(shared, "lafan1", "lafan1_bvh", bvh)).motion, 30.0).qpos
    rows = np.loadtxt(shared / "lafan1_g1_csv" / csv, delimiter=",")[first : first + len(ours)]
    ours = ours[: len(rows)]
    speeds = [
        np.convolve(np.linalg.norm(np.diff(xy, axis=0), axis=1) * 30, np.ones(5) / 5, "valid")
        for xy in (ours[:, :2], rows[:, :2])
    ]
    lags = range(-5, 6)
    inner = slice(5, len(speeds[0]) - 5)
    by_lag = [np.corrcoef(np.roll(speeds[0], lag)[inner], speeds[1][inner])[0, 1] for lag in lags]
    ratio = speeds[0].sum() / speeds[1].sum()
    with capsys.disabled():
        print(
            f"\n{csv}: correlation {by_lag[5]:.4f}, best lag {lags[int(np.argmax(by_lag))]} frames, path ratio {ratio:.3f}"
        )
    assert by_lag[5] >= 0.95
    assert lags[int(np.argmax(by_lag))] == 0


@pytest.mark.parametrize("fps", [30.0, 60.0])
@pytest.mark.parametrize("kind", ["walk", "kick", "jump"])
def test_takes_of_several_rates_agree(g1, kind, fps):
    slow, fast = (retarget(human_motion(kind, seed=1, seconds=4.0, fps=rate)).motion.qpos for rate in (fps, 120.0))
    count = min(len(slow), len(fast))
    assert np.abs(slow[5 : count - 5, 7:] - fast[5 : count - 5, 7:]).max() < 0.02


def test_a_jump_falls_at_g_though_the_robot_is_smaller(g1):
    human = human_motion("jump", seed=1, seconds=4.0)
    done = retarget(human)
    off = np.flatnonzero(done.outside.lowest > 0.03)
    flights = np.split(off, np.flatnonzero(np.diff(off) > 1) + 1)
    assert len(flights) == 2 and done.scale < 0.85
    for flight in flights:
        fall = -2 * np.polyfit(flight / 50, done.motion.root_position[flight, 2], 2)[0]
        assert fall == pytest.approx(9.81, rel=0.05)


def test_who_stands_on_a_box_or_hangs_does_not_fly(g1):
    """Feet off the ground without a fall, for a while: the pelvis stays as high as the scaled person's."""
    human = pose({}, 200)
    raised = 0.4 * np.clip(np.minimum(np.arange(200) - 50, 150 - np.arange(200)) / 25, 0, 1)[:, None]
    done = retarget(replace(human, position=human.position + raised[:, None] * [0.0, 0.0, 1.0]))
    assert np.ptp(done.motion.root_position[:, 2]) == pytest.approx(0.4 * done.scale, abs=0.01)


def test_hands_that_clap_meet_in_the_middle(g1, monkeypatch):
    """A person with narrow shoulders swings straight arms together: the robot's, set wider, would stay apart."""
    monkeypatch.setitem(OFFSETS, "collar", (0.05, 0.11, 0))
    monkeypatch.setitem(OFFSETS, "shoulder", (0.05, 0, 0))
    inwards = 0.2 * np.sin(2 * np.pi * np.arange(150)[:, None] / 50)
    forward = np.array([0.0, 1.0, 0.0])
    human = pose({
        "left_shoulder": -(np.pi / 2 + inwards) * forward, "right_shoulder": (np.pi / 2 + inwards) * forward,
    }, 150)  # fmt: skip
    wrists = [NAMES.index(f"{side}_wrist") for side in ("left", "right")]
    apart = np.linalg.norm(human.position[:, wrists[1]] - human.position[:, wrists[0]], axis=1)
    near = apart < 0.1
    assert near.sum() > 20 and (apart > 0.3).sum() > 20
    gaps = {}
    for kept in (0.3, 0.0):
        at = bodies(g1, retarget(human, options=RetargetOptions(hands_near=kept)).motion)
        gaps[kept] = np.linalg.norm(at["right_wrist_yaw_link"] - at["left_wrist_yaw_link"], axis=1)[: len(apart)]
    assert (gaps[0.3] - gaps[0.0])[near].mean() < -0.02
    assert np.abs(gaps[0.3] - gaps[0.0])[apart > 0.35].max() < 0.02


def test_hands_on_hips_are_asked_to_be_there_where_that_is_wanted(g1):
    """Upper arms 45° off, elbows bent by 87°: the person's wrists are 15 cm from the hips' centres. Hanging arms are left alone."""
    arms = {"shoulder": np.array([0, 0, -np.pi / 4]), "elbow": np.array([0, 0, -1.513])}
    human = pose({f"left_{k}": v for k, v in arms.items()} | {f"right_{k}": -v for k, v in arms.items()})
    away = np.linalg.norm(human.position[0, NAMES.index("left_wrist")] - human.position[0, NAMES.index("left_hip")])
    distance = {}
    for near in (0.0, 0.3):
        targets, _ = build_targets(human, g1, 50.0, hips_near=near)
        wrist, hip = (targets.bodies.index(g1.body(f"left_{link}_link")) for link in ("wrist_yaw", "hip_yaw"))
        distance[near] = np.linalg.norm(targets.position[0, wrist] - targets.position[0, hip])
    # Scaled as the arm is (0.37 of 0.51 m), which is just outside the robot's hip and hand of 7 and 3.5 cm.
    assert away == pytest.approx(0.147, abs=0.001)
    assert distance[0.3] == pytest.approx(max(0.723 * away, 0.105), abs=0.002) and distance[0.0] > distance[0.3] + 0.05
    hanging = {"left_shoulder": np.array([0, 0, -1.5]), "right_shoulder": np.array([0, 0, 1.5])}
    one, other = (build_targets(pose(hanging), g1, 50.0, hips_near=near)[0].position for near in (0.0, 0.3))
    assert np.array_equal(one, other)
