"""Are near-duplicates found, and nothing else? Copies are planted among real motions and looked for, beside controls.

    python -m benchmarks.hme_duplicates [--motions TAR_OR_FOLDER]

Builds Bandai-Namco's BVH files and plants copies of what is kept, each turned and set down elsewhere: exact, mirrored, at 0.9 or
1.1 of the tempo, with 0.01 rad of noise, and 4-s chunks; besides, which the bars do not ask for, all of these at once, and chunks
of the files that were retargeted on their own. A pair of motions that stem from different clips counts as false. Controls: the
motions without what was planted, whose pairs are listed to be looked at; the embedding alone, at the threshold where 98 % of what
it names are copies; a split at random. The last line is JSON.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float
from rich.console import Console
from rich.table import Table

from benchmarks.bandai import Clips, built, labelled, parser, print_figures, workplace
from benchmarks.planted import Planted, in_the_mirror, plant, recut
from corpus.catalog import Corpus
from corpus.motion import CORPUS_FPS, RobotMotion
from hme.duplicates.anchor_index import Index, SearchOptions, build_index
from hme.duplicates.candidates import candidates
from hme.duplicates.find import find, seconds, verify
from hme.duplicates.keepers import judge
from hme.duplicates.traces import STEP, Anchors, find_anchors, fit_basis, traces
from hme.spectrum import fit
from hme.split import SplitOptions, deal, leakage, units

ASKED = ("exact", "mirrored", "retimed", "noisy", "chunk")
EACH = 300
"""Copies of each kind."""
SCALE_ANCHORS = 1_000_000
"""Made-up anchors among which the search is timed."""
FULL_SEGMENTS, FULL_FRAMES = 5e6, 2e9
"""The corpus that costs are reckoned for."""


def main() -> None:
    options = parser("hme_duplicates", "What is found twice.").parse_args()
    with workplace(options.motions) as work:
        corpus = built(work / "bvh", work / "kept")
        clips = labelled(corpus)
        told = figures(clips)
        told["recall_retargeted_chunks"], distances = retargeted_chunks(work, corpus)
        told |= costs(clips)
    console = Console(width=130)
    console.print("chunks retargeted on their own: joint distances [rad] at 10, 50, 90 %:", distances)
    print_figures(told)


def figures(clips: Clips, *, each: int = EACH, seed: int = 0) -> dict[str, float]:
    """Recall by kind, precision, controls; prints a table."""
    alone = find(clips.motions)
    show_pairs(alone, clips)
    planted = plant(clips.motions, np.random.default_rng(seed), each)
    motions = clips.motions + planted.motions
    start = time.process_time()
    pairs = find(motions)
    spent = time.process_time() - start
    recalls, precision = judged(pairs, planted, len(clips.motions))
    by_embedding = embedding_alone(clips.motions, planted)
    table = Table(box=None, pad_edge=False)
    for column in ("planted", "how many", "recall", "kind told", "recall by the embedding alone"):
        table.add_column(column, justify="left" if column == "planted" else "right")
    for kind, found in recalls.items():
        table.add_row(kind, str((planted.kind == kind).sum()), f"{found:.3f}", told_right(pairs, planted, len(clips.motions), kind),
                      f"{by_embedding[kind]:.3f}")  # fmt: skip
    Console(width=130).print(table)
    asked = np.isin(planted.kind, ASKED)
    weights = [(planted.kind[asked] == kind).mean() for kind in ASKED]
    ours, at_random = leaks(pairs, clips, planted)
    return {
        "duplicate_recall": float(np.dot([recalls[kind] for kind in ASKED], weights)),
        "duplicate_precision": precision,
        "duplicate_recall_worst_kind": min(recalls[kind] for kind in ASKED),
        "pairs_without_planting": len(alone),
        "recall_all_at_once": recalls["all at once"],
        "recall_by_embedding_alone": float(np.dot([by_embedding[kind] for kind in ASKED], weights)),
        "leaks_of_our_split": ours,
        "leaks_of_a_random_split": at_random,
        "dedup_frames_per_core_second": sum(motion.frame_count for motion in motions) / spent,
    }


# Measures


def judged(pairs: pl.DataFrame, planted: Planted, count: int) -> tuple[dict[str, float], float]:
    """Recall by kind: is each copy paired with its clip? And the share of all pairs that stem from one clip."""
    origin = np.concatenate([np.arange(count), planted.source])
    a, b = pairs["a"].to_numpy(), pairs["b"].to_numpy()
    found = set(zip(a.tolist(), b.tolist(), strict=True))
    hit = np.array([(int(source), count + i) in found for i, source in enumerate(planted.source)])
    recalls = {kind: float(hit[planted.kind == kind].mean()) for kind in dict.fromkeys(planted.kind)}
    return recalls, float((origin[a] == origin[b]).mean())


def told_right(pairs: pl.DataFrame, planted: Planted, count: int, kind: str) -> str:
    """Share of the copies found of which the kind is told right; all at once counts as a chunk."""
    kinds = {(a, b): told for a, b, told in pairs.select("a", "b", "kind").iter_rows()}
    told = [kinds.get((int(planted.source[i]), count + i)) for i in np.flatnonzero(planted.kind == kind).tolist()]
    told = [one for one in told if one is not None]
    return f"{np.mean([one == ('chunk' if kind == 'all at once' else kind) for one in told]):.3f}" if told else "–"


def embedding_alone(motions: list[RobotMotion], planted: Planted) -> dict[str, float]:
    """Recall by kind of pairs nearer than a threshold, the largest at which 98 % of what lies below are copies."""
    spectrum = fit(motions)
    mine = spectrum.embed(motions)
    two = [spectrum.embed(planted.motions), spectrum.embed([in_the_mirror(motion) for motion in planted.motions])]
    apart = np.minimum(*(one.distance_to(mine) for one in two))
    right = planted.source[:, None] == np.arange(len(motions))
    order = np.argsort(apart, axis=None)
    precise = np.cumsum(right.ravel()[order]) / np.arange(1, right.size + 1) >= 0.98
    threshold = apart.ravel()[order][np.flatnonzero(precise).max()] if precise.any() else 0.0
    near = (apart <= threshold)[right]
    return {kind: float(near[planted.kind == kind].mean()) for kind in dict.fromkeys(planted.kind)}


def leaks(pairs: pl.DataFrame, clips: Clips, planted: Planted) -> tuple[int, int]:
    """Pairs across the parts of our split, every motion a recording of its own, and of one at random."""
    motions = clips.motions + planted.motions
    frames = np.array([motion.frame_count for motion in motions])
    rng = np.random.default_rng(0)
    unit = units(np.arange(len(motions)), pairs)
    dealt = deal(
        unit,
        np.zeros(len(motions), int),
        frames,
        rng.integers(0, 2**63, len(motions)).astype(np.uint64),
        SplitOptions(),
    )
    at_random = rng.choice(3, len(motions), p=SplitOptions().shares)
    return len(leakage(pairs, dealt.split)), len(leakage(pairs, at_random))


def retargeted_chunks(work: Path, corpus: Corpus) -> tuple[float, list[float]]:
    """Recall of 4-s chunks of files that were cut before they were retargeted, and distances of those found."""
    recut(work / "bvh", work / "recut", np.random.default_rng(0))
    other = built(work / "recut", work / "rekept")
    both = [one.motion(i) for one in (corpus, other) for i in range(one.kept.height)]
    names = [name for one in (corpus, other) for name in recordings(one)]
    count, pairs = corpus.kept.height, find(both)
    across = pairs.filter((pl.col("a") < count) & (pl.col("b") >= count))
    right = across.filter(
        pl.Series([names[a] == names[b] for a, b in across.select("a", "b").iter_rows()], dtype=pl.Boolean)
    )
    # A chunk may lie across two segments of the whole file: then it is one where they cover it together.
    lengths = seconds(np.array([(motion.frame_count - 1) // STEP + 1 for motion in both]))
    verdict = judge(right, lengths, np.arange(len(both)))
    assert len(across) == len(right), "a chunk was taken for one of another file"
    distances = np.percentile(right["distance"].to_numpy(), [10, 50, 90]).round(4).tolist()
    return float((~verdict["keeper"].to_numpy()[count:]).mean()), distances


def recordings(corpus: Corpus) -> list[str]:
    clips = corpus.clips.select("clip", "recording").collect()
    name_of = dict(zip(clips["clip"], clips["recording"], strict=True))
    return [name_of[clip] for clip in corpus.kept["clip"]]


# Costs


def costs(clips: Clips) -> dict[str, float]:
    """Of each step, and what they come to for a full corpus [core-hours]."""
    given, basis = traces(clips.motions), fit_basis(clips.motions)
    start = time.process_time()
    anchors = find_anchors(traces(clips.motions), basis)
    anchor_rate = clips.frame_count / (time.process_time() - start)
    many, index, lengths = made_up(anchors)
    asked = Anchors(many.motion[:50_000], many.time_s[:50_000], many.prints[:50_000])
    start = time.process_time()
    candidates(index, asked, basis.odd, lengths)
    search_rate = len(asked) / (time.process_time() - start)
    near = SearchOptions(radius=0.5, agreeing=0.2)
    proposed, _ = candidates(build_index(anchors, near), anchors, basis.odd, seconds(np.diff(given.starts)), near)
    start = time.process_time()
    verify(proposed, given.__getitem__)
    align_rate = len(proposed) / (time.process_time() - start)
    full_anchors = len(anchors) * FULL_FRAMES / clips.frame_count
    # A query costs the square root of all anchors; on average half of them have higher numbers.
    search_hours = full_anchors / search_rate * np.sqrt(full_anchors / SCALE_ANCHORS) / 3600
    return {
        "anchor_frames_per_core_second": anchor_rate,
        "anchors_per_second_of_motion": len(anchors) / clips.frame_count * CORPUS_FPS,
        "searched_anchors_per_core_second_among_a_million": search_rate,
        "aligned_pairs_per_core_second": align_rate,
        "full_corpus_anchor_core_hours": FULL_FRAMES / anchor_rate / 3600,
        "full_corpus_search_core_hours": float(search_hours),
        "full_corpus_align_core_hours_at_most": FULL_SEGMENTS * SearchOptions().most / align_rate / 3600,
    }


def made_up(anchors: Anchors) -> tuple[Anchors, Index, Float[np.ndarray, " S"]]:
    """Many anchors, each between two real ones: they fill the room of fingerprints as more motions would."""
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, len(anchors), (2, SCALE_ANCHORS))
    share = rng.uniform(0, 0.5, (SCALE_ANCHORS, 1, 1)).astype(np.float32)
    prints = anchors.prints[one] * (1 - share) + anchors.prints[other] * share
    number = np.arange(SCALE_ANCHORS)
    many = Anchors(number // 14, (number % 14 * 0.55).astype(np.float32), prints)
    return many, build_index(many), np.full(SCALE_ANCHORS // 14 + 1, 8.0)


def show_pairs(pairs: pl.DataFrame, clips: Clips) -> None:
    console = Console(width=130)
    console.print(f"{len(pairs)} pairs among the {len(clips.motions)} clips themselves")
    for row in pairs.sort("distance").head(20).iter_rows(named=True):
        names = " and ".join(
            f"{clips.content[row[side]]} {clips.style[row[side]]} ({row[side]})" for side in ("a", "b")
        )
        console.print(
            f"  {names}: {row['kind']}, {row['distance']:.4f} rad, {row['stop_a'] - row['start_a']:.1f} s shared"
        )


if __name__ == "__main__":
    main()
