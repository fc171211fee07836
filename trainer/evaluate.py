"""The referee: put a policy on motions it is to follow, let it run to their end in MuJoCo on the CPU, and write down what it did.

Equal inputs give equal bits on one machine, whatever the number of threads and the time of day (as long as the policy itself
does; torch on one thread does). Nobody is picked up: after a failure the rollout goes on to the end, so errors of the whole are
of what the robot really did. Each rule is asked at every frame of that one rollout, and has failed for good where it fails once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from corpus.errors import MotionloomError
from corpus.motion import velocity
from deploy.contract import CONTROL_HZ, Contract
from deploy.observation import Reference, RobotState, observe
from deploy.physics import Physics, build_model
from trainer.backend import CpuBackend
from trainer.env import privileged
from trainer.exam import Exam, Starts, starts_of
from trainer.kinematics import BodyStates, body_states
from trainer.metrics import Track, measure
from trainer.policies import Policy, Sight
from trainer.randomise import NONE, Randomisation, delayed, joint_offsets, measured, pushes, varied_start, vary_model
from trainer.rules import HEIGHT_LIMIT, PLACE_LIMIT, RULES, TURN_LIMIT

MOST = 2**32 - 1
"""Of any figure of a trial."""


@dataclass(frozen=True)
class Trial:
    """How policies are tried."""

    starts: int | None = None
    """Random starts per motion; None puts one robot on its first frame."""
    seconds: float | None = None
    """Longest rollout [s]; None goes on to the motion's end."""
    randomisation: Randomisation = NONE
    """In what robots, starts and sensors differ from the ideal, and how they are pushed; drawn by the start's number, so that all
    policies meet the same."""
    physics: Physics = Physics()
    seed: int = 0
    """Of starts and chance. A training with the same seed had the very same robots by number: take another one where they differ."""
    batch: int = 64
    """Robots at a time. Outcomes do not depend on it, except as a network's last bits depend on the size of its batch."""
    threads: int = 1
    """Of MuJoCo; outcomes do not depend on them."""

    def __post_init__(self) -> None:
        least = {"starts": 1, "seconds": 1 / CONTROL_HZ, "seed": 0, "batch": 1, "threads": 1}
        for name, limit in least.items():
            value = getattr(self, name)
            if value is not None and not limit <= value <= MOST:
                raise MotionloomError(f"trial: {name} should be from {limit:g} to {MOST}; got {value:g}.")


@dataclass(frozen=True)
class Followed:
    """What N robots follow, with room for the longest of them; frame 0 is where they are put."""

    qpos: Float[np.ndarray, "N L 7+J"]
    velocity: Float[np.ndarray, "N L 6+J"]
    last: Int[np.ndarray, " N"]
    """Number of each motion's last frame."""

    def at(self, time: int, frames: Sequence[int]) -> Reference:
        """At frames counted from `time`; past the motion's end its last one, before the start the first."""
        when = np.clip(time + np.asarray(frames), 0, self.last[:, None])
        robots = np.arange(len(self.qpos))[:, None]
        return Reference(self.qpos[robots, when].astype(float), self.velocity[robots, when].astype(float))


def evaluate(policy: Policy, exam: Exam, trial: Trial = Trial()) -> pl.DataFrame:
    """A row per start: policy, segment, start, frames, the exam's facts, `<rule>_success`, `<rule>_frames`, `completed`, metrics.

    `<rule>_frames` counts frames to the one at which the rule failed, that one included, or all. Metrics over the executed part
    are over those of `trunk`; `completed` is the share of the frames before `trunk` failed.
    """
    contract = policy.contract
    period = trial.physics.control_period_s
    if abs(period * contract.control_hz - 1) > 1e-9 or contract.control_hz != CONTROL_HZ:
        raise MotionloomError(
            f"{policy.name} acts at {contract.control_hz:g} Hz, the physics has control periods of {period:g} s; both should be {CONTROL_HZ:g} Hz."
        )
    starts = starts_of(exam, count=trial.starts, seconds=trial.seconds, seed=trial.seed)
    size = min(trial.batch, len(starts))
    rows = []
    for first in range(0, len(starts), size):
        # The last batch is filled up with its last start, since a network's bits may depend on the batch's size.
        numbers = np.minimum(np.arange(first, first + size), len(starts) - 1)
        chosen = Starts(starts.motion[numbers], starts.frame[numbers], starts.frames[numbers])
        followed = _followed(exam, chosen, max(contract.observation.frames))
        qpos, qvel = rollout(policy, followed, numbers, int(chosen.frames.max()), trial)
        for i in range(min(size, len(starts) - first)):
            stop = chosen.frames[i] + 1
            judged = judge(qpos[:stop, i], qvel[:stop, i], followed.qpos[i, :stop], followed.velocity[i, :stop])
            rows.append(_facts(policy, exam, chosen, i) | judged)
    return pl.DataFrame(rows, infer_schema_length=None)


