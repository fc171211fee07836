from __future__ import annotations

import dataclasses
import time

import mujoco
import numpy as np
import pytest

from corpus import rotations
from corpus.errors import MotionloomError
from deploy.contract import GAINS, STANDING
from deploy.messages import JOINTS, LowCmd, damping
from deploy.physics import Physics, build_model
from deploy.sim import SensorNoise, SimOptions, Simulator
from deploy.sim_run import BEHIND, Truth, run

MACHINE = SimOptions().mode_machine


def hold(targets=STANDING, *, stiffness: float = 1.0) -> LowCmd:
    return LowCmd(np.array(targets, float), GAINS.kp * stiffness, GAINS.kd * stiffness, MACHINE)


def simulator(**options) -> Simulator:
    return Simulator(SimOptions(**options))


def uprightness(sim: Simulator) -> float:
    """The world's z in the pelvis's: 1 upright, 0 lying."""
    return rotations.to_matrix(sim.qpos[3:7])[2, 2]


@pytest.mark.parametrize("timestep_s", [0.005, 0.002])
def test_motors_move_the_robot_as_mujocos_own_pd_does(timestep_s):
    physics = Physics(timestep_s=timestep_s, substeps=round(0.02 / timestep_s))
    sim = simulator(physics=physics, rope="never")
    model = build_model(GAINS, physics)
    data = mujoco.MjData(model)
    data.qpos[:] = sim.qpos
    rng = np.random.default_rng(0)
    for _ in range(10):
        targets = STANDING + rng.normal(0, 0.4, JOINTS)  # torques go to their limits now and then
        data.ctrl[:] = targets
        for _ in range(physics.substeps):
            mujoco.mj_step(model, data)
        sim.advance(hold(targets), steps=physics.substeps)
        assert np.allclose(sim.qpos, data.qpos, atol=1e-9)
        assert np.allclose(sim.qvel, data.qvel, atol=1e-7)


def test_torque_is_the_law_of_the_command_up_to_what_the_motor_can():
    sim = simulator(rope="always")
    sim.advance(steps=20)
    rng = np.random.default_rng(1)
    q, dq, tau = rng.normal(0, 1, (3, JOINTS))
    command = LowCmd(q, rng.uniform(0, 200, JOINTS), rng.uniform(0, 9, JOINTS), MACHINE, dq, 20 * tau)
    law = command.kp * (q - sim.qpos[7:]) + command.kd * (dq - sim.qvel[6:]) + command.torque
    assert (np.abs(law) > GAINS.effort).any()
    assert sim.advance(command).torque == pytest.approx(np.clip(law, -GAINS.effort, GAINS.effort))


def test_a_motor_that_is_off_does_nothing():
    sim = simulator(rope="always")
    off = dataclasses.replace(hold(STANDING + 1), torque=np.ones(JOINTS), enabled=np.arange(JOINTS) != 4)
    torque = sim.advance(off).torque
    assert torque[4] == 0
    assert (np.delete(torque, 4) != 0).all()


def test_a_robot_that_hangs_still_feels_gravity():
    sim = simulator(rope="always")
    sim.advance(hold(), steps=600)
    states = [sim.advance() for _ in range(200)]
    up = [rotations.rotate(rotations.conjugate(state.root_rotation), np.array([0, 0, 9.81])) for state in states]
    assert np.mean([state.acceleration for state in states], 0) == pytest.approx(np.mean(up, 0), abs=0.1)
    assert uprightness(sim) > 0.99


def test_an_accelerometer_feels_gravity_turned_into_the_pelvis_and_what_moves_it():
    """Thrown with a spin, nothing touches the robot: what is felt at the pelvis is what takes it off a parabola."""
    sim = simulator(rope="never", heading=1.0)
    sim.data.qpos[2] += 5
    sim.data.qvel[:3] = [1, 2, 3]
    sim.data.qvel[3:6] = [0, 0, 0]
    off = dataclasses.replace(hold(), enabled=np.zeros(JOINTS, bool))
    assert sim.advance(off, steps=10).acceleration == pytest.approx([0, 0, 0], abs=0.2)
    assert sim.qvel[2] == pytest.approx(3 - 9.81 * 0.05, abs=0.02)


