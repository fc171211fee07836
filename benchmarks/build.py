"""How fast a corpus is built, end to end, beside a peer's inverse kinematics alone on the same targets.

    python -m benchmarks.build [--motions TAR_OR_FOLDER] [--clips N] [--peer-clips N] [--peer-frames N]

Builds BVH files (read, retarget, cut, judge, write) in this process and counts its CPU time over all threads; a
small build before it compiles and imports what is needed. The peer (`benchmarks/peer.py`) solves the targets of some
of the same clips after each build; only its loop over frames is timed. Memory is that of a Dask worker in a second build. The last
line is JSON.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from benchmarks.judge import target_errors
from benchmarks.peer import solve_like_gmr
from corpus.contact import detect_contacts
from corpus.g1 import G1
from corpus.motion import Clip, HumanMotion
from corpus.posture import postures
from corpus.quality import frame_measures
from corpus.segment import cut
from corpus.sources import source
from corpus.sources.options import LoadOptions
from pipelines.build import Outcome, build
from pipelines.recipe import Recipe
from retarget.ground import ground_targets
from retarget.retarget import retarget
from retarget.solver import Targets, join_targets, solve
from retarget.targets import build_targets

MOTIONS = Path(__file__).resolve().parents[2] / "shared" / "bench" / "motions.tar.xz"
WARM_UP_CLIPS = 3
ROUNDS = 5
"""Builds, each followed by the peer: on a shared machine only what runs side by side compares. The median of their ratios counts."""


@dataclass(frozen=True)
class Rate:
    """Work done and what it cost."""

    frames: int
    core_seconds: float

    @property
    def per_core_second(self) -> float:
        return self.frames / max(self.core_seconds, 1e-9)


def main() -> None:
    options = _parser().parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="motionloom-bench-") as name, threadpool_limits(1):
        work = Path(name)
        clips = lay_out(options.motions, work / "bvh", options.clips)
        lay_out(work / "bvh", work / "few", WARM_UP_CLIPS)
        timed_build(work / "few", work / "warm-up")
        sample = [clips[i] for i in np.linspace(0, len(clips) - 1, min(options.peer_clips, len(clips))).astype(int)]
        rounds = []
        for number in range(ROUNDS):
            rate, outcome = timed_build(work / "bvh", work / f"corpus-{number}")
            peer = against_peer(work / "bvh", sample, options.peer_frames)
            rounds.append((rate.per_core_second / peer["peer"].per_core_second, rate, outcome, peer))
        ratio, rate, outcome, peer = sorted(rounds, key=lambda one: one[0])[ROUNDS // 2]
        memory_mb = build({"bvh": work / "bvh"}, work / "by-worker", workers=1).peak_memory_mb
        stages = timed_stages(work / "bvh", sample)
    show(rate, outcome, memory_mb, stages, peer, ratio)
    figures = {
        "frames_per_core_second": round(rate.per_core_second, 1),
        "ratio_vs_mink_ik": round(ratio, 2),
        "ratio_of_each_round": [round(one[0], 1) for one in rounds],
        "kept_fraction": round(outcome.kept_count / max(outcome.frame_count, 1), 4),
        "peak_rss_mb_per_worker": round(memory_mb, 1),
        "clips": len(clips),
        "frames": rate.frames,
        "mink_ik_frames_per_core_second": round(peer["peer"].per_core_second, 1),
        "kernel_frames_per_core_second": round(peer["kernel"].per_core_second, 1),
        "peer_frames": peer["peer"].frames,
    }
    print(json.dumps(figures))


def lay_out(motions: Path, folder: Path, count: int) -> list[str]:
    """Put `count` BVH files, evenly chosen by name, from an archive or folder into `folder`; gives their paths."""
    if not motions.is_dir():
        # All of them in one pass: an xz archive can only be read from its start.
        everything = folder.with_name(f"{folder.name}-all")
        with tarfile.open(motions, "r|*") as archive:
            archive.extractall(everything, (m for m in archive if m.name.endswith(".bvh")), filter="data")
        motions = everything
    names = _spread(sorted(str(path.relative_to(motions)) for path in motions.rglob("*.bvh")), count)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(motions / name, folder / name)
    return names


def timed_build(motions: Path, out: Path) -> tuple[Rate, Outcome]:
    """The whole build in this process: scan, hash, plan, read, retarget, cut, judge, write, fold."""
    start = time.process_time()
    outcome = build({"bvh": motions}, out, scheduler="inline")
    seconds = time.process_time() - start
    if not outcome.complete:
        raise SystemExit("The build failed:\n" + "\n".join(failure.trace for failure in outcome.failures))
    return Rate(outcome.frame_count, seconds), outcome


def timed_stages(root: Path, names: list[str]) -> dict[str, Rate]:
    """Where the time of a clip goes, stage by stage, on a few clips."""
    spent: dict[str, float] = {}
    frames = 0

    def timed(stage: str, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        start = time.process_time()
        result = function(*arguments, **named)
        spent[stage] = spent.get(stage, 0.0) + time.process_time() - start
        return result

    for name in names:
        human = timed("read", _load, root, name)
        done = timed("retarget", retarget, human)
        outside = timed("posture", postures, G1, done.motion.qpos)
        motion = replace(done.motion, contact=timed("contacts", detect_contacts, done.motion.fps, outside))
        measures = timed("measure", frame_measures, G1, motion, outside, done.fit)
        timed("cut", cut, measures, Recipe().cut)
        frames += motion.frame_count
    return {stage: Rate(frames, seconds) for stage, seconds in spent.items()}


def against_peer(root: Path, names: list[str], frame_limit: int) -> dict[str, Any]:
    """Both solvers on the targets of the same clips, `frame_limit` frames of each at most, and how far off they end."""
    targets = [_targets(_load(root, name), frame_limit) for name in names]
    runs = [solve_like_gmr(G1, one) for one in targets]
    start = time.process_time()
    together = join_targets(targets)
    solution = solve(G1, together)
    seconds = time.process_time() - start
    ours = [solution.qpos[a:b] for a, b in zip(together.starts, together.stops, strict=True)]
    found = {"peer": [run.qpos for run in runs], "kernel": ours}
    errors = {
        f"{who}_errors": np.concatenate(
            [np.stack(target_errors(*pair), 1) for pair in zip(targets, motions, strict=True)]
        ).mean(0)
        for who, motions in found.items()
    }
    peer = Rate(sum(run.timed_frames for run in runs), sum(run.core_seconds for run in runs))
    return {"peer": peer, "kernel": Rate(sum(one.frame_count for one in targets), seconds), **errors}


def show(
    rate: Rate, outcome: Outcome, memory_mb: float, stages: dict[str, Rate], peer: dict[str, Any], ratio: float
) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("what", "frames", "core seconds", "frames per core second", ""):
        table.add_column(column, justify="left" if column in ("what", "") else "right")

    def row(what: str, value: Rate, note: str = "") -> None:
        table.add_row(what, f"{value.frames:,}", f"{value.core_seconds:.2f}", f"{value.per_core_second:,.0f}", note)

    row("build, end to end", rate, f"{outcome.kept_count / max(outcome.frame_count, 1):.1%} of the frames kept")
    for stage, value in stages.items():
        row(f"  {stage}", value)
    for who, title in (("kernel", "our solver alone"), ("peer", f"mink {version('mink')} + daqp, two stages, alone")):
        position, orientation = peer[f"{who}_errors"]
        row(title, peer[who], f"{1000 * position:.1f} mm, {np.degrees(orientation):.1f}° off the targets")
    console = Console(width=130)
    console.print(table)
    console.print(f"end to end {ratio:.1f} × the peer's loop alone; a worker held at most {memory_mb:.0f} MiB")


def _load(root: Path, name: str) -> HumanMotion:
    motion = source("bvh").load(root, Clip("bvh", name, licence=""), LoadOptions())
    assert isinstance(motion, HumanMotion)
    return motion


def _targets(human: HumanMotion, frame_limit: int) -> Targets:
    options = Recipe().retarget
    targets, _ = build_targets(human, G1, options.fps)
    targets, _ = ground_targets(targets, G1, options.fps, options.ground)
    return targets.part(0, frame_limit)


def _spread(names: list[str], count: int) -> list[str]:
    if not names:
        raise SystemExit("No BVH files there.")
    return [names[i] for i in np.unique(np.linspace(0, len(names) - 1, min(count, len(names))).astype(int))]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.build", description="Build rate beside a peer's IK.")
    parser.add_argument("--motions", type=Path, default=MOTIONS, help="archive or folder with BVH files")
    parser.add_argument("--clips", type=int, default=10_000, help="how many clips to build (default all)")
    parser.add_argument("--peer-clips", type=int, default=24, help="how many of them the peer solves too (default 24)")
    parser.add_argument("--peer-frames", type=int, default=150, help="most frames of each for the peer (default 150)")
    return parser


if __name__ == "__main__":
    main()
