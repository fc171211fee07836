"""A live reference judged by the motion that was sent and by `corpus.motion.velocity`, on a made-up clock; once over a real socket."""

from __future__ import annotations

import socket
import time
from dataclasses import replace

import numpy as np
import pytest
from networks import deliver, packets, smooth_motion

from corpus.errors import MotionloomError
from corpus.g1 import G1
from corpus.motion import RobotMotion, velocity
from deploy.live import LiveOptions, LiveSource, Playout
from deploy.packets import encode_qpos

FRAMES = (0, 1, 4, 10)
FINE = 1000.0


def play(arrivals, seconds: float, options: LiveOptions = LiveOptions(), start_s: float = 50.0):
    """Looks every 20 ms; gives the playout and (now, play time, preview) of each look that showed something."""
    playout, waiting, seen = Playout(FRAMES, options), list(arrivals), []
    for k in range(round(seconds * 50)):
        now_s = start_s + k * 0.02
        while waiting and waiting[0][0] <= now_s:
            arrived_s, packet = waiting.pop(0)
            playout.buffer.push(packet, arrived_s)
        preview = playout.look(now_s)
        if preview is not None:
            assert np.isfinite(preview.qpos).all() and np.isfinite(preview.velocity).all()
            seen.append((now_s, playout.at_s, preview))
    return playout, seen


def errors(seen, start_s: float = 100.0) -> tuple[float, float]:
    """Largest error of joints [rad] and root [m], and of joint speeds [rad/s] and the root's [m/s, rad/s], over all frames."""
    fine = RobotMotion(smooth_motion(np.arange(0, 12, 1 / FINE)), FINE)
    speed = velocity(fine)
    places, speeds = [], []
    for _, at_s, preview in seen:
        rows = np.rint((at_s - start_s + np.array(FRAMES) * 0.02) * FINE).astype(int)
        places.append(np.abs(np.delete(preview.qpos - fine.qpos[rows], slice(3, 7), 1)).max())
        speeds.append(np.abs(preview.velocity - speed[rows]).max())
    return float(np.max(places)), float(np.max(speeds))


def test_an_undisturbed_stream_is_shown_as_it_is():
    _, seen = play(deliver(packets(6.0)), 5.5)
    place, speed = errors(seen[5:])
    assert place < 0.01 and speed < 0.35
    assert {preview.status for _, _, preview in seen} == {"live"}
    assert max(preview.age_s for _, _, preview in seen) == 0.0


@pytest.mark.parametrize("seed", range(4))
def test_a_bad_network_changes_little(seed):
    arrivals = deliver(packets(8.0), seed=seed, lost=0.05, jitter_s=0.02, doubled=0.05)
    _, seen = play(arrivals, 7.5)
    place, speed = errors(seen[5:])
    assert place < 0.05 and speed < 1.5
    assert {preview.status for _, _, preview in seen} == {"live"}


def test_each_look_is_one_frame_further():
    _, seen = play(deliver(packets(6.0), jitter_s=0.02), 5.5)
    steps = np.diff([at_s for _, at_s, _ in seen])
    assert steps == pytest.approx(0.02, abs=0.0005)


def test_a_posture_is_shown_its_delay_after_it_came():
    options = LiveOptions(jitter_s=0.03, preview_s=0.1)
    _, seen = play(deliver(packets(4.0), delay_s=0.01, ahead_s=-50.0), 3.5, options)
    for now_s, at_s, _ in seen:
        assert now_s - (at_s - 50.0) == pytest.approx(0.01 + 0.13, abs=0.011)


@pytest.mark.parametrize("rate", [0.99, 1.01])
def test_a_clock_that_runs_otherwise_neither_runs_dry_nor_piles_up(rate):
    playout, seen = play(deliver(packets(20.0), jitter_s=0.01, rate=rate), 19 * rate)
    ahead = [playout.options.delay_s(FRAMES)]
    for now_s, at_s, preview in seen[300:]:
        assert preview.status == "live" and preview.age_s == 0.0
        newest = 100.0 + (now_s - 50.0 - 0.01) / rate
        ahead.append(newest - at_s)
    assert np.ptp(ahead) < 0.02


@pytest.mark.parametrize("preview_s", [0.0, 0.05])
def test_with_less_preview_what_lies_ahead_is_guessed_within_limits(preview_s):
    _, seen = play(deliver(packets(6.0)), 5.5, LiveOptions(preview_s=preview_s))
    for _, at_s, preview in seen[10:]:
        wanted = smooth_motion(at_s - 100.0 + np.array(FRAMES) * 0.02)
        assert np.abs(preview.qpos[:2, 7:] - wanted[:2, 7:]).max() < 0.06
        assert np.abs(preview.qpos[3, 7:] - wanted[3, 7:]).max() < 0.8
        assert (preview.qpos[:, 7:] >= G1.lower).all() and (preview.qpos[:, 7:] <= G1.upper).all()
        assert np.abs(preview.velocity[3]).max() <= np.abs(preview.velocity[1]).max() + 1.0


def test_a_noisy_sender_does_not_shake_the_velocities():
    rng = np.random.default_rng(0)
    sent = [replace(p, qpos=p.qpos + np.concatenate([np.zeros(7), rng.normal(size=29) * 0.002])) for p in packets(6.0)]
    _, seen = play(deliver(sent), 5.5)
    _, speed = errors(seen[5:])
    assert speed < 0.35 + 6 * 0.002 * 50 * 0.75


