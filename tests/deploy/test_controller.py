"""What the controller shows the policy and makes of its answers, and how modes follow each other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from robot_in_process import PERIOD_S, ChangedSource, Loop, MadeUpPolicy, StillLink

from corpus import rotations
from corpus.errors import MotionloomError
from corpus.g1 import G1
from corpus.motion import RobotMotion
from corpus.recording import read_recording
from deploy.clamps import clamped
from deploy.contract import STANDING, Contract
from deploy.controller import Controller, frames_of
from deploy.log import RunLog
from deploy.messages import JOINTS, STOP_KD
from deploy.observation import Reference, RobotState, observe
from deploy.reference import ClipSource, Preview, StandSource
from deploy.remote import Remote, encode_remote
from deploy.stance import standing
from deploy.stand import StandOptions

CONTRACT, FRAMES = Contract(), frames_of(Contract())
SHORT = StandOptions(ramp_s=0.1, hold_s=0.1)
ELBOW = G1.joint_names.index("left_elbow_joint")


def nodding(seconds: float = 1.0) -> ClipSource:
    """Standing, an elbow goes to and fro, from rest to rest."""
    qpos = np.tile(standing(heading=1.0), (round(seconds / PERIOD_S), 1))
    qpos[:, 7 + ELBOW] += 0.2 * (1 - np.cos(np.linspace(0, 2 * np.pi, len(qpos))))
    return ClipSource(RobotMotion(qpos, 50.0), FRAMES)


def loop(source=None, policy=None, **options) -> Loop:
    link = StillLink()
    policy, source = policy or MadeUpPolicy(), source or StandSource(FRAMES)
    return Loop(Controller(policy, source, link, stand=SHORT, **options), link)


def policy_of(running: Loop) -> MadeUpPolicy:
    assert isinstance(running.controller.policy, MadeUpPolicy)
    return running.controller.policy


def damps(command) -> bool:
    return not command.kp.any() and (command.kd == STOP_KD).all()


def test_the_frames_are_now_the_next_and_those_that_the_policy_sees():
    assert frames_of(CONTRACT) == (0, 1, 4, 10)
    spec = replace(CONTRACT.observation, frames=(0, 2))
    assert frames_of(replace(CONTRACT, observation=spec)) == (0, 1, 2)


def test_nothing_but_damping_before_the_robot_has_been_heard():
    running = loop()
    running.link.read = lambda: None
    for _ in range(20):
        report = running.step()
        assert report.modes.mode == "damping"
        assert not report.modes.stopped
        assert damps(running.link.commands[-1])
        assert [fault.name for fault in report.faults] == ["no_state"]


def test_a_robot_that_is_heard_late_is_stood_up_all_the_same():
    running = loop()
    read, running.link.read = running.link.read, lambda: None
    assert all(damps(running.step().command) for _ in range(20))
    running.link.read = read
    assert not running.until("track").faults


def test_the_policy_sees_what_the_robot_said_and_the_reference_shows():
    """With the robot's heading taken for the reference's at the beginning, and its last action."""
    running, policy = loop(nodding()), MadeUpPolicy()
    running.controller.policy = policy
    heading, random = 2.5, np.random.default_rng(5)
    policy.answer = lambda seen: random.normal(size=JOINTS).astype(np.float32)
    turned = rotations.about_z(np.array(heading))
    running.link.said = lambda state: replace(state, root_rotation=turned)
    last = np.zeros(JOINTS, np.float32)
    for period in range(12):
        report = running.until("track") if period == 0 else running.step()
        assert report.reference is not None
        assert report.action is not None
        seen = [report.reference.qpos[FRAMES.index(f)] for f in CONTRACT.observation.frames]
        rates = [report.reference.velocity[FRAMES.index(f)] for f in CONTRACT.observation.frames]
        robot = RobotState(
            STANDING[None], np.zeros((1, JOINTS)), rotations.about_z(np.array([1.0])), np.zeros((1, 3)), last[None]
        )
        expected = observe(CONTRACT, robot, Reference(np.array([seen]), np.array([rates])))[0]
        assert policy.seen[-1] == pytest.approx(expected, abs=1e-5)
        last = report.action
    assert policy.forgot == 1


def test_an_action_moves_targets_from_the_frame_that_it_leads_to():
    running, policy = loop(nodding()), MadeUpPolicy()
    running.controller.policy = policy
    policy.answer = lambda seen: np.full(JOINTS, 0.1, np.float32)
    report, before = running.until("track"), STANDING
    for _ in range(30):
        assert report.reference is not None
        wanted = CONTRACT.targets(np.full((1, JOINTS), 0.1), report.reference.qpos[None, 1, 7:])[0]
        gains = CONTRACT.gains
        expected = clamped(
            wanted, before, STANDING, np.zeros(JOINTS), gains.kp, gains.kd, gains.effort, period_s=PERIOD_S
        )
        assert report.command.joint_position == pytest.approx(expected, abs=1e-6)
        assert (report.command.kp == gains.kp).all()
        assert report.command.mode_machine == 5
        before, report = report.command.joint_position, running.step()


def test_a_clip_waits_at_its_first_frame_and_is_followed_frame_by_frame():
    source = nodding()
    whole = nodding()
    running = loop(source)
    running.until("stand")
    for _ in range(8):
        assert running.controller.source.look(0.0).qpos == pytest.approx(np.tile(source.first, (4, 1)))
    whole.begin()
    report = running.until("track")
    for frame in range(49):
        assert report.reference is not None
        assert report.reference.qpos == pytest.approx(whole.look(0.0).qpos, abs=1e-9), frame
        report = running.step()


def test_a_clip_that_ends_leads_to_a_stand_by_way_of_the_policy():
    running = loop(nodding(0.5))
    running.until("track")
    asked = len(policy_of(running).seen)
    assert running.until("settle").ended
    report = running.until("stand")
    assert len(policy_of(running).seen) > asked + 50
    assert report.modes.fault == ""
    for _ in range(50):
        assert running.step().modes.mode == "stand"  # it is not begun again
    assert running.until("damping", "damping").modes.stopped is False
    assert damps(running.link.commands[-1])


def test_settling_goes_on_where_the_motion_was():
    running = loop(nodding())
    running.until("track")
    for _ in range(20):
        before = running.step()
    report = running.step("stand")
    assert before.reference is not None
    assert report.reference is not None
    assert report.modes.mode == "settle"
    assert report.reference.qpos[0] == pytest.approx(before.reference.qpos[1], abs=1e-9)
    assert report.reference.velocity[0] == pytest.approx(before.reference.velocity[1], abs=1e-9)
    assert report.reference.status == report.status == "settling"


def test_targets_never_jump_from_one_mode_to_the_next():
    """What a joint is pulled by stays the same but for what a period's motion makes of it."""
    running = loop(nodding(0.5))
    torques, modes = [], []
    running.until("track")
    while running.now_s < 6 and (not modes or modes[-1] != "stand"):
        report = running.step()
        torques.append(report.command.kp * (report.command.joint_position - STANDING))
        modes.append(report.modes.mode)
    assert set(modes) == {"track", "settle", "stand"}
    assert np.abs(np.diff(torques, axis=0)).max() < 3.0


