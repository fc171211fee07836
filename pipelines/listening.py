"""What a robot says of itself, as lines for a person; nothing is sent to it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from corpus import rotations
from corpus.g1 import G1
from deploy.dds import STATE_TOPIC, Inbox, join
from deploy.dds_types import LowState_
from deploy.messages import LowState
from deploy.observation import gravity, lean
from deploy.wire import decode_state

EVERY_S = 1.0
PERIOD_S = 0.005
"""Between two looks [s]: the robot says how it is up to a thousand times a second, and the newest counts."""
MOVED = 0.02
"""A joint that has turned by more since the line before is told of [rad]."""


def listen(domain: int, interface: str, seconds: float, tell: Callable[[str], None]) -> None:
    """Tell once a second what has come, for so long [s]."""
    states = Inbox(join(domain, interface), STATE_TOPIC, LowState_, decode_state)
    heard, start = Heard(), time.monotonic()
    due = start + EVERY_S
    try:
        while time.monotonic() - start < seconds:
            time.sleep(PERIOD_S)
            states.look()
            if states.newest is not None:
                heard.add(states.newest)
            if time.monotonic() >= due:
                due += EVERY_S
                tell("\n".join(heard.lines(states.refused)))
    finally:
        states.close()


@dataclass
class Heard:
    """What has come since the lines before."""

    newest: LowState | None = None
    told: LowState | None = None
    """The state that the lines before were of."""
    turned: Float[np.ndarray, " 3"] = field(default_factory=lambda: np.zeros(3))
    """The gyroscope's speeds added up, about the pelvis' own axes [rad]."""

    def add(self, state: LowState) -> None:
        """Take a state; the same one again changes nothing."""
        before, self.newest = self.newest, state
        if before is not None:
            passed_s = ((state.tick - before.tick) % 2**32) / 1000
            self.turned = self.turned + state.angular_velocity * min(passed_s, EVERY_S)

    def lines(self, refused: Mapping[str, int]) -> Iterator[str]:
        """To print, once a second."""
        state, before = self.newest, self.told
        if state is None or (before is not None and state.tick == before.tick):
            yield f"nothing new from the robot; refused: {_counts(refused)}"
            return
        if before is None:
            yield f"machine {state.mode_machine}"
            yield from _all_joints(state)
        passed = "" if before is None else f"clock +{(state.tick - before.tick) % 2**32} ms, "
        yield passed + ", ".join(_sensors(state, self.turned)) + f", refused: {_counts(refused)}"
        yield from _moved(before or state, state)
        self.told, self.turned = state, np.zeros(3)


def _sensors(state: LowState, turned: Float[np.ndarray, " 3"]) -> Iterator[str]:
    told, felt = lean(gravity(state.root_rotation)), lean(-state.acceleration)
    heading = float(rotations.heading(state.root_rotation))
    hottest = int(np.argmax(state.temperature))
    faults = [f"{G1.joint_names[i]} {int(state.motor_fault[i]):#x}" for i in np.flatnonzero(state.motor_fault)]
    yield f"leans {_degrees(told[0])} forward {_degrees(told[1])} right"
    yield f"accelerometer {_degrees(felt[0])} {_degrees(felt[1])}"
    yield f"heading {_degrees(heading)}"
    yield f"gyroscope turned {_degrees(turned[1])} forward {_degrees(turned[0])} right {_degrees(turned[2])} to the left"
    yield f"hottest {state.temperature[hottest]:.0f} °C ({G1.joint_names[hottest]})"
    yield f"faults: {', '.join(faults) or 'none'}"


def _all_joints(state: LowState) -> Iterator[str]:
    for i, name in enumerate(G1.joint_names):
        share = f"{G1.lower[i]:+.2f} to {G1.upper[i]:+.2f}"
        yield f"{i:2} {name:28} {state.joint_position[i]:+.3f} rad ({share})  {state.temperature[i]:.0f} °C"


def _moved(before: LowState, state: LowState) -> Iterator[str]:
    for i in np.flatnonzero(np.abs(state.joint_position - before.joint_position) > MOVED):
        yield f"   {i:2} {G1.joint_names[i]:28} {before.joint_position[i]:+.3f} → {state.joint_position[i]:+.3f} rad"


def _degrees(angle: float) -> str:
    return f"{math.degrees(angle):+.1f}°"


def _counts(refused: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(refused.items())) or "none"
