"""Each fault there may be, injected while a motion is followed: what mode it leads to, and how soon.

    python -m benchmarks.deploy_faults [--bundle BUNDLE] [--without-dds] [--domain N]

First within one process, on a made-up clock, against the simulated robot; then with processes of their own over DDS, in real time
(`benchmarks.deploy_faults_dds`). Without a bundle the policy's actions are 0 and the robot hangs on its rope all the time; with one it
balances. `ms` is from the fault's first moment to the first command that damps, stands, or settles. The last line is JSON:

    faults_injected, faults_survived    ended in damping, settling or standing within 200 ms
    worst_ms                            of all
    faults                              name → [mode, ms]
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from corpus import rotations
from corpus.errors import MotionloomError
from corpus.g1 import G1
from deploy.bundle import open_bundle
from deploy.contract import Contract
from deploy.controller import Controller, frames_of
from deploy.link import Received
from deploy.live import LiveOptions, Playout
from deploy.messages import JOINTS, LowCmd, LowState
from deploy.packets import QposPacket
from deploy.reference import Preview
from deploy.remote import Remote, encode_remote
from deploy.report import Policy, Report
from deploy.runtime import Automatic, run
from deploy.sim import SimOptions, Simulator
from deploy.stance import standing
from deploy.stand import StandOptions
from deploy.wire import BadMessage, decode_state, encode_state

WITHIN_MS = 200.0
DOMAIN = 92
FOLLOWED_S = 0.5
"""A motion is followed so long before the fault."""
OVER_S = 1.0
"""So long after the fault all is over."""
WRITE_S = 0.001
"""A command takes so long."""


def measure(bundle: Path | None = None, *, dds: bool = True, domain: int = DOMAIN) -> dict[str, Any]:
    """All of them; over DDS each in a domain of its own, as the guard of a controller that was killed goes on for a while."""
    found = {name: inject(name, bundle) for name in FAULTS}
    if dds:
        from benchmarks.deploy_faults_dds import PROCESS_FAULTS, inject_dds

        found |= {name: inject_dds(name, bundle, domain=domain + i) for i, name in enumerate(PROCESS_FAULTS)}
    return {
        "faults_injected": len(found),
        "faults_survived": sum(mode != "track" and ms <= WITHIN_MS for mode, ms in found.values()),
        "worst_ms": round(max(ms for _, ms in found.values()), 1),
        "faults": {name: [mode, round(ms, 1)] for name, (mode, ms) in found.items()},
    }


def inject(name: str, bundle: Path | None = None) -> tuple[str, float]:
    """The mode that this fault leads to, and after how many milliseconds of the made-up clock."""
    world = World(bundle)
    world.run(FAULTS[name])
    return world.ended_in, world.took_ms


class World:
    """A controller, a simulated robot and a stream of postures on one made-up clock."""

    def __init__(self, bundle: Path | None = None):
        self.now_s, self.injected_s, self.ended_in, self.took_ms = 0.0, np.inf, "track", np.inf
        self.robot = Robot(self, rope="always" if bundle is None else "auto")
        self.policy = Fallible(self, None if bundle is None else open_bundle(bundle).policy())
        self.source = Stream(self, frames_of(self.policy.contract))
        stand = StandOptions(0.5, 0.5) if bundle is None else StandOptions()
        self.controller = Controller(self.policy, self.source, self.robot, stand=stand)
        self.asked = 0

    def run(self, fault: Callable[[World], None]) -> None:
        """Stand, follow, and then the fault."""
        tracked = 0

        def told(now_s: float, report: Report) -> None:
            nonlocal tracked
            tracked += report.modes.mode == "track"
            if tracked == round(FOLLOWED_S * 50) and np.isinf(self.injected_s):
                self.injected_s = now_s
                fault(self)
            elif report.modes.mode != "track" and np.isfinite(self.injected_s) and np.isinf(self.took_ms):
                self.ended_in, self.took_ms = report.modes.mode, 1000 * (now_s - self.injected_s)

        operator = Automatic(FOLLOWED_S + OVER_S, asked=lambda: self.asked)
        run(self.controller, operator, told=told, clock=lambda: self.now_s, sleep=self.sleep)

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


class Robot:
    """The simulated robot and its cable, a `deploy.link.Link`; every message passes as bytes."""

    def __init__(self, world: World, rope: str):
        self.world, self.simulator, self.refused = world, Simulator(SimOptions(rope=rope)), Counter[str]()
        self.said: Callable[[LowState], LowState] = lambda state: state
        self.damaged: Callable[[int], bool] = lambda number: False
        """Is this message?"""
        self.cut = False
        self.newest: Received | None = None
        self.command: LowCmd | None = None

    def read(self) -> Received | None:
        while self.simulator.time_s + 0.005 <= self.world.now_s:
            state = self.simulator.advance(self.command)
            if not self.cut:
                self._hear(state)
        return self.newest

    def write(self, command: LowCmd) -> None:
        self.command = command
        self.world.now_s += WRITE_S

    def close(self) -> None:
        pass

    def _hear(self, state: LowState) -> None:
        try:
            data = bytearray(encode_state(self.said(state)))
            data[100] ^= 16 * self.damaged(self.simulator.steps)
            self.newest = Received(decode_state(bytes(data)), self.world.now_s)
        except BadMessage as error:
            self.refused[error.reason] += 1


class Fallible:
    """A policy that may fail; without another one its actions are 0."""

    def __init__(self, world: World, inner: Policy | None):
        self.world, self.inner = world, inner
        self.contract = Contract() if inner is None else inner.contract
        self.broken: Callable[[], None] = lambda: None
        """Called before each action."""
        self.error = 0.0

    def act(self, observation: np.ndarray) -> np.ndarray:
        self.broken()
        action = np.zeros(JOINTS, np.float32) if self.inner is None else self.inner.act(observation)
        return action + np.float32(self.error)

    def forget(self) -> None:
        if self.inner is not None:
            self.inner.forget()


class Stream:
    """Standing, as `loom stream` sends it: 50 postures a second through the jitter buffer."""

    name = "stream"

    def __init__(self, world: World, frames: tuple[int, ...]):
        self.world, self.playout, self.sent = world, Playout(frames, LiveOptions()), 0
        self.silent = False
        self.change: Callable[[Preview], Preview | None] = lambda preview: preview

    def begin(self) -> None:
        pass

    def look(self, now_s: float) -> Preview | None:
        while self.sent / 50 <= now_s and not self.silent:
            at = self.sent / 50
            self.playout.buffer.push(QposPacket(self.sent, at, at, at, standing()), at)
            self.sent += 1
        preview = self.playout.look(now_s)
        return None if preview is None else self.change(preview)

    def close(self) -> None:
        pass


# --- the faults


def of_state(change: Callable[[LowState], dict[str, Any]]) -> Callable[[World], None]:
    """The robot says something else from now on."""

    def fault(world: World) -> None:
        world.robot.said = lambda state: replace(state, **change(state))

    return fault


def of_reference(change: Callable[[np.ndarray], None]) -> Callable[[World], None]:
    """The source shows other postures from now on."""

    def changed(preview: Preview) -> Preview:
        qpos = preview.qpos.copy()
        change(qpos)
        return replace(preview, qpos=qpos)

    def fault(world: World) -> None:
        world.source.change = changed

    return fault


def of_world(**changes: Any) -> Callable[[World], None]:
    """Attributes of the world's parts, as `robot__cut=True`."""

    def fault(world: World) -> None:
        for path, value in changes.items():
            part, _, name = path.rpartition("__")
            setattr(getattr(world, part) if part else world, name, value)

    return fault