def test_acceleration_agrees_with_mujocos_own_sensor():
    """Of a body that all of MuJoCo computes: an accelerometer at the pelvis's origin, in the pelvis's frame."""
    sim = simulator(rope="never", physics=Physics(timestep_s=0.0005, substeps=40))
    sim.data.qpos[2] += 2
    sim.data.qvel[3:6] = [1, -2, 0.5]
    swing = hold(STANDING + np.random.default_rng(0).normal(0, 0.3, JOINTS))
    felt = sim.advance(swing, steps=60).acceleration
    mujoco.mj_forward(sim.model, sim.data)
    mujoco.mj_rnePostConstraint(sim.model, sim.data)
    body = np.zeros(6)
    mujoco.mj_objectAcceleration(sim.model, sim.data, mujoco.mjtObj.mjOBJ_XBODY, sim.model.body("pelvis").id, body, 1)
    assert np.linalg.norm(felt) > 1
    assert felt == pytest.approx(body[3:], abs=0.1 * np.linalg.norm(felt))


def test_the_gyroscope_turns_the_quaternion():
    """Orientation after a step is orientation before it, turned by the gyroscope's reading about the pelvis's own axes."""
    sim = simulator(rope="never", heading=0.7)
    sim.data.qpos[2] += 2
    sim.data.qvel[3:6] = [2, -1, 3]
    before = sim.measure()
    after = sim.advance(hold())
    step = rotations.from_rotation_vector(after.angular_velocity * 0.005)
    assert rotations.multiply(before.root_rotation, step) == pytest.approx(after.root_rotation, abs=1e-6)


def test_a_heading_turns_the_robot_and_its_sensors():
    assert rotations.heading(simulator(heading=2.0).measure().root_rotation) == pytest.approx(2.0)


def test_ticks_are_milliseconds():
    sim = simulator()
    assert [sim.advance(steps=4).tick for _ in range(3)] == [20, 40, 60]


def test_commands_for_another_machine_are_ignored_and_counted():
    sim = simulator(rope="always")
    assert (sim.advance(dataclasses.replace(hold(STANDING + 1), mode_machine=MACHINE + 1)).torque == 0).all()
    assert dict(sim.refused) == {"mode_machine": 1}


def test_commands_with_what_is_no_number_are_ignored_and_counted():
    sim = simulator(rope="always")
    broken = hold()
    broken.torque[3] = np.nan
    assert (sim.advance(broken).torque == 0).all()
    assert dict(sim.refused) == {"not_finite": 1}


def test_a_command_stays_in_force():
    ones, others = simulator(rope="always"), simulator(rope="always")
    for _ in range(20):
        one = ones.advance(hold())
    others.advance(hold())
    other = others.advance(steps=19)
    assert (one.joint_position == other.joint_position).all()


def test_a_limp_robot_hangs_upright_from_its_rope():
    sim = simulator()
    start = sim.qpos
    sim.advance(steps=600)
    assert np.linalg.norm(sim.qpos[:3] - start[:3]) < 0.1
    assert uprightness(sim) > 0.95
    assert sim.rope is not None and not sim.rope.gone


def test_a_robot_whose_legs_hold_is_let_down_and_then_held_by_nothing():
    sim = simulator(release_s=0.5)
    sim.advance(damping(STANDING, MACHINE), steps=200)
    hanging = sim.qpos[2]
    assert sim.rope is not None
    sim.advance(hold(), steps=99)
    assert not sim.rope.gone
    heights = []
    while not sim.rope.gone:
        sim.advance()
        heights.append(sim.qpos[2])
        assert sim.steps < 2000
    assert np.diff(heights).min() > -0.005  # a step: slower than 1 m/s
    assert sim.qpos[2] < hanging
    sim.advance()
    assert (sim.data.qfrc_applied == 0).all()


def test_a_rope_for_ever_is_for_ever():
    sim = simulator(rope="always", release_s=0.1)
    sim.advance(hold(), steps=400)
    assert sim.rope is not None and not sim.rope.gone
    assert sim.qpos[2] > 0.7


