"""Train the autoencoder on a corpus, to a file that `loom embed --embedder` takes."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from corpus.catalog import Corpus
from corpus.errors import MotionloomError
from hme.autoencoder import PRESETS, Autoencoder
from hme.periodic.training import Training, train

log = logging.getLogger(__name__)

REPORT_S = 10.0
"""Seconds between two lines of how far it is."""


def learn(
    place: Path | str,
    out: Path,
    preset: str = "autoencoder",
    *,
    training: Training = Training(),
    seed: int = 0,
    device: str = "cpu",
    cache: Path | None = None,
) -> Autoencoder:
    """Train, save to `out`, give what was trained. A run that was stopped goes on from the checkpoint beside `out`."""
    if preset not in PRESETS:
        raise MotionloomError(f"No preset {preset!r}. Known: {', '.join(PRESETS)}.")
    if out.exists():
        raise MotionloomError(f"{out} exists already: delete it, or name another file.")
    out.parent.mkdir(parents=True, exist_ok=True)
    checkpoint = out.with_name(f"{out.name}.checkpoint")
    told = time.monotonic()

    def progress(step: int, loss: float) -> None:
        nonlocal told
        if time.monotonic() - told > REPORT_S:
            log.info("step %d: loss %.4f", step, loss)
            told = time.monotonic()

    embedder = train(
        Corpus.open(place, cache=cache), PRESETS[preset], seed=seed, training=training, device=device,
        checkpoint=checkpoint, progress=progress,
    )  # fmt: skip
    embedder.save(out)
    checkpoint.unlink(missing_ok=True)
    return embedder