def test_a_live_source_that_stays_away_is_followed_again_when_it_is_back():
    source = ChangedSource(StandSource(FRAMES))
    running = loop(source)
    running.until("track")
    source.change = lambda preview: replace(preview, status="held", age_s=0.2)
    report = running.step()
    assert (report.modes.mode, report.modes.fault) == ("settle", "stale_reference")
    running.until("stand")
    for _ in range(50):
        assert running.step().modes.mode == "stand"
    source.change = lambda preview: preview
    running.until("track")
    assert policy_of(running).forgot == 2


def nothing_but_nan(seen: np.ndarray) -> np.ndarray:
    return np.full(JOINTS, np.nan, np.float32)


def refuse(seen: np.ndarray) -> np.ndarray:
    raise MotionloomError("the session is gone")


@pytest.mark.parametrize(("answer", "text"), [(nothing_but_nan, "NaN"), (refuse, "the session is gone")])
def test_a_policy_that_fails_is_not_asked_again(answer, text):
    running, policy = loop(), MadeUpPolicy()
    running.controller.policy = policy
    running.until("track")
    policy.answer = answer
    report = running.step()
    assert (report.modes.mode, report.modes.stopped, report.modes.fault) == ("damping", True, "policy")
    assert text in report.faults[-1].text
    asked, policy.answer = len(policy.seen), lambda seen: np.zeros(JOINTS, np.float32)
    for _ in range(300):
        assert running.step().modes.stopped
        assert damps(running.link.commands[-1])
    assert len(policy.seen) == asked


def test_a_source_that_fails_leads_to_a_stand():
    source = ChangedSource(StandSource(FRAMES))
    running = loop(source)
    running.until("track")

    def fail(preview: Preview) -> Preview:
        raise MotionloomError("the plan has ended")

    source.change = fail
    assert running.step().modes.fault == "no_reference"
    running.until("stand")


