from __future__ import annotations

import argparse
import json
from dataclasses import replace

import numpy as np
import pytest
from made_runs import squat, step_of, write_run

from corpus import rotations
from corpus.errors import MotionloomError
from corpus.motion import RobotMotion, velocity
from deploy.contract import Contract
from deploy.log import RunLog
from pipelines.deploy_commands import judge as command
from pipelines.run_judge import as_text, judge_run, write_json
from trainer.rules import RULES

MOTION = squat(3.0)


def turned(motion: RobotMotion, angle: float, x: float) -> RobotMotion:
    """The same elsewhere, facing elsewhere."""
    turn = np.broadcast_to(rotations.about_z(np.array(angle)), (motion.frame_count, 4))
    place = rotations.rotate(turn, motion.root_position) + [x, -x, 0]
    rotation = rotations.multiply(turn, motion.root_rotation)
    return RobotMotion(np.concatenate([place, rotation, motion.joint_position], 1), motion.fps)


def fallen(motion: RobotMotion, frame: int) -> RobotMotion:
    """As the motion until that frame, then on its face within half a second."""
    lean = np.clip((np.arange(motion.frame_count) - frame) / 25, 0, 1) * np.pi / 2
    tilt = rotations.from_rotation_vector(lean[:, None] * [0, 1.0, 0])
    qpos = motion.qpos.copy()
    qpos[:, 3:7] = rotations.multiply(tilt, motion.root_rotation)
    return RobotMotion(qpos, motion.fps)


def test_a_perfect_follower_succeeds(tmp_path):
    """Wherever it was switched on, and whichever way it faced."""
    path = write_run(tmp_path / "a.g1run", turned(MOTION, 2.0, 5.0), MOTION, recording="r")
    (row,) = judge_run(path).outcomes.to_dicts()
    assert all(row[f"{rule}_success"] for rule in RULES) and row["frames"] == 149 and not row["broken_off"]
    assert row["mpjpe_rad"] < 1e-5 and row["mpjve_rad_s"] < 0.01 and row["mpkpe_mm"] < 0.5
    assert row["root_relative_mm"] < 0.5 and row["completed"] == 1


def test_a_known_error_is_measured(tmp_path):
    """One joint of 29 is off by 0.29 rad: 0.01 on average."""
    qpos = MOTION.qpos.copy()
    qpos[:, -1] += 0.29
    (row,) = judge_run(write_run(tmp_path / "a.g1run", RobotMotion(qpos, 50.0), MOTION)).outcomes.to_dicts()
    assert row["mpjpe_rad"] == pytest.approx(0.01, abs=1e-6)


def test_one_who_falls_fails(tmp_path):
    (row,) = judge_run(write_run(tmp_path / "a.g1run", fallen(MOTION, 60), MOTION)).outcomes.to_dicts()
    assert not any(row[f"{rule}_success"] for rule in RULES)
    assert 60 < row["trunk_frames"] < 85 and row["completed"] < 0.6


def test_a_controller_that_gives_up_has_failed(tmp_path):
    """Though no rule saw it fall; another stretch of the same run went well."""
    modes = ["track"] * 50 + ["damping"] * 20 + ["stand"] * 10 + ["track"] * 50 + ["stand"] * 20
    judged = judge_run(write_run(tmp_path / "a.g1run", MOTION, modes=modes))
    assert judged.outcomes["broken_off"].to_list() == [True, False]
    assert judged.outcomes["trunk_success"].to_list() == [False, True]
    assert "gave up" in as_text(judged) and judged.about["modes"]["damping"] == pytest.approx(0.4)


@pytest.mark.parametrize(("name", "given_up"), [("silent", True), ("mode", False)])
def test_a_fault_that_ends_the_tracking_is_giving_up(tmp_path, name, given_up):
    """Though the policy brings the robot to a stand; at a reference's end nothing but the change of mode is told."""
    path = tmp_path / "a.g1run"
    with RunLog(path, Contract(), {}) as log:
        for i in range(150):
            if i == 100:
                log.event(102.0, name)
            log.add(step_of(i, MOTION.qpos[i], SPEED[i], MOTION.qpos[i], mode="track" if i < 100 else "settle"))
    assert judge_run(path).outcomes["broken_off"].to_list() == [given_up]


def test_a_fall_within_half_a_second_is_judged_too(tmp_path):
    modes = ["track"] * 20 + ["damping"] * 130
    (row,) = judge_run(write_run(tmp_path / "a.g1run", MOTION, modes=modes)).outcomes.to_dicts()
    assert row["frames"] == 19 and not row["fall_success"]