def test_when_data_stop_it_is_held_and_says_since_when():
    _, seen = play(deliver(packets(2.0)), 4.0)
    states = [(now_s, preview) for now_s, _, preview in seen]
    held = [(now_s, preview) for now_s, preview in states if preview.status == "held"]
    assert held and held[0][0] == pytest.approx(50.0 + 1.98 + 0.01 + 0.02 + 0.03 + 0.1, abs=0.03)
    assert all(preview.status == "held" for now_s, preview in states if now_s >= held[0][0])
    assert held[-1][1].age_s == pytest.approx(held[-1][0] - 52.04, abs=0.01)
    assert np.abs(held[-1][1].velocity).max() < 1e-3
    joints = np.array([preview.qpos[0, 7:] for _, preview in states])
    assert np.abs(np.diff(joints, axis=0)).max() * 50 < 5.0


def test_the_last_packet_ends_it_after_it_was_played():
    _, seen = play(deliver(packets(2.0, end=True)), 4.0)
    states = [preview.status for _, _, preview in seen]
    assert set(states) == {"live", "ended"}
    first = states.index("ended")
    assert seen[first][1] == pytest.approx(101.98, abs=0.021)
    assert states[first:] == ["ended"] * len(states[first:])


def test_after_a_short_break_it_goes_on_without_a_jump():
    sent = packets(4.0)
    arrivals = [(max(at, 52.35) if 52.0 < at < 52.35 else at, p) for at, p in deliver(sent)]  # a network that stalled
    _, seen = play(sorted(arrivals, key=lambda pair: pair[0]), 3.8)
    joints = np.array([preview.qpos[0] for _, _, preview in seen])
    fastest = np.abs(np.diff(np.array([p.qpos for p in sent]), axis=0)).max()
    assert np.abs(np.diff(np.delete(joints, slice(3, 7), 1), axis=0)).max() < 4 * fastest
    assert "held" in {preview.status for _, _, preview in seen}
    assert seen[-1][2].status == "live"


def test_another_take_waits_until_it_is_due_and_is_counted():
    other = packets(2.0, stream=2, start_s=500.0, seed=3)
    arrivals = deliver(packets(1.0)) + deliver(other, ahead_s=500.0 - 948.0)
    playout, seen = play(arrivals, 4.0)
    assert playout.take == 2
    changed = [k for k in range(1, len(seen)) if abs(seen[k][1] - seen[k - 1][1]) > 100]
    assert len(changed) == 1
    assert seen[changed[0]][2].status == "held"  # still the old posture
    for _, at_s, preview in seen[changed[0] + 1 :]:
        if preview.status == "live" and at_s > 500.1:
            assert np.abs(preview.qpos[0, 7:] - smooth_motion(np.array([at_s - 500.0]), 3)[0, 7:]).max() < 0.01


def test_a_stranger_among_the_packets_moves_nothing():
    stranger = packets(4.0, stream=2, start_s=7.0, seed=9)
    mixed = sorted(deliver(packets(4.0)) + deliver(stranger, ahead_s=43.005), key=lambda pair: pair[0])
    _, seen = play(mixed, 3.8)
    assert errors(seen[5:])[0] < 0.01


def test_the_newest_packet_is_told_once():
    arrivals = deliver(packets(3.0))
    playout, waiting, told = Playout(FRAMES), list(arrivals), []
    for k in range(140):
        now_s = 50.0 + k * 0.02
        while waiting and waiting[0][0] <= now_s:
            at, packet = waiting.pop(0)
            playout.buffer.push(packet, at)
        if playout.look(now_s) is not None and playout.newest_used:
            told.append((playout.newest_used, now_s))
    made = [times.made_s for times, _ in told]
    assert made == sorted(set(made)) and len(made) > 100
    assert all(0 <= now_s - times.arrived_s < 0.06 for times, now_s in told[5:])


def test_over_a_socket_with_rubbish_between():
    source = LiveSource(0, FRAMES, LiveOptions(preview_s=0.0))
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        assert source.look(time.monotonic()) is None
        sent, shown = packets(0.6), []
        for packet in sent:
            packet = replace(packet, time_s=time.monotonic())
            sender.sendto(encode_qpos(packet), ("127.0.0.1", source.port))
            sender.sendto(b"rubbish", ("127.0.0.1", source.port))
            time.sleep(0.02)
            shown.append(source.look(time.monotonic()))
        assert shown[-1] is not None and source.playout.take == 1
        at_s = source.playout.at_s
        source.begin()
        source.look(time.monotonic())
        assert source.playout.at_s == pytest.approx(at_s, abs=1e-3)
        assert source.refused["magic"] >= 20
        near = min(np.abs(shown[-1].qpos[0, 7:] - p.qpos[7:]).max() for p in sent)
        assert near < 0.1
    finally:
        sender.close()
        source.close()


def test_a_port_that_is_taken_is_an_error_that_says_so():
    source = LiveSource(0)
    with pytest.raises(MotionloomError, match=str(source.port)):
        LiveSource(source.port)
    source.close()


@pytest.mark.parametrize("frames", [(), (1, 4), (0, 4, 4)])
def test_frames_rise_from_now(frames):
    with pytest.raises(MotionloomError, match="rise from 0"):
        Playout(frames)
