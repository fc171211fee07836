from __future__ import annotations

from dataclasses import replace

import mujoco
import numpy as np
import polars as pl
import pytest
from small_corpus import write_small_corpus

from corpus.catalog import Corpus
from corpus.errors import MotionloomError
from corpus.g1 import G1, KEY_BODIES
from corpus.motion import RobotMotion
from corpus.resample import resample
from corpus.sources import SOURCES
from corpus.sources.options import LoadOptions
from deploy.contract import STANDING, Contract
from deploy.physics import build_model
from trainer.backend import CpuBackend
from trainer.env import EnvOptions, TrackingEnv
from trainer.evaluate import Trial, conditions, evaluate
from trainer.exam import exam_of_corpus, exam_of_motions, starts_of
from trainer.kinematics import body_states
from trainer.metrics import METRICS, heading_frame
from trainer.policies import PdReplay
from trainer.randomise import NONE, TRAINING, Randomisation, vary_model
from trainer.references import SHORTEST, ClipReferences
from trainer.rules import RULES
from trainer.scoreboard import as_json, scoreboard


def still(frames: int, height: float) -> RobotMotion:
    qpos = np.zeros((frames, 36), np.float32)
    qpos[:, 2], qpos[:, 3], qpos[:, 7:] = height, 1, STANDING
    return RobotMotion(qpos, 50.0)


def swaying(frames: int, seed: int) -> RobotMotion:
    rng = np.random.default_rng(seed)
    t = np.arange(frames)[:, None] / 50
    motion = still(frames, 0.77)
    motion.qpos[:, 7:] += (0.2 * np.sin(6 * t + rng.uniform(0, 6, 29))).astype(np.float32)
    return motion


class Noting(PdReplay):
    """PD replay that writes down what it was shown and told."""

    def __init__(self):
        super().__init__()
        self.seen, self.told = [], []

    def forget(self, envs):
        self.told.append(("forget", list(envs)))

    def act(self, view):
        self.seen.append(view)
        self.told.append(("act", len(view.observation)))
        return super().act(view)


@pytest.fixture(scope="module")
def exam():
    return exam_of_motions([swaying(frames, frames) for frames in (12, 6, 9)])


def test_two_evaluations_are_equal_bit_for_bit_on_any_number_of_threads(exam):
    def told(threads: int) -> str:
        trial = Trial(starts=2, randomisation=TRAINING, threads=threads)
        outcomes = evaluate(PdReplay(), exam, trial)
        return as_json(outcomes, scoreboard(outcomes), conditions([PdReplay()], trial))

    assert told(1) == told(1) == told(2)


def test_outcomes_do_not_depend_on_how_starts_are_batched(exam):
    trial = Trial(starts=2, randomisation=TRAINING)
    whole = evaluate(PdReplay(), exam, trial)
    assert whole.equals(evaluate(PdReplay(), exam, replace(trial, batch=2)))
    assert not whole.equals(evaluate(PdReplay(), exam, replace(trial, seed=1)))


def test_a_robot_let_go_in_the_air_falls_by_the_law():
    """Its joints rest at their targets, so pelvis and all drop by g·dt²·n(n+1)/2 after n physics steps."""
    outcome = evaluate(PdReplay(), exam_of_motions([still(30, 5.0)])).row(0, named=True)
    n = 4 * np.arange(1, 30)
    drop = 9.81 * 0.005**2 * n * (n + 1) / 2
    failed = int(np.flatnonzero(drop > 0.25)[0]) + 1
    assert [outcome[f"{rule}_frames"] for rule in RULES] == [failed] * 3
    assert not any(outcome[f"{rule}_success"] for rule in RULES)
    assert outcome["completed"] == pytest.approx((failed - 1) / 29)
    assert outcome["mpkpe_mm"] == pytest.approx(1000 * drop[:failed].mean(), rel=1e-4)
    assert outcome["mpkpe_mm_whole"] == pytest.approx(1000 * drop.mean(), rel=1e-4)
    assert outcome["e_vel_mm_frame_whole"] == pytest.approx(1000 * drop[-1] / 29, rel=1e-4)
    assert outcome["e_acc_mm_frame2_whole"] == pytest.approx(9810 * 0.02**2, rel=1e-4)
    assert outcome["mpjpe_rad"] == pytest.approx(0, abs=1e-4)


def test_a_robot_that_has_not_yet_fallen_has_succeeded_by_every_rule():
    outcome = evaluate(PdReplay(), exam_of_motions([still(8, 5.0)])).row(0, named=True)
    assert all(outcome[f"{rule}_success"] and outcome[f"{rule}_frames"] == 7 for rule in RULES)
    assert outcome["completed"] == 1
    assert all(outcome[name] == outcome[f"{name}_whole"] for name in METRICS)


