"""Broken messages and broken references in front of the whole controller: no crash, and no command that could hurt the robot.

    python -m benchmarks.deploy_fuzz_controller [--count N] [--seed N]

A controller follows a clip; the robot's states come as bytes, a share of them damaged as in `benchmarks.deploy_fuzz`, some under a
checksum that fits (`believed`), and its policy answers nonsense. Every command is checked (`unsafe`). The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter

import numpy as np

from benchmarks.deploy_fuzz import DAMAGES, unharmed
from corpus import rotations
from corpus.g1 import G1
from deploy.contract import STANDING, Contract
from deploy.controller import Controller, frames_of
from deploy.link import Received
from deploy.messages import STOP_KD, LowCmd, LowState
from deploy.reference import ClipSource
from deploy.situation import Limits
from deploy.stance import swaying
from deploy.stand import StandOptions, stand_gains
from deploy.wire import BadMessage, decode_state, encode_state

STAND = StandOptions(ramp_s=0.04, hold_s=0.0)
"""Up at once: what is fuzzed is what comes after."""
DAMAGED = 0.2
"""Share of damaged messages while the motion is followed."""


class BytesLink:
    """Takes what comes as bytes, as a DDS reader does."""

    def __init__(self) -> None:
        self.refused: Counter[str] = Counter()
        self.newest: Received | None = None
        self.command: LowCmd | None = None

    def hear(self, data: bytes, now_s: float) -> None:
        try:
            self.newest = Received(decode_state(data), now_s)
        except BadMessage as error:
            self.refused[error.reason] += 1

    def read(self) -> Received | None:
        return self.newest

    def write(self, command: LowCmd) -> None:
        self.command = command

    def close(self) -> None:
        pass


MOTIONS = [swaying(4.0, seed) for seed in range(4)]


class Nonsense:
    """Answers noise, and now and then what is no number."""

    contract = Contract()

    def __init__(self, rng: np.random.Generator):
        self.rng = rng

    def act(self, observation: np.ndarray) -> np.ndarray:
        action = self.rng.normal(0, 10.0 ** self.rng.uniform(-2, 3), G1.joint_count)
        if self.rng.random() < 0.001:
            action[self.rng.integers(G1.joint_count)] = self.rng.choice([np.nan, np.inf, -np.inf])
        return action.astype(np.float32)

    def forget(self) -> None:
        pass


def unsafe(command: LowCmd, state: LowState) -> str:
    """What is wrong with a command that rests on this state; empty where nothing is."""
    q, kp, kd = command.joint_position, command.kp, command.kd
    if not np.isfinite(np.concatenate([q, kp, kd, command.joint_speed, command.torque])).all():
        return "not_finite"
    if not kp.any():
        return "" if (kd == STOP_KD).all() else "damping"
    if (q < G1.lower).any() or (q > G1.upper).any():
        return "range"
    if (kp > MOST_KP + 1e-6).any() or (kd < 0).any():
        return "gains"
    asked = kp * (q - state.joint_position) - kd * state.joint_speed
    spare = (1 - Limits().soft_range) / 2 * (G1.upper - G1.lower)
    free = (q > G1.lower + spare + 1e-9) & (q < G1.upper - spare - 1e-9)  # at its end the range decides
    return "torque" if (np.abs(asked) > G1.effort_limit + 1e-6)[free].any() else ""


MOST_KP = np.maximum(stand_gains(STAND)[0], Contract().gains.kp)


def fuzz_controller(count: int, seed: int) -> dict[str, int]:
    """How many broken messages and control periods there were, in which modes; raises where a command is unsafe."""
    rng = np.random.default_rng(seed)
    outcomes: Counter[str] = Counter(fuzz_packets=0, believed=0, periods=0, controllers=0)
    controller, link, now_s = begun(rng, 0.0)
    while outcomes["fuzz_packets"] < count:
        now_s += controller.period_s
        data = encode_state(moving(rng, now_s))
        if controller.modes.mode == "track" and rng.random() < DAMAGED:
            data, before = BROKEN[rng.integers(len(BROKEN))](rng, data), link.newest
            outcomes["fuzz_packets"] += 1
            link.hear(data, now_s)
            outcomes["believed"] += link.newest is not before
        else:
            link.hear(data, now_s)
        report = controller.step(now_s, "track")
        outcomes["periods"] += 1
        outcomes[f"in_{report.modes.mode}"] += 1
        assert link.newest is not None
        if wrong := unsafe(report.command, link.newest.state):
            raise AssertionError(f"An unsafe command ({wrong}) after {outcomes['fuzz_packets']} messages, seed {seed}.")
        if report.modes.stopped or (report.ended and report.modes.mode == "stand"):
            outcomes[f"fault_{report.modes.fault or 'none'}"] += 1
            controller, link, now_s = begun(rng, now_s)
            outcomes["controllers"] += 1
    return dict(outcomes)


BROKEN = [damage for damage in DAMAGES if damage is not unharmed]


def begun(rng: np.random.Generator, now_s: float) -> tuple[Controller, BytesLink, float]:
    """A controller that stands already, its motion about to begin."""
    link, policy = BytesLink(), Nonsense(rng)
    source = ClipSource(MOTIONS[rng.integers(len(MOTIONS))], frames_of(policy.contract))
    controller = Controller(policy, source, link, limits=Limits(most_refused=20), stand=STAND)
    return controller, link, now_s


def moving(rng: np.random.Generator, now_s: float) -> LowState:
    """A robot that stands, trembling."""
    joints = STANDING + rng.uniform(-0.1, 0.1, G1.joint_count)
    turn = rotations.from_rotation_vector(rng.uniform(-0.1, 0.1, 3))
    return LowState(
        tick=round(now_s * 1000) % 2**32, mode_machine=5, joint_position=joints,
        joint_speed=rng.uniform(-5, 5, G1.joint_count), torque=np.zeros(G1.joint_count),
        root_rotation=turn, angular_velocity=rng.uniform(-1, 1, 3), acceleration=np.array([0, 0, 9.81]),
        temperature=np.full(G1.joint_count, 30.0), motor_fault=np.zeros(G1.joint_count, int),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    start_s = time.monotonic()
    figures = fuzz_controller(options.count, options.seed)
    for name, count in sorted(figures.items()):
        print(f"{name:>24} {count:10d}")
    print(json.dumps(figures | {"seconds": round(time.monotonic() - start_s, 1)}))


if __name__ == "__main__":
    main()
