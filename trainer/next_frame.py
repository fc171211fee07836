"""A small stand-in for the student in the scaling harness: the same Transformer predicts each next frame's joints from motion alone.

    train = NextFrame(corpus, validation, {"tiny": GptShape(2, 32, 2, 64), ...}, NextFrameOptions(steps=500))
    rows = run_grid(folder, train.sizes, subsets, (0,), train, about=train.about)

No physics and no expert, so a grid takes minutes on a CPU. Its law tells how well motion is foretold, not how well it is tracked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from corpus import rotations
from corpus.catalog import Corpus
from corpus.errors import MotionloomError
from corpus.loader import open_windows
from corpus.loading.sampling_plan import Plan
from trainer.checkpoint import (
    checkpoint_steps,
    load_checkpoint,
    load_optimiser_arrays,
    optimiser_arrays,
    prefixed,
    save_checkpoint,
    under,
)
from trainer.gpt import Gpt, GptShape
from trainer.run_log import Interrupt, RunLog

KIND = "next_frame"
JOINTS = 29
OBSERVED = JOINTS + 4


@dataclass(frozen=True)
class NextFrameOptions:
    steps: int = 1000
    """Batches of each run, however little data it has: what repeats is learned by heart, which the validation loss shows."""
    batch_size: int = 16
    """Windows."""
    window: int = 64
    """Frames that are predicted in each."""
    learning_rate: float = 2e-3
    """At its highest, after a twentieth of the steps; it then falls to 0 by a cosine."""
    look_steps: int = 100
    """Between looks at the validation loss, and checkpoints."""
    validation_windows: int = 128
    """The same ones at each look and for all runs."""


@dataclass(frozen=True, eq=False)
class NextFrame:
    """A `trainer.scaling.Train`. Its loss is the least SmoothL1 at any look, of changes in units of their deviation."""

    corpus: Corpus
    validation: Bool[np.ndarray, " S"]
    shapes: Mapping[str, GptShape]
    options: NextFrameOptions = NextFrameOptions()

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Parameters of each network."""
        return {size: sum(p.numel() for p in self._model(size, 0).parameters()) for size in self.shapes}

    @property
    def about(self) -> dict[str, Any]:
        """What all runs share: the loss of foretelling no change is among it."""
        shapes = {size: asdict(shape) for size, shape in self.shapes.items()}
        return {"kind": KIND, "options": asdict(self.options), "shapes": shapes, "standstill": self.standstill}

    @property
    def standstill(self) -> float:
        """Validation loss of a prediction that nothing moves."""
        return float(torch.nn.functional.smooth_l1_loss(torch.zeros_like(self._held[1]), self._held[1]))

    def __call__(self, size: str, segments: Int[np.ndarray, " K"], seed: int, folder: Path) -> dict[str, float]:
        """One run, which goes on where it was stopped; ctrl-C saves and goes through."""
        run = _Run(self._model(size, seed), self.options)
        part = np.zeros(len(self.corpus.frames), bool)
        part[segments] = True
        if (part & self.validation).any():
            raise MotionloomError("Some of these segments are for validation: leave them out of the subsets.")
        windows = _windows(self.corpus, part, self.options, seed=seed)
        if checkpoint_steps(folder):
            run.load(folder)
        else:
            run.model.set_normalisation(*_statistics(torch.cat([self._parts(windows[step])[0] for step in range(8)])))
        with Interrupt() as interrupt, RunLog(folder, self.options.steps, step=run.step, tensorboard=False) as told:
            while run.step < self.options.steps:
                loss = run.advance(*self._parts(windows[run.step]))
                if run.step % self.options.look_steps == 0 or run.step == self.options.steps:
                    run.least = min(run.least, run.loss_on(*self._held))
                    run.save(folder)
                    told.write(run.step, loss=loss, least_validation_loss=run.least)
                elif interrupt.asked:
                    run.save(folder)
                if interrupt.asked and run.step < self.options.steps:
                    raise KeyboardInterrupt
        return {"loss": run.least}

    def _model(self, size: str, seed: int) -> Gpt:
        return Gpt(OBSERVED, JOINTS, self.shapes[size], seed=seed)

    @cached_property
    def _held(self) -> tuple[Tensor, Tensor]:
        """Validation windows: observed, and the changes to be foretold, in the units of all runs."""
        windows = _windows(self.corpus, self.validation, self.options, seed=0)
        count = math.ceil(self.options.validation_windows / self.options.batch_size)
        qpos = np.concatenate([windows[step].qpos for step in range(count)])
        return self._parts_of(qpos)

    @cached_property
    def _unit(self) -> Float[np.ndarray, " 29"]:
        """Standard deviation of each joint's change from frame to frame, over the validation windows [rad]."""
        windows = _windows(self.corpus, self.validation, self.options, seed=0)
        change = np.diff(np.concatenate([windows[step].qpos[..., 7:] for step in range(8)]), axis=1)
        return np.maximum(change.std((0, 1)), 1e-4)

    def _parts(self, batch: Any) -> tuple[Tensor, Tensor]:
        return self._parts_of(batch.qpos)

    def _parts_of(self, qpos: Float[np.ndarray, "B T+1 36"]) -> tuple[Float[Tensor, "B T 33"], Float[Tensor, "B T 29"]]:
        """What is seen of each frame (joints, gravity in the root's frame, root height), and each joint's change to the next."""
        down = rotations.rotate(rotations.conjugate(qpos[..., 3:7]), np.array([0.0, 0.0, -1.0], np.float32))
        seen = np.concatenate([qpos[..., 7:], down, qpos[..., 2:3]], -1)[:, :-1]
        change = np.diff(qpos[..., 7:], axis=1) / self._unit
        return torch.from_numpy(seen.astype(np.float32)), torch.from_numpy(change.astype(np.float32))


