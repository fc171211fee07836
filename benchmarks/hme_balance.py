"""Do balanced plans balance? Clusters' shares as the loader really draws them, and what drawing by bins costs.

    python -m benchmarks.hme_balance [--motions TAR_OR_FOLDER]

Builds Bandai-Namco's BVH files, embeds the kept segments, finds 30 clusters, writes a plan by each policy, and draws batches of
windows by the loader from the plans' files. Gini: of the frames drawn per cluster. Then draws alone, among 5 million segments of
40 million bins. The last line is JSON.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from rich.console import Console
from rich.table import Table

from benchmarks.bandai import built, parser, print_figures, workplace
from benchmarks.hme_measures import CLUSTERS
from corpus.catalog import Corpus
from corpus.loader import batches
from corpus.loading.plan_file import save_plan
from corpus.loading.sampler import Sampler
from corpus.loading.sampling_plan import Plan, bin_count
from corpus.loading.starts import starts_in_bins
from hme.cluster import fit_clusters
from hme.sampling.adaptive import AdaptiveBins
from hme.sampling.density import neighbour_density
from hme.sampling.exposure import Exposure, effective_share
from hme.sampling.mixing import in_bins
from hme.sampling.policies import Pool
from hme.sampling.policy_spec import parse_spec
from hme.spectrum import fit

WINDOW, BATCH, STEPS = 64, 1024, 100
PLANS: dict[str, tuple[str, ...]] = {
    "natural": ("uniform",),
    "cluster, tau 0.5": ("cluster:tau=0.5",),
    "cluster, tau 0.2": ("cluster:tau=0.2",),
    "balanced": ("cluster:tau=0",),
    "propensity, cap 10": ("propensity:cap=10",),
    "propensity, cap 3": ("propensity:cap=3",),
    "density, power 0.5": ("density:power=0.5",),
    "density, power 1": ("density:power=1",),
    "adaptive, failing in the tail": ("adaptive",),
    "half balanced, half adaptive": ("cluster:tau=0", "adaptive"),
}
SEGMENTS, ROUNDS = 5_000_000, 7
VECTORS = 50_000
"""To time the density."""


def main() -> None:
    options = parser("hme_balance", "Do balanced plans balance?").parse_args()
    with workplace(options.motions) as work:
        found = figures(work)
    show(found)
    named = {
        "balance_gini_natural": found["plans"]["natural"]["gini"],
        "balance_gini_balanced": found["plans"]["balanced"]["gini"],
        **{name: value for name, value in found.items() if name != "plans"},
    }
    print_figures(named)


def figures(work: Path) -> dict[str, Any]:
    """`plans`: by name, what each really shows; and the cost of drawing."""
    corpus = built(work / "bvh", work / "kept")
    pool = pool_of(corpus)
    plans = {name: drawn_by(corpus, pool, texts, work / "plan.parquet") for name, texts in PLANS.items()}
    counts = {"segments": len(corpus.frames), "clusters": CLUSTERS, "windows": STEPS * BATCH}
    return {"plans": plans, **draws(), **counts}


def pool_of(corpus: Corpus) -> Pool:
    """Everything that policies ask for; a tracker fails three times in four in the ten smallest clusters."""
    segments = [corpus.motion(number) for number in range(len(corpus.frames))]
    vectors = fit(segments).embed(segments).vectors
    cluster = fit_clusters(vectors, CLUSTERS, hme_id="").assign(vectors)[0].astype(np.int64)
    tail = np.argsort(np.bincount(cluster, corpus.frames))[:10]
    feedback, rng = AdaptiveBins(corpus.frames, window=WINDOW), np.random.default_rng(0)
    owner = np.repeat(np.arange(len(corpus.frames)), feedback.count)
    frame = (np.arange(len(owner)) - feedback.first[owner]) * feedback.bin_frames
    for _ in range(20):
        feedback.update(owner, frame, np.isin(cluster[owner], tail) & (rng.random(len(owner)) < 0.75))
    return Pool(corpus.frames, WINDOW, cluster=cluster, vectors=vectors, feedback=feedback)


def drawn_by(corpus: Corpus, pool: Pool, texts: tuple[str, ...], path: Path) -> dict[str, float]:
    """Draw batches by the loader, from the plan's file, and count."""
    plan = parse_spec(texts).plan(pool)
    save_plan(plan, path, corpus)
    count = np.zeros(len(corpus.frames))
    for batch in batches(
        corpus, weights=path, batch_size=BATCH, window=WINDOW, seed=0, steps=STEPS, fields=("contact",)
    ):
        np.add.at(count, batch.segment, 1)
    assert pool.cluster is not None
    groups = Exposure(count, corpus.frames, WINDOW).by_group(drawable(pool))
    expected = Exposure.expected(plan, corpus.frames, WINDOW, count.sum()).by_group(drawable(pool))
    mean = groups.windows.sum() * WINDOW / groups.frames.sum()
    return {
        "gini": groups.gini,
        "gini_expected": expected.gini,
        "effective_share": effective_share(*per_bin(plan, pool)),
        "most_epochs_over_mean": float(groups.epochs.max() / mean),
    }


