"""What it costs to write a run down, and to read it back: µs in the control loop, bytes a second, seconds an hour."""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from corpus.recording import RECORD, read_recording
from deploy.contract import GAINS, STANDING, Contract
from deploy.log import RunLog, Step
from deploy.messages import JOINTS, LowCmd, LowState


def measure(steps: int = 3000, *, pause_s: float = 0.001) -> dict[str, float]:
    """`pause_s` between steps stands in for the control period."""
    taken = np.empty(steps)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.g1run"
        with RunLog(path, Contract(), {}) as log:
            step = _step()
            for i in range(steps):
                step = replace(step, time_s=i / 50)
                begun = time.perf_counter()
                log.add(step)
                taken[i] = time.perf_counter() - begun
                time.sleep(pause_s)
        begun = time.perf_counter()
        found = read_recording(path)
        read_s = time.perf_counter() - begun
    middle, high = np.percentile(taken, [50, 99]) * 1e6
    return {
        "add_p50_us": float(middle),
        "add_p99_us": float(high),
        "add_max_us": float(taken.max() * 1e6),
        "dropped": float(steps - len(found.time_s)),
        "bytes_per_s": 50.0 * (RECORD.itemsize + 12),
        "read_s_per_hour": read_s / steps * 50 * 3600,
    }


def main() -> None:
    found = measure()
    for name, value in found.items():
        print(f"{name:<16} {value:12.2f}")
    print(json.dumps(found))


def _step() -> Step:
    three, many = np.zeros(3), np.zeros(JOINTS)
    turn = np.array([1.0, 0, 0, 0])
    state = LowState(0, 5, STANDING, many, many, turn, three, three, many, np.zeros(JOINTS, int))
    reference = np.concatenate([three, turn, STANDING])
    stages: dict[str, float] = dict.fromkeys(("read", "look", "check", "observe", "infer", "clamp", "write"), 1e-4)
    return Step(0.0, state, "track", reference, many, LowCmd(STANDING, GAINS.kp, GAINS.kd), stages, "live")


if __name__ == "__main__":
    main()
