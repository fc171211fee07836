"""Train the autoencoder, on a corpus by its loader or on motions in memory.

A run is a function of data, configs and seed: what was killed goes on from its checkpoint and ends, on one processor and thread,
with the same weights bit for bit. The published recipe is the default: AdamW, batches of 1024 windows, 5 epochs.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from corpus.catalog import Corpus
from corpus.errors import MotionloomError
from corpus.loading.sampling_plan import Plan
from corpus.motion import RobotMotion
from hme.autoencoder import PRESETS, Autoencoder, AutoencoderConfig, new_network, told_blocks
from hme.blocks import channel_statistics, fit_projection, id_of, read_embedder, save_embedder
from hme.features import Features, features
from hme.periodic.network import PeriodicNetwork
from hme.periodic.training_windows import CorpusWindows, MotionWindows, TrainingWindows

log = logging.getLogger(__name__)

CHECKPOINT = "autoencoder checkpoint"
FEW_STEPS = 100
"""Steps below which a network has hardly learned."""
Progress = Callable[[int, float], None]
"""Told the steps that are done, and the loss of the last one."""


@dataclass(frozen=True)
class Training:
    batch_size: int = 1024
    """Windows per step. Smaller ones make more steps of an epoch, which small corpora need."""
    epochs: float = 5.0
    """How many windows are drawn, as a multiple of those there are."""
    steps: int | None = None
    """Their number, instead of epochs."""
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    """Pulls weights towards zero."""
    gradient_limit: float = 10.0
    """Longer gradients are cut to this length."""
    sample: int = 5000
    """Segments of a corpus that statistics are found on, before and after training."""
    checkpoint_steps: int = 100
    """Steps after which a checkpoint is written."""

    def __post_init__(self) -> None:
        if self.batch_size < 2:
            raise MotionloomError(
                f"batch_size should be at least 2, since batches are normalised; not {self.batch_size}."
            )
        steps = 1 if self.steps is None else self.steps
        if self.epochs <= 0 or min(steps, self.sample, self.checkpoint_steps) < 1:
            raise MotionloomError("epochs, steps, sample and checkpoint_steps should be positive.")

    def step_count(self, window_count: int) -> int:
        return self.steps or math.ceil(self.epochs * window_count / self.batch_size)


def train(
    corpus: Corpus,
    config: AutoencoderConfig = PRESETS["autoencoder"],
    *,
    seed: int = 0,
    training: Training = Training(),
    plan: Plan | None = None,
    device: str = "cpu",
    checkpoint: Path | None = None,
    progress: Progress | None = None,
) -> Autoencoder:
    """Train on all kept segments, drawn by `plan`. Where there is a `checkpoint` already, the run goes on from there."""
    total = len(corpus.frames)
    if not total:
        raise MotionloomError(f"{corpus.path} keeps no segment: there is nothing to train on.")
    numbers = np.sort(np.random.default_rng(seed).choice(total, min(training.sample, total), replace=False))
    sample = features([corpus.motion(int(number)) for number in numbers])
    windows = CorpusWindows(corpus, config.window, training.batch_size, seed, plan)
    return _trained(windows, sample, config, training, device=device, checkpoint=checkpoint, progress=progress)


def train_on(
    motions: Sequence[RobotMotion],
    config: AutoencoderConfig = PRESETS["autoencoder"],
    *,
    seed: int = 0,
    training: Training = Training(),
    device: str = "cpu",
    checkpoint: Path | None = None,
    progress: Progress | None = None,
) -> Autoencoder:
    """Train on motions in memory."""
    given = features(motions)
    windows = MotionWindows(given, config.window, training.batch_size, seed)
    return _trained(windows, given, config, training, device=device, checkpoint=checkpoint, progress=progress)


class Run:
    """A network in training, after so many steps."""

    def __init__(self, net: PeriodicNetwork, training: Training):
        self.net, self.limit, self.step = net.train(), training.gradient_limit, 0
        self.optimizer = torch.optim.AdamW(
            net.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay
        )

    def advance(self, windows: Float[np.ndarray, "N B C"]) -> float:
        """One step; gives the loss before it, the mean squared error of the windows as they are drawn again."""
        given = torch.as_tensor(windows, dtype=torch.float32, device=self.net.times.device)
        loss = (self.net(given) - given).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        slope = torch.nn.utils.clip_grad_norm_(self.net.parameters(), self.limit)
        if not (torch.isfinite(loss) and torch.isfinite(slope)):
            raise MotionloomError(
                f"Training diverged at step {self.step} (loss {loss.item():g}, gradient {slope.item():g}): lower learning_rate, "
                "or look for motions that are not finite."
            )
        self.optimizer.step()
        self.step += 1
        return loss.item()

    def save(self, path: Path, about: dict[str, Any], windows: dict[str, Any]) -> None:
        """All that the steps to come hang on: `about` says which run it is, `windows` is the state of what it draws."""
        moments = self.optimizer.state_dict()["state"]
        flat = {f"optimizer.{i}.{name}": value for i, state in moments.items() for name, value in state.items()}
        arrays = {**as_arrays(self.net), **{name: value.cpu().numpy() for name, value in flat.items()}}
        save_embedder(path, CHECKPOINT, json.dumps({**about, "windows": windows, "step": self.step}), arrays)

    def resume(self, path: Path, about: dict[str, Any]) -> dict[str, Any]:
        """Go on where `save` left, and give the state of the windows then; raises `MotionloomError` where that was another
        run, or the file is damaged."""
        found, arrays = read_embedder(path, CHECKPOINT)
        windows, self.step = found.pop("windows", {}), int(found.pop("step", 0))
        if other := sorted(name for name in {*found, *about} if found.get(name) != about.get(name)):
            raise MotionloomError(
                f"{path} is of another run: it has another {' and '.join(other)}. Delete it, or name another."
            )
        moments: dict[int, dict[str, torch.Tensor]] = {}
        try:
            for name in [name for name in arrays if name.startswith("optimizer.")]:
                _, number, part = name.split(".")
                moments.setdefault(int(number), {})[part] = torch.tensor(arrays.pop(name))
            self.net.load_state_dict({name: torch.tensor(array) for name, array in arrays.items()})
            self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        except (RuntimeError, ValueError) as error:
            raise MotionloomError(f"{path} is damaged ({error}): delete it to begin anew.") from None
        return windows


def as_arrays(net: PeriodicNetwork) -> dict[str, np.ndarray]:
    """Its weights by torch's names."""
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in net.state_dict().items()}


