"""The robot's side shows a policy what training's referee shows it, and its actions do the same."""

# MuJoCo's package tells a type checker nothing of its functions.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
import pytest
from robot_in_process import Loop, MadeUpPolicy, SimulatedLink

from corpus import rotations
from corpus.motion import RobotMotion, velocity
from deploy.contract import Contract
from deploy.controller import Controller, frames_of
from deploy.modes import Modes
from deploy.observation import ObservationSpec
from deploy.reference import ClipSource
from deploy.sim import SimOptions
from deploy.stance import swaying
from trainer.evaluate import Followed, Trial, rollout

PERIODS = 40
MOTION = swaying(4.0, seed=1)
WEIGHTS = 0.05 * np.random.default_rng(0).normal(size=(ObservationSpec().size, 29))


def answer(seen: np.ndarray) -> np.ndarray:
    """Some function of all that is seen, the last action too."""
    return (0.3 * np.tanh(seen @ WEIGHTS)).astype(np.float32)


class Judged:
    """The same policy, as the referee asks it."""

    name, contract = "made up", Contract()

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []

    def act(self, view: Any) -> np.ndarray:
        self.seen.append(view.observation[0].copy())
        return answer(view.observation)

    def forget(self, envs: Any) -> None:
        pass


def as_the_referee_has_it() -> tuple[np.ndarray, np.ndarray]:
    """Observations and joints over the rollout."""
    policy, speed = Judged(), velocity(MOTION)
    followed = Followed(
        MOTION.qpos[None].astype(np.float32), speed[None].astype(np.float32), np.array([MOTION.frame_count - 1])
    )
    qpos, _ = rollout(policy, followed, np.zeros(1, int), PERIODS, Trial())
    return np.array(policy.seen), qpos[:-1, 0, 7:]


def as_the_robot_has_it(heading: float, motion: RobotMotion) -> tuple[np.ndarray, np.ndarray]:
    """The same over the controller and a simulated robot whose sensor was switched on facing another way."""
    link, policy = SimulatedLink(SimOptions(rope="never")), MadeUpPolicy()
    policy.answer = answer
    data = link.simulator.data
    data.qpos[:] = motion.qpos[0].astype(np.float32)
    data.qpos[3:7] = rotations.multiply(rotations.about_z(np.array(heading)), data.qpos[3:7])
    data.qvel[:] = velocity(motion)[0].astype(np.float32)
    mujoco.mj_forward(link.simulator.model, data)
    posture = np.array(motion.qpos[0, 7:])
    controller = Controller(policy, ClipSource(motion, frames_of(policy.contract)), link, posture=posture)
    controller.modes = Modes("stand", -100.0)
    loop, joints = Loop(controller, link), []
    for _ in range(PERIODS):
        assert loop.step().modes.mode == "track"
        joints.append(link.simulator.qpos[7:])
    return np.array(policy.seen), np.array(joints)


# MuJoCo's friction is a pyramid along the world's axes: a robot that faces another way slips a little otherwise.
@pytest.mark.parametrize(("heading", "periods", "near"), [(0.0, PERIODS, 1e-5), (2.5, 10, 1e-3)])
def test_a_policy_sees_and_does_on_the_robot_what_it_sees_and_does_before_the_referee(heading, periods, near):
    seen, joints = as_the_referee_has_it()
    robot_seen, robot_joints = as_the_robot_has_it(heading, MOTION)
    assert np.ptp(joints, 0).max() > 0.05  # it moves
    np.testing.assert_allclose(robot_seen[0], seen[0], atol=1e-6)
    np.testing.assert_allclose(robot_seen[:periods], seen[:periods], atol=near)
    np.testing.assert_allclose(robot_joints[:periods], joints[:periods], atol=near)


@pytest.mark.parametrize("late", [-1, 1])
def test_a_frame_too_early_or_too_late_would_be_noticed(late):
    seen, _ = as_the_referee_has_it()
    qpos = np.roll(MOTION.qpos, late, 0)
    robot_seen, _ = as_the_robot_has_it(0.0, RobotMotion(qpos, MOTION.fps))
    assert np.abs(robot_seen - seen).max() > 1e-3
