"""Keeping clear of the floor and of oneself: judged by MuJoCo's contacts and scipy's optimum of the same cost."""

from __future__ import annotations

from dataclasses import replace

import mujoco
import numpy as np
import pytest
from scipy.optimize import least_squares

from corpus import rotations
from corpus.posture import postures
from corpus.robot import forward_kinematics
from retarget import solver
from retarget.solver import ClearanceOptions, Near, SolverOptions, Targets, solve

DRIVEN = ("pelvis", "torso_link", *[
    f"{side}_{link}_link" for side in ("left", "right") for link in ("knee", "ankle_roll", "elbow", "wrist_yaw")
])  # fmt: skip
WEIGHT = 3.0
OPTIONS = SolverOptions(tolerance=1e-5, iterations=100)


def targets_of(g1, qpos: np.ndarray) -> Targets:
    position, rotation = forward_kinematics(g1, qpos)
    bodies = [g1.body(name) for name in DRIVEN]
    return Targets(
        tuple(bodies), position[:, bodies].copy(), rotation[:, bodies].copy(), np.full(10, 30.0), np.full(10, 5.0)
    )


@pytest.fixture
def arms_in_trunk(g1) -> np.ndarray:
    """A standing robot whose forearms reach deeper and deeper into its own trunk and thighs."""
    qpos = np.zeros((12, 36))
    qpos[:, 2], qpos[:, 3] = 0.79, 1.0
    for side, sign in (("left", 1), ("right", -1)):
        qpos[:, 7 + g1.joint_names.index(f"{side}_shoulder_yaw_joint")] = sign * -np.linspace(0.0, 1.2, 12)
        qpos[:, 7 + g1.joint_names.index(f"{side}_shoulder_roll_joint")] = sign * 0.05
    return qpos


@pytest.fixture
def lying(g1) -> np.ndarray:
    """On its back, hips and shoulders sunk into the floor, more in some frames than in others."""
    qpos = np.zeros((12, 36))
    qpos[:, 2] = np.linspace(0.0, 0.12, 12)
    qpos[:, 3:7] = rotations.from_rotation_vector(np.array([0.0, -np.pi / 2, 0.0]))
    qpos[:, 7 + g1.joint_names.index("left_knee_joint")] = 1.2
    qpos[:, 7 + g1.joint_names.index("left_hip_pitch_joint")] = -0.8
    return qpos


def overlaps(g1, qpos: np.ndarray) -> list[float]:
    """Depths of MuJoCo's contacts between the robot's own links [m]."""
    model = mujoco.MjModel.from_xml_path(str(g1.mjcf))
    data = mujoco.MjData(model)
    data.qpos[:] = qpos
    mujoco.mj_forward(model, data)
    return [
        -contact.dist for contact in data.contact if contact.dist < 0 and (model.geom_bodyid[contact.geom] > 0).all()
    ]


def depths(g1, qpos: np.ndarray, allowed: float) -> np.ndarray:
    """How deep each end of each capsule lies below z = 0, the feet's beyond what they may [m]."""
    feet = {g1.body(body) for body, _ in g1.ground_points.values()}
    position, rotation = forward_kinematics(g1, qpos[None])
    below = []
    for capsule in g1.capsules:
        for end in (capsule.start, capsule.end):
            z = (position[0, capsule.body] + rotations.rotate(rotation[0, capsule.body], end))[2] - capsule.radius
            below.append(max(-z - (allowed if capsule.body in feet else 0.0), 0.0))
    return np.array(below)


def test_links_keep_off_each_other_by_mujocos_measure(g1, arms_in_trunk):
    targets = targets_of(g1, arms_in_trunk)
    assert max(overlaps(g1, arms_in_trunk[-1])) > 0.03
    solution = solve(g1, targets, OPTIONS, near=Near(arms_in_trunk, WEIGHT, np.ones(12, bool)))
    assert max(max(overlaps(g1, qpos), default=0.0) for qpos in solution.qpos) < 0.016


def test_what_lies_below_the_floor_is_brought_up_without_lifting_the_rest(g1, lying):
    targets = targets_of(g1, lying)
    solution = solve(g1, targets, OPTIONS, near=Near(lying, WEIGHT, np.ones(12, bool)))
    assert postures(g1, lying).lowest.min() < -0.05
    outside = postures(g1, solution.qpos)
    assert outside.lowest_besides_feet.min() > -0.003
    assert outside.lowest.min() > -ClearanceOptions().allowed_depth - 0.002
    knee = g1.body("left_knee_link")
    before, after = (forward_kinematics(g1, qpos)[0][0, knee, 2] for qpos in (lying, solution.qpos))
    sunk = -postures(g1, lying).lowest[0]
    assert after - before < 0.8 * sunk


