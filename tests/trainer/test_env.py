from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from swinging import swinging
from wandering import wandering

from corpus.errors import MotionloomError
from corpus.motion import RobotMotion
from corpus.posture import postures
from deploy.contract import GAINS, STANDING, Contract
from deploy.observation import ObservationSpec
from deploy.physics import build_model
from trainer.backend import CpuBackend
from trainer.env import EnvOptions, TrackingEnv
from trainer.randomise import NONE, TRAINING, Randomisation, joint_offsets, pushes, vary_model
from trainer.references import ClipReferences
from trainer.rewards import RewardOptions

COUNT, LENGTH, SHORTEST = 6, 60, 25


@pytest.fixture(scope="module")
def model():
    return build_model(GAINS)


@pytest.fixture(scope="module")
def squat(g1) -> RobotMotion:
    """Standing in the stance that gains are made for, going down and up a little."""
    depth = 0.15 * (1 - np.cos(2 * np.pi * 0.5 * np.arange(200) / 50))
    qpos = np.tile([0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, *STANDING], (200, 1))
    for side in (0, 6):
        qpos[:, [7 + side, 10 + side, 11 + side]] += depth[:, None] * [-1.0, 2.0, -1.0]
    qpos[:, 2] -= postures(g1, qpos).soles[2].min(0)
    return RobotMotion(qpos, 50.0)


def make(model, motions: list[RobotMotion], *, seed: int = 0, count: int = COUNT, **options) -> TrackingEnv:
    contract = options.pop("contract", None)
    backend = CpuBackend(model, count)
    references = ClipReferences(motions, length=LENGTH, seed=seed, shortest=SHORTEST)
    return TrackingEnv(backend, references, contract=contract, options=EnvOptions(seed=seed, **options))


def nothing(env: TrackingEnv) -> np.ndarray:
    return np.zeros((env.count, 29))


def test_a_robot_begins_on_its_reference(model):
    env = make(model, [wandering(4, 0), swinging(0.5, 3)])
    drawn = ClipReferences([wandering(4, 0), swinging(0.5, 3)], length=LENGTH, shortest=SHORTEST).draw(COUNT)
    assert env.began.all()
    assert np.allclose(env.backend.qpos, drawn.qpos[:, 0])
    assert np.allclose(env.backend.qvel, drawn.velocity[:, 0])
    assert (env.segment == drawn.segment).all()
    assert (env.frame == drawn.frame).all()
    assert (env.view().reference_joints == drawn.qpos[:, 1, 7:]).all()


def test_a_robot_that_is_put_on_every_frame_earns_all(model, squat):
    """What a step compares is frame t + 1: the one that the action leads to."""
    env = make(model, [squat])
    put_there(env)
    best = sum(weight for weight in RewardOptions().weights.values() if weight > 0) / 50
    step = env.step(nothing(env))
    assert step.reward == pytest.approx(best, rel=1e-3)
    assert not (step.failed | step.finished).any()


def put_there(env: TrackingEnv) -> None:
    """Let the physics do what the reference does."""

    def step(targets: np.ndarray) -> None:
        drawn = env.references.take(env.segment, env.start)
        at = env.time + 1
        every = np.arange(env.count)
        env.backend.reset(every, drawn.qpos[every, at], drawn.velocity[every, at])

    env.backend.step = step


def test_replaying_the_reference_by_pd_falls_before_long(model, squat):
    """All starts of a squat or a walk fall within a second or so: why a policy is needed at all."""
    env = make(model, [squat], count=8)
    alive, seconds = np.ones(8, bool), np.zeros(8)
    for _ in range(LENGTH - 1):
        step = env.step(nothing(env))
        alive &= ~(step.failed | step.finished)
        seconds += alive / 50
    assert not alive.any()
    assert 0.1 < seconds.mean() < 1.2


