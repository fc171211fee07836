"""One gradient step after another on windows of the aggregate: the network, its optimiser, and the learning rate's course.

The loss is SmoothL1 between the student's actions and the labels, the mean over actions and all valid steps of the global batch: each
process adds its part, so that the same batch gives the same step on any number of them, but for rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from corpus.errors import MotionloomError
from trainer.checkpoint import load_optimiser_arrays, optimiser_arrays, prefixed, under
from trainer.processes import Processes
from trainer.windows import WindowBatch


@dataclass(frozen=True)
class Learning:
    """How the network learns."""

    learning_rate: float = 1e-4
    """Of AdamW, at its highest. Small networks bear ten times as much."""
    course: str = "cosine"
    """How the learning rate goes on after `warmup_steps`: "constant", or along a cosine to a tenth."""
    warmup_steps: int = 100
    """Steps in which the learning rate rises from 0."""
    weight_decay: float = 0.01
    """Pulls weights towards zero."""
    gradient_limit: float = 1.0
    """Longer gradients are cut to this length."""

    def __post_init__(self) -> None:
        if self.course not in COURSES:
            raise MotionloomError(f"No course {self.course!r} of a learning rate. Known: {', '.join(COURSES)}.")
        if not (
            0 < self.learning_rate < math.inf
            and self.gradient_limit > 0
            and min(self.warmup_steps, self.weight_decay) >= 0
        ):
            raise MotionloomError("learning_rate and gradient_limit should be above 0, the others at least 0.")

    def rate(self, step: int, total_steps: int) -> float:
        """The learning rate of a step."""
        done = (step - self.warmup_steps) / max(total_steps - self.warmup_steps, 1)
        rise = min(1.0, (step + 1) / (self.warmup_steps + 1))
        return self.learning_rate * rise * COURSES[self.course](min(max(done, 0.0), 1.0))


COURSES: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "cosine": lambda done: 0.55 + 0.45 * math.cos(math.pi * done),
}


class Learner:
    """A network in training, after `step` steps."""

    def __init__(self, model: nn.Module, learning: Learning, total_steps: int, processes: Processes = Processes()):
        self.model, self.learning, self.total_steps, self.processes = model, learning, total_steps, processes
        self.optimiser = torch.optim.AdamW(
            model.parameters(), lr=learning.learning_rate, weight_decay=learning.weight_decay
        )
        self.step = 0

    def advance(self, batch: WindowBatch, *flags: float) -> tuple[dict[str, float], list[float]]:
        """One step; gives its numbers (the loss is that before it), and the sums of `flags` over all processes."""
        rate = self.learning.rate(self.step, self.total_steps)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad()
        loss = self._part_of_loss(batch)
        loss.backward()
        total, *sums = self.processes.sum_gradients(self.model.parameters(), loss.item(), *flags)
        length = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.learning.gradient_limit).item()
        if not (math.isfinite(total) and math.isfinite(length)):
            raise MotionloomError(
                f"Training diverged at step {self.step} (loss {total:g}, gradient {length:g}): lower learning_rate."
            )
        self.optimiser.step()
        self.step += 1
        return {"loss": total, "gradient": length, "learning_rate": rate}, sums

    def loss_on(self, batch: WindowBatch) -> float:
        """The loss of a global batch, without learning from it."""
        with torch.no_grad():
            return self.processes.sum(self._part_of_loss(batch).item())[0]

    def arrays_and_facts(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """All that the steps to come hang on, for a checkpoint."""
        arrays, groups = optimiser_arrays(self.optimiser, "optimiser")
        return {**prefixed("model", self.model.state_dict()), **arrays}, {"step": self.step, "optimiser": groups}

    def go_on(self, arrays: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Take up what `arrays_and_facts` gave."""
        self.model.load_state_dict(under("model", arrays))
        load_optimiser_arrays(self.optimiser, "optimiser", arrays, facts["optimiser"])
        self.step = int(facts["step"])

    def _part_of_loss(self, batch: WindowBatch) -> Tensor:
        """This process's part. Padding stands at the end, where the steps before it do not look: the model need not know of it."""
        device = self.processes.device
        observation, label, valid = (
            torch.from_numpy(array).to(device, non_blocking=True)
            for array in (batch.observation, batch.action, batch.valid)
        )
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            action = self.model(observation)
        error = F.smooth_l1_loss(action.float(), label, reduction="none").mean(-1)
        return (error * valid).sum() / batch.global_count
