"""What is drawn stays in its range, is uniform there, and is a function of seed, environment and step alone."""

from __future__ import annotations

from dataclasses import asdict, fields, replace

import mujoco
import numpy as np
import pytest
from scipy import stats

from corpus import rotations
from corpus.errors import MotionloomError
from deploy.contract import GAINS, STANDING
from deploy.observation import RobotState
from deploy.physics import build_model
from trainer.random_numbers import PURPOSES, uniform
from trainer.randomise import (
    NONE,
    TRAINING,
    Randomisation,
    delayed,
    joint_offsets,
    measured,
    pushes,
    varied_fields,
    varied_start,
    vary_model,
)

ENVS = np.arange(200)


@pytest.fixture(scope="module")
def model():
    return build_model(GAINS)


@pytest.fixture(scope="module")
def rows(model):
    return varied_fields(model, TRAINING, 3, ENVS)


def is_uniform(numbers: np.ndarray, low: float, high: float) -> bool:
    """Kolmogorov and Smirnov, at a level that no fixed seed should miss by chance."""
    numbers = np.ravel(numbers)
    inside = (numbers >= low - 1e-12).all() and (numbers <= high + 1e-12).all()
    return bool(inside and stats.kstest(numbers, stats.uniform(low, high - low).cdf).pvalue > 1e-3)


def robots(count: int) -> RobotState:
    upright = np.tile([1.0, 0.0, 0.0, 0.0], (count, 1))
    return RobotState(*np.zeros((2, count, 29)), upright, np.zeros((count, 3)), np.zeros((count, 29)))


def starts(count: int) -> tuple[np.ndarray, np.ndarray]:
    qpos = np.tile([0.0, 0.0, 0.8, 1.0, 0.0, 0.0, 0.0, *STANDING], (count, 1))
    return qpos, np.zeros((count, 35))


# --- random numbers


@pytest.mark.parametrize("purpose", PURPOSES)
def test_numbers_are_uniform_over_environments_and_over_steps(purpose):
    assert is_uniform(uniform(0, purpose, 5, np.arange(2000), 7), 0, 1)
    assert is_uniform(np.stack([uniform(0, purpose, step, [3, 9], 7) for step in range(300)]), 0, 1)


def test_an_environments_numbers_do_not_depend_on_the_others():
    together = uniform(1, "noise", 17, np.arange(50), 10)
    for envs in ([7], [49, 3, 3, 20], list(range(10, 30))):
        assert (uniform(1, "noise", 17, envs, 10) == together[envs]).all()
    assert uniform(1, "noise", 17, [], 10).shape == (0, 10)


def test_seeds_purposes_steps_and_environments_share_no_number():
    drawn = [uniform(s, p, e, ENVS, 5) for s in (0, 1) for p in PURPOSES for e in (0, 1, 2**40)]
    assert len(np.unique(drawn)) == np.size(drawn)


def test_an_unknown_purpose_is_named():
    with pytest.raises(MotionloomError, match=r"wind.*model"):
        uniform(0, "wind", 0, [0], 1)


# --- the robot


def test_no_randomisation_gives_the_same_model(model):
    assert varied_fields(model, NONE, 0, range(3)) == {}
    same = vary_model(model, NONE, 0, 5)
    assert same is not model
    for name in dir(model):
        if isinstance(value := getattr(model, name), np.ndarray) and not name.startswith("_"):
            np.testing.assert_array_equal(getattr(same, name), value, err_msg=name)


def test_each_models_field_is_uniform_in_its_range(model, rows):
    torso = model.body("torso_link").id
    assert is_uniform(rows["geom_friction"][:, 0, 0], *TRAINING.friction)
    assert is_uniform(rows["body_mass"][:, torso] - model.body_mass[torso], *TRAINING.torso_mass)
    for axis, most in enumerate(TRAINING.torso_centre):
        assert is_uniform((rows["body_ipos"] - model.body_ipos)[:, torso, axis], -most, most)
    assert is_uniform(rows["actuator_gainprm"][..., 0] / model.actuator_gainprm[:, 0], *TRAINING.kp)
    assert is_uniform(rows["actuator_biasprm"][..., 2] / model.actuator_biasprm[:, 2], *TRAINING.kd)
    assert is_uniform(rows["actuator_forcerange"][..., 1] / model.actuator_forcerange[:, 1], *TRAINING.effort)
    assert is_uniform(rows["dof_armature"][:, 6:] / model.dof_armature[6:], *TRAINING.armature)
    assert is_uniform(joint_offsets(TRAINING, 3, ENVS), -TRAINING.joint_offset, TRAINING.joint_offset)


