"""The jitter buffer judged by the motion that was sent, on made-up clocks and networks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import deliver, packets, smooth_motion

from corpus.g1 import G1
from deploy.clock import SenderClock
from deploy.jitter import OUTCOMES, JitterBuffer


def filled(arrivals) -> JitterBuffer:
    buffer = JitterBuffer(0.03)
    for arrived_s, packet in arrivals:
        buffer.push(packet, arrived_s)
    return buffer


def truth(times: np.ndarray) -> np.ndarray:
    return smooth_motion(times - 100.0)


def worst(found: np.ndarray, wanted: np.ndarray) -> float:
    """Largest difference of a joint or coordinate, quaternions up to their sign."""
    sign = np.sign((found[:, 3:7] * wanted[:, 3:7]).sum(1, keepdims=True))
    return float(
        max(
            np.abs(found[:, 3:7] * sign - wanted[:, 3:7]).max(), np.abs(np.delete(found - wanted, slice(3, 7), 1)).max()
        )
    )


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.integers(0, 2**32 - 1))
def test_order_and_doubles_do_not_matter(seed, first):
    sent = packets(1.5, first=first)
    buffer = filled(deliver(sent, seed=seed, jitter_s=0.06, doubled=0.3))
    times = 100.0 + np.arange(0.1, 1.4, 0.013)
    assert buffer.counts["taken"] == len(sent)
    assert set(buffer.counts) <= {"taken", "double"}
    assert worst(buffer.at(times), truth(times)) < 0.01


@pytest.mark.parametrize("seed", range(5))
def test_single_losses_are_interpolated(seed):
    sent = packets(4.0)
    rng = np.random.default_rng(seed)
    kept = [p for k, p in enumerate(sent) if k % 3 or rng.random() < 0.5]
    times = 100.0 + np.arange(0.1, 3.9, 0.02)
    assert worst(filled(deliver(kept)).at(times), truth(times)) < 0.02


def test_it_plays_a_delay_after_the_quickest_packets():
    buffer = filled(deliver(packets(4.0), jitter_s=0.02, delay_s=0.01, ahead_s=-50.0))
    assert buffer.play_time(54.0) == pytest.approx(54.0 + 50.0 - 0.01 - 0.03, abs=0.002)


@pytest.mark.parametrize("rate", [0.99, 1.0, 1.01])
@pytest.mark.parametrize("seed", range(3))
def test_the_senders_clock_is_known_though_it_drifts(rate, seed):
    clock, rng = SenderClock(4.0), np.random.default_rng(seed)
    for k in range(1000):
        sent_s = k * 0.02
        arrived_s = sent_s * rate + 7.0 + rng.uniform(0, 0.02)
        clock.add(sent_s, arrived_s)
        if k > 200:
            now_s = sent_s * rate + 7.0
            assert clock.offset(now_s) == pytest.approx(now_s - sent_s, abs=0.006)


def test_what_was_played_is_late():
    sent = packets(1.0)
    buffer = filled(deliver(sent[:20] + sent[21:30]))
    buffer.played_s = sent[20].time_s + 0.001
    assert buffer.push(sent[20], 51.0) == "late"
    assert buffer.push(sent[30], 51.0) == "taken"


def test_a_second_sender_is_not_heard_while_the_first_speaks():
    one, other = packets(3.0, stream=1), packets(3.0, stream=2, start_s=77.0, seed=5)
    mixed = sorted(deliver(one) + deliver(other, ahead_s=-26.99), key=lambda pair: pair[0])
    buffer = filled(mixed)
    assert (buffer.stream, buffer.takes) == (1, 1)
    assert buffer.counts == {"taken": 150, "other_sender": 150}


def test_a_sender_that_starts_anew_takes_over_after_a_silence():
    one, other = packets(1.0, stream=1), packets(3.0, stream=2, start_s=5.0, seed=1)
    buffer = filled(deliver(one) + deliver(other, ahead_s=46.2))  # 0.2 s after the first's end
    assert (buffer.stream, buffer.takes) == (2, 2)
    assert 10 <= buffer.counts["other_sender"] <= 16
    times = 5.0 + np.arange(1.0, 2.9, 0.02)
    assert worst(buffer.at(times), smooth_motion(times - 5.0, seed=1)) < 0.01


def test_after_the_end_only_another_stream_begins():
    one, other = packets(1.0, end=True), packets(1.0, stream=2, start_s=5.0)
    buffer = filled(deliver(one))
    assert buffer.end_s == one[-1].time_s
    assert buffer.push(one[-1], 52.0) == "double"
    assert buffer.push(replace(one[-1], sequence=one[-1].sequence + 1), 53.0) == "after_end"
    assert buffer.push(other[0], 54.0) == "taken"
    assert buffer.end_s is None


def test_times_that_contradict_each_other_are_refused():
    sent = packets(1.0)
    buffer = filled(deliver(sent[:20]))
    assert buffer.push(replace(sent[20], time_s=sent[18].time_s), 50.5) == "order"
    assert buffer.push(replace(sent[20], time_s=sent[20].time_s + 100), 50.5) == "clock"
    assert buffer.push(sent[20], 50.5) == "taken"


def test_joints_beyond_the_robots_limits_are_cut():
    (sent,) = packets(0.02)
    qpos = sent.qpos.copy()
    qpos[7:] = 9.0
    buffer = filled([(1.0, replace(sent, qpos=qpos))])
    assert np.allclose(buffer.at(np.array([100.0]))[0, 7:], G1.upper)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 2**32 - 1) | st.integers(0, 8),
            st.sampled_from([1, 1, 1, 2]),
            st.floats(-1e10, 1e10) | st.floats(0, 2),
            st.floats(0, 0.3),
            st.booleans(),
        ),
        max_size=40,
    )
)
def test_whatever_comes_the_motion_is_one(history):
    buffer, now_s, (made,) = JitterBuffer(0.03), 1.0, packets(0.02)
    for sequence, stream, time_s, passed_s, last in history:
        now_s += passed_s
        packet = replace(made, sequence=sequence, stream=stream, time_s=time_s, last=last)
        assert buffer.push(packet, now_s) in OUTCOMES
        play_s = buffer.play_time(now_s)
        qpos = buffer.at(play_s + np.array([-0.1, 0.0, 0.2]))
        assert np.isfinite(qpos).all()
        assert (qpos[:, 7:] >= G1.lower).all() and (qpos[:, 7:] <= G1.upper).all()
        assert (np.diff(buffer.times) > 0).all() and (np.diff(buffer.numbers) > 0).all()
        buffer.played_s = max(buffer.played_s, play_s)
        buffer.forget(buffer.played_s)