def test_the_truth_of_a_simulator_stands_in_for_odometry(tmp_path):
    """A robot that hovers 0.3 m too high looks right to its own legs; the truth knows better."""
    path = write_run(tmp_path / "a.g1run", MOTION)
    high = MOTION.qpos + np.array([0, 0, 0.3, *[0] * 33])
    np.savez(tmp_path / "truth.npz", time_s=np.arange(150) / 50, qpos=high, qvel=SPEED)
    assert judge_run(path).outcomes["fall_success"][0]
    judged = judge_run(path, tmp_path / "truth.npz")
    assert not judged.outcomes["fall_success"][0] and judged.about["root"] == "truth"


TIME = np.arange(150) / 50
SPEED = velocity(MOTION)


@pytest.mark.parametrize(
    "arrays",
    [
        {"qpos": MOTION.qpos, "qvel": SPEED},
        {"time_s": TIME, "qpos": MOTION.qpos[:, :35], "qvel": SPEED},
        {"time_s": TIME, "qpos": MOTION.qpos[:100], "qvel": SPEED},
        {"time_s": TIME[:1], "qpos": MOTION.qpos[:1], "qvel": SPEED[:1]},
        {"time_s": np.array(1.0), "qpos": MOTION.qpos, "qvel": SPEED},
        {"time_s": TIME.astype("U9"), "qpos": MOTION.qpos, "qvel": SPEED},
        {"time_s": TIME * 0, "qpos": MOTION.qpos, "qvel": SPEED},
        {"time_s": TIME, "qpos": MOTION.qpos * np.nan, "qvel": SPEED},
        {"time_s": TIME / 20, "qpos": MOTION.qpos, "qvel": SPEED},
    ],
)
def test_a_truth_that_cannot_be_is_refused(tmp_path, arrays):
    path = write_run(tmp_path / "a.g1run", MOTION)
    np.savez(tmp_path / "truth.npz", **arrays)
    with pytest.raises(MotionloomError):
        judge_run(path, tmp_path / "truth.npz")


def test_late_steps_and_stages_are_counted(tmp_path):
    speed, path = velocity(MOTION), tmp_path / "a.g1run"
    with RunLog(path, Contract(), {}) as log:
        for i in range(150):
            late = 0.02 * (i > 70) + 0.02 * (i > 90)
            log.add(step_of(i, MOTION.qpos[i], speed[i], MOTION.qpos[i], time_s=3 + i / 50 + late))
        log.event(5.0, "fault", reason="late")
    judged = judge_run(path)
    assert judged.about["late"] == 2 and judged.about["steps"] == 150
    times = {row["name"]: row for row in judged.timings.to_dicts()}
    assert times["period"]["p50_ms"] == pytest.approx(20) and times["period"]["max_ms"] == pytest.approx(40)
    assert times["infer"]["max_ms"] == pytest.approx(0.4)
    assert "fault: reason late" in as_text(judged)


def test_times_are_of_the_steps_that_follow_something(tmp_path):
    """Where the robot only stands the policy takes no time, which is none of its merits."""
    path, speed = tmp_path / "a.g1run", velocity(MOTION)
    with RunLog(path, Contract(), {}) as log:
        for i in range(150):
            step = step_of(i, MOTION.qpos[i], speed[i], MOTION.qpos[i], mode="track" if i >= 130 else "stand")
            log.add(replace(step, stages={"read": 0.001, "infer": 0.004 if i >= 130 else 0.0}))
    times = {row["name"]: row for row in judge_run(path).timings.to_dicts()}
    assert (times["infer"]["p50_ms"], times["infer"]["count"]) == (pytest.approx(4), 20)
    assert times["step"]["p50_ms"] == pytest.approx(5)


def test_the_command_prints_and_writes_all_of_it(tmp_path, capsys):
    path = write_run(tmp_path / "a.g1run", MOTION)
    parser = argparse.ArgumentParser()
    command.add_options(parser)
    assert command.run(parser.parse_args([str(path), "--json", str(tmp_path / "out.json")])) == 0
    assert "trunk ok, whole_body ok, fall ok" in capsys.readouterr().out
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["outcomes"][0]["trunk_success"] and found["about"]["steps"] == 150
    write_json(tmp_path / "again.json", judge_run(path))
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "out.json").read_bytes()


@pytest.mark.parametrize("content", [b"", b"not a run"])
def test_what_is_no_run_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "a.g1run").write_bytes(content)
    with pytest.raises(MotionloomError, match="not_motion"):
        judge_run(tmp_path / "a.g1run")


def test_a_run_that_never_tracked_is_refused(tmp_path):
    with pytest.raises(MotionloomError, match="nothing to judge"):
        judge_run(write_run(tmp_path / "a.g1run", MOTION, modes=["stand"] * 150))
