from __future__ import annotations

import itertools
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from corpus import rotations
from corpus.errors import MotionloomError
from deploy.contract import Contract
from deploy.observation import REFERENCE_TERMS, ROBOT_TERMS, ObservationSpec, Reference, RobotState, observe

COUNT, FRAMES = 4, (1, 4, 10)


def turns(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rotations.normalise(rng.normal(size=(*shape, 4)))


def state(seed: int = 0) -> RobotState:
    rng = np.random.default_rng(seed)
    joints = rng.normal(size=(3, COUNT, 29))
    return RobotState(joints[0], joints[1], turns(rng, COUNT), rng.normal(size=(COUNT, 3)), joints[2])


def reference(seed: int = 1, frames: int = len(FRAMES)) -> Reference:
    rng = np.random.default_rng(seed)
    place, joints = rng.normal(size=(COUNT, frames, 3)), rng.normal(size=(COUNT, frames, 29))
    qpos = np.concatenate([place, turns(rng, COUNT, frames), joints], -1)
    return Reference(qpos, rng.normal(size=(COUNT, frames, 35)))


def scipy_of(q: np.ndarray) -> Rotation:
    return Rotation.from_quat(q.reshape(-1, 4), scalar_first=True)


def turned(robot: RobotState, motion: Reference, angle: float, shift: np.ndarray) -> tuple[RobotState, Reference]:
    """Both, turned about the vertical and the motion set down elsewhere on the ground."""
    turn = rotations.about_z(np.array(angle))
    qpos, rate = motion.qpos.copy(), motion.velocity.copy()
    qpos[..., :3] = rotations.rotate(turn, qpos[..., :3]) + [*shift, 0.0]
    qpos[..., 3:7] = rotations.multiply(np.broadcast_to(turn, qpos[..., 3:7].shape), qpos[..., 3:7])
    rate[..., :3] = rotations.rotate(turn, rate[..., :3])
    root = rotations.multiply(np.broadcast_to(turn, robot.root_rotation.shape), robot.root_rotation)
    return replace(robot, root_rotation=root), Reference(qpos, rate)


def only(robot: tuple[str, ...] = (), terms: tuple[str, ...] = (), frames: tuple[int, ...] = FRAMES) -> Contract:
    return Contract(observation=ObservationSpec(robot, terms, frames))


@pytest.mark.parametrize("left_out", [None, *ROBOT_TERMS, *REFERENCE_TERMS])
@pytest.mark.parametrize("frames", [(1,), FRAMES])
def test_the_size_is_the_real_width(left_out, frames):
    robot, terms = (tuple(name for name in known if name != left_out) for known in (ROBOT_TERMS, REFERENCE_TERMS))
    contract = only(robot, terms, frames)
    seen = observe(contract, state(), reference(frames=len(frames)))
    assert seen.shape == (COUNT, contract.observation.size)
    assert seen.dtype == np.float32


def test_terms_stand_in_the_order_asked_for_and_do_not_depend_on_one_another():
    both = only(("gravity", "joint_speed"), ("height", "joints"))
    apart = [
        only(("gravity",)), only(("joint_speed",)), only((), ("height",)), only((), ("joints",)),
    ]  # fmt: skip
    parts = [observe(contract, state(), reference()) for contract in apart]
    assert (observe(both, state(), reference()) == np.concatenate(parts, 1)).all()


@given(angle=st.floats(-7, 7), x=st.floats(-50, 50), y=st.floats(-50, 50))
@settings(max_examples=30, deadline=None)
def test_heading_and_place_on_the_ground_are_not_seen(angle, x, y):
    contract = only(tuple(ROBOT_TERMS), tuple(REFERENCE_TERMS))
    before = observe(contract, state(), reference())
    after = observe(contract, *turned(state(), reference(), angle, np.array([x, y])))
    assert np.allclose(before, after, atol=1e-5)


def test_opposite_quaternions_are_seen_as_one():
    contract, robot, motion = only(tuple(ROBOT_TERMS), tuple(REFERENCE_TERMS)), state(), reference()
    flipped = motion.qpos.copy()
    flipped[..., 3:7] *= -1
    other = observe(contract, replace(robot, root_rotation=-robot.root_rotation), replace(motion, qpos=flipped))
    assert np.allclose(observe(contract, robot, motion), other, atol=1e-6)


def test_nothing_is_seen_of_what_a_robot_cannot_measure():
    """Where its root is and how fast that moves over the ground is not even handed over."""
    assert {field.name for field in fields(RobotState)} == {
        "joint_position", "joint_speed", "root_rotation", "angular_velocity", "last_action",
    }  # fmt: skip


def expected() -> dict[str, np.ndarray]:
    """Every term by another way."""
    robot, motion, default = state(), reference(), Contract().default
    root, asked = scipy_of(robot.root_rotation), scipy_of(motion.qpos[..., 3:7])
    between = Rotation.concatenate([root[i].inv() * asked[i * 3 + f] for i in range(COUNT) for f in range(3)])
    forward = asked.apply([1, 0, 0])
    ahead = np.arctan2(forward[:, 1], forward[:, 0])
    rate = motion.velocity[..., :3].reshape(-1, 3)
    along = np.stack(
        [
            rate[:, 0] * np.cos(ahead) + rate[:, 1] * np.sin(ahead),
            rate[:, 1] * np.cos(ahead) - rate[:, 0] * np.sin(ahead),
            rate[:, 2],
        ],
        1,
    )
    return {
        "joint_position": robot.joint_position - default,
        "joint_speed": robot.joint_speed,
        "angular_velocity": robot.angular_velocity,
        "gravity": root.inv().apply([0, 0, -1]),
        "last_action": robot.last_action,
        "joints": motion.qpos[..., 7:] - default,
        "joint_speeds": motion.velocity[..., 6:],
        "orientation": between.as_matrix()[:, :, :2].transpose(0, 2, 1),
        "height": motion.qpos[..., 2],
        "tilt": asked.inv().apply([0, 0, -1]),
        "velocity": along,
        "turning": motion.velocity[..., 3:6],
    }


@pytest.mark.parametrize("name", [*ROBOT_TERMS, *REFERENCE_TERMS])
def test_each_term_is_what_its_formula_says(name):
    contract = only((name,)) if name in ROBOT_TERMS else only((), (name,))
    seen = observe(contract, state(), reference())
    assert np.allclose(seen, expected()[name].reshape(COUNT, -1), atol=1e-5)


def test_a_robot_upright_feels_gravity_downwards():
    upright = replace(state(), root_rotation=rotations.about_z(np.linspace(-3, 3, COUNT)))
    assert np.allclose(observe(only(("gravity",)), upright, reference()), [0, 0, -1], atol=1e-7)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"robot": ("root_position",)}, "joint_position"),
        ({"reference": ("future",)}, "orientation"),
        ({"frames": ()}, "rise"),
        ({"frames": (4, 1)}, "rise"),
        ({"frames": (1, 1)}, "rise"),
        ({"frames": (-1, 1)}, "0 or later"),
    ],
)
def test_what_is_unknown_is_refused_by_name(wrong, told):
    with pytest.raises(MotionloomError, match=told):
        ObservationSpec(**wrong)


def test_terms_order_and_frames_are_part_of_the_hash():
    specs = [
        ObservationSpec(),
        ObservationSpec(robot=ObservationSpec().robot[:-1]),
        ObservationSpec(robot=ObservationSpec().robot[::-1]),
        ObservationSpec(reference=("joints",)),
        ObservationSpec(frames=(1,)),
    ]
    assert all(a.hash != b.hash for a, b in itertools.combinations(specs, 2))
    assert ObservationSpec.from_json(ObservationSpec().to_json()).hash == ObservationSpec().hash


def test_an_observation_of_another_version_is_refused():
    with pytest.raises(MotionloomError, match="version 0"):
        ObservationSpec.from_json({**ObservationSpec().to_json(), "version": 0})
