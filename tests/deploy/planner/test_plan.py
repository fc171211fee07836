from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strolling import stroll

from corpus import rotations
from corpus.g1 import G1
from corpus.posture import postures
from deploy.outline import lowest
from deploy.planner.commands import STAND, Command, Script
from deploy.planner.features import wrap
from deploy.planner.index import build_index
from deploy.planner.plan import Planner
from deploy.planner.source import PlannedSource


def made(planner: Planner, command: Command, seconds: float) -> np.ndarray:
    return np.concatenate([planner.advance(command) for _ in range(round(seconds * 10))])


def mean_velocity(qpos: np.ndarray) -> np.ndarray:
    return (qpos[-1, :2] - qpos[0, :2]) * 50 / (len(qpos) - 1)


@pytest.mark.parametrize("speed", [0.3, 0.75, 1.2])
@pytest.mark.parametrize("direction", [0.0, 2.0, -3.0])
def test_it_goes_where_and_as_fast_as_it_is_told(index, speed, direction):
    velocity = speed * math.cos(direction), speed * math.sin(direction)
    qpos = made(Planner(index), Command(velocity), 6.0)[200:]
    assert np.hypot(*(mean_velocity(qpos) - velocity)) < 0.15
    assert np.abs(wrap(rotations.heading(qpos[:, 3:7]) - direction)).max() < 0.3


def test_it_turns_along_another_way(index):
    planner = Planner(index)
    made(planner, Command((0.8, 0.0)), 3.0)
    qpos = made(planner, Command((0.0, 0.8)), 4.0)[100:]
    assert np.hypot(*(mean_velocity(qpos) - [0.0, 0.8])) < 0.15


def test_told_nothing_it_stands(index):
    planner = Planner(index)
    made(planner, Command((0.9, 0.0)), 3.0)
    qpos = made(planner, STAND, 4.0)[100:]
    assert np.hypot(*np.diff(qpos[:, :2], axis=0).T).max() * 50 < 0.05
    assert qpos[:, 2].min() > index.about["upright"] - 0.1


def test_where_nothing_stands_it_holds_a_frame(tmp_path):
    walks = build_index(tmp_path / "i", [(stroll(0.8, turning), ()) for turning in (-0.5, 0.0, 0.5)])
    planner = Planner(walks)
    made(planner, Command((0.8, 0.0)), 2.0)
    qpos = made(planner, STAND, 4.0)[-50:]
    assert planner.held and np.ptp(qpos, axis=0).max() < 1e-3
    assert np.hypot(*mean_velocity(made(planner, Command((0.8, 0.0)), 3.0)[100:])) > 0.6


def test_a_style_is_kept_and_left(index):
    planner = Planner(index)
    for style, motions in (("squat", 1), ("walk", 12), ("low", 2)):
        rows, _ = index.mask(style)
        made(planner, Command(style=style), 1.0)
        assert rows[planner.row] and index.styles[index.about["styles"].index(style)].sum() == motions
    assert made(planner, Command(style="squat"), 3.0)[-50:, 2].max() < 0.65
    assert made(planner, STAND, 3.0)[-50:, 2].min() > 0.7


def test_a_style_alone_is_played_as_it_comes(tmp_path):
    still, moving = stroll(0.0, seconds=3.0), stroll(0.9, seconds=3.0)
    moving[:, :2] = moving[:1, :2]
    act = np.concatenate([still, moving, still])
    act[:, :2], act[:, 3:7] = 0, still[:1, 3:7]
    acts = build_index(tmp_path / "i", [(act, ("act",)), (stroll(0.0, seconds=9.0), ("rest",))])
    joints = made(Planner(acts), Command(style="act"), 20.0)[:, 7:]
    assert (np.abs(np.diff(joints, axis=0)).max(1) * 50 > 0.3).mean() > 0.3


def test_a_height_is_looked_for(index):
    assert made(Planner(index), Command(height=0.6), 3.0)[-50:, 2].max() < 0.65


def test_an_unknown_style_is_any_style(index):
    known, unknown = (made(Planner(index), Command((0.6, 0), style=style), 2.0) for style in (None, "waltz"))
    np.testing.assert_array_equal(known, unknown)


def test_positions_and_velocities_go_on_without_a_step(index):
    planner = Planner(index)
    random = np.random.default_rng(5)
    parts = []
    for _ in range(12):
        velocity = random.uniform(-1, 1, 2)
        parts.append(made(planner, Command(tuple(velocity), style=random.choice([None, "squat", "creep"])), 1.0))
    qpos = np.concatenate(parts)
    assert planner.jumps > 8
    acceleration = np.abs(np.diff(qpos[:, 7:], 2, axis=0)).max() * 2500
    own = max(np.abs(np.diff(stroll(1.2)[:, 7:], 2, axis=0)).max() * 2500, 1.0)
    assert acceleration < own + 2 * planner.options.blend_acceleration
    root = np.diff(qpos[:, :3], 2, axis=0) * 2500
    assert np.abs(root[:, :2]).max() < 25 and np.abs(root[:, 2]).max() < 60
    assert np.abs(wrap(np.diff(rotations.heading(qpos[:, 3:7]), 2))).max() * 2500 < 60