@pytest.mark.parametrize("posture", ["arms_in_trunk", "lying"])
def test_the_result_is_the_optimum_of_its_cost(g1, posture, request):
    """scipy, started from our result on the same cost with MuJoCo's depths, finds nothing cheaper."""
    qpos = (
        request.getfixturevalue(posture)[-4:-3] if posture == "arms_in_trunk" else request.getfixturevalue(posture)[6:7]
    )
    targets = targets_of(g1, qpos)
    found = solve(g1, targets, OPTIONS, near=Near(qpos, WEIGHT, np.ones(1, bool))).qpos[0]
    clear = ClearanceOptions()

    def residuals(x: np.ndarray) -> np.ndarray:
        turn = rotations.multiply(rotations.from_rotation_vector(x[3:6]), found[3:7])
        full = np.concatenate([found[:3] + x[:3], turn, found[7:] + x[6:]])
        position, rotation = (part[0, list(targets.bodies)] for part in forward_kinematics(g1, full[None]))
        error = rotations.to_rotation_vector(rotations.multiply(targets.rotation[0], rotations.conjugate(rotation)))
        deepest = np.zeros(40)
        own = np.sort([max(d - clear.allowed_overlap, 0.0) for d in overlaps(g1, full)])[::-1][:40]
        deepest[: len(own)] = own
        return np.concatenate([
            ((targets.position[0] - position) * 30.0).ravel(), (error * 5.0).ravel(), (full - qpos[0])[7:] * WEIGHT,
            deepest * clear.apart_weight, depths(g1, full, clear.allowed_depth) * clear.floor_weight,
        ])  # fmt: skip

    bounds = (
        np.concatenate([np.full(6, -1.0), np.minimum(g1.lower - found[7:], -1e-9)]),
        np.concatenate([np.full(6, 1.0), np.maximum(g1.upper - found[7:], 1e-9)]),
    )
    ours = (residuals(np.zeros(35)) ** 2).sum()
    best = 2 * least_squares(residuals, np.zeros(35), bounds=bounds, x_scale=0.1, max_nfev=30).cost
    assert best > 0.5
    assert ours <= best * 1.01


def test_where_nothing_touches_it_changes_nothing(g1):
    qpos = np.zeros((5, 36))
    qpos[:, 2], qpos[:, 3] = 0.85, 1.0
    for side, sign in (("left", 1), ("right", -1)):
        qpos[:, 7 + g1.joint_names.index(f"{side}_shoulder_roll_joint")] = sign * 0.5
    targets = targets_of(g1, qpos)
    plain = solve(g1, targets, OPTIONS, near=Near(qpos, WEIGHT))
    clear = solve(g1, targets, OPTIONS, near=Near(qpos, WEIGHT, np.ones(5, bool)))
    assert np.abs(plain.qpos - clear.qpos).max() < 1e-4


def test_only_frames_that_are_asked_for_are_kept_clear(g1, lying):
    targets = targets_of(g1, lying)
    asked = np.arange(12) % 3 == 0
    plain = solve(g1, targets, OPTIONS, near=Near(lying, WEIGHT)).qpos
    every = solve(g1, targets, OPTIONS, near=Near(lying, WEIGHT, np.ones(12, bool))).qpos
    some = solve(g1, targets, OPTIONS, near=Near(lying, WEIGHT, asked)).qpos
    assert np.abs(some - np.where(asked[:, None], every, plain)).max() < 1e-3
    assert np.abs(every - plain).max() > 0.02


def test_one_lane_keeps_as_clear_as_sixteen(g1, arms_in_trunk, lying, monkeypatch):
    for qpos in (arms_in_trunk, lying):
        near = Near(qpos, WEIGHT, np.ones(12, bool))
        wide = solve(g1, targets_of(g1, qpos), OPTIONS, near=near).qpos
        with monkeypatch.context() as patch:
            patch.setattr(solver, "LANES_CPU", 1)
            narrow = solve(g1, targets_of(g1, qpos), OPTIONS, near=near).qpos
        assert np.abs(wide - narrow).max() < 2e-3


def test_weightless_clearance_is_none(g1, arms_in_trunk):
    none = replace(OPTIONS, clearance=ClearanceOptions(floor_weight=0.0, apart_weight=0.0))
    targets = targets_of(g1, arms_in_trunk)
    plain = solve(g1, targets, OPTIONS, near=Near(arms_in_trunk, WEIGHT)).qpos
    weightless = solve(g1, targets, none, near=Near(arms_in_trunk, WEIGHT, np.ones(12, bool))).qpos
    assert np.abs(plain - weightless).max() < 1e-4
