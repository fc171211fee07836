"""The cutter: spans that tile, segments of an allowed length, cuts at calm frames and at jumps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus import rotations
from corpus.errors import MotionloomError
from corpus.motion import RobotMotion
from corpus.posture import postures
from corpus.quality import FrameMeasures, frame_measures
from corpus.resample import resample
from corpus.segment import CutOptions, cut


def measures(frame_count: int, **changes: np.ndarray) -> FrameMeasures:
    zero = np.zeros(frame_count)
    content = dict.fromkeys(
        ("slide", "lowest", "at_limit", "speed_use", "jerk", "self_collision", "root_speed", "joint_step", "root_step",
         "position_error", "orientation_error", "smoothing", "contact_match", "contact", "torque_use", "unexplained_force",
         "support_distance", "pressure_distance"), zero,
    )  # fmt: skip
    return FrameMeasures(fps=50.0, **content | changes)


def moving(*, fps: float = 50.0, seconds: float = 4.0) -> RobotMotion:
    t = np.arange(round(fps * seconds)) / fps
    qpos = np.zeros((len(t), 36))
    qpos[:, 0], qpos[:, 2], qpos[:, 3] = t, 0.8, 1.0
    qpos[:, 7:] = 0.3 * np.sin(2 * np.pi * t)[:, None] * (np.arange(29) % 3 == 0)
    return RobotMotion(qpos, fps)


def spans_of(g1, motion: RobotMotion) -> list[tuple[int, int, str | None]]:
    motion = resample(motion, 50.0)
    found = cut(frame_measures(g1, motion, postures(g1, motion.qpos)))
    return [(span.start, span.stop, span.reason) for span in found]


lengths = st.floats(0.04, 8).flatmap(lambda low: st.tuples(st.just(low), st.floats(2 * low, 40), st.floats(0.1, 30)))


@settings(deadline=None, max_examples=150)
@given(st.integers(2, 4000), st.lists(st.integers(1, 3999), max_size=6), st.integers(0, 10**6), lengths)
def test_spans_tile_the_clip_and_segments_have_an_allowed_length(frame_count, jumps, seed, options):
    step = np.zeros(frame_count)
    step[[j for j in jumps if j < frame_count]] = 2.0
    rng = np.random.default_rng(seed)
    # Noise, plateaus, or nothing at all: all must be divisible.
    activity = rng.uniform(0, 1, frame_count) if seed % 3 else np.repeat(rng.uniform(0, 1, 50), 90)[:frame_count]
    activity = activity * (seed % 7 > 0)
    low, high, target = options
    spans = cut(measures(frame_count, joint_step=step, speed_use=activity), CutOptions(low, high, target))
    assert [s.start for s in spans] == [0, *[s.stop for s in spans[:-1]]] and spans[-1].stop == frame_count
    shortest = max(2, int(np.ceil(low * 50 - 1e-6)))
    for span in spans:
        if span.reason is None:
            assert shortest <= span.stop - span.start <= max(high * 50 + 1e-6, 2 * shortest)
        else:
            assert span.stop - span.start < shortest
        assert not (step[span.start + 1 : span.stop] > 0).any()


def test_a_long_clip_is_cut_where_it_is_calm():
    activity = np.ones(1500)
    activity[780:800] = 0
    first, second = cut(measures(1500, speed_use=activity))
    assert 780 <= first.stop <= 800 and second.start == first.stop


def test_a_long_clip_without_a_calm_frame_is_cut_all_the_same():
    spans = cut(measures(5000, speed_use=np.ones(5000)))
    assert len(spans) >= 5 and all(50 <= s.stop - s.start <= 1000 for s in spans)


def test_cuts_lie_in_pauses():
    rng = np.random.default_rng(2)
    parts = [np.append(np.full(rng.integers(200, 400), 0.4), np.zeros(30)) for _ in range(12)]
    activity = np.concatenate(parts)
    spans = cut(measures(len(activity), speed_use=activity))
    assert len(spans) >= 8
    assert max(activity[s.start] for s in spans[1:]) == 0


@pytest.mark.parametrize("seed", range(4))
def test_cuts_far_from_a_change_of_the_start_stay_where_they_were(seed):
    rng = np.random.default_rng(seed)
    activity = np.concatenate(
        [
            np.append(np.full(rng.integers(100, 500), rng.uniform(0.2, 0.4)), np.full(20, rng.uniform(0, 0.05)))
            for _ in range(40)
        ]
    )[:9000]
    whole = {s.start for s in cut(measures(len(activity), speed_use=activity))}
    late = {s.start + 337 for s in cut(measures(len(activity) - 337, speed_use=activity[337:]))}
    far = {at for at in whole if at > 3000}
    assert far == {at for at in late if at > 3000} and len(far) >= 8


def test_a_piece_that_is_too_short_is_cut_away_with_its_reason():
    assert [s.reason for s in cut(measures(30))] == ["too_short"]
    assert [s.reason for s in cut(measures(50))] == [None]
    assert [s.reason for s in cut(measures(30), CutOptions(min_s=0.5))] == [None]


@pytest.mark.parametrize("lengths", [(0, 20, 8), (5, 4, 8), (1, 20, 0)])
def test_lengths_that_make_no_sense_are_refused(lengths):
    with pytest.raises(MotionloomError, match=r"cut\.min_s"):
        CutOptions(*lengths)


def test_a_clip_that_no_allowed_lengths_add_up_to_stays_in_longer_segments():
    spans = cut(measures(22 * 50), CutOptions(min_s=15, max_s=20))
    assert [(s.start, s.stop, s.reason) for s in spans] == [(0, 1100, None)]


# ---------------------------------------------------------------- jumps


def test_a_smooth_motion_is_left_whole(g1):
    assert spans_of(g1, moving()) == [(0, 200, None)]


def test_a_fast_smooth_kick_is_no_jump(g1):
    qpos = moving().qpos
    qpos[:, 10] = 0.9 + 0.8 * np.tanh((np.arange(200) / 50 - 2) / 0.05)
    assert np.abs(np.diff(qpos[:, 10])).max() * 50 > 15
    assert spans_of(g1, RobotMotion(qpos, 50.0)) == [(0, 200, None)]


def test_a_run_at_six_metres_per_second_is_no_jump_but_one_such_step_is():
    assert len(cut(measures(300, root_step=np.full(300, 6.0 / 50)))) == 1
    assert [s.stop for s in cut(measures(300, root_step=np.eye(300)[150] * 6.0 / 50))] == [150, 300]


def jumped(motion: RobotMotion, kind: str) -> RobotMotion:
    qpos, at = motion.qpos.copy(), motion.frame_count // 2
    match kind:
        case "root":
            qpos[at:, 1] += 0.15
        case "far root":
            qpos[at:, 1] += 2.0
        case "joint":
            qpos[at:, 10] += 0.6
        case "heading":
            qpos[at:, 3:7] = rotations.multiply(rotations.about_z(np.full(len(qpos) - at, 2.5)), qpos[at:, 3:7])
    return replace(motion, qpos=qpos)


@pytest.mark.parametrize("kind", ["root", "far root", "joint", "heading"])
def test_a_jump_is_where_the_clip_comes_apart(g1, kind):
    assert spans_of(g1, jumped(moving(), kind)) == [(0, 100, None), (100, 200, None)]


@pytest.mark.parametrize("fps", [30.0, 60.0, 120.0])
@pytest.mark.parametrize("kind", ["far root", "joint", "heading"])
def test_a_jump_spread_by_resampling_is_cut_out_with_its_frames(g1, kind, fps):
    spans = spans_of(g1, jumped(moving(fps=fps), kind))
    assert [reason for _, _, reason in spans if reason is None] == [None, None]
    assert all(reason == "discontinuity" and stop - start <= 3 for start, stop, reason in spans[1:-1])
    assert 95 <= spans[0][1] <= 101 and 99 <= spans[-1][0] <= 105


def test_what_jumps_all_the_time_is_cut_away_whole(g1):
    qpos = moving().qpos
    qpos[:, 7:] += np.random.default_rng(0).normal(size=(200, 29))
    spans = spans_of(g1, RobotMotion(qpos, 50.0))
    assert sum(stop - start for start, stop, _ in spans) == 200
    assert {reason for _, _, reason in spans} == {"discontinuity"}
