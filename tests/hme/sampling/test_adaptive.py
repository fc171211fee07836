"""Where a made-up tracker fails, windows begin more often; capped, spread to what comes before, and less so once it has learned."""

from __future__ import annotations

import numpy as np
import pytest

from corpus.errors import MotionloomError
from corpus.loading.sampler import Draw, Sampler
from corpus.loading.sampling_plan import bin_count
from hme.sampling.adaptive import PRESETS, AdaptiveBins, AdaptiveOptions

FRAMES = np.array([400, 250, 120, 90, 500, 60])
BIN = 50
OWNER = np.repeat(np.arange(6), bin_count(FRAMES, BIN))
FIRST = np.cumsum(bin_count(FRAMES, BIN)) - bin_count(FRAMES, BIN)
HARD = FIRST[4] + 3, FIRST[0] + 5
"""Bins in which the tracker fails, at the frames 150 to 199 and 250 to 299 of their segments."""
OPTIONS = AdaptiveOptions(uniform=0.1, prior=0.1)


def bin_of(draw: Draw) -> np.ndarray:
    return FIRST[draw.segment] + draw.frame // BIN


def train(bins: AdaptiveBins, chance: np.ndarray, rounds: range, options: AdaptiveOptions = OPTIONS) -> np.ndarray:
    """Rounds of 2,000 windows drawn by the plan, failing by chance; gives each bin's share of the last round's."""
    share = np.zeros(len(chance))
    for number in rounds:
        draw = Sampler(bins.plan(options), FRAMES, window=1, batch_size=2000, seed=1).draw(number)
        failed = np.random.default_rng(number).random(2000) < chance[bin_of(draw)]
        bins.update(draw.segment, draw.frame, failed)
        share = np.bincount(bin_of(draw), minlength=len(chance)) / 2000
    return share


def tracker(hard: float, easy: float = 0.02) -> np.ndarray:
    chance = np.full(len(OWNER), easy)
    chance[list(HARD)] = hard
    return chance


def test_windows_gather_where_the_tracker_fails_as_the_formula_says_and_leave_when_it_has_learned():
    bins = AdaptiveBins(FRAMES, bin_frames=BIN, half_life=3)
    size = np.minimum(FRAMES[OWNER] - (np.arange(len(OWNER)) - FIRST[OWNER]) * BIN, BIN)
    share = train(bins, tracker(0.9), range(40))
    by_failure = size * tracker(0.9)
    expected = 0.9 * by_failure / by_failure.sum() + 0.1 * size / size.sum()
    hard = list(HARD)
    assert share[hard].sum() == pytest.approx(expected[hard].sum(), abs=0.06) and expected[hard].sum() > 0.6
    assert share.min() > 0  # the uniform part leaves nothing out
    even = size / size.sum()
    after = train(bins, tracker(0.02), range(40, 80))
    assert after[hard].sum() < 1.8 * even[hard].sum() < share[hard].sum() / 3


def test_rates_are_capped_at_a_multiple_of_the_mean():
    bins = AdaptiveBins(FRAMES, bin_frames=BIN)
    size = np.minimum(FRAMES[OWNER] - (np.arange(len(OWNER)) - FIRST[OWNER]) * BIN, BIN)
    tries = np.repeat(np.arange(len(OWNER)), 100)
    failed = np.isin(tries, HARD) & (np.arange(len(tries)) % 100 < 80)
    bins.update(OWNER[tries], (tries - FIRST[OWNER[tries]]) * BIN, failed)
    rate = np.where(np.isin(np.arange(len(OWNER)), HARD), 0.8, 0.0)
    for cap in (1.0, 3.0, 1e9):
        plan = bins.plan(AdaptiveOptions(uniform=0.2, cap=cap, prior=0.0))
        kept = size * np.minimum(rate, cap * (size * rate).sum() / size.sum())
        expected = 0.8 * kept / kept.sum() + 0.2 * size / size.sum()
        assert plan.bins is not None
        assert np.allclose(plan.bins / plan.bins.sum(), expected, rtol=1e-5)
        assert np.allclose(plan.weights, np.bincount(OWNER, expected), rtol=1e-5)


def test_a_failure_counts_for_the_bins_before_it_too():
    """β, 0.8 β, 0.64 β … backwards, never into another segment."""
    bins = AdaptiveBins(FRAMES, bin_frames=BIN)
    every = np.arange(len(OWNER))
    bins.update(OWNER, (every - FIRST[OWNER]) * BIN, np.isin(every, [HARD[0], FIRST[1]]))
    rate = bins.rate(AdaptiveOptions(prior=0.0, kernel=3, kernel_decay=0.8))
    expected = np.zeros(len(OWNER))
    expected[HARD[0] - 2 : HARD[0] + 1] = np.array([0.64, 0.8, 1]) / 2.44
    expected[FIRST[1]] = 1 / 2.44
    assert np.allclose(rate, expected)


def test_what_was_never_tried_counts_as_failed_once():
    bins = AdaptiveBins(FRAMES, bin_frames=BIN)
    assert np.allclose(bins.rate(), 1)
    bins.update(np.full(9, 4), np.full(9, 160), np.zeros(9, bool))
    assert bins.rate()[HARD[0]] == pytest.approx(0.1) and (np.delete(bins.rate(), HARD[0]) == 1).all()


