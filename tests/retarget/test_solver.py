"""The kernel against Pinocchio, against targets it can reach exactly, and against its own starting points."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pinocchio as pin
import pytest

from corpus import rotations
from corpus.robot import forward_kinematics
from retarget import solver
from retarget.solver import SolverOptions, Targets, join_targets, solve

DRIVEN = ("pelvis", "torso_link", *[
    f"{side}_{link}_link" for side in ("left", "right") for link in ("hip_yaw", "knee", "ankle_roll", "shoulder_yaw", "elbow", "wrist_yaw")
])  # fmt: skip


def targets_from(g1, qpos: np.ndarray, position_weight: float = 30.0, rotation_weight: float = 5.0) -> Targets:
    position, rotation = forward_kinematics(g1, qpos)
    bodies = tuple(g1.body(name) for name in DRIVEN)
    count = len(bodies)
    return Targets(
        bodies,
        position[:, bodies],
        rotation[:, bodies],
        np.full(count, position_weight),
        np.full(count, rotation_weight),
    )


def gentle_motion(g1, frame_count: int = 200, amplitude: float = 0.35) -> np.ndarray:
    """Sines inside the joint limits, walking on and turning slowly."""
    rng = np.random.default_rng(7)
    t = np.arange(frame_count) / 50
    middle = np.clip(np.zeros(29), g1.lower + 0.1, g1.upper - 0.1)
    room = np.minimum(g1.upper - middle, middle - g1.lower)
    qpos = np.zeros((frame_count, 36))
    qpos[:, :3] = np.stack([t, 0.1 * np.sin(t), 0.75 + 0.02 * np.sin(3 * t)], 1)
    qpos[:, 3:7] = rotations.about_z(0.5 * t)
    qpos[:, 7:] = middle + amplitude * room * np.sin(t[:, None] * rng.uniform(1, 3, 29) + rng.uniform(0, 6, 29))
    return qpos


def test_a_reachable_target_is_reached_to_a_tenth_of_a_millimetre(g1):
    qpos = gentle_motion(g1)
    solution = solve(g1, targets_from(g1, qpos), SolverOptions(posture_weight=1e-3))
    position, _ = forward_kinematics(g1, solution.qpos)
    expected, _ = forward_kinematics(g1, qpos)
    assert np.abs(position - expected).max() < 1e-4


def test_the_first_step_is_the_gauss_newton_step_of_pinocchios_jacobians(g1):
    """One undamped-by-comparison step from the rest posture equals the dense normal equations' solution."""
    qpos = gentle_motion(g1, 2, amplitude=0.05)
    targets = targets_from(g1, qpos)
    posture = 0.6
    options = SolverOptions(first_iterations=2, iterations=2, posture_weight=posture, run_length=1, repairs=0)
    start = np.zeros(36)
    start[:3], start[3:7] = targets.position[0, 0], targets.rotation[0, 0]
    expected = _dense_step(g1, targets, start, posture, damping=1e-2)
    got = solve(g1, targets, options).qpos[0]
    assert np.abs(got[7:] - expected[6:]).max() < 1e-4 * max(1.0, np.abs(expected[6:]).max())
    assert np.abs(got[:3] - start[:3] - expected[:3]).max() < 1e-4


def _dense_step(g1, targets: Targets, start: np.ndarray, posture: float, damping: float) -> np.ndarray:
    """(HᵀH + λ) δ = Hᵀe with world-axes Jacobians about each body, the base about its own origin."""
    model = pin.buildModelFromMJCF(str(g1.mjcf))
    data = model.createData()
    q = start.copy()
    q[3:7] = start[[4, 5, 6, 3]]
    pin.computeJointJacobians(model, data, q)
    pin.updateFramePlacements(model, data)
    to_world = data.oMi[1].rotation
    hessian, gradient = np.zeros((35, 35)), np.zeros(35)
    for k, body in enumerate(targets.bodies):
        frame = model.getFrameId(g1.body_names[body], pin.FrameType.BODY)
        J = pin.getFrameJacobian(model, data, frame, pin.ReferenceFrame.LOCAL_WORLD_ALIGNED).copy()
        J[:, :3] = J[:, :3] @ to_world.T  # the base's velocity in world axes, as the kernel has it
        J[:, 3:6] = J[:, 3:6] @ to_world.T
        wanted = rotations.to_matrix(targets.rotation[0, k])
        error = np.concatenate(
            [targets.position[0, k] - data.oMf[frame].translation, pin.log3(wanted @ data.oMf[frame].rotation.T)]
        )
        weight = np.repeat([targets.position_weight[k] ** 2, targets.rotation_weight[k] ** 2], 3)
        hessian += J.T @ (weight[:, None] * J)
        gradient += J.T @ (weight * error)
    hessian[np.arange(6, 35), np.arange(6, 35)] += posture**2
    return np.linalg.solve(hessian + damping * np.eye(35), gradient)


