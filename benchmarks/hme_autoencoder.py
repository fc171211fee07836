"""The trained embedding beside the training-free one, on the same labelled clips.

    python -m benchmarks.hme_autoencoder [--motions TAR_OR_FOLDER] [--seeds 3]

Trains on the clips themselves, without their labels: the published recipe, 5 epochs, but batches of 256, since in batches of 1024
so small a set makes no more than 50 steps. `periodic` is mean ⊕ standard deviation of the latent sines' amplitude and frequency
alone, as published; `autoencoder` has the other blocks too. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.bandai import Clips, built, labelled, parser, rounded, workplace
from benchmarks.hme_measures import TEMPI, Moves, information, invariances, recall, tempo_error
from hme.embedding import Embedding
from hme.periodic.training import Training, train_on

TRAINING = Training(batch_size=256)


def periodic(found: Embedding) -> np.ndarray:
    """Amplitude and frequency alone."""
    return found.weighed({"sine_amplitude": 1.0, "sine_frequency": 1.0})


VIEWS = {"autoencoder": lambda found: found.vectors, "periodic": periodic}


@dataclass(frozen=True)
class Outcome:
    figures: dict[str, float]
    moved: dict[str, Moves]


def autoencoder_figures(kept: Clips, seed: int = 0) -> Outcome:
    """By one processor thread."""
    torch.set_num_threads(1)
    start = time.process_time()
    embedder = train_on(kept.motions, seed=seed, training=TRAINING)
    trained = time.process_time()
    found = embedder.embed(kept.motions)
    embedded = time.process_time()
    figures = {
        "autoencoder_recall_at_1": recall(found.vectors, kept.content, kept.style),
        "autoencoder_nmi": information(found.vectors, kept.content),
        "autoencoder_periodic_recall_at_1": recall(periodic(found), kept.content, kept.style),
        "autoencoder_periodic_nmi": information(periodic(found), kept.content),
        "autoencoder_train_seconds": trained - start,
        "autoencoder_frames_per_core_second": kept.frame_count / (embedded - trained),
        "autoencoder_tempo_ratio_error": max(tempo_error(embedder, found, kept.motions, ratio) for ratio in TEMPI[::3]),
    }
    return Outcome(figures, invariances(embedder, found, kept.motions, trials=1, views=VIEWS))


def main() -> None:
    options = _parser().parse_args()
    with workplace(options.motions) as work:
        kept = labelled(built(work / "bvh", work / "kept"))
        outcomes = [autoencoder_figures(kept, seed) for seed in range(options.seeds)]
    for seed, outcome in enumerate(outcomes):
        print(f"seed {seed}:", rounded(outcome.figures))
        for view, moves in outcome.moved.items():
            print(f"  {view}:", ", ".join(f"{change} {median:.2g}" for change, (median, _, _) in moves.items()))
    rows = {key: [outcome.figures[key] for outcome in outcomes] for key in outcomes[0].figures}
    told = {key: rounded({"mean": float(np.mean(row)), "least": min(row)}) for key, row in rows.items()}
    print(json.dumps(told))


def _parser() -> argparse.ArgumentParser:
    made = parser("hme_autoencoder", "What training adds.")
    made.add_argument("--seeds", type=int, default=3, help="trainings, each from its own seed")
    return made


if __name__ == "__main__":
    main()