@pytest.mark.parametrize("chance", [NONE, replace(TRAINING, delayed=1.0)])
def test_the_referee_shows_what_the_environment_shows(chance):
    motion = swaying(SHORTEST, 3)  # so short that episodes can only begin at its first frame
    policy = Noting()
    evaluate(policy, exam_of_motions([motion]), Trial(seconds=0.2, randomisation=chance, seed=2))
    model = vary_model(build_model(policy.contract.gains), chance, 2, 0)
    options = EnvOptions(randomisation=chance, seed=2)
    env = TrackingEnv(CpuBackend(model, 1), ClipReferences([motion]), options=options)
    assert len(policy.seen) == 10
    for shown in policy.seen:
        expected = env.view()
        np.testing.assert_array_equal(shown.observation, expected.observation)
        np.testing.assert_array_equal(shown.reference_joints, expected.reference_joints)
        np.testing.assert_allclose(shown.privileged, expected.privileged, atol=1e-6)
        env.step(np.zeros((1, 29)))


def test_policies_are_told_to_forget_before_every_batch_and_see_batches_of_one_size(exam):
    policy = Noting()
    evaluate(policy, exam, Trial(batch=2, seconds=0.04))
    assert policy.told == 2 * [("forget", [0, 1]), ("act", 2), ("act", 2)]


def test_noise_is_seen_by_the_policy_and_not_by_the_judge(exam):
    ideal, noisy = Noting(), Noting()
    trial = Trial(seconds=0.02)
    evaluate(ideal, exam, trial)
    evaluate(noisy, exam, replace(trial, randomisation=Randomisation(noise_joint_position=0.01)))
    np.testing.assert_array_equal(ideal.seen[0].qpos, noisy.seen[0].qpos)
    off = abs(ideal.seen[0].state.joint_position - noisy.seen[0].state.joint_position)
    assert 0.005 < off.max() <= 0.01


def test_an_experts_outcomes_are_equal_bit_for_bit(exam):
    torch = pytest.importorskip("torch")
    from trainer.expert import Expert
    from trainer.networks import ActorCritic, NetworkOptions

    torch.set_num_threads(1)
    view = TrackingEnv(CpuBackend(build_model(Contract().gains), 1), ClipReferences([swaying(30, 0)])).view()
    size = view.observation.shape[1] + view.privileged.shape[1]
    network = ActorCritic(size, 29, NetworkOptions(hidden=(16,)), torch.Generator().manual_seed(0))
    expert = Expert(network, Contract())
    first = evaluate(expert, exam, Trial(threads=1))
    assert first.equals(evaluate(expert, exam, Trial(threads=2)))
    assert not first.drop("policy").equals(evaluate(PdReplay(), exam).drop("policy"))


def test_a_students_outcomes_are_equal_bit_for_bit_whatever_it_did_before(exam):
    torch = pytest.importorskip("torch")
    from trainer.gpt import Gpt, GptShape
    from trainer.student_policy import StudentPolicy

    torch.set_num_threads(1)
    contract = Contract()
    student = StudentPolicy(Gpt(contract.observation.size, 29, GptShape(1, 16, 2, 16, window=4)), contract)
    trial = Trial(batch=2)
    first = evaluate(student, exam, trial)
    assert first.equals(evaluate(student, exam, trial))


def test_a_policy_whose_action_is_no_number_is_an_error(exam):
    class Broken(PdReplay):
        def act(self, view):
            return np.full(view.reference_joints.shape, np.nan)

    with pytest.raises(MotionloomError, match="pd_replay gave an action that is not a number"):
        evaluate(Broken(), exam)


def test_a_policy_of_another_rate_is_refused(exam):
    with pytest.raises(MotionloomError, match="25 Hz"):
        evaluate(PdReplay(Contract(control_hz=25.0)), exam)


def test_a_row_says_what_the_exam_knows():
    facts = pl.DataFrame({"segment": ["a", "b"], "label": ["walk", None], "cluster": [4, 5]})
    rows = evaluate(PdReplay(), exam_of_motions([still(5, 1.0), still(6, 1.0)], facts), Trial(starts=2))
    assert rows["segment"].to_list() == ["a", "a", "b", "b"]
    assert rows["label"].to_list() == ["walk", "walk", None, None]
    assert rows["cluster"].to_list() == [4, 4, 5, 5]
    assert rows["source"].null_count() == 4 and rows["frames"].to_list() == [4, 4, 5, 5]


