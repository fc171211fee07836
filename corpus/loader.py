"""The front door to batches: `for batch in batches(corpus, batch_size=1024, window=64, seed=0): …`.

A batch is a function of seed, step and plan (`corpus.loading.sampler`): a run goes on from any step, on any number of ranks.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from jaxtyping import Float

from corpus.augment import Augment
from corpus.catalog import Corpus
from corpus.errors import MotionloomError
from corpus.loading.plan_file import load_plan
from corpus.loading.prefetch import ahead
from corpus.loading.rotating import ResidentRows, RotatingSampler
from corpus.loading.sampler import Sampler
from corpus.loading.sampling_plan import Plan
from corpus.loading.tensors import TensorWindows, torch_windows
from corpus.loading.windows import FIELDS, Batch, MappedRows, Windows
from corpus.robot import Robot
from corpus.store import CONTACT_COLUMNS

log = logging.getLogger(__name__)

MODES = ("auto", "mapped", "rotating")
MOST_RESIDENT = 64
"""Shards that a rotating buffer holds where memory allows: enough to mix thousands of clips."""


def batches(corpus: Corpus, *, start_step: int = 0, steps: int | None = None, **options: Any) -> Iterator[Batch]:
    """Batches from `start_step` on, `steps` of them or without end; options as of `Loader` and `open_windows`."""
    return iter(Loader(corpus, start_step=start_step, steps=steps, **options))


class Loader:
    """Iterates over batches, the next ones made ahead of time by a thread; goes on where it, or its state, stopped."""

    def __init__(
        self, corpus: Corpus, *, start_step: int = 0, steps: int | None = None, prefetch: int = 2, **options: Any
    ):
        """`prefetch` batches are made ahead; 0 makes each when it is asked for, without a thread. Other options are those of
        `open_windows`."""
        self.corpus, self.prefetch, self.options = corpus, prefetch, options
        self.windows = open_windows(corpus, **options)
        self.step = start_step
        """The next batch's."""
        self.stop = None if steps is None else start_step + steps

    def __iter__(self) -> Iterator[Batch]:
        made = ((step, self.windows[step]) for step in steps_of(self.step, self.stop))
        for step, batch in ahead(made, self.prefetch):
            self.step = step + 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """What a run needs to go on after the batches it was given; the same on every rank."""
        return self.windows.sampler.state(self.step)

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where that state was taken, on whatever number of ranks; a rotating buffer of unsaid size takes the state's.

        Raises `MotionloomError` where the state is of another seed, plan or batch size.
        """
        mine = self.windows.sampler.state(0)
        kept: dict[str, Any] = {name: state.get(name) for name in ("resident", "stay")}
        if kept != {name: mine.get(name) for name in kept}:
            said = {name: value for name, value in self.options.items() if value not in (None, "auto")}
            kept["mode"] = "mapped" if kept["resident"] is None else "rotating"
            self.windows = open_windows(self.corpus, **{**kept, **said})
        self.step = self.windows.sampler.step_of(state)


def open_windows(
    corpus: Corpus,
    *,
    batch_size: int,
    window: int,
    seed: int,
    weights: Plan | Path | Float[np.ndarray, " S"] | None = None,
    epochs: bool = False,
    stride: int | None = None,
    rank: int = 0,
    world_size: int = 1,
    mode: str = "auto",
    resident: int | None = None,
    stay: int | None = None,
    reuse: float = 4.0,
    device: Any = None,
    history: int = 0,
    future: int = 0,
    fields: Iterable[str] = FIELDS,
    augment: Augment | None = None,
    robot: Robot | None = None,
) -> Windows | TensorWindows:
    """`Windows` of a corpus: `windows[step]` is this rank's part of batch `step`.

    `batch_size` is that of all ranks together, `window` counts frames. `weights` are a `Plan`, a file that `loom balance` wrote,
    or one number per kept segment in the order of `corpus.kept`; None draws every window equally often. `epochs` and `stride`
    are told at `Sampler`, `history`, `future`, `fields` and `robot` at `Windows`, what is done to windows at `Augment`. With a
    `device`, batches are of torch's tensors there; without one, of NumPy's arrays.

    The mode "mapped" maps all shards and reads what windows need; "rotating" reads whole shards one after another into a buffer
    of `resident` of them, each of which stays for as many steps as use its frames `reuse` times on average (or for `stay` steps).
    "auto" maps corpora of up to half of the memory that is free (on object storage, of its cache's limit too), and rotates larger ones. A buffer of unsaid size holds 64
    shards, less where that is more than an eighth of the machine's memory or than the batch has windows.
    """
    if mode not in MODES:
        raise MotionloomError(f"No mode {mode!r}. Known: {', '.join(MODES)}.")
    if weights is None:
        weights = Plan.by_windows(corpus.frames, max(window, 1))
    elif isinstance(weights, str | Path):
        weights = load_plan(Path(weights), corpus, window=window)
    plan = weights if isinstance(weights, Plan) else Plan(weights)
    share = {"window": window, "batch_size": batch_size, "seed": seed, "rank": rank, "world_size": world_size}
    if mode == "rotating" or (mode == "auto" and not epochs and _corpus_bytes(corpus) > _room(corpus)):
        options = _buffer(corpus, batch_size=batch_size, window=window, resident=resident, stay=stay, reuse=reuse)
        sampler = RotatingSampler(plan, corpus.frames, shard_of=corpus.shard_of, epochs=epochs, **options, **share)
        log.info(
            "rotating through %d shards, %d at a time, for %d steps each", len(corpus.shard_ids), *options.values()
        )
        rows = ResidentRows(corpus, sampler)
    else:
        sampler = Sampler(plan, corpus.frames, epochs=epochs, stride=stride, **share)
        rows = MappedRows(corpus, read_ahead=_corpus_bytes(corpus) <= _room(corpus))
    windows = Windows(
        corpus, sampler, rows, history=history, future=future, fields=fields, augment=augment, robot=robot
    )
    if device is None:
        return windows
    return TensorWindows(windows, device)


def steps_of(start: int, stop: int | None, worker: int = 0, workers: int = 1) -> Iterator[int]:
    """The steps that one of several workers takes, in turn with the others; without end where there is none."""
    step = start + worker
    while stop is None or step < stop:
        yield step
        step += workers


def _buffer(
    corpus: Corpus, *, batch_size: int, window: int, resident: int | None, stay: int | None, reuse: float
) -> dict[str, int]:
    shard_count = max(len(corpus.shard_ids), 1)
    if not reuse > 0:
        raise MotionloomError(f"reuse {reuse}: should be above 0.")
    if resident is None:
        fitting = psutil.virtual_memory().total / 8 / max(_corpus_bytes(corpus) / shard_count, 1)
        resident = int(max(1, min(MOST_RESIDENT, batch_size, fitting)))
    if stay is None:
        frames = corpus.frames.sum() / shard_count * resident
        stay = max(1, round(reuse * frames / max(batch_size * window, 1)))
    return {"resident": resident, "stay": stay}


def _corpus_bytes(corpus: Corpus) -> int:
    """Of all frames of the shards."""
    columns = corpus.shard(0).qpos.shape[1] if corpus.shard_ids else 0
    return int(corpus.frames.sum()) * (4 * columns + CONTACT_COLUMNS)


def _room(corpus: Corpus) -> float:
    """How many bytes of frames can be mapped and stay at hand: half of the memory that is free, and of a cache all of it."""
    free = psutil.virtual_memory().available / 2
    return free if corpus.shards is None else min(free, corpus.shards.limit)


def __getattr__(name: str) -> Any:
    # torch is an extra: `from corpus.loader import TorchWindows` imports it, nothing else here does.
    if name == "TorchWindows":
        return torch_windows()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
