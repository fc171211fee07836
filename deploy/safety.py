"""What may not be: every check is a pure function of the situation, and on any doubt the robot damps.

faults = found(situation, limits)       # each a name, numbers, and where it leads
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from corpus import rotations
from corpus.g1 import G1
from deploy.observation import gravity
from deploy.remote import decode_remote
from deploy.situation import Fault, Limits, Situation

STOP_BUTTONS = (frozenset({"L2", "B"}), frozenset({"select"}))
"""Of the robot's remote: damping in Unitree's own controller, and the way out of its examples."""

NOBODY_COMMANDS = 0x40000000
"""In Unitree's fault word of a motor: the computer that commands it is not heard."""

Check = Callable[[Situation, Limits], Fault | None]


def found(situation: Situation, limits: Limits = Limits()) -> list[Fault]:
    """Every fault there is; those that lead to damping first. The robot is not measured by a reference that is broken."""
    faults = {name: fault for name, check in CHECKS.items() if (fault := check(situation, limits)) is not None}
    if "broken_reference" in faults:
        for name in ("fallen", "spinning", "far_reference"):
            faults.pop(name, None)
    return sorted(faults.values(), key=lambda fault: fault.leads_to != "damping")


# --- the robot's side


def no_state(s: Situation, limits: Limits) -> Fault | None:
    if s.received is None:
        return _fault("no_state", "no state has come from the robot")
    age = s.now_s - s.received.arrived_s
    if age > limits.stale_state_s:
        return _fault("stale_state", f"the newest state is {age * 1000:.0f} ms old", age_s=age)
    return None


def frozen_clock(s: Situation, limits: Limits) -> Fault | None:
    if s.tick_age_s > limits.frozen_tick_s:
        return _fault("frozen_clock", f"the robot's clock stands still since {s.tick_age_s:.2f} s", age_s=s.tick_age_s)
    return None


def other_clock(s: Situation, limits: Limits) -> Fault | None:
    """The robot has started anew, or two robots speak in one domain, or old messages come again."""
    if s.tick_back_ms > 0:
        return _fault("other_clock", f"the robot's clock went back by {s.tick_back_ms} ms", back_ms=s.tick_back_ms)
    return None


def corrupt(s: Situation, limits: Limits) -> Fault | None:
    if s.refused > limits.most_refused:
        return _fault("corrupt", f"{s.refused} messages of the last second were refused", refused=s.refused)
    return None


def other_machine(s: Situation, limits: Limits) -> Fault | None:
    if s.received is None or s.machine is None or s.received.state.mode_machine == s.machine:
        return None
    now = s.received.state.mode_machine
    return _fault("other_machine", f"the robot says it is machine {now}, not {s.machine}", machine=now)


def remote_stop(s: Situation, limits: Limits) -> Fault | None:
    if s.received is None:
        return None
    pressed = decode_remote(s.received.state.remote).pressed
    if any(buttons <= pressed for buttons in STOP_BUTTONS):
        return _fault("remote_stop", f"{' + '.join(sorted(pressed))} pressed on the robot's remote")
    return None


def not_finite(s: Situation, limits: Limits) -> Fault | None:
    if s.received is None:
        return None
    state = s.received.state
    for name in ("joint_position", "joint_speed", "root_rotation", "angular_velocity", "temperature"):
        if not np.isfinite(getattr(state, name)).all():
            return _fault("not_finite", f"{name} holds NaN or infinity")
    norm = float(np.linalg.norm(state.root_rotation))
    if abs(norm - 1) > 0.05:
        return _fault("not_finite", f"the orientation's quaternion has length {norm:.2f}, not 1", norm=norm)
    return None


def motor_fault(s: Situation, limits: Limits) -> Fault | None:
    if s.received is None:
        return None
    # Motors that nobody has commanded until now may say so for a while.
    told = s.received.state.motor_fault & ~(NOBODY_COMMANDS if s.mode in ("damping", "stand") else 0)
    if not (bad := np.flatnonzero(told)).size:
        return None
    code = int(s.received.state.motor_fault[bad[0]])
    return _fault("motor_fault", f"{G1.joint_names[bad[0]]} says {code:#x}", joint=int(bad[0]), code=code)


def hot_motor(s: Situation, limits: Limits) -> Fault | None:
    if s.received is None:
        return None
    hottest = int(np.argmax(s.received.state.temperature))
    degrees = float(s.received.state.temperature[hottest])
    if degrees > limits.temperature:
        return _fault("hot_motor", f"{G1.joint_names[hottest]} has {degrees:.0f} °C", joint=hottest, degrees=degrees)
    return None


def joint_range(s: Situation, limits: Limits) -> Fault | None:
    if s.received is None:
        return None
    q = s.received.state.joint_position
    outside = np.maximum(G1.lower - q, q - G1.upper)
    worst = int(np.argmax(outside))
    if outside[worst] > limits.joint_margin:
        text = f"{G1.joint_names[worst]} is {outside[worst]:.2f} rad outside its range"
        return _fault("joint_range", text, joint=worst, outside=float(outside[worst]))
    return None


