"""A simulated robot is taken from its rope and stands by stiff joints alone."""

from __future__ import annotations

import numpy as np
import pytest
from robot_in_process import PERIOD_S, SimulatedLink, still_state

from corpus import rotations
from corpus.g1 import G1
from deploy.contract import STANDING
from deploy.stand import ANKLES, PITCH, ROLL, StandOptions, stand_command, stand_gains

pytest.importorskip("mujoco")
HANGING = np.zeros(29)


def leaning(x: float = 0.0, y: float = 0.0):
    return still_state(root_rotation=rotations.from_rotation_vector(np.array([x, y, 0.0])))


def test_the_ramp_begins_where_the_joints_are_and_ends_in_the_posture():
    first = stand_command(still_state(), HANGING, STANDING, 0.0)
    last = stand_command(still_state(), HANGING, STANDING, 2.0)
    assert first.joint_position == pytest.approx(HANGING)
    reached = STANDING.copy()
    reached[PITCH] += StandOptions().trim
    assert last.joint_position == pytest.approx(reached)
    assert last.kp == pytest.approx(stand_gains(StandOptions())[0])
    assert (stand_command(still_state(), HANGING, STANDING, 99.0).joint_position == last.joint_position).all()


def test_the_ramp_is_continuous_and_so_is_its_speed():
    times = np.arange(-0.1, 2.2, 0.001)
    commands = [stand_command(still_state(), HANGING, STANDING, t) for t in times]
    targets, gains = np.stack([c.joint_position for c in commands]), np.stack([c.kp for c in commands])
    assert np.abs(np.diff(targets, axis=0)).max() < 0.001
    assert np.abs(np.diff(targets, 2, axis=0)).max() < 1e-5
    assert np.abs(np.diff(gains, axis=0)).max() < 0.2
    assert (np.diff(gains, axis=0) >= 0).all()


@pytest.mark.parametrize(("lean", "joints"), [((0.1, 0.0), ROLL), ((0.0, 0.1), PITCH), ((0.0, -0.1), PITCH)])
def test_ankles_answer_to_the_lean_about_their_own_axis(lean, joints):
    upright = stand_command(still_state(), STANDING, STANDING, 5.0).joint_position
    answer = stand_command(leaning(*lean), STANDING, STANDING, 5.0).joint_position - upright
    assert answer[joints] == pytest.approx(2.0 * sum(lean), rel=0.01)
    assert set(np.flatnonzero(np.abs(answer) > 1e-9)) <= {*ANKLES}


def test_a_robot_that_hangs_gets_no_answer_and_one_that_stands_all_of_it():
    hanging = stand_command(leaning(y=0.1), STANDING, STANDING, 0.0)
    bearing = stand_command(leaning(y=0.1), STANDING, STANDING, 0.0, stiff=True)
    assert hanging.joint_position == pytest.approx(STANDING)
    assert bearing.joint_position[PITCH] - STANDING[PITCH] == pytest.approx(0.2, rel=0.01)
    assert (hanging.kp < bearing.kp).all()


def test_targets_stay_within_the_joints_ranges():
    target = stand_command(leaning(1.5, 1.5), G1.upper + 1, G1.upper + 1, 1.0, stiff=True).joint_position
    assert (target <= G1.upper).all()


def test_a_robot_is_taken_from_its_rope_and_stands_though_it_is_pushed():
    """Twenty seconds; a push is 0.2 m/s more of the whole robot's velocity."""
    link = SimulatedLink()
    start, height = link.state.joint_position.copy(), []
    for period in range(round(20 / PERIOD_S)):
        now = period * PERIOD_S
        link.write(stand_command(link.state, start, STANDING, now))
        link.pass_time(now)
        if now > 8 and period % 150 == 0:
            direction = period / 150 * 2.1
            link.simulator.data.qvel[:2] += 0.2 * np.array([np.cos(direction), np.sin(direction)])
        height.append(link.simulator.qpos[2])
    assert link.simulator.rope is not None
    assert link.simulator.rope.gone
    tilt = rotations.rotate(link.simulator.qpos[3:7], np.array([0, 0, 1.0]))[2]
    assert tilt > np.cos(0.1)
    assert max(height[-250:]) - min(height[-250:]) < 0.03
    assert np.abs(link.simulator.qvel).max() < 0.5