def rollout(
    policy: Policy, followed: Followed, numbers: Int[np.ndarray, " N"], frames: int, trial: Trial
) -> tuple[Float[np.ndarray, "T+1 N 7+J"], Float[np.ndarray, "T+1 N 6+J"]]:
    """States of N robots over so many frames, the start first; `numbers` are the starts', by which chance is drawn."""
    contract, chance, seed = policy.contract, trial.randomisation, trial.seed
    ideal = chance == NONE
    backend = _backend(contract, numbers, trial)
    envs, count = np.arange(len(numbers)), len(numbers)
    begin = followed.at(0, [0])
    place, rate = begin.qpos[:, 0], begin.velocity[:, 0]
    backend.reset(envs, *((place, rate) if ideal else varied_start(chance, seed, 0, numbers, place, rate)))
    policy.forget(envs)
    offset, late = joint_offsets(chance, seed, numbers), delayed(chance, seed, numbers)[:, None]
    last_action = before = np.zeros((count, len(contract.joint_names)))
    qpos, qvel = (np.empty((frames + 1, *array.shape)) for array in (backend.qpos, backend.qvel))
    qpos[0], qvel[0] = backend.qpos, backend.qvel
    for time in range(frames):
        state = RobotState(qpos[time, :, 7:], qvel[time, :, 6:], qpos[time, :, 3:7], qvel[time, :, 3:6], last_action)
        state = state if ideal else measured(state, chance, seed, time, numbers)
        sight = _sight(contract, followed, time, state, qpos[time], qvel[time])
        last_action = _checked(policy, policy.act(sight))
        targets = contract.targets(last_action, sight.reference_joints)
        backend.step(np.where(late & (time > 0), before, targets) - offset)
        before = targets
        if not ideal:
            backend.qvel[:, :6] += pushes(chance, seed, time + 1, numbers)
        qpos[time + 1], qvel[time + 1] = backend.qpos, backend.qvel
    return qpos, qvel


def conditions(policies: Sequence[Policy], trial: Trial) -> dict[str, Any]:
    """Under what the outcomes came about, for their file; without the threads, which change nothing."""
    import mujoco

    told = asdict(trial)
    del told["threads"]
    return {
        "trial": told,
        "mujoco": mujoco.__version__,
        "contracts": {policy.name: policy.contract.hash for policy in policies},
        "limits": {"height_m": HEIGHT_LIMIT, "turn_rad": TURN_LIMIT, "place_m": PLACE_LIMIT},
    }


def _sight(
    contract: Contract, followed: Followed, time: int, state: RobotState, qpos: np.ndarray, qvel: np.ndarray
) -> Sight:
    ahead = followed.at(time, [0, 1])
    robot = body_states(qpos, qvel)
    reference = body_states(ahead.qpos[:, 0], ahead.velocity[:, 0])
    return Sight(
        observe(contract, state, followed.at(time, contract.observation.frames)),
        privileged(robot, reference).astype(np.float32),
        ahead.qpos[:, 1, 7:],
        state,
        qpos,
        qvel,
        partial(followed.at, time),
    )


def _backend(contract: Contract, numbers: Int[np.ndarray, " N"], trial: Trial) -> CpuBackend:
    model: Any = build_model(contract.gains, trial.physics)
    if trial.randomisation != NONE:
        model = [vary_model(model, trial.randomisation, trial.seed, int(number)) for number in numbers]
    return CpuBackend(model, len(numbers), threads=trial.threads, substeps=trial.physics.substeps)


def _followed(exam: Exam, starts: Starts, ahead: int) -> Followed:
    """Motions from where the robots are put, to their ends or as far as anybody looks."""
    last = np.array([exam.about["frames"][int(i)] for i in starts.motion]) - 1 - starts.frame
    length = int(min(last.max(), starts.frames.max() + ahead)) + 1
    parts = {int(i): _states(exam, int(i)) for i in np.unique(starts.motion)}
    arrays = [np.zeros((len(starts), length, parts[int(starts.motion[0])][k].shape[1]), np.float32) for k in range(2)]
    for row, (i, frame) in enumerate(zip(starts.motion, starts.frame, strict=True)):
        for array, part in zip(arrays, parts[int(i)], strict=True):
            piece = part[frame : frame + length]
            array[row, : len(piece)] = piece
    return Followed(arrays[0], arrays[1], np.minimum(last, length - 1))


def _states(exam: Exam, number: int) -> tuple[Float[np.ndarray, "T 7+J"], Float[np.ndarray, "T 6+J"]]:
    motion = exam.motion(number)
    return motion.qpos.astype(np.float32), velocity(motion).astype(np.float32)


def judge(
    qpos: Float[np.ndarray, "T 7+J"],
    qvel: Float[np.ndarray, "T 6+J"],
    asked_qpos: Float[np.ndarray, "T 7+J"],
    asked_qvel: Float[np.ndarray, "T 6+J"],
) -> dict[str, Any]:
    """What is said of one robot's rollout, from where it was put on."""
    robot, reference = body_states(qpos, qvel), body_states(asked_qpos, asked_qvel)
    frames, found = len(qpos) - 1, {}
    for name, rule in RULES.items():
        failed = np.flatnonzero(rule(robot, reference)[1:])
        found[f"{name}_success"] = not len(failed)
        found[f"{name}_frames"] = int(failed[0]) + 1 if len(failed) else frames
    executed = found["trunk_frames"]
    completed = (executed - (not found["trunk_success"])) / frames
    tracks = _track(qpos, qvel, robot), _track(asked_qpos, asked_qvel, reference)
    return found | {"completed": completed} | measure(*tracks, executed)


def _track(qpos: np.ndarray, qvel: np.ndarray, bodies: BodyStates) -> Track:
    return Track(qpos[:, 7:].astype(float), qvel[:, 6:].astype(float), bodies.position, bodies.rotation)


def _facts(policy: Policy, exam: Exam, starts: Starts, i: int) -> dict[str, Any]:
    known = exam.about.row(int(starts.motion[i]), named=True)
    return {"policy": policy.name, **known, "start": int(starts.frame[i]), "frames": int(starts.frames[i])}


def _checked(policy: Policy, action: Any) -> Float[np.ndarray, "N J"]:
    # MuJoCo would take a target that is no number for zero, and nobody would notice.
    action = np.asarray(action, float)
    if not np.isfinite(action).all():
        raise MotionloomError(
            f"{policy.name} gave an action that is not a number; its weights or its normalisation are broken."
        )
    return action