def test_random_starts_leave_something_to_follow_and_depend_on_name_and_seed_alone():
    facts = pl.DataFrame({"segment": ["a", "b"]})
    both = starts_of(exam_of_motions([still(300, 1), still(190, 1)], facts), count=50, seconds=1.0, seed=3)
    alone = starts_of(exam_of_motions([still(190, 1)], facts[1:]), count=50, seconds=1.0, seed=3)
    np.testing.assert_array_equal(both.frame[50:], alone.frame)
    assert both.frame[:50].max() > 100 and len(set(both.frame[:50])) > 30
    left = np.array([300, 190])[both.motion] - 1 - both.frame
    assert left.min() >= 99
    np.testing.assert_array_equal(both.frames, np.minimum(left, 50))


def test_motions_of_another_rate_are_refused():
    with pytest.raises(MotionloomError, match="50 Hz"):
        exam_of_motions([RobotMotion(still(9, 1).qpos, 30.0)])


def test_an_exam_of_a_corpus_takes_the_segments_asked_for_with_their_facts(tmp_path):
    corpus = Corpus.open(write_small_corpus(tmp_path / "corpus", "aa", "bb", "cc"))
    exam = exam_of_corpus(corpus, segments=np.array([2, 0]), cluster=np.array([7, 8, 9]))
    assert exam.about["segment"].to_list() == [corpus.kept["segment"][2], corpus.kept["segment"][0]]
    assert exam.about["cluster"].to_list() == [9, 7] and exam.about["source"].to_list() == ["robot", "robot"]
    np.testing.assert_array_equal(exam.motion(0).qpos, corpus.motion(2).qpos)
    with pytest.raises(MotionloomError, match="2 clusters for 3 kept segments"):
        exam_of_corpus(corpus, cluster=np.array([1, 2]))


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"threads": 0}, {"starts": 0}, {"seconds": 0.0}, {"seed": -1}])
def test_a_trial_of_nothing_is_refused(wrong):
    with pytest.raises(MotionloomError, match=f"{next(iter(wrong))}"):
        Trial(**wrong)


@pytest.fixture(scope="module")
def dance(shared) -> RobotMotion:
    """A real motion of the G1, LAFAN1's first dance retargeted by others."""
    root = shared / "lafan1_g1_csv"
    clip = next(clip for clip in SOURCES["robot"].scan(root) if clip.path.endswith(".csv"))
    motion = SOURCES["robot"].load(root, clip, LoadOptions())
    assert isinstance(motion, RobotMotion)
    return resample(motion, 50.0)


@pytest.mark.data
def test_pd_replay_falls_in_a_real_dance(dance):
    outcomes = evaluate(PdReplay(), exam_of_motions([dance]), Trial(starts=8, seconds=1.6))
    assert not outcomes["trunk_success"].any()
    frames = outcomes["trunk_frames"]
    assert frames.min() > 10 and 20 < frames.median() < 60  # after about 0.7 s
    limits = {"mpjpe_rad": 0.3, "mpjve_rad_s": 5, "mpkpe_mm": 400, "e_vel_mm_frame": 60, "jerk_rad_s3": 1e4}
    for name, limit in limits.items():
        assert outcomes[name].min() > 0 and outcomes[name].max() < limit
    assert (outcomes["mpkpe_mm_whole"] > outcomes["mpkpe_mm"]).all()  # lying there it is farther off


@pytest.mark.data
def test_key_bodies_of_a_real_dance_are_where_mujoco_has_them(dance):
    model = build_model(Contract().gains)
    data = mujoco.MjData(model)
    qpos = dance.qpos[::400].astype(float)
    found = body_states(qpos, np.zeros((len(qpos), 35)))
    seen = heading_frame(found.position, found.rotation)
    for i, row in enumerate(qpos):
        data.qpos[:] = row
        mujoco.mj_kinematics(model, data)
        place = np.array([data.body(name).xpos for name in KEY_BODIES])
        np.testing.assert_allclose(found.position[i], place, atol=1e-9)
        forward = data.body(G1.body_names[0]).xmat.reshape(3, 3)[:, 0]
        turn = np.array([[forward[0], forward[1]], [-forward[1], forward[0]]]) / np.hypot(*forward[:2])
        np.testing.assert_allclose(seen[i, :, :2], (place - place[0])[:, :2] @ turn.T, atol=1e-9)
        np.testing.assert_allclose(seen[i, :, 2], place[:, 2], atol=1e-9)