def test_a_reference_that_is_broken_before_it_begins_is_not_begun():
    source = ChangedSource(StandSource(FRAMES))
    source.change = lambda preview: replace(preview, qpos=np.full_like(preview.qpos, np.nan))
    running = loop(source)
    running.until("stand")
    for _ in range(100):
        assert running.step().modes.mode == "stand"


def test_the_robots_clock_may_begin_anew():
    running = loop()
    running.link.state = replace(running.link.state, tick=2**32 - 500)
    running.link.moved = lambda: replace(running.link.state, tick=(running.link.state.tick + 20) % 2**32)
    running.until("track")
    for _ in range(60):
        assert running.step().faults == []
    assert running.link.state.tick < 2000


def test_the_damping_command_is_for_the_machine_that_is_there():
    running = loop()
    running.until("track")
    running.link.said = lambda state: replace(state, mode_machine=6)
    report = running.step()
    assert report.modes.fault == "other_machine"
    assert running.link.commands[-1].mode_machine == 6


def test_a_run_is_written_down_as_it_was(tmp_path):
    path = tmp_path / "run.g1run"
    reports = []
    with RunLog(path, CONTRACT, {}) as journal:
        running = loop(nodding(0.5), journal=journal)
        for _ in range(30):
            reports.append(running.step())
        running.link.said = lambda state: replace(state, temperature=np.full(JOINTS, 99.0))
        reports.append(running.step())
    found = read_recording(path)
    assert [*found.mode] == [report.modes.mode for report in reports]
    assert found.target == pytest.approx(np.stack([r.command.joint_position for r in reports]), abs=1e-6)
    followed = [i for i, report in enumerate(reports) if report.action is not None]
    assert followed
    assert found.action[followed] == pytest.approx(np.stack([reports[i].action for i in followed]))
    assert np.isnan(found.action[[i for i in range(len(reports)) if i not in followed]]).all()
    events = [event["name"] for event in found.events]
    assert events[-2:] == ["hot_motor", "mode"]
    modes = [event for event in found.events if event["name"] == "mode"]
    assert [event["now"] for event in modes] == ["stand", "track", "damping"]
    assert [event.get("fault") for event in modes] == [None, None, "hot_motor"]


def test_a_fault_that_keeps_the_robot_from_standing_up_is_written_down_once(tmp_path):
    path = tmp_path / "run.g1run"
    with RunLog(path, CONTRACT, {}) as journal:
        running = loop(journal=journal)
        running.link.said = lambda state: replace(state, temperature=np.full(JOINTS, 99.0))
        for _ in range(10):
            assert running.step().modes.mode == "damping"
    (event,) = read_recording(path).events
    assert (event["name"], event["degrees"]) == ("hot_motor", 99.0)


def test_a_stop_from_the_remote_while_the_robot_damps_is_for_good():
    running = loop()
    pressed = encode_remote(Remote(pressed=frozenset({"L2", "B"})))
    running.link.said = lambda state: replace(state, remote=pressed)
    assert running.step().modes.stopped
    running.link.said = lambda state: state
    for _ in range(50):
        assert running.step().modes.mode == "damping"


def test_another_machine_than_the_expected_one_is_not_moved():
    running = loop(machine=6)
    for _ in range(20):
        assert damps(running.step().command)
    assert [fault.name for fault in running.report.faults] == ["other_machine"]


def test_a_robot_that_is_not_in_its_posture_does_not_begin():
    running = loop()
    arm = STANDING.copy()
    arm[20] += 0.6  # held by somebody
    running.link.said = lambda state: replace(state, joint_position=arm)
    for _ in range(400):
        assert running.step().modes.mode == "stand"
    running.link.said = lambda state: state
    running.until("track", seconds=1.0)


def test_the_policy_keeps_a_robot_that_has_not_come_to_rest():
    running = loop()
    running.until("track")
    running.link.said = lambda state: replace(state, angular_velocity=np.array([0.0, 0.8, 0.0]))
    for _ in range(300):
        report = running.step("stand")
    assert report.modes.mode == "settle"
    running.link.said = lambda state: state
    running.until("stand", wish="stand", seconds=0.1)


def test_motors_that_nobody_commands_yet_may_say_so():
    running = loop()
    said = replace(running.link.state, motor_fault=np.full(JOINTS, 0x40000000))
    running.link.said = lambda state: replace(said, tick=state.tick)
    assert running.step("damping").faults == []
    running.until("track")
    report = running.step()
    assert (report.modes.mode, report.modes.fault) == ("damping", "motor_fault")
