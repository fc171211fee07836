"""Does the planner answer in time over ten hours of motion, does it go where it is told, and how does what it makes look?

    python -m benchmarks.deploy_planner [--motions TAR_OR_FOLDER] [--corpus OUT] [--hours 10] [--minutes 2]

Builds Bandai-Namco's BVH files (or takes a corpus that is there; or, where neither is, moves by formula) and fills the hours with the
same motions hurried, slowed and mirrored. Commands walk at random over made-up time: every 3 s another velocity, sometimes
another facing, sometimes none. Times are of one call of `PlannedSource.look`, of those that plan; beside the wall clock's the
processor's own, for machines that others use. The last line is JSON.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.bandai import built, print_figures, workplace
from benchmarks.build import MOTIONS
from corpus import rotations
from corpus.augment import mirror_columns
from corpus.catalog import Corpus
from corpus.g1 import G1
from corpus.motion import CORPUS_FPS, RobotMotion
from corpus.quality import measure as quality
from corpus.resample import resample
from corpus.sources.synthetic_moves import human_motion
from deploy.planner.commands import Command
from deploy.planner.features import wrap
from deploy.planner.index import Index, Motion, build_index
from deploy.planner.source import PlannedSource
from pipelines.planner_index import motions_of
from retarget.retarget import retarget

SPEEDS = (1.0, 0.8, 1.25, 0.9, 1.1, 0.85, 1.18, 0.95, 1.05, 0.75, 1.33)
"""How many times as fast motions are shown, one after another until the hours are full."""
FORMULA = {"walk": 8, "turn": 8, "squat": 2, "reach": 4}
"""Moves by formula, and how many of each."""
HOLD_S = 3.0
"""Between commands; the last third counts as settled."""
GROUND_SPEEDS = (0.0, 1.3)
"""Of commands [m/s]."""


@dataclass
class RandomWalk:
    """Another command every `HOLD_S` seconds; keeps what it said, frame by frame."""

    rng: np.random.Generator
    began_s: float = -1e9
    command: Command = Command()
    said: list[tuple[float, Command]] = field(default_factory=list)

    def now(self, now_s: float) -> Command:
        if now_s - self.began_s >= HOLD_S - 1e-6:
            self.began_s, self.command = now_s, self._another()
            self.said.append((now_s, self.command))
        return self.command

    def close(self) -> None:
        pass

    def _another(self) -> Command:
        heading = self.rng.uniform(-np.pi, np.pi) if not self.said else None
        if heading is None:
            x, y = self.said[-1][1].velocity
            heading = np.arctan2(y, x) + self.rng.normal(0, 0.7)
        speed = self.rng.choice([0.0, *self.rng.uniform(*GROUND_SPEEDS, 4)])
        return Command((speed * np.cos(heading), speed * np.sin(heading)))


def measure(
    motions: Path = MOTIONS, corpus: Path | None = None, *, hours: float = 10.0, minutes: float = 2.0, seed: int = 0
) -> dict[str, float]:
    """Figures by name; times in milliseconds."""
    with tempfile.TemporaryDirectory(prefix="motionloom-bench-") as work, threadpool_limits(1):
        begin = time.perf_counter()
        index = build_index(Path(work) / "index", _filled(_originals(motions, corpus), hours))
        figures = {"build_s": time.perf_counter() - begin, "hours": len(index.qpos) / CORPUS_FPS / 3600}
        return figures | _walked(index, minutes, np.random.default_rng(seed))


def _walked(index: Index, minutes: float, rng: np.random.Generator) -> dict[str, float]:
    walk = RandomWalk(rng)
    source = PlannedSource(index, walk)
    source.begin()
    planner, wall, cpu = source.planner, [], []
    shown, rows = [], set()
    for frame in range(round(minutes * 60 * CORPUS_FPS)):
        row, began = planner.row, (time.perf_counter(), time.process_time())
        preview = source.look(frame / CORPUS_FPS)
        spent = time.perf_counter() - began[0], time.process_time() - began[1]
        if planner.row != row:
            wall.append(spent[0] * 1e3)
            cpu.append(spent[1] * 1e3)
        shown.append(preview.qpos[0])
        rows.add(int(index.motion_of_row[planner.row]))
    made = np.stack(shown)
    times = {
        f"{name}_{part}": float(np.percentile(values[1:], share))
        for name, values in (("planner_ms", wall), ("planner_cpu_ms", cpu))
        for part, share in (("p50", 50), ("p99", 99), ("max", 100))
    }
    about = {"frames": len(index.qpos), "rows": len(index.order), "jumps_per_s": planner.jumps / (minutes * 60)}
    return about | times | _followed(made, walk) | _looks(made, index, rows)


def _followed(made: np.ndarray, walk: RandomWalk) -> dict[str, float]:
    """How far velocity and heading are from the command, once it is settled."""
    velocity_error, facing_error, asked = [], [], []
    for began_s, command in walk.said:
        # What is planned shows as much later as the preview is long.
        last = round((began_s + HOLD_S) * CORPUS_FPS) + 10
        if last >= len(made):
            break
        settled = made[last - round(HOLD_S / 3 * CORPUS_FPS) : last + 1]
        velocity = (settled[-1, :2] - settled[0, :2]) * CORPUS_FPS / (len(settled) - 1)
        velocity_error.append(float(np.hypot(*(velocity - command.velocity))))
        asked.append(float(np.hypot(*command.velocity)))
        if asked[-1] > 0.1:
            wanted = np.arctan2(command.velocity[1], command.velocity[0])
            facing_error.append(float(np.abs(wrap(rotations.heading(settled[:, 3:7]) - wanted)).mean()))
    return {
        "asked_speed_mean": float(np.mean(asked)),
        "velocity_error_mean": float(np.mean(velocity_error)),
        "velocity_error_p90": float(np.percentile(velocity_error, 90)),
        "facing_error_mean_deg": float(np.degrees(np.mean(facing_error))),
    }


def _looks(made: np.ndarray, index: Index, motions: set[int]) -> dict[str, float]:
    """The plan's own measures beside those of the motions that it was made of."""
    figures = {f"plan_{name}": value for name, value in _measures([made]).items()}
    of_corpus = [index.qpos[start : start + frames] for start, frames in index.motions[sorted(motions)][:60]]
    return figures | {f"corpus_{name}": value for name, value in _measures(of_corpus).items()}