def joint_speed(s: Situation, limits: Limits) -> Fault | None:
    if s.received is None:
        return None
    share = np.abs(s.received.state.joint_speed) / G1.speed_limit
    worst = int(np.argmax(share))
    if share[worst] > limits.joint_speed:
        text = f"{G1.joint_names[worst]} turns at {share[worst]:.1f} times what it can"
        return _fault("joint_speed", text, joint=worst, share=float(share[worst]))
    return None


# --- the robot against what it should do


def fallen(s: Situation, limits: Limits) -> Fault | None:
    """Leaning otherwise than the reference, or than a stand."""
    if s.received is None or s.mode == "damping":
        return None
    upright = np.array([0.0, 0.0, -1.0])
    wanted = upright if s.reference is None else gravity(s.reference.qpos[0, 3:7])
    lean = float(np.arccos(np.clip(gravity(s.received.state.root_rotation) @ wanted, -1, 1)))
    if lean > limits.lean:
        return _fault("fallen", f"the robot leans {lean:.2f} rad away from where it should", lean=lean)
    return None


def spinning(s: Situation, limits: Limits) -> Fault | None:
    if s.received is None or s.mode == "damping":
        return None
    wanted = np.zeros(3) if s.reference is None else s.reference.velocity[0, 3:6]
    turn = float(np.linalg.norm(s.received.state.angular_velocity - wanted))
    if turn > limits.turn:
        return _fault("spinning", f"the pelvis turns {turn:.1f} rad/s otherwise than it should", turn=turn)
    return None


def far_reference(s: Situation, limits: Limits) -> Fault | None:
    if s.received is None or s.reference is None:
        return None
    distance = float(np.abs(s.reference.qpos[0, 7:] - s.received.state.joint_position).mean())
    if distance > limits.far_joints:
        return _fault("far_reference", f"joints are {distance:.2f} rad away from the reference", distance=distance)
    return None


# --- the reference


def no_reference(s: Situation, limits: Limits) -> Fault | None:
    if s.mode != "track" or s.reference is not None:
        return None
    return _fault("no_reference", "the source shows nothing any more", "settle")


def stale_reference(s: Situation, limits: Limits) -> Fault | None:
    if s.reference is None or s.reference.status != "held" or s.reference.age_s <= limits.stale_reference_s:
        return None
    age = s.reference.age_s
    return _fault("stale_reference", f"no new reference for {age * 1000:.0f} ms", "settle", age_s=age)


def broken_reference(s: Situation, limits: Limits) -> Fault | None:
    """NaN, no rotation, a root under the floor or in the sky, a jump from one frame to the next."""
    if s.reference is None:
        return None
    qpos, low, high = s.reference.qpos, *limits.reference_height
    if not (np.isfinite(qpos).all() and np.isfinite(s.reference.velocity).all()):
        return _fault("broken_reference", "the reference holds NaN or infinity", "settle")
    if (off := float(np.abs(np.linalg.norm(qpos[:, 3:7], axis=1) - 1).max())) > 0.05:
        return _fault("broken_reference", f"a quaternion's length is {off:.2f} off 1", "settle", off=off)
    if not ((qpos[:, 2] > low) & (qpos[:, 2] < high)).all():
        height = float(qpos[np.argmax(np.abs(qpos[:, 2] - 0.7)), 2])
        return _fault("broken_reference", f"the reference's root is {height:.2f} m high", "settle", height=height)
    if s.reference_before is None:
        return None
    step = np.abs(qpos[0, 7:] - s.reference_before[7:]) / (G1.speed_limit * s.period_s)
    turned = rotations.multiply(rotations.conjugate(s.reference_before[3:7]), qpos[0, 3:7])
    turn = float(np.linalg.norm(rotations.to_rotation_vector(turned[None])) / s.period_s)
    if step.max() > limits.reference_speed or turn > limits.reference_turn:
        text = f"the reference jumps: {step.max():.1f} times a joint's speed, its root turns at {turn:.0f} rad/s"
        return _fault("broken_reference", text, "settle", step=float(step.max()), turn=turn)
    return None


# --- the controller itself


def late(s: Situation, limits: Limits) -> Fault | None:
    if s.mode == "damping" or (s.late_s <= limits.late_s and s.late_count <= limits.late_periods):
        return None
    text = f"{s.late_count} control periods in a row began late, by {s.late_s * 1000:.0f} ms together"
    return _fault("late", text, late_s=s.late_s, count=s.late_count)


CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        no_state, frozen_clock, other_clock, corrupt, other_machine, remote_stop, not_finite, motor_fault, hot_motor,
        joint_range, joint_speed, fallen, spinning, far_reference, no_reference, stale_reference, broken_reference, late,
    )
}  # fmt: skip


def _fault(name: str, text: str, leads_to: str = "damping", **numbers: float) -> Fault:
    return Fault(name, text, leads_to, numbers)