class _Run:
    """A network and its optimiser at some step."""

    def __init__(self, model: Gpt, options: NextFrameOptions):
        self.model, self.options = model, options
        self.optimiser = torch.optim.AdamW(model.parameters(), lr=options.learning_rate)
        self.step, self.least = 0, math.inf

    def advance(self, seen: Float[Tensor, "B T D"], change: Float[Tensor, "B T 29"]) -> float:
        done, rise = self.step / self.options.steps, (self.step + 1) / (self.options.steps / 20)
        rate = self.options.learning_rate * min(rise, (1 + math.cos(math.pi * done)) / 2)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        loss = torch.nn.functional.smooth_l1_loss(self.model(seen), change)
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.step += 1
        return loss.item()

    @torch.no_grad()
    def loss_on(self, seen: Float[Tensor, "B T D"], change: Float[Tensor, "B T 29"]) -> float:
        return float(torch.nn.functional.smooth_l1_loss(self.model(seen), change))

    def save(self, folder: Path) -> None:
        moments, groups = optimiser_arrays(self.optimiser, "optimiser")
        facts = {"kind": KIND, "step": self.step, "least": self.least, "groups": groups}
        save_checkpoint(folder, {**prefixed("model", self.model.state_dict()), **moments}, facts, keep=1)

    def load(self, folder: Path) -> None:
        arrays, facts = load_checkpoint(folder, kind=KIND)
        self.model.load_state_dict(under("model", arrays))
        load_optimiser_arrays(self.optimiser, "optimiser", arrays, facts["groups"])
        self.step, self.least = facts["step"], facts["least"]


def _windows(corpus: Corpus, part: Bool[np.ndarray, " S"], options: NextFrameOptions, *, seed: int) -> Any:
    """Every window of these segments equally often; one frame more than is predicted."""
    window = options.window + 1
    weights = np.where(part, np.maximum(corpus.frames - window + 1, 0), 0).astype(float)
    if not weights.any():
        raise MotionloomError(f"None of {part.sum()} segments has the {window} frames of a window.")
    return open_windows(
        corpus,
        batch_size=options.batch_size,
        window=window,
        seed=seed,
        weights=Plan(weights),
        fields=("qpos",),
        mode="mapped",
    )


def _statistics(seen: Float[Tensor, "B T D"]) -> tuple[Float[Tensor, " D"], Float[Tensor, " D"]]:
    return seen.mean((0, 1)), seen.std((0, 1))
