"""What selection reaches and costs, how diverse what it chose is, and what physics says of a retargeted corpus.

    python -m benchmarks.hme_selection [--motions TAR_OR_FOLDER]

Builds Bandai-Namco's BVH files and embeds every kept segment. Selection by parts beside the exact one, as many at random, and as
many from each cluster at random: the farthest that any segment is from a chosen one, and the mean. Parts are made small here, as
many as a large corpus has beside one another; with the usual size on made-up vectors. The last line is JSON.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from rich.console import Console
from rich.table import Table

from benchmarks.bandai import built, parser, print_figures, workplace
from corpus.catalog import Corpus
from corpus.g1 import G1
from corpus.posture import postures
from hme.cluster import fit_clusters
from hme.diversity import MEASURES, Diversity, DiversityOptions, diversity
from hme.nearest import nearest
from hme.physics_score import PRESETS, measure_terms, score
from hme.select import SelectOptions, _parts, select
from hme.spectrum import fit

BUDGETS = (0.03, 0.1, 0.3)
SHARE = 0.1
"""Budget of what is compared by diversity, and at scale."""
CLUSTERS = 30
MIDDLE, LARGE, FULL = 50_000, 1_000_000, 5_000_000
"""Made-up vectors: on which exact selection can be afforded, on which time is taken, for which it is told."""
PICKS = (500, 3_500)
"""Picks on the large set: the time between the two is that of picks alone."""
AXES, KINDS = 64, 300


def main() -> None:
    options = parser("hme_selection", "What selection reaches.").parse_args()
    with workplace(options.motions) as work:
        found = figures(built(work / "bvh", work / "kept"), Console(width=140))
    print_figures(found)


def figures(corpus: Corpus, console: Console) -> dict[str, float]:
    """All figures; tables go to the console."""
    motions = [corpus.motion(number) for number in range(corpus.kept.height)]
    vectors = fit(motions).embed(motions).vectors
    terms, physics = physics_figures(corpus)
    small = SelectOptions(exact_limit=0, part_size=max(1, len(vectors) // 40), near=10)
    reached, own = loss(vectors, terms["complexity"], small)
    reached_large, made_up = loss(mixture(MIDDLE), uniform(MIDDLE), SelectOptions(exact_limit=0), budgets=(SHARE,))
    show_reach(console, f"{len(vectors)} segments", reached)
    show_reach(console, f"{MIDDLE:,} made-up vectors", reached_large)
    show_diversity(console, compared(vectors, terms["complexity"]))
    return {
        **{f"bandai_{name}": value for name, value in own.items()},
        **{f"made_up_{name}": value for name, value in made_up.items()},
        **scale_figures(),
        **physics,
        "segments": len(vectors),
    }


# Selection


def mixture(count: int, seed: int = 0) -> Float[np.ndarray, "S 64"]:
    """Clusters of unequal share and width, axes that fall off, as an embedding's."""
    rng = np.random.default_rng(seed)
    scale = np.arange(1, AXES + 1, dtype=np.float32) ** -0.7
    share = rng.pareto(1.2, KINDS) + 0.2
    centre, width = rng.normal(size=(KINDS, AXES)) * scale, rng.uniform(0.2, 0.6, KINDS)
    kind = rng.choice(KINDS, count, p=share / share.sum())
    rows = rng.standard_normal((count, AXES), np.float32)
    rows *= scale * width[kind, None].astype(np.float32)
    rows += centre[kind].astype(np.float32)
    return rows


def uniform(count: int) -> Float[np.ndarray, " S"]:
    return np.random.default_rng(1).random(count)


def by_cluster(vectors: Float[np.ndarray, "S D"], count: int) -> Int[np.ndarray, " K"]:
    """Equally many of each cluster, at random, as far as it goes."""
    rng = np.random.default_rng(0)
    label = clustered(vectors)
    turn = np.empty(len(vectors))
    for kind in range(CLUSTERS):
        own = np.flatnonzero(label == kind)
        turn[own] = rng.permutation(len(own))
    return np.lexsort((rng.random(len(vectors)), turn))[:count]


def clustered(vectors: Float[np.ndarray, "S D"]) -> Int[np.ndarray, " S"]:
    return fit_clusters(vectors, CLUSTERS, hme_id="").assign(vectors)[0]


def choices(
    vectors: Float[np.ndarray, "S D"], complexity: Float[np.ndarray, " S"], share: float, parts: SelectOptions
) -> dict[str, Int[np.ndarray, " K"]]:
    count = int(share * len(vectors))
    return {
        "exact": select(vectors, complexity, count, options=SelectOptions(exact_limit=np.inf)).order,
        "by parts": select(vectors, complexity, count, options=parts).order,
        "each cluster alike": by_cluster(vectors, count),
        "random": np.random.default_rng(0).permutation(len(vectors))[:count],
    }


