"""Many robots that follow motions: what the policy sees, what its action earns, when an episode ends and the next begins.

At time t a robot is compared with frame t of its reference; the policy sees frames from t + 1 on, and its action leads to t + 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from corpus import rotations
from corpus.errors import MotionloomError
from corpus.g1 import KEY_BODIES
from deploy.contract import Contract
from deploy.observation import Reference, RobotState, observe
from trainer.backend import Backend
from trainer.kinematics import BodyStates, body_states
from trainer.randomise import NONE, Randomisation, delayed, joint_offsets, measured, pushes, varied_start
from trainer.references import References
from trainer.rewards import Moment, RewardOptions, about_vertical, reward
from trainer.rules import RULES


@dataclass(frozen=True)
class View:
    """What policies see, of N robots."""

    observation: Float[np.ndarray, "N D"]
    """What the robot itself can know, with its noise."""
    privileged: Float[np.ndarray, "N P"]
    """What only a simulator knows."""
    reference_joints: Float[np.ndarray, "N J"]
    """Of the frame that the action leads to [rad]."""


@dataclass(frozen=True)
class Step:
    """What came of an action."""

    reward: Float[np.ndarray, " N"]
    terms: dict[str, Float[np.ndarray, " N"]]
    failed: Bool[np.ndarray, " N"]
    finished: Bool[np.ndarray, " N"]
    """The motion, or the time for it, was over: no failure."""


@dataclass(frozen=True)
class EnvOptions:
    """How episodes go."""

    failure: str = "trunk"
    """Rule (`trainer.rules.RULES`) by which an episode has failed."""
    reward: RewardOptions = RewardOptions()
    randomisation: Randomisation = NONE
    """Of starts, sensors, delays and pushes; the robots' own differences are the backend's models'."""
    seed: int = 0
    """Of all that is randomised."""


FASTEST = 1000.0
"""A simulation in which anything moves faster has blown up [m/s, rad/s]: the episode has failed and earns nothing."""