def test_joint_limits_are_never_violated(g1):
    qpos = gentle_motion(g1)
    qpos[:, 7:] *= 6  # far outside the limits
    solution = solve(g1, targets_from(g1, qpos))
    assert (solution.qpos[:, 7:] >= g1.lower.astype(np.float32)).all()
    assert (solution.qpos[:, 7:] <= g1.upper.astype(np.float32)).all()


def test_a_joint_held_at_its_limit_leaves_the_rest_at_their_optimum(g1):
    """Against scipy's bounded least squares on the same cost: ours is not dearer."""
    from scipy.optimize import least_squares

    qpos = gentle_motion(g1, 2)
    qpos[:, 7 + 3] = -0.6  # a knee bent the wrong way
    targets = targets_from(g1, qpos)

    def residuals(x: np.ndarray) -> np.ndarray:
        turn = rotations.multiply(rotations.from_rotation_vector(x[3:6]), targets.rotation[0, 0])
        full = np.concatenate([x[:3], turn, x[6:]])
        position, rotation = forward_kinematics(g1, full[None])
        bodies = list(targets.bodies)
        e_p = (targets.position[0] - position[0, bodies]) * targets.position_weight[:, None]
        e_r = rotations.to_rotation_vector(
            rotations.multiply(targets.rotation[0], rotations.conjugate(rotation[0, bodies]))
        )
        return np.concatenate([e_p.ravel(), (e_r * targets.rotation_weight[:, None]).ravel(), 0.6 * x[6:]])

    start = np.concatenate([targets.position[0, 0], np.zeros(3), np.clip(qpos[0, 7:], g1.lower, g1.upper)])
    bounds = (
        np.concatenate([np.full(6, -np.inf), g1.lower - 1e-9]),
        np.concatenate([np.full(6, np.inf), g1.upper + 1e-9]),
    )
    best = 2 * least_squares(residuals, start, bounds=bounds, xtol=1e-10).cost
    assert solve(g1, targets).cost[0] <= best * 1.001 + 1e-6


@pytest.mark.parametrize("run_length", [16, 1000])
def test_the_result_does_not_depend_on_where_a_run_starts(g1, run_length):
    targets = targets_from(g1, gentle_motion(g1))
    one, other = (solve(g1, targets, SolverOptions(run_length=n)).qpos for n in (64, run_length))
    assert np.abs(one[:, 7:] - other[:, 7:]).max() < 0.02


def test_clips_solved_together_come_out_as_alone(g1):
    clips = [
        targets_from(g1, gentle_motion(g1, count, amplitude)) for count, amplitude in ((130, 0.3), (7, 0.9), (64, 0.1))
    ]
    together = solve(g1, join_targets(clips))
    start = 0
    for clip in clips:
        alone, own = solve(g1, clip), slice(start, start + clip.frame_count)
        assert np.array_equal(alone.qpos, together.qpos[own]) and np.array_equal(alone.cost, together.cost[own])
        start += clip.frame_count


def test_one_lane_gives_what_sixteen_give(g1, monkeypatch):
    """The width a GPU uses, on the CPU."""
    targets = targets_from(g1, gentle_motion(g1))
    wide = solve(g1, targets).qpos
    monkeypatch.setattr(solver, "LANES_CPU", 1)
    narrow = solve(g1, targets).qpos
    assert np.abs(wide - narrow).max() < 1e-3


def test_errors_are_those_of_the_posture(g1):
    qpos = gentle_motion(g1)
    targets = targets_from(g1, qpos)
    targets.position[:, 3] += [0.05, 0.0, 0.02]
    solution = solve(g1, targets)
    position, rotation = (part[:, targets.bodies] for part in forward_kinematics(g1, solution.qpos))
    distance = np.linalg.norm(position - targets.position, axis=2).mean(1)
    angle = 2 * np.arccos(np.minimum(np.abs((rotation * targets.rotation).sum(2)), 1)).mean(1)
    assert np.abs(solution.position_error - distance).max() < 2e-4
    assert np.abs(solution.orientation_error - angle).max() < 2e-3


def test_a_target_for_the_base_is_asked_for(g1):
    targets = targets_from(g1, gentle_motion(g1, 2))
    cut = Targets(
        targets.bodies[1:], targets.position[:, 1:], targets.rotation[:, 1:],
        targets.position_weight[1:], targets.rotation_weight[1:],
    )  # fmt: skip
    with pytest.raises(ValueError, match="base"):
        solve(g1, cut)


def test_wild_postures_are_found_from_other_starts(g1):
    """Reachable postures up to 0.7 of every joint's range, lying any way up: a fifth is missed from the rest posture alone."""
    rng = np.random.default_rng(1)
    qpos = np.zeros((300, 36))
    qpos[:, 2], qpos[:, 3:7] = 0.8, rotations.normalise(rng.normal(size=(300, 4)))
    qpos[:, 7:] = 0.7 * rng.uniform(g1.lower, g1.upper, (300, 29))
    targets = replace(targets_from(g1, qpos), starts=tuple(range(300)))
    alone, several = (solve(g1, targets, SolverOptions(other_starts=count)).position_error for count in (0, 8))
    missed, left = (alone > 0.02).mean(), (several > 0.02).mean()
    assert missed > 0.1 and left < 0.3 * missed
