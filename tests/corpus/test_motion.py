"""What a motion refuses to be made of, and velocities against MuJoCo's convention."""

from __future__ import annotations

from dataclasses import replace

import mujoco
import numpy as np
import pytest

from corpus import rotations
from corpus.errors import Rejected
from corpus.motion import HumanMotion, RobotMotion, differentiate, velocity
from corpus.skeleton import Skeleton, forward_kinematics

BONES = Skeleton("generic", ("hips", "knee", "foot"), (-1, 0, 1), np.array([[0, 0, 0], [0, 0, -0.4], [0, 0, -0.4]]))


def robot(frame_count: int = 20, fps: float = 50.0) -> RobotMotion:
    qpos = np.zeros((frame_count, 36))
    qpos[:, 3] = 1.0
    return RobotMotion(qpos, fps)


@pytest.mark.parametrize("fps", [0.0, -30.0, float("nan"), float("inf"), 1e9])
def test_an_absurd_frame_rate_is_refused(fps):
    with pytest.raises(Rejected, match="bad_frame_rate"):
        robot(fps=fps)


@pytest.mark.parametrize("frame_count", [0, 1])
def test_fewer_than_two_frames_are_refused(frame_count):
    with pytest.raises(Rejected, match="too_short"):
        robot(frame_count)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused_and_their_frames_counted(value):
    qpos = robot().qpos
    qpos[[3, 7], 12] = value
    with pytest.raises(Rejected) as caught:
        RobotMotion(qpos, 50.0)
    assert (caught.value.reason, caught.value.numbers) == ("not_finite", {"bad_frames": 2})


def test_wrong_shapes_are_refused():
    with pytest.raises(Rejected, match="wrong_shape"):
        RobotMotion(np.zeros((20, 7)), 50.0)
    with pytest.raises(Rejected, match="wrong_shape"):
        HumanMotion(BONES, np.zeros((20, 2, 3)), np.zeros((20, 3, 4)), 50.0)


def test_a_slice_shares_its_arrays_contacts_too():
    motion = replace(robot(), contact=np.arange(80, dtype=np.uint8).reshape(20, 4))
    part = motion.slice(5, 9)
    assert part.frame_count == 4 and np.shares_memory(part.qpos, motion.qpos)
    assert part.contact is not None and part.contact[0, 0] == 20


def test_differences_of_a_parabola_are_exact_inside_and_one_sided_at_the_ends():
    t = np.arange(10) / 50
    got = differentiate(t**2, 50.0)
    assert np.allclose(got[1:-1], 2 * t[1:-1]) and got[0] == pytest.approx(1 / 50) and got[-1] == pytest.approx(17 / 50)
    assert (differentiate(np.ones((1, 3)), 50.0) == 0).all()


def test_velocity_carries_one_frame_to_the_next_by_mujocos_own_integrator(g1):
    """Steady linear, angular (in the root's frame) and joint speeds."""
    rng = np.random.default_rng(0)
    model = mujoco.MjModel.from_xml_path(str(g1.mjcf))
    speed, pose = rng.normal(size=35), np.zeros(36)
    pose[3:7] = rotations.normalise(rng.normal(size=4))
    path = [pose.copy()]
    for _ in range(10):
        mujoco.mj_integratePos(model, pose, speed, 1 / 50)
        path.append(pose.copy())
    assert np.allclose(velocity(RobotMotion(np.array(path), 50.0)), speed, atol=1e-9)


def test_kinematics_of_a_bent_leg():
    knee = rotations.from_rotation_vector(np.array([[0, np.pi / 2, 0]]))
    rest = np.array([[1.0, 0, 0, 0]])
    position, rotation = forward_kinematics(BONES, np.array([[0, 0, 1.0]]), np.stack([rest, knee, rest], 1))
    assert np.allclose(position[0], [[0, 0, 1], [0, 0, 0.6], [-0.4, 0, 0.6]])
    assert np.allclose(rotation[0, 2], knee[0])


@pytest.mark.parametrize(
    ("names", "parents", "reason"),
    [
        (("a", "a"), (-1, 0), "joint_named_twice"),
        (("a", "b"), (-1, 1), "bad_hierarchy"),
        (("a", "b"), (1, 0), "bad_hierarchy"),
    ],
)
def test_broken_skeletons_are_refused(names, parents, reason):
    with pytest.raises(Rejected, match=reason):
        Skeleton("generic", names, parents, np.zeros((2, 3)))