def _measures(parts: list[np.ndarray]) -> dict[str, float]:
    told = [(quality(G1, RobotMotion(np.asarray(part, np.float64), CORPUS_FPS)), len(part)) for part in parts]
    weight = np.array([count for _, count in told], float)
    joints = [np.asarray(part[:, 7:], np.float64) for part in parts]
    acceleration = np.concatenate([np.abs(np.diff(j, 2, axis=0)).max(1) for j in joints]) * CORPUS_FPS**2
    inside = np.concatenate([((j >= G1.lower - 1e-6) & (j <= G1.upper + 1e-6)).all(1) for j in joints])
    fast = np.concatenate(
        [(np.abs(np.diff(j, axis=0)) * CORPUS_FPS <= G1.speed_limit * (1 + 1e-6)).all(1) for j in joints]
    )
    return {
        "foot_slide": float(np.average([q.foot_slide for q, _ in told], weights=weight)),
        "penetration": float(np.average([q.penetration for q, _ in told], weights=weight)),
        "floating": float(np.average([q.floating for q, _ in told], weights=weight)),
        "joint_acceleration_p99": float(np.percentile(acceleration, 99)),
        "joint_acceleration_max": float(acceleration.max()),
        "inside_range_share": float(inside.mean()),
        "inside_speed_share": float(fast.mean()),
    }


def _originals(motions: Path, corpus: Path | None) -> list[Motion]:
    if corpus is not None:
        return list(motions_of(Corpus.open(corpus)))
    if motions.exists():
        with workplace(motions) as work:
            return [(np.array(qpos), styles) for qpos, styles in motions_of(built(work / "bvh", work / "corpus"))]
    return [
        (retarget(human_motion(kind, seed=seed, seconds=12.0)).motion.qpos, (kind,))
        for kind, count in FORMULA.items()
        for seed in range(count)
    ]


def _filled(originals: list[Motion], hours: float) -> Iterator[Motion]:
    """The motions at one speed after another, each also mirrored, until the hours are full; over and over where they are few."""
    columns = np.array(mirror_columns(G1))
    left = hours * 3600 * CORPUS_FPS
    while True:
        for speed in SPEEDS:
            for qpos, styles in originals:
                shown = resample(RobotMotion(qpos, CORPUS_FPS / speed), CORPUS_FPS, antialias=False).qpos
                yield shown, styles
                yield shown[:, np.abs(columns) - 1] * np.sign(columns), styles
                left -= 2 * len(shown)
                if left <= 0:
                    return


def main() -> None:
    options = _parser().parse_args()
    figures = measure(options.motions, options.corpus, hours=options.hours, minutes=options.minutes)
    source = options.corpus or (options.motions if options.motions.exists() else "moves by formula")
    print(f"Motions: {source}")
    for name, value in figures.items():
        print(f"{name:32s} {value:12.4g}")
    print_figures(figures)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.deploy_planner", description="The kinematic planner.")
    add = parser.add_argument
    add("--motions", type=Path, default=MOTIONS, help="archive or folder with Bandai-Namco's BVH files")
    add("--corpus", type=Path, help="a corpus that is there, instead")
    add("--hours", type=float, default=10.0, help="of the index (default 10)")
    add("--minutes", type=float, default=2.0, help="of made-up time (default 2)")
    return parser


if __name__ == "__main__":
    main()