def test_old_counts_fade_by_the_half_life():
    bins = AdaptiveBins(FRAMES, half_life=4)
    bins.update(np.array([4]), np.array([160]), np.array([True]))
    for _ in range(8):
        bins.update(np.zeros(0, int), np.zeros(0, int), np.zeros(0, bool))
    assert bins.attempts[HARD[0]] == pytest.approx(0.25) and bins.failures[HARD[0]] == pytest.approx(0.25)
    assert bins.rounds == 9


def test_what_is_long_past_is_forgotten():
    bins = AdaptiveBins(FRAMES, half_life=0.1)
    bins.update(np.array([4]), np.array([160]), np.array([True]))
    for _ in range(3):
        bins.update(np.zeros(0, int), np.zeros(0, int), np.zeros(0, bool))
    assert not bins.attempts.any() and not bins.failures.any()


def test_an_attempt_from_start_to_end_tries_every_bin_on_the_way_and_fails_in_the_last():
    bins = AdaptiveBins(FRAMES, bin_frames=BIN)
    bins.update(np.array([4, 0]), np.array([230, 399]), np.array([True, False]), start=np.array([60, 380]))
    assert np.flatnonzero(bins.attempts).tolist() == [FIRST[0] + 7, *range(FIRST[4] + 1, FIRST[4] + 5)]
    assert np.flatnonzero(bins.failures).tolist() == [FIRST[4] + 4]


def test_failures_too_late_for_a_window_count_for_the_last_that_begins():
    bins = AdaptiveBins(FRAMES, bin_frames=BIN, window=64)
    bins.update(np.array([4]), np.array([499]), np.array([True]))
    assert np.flatnonzero(bins.failures).tolist() == [FIRST[4] + (500 - 64) // BIN]
    plan = bins.plan()
    assert plan.weights[5] == 0  # 60 frames
    draw = Sampler(plan, FRAMES, window=64, batch_size=20_000, seed=0).draw(0)
    assert (draw.frame + 64 <= FRAMES[draw.segment]).all()


def test_a_mask_is_kept():
    bins = AdaptiveBins(FRAMES)
    plan = bins.plan(mask=np.arange(6) != 4)
    assert plan.weights[4] == 0 and plan.weights.sum() == pytest.approx(1)
    with pytest.raises(MotionloomError, match="No segment that may be drawn has 1 frames"):
        bins.plan(mask=np.zeros(6, bool))


def test_presets_say_how_much_is_uniform():
    assert [PRESETS[name].uniform for name in ("sonic", "sonic_paper", "beyondmimic")] == [0.1, 0.9, 0.1]
    for options in PRESETS.values():
        assert np.isfinite(AdaptiveBins(FRAMES).plan(options).weights).all()


def test_no_failure_anywhere_is_uniform():
    plan = AdaptiveBins(FRAMES).plan(PRESETS["beyondmimic"])
    assert np.allclose(plan.weights, FRAMES / FRAMES.sum())


def test_feedback_goes_on_from_its_state_and_from_its_file_to_the_last_bit(tmp_path):
    one = AdaptiveBins(FRAMES, bin_frames=BIN, half_life=3)
    train(one, tracker(0.9), range(5))
    one.save(tmp_path / "feedback.npz")
    loaded, stated = AdaptiveBins.load(tmp_path / "feedback.npz", FRAMES), AdaptiveBins(FRAMES, half_life=3)
    stated.load_state_dict(one.state_dict())
    before = one.plan(OPTIONS).hash
    for other in (loaded, stated):
        assert other.plan(OPTIONS).hash == before and other.rounds == 5
    shares = [train(bins, tracker(0.9), range(5, 8)) for bins in (one, loaded, stated)]
    assert np.array_equal(shares[0], shares[1]) and np.array_equal(shares[0], shares[2])
    assert one.plan(OPTIONS).hash == loaded.plan(OPTIONS).hash != before
    assert [entry.name for entry in tmp_path.iterdir()] == ["feedback.npz"]


def test_feedback_of_other_segments_or_bins_is_refused(tmp_path):
    one = AdaptiveBins(FRAMES)
    one.save(tmp_path / "feedback.npz")
    with pytest.raises(MotionloomError, match="The feedback has segments"):
        AdaptiveBins.load(tmp_path / "feedback.npz", FRAMES + 1)
    with pytest.raises(MotionloomError, match="bin_frames 50, these segments 25"):
        AdaptiveBins(FRAMES, bin_frames=25).load_state_dict(one.state_dict())
    (tmp_path / "feedback.npz").write_bytes(b"no")
    with pytest.raises(MotionloomError, match="no feedback of a tracker"):
        AdaptiveBins.load(tmp_path / "feedback.npz", FRAMES)


@pytest.mark.parametrize(("segment", "frame", "start"), [(6, 0, 0), (-1, 0, 0), (0, 400, 0), (0, 10, 11), (0, 5, -1)])
def test_attempts_outside_their_segment_are_refused(segment, frame, start):
    with pytest.raises(MotionloomError, match="should begin and end"):
        AdaptiveBins(FRAMES).update(np.array([segment]), np.array([frame]), np.array([True]), start=np.array([start]))