def test_episodes_begin_anew_where_they_ended_and_nowhere_else(model):
    motions = [wandering(4, 0), wandering(1.2, 1)]
    env, frames = make(model, motions), np.array([200, 60])
    frame, segment, start = env.frame.copy(), env.segment.copy(), env.start.copy()
    ends = 0
    for _ in range(30):
        step = env.step(nothing(env))
        over = step.failed | step.finished
        told = env.ended
        assert (told[0] == segment).all()
        assert (told[1] == frame + 1).all()
        assert (told[2] == start).all()
        assert (told[1] < frames[segment]).all()
        assert (env.began == over).all()
        assert (env.frame[~over] == frame[~over] + 1).all()
        assert (env.segment[~over] == segment[~over]).all()
        assert (env.frame[over] == env.start[over]).all()
        assert (env.last_action[over] == 0).all()
        assert (env.start + SHORTEST - 1 < frames[env.segment]).all()
        frame, segment, start = env.frame.copy(), env.segment.copy(), env.start.copy()
        ends += over.sum()
    assert ends >= COUNT


def test_the_motions_end_is_no_failure_and_a_failure_no_end(model, squat):
    env = make(model, [squat.slice(0, 30)])
    put_there(env)
    for _ in range(40):
        frame = env.frame.copy()
        step = env.step(nothing(env))
        assert not step.failed.any()
        assert (step.finished == (frame == 28)).all()
    env.backend.step = lambda targets: env.backend.reset(
        np.array([2]), env.backend.qpos[[2]] - np.eye(36)[[2]], env.backend.qvel[[2]]
    )
    env.time[:] = 3
    step = env.step(nothing(env))
    assert step.failed.tolist() == [i == 2 for i in range(COUNT)]
    assert not step.finished.any()


