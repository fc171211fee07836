"""`loom learn`."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipelines.options import add_corpus, positive, seed


def add_options(parser: argparse.ArgumentParser) -> None:
    add_corpus(parser)
    add = parser.add_argument
    add("--to", type=Path, required=True, metavar="FILE.npz", help="where the trained embedder goes")
    add(
        "--preset",
        default="autoencoder",
        metavar="NAME",
        help="autoencoder (default), or published: amplitude and frequency of the latent sines alone",
    )
    add(
        "--epochs",
        type=float,
        default=5.0,
        metavar="N",
        help="windows to draw, as a multiple of those there are (default 5)",
    )
    add("--steps", type=positive, metavar="N", help="how many batches, instead of epochs")
    add(
        "--batch-size", type=positive, default=1024, metavar="N", help="windows (default 1024); fewer for small corpora"
    )
    add("--seed", type=seed, default=0, metavar="N", help="of weights and windows (default 0)")
    add("--device", default="cpu", metavar="NAME", help="where to train: cpu (default), cuda")


def run(options: argparse.Namespace) -> int:
    """Train the periodic autoencoder on a corpus; `loom embed --embedder FILE` then embeds by it. Needs torch. Stopped, the same
    command goes on where it was."""
    from hme.periodic.training import Training
    from pipelines.learn import learn

    training = Training(batch_size=options.batch_size, epochs=options.epochs, steps=options.steps)
    embedder = learn(
        options.out, options.to, options.preset, training=training, seed=options.seed, device=options.device,
        cache=options.cache,
    )  # fmt: skip
    print(f"trained {embedder.hme_id}: `loom embed {options.out} --embedder {options.to}` embeds by it")
    return 0
