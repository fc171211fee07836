"""Live retargeting judged by loading the same take and pushing it through `Stream`, with and without a network's faults."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.motion import Clip, HumanMotion, RobotMotion
from corpus.sources import bvh, motionx
from corpus.sources.options import LoadOptions
from corpus.sources.synthetic_files import write_amass_smplh, write_lafan1, write_motionx
from corpus.sources.synthetic_layouts import on_layout
from corpus.sources.synthetic_moves import human_motion
from deploy.datagrams import open_port, receive
from deploy.live import Playout
from deploy.packets import BadPacket, QposPacket, decode, seal
from pipelines.one_file import read_file
from pipelines.streaming.human_packets import (
    FRAME,
    HELLO,
    HumanFrame,
    HumanHello,
    decode_human,
    encode_frame,
    encode_hello,
)
from pipelines.streaming.people import person
from pipelines.streaming.player import BadNetwork, HumanTake, human_schedule, human_take, robot_schedule, smpl_take
from pipelines.streaming.retargeter import LiveRetargeter, Pacer
from retarget.stream import Stream

ROOT = Path(__file__).resolve().parents[2]


def heard(take: HumanTake, network: BadNetwork = BadNetwork(), **how) -> tuple[LiveRetargeter, list[QposPacket]]:
    retargeter = LiveRetargeter(seed=0)
    found = []
    for at_s, data in human_schedule(take, 10.0, 77, network, **how):
        found += retargeter.hear(data, at_s + 0.001)
    return retargeter, found


def streamed(human: HumanMotion) -> np.ndarray:
    """What `Stream` alone makes of it, at its own rate."""
    stream = Stream(human.skeleton, human.fps)
    found = [stream.push(human.position[k], human.rotation[k]) for k in range(human.frame_count)]
    return np.array([posture.qpos for posture in [p for p in found if p is not None] + stream.finish()])


def path(packets: list[QposPacket]) -> np.ndarray:
    return np.array([packet.qpos for packet in packets])


@pytest.fixture(scope="module")
def walk() -> HumanMotion:
    return human_motion("walk", seed=1, seconds=2.0, fps=50.0)


@pytest.mark.parametrize("kind", ["smpl", "smplx"])
def test_a_sent_smpl_frame_is_the_frame_that_was_loaded(walk, kind):
    take = smpl_take(walk, kind)
    who = person(take.hello, take.frames[0])
    for k in (0, 30, 99):
        position, rotation = who.pose(take.frames[k].astype(np.float32).astype(float))
        assert np.abs(position - walk.position[k]).max() < 1e-5
        assert np.abs(np.abs((rotation * walk.rotation[k]).sum(1)) - 1).max() < 1e-6


def test_y_up_parameters_are_read_as_motionx_reads_them(walk, tmp_path):
    write_motionx(replace(walk, fps=30.0), tmp_path / "a.npy")
    loaded = motionx.load(tmp_path, Clip("motionx", "a.npy", ""), LoadOptions())
    rows = np.load(tmp_path / "a.npy").astype(float)
    scale = tuple(loaded.skeleton.offsets.ravel())
    who = person(HumanHello("smplx", 30.0, up="y", bones=scale), rows[0])
    for k in (0, 50):
        position, _ = who.pose(np.concatenate([rows[k, 309:312], rows[k, :66]]))
        assert np.abs(position - loaded.position[k]).max() < 1e-6


def test_a_sent_bvh_line_is_the_frame_that_was_loaded(walk, tmp_path):
    path = write_lafan1(on_layout(walk, "lafan1"), tmp_path / "walk1_subject1.bvh")
    loaded = bvh.load(tmp_path, Clip("bvh", path.name, ""), LoadOptions())
    take = human_take(path)
    who = person(take.hello, take.frames[0].astype(np.float32).astype(float))
    assert who.skeleton.joint_names == loaded.skeleton.joint_names
    assert np.allclose(who.skeleton.offsets, loaded.skeleton.offsets, atol=1e-6)
    for k in (0, 60):
        position, rotation = who.pose(take.frames[k].astype(np.float32).astype(float))
        assert np.abs(position - loaded.position[k]).max() < 1e-5
        assert np.abs(np.abs((rotation * loaded.rotation[k]).sum(1)) - 1).max() < 1e-6


def test_an_undisturbed_take_is_what_the_stream_makes_of_the_loaded_one(walk):
    retargeter, found = heard(smpl_take(walk))
    whole = streamed(walk)
    # The last posture comes once more, as the end.
    assert len(found) == len(whole) + 1 and found[-1].last and not any(p.last for p in found[:-1])
    assert np.abs(path(found)[:-1] - whole).max() < 2e-3
    assert [p.sequence for p in found] == list(range(len(found)))
    assert np.diff([p.time_s for p in found]) == pytest.approx(0.02)
    assert retargeter.refused.total() == 0 and retargeter.lost == 0


def test_a_file_of_amass_is_played_as_it_is_loaded(walk, tmp_path):
    from corpus.sources import amass

    file = write_amass_smplh(walk, tmp_path / "walk_poses.npz")
    loaded = amass.load(tmp_path, Clip("amass", file.name, ""), LoadOptions())
    _, found = heard(human_take(file, source="amass"))
    assert np.abs(path(found)[:-1] - streamed(loaded)).max() < 2e-3


@pytest.mark.parametrize("fps", [30.0, 60.0, 100.0, 120.0])
def test_any_rate_comes_out_at_the_robots(fps):
    human = human_motion("reach", seed=2, seconds=2.0, fps=fps)
    _, found = heard(smpl_take(human))
    assert np.diff([p.time_s for p in found]) == pytest.approx(0.02)
    assert len(found) == pytest.approx(100, abs=3)
    whole, every = streamed(human), Stream(human.skeleton, fps).every
    times = 10.0 + np.arange(len(whole)) * every / fps
    for column in (0, 2, 7, 20, 30):
        wanted = np.interp([p.time_s for p in found], times, whole[:, column])
        assert np.abs(path(found)[:, column] - wanted).max() < 2e-3


@settings(deadline=None)
@given(st.sampled_from([30.0, 48.0, 60.0, 90.0, 120.0]), st.integers(5, 60))
def test_the_pacer_waits_for_no_more_than_the_next_posture(fps, count):
    pacer, due_s = Pacer(), 0.0
    for k in range(count):
        qpos = np.concatenate([[k / fps, 0, 0, 1, 0, 0, 0], np.zeros(29)])
        for at_s, found in pacer.until(k / fps, qpos):
            assert at_s == pytest.approx(due_s)
            assert (k - 1) / fps - 1e-9 < at_s <= k / fps + 1e-4
            assert found[0] == pytest.approx(min(at_s, k / fps), abs=1e-9)
            due_s += 0.02


@pytest.mark.parametrize("seed", range(2))
def test_a_bad_network_changes_little(walk, seed):
    network = BadNetwork(drop=0.05, jitter_s=0.02, duplicate=0.05, seed=seed)
    retargeter, found = heard(smpl_take(walk), network)
    _, calm = heard(smpl_take(walk))
    times, known = np.array([p.time_s for p in found]), np.array([p.time_s for p in calm])
    assert (np.diff(times) > 0).all() and retargeter.lost > 0 and retargeter.refused["late"] > 0
    wanted = np.stack([np.interp(times, known, column) for column in path(calm).T], 1)
    error = np.abs(path(found) - wanted)[:, 7:]
    assert error.mean() < 0.01 and error.max() < 0.25


def test_after_a_long_break_it_begins_anew_and_its_stream_goes_on(walk):
    sent = human_schedule(smpl_take(walk), 10.0, 77)
    retargeter, found = LiveRetargeter(), []
    for at_s, data in sent:
        if not 10.8 < at_s < 11.2:
            found += retargeter.hear(data, at_s)
    assert retargeter.restarts == 1
    assert len({p.stream for p in found}) == 1
    times = np.array([p.time_s for p in found])
    assert (np.diff(times) > 0.019).all() and 0.3 < np.diff(times).max() < 0.5


def test_a_second_sender_waits_until_the_first_is_silent(walk):
    take, retargeter = smpl_take(walk), LiveRetargeter()
    mixed = sorted(human_schedule(take, 10.0, 1) + human_schedule(take, 10.5, 2), key=lambda pair: pair[0])
    found = [packet for at_s, data in mixed for packet in retargeter.hear(data, at_s)]
    assert retargeter.refused["other_sender"] > 70
    ends = [k for k, p in enumerate(found) if p.last]
    assert len({p.stream for p in found[: ends[0] + 1]}) == 1


def test_another_skeleton_begins_another_take(walk, tmp_path):
    path = write_lafan1(on_layout(walk, "lafan1"), tmp_path / "a.bvh")
    retargeter = LiveRetargeter()
    one = human_schedule(smpl_take(walk), 10.0, 1)
    other = human_schedule(human_take(path), 12.5, 2)
    found = [packet for at_s, data in one + other for packet in retargeter.hear(data, at_s)]
    assert len({p.stream for p in found}) == 2 and sum(p.last for p in found) == 2
    assert not {"missing_joint", "bad_shape"} & set(retargeter.refused)


def test_a_frame_of_another_shape_is_refused_and_forgotten(walk):
    take, retargeter = smpl_take(walk), LiveRetargeter(seed=0)
    found = []
    for at_s, data in human_schedule(take, 10.0, 77):
        found += retargeter.hear(data, at_s + 0.001)
        found += retargeter.hear(encode_frame(HumanFrame(5, 77, at_s, np.zeros(7)), at_s), at_s)
    assert retargeter.refused["wrong_shape"] > 90
    assert np.abs(path(found)[:-1] - streamed(walk)).max() < 2e-3


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "fbx"}, {"kind": ["smpl"]}, {"fps": 1e9}, {"fps": "50"}, {"fps": float("nan")}, {"up": "x"}, {"gender": 3},
        {"betas": "x"}, {"betas": [1e9]}, {"bones": [1.0]}, {"hierarchy": "HIERARCHY"}, {"kind": "bvh", "up": "y"}, {"what": 1},
    ],
)  # fmt: skip
def test_a_hello_that_says_nonsense_is_refused(change):
    payload = json.dumps({"kind": "smpl", "fps": 50.0} | change).encode()
    with pytest.raises(BadPacket):
        decode_human(seal(HELLO, payload, 0, 1, 0.0))


@settings(deadline=None, max_examples=60)
@given(st.sampled_from([HELLO, FRAME, 9]), st.binary(max_size=200), st.booleans())
def test_noise_is_counted_and_breaks_nothing(kind, payload, greeted):
    retargeter = LiveRetargeter()
    if greeted:
        retargeter.hear(encode_hello(HumanHello("bvh", 30.0, "y", hierarchy="HIERARCHY\nROOT a\n{\n"), 1, 0.0), 0.0)
    assert retargeter.hear(seal(kind, payload, 3, 1, 0.0), 1.0) == []
    assert retargeter.hear(payload, 1.0) == []
    assert retargeter.refused.total() >= 1


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_a_header_that_is_out_of_order_is_refused_or_read(header, data):
    lines = header.hello.hierarchy.split("\n")
    for _ in range(data.draw(st.integers(1, 3))):
        k = data.draw(st.integers(0, len(lines) - 1))
        words = lines[k].split(" ")
        words[data.draw(st.integers(0, len(words) - 1))] = data.draw(
            st.sampled_from(["0", "1e30", "-1", "nan", "\ud800", "Hips", "6"])
        )
        lines[k] = " ".join(words)
    retargeter = LiveRetargeter()
    hello = replace(header.hello, hierarchy="\n".join(lines), up=data.draw(st.sampled_from(["", "y", "z"])))
    for at_s, message in human_schedule(HumanTake(hello, header.frames[:4]), 1.0, 1):
        for packet in retargeter.hear(message, at_s):
            assert np.isfinite(packet.qpos).all()
    assert retargeter.taken or retargeter.refused.total()


@pytest.fixture(scope="module")
def header(walk, tmp_path_factory) -> HumanTake:
    return human_take(write_lafan1(on_layout(walk, "lafan1"), tmp_path_factory.mktemp("bvh") / "a.bvh"))


@pytest.mark.slow
def test_loom_stream_and_loom_play_over_loopback(walk, tmp_path):
    file = write_amass_smplh(walk, tmp_path / "walk_poses.npz")
    program = "import sys; from pipelines.stream_commands import {0} as m, address; import argparse; "
    program += "p = argparse.ArgumentParser(); m.add_options(p); sys.exit(m.run(p.parse_args()))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def loom(name: str, *options: str) -> subprocess.Popen:
        command = [sys.executable, "-c", program.format(name), *options]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    with open_port(0, "127.0.0.1") as port:
        stream = loom("stream", "--listen", "0", "--to", f"127.0.0.1:{port.getsockname()[1]}", "--seconds", "60")
        try:
            assert stream.stdout is not None
            where = stream.stdout.readline().split()[-1]
            play = loom("play", str(file), "--source", "amass", "--to", where)
            found: list[QposPacket] = []
            until_s = time.monotonic() + 60
            while time.monotonic() < until_s and not (found and found[-1].last):
                select.select([port], [], [], 0.5)
                found += [decode(data) for data, _ in receive(port, 64)]
            assert play.wait(30) == 0
            assert found[-1].last and len(found) > 80
            assert np.diff([p.time_s for p in found if not p.last]).min() > 0.019
            assert " fps" in stream.stdout.readline()
        finally:
            stream.kill()
            stream.wait()


@pytest.mark.parametrize("fps", [30.0, 50.0, 120.0])
def test_the_policy_sees_a_live_person_move_on_a_bad_network(fps):
    human = human_motion("reach", seed=2, seconds=4.0, fps=fps)
    retargeter, playout, now_s, seen = LiveRetargeter(seed=0), Playout((0, 1, 4, 10)), 10.0, []
    network = BadNetwork(drop=0.02, jitter_s=0.01, duplicate=0.02, seed=4)
    sent = [(at_s, packet) for at_s, data in human_schedule(smpl_take(human), 10.0, 7, network)
            for packet in retargeter.hear(data, at_s)]  # fmt: skip
    while now_s < 15.0:
        while sent and sent[0][0] <= now_s:
            playout.buffer.push(sent[0][1], sent.pop(0)[0])
        if (preview := playout.look(now_s)) is not None:
            seen.append(preview)
        now_s += 0.02
    status = [preview.status for preview in seen]
    assert status == ["live"] * status.index("ended") + ["ended"] * (len(status) - status.index("ended"))
    assert max(preview.age_s for preview in seen) < 0.05
    joints = np.array([preview.qpos[0, 7:] for preview in seen])
    speed = np.array([preview.velocity[0, 6:] for preview in seen])[1:-1]
    assert np.abs(np.diff(joints, axis=0)).max() < 0.3
    assert np.abs((joints[2:] - joints[:-2]) * 25 - speed).max() < 2.0
    assert np.abs((joints[2:] - joints[:-2]) * 25 - speed).mean() < 0.05


def test_a_robots_motion_is_sent_as_it_is():
    times = np.arange(60) / 30.0
    qpos = np.zeros((60, 36))
    qpos[:, 3], qpos[:, 7] = 1.0, 0.3 * np.sin(times)
    found = [decode(data) for _, data in robot_schedule(RobotMotion(qpos, 30.0), 5.0, 9, speed=2.0)]
    assert np.allclose(path(found)[:60], qpos, atol=1e-6)
    assert [p.time_s for p in found[:60]] == pytest.approx(list(5.0 + times / 2))
    assert [p.last for p in found] == [False] * 59 + [True] * 3


@pytest.mark.data
@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("amass", "amass_smplx/CMU_UH1example_stageii.npz"),
        ("amass", "amass_smplh/amass_sample_B.npz"),
        ("motionx", "motionx_made/CMU_UH1example_322.npy"),
        ("bvh", "lafan1_bvh/walk1_subject1__f0_1800.bvh"),
        ("bvh", "lafan1_bvh/fallAndGetUp3_subject1__f150_1950.bvh"),
    ],
)
def test_real_files_are_played_as_they_are_loaded(shared, source, name):
    count = 150
    human = read_file(shared / name, LoadOptions(), name=source).raw
    assert isinstance(human, HumanMotion)
    human = replace(human, position=human.position[:count], rotation=human.rotation[:count])
    take = human_take(shared / name, source=source)
    _, found = heard(HumanTake(take.hello, take.frames[:count]))
    whole, every = streamed(human), Stream(human.skeleton, human.fps).every
    times = 10.0 + np.arange(len(whole)) * every / human.fps
    wanted = np.stack([np.interp([p.time_s for p in found], times, column) for column in whole.T], 1)
    assert np.abs(path(found) - wanted)[:, 7:].max() < 0.01
    assert np.abs(path(found) - wanted)[:, :3].max() < 0.005
