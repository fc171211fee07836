"""One control period of the robot: read, check, decide, observe, infer, clamp, write, log. The same for robot and simulator.

controller = Controller(policy, source, link)
report = controller.step(time.monotonic(), wish="track")    # 50 times a second; `deploy.runtime` keeps the time
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from corpus import rotations
from corpus.errors import MotionloomError
from corpus.g1 import G1
from deploy.clamps import clamped
from deploy.contract import STANDING, Contract
from deploy.hearing import Hearing
from deploy.joining import Joining
from deploy.link import Link, Received
from deploy.log import Step
from deploy.messages import LowCmd, LowState, damping
from deploy.modes import Modes, advanced
from deploy.observation import Reference, RobotState, gravity, observe
from deploy.reference import Preview, ReferenceSource
from deploy.report import Journal, Policy, Report
from deploy.safety import broken_reference, found
from deploy.settle import Offset, Settling
from deploy.situation import Fault, Limits, Situation
from deploy.stages import Stages
from deploy.stance import standing
from deploy.stand import StandOptions, stand_command, stand_gains

READY_JOINTS, READY_LEAN = 0.5, 0.3
"""A robot farther than that from the posture it should stand in, or from upright, does not begin a motion [rad]."""
STILL = 0.5
"""A robot that turns faster than that has not come to rest [rad/s]."""


class Controller:
    def __init__(
        self,
        policy: Policy,
        source: ReferenceSource,
        link: Link,
        *,
        posture: Float[np.ndarray, " J"] | None = STANDING,
        limits: Limits = Limits(),
        stand: StandOptions = StandOptions(),
        journal: Journal | None = None,
        machine: int | None = None,
    ):
        """`source` shows the frames of `frames_of(policy.contract)`; `posture` are the joints in which it is waited for [rad]; None
        waits for a person who stands still, in their posture. `machine` is
        what the robot has to call itself; None: whatever it says first."""
        self.policy, self.source, self.link, self.journal = policy, source, link, journal
        self.limits, self.stand, self.contract = limits, stand, policy.contract
        self.frames = frames_of(self.contract)
        self.period_s = 1 / self.contract.control_hz
        self._seen = [self.frames.index(frame) for frame in self.contract.observation.frames]
        self._next = self.frames.index(1)
        self._joining = Joining() if posture is None else None
        self._first = self._posture = STANDING if posture is None else posture
        self.modes, self.stages = Modes(), Stages()
        self._hearing = Hearing(machine)
        self._told: set[str] = set()
        self._received: Received | None = None
        self._shown: Preview | None = None
        self._start = self._target = self._posture
        self._stiff = self._ended = False
        self._action = np.zeros(G1.joint_count, np.float32)
        self._turned = rotations.about_z(np.array(0.0))
        self._offset: tuple[Offset, float] | None = None
        self._settling: tuple[Settling, float] | None = None

    def step(self, now_s: float, wish: str = "track", *, late_s: float = 0.0, late_count: int = 0) -> Report:
        """Everything of one control period; never raises for what robot, reference or policy do."""
        self.stages.begin()
        self._received = received = self.link.read()
        heard = self._hearing.heard(received, self.link.refused, now_s)
        self.stages.mark("read")
        preview = self._looked(now_s)
        self.stages.mark("look")
        followed = self.modes.mode in ("track", "settle")
        situation = Situation(
            now_s, self.modes.mode, received, *heard, late_s, late_count,
            preview if followed else None, self._now_before() if followed else None, period_s=self.period_s,
        )  # fmt: skip
        faults = found(situation, self.limits)
        self._advance(now_s, wish, faults, received, preview)
        self.stages.mark("check")
        command, action = self._command(now_s, received, faults)
        self.link.write(command)
        self.stages.mark("write")
        shown = self._shown if self.modes.mode in ("track", "settle") else None
        report = Report(
            self.modes, faults, "" if shown is None else shown.status, self._ended, command, self.stages.so_far(),
            None if received is None else received.state, shown, action,
        )  # fmt: skip
        self._note(now_s, report)
        self.stages.mark("log")
        self.stages.end()
        return report

    # --- what is there

    def _looked(self, now_s: float) -> Preview | None:
        """The reference as it is shown to the policy: the source's, its offset fading, or the way to a stand."""
        mode = self.modes.mode
        if mode == "settle" and self._settling is not None:
            settling, since = self._settling
            return settling.preview(now_s - since, self.frames)
        if mode == "damping":
            return None
        preview = self._look(now_s)
        if preview is None or mode != "track" or self._offset is None:
            return preview
        offset, since = self._offset
        return offset.added(preview, now_s - since + np.array(self.frames) * self.period_s)

    def _look(self, now_s: float) -> Preview | None:
        try:
            return self.source.look(now_s)
        except (ValueError, MotionloomError) as error:  # then it has nothing to show
            if self.journal is not None:
                self.journal.event(now_s, "source", text=str(error))
            return None

    def _now_before(self) -> Float[np.ndarray, " 36"] | None:
        return None if self._shown is None else self._shown.qpos[0]

    # --- what shall be

    def _advance(
        self, now_s: float, wish: str, faults: list[Fault], received: Received | None, preview: Preview | None
    ) -> None:
        before = self.modes
        if preview is not None and preview.status == "ended" and before.mode == "track":
            self._ended = True
        if self._ended and wish == "track" and before.mode == "track":
            wish = "stand"
        if any(fault.name == "remote_stop" for fault in faults):
            wish = "stop"  # also where the robot only damps: it shall not stand up afterwards
        since = now_s - before.since_s
        up = since > self.stand.ramp_s + self.stand.hold_s
        if up and before.mode == "stand" and self._joining is not None:
            self._posture = self._joining.follow(preview, self._posture, self.period_s)
        self.modes = advanced(
            before, wish, faults, now_s, up=up,
            near=received is not None and self._is_ready(received.state) and self._may_begin(now_s, preview),
            settled=received is not None and self._has_settled(received.state, since),
        )  # fmt: skip
        if self.modes.mode != before.mode:
            self._enter(self.modes.mode, before.mode, now_s, received, preview)
        elif self.modes.mode in ("track", "settle"):
            assert preview is not None  # else `no_reference` would have led elsewhere
            self._shown = preview
        self._tell(now_s, before, faults)

    def _may_begin(self, now_s: float, preview: Preview | None) -> bool:
        if preview is None or preview.status != "live":
            return False
        if self._joining is not None and not self._joining.ready(preview, self._posture):
            return False
        return broken_reference(Situation(now_s, "stand", None, reference=preview), self.limits) is None

    def _is_ready(self, state: LowState) -> bool:
        """In the posture that it should stand in, and upright."""
        return bool(np.abs(state.joint_position - self._posture).max() < READY_JOINTS and is_upright(state))

    def _has_settled(self, state: LowState, since_s: float) -> bool:
        """Long enough on the way to a stand, upright and still: until then the policy keeps the robot."""
        if self._settling is None or since_s <= self._settling[0].settled_s + 0.5:
            return False
        return bool(np.linalg.norm(state.angular_velocity) < STILL and is_upright(state))

    def _enter(self, mode: str, before: str, now_s: float, received: Received | None, preview: Preview | None) -> None:
        joints = self._posture if received is None else received.state.joint_position
        if mode == "stand":
            self._stiff = before == "settle"
            self._start = joints.copy()
            if self._stiff:  # what bears the robot's weight goes on bearing it: the same torques by other gains
                self._start += self.contract.gains.kp * (self._target - joints) / stand_gains(self.stand)[0]
            self._target = self._start.copy()
            self._posture = self._start if self._stiff else self._first
            self._shown = None
        elif mode == "track" and preview is not None and received is not None:
            self._begin_track(now_s, received.state, preview)
        elif mode == "settle" and self._shown is not None:
            # What the last control period showed as the next frame is now.
            begun = Settling(self._shown.qpos[self._next], self._shown.velocity[self._next])
            self._settling = (begun, now_s)
            self._shown = begun.preview(0.0, self.frames)

    def _begin_track(self, now_s: float, state: LowState, preview: Preview) -> None:
        """The motion begins where the robot stands, facing its way, in the posture that it stands in."""
        self.source.begin()
        preview, self._ended = self._look(now_s) or preview, False
        stood = standing(joints=self._posture)
        here = rotations.multiply(rotations.about_z(rotations.heading(preview.qpos[0, 3:7])), stood[3:7])
        stood[3:7] = here
        offset = Offset.between(stood, np.zeros(35), preview.qpos[0], np.zeros(35))
        self._offset = (offset, now_s)
        self._shown = offset.added(preview, np.array(self.frames) * self.period_s)
        away = rotations.heading(preview.qpos[0, 3:7]) - rotations.heading(state.root_rotation)
        self._turned = rotations.about_z(np.asarray(away))
        self._action = np.zeros(G1.joint_count, np.float32)
        self._target = state.joint_position.copy()
        self.policy.forget()

    def _command(
        self, now_s: float, received: Received | None, faults: list[Fault]
    ) -> tuple[LowCmd, Float[np.ndarray, " J"] | None]:
        mode = self.modes.mode
        if received is None or mode == "damping":
            return self._damping(received), None
        state = received.state
        if mode == "stand":
            since = now_s - self.modes.since_s
            command = stand_command(state, self._start, self._posture, since, self.stand, stiff=self._stiff)
            return self._clamped(command, state), None
        try:
            return self._tracking(state)
        except (ValueError, MotionloomError) as error:  # NaN out of the policy, or into it
            command, fault = self._given_up(now_s, state, error)
            faults.append(fault)
            return command, None

    def _tracking(self, state: LowState) -> tuple[LowCmd, Float[np.ndarray, " J"]]:
        assert self._shown is not None
        qpos, velocity = self._shown.qpos, self._shown.velocity
        robot = RobotState(
            state.joint_position[None], state.joint_speed[None],
            rotations.multiply(self._turned, state.root_rotation)[None], state.angular_velocity[None], self._action[None],
        )  # fmt: skip
        seen = observe(self.contract, robot, Reference(qpos[None, self._seen], velocity[None, self._seen]))[0]
        self.stages.mark("observe")
        action = np.array(self.policy.act(seen), np.float32)
        if not np.isfinite(action).all():
            raise ValueError("the policy's action holds NaN or infinity")
        self.stages.mark("infer")
        self._action = action
        gains = self.contract.gains
        target = self.contract.targets(action[None], qpos[None, self._next, 7:])[0]
        command = LowCmd(target, gains.kp, gains.kd, state.mode_machine)
        return self._clamped(command, state), action

    def _clamped(self, command: LowCmd, state: LowState) -> LowCmd:
        self._target = clamped(
            command.joint_position, self._target, state.joint_position, state.joint_speed, command.kp, command.kd,
            self.contract.gains.effort, period_s=self.period_s, limits=self.limits,
        )  # fmt: skip
        self.stages.mark("clamp")
        return LowCmd(self._target, command.kp, command.kd, command.mode_machine)

    def damp(self) -> None:
        """Let the robot sink down now: the last command of a program that goes wrong."""
        self.link.write(self._damping(self._received))

    def _damping(self, received: Received | None) -> LowCmd:
        if received is None:
            return damping(STANDING, 0)
        position = received.state.joint_position
        if not np.isfinite(position).all():
            position = STANDING  # without stiffness it means nothing
        return damping(position, received.state.mode_machine)

    def _given_up(self, now_s: float, state: LowState, error: Exception) -> tuple[LowCmd, Fault]:
        fault = Fault("policy", str(error))
        before, self.modes = self.modes, Modes("damping", now_s, stopped=True, fault=fault.name)
        self._tell(now_s, before, [fault])
        return self._damping(Received(state, now_s)), fault

    def _note(self, now_s: float, report: Report) -> None:
        if self.journal is None or report.state is None:
            return
        reference = None if report.reference is None else report.reference.qpos[0]
        step = Step(
            now_s,
            report.state,
            report.modes.mode,
            reference,
            report.action,
            report.command,
            report.stages,
            report.status,
        )
        self.journal.add(step)

    def _tell(self, now_s: float, before: Modes, faults: list[Fault]) -> None:
        """Mode changes and the faults that made them go into the journal; so do faults that keep the robot where it is."""
        changed, told = self.modes.mode != before.mode, self._told
        self._told = {fault.name for fault in faults}
        if self.journal is None:
            return
        for fault in faults:
            if changed or fault.name not in told:
                self.journal.event(now_s, fault.name, text=fault.text, **fault.numbers)
        if changed:
            why = {"fault": self.modes.fault} if self.modes.fault else {}
            self.journal.event(now_s, "mode", before=before.mode, now=self.modes.mode, **why)


def is_upright(state: LowState) -> bool:
    return bool(-gravity(state.root_rotation)[2] > np.cos(READY_LEAN))


def frames_of(contract: Contract) -> tuple[int, ...]:
    """The reference's frames that a controller needs: now, the one that an action leads to, and those that the policy sees."""
    return tuple(sorted({0, 1, *contract.observation.frames}))