def loss(
    vectors: Float[np.ndarray, "S D"],
    complexity: Float[np.ndarray, " S"],
    parts: SelectOptions,
    budgets: tuple[float, ...] = BUDGETS,
) -> tuple[list[list[str]], dict[str, float]]:
    """Rows of a table, and figures at the budget `SHARE`."""
    rows, found = [], {}
    for share in budgets:
        orders = choices(vectors, complexity, share, parts)
        reach = {name: nearest(vectors, vectors[order]) for name, order in orders.items()}
        for name, order in orders.items():
            common = len(np.intersect1d(order, orders["exact"])) / len(order)
            cells = (reach[name].max(), np.quantile(reach[name], 0.95), reach[name].mean(), volume(vectors[order]))
            rows.append([f"{share:.0%}", name, *(f"{value:.3f}" for value in cells), f"{common:.2f}"])
        if share == SHARE:
            farthest = {name: float(values.max()) for name, values in reach.items()}
            found = {
                "parts_radius_to_exact": farthest["by parts"] / farthest["exact"],
                "random_radius_to_exact": farthest["random"] / farthest["exact"],
                "cluster_radius_to_exact": farthest["each cluster alike"] / farthest["exact"],
            }
    return rows, found


def volume(rows: Float[np.ndarray, "S D"]) -> float:
    return float(0.5 * np.linalg.slogdet(np.cov(rows[:, :16].T) + 1e-6 * np.eye(16))[1])


def scale_figures() -> dict[str, float]:
    """Processor time of a million vectors, and what five million would take for a tenth."""
    vectors, complexity, options = mixture(LARGE), uniform(LARGE), SelectOptions(exact_limit=0)
    divided, _ = timed(lambda: _parts(vectors, np.arange(LARGE), options))
    few, many = (timed(lambda count=count: select(vectors, complexity, count, options=options))[0] for count in PICKS)
    pick = (many - few) / (PICKS[1] - PICKS[0])
    times = FULL / LARGE
    # Parts grow by number: assigning goes by its square. What else is done once goes by the number itself.
    once = divided * times**2 + max(few - divided - PICKS[0] * pick, 0) * times
    return {
        "select_picks_per_core_second": 1 / pick,
        "select_full_scale_minutes": (once + SHARE * FULL * pick) / 60,
    }


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Processor seconds, and what came."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


# Diversity


def compared(vectors: Float[np.ndarray, "S D"], complexity: Float[np.ndarray, " S"]) -> dict[str, Diversity]:
    """All of it, and a tenth chosen in three ways, at the sample size of a tenth."""
    label = clustered(vectors)
    sets = {"all": np.arange(len(vectors)), **choices(vectors, complexity, SHARE, SelectOptions())}
    del sets["by parts"]
    options = DiversityOptions(sample=len(sets["random"]) // 2, trim=0.0)
    bandwidth = diversity(vectors, options=options).bandwidth
    return {
        name: diversity(
            vectors[rows], label=label[rows], cluster_count=CLUSTERS, bandwidth=bandwidth, options=options
        )
        for name, rows in sets.items()
    }  # fmt: skip


# Physics


def physics_figures(corpus: Corpus) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Terms of every kept segment; which share of them the scores keep, and how fast terms are taken."""
    parts, spent, of_postures = [], 0.0, 0.0
    for number in range(len(corpus.shard_ids)):
        qpos, lengths = corpus.shard(number).qpos, corpus.frames[corpus.shard_of == number]
        postures(G1, qpos[:64])
        seconds, found = timed(lambda qpos=qpos, lengths=lengths: measure_terms(G1, qpos, lengths, fps=corpus.fps))
        of_postures += timed(lambda qpos=qpos: postures(G1, qpos))[0]
        parts.append(found)
        spent += seconds
    terms = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    kept = {f"kept_by_{name}": float((score(terms, one) >= one.keep).mean()) for name, one in PRESETS.items()}
    frames = float(corpus.frames.sum())
    quiet = score({**terms, "acceleration": np.zeros_like(terms["acceleration"])}, PRESETS["published"])
    return terms, {
        **kept,
        "kept_by_published_without_jerk": float((quiet >= 90).mean()),
        "acceleration_median": float(np.median(terms["acceleration"])),
        "terms_frames_per_core_second": frames / spent,
        "terms_without_postures_frames_per_core_second": frames / max(spent - of_postures, 1e-9),
    }


def show_reach(console: Console, what: str, rows: list[list[str]]) -> None:
    columns = ("budget", what, "farthest", "95 %", "mean", "log-volume, 16 axes", "of the exact")
    told = Table(box=None, pad_edge=False)
    for column in columns:
        told.add_column(column, justify="left" if column == what else "right")
    for row in rows:
        told.add_row(*row)
    console.print(told, "")


def show_diversity(console: Console, found: Mapping[str, Diversity]) -> None:
    told = Table(box=None, pad_edge=False)
    for column in ("measure", *(f"{name}, {one.count}" for name, one in found.items())):
        told.add_column(column, justify="left" if column == "measure" else "right")
    for name in MEASURES:
        row = [getattr(one, name) for one in found.values()]
        if np.isfinite([one.value for one in row]).all():
            told.add_row(name, *(f"{one.value:.3g} ({one.low:.3g} to {one.high:.3g})" for one in row))
    console.print(told, "")


if __name__ == "__main__":
    main()