def joint(values: np.ndarray, index: int, value: float) -> np.ndarray:
    changed = np.array(values, float)
    changed[index] = value
    return changed


def frozen_clock(world: World) -> None:
    tick = world.robot.simulator.measure().tick
    world.robot.said = lambda state: replace(state, tick=tick)


def fail_to_act(world: World) -> None:
    def broken() -> None:
        raise MotionloomError("the session is gone")

    world.policy.broken = broken


def slow(seconds: float, *, once: bool = False) -> Callable[[World], None]:
    """The policy takes so long."""

    def fault(world: World) -> None:
        def broken() -> None:
            world.now_s += seconds
            if once:
                world.policy.broken = lambda: None

        world.policy.broken = broken

    return fault


def fail_to_show(world: World) -> None:
    def change(preview: Preview) -> Preview:
        raise MotionloomError("the plan is gone")

    world.source.change = change


def tilted(angle: float) -> np.ndarray:
    return rotations.from_rotation_vector(np.array([0.0, angle, 0.0]))


def placed(part: slice, value: Any) -> Callable[[np.ndarray], None]:
    def change(qpos: np.ndarray) -> None:
        qpos[:, part] = value

    return change


def bent(by: float) -> Callable[[np.ndarray], None]:
    def change(qpos: np.ndarray) -> None:
        qpos[:, 7:] += by

    return change