def test_without_a_rope_time_waits_for_a_command_and_the_robot_stands_on_the_floor():
    sim = simulator(rope="never")
    start = sim.qpos
    assert (sim.advance(steps=100).acceleration == [0, 0, 9.81]).all()
    assert (sim.qpos == start).all()
    sim.advance(hold(), steps=1)
    assert (sim.qpos != start).any()
    assert sim.data.ncon >= 4


def test_a_damped_robot_sinks_softly_and_a_limp_one_falls():
    speeds = {}
    for name, kd in (("damped", 8.0), ("limp", 0.0)):
        sim = simulator(rope="never")
        command = dataclasses.replace(damping(STANDING, MACHINE), kd=np.full(JOINTS, kd))
        fastest = 0.0
        for _ in range(400):
            sim.advance(command)
            fastest = max(fastest, -sim.qvel[2])
        speeds[name] = fastest
        assert sim.qpos[2] < 0.4
    assert speeds["damped"] < 0.7 * speeds["limp"]


def test_noise_is_as_large_as_told_and_repeats_with_the_seed():
    noise = SensorNoise(joint_position=0.1)
    clean, one, two, other = (
        simulator(noise=which, seed=seed).advance() for which, seed in ((None, 0), (noise, 0), (noise, 0), (noise, 1))
    )
    error = one.joint_position - clean.joint_position
    assert 0.05 < np.abs(error).max() <= 0.1
    assert (one.joint_position == two.joint_position).all()
    assert (one.joint_position != other.joint_position).any()
    assert np.linalg.norm(one.root_rotation) == pytest.approx(1)


def test_an_unknown_rope_is_refused():
    with pytest.raises(MotionloomError, match="auto, never, always"):
        simulator(rope="perhaps")


class Wire:
    """A robot's end that gives one command after some states, and keeps what it is told."""

    def __init__(self, command: LowCmd, after: int):
        self.states, self.refused, self._command, self._after = [], {"crc": 2}, command, after

    def read_command(self):
        return (self._command, 0.0) if len(self.states) >= self._after else None

    def write_state(self, state):
        self.states.append(state)


def test_a_run_publishes_every_step_and_takes_each_command_once(tmp_path):
    sim, truth = simulator(rope="always"), Truth()
    wire = Wire(dataclasses.replace(hold(), mode_machine=MACHINE + 1), after=10)
    summary = run(sim, wire, lambda: False, seconds=0.2, realtime_factor=10, truth=truth)
    assert [state.tick for state in wire.states] == list(range(5, 201, 5))
    assert (summary.steps, summary.commands) == (40, 1)
    assert summary.refused == {"crc": 2, "mode_machine": 1}
    truth.save(tmp_path / "truth.npz")
    with np.load(tmp_path / "truth.npz", allow_pickle=False) as saved:
        assert saved["time_s"] == pytest.approx(0.02 * np.arange(1, 11))
        assert (np.diff(saved["clock_s"]) > 0).all()
        assert saved["qpos"].shape == (10, 36)
        assert (saved["qpos"][-1] == sim.qpos).all()
        assert (saved["qvel"][-1] == sim.qvel).all()


def test_a_run_ends_when_told(tmp_path):
    wire, truth = Wire(hold(), after=0), Truth()
    summary = run(simulator(), wire, lambda: len(wire.states) >= 3, realtime_factor=10, truth=truth)
    assert summary.steps == 3
    truth.save(tmp_path / "none.npz")
    with np.load(tmp_path / "none.npz", allow_pickle=False) as saved:
        assert saved["qpos"].shape == (0, 36)


def test_a_world_that_cannot_keep_up_falls_behind_and_says_so():
    class Slow(Wire):
        def write_state(self, state):
            super().write_state(state)
            if len(self.states) == 3:
                time.sleep(2 * BEHIND)

    summary = run(simulator(), Slow(hold(), after=0), lambda: False, seconds=0.05)
    assert summary.steps == 10
    assert summary.late >= 1
    assert BEHIND <= summary.lost_s <= summary.worst_lag_s * summary.late
