"""A live stream judged by the whole clip's retargeting, by its own past, and by what it must never do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.errors import Rejected
from corpus.motion import HumanMotion
from corpus.posture import postures
from corpus.sources.synthetic_moves import human_motion
from retarget.retarget import RetargetOptions, retarget
from retarget.smooth import SmoothOptions, smooth
from retarget.stream import Posture, Stream, StreamOptions, _shares

FPS = 50.0


@pytest.fixture(scope="module")
def walk() -> HumanMotion:
    return human_motion("walk", seed=1, seconds=5.0, fps=FPS)


def live(human: HumanMotion, options: StreamOptions = StreamOptions(), first: int = 0) -> list[Posture]:
    stream = Stream(human.skeleton, human.fps, options=options)
    given = [stream.push(human.position[k], human.rotation[k]) for k in range(first, human.frame_count)]
    return [posture for posture in given if posture is not None] + stream.finish()


def path(postures: list[Posture]) -> np.ndarray:
    return np.array([posture.qpos for posture in postures])


@pytest.mark.parametrize("move", ["walk", "turn", "squat", "reach"])
def test_it_follows_as_the_whole_clip_would(move):
    human = human_motion(move, seed=3, seconds=4.0, fps=FPS)
    qpos, whole = path(live(human)), retarget(human).motion.qpos
    assert len(qpos) == human.frame_count
    count = min(len(qpos), len(whole))
    assert np.abs(qpos[:count, 7:] - whole[:count, 7:]).mean() < 0.03
    assert np.linalg.norm(qpos[:count, :3] - whole[:count, :3], axis=1).mean() < 0.02


@pytest.mark.parametrize("lag", [0, 1, 2])
def test_a_posture_waits_for_so_many_frames_and_no_more(walk, lag):
    stream = Stream(walk.skeleton, FPS, options=StreamOptions(lag=lag))
    for k in range(8):
        posture = stream.push(walk.position[k], walk.rotation[k])
        assert (posture is None) == (k < lag)
        if posture is not None:
            assert posture.frame == k - lag
    assert [posture.frame for posture in stream.finish()] == list(range(8 - lag, 8))
    assert stream.finish() == []


def test_the_future_beyond_the_lag_changes_nothing(walk):
    one, other = Stream(walk.skeleton, FPS), Stream(walk.skeleton, FPS)
    for k in range(30):
        a, b = (stream.push(walk.position[k], walk.rotation[k]) for stream in (one, other))
        assert (a is None and b is None) or np.array_equal(a.qpos, b.qpos)
    far = walk.position[30] + [0.3, 0.0, 0.0]
    a, b = one.push(walk.position[30], walk.rotation[30]), other.push(far, walk.rotation[30])
    assert not np.array_equal(a.qpos, b.qpos)  # within the lag it counts


def test_a_fifth_of_a_second_after_the_start_nobody_knows_when_that_was(walk):
    early, late = path(live(walk))[60:], path(live(walk, first=60))
    settled = round(0.2 * FPS)
    assert np.abs(early[settled:, 7:] - late[settled:, 7:]).max() < 0.05
    assert np.abs(early[settled:, :3] - late[settled:, :3]).max() < 0.03


def test_joints_keep_to_their_limits_and_speeds(g1):
    human = human_motion("kick", seed=2, seconds=3.0, fps=FPS)
    jumps = human.position.copy()
    jumps[70:, :, 0] += 0.8  # what a lost tracker does
    qpos = path(live(replace(human, position=jumps)))
    assert (qpos[:, 7:] >= g1.lower - 1e-6).all() and (qpos[:, 7:] <= g1.upper + 1e-6).all()
    assert (np.abs(np.diff(qpos[:, 7:], axis=0)) * FPS <= g1.speed_limit).all()


def test_a_standing_foot_stays_where_it_is(g1, walk):
    given = live(walk)
    outside, stands = postures(g1, path(given)), np.array([posture.stands for posture in given])
    assert 0.3 < stands.mean() < 0.95
    ends = np.stack([outside.soles[:, outside.sole_group == group].mean(1).T for group in range(4)], 1)
    speed = np.linalg.norm(np.diff(ends[:, :, :2], axis=0), axis=2) * FPS
    assert np.median(speed[stands[1:] & stands[:-1]]) < 0.03
    assert outside.lowest.min() > -0.025


@pytest.mark.parametrize("height", [-0.4, 0.0, 1.2])
def test_the_floor_is_found_where_the_feet_stand(g1, height):
    human = human_motion("squat", seed=5, seconds=3.0, fps=FPS)
    raised = replace(human, position=human.position + [0.0, 0.0, height])
    lowest = postures(g1, path(live(raised))).lowest
    assert np.abs(lowest[10:]).max() < 0.02


def test_a_floor_that_is_told_is_believed(g1, walk):
    lower = replace(walk, position=walk.position + [0.0, 0.0, 0.5])
    held = postures(g1, path(live(lower, StreamOptions(floor=0.0)))).lowest
    assert held.min() > 0.3


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_a_broken_frame_is_refused_and_forgotten(data):
    human = human_motion("walk", seed=1, seconds=0.4, fps=FPS)
    k = data.draw(st.integers(0, human.frame_count - 1))
    position, rotation = human.position[k].copy(), human.rotation[k].copy()
    kind = data.draw(st.sampled_from(["nan", "inf", "no turn", "shape", "joints"]))
    joint = data.draw(st.integers(0, len(position) - 1))
    if kind == "nan":
        position[joint, 1] = np.nan
    elif kind == "inf":
        rotation[joint, 2] = np.inf
    elif kind == "no turn":
        rotation[joint] = 0.0
    elif kind == "shape":
        position = position[:, :2]
    else:
        position, rotation = position[:-1], rotation[:-1]
    whole, broken = Stream(human.skeleton, FPS), Stream(human.skeleton, FPS)
    for t in range(human.frame_count):
        if t == k:
            with pytest.raises(Rejected):
                broken.push(position, rotation)
        a, b = (stream.push(human.position[t], human.rotation[t]) for stream in (whole, broken))
        assert (a is None and b is None) or np.array_equal(a.qpos, b.qpos)


def test_of_a_fast_stream_every_second_frame_is_taken():
    human = human_motion("walk", seed=1, seconds=2.0, fps=120.0)
    slow = replace(human, position=human.position[::2], rotation=human.rotation[::2], fps=60.0)
    fast, half = live(human), live(slow)
    assert [posture.frame for posture in fast] == [2 * posture.frame for posture in half]
    assert np.array_equal(path(fast), path(half))


def test_seen_from_the_middle_of_its_memory_the_smoother_is_that_of_whole_clips(g1):
    rng = np.random.default_rng(0)
    qpos = np.zeros((25, 36))
    qpos[:, 3] = 1.0
    qpos[:, 7:] = np.cumsum(rng.normal(size=(25, 29)) * 0.01, 0)
    whole = smooth(g1, qpos, [0], FPS, SmoothOptions(cutoff=6.0, speed_share=0.0))
    shares = _shares(25, 2, FPS, (4.0, 6.0))[25, 2]
    assert np.abs(shares[1] @ qpos[:, 7:] - whole[22, 7:]).max() < 1e-9


@pytest.mark.parametrize("fps", [0.0, 2.0, np.nan, 1e5])
def test_a_rate_that_is_none_is_refused(walk, fps):
    with pytest.raises(ValueError, match="frames a second"):
        Stream(walk.skeleton, fps)


def test_it_runs_at_the_rate_it_is_told(walk):
    slow = replace(walk, position=walk.position[::2], rotation=walk.rotation[::2], fps=FPS / 2)
    whole = retarget(slow, options=replace(RetargetOptions(), fps=FPS / 2)).motion.qpos
    qpos = path(live(slow))
    count = min(len(whole), len(qpos))
    assert np.abs(qpos[:count, 7:] - whole[:count, 7:]).mean() < 0.04


@pytest.mark.data
def test_real_takes_come_out_as_from_whole_clips(shared):
    from corpus.sources import source
    from corpus.sources.options import LoadOptions

    reader = source("lafan1")
    for clip in reader.scan(shared / "lafan1_bvh"):
        if not clip.path.endswith(".bvh"):
            continue
        human = reader.load(shared / "lafan1_bvh", clip, LoadOptions())
        if human.frame_count < 600:
            continue
        human = replace(human, position=human.position[:600], rotation=human.rotation[:600])
        qpos = path(live(human))
        whole = retarget(human, options=replace(RetargetOptions(), fps=human.fps)).motion.qpos
        assert np.abs(qpos[: len(whole), 7:] - whole[:, 7:]).mean() < 0.03
