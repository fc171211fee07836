"""Does the embedding know what a motion is, and nothing else of it? Judged by labels it never sees, beside controls.

    python -m benchmarks.hme [--motions TAR_OR_FOLDER] [--all]

Builds Bandai-Namco's BVH files, whose names tell content and style, and embeds what the corpus keeps of each clip: its longest
run of kept segments that touch, joined. Recall: is the nearest clip in another style of the same content? (Clips whose content
no other style has are not asked.) Invariances: how far a clip moves when only its place, start, rate or noise change, as a share
of the median distance to the nearest neighbour; the median over clips. The set `uncut` holds every clip whole, nothing judged. Controls: mean and standard deviation of joint angles; the same of 74 raw inputs in the world
frame (qpos, velocities, gravity); shuffled labels. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float
from rich.console import Console
from rich.table import Table

from benchmarks.bandai import Clips, built, labelled, parser, rounded, workplace
from benchmarks.hme_autoencoder import autoencoder_figures
from benchmarks.hme_measures import (
    CLUSTERS,
    TEMPI,
    Moves,
    information,
    invariances,
    rate,
    recall,
    tempo_error,
)
from corpus.motion import RobotMotion, velocity
from corpus.quality import Gate
from corpus.segment import CutOptions
from hme.cluster import fit_clusters, stability
from hme.features import GRAVITY, features
from hme.spectrum import PRESETS, fit
from pipelines.recipe import Recipe

ASSIGN_CLUSTERS, ASSIGN_VECTORS = 384, 200_000
EVERYTHING = replace(
    Recipe(),
    gate=Gate(**{field.name: 1e9 for field in fields(Gate)}),
    cut=CutOptions(max_s=1e4, target_s=1e4, joint_jump=1e3, root_jump=1e3, joint_spike=1e9, spike_speed=1e9),
)
"""Nothing is judged or cut."""


def main() -> None:
    options = _parser().parse_args()
    with workplace(options.motions) as work:
        kept, uncut = (
            labelled(built(work / "bvh", work / name, recipe))
            for name, recipe in (("kept", Recipe()), ("uncut", EVERYTHING))
        )
        recalls, informed = told_apart(kept)
        recalls_uncut, _ = told_apart(uncut)
        spectrum = fit(kept.motions)
        found = spectrum.embed(kept.motions)
        moved = invariances(spectrum, found, kept.motions)["vectors"]
        trained = autoencoder_figures(kept)
        tempo = {f"{ratio:g}": tempo_error(spectrum, found, kept.motions, ratio) for ratio in TEMPI}
        figures = {
            "recall_at_1_across_styles": recalls["spectrum"],
            "recall_above_controls": recalls["spectrum"] - max(recalls[name] for name in CONTROLS),
            "nmi_content": informed["spectrum"],
            "nmi_above_controls": informed["spectrum"] - max(informed[name] for name in CONTROLS),
            **{f"{name}_invariance": moved[name][0] for name in ("yaw_translation", "phase_shift", "rate")},
            "retarget_noise": moved["noise"][0],
            "tempo_ratio_error": max(tempo.values()),
            "cluster_stability": stability(found.vectors, CLUSTERS).seeds,
            "spectrum_frames_per_core_second": rate(lambda: spectrum.embed(kept.motions), kept.frame_count),
            "assign_vectors_per_core_second": assign_rate(found.vectors),
            "yaw_translation_worst": moved["yaw_translation"][1],
            "recall_at_1_uncut": recalls_uncut["spectrum"],
            "recall_at_1_published": recalls["published"],
            "nmi_published": informed["published"],
            **trained.figures,
        }
    show(recalls, informed, recalls_uncut, {"spectrum": moved, **trained.moved}, tempo)
    counts = {"clips": len(kept.motions), "clips_uncut": len(uncut.motions), "frames": kept.frame_count}
    beside = figures_beside(options.motions) if options.all else {}
    print(json.dumps({**rounded(figures), **counts, **beside}))


BESIDE = ("hme_duplicates", "hme_selection", "hme_balance")
"""Scripts that judge what is made of the embedding, on the same motions."""


def figures_beside(motions: Path) -> dict[str, float]:
    """The last lines of the other scripts, and of the one that asks questions."""
    found: dict[str, float] = {}
    for name in (*BESIDE, "ask"):
        options = ["--motions", str(motions)] if name in BESIDE else []
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}", *options], stdout=subprocess.PIPE, text=True, check=True
        )
        print(f"\nbenchmarks.{name}\n{done.stdout}", flush=True)
        found |= json.loads(done.stdout.splitlines()[-1])
    return found


# Controls and measures


def statistics(channels: Sequence[Float[np.ndarray, "T C"]]) -> Float[np.ndarray, "S D"]:
    """Mean and standard deviation of each channel, standardised; 64 principal components."""
    rows = np.stack([np.concatenate([one.mean(0), one.std(0)]) for one in channels])
    deviation = rows.std(0)
    rows = (rows - rows.mean(0)) / np.maximum(deviation, 0.25 * np.median(deviation))
    widest = np.linalg.svd(rows, full_matrices=False)[2][:64]
    return rows @ widest.T


def raw_inputs(motions: Sequence[RobotMotion]) -> list[Float[np.ndarray, "T 74"]]:
    """Place, heading and all, at 10 Hz."""
    found = features(motions)
    gravity = [found[i][:, GRAVITY] for i in range(len(motions))]
    return [
        np.concatenate([motion.qpos[::5], velocity(motion)[::5], down], 1)
        for motion, down in zip(motions, gravity, strict=True)
    ]


def told_apart(clips: Clips) -> tuple[dict[str, float], dict[str, float]]:
    """Recall and mutual information with the content, of each embedding and each control."""
    vectors = {name: fit(clips.motions, config).embed(clips.motions).vectors for name, config in PRESETS.items()}
    vectors["pose statistics"] = statistics([motion.joint_position[::5] for motion in clips.motions])
    vectors["world-frame inputs"] = statistics(raw_inputs(clips.motions))
    recalls = {name: recall(rows, clips.content, clips.style) for name, rows in vectors.items()}
    informed = {name: information(rows, clips.content) for name, rows in vectors.items()}
    order = np.random.default_rng(0).permutation(len(clips.content))
    recalls["shuffled labels"] = recall(vectors["spectrum"], clips.content[order], clips.style)
    informed["shuffled labels"] = information(vectors["spectrum"], clips.content[order])
    return recalls, informed


CONTROLS = ("pose statistics", "world-frame inputs", "shuffled labels")


def assign_rate(vectors: Float[np.ndarray, "S D"]) -> float:
    """Vectors per core-second that are assigned to the clusters of a full corpus."""
    many = np.resize(vectors, (ASSIGN_VECTORS, vectors.shape[1]))
    clusters = fit_clusters(vectors, ASSIGN_CLUSTERS, hme_id="")
    return rate(lambda: clusters.assign(many), ASSIGN_VECTORS)


def show(
    recalls: dict[str, float],
    informed: dict[str, float],
    recalls_uncut: dict[str, float],
    moved: dict[str, Moves],
    tempo: dict[str, float],
) -> None:
    told = Table(box=None, pad_edge=False)
    for column in ("what", "recall@1 across styles", f"NMI, K = {CLUSTERS}", "recall@1, clips uncut"):
        told.add_column(column, justify="left" if column == "what" else "right")
    for name in recalls:
        told.add_row(name, f"{recalls[name]:.3f}", f"{informed[name]:.3f}", f"{recalls_uncut[name]:.3f}")
    still = Table(box=None, pad_edge=False)
    for column in ("embedding", "changed", "clips", "median move / nearest neighbour", "largest"):
        still.add_column(column, justify="left" if column in ("embedding", "changed") else "right")
    for embedding, moves in moved.items():
        for name, (median, largest, count) in moves.items():
            still.add_row(embedding, name, str(count), f"{median:.2g}", f"{largest:.2g}")
    console = Console(width=130)
    console.print(told, "", still, "")
    console.print("error of the tempo:", ", ".join(f"× {ratio} {error:.1%}" for ratio, error in tempo.items()))


def _parser() -> argparse.ArgumentParser:
    made = parser("hme", "What the embedding knows.")
    text = (
        "run benchmarks.hme_duplicates, hme_selection, hme_balance and ask too, and join their last lines (8 minutes)"
    )
    made.add_argument("--all", action="store_true", help=text)
    return made


if __name__ == "__main__":
    main()