class TrackingEnv:
    """N robots, each after its own reference; an episode's end begins the next one at once."""

    def __init__(
        self,
        backend: Backend,
        references: References,
        *,
        contract: Contract | None = None,
        options: EnvOptions = EnvOptions(),
    ):
        self.backend, self.references = backend, references
        self.contract, self.options = contract or Contract(), options
        self.count = backend.count
        length, joints = references.length, len(self.contract.joint_names)
        self.ahead = np.array(self.contract.observation.frames)
        if length <= self.ahead[-1]:
            raise MotionloomError(f"References of {length} frames: the observation looks {self.ahead[-1]} ahead.")
        self._qpos = np.zeros((self.count, length, 7 + joints), np.float32)
        self._velocity = np.zeros((self.count, length, 6 + joints), np.float32)
        self.last = np.zeros(self.count, int)
        """Number of each reference's last frame."""
        self.time = np.zeros(self.count, int)
        """Frames of the reference that each has gone."""
        self.segment = np.zeros(self.count, int)
        self.start = np.zeros(self.count, int)
        """The segment's frame that each episode began with."""
        self.speed = np.ones(self.count)
        self.last_action = np.zeros((self.count, joints))
        self.began = np.ones(self.count, bool)
        """Where the current view is an episode's first."""
        self.clock = 0
        """Control periods since the run began."""
        self._all = np.arange(self.count)
        self._late = delayed(self.options.randomisation, self.options.seed, self._all)
        self._offsets = joint_offsets(self.options.randomisation, self.options.seed, self._all)
        self.last_targets = np.zeros((self.count, joints))
        self._look()
        self._begin(self._all)

    @property
    def frame(self) -> Int[np.ndarray, " N"]:
        """The segment's frame that each is at."""
        return self.start + np.floor(self.time * self.speed).astype(int)

    @property
    def privileged_size(self) -> int:
        return privileged(self.robot, self.reference).shape[1]

    def view(self) -> View:
        """What there is to see now."""
        at = np.minimum(self.time[:, None] + self.ahead, self.last[:, None])
        qpos = self._qpos[self._all[:, None], at].astype(float)
        reference = Reference(qpos, self._velocity[self._all[:, None], at])
        random = self.options.randomisation, self.options.seed, self.clock, self._all
        observation = observe(self.contract, measured(self._state(), *random), reference)
        hidden = privileged(self.robot, self.reference).astype(np.float32)
        return View(observation, hidden, self.joints_ahead())

    def step(self, action: Float[np.ndarray, "N J"]) -> Step:
        """Act for one control period; episodes that end begin anew."""
        action = np.array(action, float)  # a copy: what was done last is kept, and forgotten where an episode ends
        targets = self.contract.targets(action, self.joints_ahead())
        arrived = np.where((self._late & ~self.began)[:, None], self.last_targets, targets)
        self.last_targets = targets
        self.backend.step(arrived - self._offsets)
        self.time += 1
        self.clock += 1
        self._push()
        self._look()
        moment = Moment(self.robot, self.reference, self.backend.qpos[:, 7:], action, self.last_action)
        earned, terms = reward(moment, self.options.reward, 1 / self.contract.control_hz)
        lost = ~((np.abs(self.backend.qvel).max(1) < FASTEST) & np.isfinite(action).all(1))
        if lost.any():
            earned, terms = np.where(lost, 0, earned), {name: np.where(lost, 0, term) for name, term in terms.items()}
        failed = RULES[self.options.failure](self.robot, self.reference) | lost
        finished = (self.time >= self.last) & ~failed
        self.last_action = action
        result = Step(earned, terms, failed, finished)
        self.ended = self.segment.copy(), self.frame.copy(), self.start.copy()
        self.began = failed | finished
        if self.began.any():
            self._begin(np.flatnonzero(self.began))
        return result

    def joints_ahead(self) -> Float[np.ndarray, "N J"]:
        """Joint angles of the frame that the next action leads to [rad]."""
        return self._qpos[self._all, np.minimum(self.time + 1, self.last), 7:].astype(float)

    def state_dict(self) -> dict[str, np.ndarray]:
        """All that `load_state_dict` needs to go on exactly here."""
        arrays = {name: getattr(self, name).copy() for name in _STATE}
        arrays |= {"qpos": self.backend.qpos.copy(), "qvel": self.backend.qvel.copy(), "clock": np.array(self.clock)}
        return arrays | {f"references.{name}": np.array(value) for name, value in self.references.state_dict().items()}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from there; raises `MotionloomError` where the state is of another number of robots."""
        if len(state["qpos"]) != self.count:
            raise MotionloomError(
                f"The state to resume has {len(state['qpos'])} robots, this environment {self.count}."
            )
        for name in _STATE:
            setattr(self, name, np.array(state[name]))
        self.clock = int(state["clock"])
        start = "references."
        told = {name.removeprefix(start): value.item() for name, value in state.items() if name.startswith(start)}
        self.references.load_state_dict(told)
        self.backend.reset(self._all, state["qpos"], state["qvel"])
        self._look()

    def _begin(self, envs: Int[np.ndarray, " R"]) -> None:
        drawn = self.references.draw(len(envs))
        self._qpos[envs], self._velocity[envs] = drawn.qpos, drawn.velocity
        self.last[envs], self.time[envs] = drawn.frames - 1, 0
        self.segment[envs], self.start[envs], self.speed[envs] = drawn.segment, drawn.frame, drawn.speed
        self.last_action[envs] = 0
        random = self.options.randomisation, self.options.seed, self.clock, envs
        self.backend.reset(envs, *varied_start(*random, drawn.qpos[:, 0], drawn.velocity[:, 0]))
        self._look(envs)

    def _push(self) -> None:
        kick = pushes(self.options.randomisation, self.options.seed, self.clock, self._all)
        if len(envs := np.flatnonzero(kick.any(1))):
            qvel = self.backend.qvel[envs].copy()
            qvel[:, :6] += kick[envs]
            self.backend.reset(envs, self.backend.qpos[envs].copy(), qvel)

    def _look(self, envs: Int[np.ndarray, " R"] | None = None) -> None:
        """Bodies of robot and reference, now; where only some have changed, of those."""
        rows = slice(None) if envs is None else envs
        numbers = self._all[rows]
        now = np.minimum(self.time, self.last)[rows]
        qpos = np.concatenate([self.backend.qpos[rows], self._qpos[numbers, now]])
        both = body_states(qpos, np.concatenate([self.backend.qvel[rows], self._velocity[numbers, now]]))
        robot, reference = both.rows(slice(0, len(numbers))), both.rows(slice(len(numbers), None))
        if envs is None:
            self.robot, self.reference = robot, reference
        else:
            self.robot.put(envs, robot)
            self.reference.put(envs, reference)

    def _state(self) -> RobotState:
        qpos, qvel = self.backend.qpos, self.backend.qvel
        return RobotState(qpos[:, 7:], qvel[:, 6:], qpos[:, 3:7], qvel[:, 3:6], self.last_action)


_STATE = (
    "last", "time", "segment", "start", "speed", "last_action", "last_targets", "began", "_qpos", "_velocity",
)  # fmt: skip
"""Attributes that an interrupted run needs, beside the backend's and the references' own."""


def privileged(robot: BodyStates, reference: BodyStates) -> Float[np.ndarray, "N P"]:
    """In the robot's heading frame: its velocity, the way to the reference's root, and from each body to where it should be."""
    level = np.array([1.0, 1.0, 0.0])
    vectors = np.concatenate(
        [
            robot.velocity[:, :1],
            reference.velocity[:, :1] - robot.velocity[:, :1],
            reference.position[:, :1] - robot.position[:, :1],
            robot.position - robot.position[:, :1] * level,
            robot.velocity,
        ],
        1,
    )
    root, bodies, velocity = np.split(_from_heading(robot, vectors), [3, 3 + len(KEY_BODIES)], 1)
    # Turned into the robot's place and seen from there, the reference is as seen from its own heading.
    asked = _from_heading(reference, reference.position - reference.position[:, :1] * level)
    return np.concatenate([root, asked - bodies, bodies, velocity], 1).reshape(len(vectors), -1)


def _from_heading(states: BodyStates, vectors: Float[np.ndarray, "N K 3"]) -> Float[np.ndarray, "N K 3"]:
    """Vectors of the world in the frame of the pelvis's heading."""
    return about_vertical(-rotations.heading(states.rotation[:, :1]), vectors)