def _trained(
    windows: TrainingWindows,
    sample: Features,
    config: AutoencoderConfig,
    training: Training,
    *,
    device: str,
    checkpoint: Path | None,
    progress: Progress | None,
) -> Autoencoder:
    mean, scale = channel_statistics(sample)
    run = Run(new_network(config, len(mean), windows.seed).to(device), training)
    about = _about(config, training, id_of("", {"mean": mean, "scale": scale}))
    if checkpoint and checkpoint.exists():
        windows.go_on(run.resume(checkpoint, about))
        log.info("going on from step %d, found in %s", run.step, checkpoint)
    steps = training.step_count(windows.window_count)
    if steps < FEW_STEPS:
        log.warning("%d steps are few: batches of fewer than %d windows make more", steps, windows.batch_size)
    for batch in islice(windows.batches(run.step), max(steps - run.step, 0)):
        loss = run.advance((batch - mean) / scale)
        if progress:
            progress(run.step, loss)
        if checkpoint and (run.step % training.checkpoint_steps == 0 or run.step == steps):
            run.save(checkpoint, about, windows.state(run.step))
    raw, _ = told_blocks(sample, config, mean, scale, run.net.eval())
    projection = fit_projection(
        raw, config.weights, floor=config.block_floor, dimensions=config.dimensions, whiten=config.whiten
    )
    return Autoencoder(config, mean, scale, as_arrays(run.net), projection, device)


def _about(config: AutoencoderConfig, training: Training, statistics: str) -> dict[str, Any]:
    """What the weights after some steps are a function of besides the windows: for how long to train, or how to weigh blocks,
    is not among it."""
    network = {name: getattr(config, name) for name in ("window", "hidden", "latent")}
    recipe = {name: getattr(training, name) for name in ("learning_rate", "weight_decay", "gradient_limit")}
    return {"network": network, "training": recipe, "statistics": statistics}