def test_what_is_not_drawn_stays(model, rows):
    others = np.arange(model.nbody) != model.body("torso_link").id
    for name in ("body_mass", "body_inertia", "body_ipos"):
        assert (rows[name][:, others] == getattr(model, name)[others]).all()
    assert (rows["dof_armature"][:, :6] == 0).all()
    assert (rows["geom_friction"][..., 1:] == model.geom_friction[:, 1:]).all()


def test_motors_stay_springs_about_their_target(rows):
    """Force = kp · (target − angle) − kd · speed, within ± effort."""
    assert (rows["actuator_biasprm"][..., 1] == -rows["actuator_gainprm"][..., 0]).all()
    assert (rows["actuator_forcerange"][..., 0] == -rows["actuator_forcerange"][..., 1]).all()


def test_the_torsos_inertia_grows_with_its_mass(model, rows):
    torso = model.body("torso_link").id
    growth = rows["body_mass"][:, torso] / model.body_mass[torso]
    assert np.allclose(rows["body_inertia"][:, torso], growth[:, None] * model.body_inertia[torso], rtol=1e-12)
    a, b, c = np.sort(rows["body_inertia"][:, torso], 1).T
    assert (a > 0).all()
    assert (a + b >= c).all()  # else no body has it


def test_derived_constants_are_those_that_the_compiler_makes(model, g1):
    """A model saved and compiled anew derives the same from the masses and armatures."""
    varied = vary_model(model, TRAINING, 3, 11)
    spec = mujoco.MjSpec.from_file(str(g1.mjcf))
    spec.body("torso_link").mass = varied.body("torso_link").mass[0]
    spec.body("torso_link").inertia = varied.body("torso_link").inertia
    spec.body("torso_link").ipos = varied.body("torso_link").ipos
    for joint in spec.joints[1:]:
        joint.armature = varied.dof_armature[varied.joint(joint.name).dofadr[0]]
    oracle = spec.compile()
    assert np.allclose(oracle.body_subtreemass, varied.body_subtreemass, rtol=1e-9)
    assert np.allclose(oracle.body_invweight0, varied.body_invweight0, rtol=1e-6)
    assert np.allclose(oracle.dof_invweight0, varied.dof_invweight0, rtol=1e-6)


def test_fields_are_those_of_the_models(model, rows):
    for env in (0, 7, 199):
        varied = vary_model(model, TRAINING, 3, env)
        for name, values in rows.items():
            assert (values[env] == getattr(varied, name)).all(), name


def test_another_seed_gives_another_robot_and_the_model_stays(model, rows):
    before = model.body_mass.copy()
    other = varied_fields(model, TRAINING, 4, [0])
    assert (other["body_mass"][0] != rows["body_mass"][0]).any()
    assert (model.body_mass == before).all()


# --- pushes


@pytest.fixture(scope="module")
def kicks():
    """60 s of 50 environments, "T R 6"."""
    return np.stack([pushes(TRAINING, 8, step, np.arange(50)) for step in range(3000)])


def test_pushes_come_in_their_interval(kicks):
    due = kicks.any(-1)
    gaps = np.concatenate([np.diff(np.flatnonzero(of)) for of in due.T]) / 50
    assert gaps.min() >= 1.0
    assert gaps.max() <= 3.0
    assert gaps.min() < 1.2
    assert gaps.max() > 2.8
    assert gaps.mean() == pytest.approx(2.0, abs=0.02)
    assert is_uniform(np.flatnonzero(due.any(1)) / 3000, 0, 1)  # environments are not pushed in step


def test_pushes_are_uniform_in_their_ranges(kicks):
    pushed = kicks[kicks.any(-1)]
    for column, most in enumerate((*TRAINING.push_linear, *TRAINING.push_turning)):
        assert is_uniform(pushed[:, column], -most, most)


