"""Train the student: rounds of rollouts, labelled by the experts, and of gradient steps on all that was seen so far.

    train_student(Path("runs/student"), env, {0: load_expert(walk), 1: load_expert(squat)}, cluster_of, StudentOptions())
    student = load_student(Path("runs/student"))     # trainer.student_policy: student.act(view)

A run is a function of environment, experts, options and seed: on one processor and thread, what was stopped or killed goes on and ends
with the same weights bit for bit. A checkpoint says after how many rollouts and steps it was taken; where the environments stood then,
the last rollout's file tells. A rollout that was broken off begins anew.

Under `torchrun` every process steps environments of its own, which the caller seeds by `trainer.processes.rank_and_world`, and writes
its own file of each round; all read all of them, so that the folder is one that all can see. Each takes a part of every batch.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from corpus.errors import MotionloomError
from corpus.loading.prefetch import ahead
from trainer.aggregate import Trajectories, read_ending, read_trajectories, save_trajectories, statistics
from trainer.checkpoint import checkpoint_steps, load_checkpoint, save_checkpoint
from trainer.dagger import ClusterOf, Environment, common_contract, draw_turns, expert_share, roll_out
from trainer.gpt import SIZES, Gpt, GptShape
from trainer.learner import Learner, Learning
from trainer.processes import Processes, joined
from trainer.run_file import check_same, write_run
from trainer.run_log import Interrupt, RunLog
from trainer.student_policy import KIND, StudentPolicy, policy_facts
from trainer.windows import split_windows

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StudentOptions:
    """What the student is and how it is trained."""

    shape: GptShape = SIZES["nano"]
    """How large it is."""
    rounds: int = 8
    """Rollouts, each followed by `steps_per_round` steps. More let the student see more of its own mistakes."""
    rollout_steps: int = 300
    """Control periods that every environment goes through in a round."""
    mixing_rounds: int = 3
    """The round from which on the student acts alone."""
    steps_per_round: int = 150
    """Gradient steps after each rollout, on windows of all rounds so far."""
    batch_size: int = 32
    """Windows per step, of all processes together; at least as many as there are experts."""
    length: int = 48
    """Steps of a window. Longer ones show the student more of what it will remember."""
    balanced: bool = False
    """Every cluster the same number of windows; else every step the same."""
    learning: Learning = Learning()
    held_out: float = 0.05
    """Share of the episodes that is only looked at, not learnt from."""
    held_out_windows: int = 128
    """Windows of them that the loss is told of after each round."""
    seed: int = 0
    device: str = "cpu"
    """"cpu", or "cuda": then in bfloat16 where that is safe."""
    threads: int = 1
    """Of the CPU. More than one are slower on busy machines, and rounding then depends on them."""
    checkpoint_steps: int = 500
    """Steps after which a checkpoint is written; besides, one after each rollout and each round."""
    log_steps: int = 10
    """Steps after which numbers are logged."""

    def __post_init__(self) -> None:
        if wrong := [name for name in _COUNTS if getattr(self, name) < 1]:
            raise MotionloomError(f"{', '.join(wrong)}: should be at least 1.")

    @property
    def total_steps(self) -> int:
        return self.rounds * self.steps_per_round


_COUNTS = ("rounds", "rollout_steps", "mixing_rounds", "steps_per_round", "batch_size", "length", "held_out_windows")
_COUNTS += ("threads", "checkpoint_steps", "log_steps")
_CHANGEABLE = ("device", "threads", "checkpoint_steps", "log_steps")
"""Options that a run which goes on may have changed."""


def train_student(
    folder: Path,
    env: Environment,
    experts: Mapping[int, Any],
    cluster_of: ClusterOf,
    options: StudentOptions = StudentOptions(),
    *,
    about: Mapping[str, Any] | None = None,
) -> Path:
    """Train in a run's folder, from its beginning or from where the run stands; ctrl-C saves and raises `KeyboardInterrupt`.

    `env` is fresh, as it was when the run began; `experts` are policies by cluster; `cluster_of` gives the clusters of segments.
    `about` goes into `run.json`: what the motions are. A run only goes on with the same.
    """
    with joined(options.device) as processes, Interrupt() as interrupt:
        run = StudentRun(folder, env, experts, cluster_of, options, processes, about)
        run.train(interrupt)
    if run.learner.step < options.total_steps:
        raise KeyboardInterrupt  # all is saved; who called should not take it for an end
    return folder


class StudentRun:
    """A run in its folder: `rounds_begun` rollouts are done, and `learner.step` steps."""

    def __init__(
        self,
        folder: Path,
        env: Environment,
        experts: Mapping[int, Any],
        cluster_of: ClusterOf,
        options: StudentOptions,
        processes: Processes = Processes(),
        about: Mapping[str, Any] | None = None,
    ):
        self.folder, self.env, self.experts, self.cluster_of = folder, env, experts, cluster_of
        self.options, self.processes, self.rounds_begun = options, processes, 0
        self.contract = common_contract(env, experts)
        if options.batch_size < max(len(experts), processes.world):
            raise MotionloomError(
                f"batch_size {options.batch_size}: should be at least the number of experts ({len(experts)}) and processes."
            )
        if options.device == "cpu":
            torch.set_num_threads(options.threads)
        size, count = self.contract.observation.size, len(self.contract.joint_names)
        self.model = Gpt(size, count, options.shape, seed=options.seed).to(processes.device)
        self.learner = Learner(self.model, options.learning, options.total_steps, processes)
        self._begin_or_go_on(about or {})

    def train(self, interrupt: Any) -> None:
        """To the end, or until `interrupt.asked`; what is done by then is saved."""
        total, asked = self.options.total_steps, False
        is_first = self.processes.rank == 0  # it logs for all
        with RunLog(self.folder, total, step=self.learner.step) if is_first else nullcontext() as run_log:
            while self.learner.step < total and not asked:
                if self.learner.step == self.rounds_begun * self.options.steps_per_round:
                    asked = self._roll_out(interrupt)
                else:
                    asked = self._learn(interrupt, run_log)

    def _roll_out(self, interrupt: Any) -> bool:
        """The next round's rollout; True where somebody asked to stop, and it does not count."""
        options, rank, number = self.options, self.processes.rank, self.rounds_begun
        share = expert_share(number, options.mixing_rounds)
        student = StudentPolicy(self.model, self.contract) if share < 1 else None
        envs = len(self.env.began) * rank + np.arange(len(self.env.began))
        turns = draw_turns(options.seed, number * options.rollout_steps, share, envs)
        done = roll_out(
            self.env, student, self.experts, self.cluster_of, turns,
            steps=options.rollout_steps, stop=lambda: interrupt.asked,
        )  # fmt: skip
        if self.processes.sum(done is None)[0]:
            return True
        assert done is not None
        save_trajectories(self.folder, number, rank, *done, self.env.state_dict())
        self.processes.wait()  # all files are there
        self.rounds_begun += 1
        if number == 0:
            self.model.set_normalisation(*statistics(self._rollouts()))
        self._save()
        return False

    def _learn(self, interrupt: Any, run_log: RunLog | None) -> bool:
        """Steps to the end of the round; True where somebody asked to stop meanwhile."""
        options, processes = self.options, self.processes
        training, held_out = split_windows(
            self._rollouts(), length=options.length, held_out=options.held_out, balanced=options.balanced
        )
        first, last = self.learner.step, self.rounds_begun * options.steps_per_round
        share = {"rank": processes.rank, "world": processes.world}
        batches = (training.batch(options.seed, step, options.batch_size, **share) for step in range(first, last))
        for batch in ahead(batches, 2):
            numbers, (asked,) = self.learner.advance(batch, interrupt.asked)
            step = self.learner.step
            if step == last and len(held_out.episodes):
                probe = held_out.batch(options.seed, 0, max(options.held_out_windows, processes.world), **share)
                numbers["held_out_loss"] = self.learner.loss_on(probe)
            if run_log is not None:
                self._tell(run_log, numbers)
            if asked or step == last or step % options.checkpoint_steps == 0:
                self._save()
            if asked:
                return True
        return False

    def _tell(self, run_log: RunLog, numbers: dict[str, float]) -> None:
        """A line every `log_steps`, and for a round's first step, with what its rollouts were like, and its last."""
        step, options = self.learner.step, self.options
        place = step % options.steps_per_round
        if place == 1 % options.steps_per_round:
            facts = [read_ending(self.folder, self.rounds_begun - 1, rank)[0] for rank in range(self.processes.world)]
            means = {f"rollout/{name}": float(np.mean([told[name] for told in facts])) for name in facts[0]}
            numbers = {**numbers, "round": self.rounds_begun - 1, **means}
        elif place and step % options.log_steps:
            return
        run_log.write(step, **numbers)

    def _rollouts(self) -> list[Trajectories]:
        return read_trajectories(self.folder, rounds=self.rounds_begun, ranks=self.processes.world)

    def _save(self) -> None:
        """A checkpoint, by the first process; the others' weights are the same."""
        if self.processes.rank == 0:
            arrays, facts = self.learner.arrays_and_facts()
            facts |= {"kind": KIND, "rounds_begun": self.rounds_begun}
            save_checkpoint(self.folder, arrays, {**facts, **policy_facts(self.model, self.contract)})
        self.processes.wait()

    def _begin_or_go_on(self, about: Mapping[str, Any]) -> None:
        mine = {**about, "kind": KIND, "processes": self.processes.world, "contract": self.contract.to_json()}
        mine["options"] = dataclasses.asdict(self.options)
        check_same(self.folder, mine, changeable=_CHANGEABLE)
        if checkpoint_steps(self.folder):
            arrays, facts = load_checkpoint(self.folder, kind=KIND)
            self.learner.go_on(arrays, facts)
            self.rounds_begun = int(facts["rounds_begun"])
            self.env.load_state_dict(read_ending(self.folder, self.rounds_begun - 1, self.processes.rank)[1])
            log.info("going on from step %d, in round %d", self.learner.step, self.rounds_begun - 1)
        self.processes.wait()  # all have read what was there
        if self.processes.rank == 0:
            write_run(self.folder, mine)
