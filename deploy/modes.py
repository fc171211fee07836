"""The robot's modes, and how one leads to another: damping → stand → track → settle → stand → damping.

A pure function: what is wished, what is ready and what is wrong decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from deploy.situation import Fault

MODES = ("damping", "stand", "track", "settle")
"""Motors only damp; stiff joints hold a posture; the policy follows a motion; the policy brings it to a stand."""
WISHES = ("damping", "stand", "track", "stop")
"""What an operator may ask for; "stop" is the emergency stop: damping, for good."""


@dataclass(frozen=True)
class Modes:
    """Where the robot is, since when."""

    mode: str = "damping"
    since_s: float = 0.0
    stopped: bool = False
    """Emergency stop or fault: it damps until the controller is started again."""
    fault: str = ""
    """The first that led to it."""


def advanced(
    modes: Modes, wish: str, faults: Sequence[Fault], now_s: float, *, up: bool, near: bool, settled: bool
) -> Modes:
    """The modes of this control period.

    `up`: the ramp of a stand is over; `near`: there is a reference, and the robot is in the posture it begins with; `settled`:
    the policy has brought the robot to a stand.
    """
    if modes.stopped:
        return modes
    worst = next((fault for fault in faults if fault.leads_to == "damping"), None)
    if wish == "stop" or (worst is not None and modes.mode != "damping"):
        name = "stop" if worst is None else worst.name
        return Modes("damping", now_s if modes.mode != "damping" else modes.since_s, stopped=True, fault=name)
    if modes.mode == "track" and faults:
        return replace(_to("settle", now_s), fault=faults[0].name)
    blocked = any(fault.leads_to == "damping" for fault in faults)
    return _wished(modes, wish, now_s, blocked, up, near, settled)


def _wished(modes: Modes, wish: str, now_s: float, blocked: bool, up: bool, near: bool, settled: bool) -> Modes:
    mode = modes.mode
    if mode == "stand" and wish == "damping":
        return _to("damping", now_s)
    if mode == "damping" and wish in ("stand", "track") and not blocked:
        return _to("stand", now_s)
    if mode == "stand" and wish == "track" and up and near:
        return _to("track", now_s)
    if mode == "track" and wish != "track":
        return _to("settle", now_s)
    if mode == "settle" and settled:
        return _to("stand", now_s)
    return modes


def _to(mode: str, now_s: float) -> Modes:
    return Modes(mode, now_s)