def test_pushes_do_not_depend_on_the_batch_or_on_earlier_steps(kicks):
    for step in (0, 77, 2999):
        assert (pushes(TRAINING, 8, step, np.array([41, 6])) == kicks[step, [41, 6]]).all()
    assert not pushes(NONE, 8, 0, np.arange(50)).any()
    often = replace(TRAINING, push_interval_s=(0.0, 0.08))
    assert sum(pushes(often, 8, step, ENVS).any(1).mean() for step in range(100)) == pytest.approx(50, abs=3)


# --- starts and sensors


def test_starts_are_uniform_about_the_reference():
    qpos, qvel = varied_start(TRAINING, 5, 12, ENVS, *starts(200))
    turned = rotations.to_rotation_vector(qpos[:, 3:7])
    for axis in range(3):
        assert is_uniform(qpos[:, axis] - starts(1)[0][0, axis], *_both(TRAINING.start_position[axis]))
        assert is_uniform(turned[:, axis], *_both(TRAINING.start_rotation[axis]))
        assert is_uniform(qvel[:, axis], *_both(TRAINING.start_linear[axis]))
        assert is_uniform(qvel[:, 3 + axis], *_both(TRAINING.start_turning[axis]))
    assert is_uniform(qpos[:, 7:] - STANDING, *_both(TRAINING.start_joints))
    assert (qvel[:, 6:] == 0).all()


def _both(most: float) -> tuple[float, float]:
    return -most, most


def test_starting_joints_keep_within_their_limits_or_where_the_reference_is(g1):
    qpos, qvel = starts(200)
    qpos[:, 7:] = g1.upper
    qpos[:, 8] += 0.05  # a reference beyond the limit
    joints = varied_start(TRAINING, 5, 12, ENVS, qpos, qvel)[0][:, 7:]
    assert (joints <= np.maximum(g1.upper, qpos[:, 7:])).all()
    assert (joints >= g1.upper - TRAINING.start_joints).all()


def test_sensors_err_uniformly_about_an_offset_that_stays():
    offset = joint_offsets(TRAINING, 2, ENVS)
    seen = [measured(robots(200), TRAINING, 2, step, ENVS) for step in range(3)]
    for state in seen:
        assert is_uniform(state.joint_position - offset, *_both(TRAINING.noise_joint_position))
        assert is_uniform(state.joint_speed, *_both(TRAINING.noise_joint_speed))
        assert is_uniform(state.angular_velocity, *_both(TRAINING.noise_turning))
        assert is_uniform(rotations.to_rotation_vector(state.root_rotation), *_both(TRAINING.noise_rotation))
        assert (state.last_action == 0).all()
    assert (seen[0].joint_speed != seen[1].joint_speed).all()


def test_without_randomisation_nothing_is_changed():
    assert all((a == b).all() for a, b in zip(varied_start(NONE, 0, 3, ENVS, *starts(200)), starts(200), strict=True))
    true, seen = robots(200), measured(robots(200), NONE, 0, 3, ENVS)
    assert all((getattr(true, f.name) == getattr(seen, f.name)).all() for f in fields(RobotState))
    assert not delayed(NONE, 0, ENVS).any()


def test_starts_sensors_and_delays_do_not_depend_on_the_batch():
    some = np.array([150, 3])
    whole, part = (varied_start(TRAINING, 5, 12, envs, *starts(len(envs))) for envs in (ENVS, some))
    assert all((a[some] == b).all() for a, b in zip(whole, part, strict=True))
    all_seen, some_seen = (measured(robots(len(envs)), TRAINING, 5, 12, envs) for envs in (ENVS, some))
    for name, values in asdict(all_seen).items():
        assert (values[some] == getattr(some_seen, name)).all()
    half = replace(NONE, delayed=0.5)
    assert (delayed(half, 5, ENVS)[some] == delayed(half, 5, some)).all()
    assert delayed(half, 5, np.arange(4000)).mean() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"kp": (1.1, 0.9)}, "kp"),
        ({"friction": (-0.1, 1.0)}, "friction"),
        ({"armature": (0.5, np.inf)}, "armature"),
        ({"delayed": 1.5}, "delayed"),
        ({"push_interval_s": (3.0, 1.0)}, "push_interval_s"),
    ],
)
def test_a_range_that_makes_no_sense_is_refused_by_name(wrong, named):
    with pytest.raises(MotionloomError, match=named):
        Randomisation(**wrong)