@pytest.mark.parametrize("what", ["action", "place", "speed", "enormous"])
def test_what_is_not_a_number_ends_one_episode_and_does_not_spread(model, squat, what, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo logs its warnings where it runs
    env, other = make(model, [squat], randomisation=TRAINING), make(model, [squat], randomisation=TRAINING)
    action = nothing(env)
    if what == "action":
        action[3, 5] = np.nan
    elif what == "place":
        env.backend.qpos[3, 9] = np.nan
    else:
        env.backend.qvel[3, 9] = np.nan if what == "speed" else 1e9
    step, untouched = env.step(action), other.step(nothing(other))
    assert step.failed.tolist() == [i == 3 for i in range(COUNT)]
    assert step.reward[3] == 0
    assert np.isfinite(step.reward).all()
    assert all(np.isfinite(term).all() for term in step.terms.values())
    others = np.arange(COUNT) != 3
    assert (step.reward[others] == untouched.reward[others]).all()
    for _ in range(3):
        view = env.view()
        assert np.isfinite(view.observation).all()
        assert np.isfinite(view.privileged).all()
        assert (view.observation[others] == other.view().observation[others]).all()
        env.step(nothing(env))
        other.step(nothing(other))


def test_an_interrupted_run_goes_on_to_the_last_bit(model, squat):
    motions = [squat, wandering(2, 1)]
    models = [vary_model(model, TRAINING, 0, env) for env in range(COUNT)]
    changes = replace(TRAINING, delayed=0.5, push_interval_s=(0.1, 0.2))
    whole, actions = (
        make(models, motions, randomisation=changes),
        np.random.default_rng(0).normal(0, 1, (30, COUNT, 29)),
    )
    for action in actions[:14]:
        whole.step(action)
    state = whole.state_dict()
    resumed = make(models, motions, randomisation=changes)
    resumed.step(actions[0])  # wherever it is
    resumed.load_state_dict(state)
    for action in actions[14:]:
        for a, b in zip(vars(whole.view()).values(), vars(resumed.view()).values(), strict=True):
            assert (a == b).all()
        a, b = whole.step(action), resumed.step(action)
        assert (a.reward == b.reward).all()
        assert (a.failed == b.failed).all()
        assert (whole.frame == resumed.frame).all()
    assert whole.began.any() or whole.clock == 30


def test_an_action_belongs_to_whoever_gave_it(model, squat):
    """A trainer keeps what it did; the environment forgets it where an episode ends."""
    env = make(model, [squat])
    action = np.full((COUNT, 29), 3.0)
    while not env.began.any() or env.clock == 0:
        env.step(action)
        assert (action == 3.0).all()


def test_a_state_of_another_number_of_robots_is_refused(model, squat):
    with pytest.raises(MotionloomError, match="6 robots, this environment 2"):
        make(model, [squat], count=2).load_state_dict(make(model, [squat]).state_dict())


def only(*robot: str) -> Contract:
    return Contract(observation=ObservationSpec(robot, ("height",), (1,)))


def test_sensors_err_as_drawn_and_what_is_privileged_does_not(model, squat):
    noise = Randomisation(noise_joint_position=0.01, noise_joint_speed=0.5)
    clean, noisy = (
        make(model, [squat], contract=only("joint_position", "joint_speed"), randomisation=r) for r in (NONE, noise)
    )
    for _ in range(3):
        a, b = clean.view(), noisy.view()
        error = b.observation - a.observation
        assert 0.005 < np.abs(error[:, :29]).max() <= 0.0101
        assert 0.3 < np.abs(error[:, 29:58]).max() <= 0.501
        assert (a.privileged == b.privileged).all()
        clean.step(nothing(clean))
        noisy.step(nothing(noisy))
    assert (clean.backend.qpos == noisy.backend.qpos).all()


def test_a_view_can_be_looked_at_twice(model, squat):
    env = make(model, [squat], randomisation=TRAINING)
    assert (env.view().observation == env.view().observation).all()


def test_encoders_that_are_off_are_read_and_driven_by(model, squat):
    """The robot reads joint + offset; its motors, told a target, drive the true joint to target − offset."""
    changes = Randomisation(joint_offset=0.05)
    off, true = (make(model, [squat], contract=only("joint_position"), randomisation=r) for r in (changes, NONE))
    offsets = joint_offsets(changes, 0, np.arange(COUNT))
    assert np.allclose(off.view().observation[:, :29] - true.view().observation[:, :29], offsets, atol=1e-6)
    sent = {}
    for name, env in (("off", off), ("true", true)):
        env.backend.step = lambda targets, name=name: sent.update({name: targets})
        env.step(nothing(env))
    assert np.allclose(sent["off"], sent["true"] - offsets)


def test_late_targets_are_those_of_the_step_before(model, squat):
    env = make(model, [squat], randomisation=Randomisation(delayed=1.0))
    sent = []
    env.backend.step = lambda targets: sent.append(targets.copy())
    told = []
    for action in np.random.default_rng(0).normal(0, 0.1, (4, COUNT, 29)):
        told.append(env.contract.targets(action, env.joints_ahead()))
        env.step(action)
        assert not env.began.any()
    # A robot that has just begun has nothing to be late with.
    assert all((a == b).all() for a, b in zip(sent, [told[0], *told[:-1]], strict=True))


def test_pushes_change_the_roots_velocity_as_drawn(model, squat):
    changes = Randomisation(push_interval_s=(0.04, 0.08), push_linear=(0.5, 0.5, 0.2), push_turning=(0.5, 0.5, 0.7))
    env = make(model, [squat], randomisation=changes)
    env.backend.step = lambda targets: None
    pushed = 0
    for _ in range(8):
        before = env.backend.qvel.copy()
        step = env.step(nothing(env))
        kick = pushes(changes, 0, env.clock, np.arange(COUNT))
        on = ~(step.failed | step.finished)
        assert np.allclose((env.backend.qvel - before)[on, :6], kick[on])
        pushed += kick[on].any(1).sum()
    assert pushed > 4


def test_speed_tells_how_fast_the_segments_frames_pass(model, squat):
    env = make(model, [squat])
    env.speed[:] = 1.25
    env.time[:] = 8
    assert (env.frame == env.start + 10).all()


def test_references_too_short_to_look_ahead_are_refused(model, squat):
    with pytest.raises(MotionloomError, match="10 ahead"):
        TrackingEnv(CpuBackend(model, 2), ClipReferences([squat], length=10, shortest=5))