def test_joints_keep_to_their_ranges_and_speeds(index):
    planner = Planner(index)
    commands = [Command((1.0, 0.0)), Command(style="squat"), Command((-1.0, 0.5)), Command(style="creep"), STAND]
    joints = np.concatenate([made(planner, command, 0.7) for command in commands])[:, 7:]
    assert ((joints >= G1.lower - 1e-9) & (joints <= G1.upper + 1e-9)).all()
    assert (np.abs(np.diff(joints, axis=0)) * 50 <= G1.speed_limit + 1e-6).all()


def test_the_lowest_point_stays_on_the_floor_through_jumps(index):
    planner = Planner(index)
    commands = [Command((1.0, 0.0)), Command(style="squat"), Command((-1.0, 0.5)), STAND]
    qpos = np.concatenate([made(planner, command, 1.5) for command in commands])
    assert np.abs(lowest(qpos)).max() < 0.002


def test_the_lowest_point_is_the_one_that_the_corpus_measures(index):
    qpos = np.asarray(index.qpos[::40], float)
    qpos[:, 7:] += np.random.default_rng(0).normal(0, 0.3, (len(qpos), 29))
    qpos[:, 3:7] = rotations.normalise(qpos[:, 3:7] + np.random.default_rng(1).normal(0, 0.4, (len(qpos), 4)))
    np.testing.assert_allclose(lowest(qpos), postures(G1, qpos).lowest, atol=1e-5)


wild = st.floats(allow_nan=True, allow_infinity=True) | st.floats(-2, 2)
commands = st.builds(
    Command,
    velocity=st.tuples(wild, wild),
    facing=st.none() | wild,
    height=st.none() | wild,
    style=st.none() | st.sampled_from(["walk", "squat", "waltz", ""]),
)


@given(st.lists(commands, min_size=1, max_size=12))
@settings(max_examples=25, deadline=None)
def test_whatever_is_commanded_frames_are_sound(index, told):
    planner = Planner(index)
    qpos = np.concatenate([planner.advance(command) for command in told])
    assert np.isfinite(qpos).all()
    np.testing.assert_allclose(np.linalg.norm(qpos[:, 3:7], axis=1), 1, atol=1e-6)
    assert np.hypot(*np.diff(qpos[:, :2], axis=0).T).max() * 50 < 3


def test_what_is_no_number_is_taken_as_standing(index):
    sound, broken = Planner(index), Planner(index)
    told = Command((math.nan, 0.5), math.inf, math.nan)
    np.testing.assert_array_equal(made(sound, STAND, 1.0), made(broken, told, 1.0))


def test_frames_that_were_seen_coming_do_come(index):
    script = Script([0.0, 1.0, 2.0], [STAND, Command((0.9, 0.0)), Command((0.0, 0.9), style="creep")])
    source = PlannedSource(index, script)
    source.begin()
    seen = [source.look(frame / 50) for frame in range(200)]
    for ahead, place in ((1, 1), (4, 2), (10, 3)):
        for now, then in zip(seen, seen[ahead:], strict=False):
            np.testing.assert_array_equal(now.qpos[place], then.qpos[0])
            np.testing.assert_array_equal(now.velocity[place], then.velocity[0])
    assert all(preview.status == "live" for preview in seen)


def test_velocities_are_those_of_the_frames(index):
    from corpus.motion import RobotMotion, velocity

    source = PlannedSource(index, Script([0.0], [Command((0.9, 0.0))]), frames=(0, 7))
    source.begin()
    seen = [source.look(frame / 50) for frame in range(150)]
    qpos = np.stack([preview.qpos[0] for preview in seen])
    told = velocity(RobotMotion(qpos, 50.0))
    np.testing.assert_allclose(np.stack([p.velocity[0] for p in seen])[1:-1], told[1:-1], atol=1e-9)


def test_a_command_shows_within_a_third_of_a_second(index):
    source = PlannedSource(index, Script([0.0, 1.0], [STAND, Command((1.2, 0.0))]))
    source.begin()
    seen = np.stack([source.look(frame / 50).qpos[0] for frame in range(140)])
    quiet = PlannedSource(index, Script([0.0], [STAND]))
    quiet.begin()
    still = np.stack([quiet.look(frame / 50).qpos[0] for frame in range(140)])
    first = np.flatnonzero(np.abs(seen - still).max(1) > 1e-9)[0]
    assert 50 + 10 < first <= 50 + 10 + 6


def test_a_plan_waits_where_it_begins_until_it_is_followed(index):
    source = PlannedSource(index, Script([0.0], [Command((1.2, 0.0))]))
    waiting = [source.look(frame / 50) for frame in range(30)]
    assert all(np.array_equal(preview.qpos, waiting[0].qpos) and not preview.velocity.any() for preview in waiting)
    source.begin()
    assert np.linalg.norm([source.look(0.6 + frame / 50).qpos[0] for frame in range(100)][-1][:2]) > 0.3


def test_options_are_the_callers(index):
    eager = replace(Planner(index).options, gain=1.0, margin=0.0)
    assert Planner(index, eager).options.gain == 1.0
