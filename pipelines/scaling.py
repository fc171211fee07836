"""How much better a student gets with more of a corpus and a larger network: students of the same experts, judged on what none has seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int

from corpus.catalog import Corpus
from corpus.errors import MotionloomError
from corpus.loading.sampling_plan import hash_of
from pipelines.split import read_split, recordings
from pipelines.training import Setup, cluster_stamp, clusters_of, ids_of, load_experts, make_env, plan_of
from trainer.aggregate import Trajectories, read_trajectories, rollout_path, save_trajectories
from trainer.dagger import roll_out
from trainer.evaluate import Trial, evaluate
from trainer.exam import exam_of_corpus
from trainer.expert import Expert
from trainer.gpt import SIZES, Gpt, parameter_count
from trainer.learner import Learner
from trainer.randomise import PRESETS
from trainer.scaling import nested_subsets, run_grid, validation_part
from trainer.scaling_report import ScalingReport, report
from trainer.student import StudentOptions, train_student
from trainer.student_policy import KIND, load_student
from trainer.windows import Windows, find_episodes


@dataclass(frozen=True)
class Grid:
    sizes: tuple[str, ...] = ("nano", "S", "B")
    """Of `trainer.gpt.SIZES`."""
    shares: tuple[float, ...] = (0.0625, 0.125, 0.25, 0.5, 1.0)
    """Of the frames that may be trained on."""
    seeds: tuple[int, ...] = (0,)
    validation_steps: int = 500
    """Control periods in which experts show what is right on motions for validation, of each robot."""


def scale(
    corpus: Corpus,
    folder: Path,
    *,
    experts: Sequence[Path],
    hme_id: str | None = None,
    grid: Grid = Grid(),
    setup: Setup = Setup(),
    options: StudentOptions = StudentOptions(),
) -> ScalingReport:
    """Train what is not trained yet, and fit the law; everything lies in `folder`."""
    of = clusters_of(corpus, hme_id)
    known = load_experts(experts, cluster_stamp(corpus, hme_id))
    chosen = np.isin(of, list(known))
    recording = recordings(corpus)["recording"].to_list()
    held_out = _validation(corpus, recording)
    subsets = nested_subsets(recording, corpus.frames, grid.shares, among=chosen & ~held_out)
    students = Students(corpus, folder, of, known, chosen & held_out, grid, setup, options)
    sizes = {size: students.parameters(size) for size in grid.sizes}
    return report(folder, run_grid(folder, sizes, subsets, grid.seeds, students, about=students.about))


@dataclass(frozen=True, eq=False)
class Students:
    """A `trainer.scaling.Train`: the loss is that on validation motions where experts act, the success the referee's there."""

    corpus: Corpus
    folder: Path
    cluster: Int[np.ndarray, " S"]
    experts: Mapping[int, Expert]
    validation: Bool[np.ndarray, " S"]
    grid: Grid
    setup: Setup
    options: StudentOptions

    @property
    def about(self) -> dict[str, Any]:
        """What all runs share."""
        shared = asdict(replace(self.options, seed=0))
        shared.pop("shape")
        segments = np.flatnonzero(self.validation).tolist()
        motions = {"corpus": self.corpus.stamp.hex(), "experts": ids_of(self.experts), "validation": segments}
        return {"kind": KIND, "options": shared, "setup": asdict(self.setup), **motions}

    def parameters(self, size: str) -> int:
        if size not in SIZES:
            raise MotionloomError(f"No size {size!r} of a student. Known: {', '.join(SIZES)}.")
        contract = self._contract
        return parameter_count(Gpt(contract.observation.size, len(contract.joint_names), SIZES[size]))

    def __call__(self, size: str, segments: Int[np.ndarray, " K"], seed: int, folder: Path) -> dict[str, float]:
        """One student; goes on where it was stopped."""
        options = replace(self.options, shape=SIZES[size], seed=seed)
        mask = np.zeros(len(self.cluster), bool)
        mask[segments] = True
        env = self._env(mask, seed)
        train_student(folder, env, self.experts, self._clusters, options, about={**self.about, "drawn": hash_of(mask)})
        student = load_student(folder)
        outcomes = evaluate(
            student, self._exam, Trial(randomisation=PRESETS[self.setup.randomise], seed=self.setup.seed + 1)
        )
        success = {name: float(outcomes[f"{name}_success"].mean()) for name in ("trunk", "fall")}  # type: ignore[arg-type]
        return {"loss": self._loss(student.model), "success": success["trunk"], "fall_success": success["fall"]}

    @property
    def _contract(self):
        return next(iter(self.experts.values())).contract

    def _clusters(self, segments: Int[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
        return self.cluster[segments]

    def _env(self, mask: Bool[np.ndarray, " S"], seed: int):
        return make_env(self.corpus, plan_of(self.corpus, mask), replace(self.setup, seed=seed), self._contract)

    @cached_property
    def _exam(self):
        return exam_of_corpus(self.corpus, segments=np.flatnonzero(self.validation), cluster=self.cluster)

    @cached_property
    def _shown(self) -> list[Trajectories]:
        """Experts on validation motions: made once, the same for all students."""
        place = self.folder / "validation"
        if not rollout_path(place, 0, 0).exists():
            env = self._env(self.validation, self.setup.seed)
            all_experts = repeat(np.ones(env.count, bool))
            done = roll_out(env, None, self.experts, self._clusters, all_experts, steps=self.grid.validation_steps)
            assert done is not None
            save_trajectories(place, 0, 0, *done, env.state_dict())
        return read_trajectories(place, rounds=1, ranks=1)

    def _loss(self, model: torch.nn.Module) -> float:
        """SmoothL1 over windows of the validation episodes, the same ones for all students."""
        windows = Windows(self._shown, find_episodes(self._shown), length=self.options.length, balanced=False)
        learner = Learner(model, self.options.learning, 1)
        losses = [learner.loss_on(windows.batch(0, step, self.options.batch_size)) for step in range(16)]
        return float(np.mean(losses))


def _validation(corpus: Corpus, recording: Sequence[str]) -> Bool[np.ndarray, " S"]:
    """Segments of `loom split`'s part for validation; a tenth of the recordings by hash, where there is no split."""
    try:
        split = read_split(corpus)["split"]
    except MotionloomError:
        return validation_part(recording, corpus.frames)
    return (split == "validation").to_numpy()
