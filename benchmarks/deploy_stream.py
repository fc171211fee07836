"""How long live human motion takes to the controller: a player, `loom stream` and a listener, three processes with UDP between.

    python -m benchmarks.deploy_stream [--seconds S]

Takes are made up: SMPL at 60 and at 50 frames a second, a BVH on LAFAN1's skeleton at 30. Per packet: from the arrival of the human frame
that led to it (in the kernel) until it is sent; from there until it arrived; and until it was decoded and in the jitter buffer.
A take's first half second is told apart: its solver is made ready then. Delays that are chosen, not suffered, stand beside: frames
the smoother waits for, the step to 50 a second, jitter and preview. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import select
import socket
import tempfile
import time
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np

from corpus.sources.synthetic_files import write_lafan1
from corpus.sources.synthetic_layouts import on_layout
from corpus.sources.synthetic_moves import human_motion
from deploy.datagrams import open_port, receive
from deploy.live import LiveOptions, Playout
from deploy.packets import decode
from pipelines.streaming.player import HumanTake, human_schedule, human_take, send_on_time, smpl_take, start_after
from retarget.stream import StreamOptions

FRAMES = (0, 1, 4, 10)
SETTLED_S = 0.5


def measure(seconds: float = 6.0) -> dict[str, float]:
    """Times in ms, p50 and p99 over all takes; chosen delays in ms."""
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that are begun here
    spawn = multiprocessing.get_context("spawn")
    with open_port(0, "127.0.0.1") as port:
        here, there = spawn.Pipe()
        server = spawn.Process(target=serve_to, args=(port.getsockname()[1], there), daemon=True)
        server.start()
        try:
            to = here.recv()
            rows = [_listen(port, spawn.Process(target=play, args=(take, to), daemon=True)) for take in _takes(seconds)]
        finally:
            server.terminate()
            server.join()
    settled = np.concatenate([row[row[:, 0] > SETTLED_S] for row in rows])
    figures = {"stream_packets": float(len(settled))}
    for k, name in enumerate(("retarget", "transit", "buffer", "received_to_buffer"), 1):
        figures |= {f"stream_{name}_ms_p{share}": float(np.percentile(settled[:, k], share)) for share in (50, 99)}
    figures["stream_first_ms"] = float(max(row[:, 1].max() for row in rows))
    return figures | _chosen()


def _chosen() -> dict[str, float]:
    options, lag = LiveOptions(), StreamOptions().lag
    figures = {f"stream_lag_ms_at_{fps}": 1e3 * lag / fps for fps in (30, 50, 60)}
    # At 50 and 100 every posture goes out as it is; else it waits for the next one, at most a frame of the source.
    figures |= {"stream_step_ms_most_at_30": 1e3 / 30, "stream_step_ms_most_at_60": 1e3 / 60}
    return figures | {
        "stream_jitter_ms": 1e3 * options.jitter_s,
        "stream_preview_ms": 1e3 * (options.delay_s(FRAMES) - options.jitter_s),
    }


def _takes(seconds: float) -> list[HumanTake]:
    walk, reach = (
        human_motion(kind, seed=1, seconds=seconds, fps=fps) for kind, fps in (("walk", 60.0), ("reach", 50.0))
    )
    with tempfile.TemporaryDirectory() as folder:
        squat = human_motion("squat", seed=1, seconds=seconds, fps=30.0)
        bvh = human_take(write_lafan1(on_layout(squat, "lafan1"), Path(folder) / "squat.bvh"))
    return [smpl_take(walk), smpl_take(reach), bvh]


def _listen(port: socket.socket, player: BaseProcess) -> np.ndarray:
    """Rows: the take's time [s]; retargeting, transit, buffering, all of them [ms]."""
    player.start()
    playout, rows, first_s, ended = Playout(FRAMES), [], None, False
    until_s = time.monotonic() + 60
    while not ended and time.monotonic() < until_s:
        select.select([port], [], [], 0.2)
        for data, arrived_s in receive(port, 64):
            began_s = time.monotonic()
            packet = decode(data)
            playout.buffer.push(packet, arrived_s)
            done_s, ended = time.monotonic(), ended or packet.last
            first_s = packet.time_s if first_s is None else first_s
            parts = packet.sent_s - packet.made_s, arrived_s - packet.sent_s, done_s - began_s
            rows.append([packet.time_s - first_s, *(1e3 * part for part in (*parts, sum(parts)))])
    player.join()
    return np.array(rows)


def serve_to(to: int, told: Connection) -> None:
    from pipelines.streaming.serve import serve

    serve(0, ("127.0.0.1", to), ready=lambda port: told.send(("127.0.0.1", port)))


def play(take: HumanTake, to: tuple[str, int]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outward:
        start_s = time.monotonic() + start_after(len(take.frames))
        send_on_time(human_schedule(take, start_s, os.getpid()), lambda data: outward.sendto(data, to))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=6.0, help="of each take")
    figures = measure(parser.parse_args().seconds)
    for name, value in figures.items():
        print(f"{name:32} {value:10.3f}")
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