FAULTS: dict[str, Callable[[World], None]] = {
    "ctrl-C once": of_world(asked=1),
    "e-stop: ctrl-C twice": of_world(asked=2),
    "e-stop: L2 + B on the remote": of_state(
        lambda s: {"remote": encode_remote(Remote(pressed=frozenset({"L2", "B"})))}
    ),
    "tilted by 1 rad": of_state(lambda s: {"root_rotation": rotations.multiply(s.root_rotation, tilted(1.0))}),
    "spinning at 8 rad/s": of_state(lambda s: {"angular_velocity": s.angular_velocity + [0, 0, 8.0]}),
    "cable cut": of_world(robot__cut=True),
    "the robot's clock frozen": frozen_clock,
    "the robot started anew": of_state(lambda s: {"tick": s.tick % 1000}),
    "all messages corrupt": of_world(robot__damaged=lambda number: True),
    "half of the messages corrupt": of_world(robot__damaged=lambda number: number % 2 == 0),
    "another machine": of_state(lambda s: {"mode_machine": 6}),
    "a motor's fault": of_state(lambda s: {"motor_fault": np.eye(JOINTS, dtype=int)[7]}),
    "a motor at 120 °C": of_state(lambda s: {"temperature": joint(s.temperature, 3, 120.0)}),
    "NaN for a joint": of_state(lambda s: {"joint_position": joint(s.joint_position, 3, np.nan)}),
    "NaN for a speed": of_state(lambda s: {"joint_speed": joint(s.joint_speed, 3, np.nan)}),
    "NaN for the orientation": of_state(lambda s: {"root_rotation": np.full(4, np.nan)}),
    "no orientation": of_state(lambda s: {"root_rotation": np.zeros(4)}),
    "infinity for the gyroscope": of_state(lambda s: {"angular_velocity": np.full(3, np.inf)}),
    "a joint beyond its range": of_state(lambda s: {"joint_position": joint(s.joint_position, 3, G1.upper[3] + 0.3)}),
    "a joint at twice its speed": of_state(lambda s: {"joint_speed": joint(s.joint_speed, 3, 2 * G1.speed_limit[3])}),
    "the stream ends without a word": of_world(source__silent=True),
    "the source fails": fail_to_show,
    "the source shows nothing": of_world(source__change=lambda preview: None),
    "the reference jumps": of_reference(bent(1.2)),
    "the reference far away": of_reference(bent(0.75)),
    "the reference lies down": of_reference(placed(slice(3, 7), tilted(1.5))),
    "the reference in the sky": of_reference(placed(slice(2, 3), 3.0)),
    "NaN in the reference": of_reference(placed(slice(20, 21), np.nan)),
    "no rotation in the reference": of_reference(placed(slice(3, 7), 0.0)),
    "NaN for an action": of_world(policy__error=np.nan),
    "infinity for an action": of_world(policy__error=np.inf),
    "the policy fails": fail_to_act,
    "an action takes 150 ms": slow(0.15, once=True),
    "each action takes 35 ms": slow(0.035),
    "each action takes 60 ms": slow(0.06),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--without-dds", action="store_true")
    parser.add_argument("--domain", type=int, default=DOMAIN, help="the first of those that are used")
    options = parser.parse_args()
    figures = measure(options.bundle, dds=not options.without_dds, domain=options.domain)
    table = Table("fault", "leads to", "after [ms]")
    for name, (mode, ms) in figures["faults"].items():
        table.add_row(name, mode, f"{ms:.0f}")
    Console(width=100).print(table)
    print(
        f"{figures['faults_survived']} of {figures['faults_injected']} survived; the slowest {figures['worst_ms']:.0f} ms"
    )
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