def per_bin(plan: Plan, pool: Pool) -> tuple[np.ndarray, np.ndarray]:
    """Weights and windows of each bin, or of each segment where the plan has no bins."""
    if plan.bins is None:
        return plan.weights, pool.windows
    length = plan.bin_frames
    return in_bins(plan, length, pool.frames, pool.window), starts_in_bins(pool.frames, pool.window, length)


def drawable(pool: Pool) -> Int[np.ndarray, " S"]:
    """Clusters of the segments that a window fits into."""
    assert pool.cluster is not None
    return np.where(pool.windows > 0, pool.cluster, -1)


def draws() -> dict[str, float]:
    """What drawing takes at full scale, and the densities of many vectors."""
    rng = np.random.default_rng(0)
    frames, weights = rng.integers(50, 750, SEGMENTS), rng.random(SEGMENTS)
    bins = rng.random(bin_count(frames, 50).sum(), np.float32)
    share: dict[str, Any] = {"window": WINDOW, "batch_size": BATCH, "seed": 0}
    plain = Sampler(Plan(weights), frames, **share)
    start = time.process_time()
    binned = Sampler(Plan(weights, bins, 50), frames, **share)
    opened = time.process_time() - start
    times: dict[str, list[float]] = {"plain": [], "bins": []}
    for number in range(ROUNDS):
        for name, sampler in (("plain", plain), ("bins", binned)):
            times[name].append(_seconds(sampler.draw, number) / 50 * 1000)
    feedback = AdaptiveBins(frames, window=WINDOW)
    start = time.process_time()
    feedback.plan()
    planned = time.process_time() - start
    vectors = rng.normal(size=(VECTORS, 64)).astype(np.float32)
    start = time.process_time()
    neighbour_density(vectors, np.arange(2048), 8)
    return {
        "draw_ms_per_1024_plain": statistics.median(times["plain"]),
        "draw_ms_per_1024_bins": statistics.median(times["bins"]),
        "draw_bins_over_plain": statistics.median(b / a for a, b in zip(times["plain"], times["bins"], strict=True)),
        "bins": len(bins),
        "open_bins_seconds": opened,
        "adaptive_plan_seconds": planned,
        "density_vectors_per_core_second": VECTORS / (time.process_time() - start),
    }


def show(found: dict[str, Any]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("plan", "Gini, drawn", "expected", "effective sample size", "most epochs / mean"):
        table.add_column(column, justify="left" if column == "plan" else "right")
    for name, row in found["plans"].items():
        table.add_row(
            name, f"{row['gini']:.3f}", f"{row['gini_expected']:.3f}", f"{row['effective_share']:.1%}",
            f"{row['most_epochs_over_mean']:.2f}",
        )  # fmt: skip
    console = Console(width=130)
    console.print(
        f"{found['windows']:,} windows of {WINDOW} frames, {found['clusters']} clusters of {found['segments']} segments"
    )
    console.print(table)
    console.print(
        f"drawing 1024 windows among {SEGMENTS:,} segments: {found['draw_ms_per_1024_plain']:.3f} ms, "
        f"by {found['bins']:,} bins {found['draw_ms_per_1024_bins']:.3f} ms"
    )


def _seconds(make: Callable[[int], Any], number: int) -> float:
    """That 50 steps take."""
    start = time.perf_counter()
    for step in range(50 * number, 50 * number + 50):
        make(step)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
