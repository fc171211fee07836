"""Show the trainer's whole way on made-up motion: clusters, an expert for each, one student of all, and the referee's word."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console

from corpus.catalog import Corpus
from corpus.errors import MotionloomError
from corpus.exports.csv import write_csv
from deploy.stance import swaying
from hme.space import Space
from pipelines.build import build
from pipelines.cluster import Cluster
from pipelines.cluster_corpus import cluster_corpus
from pipelines.embed import embed
from pipelines.evaluate import Chosen, evaluate_corpus
from pipelines.training import Setup, clusters_of, train_corpus_student
from trainer.evaluate import Trial
from trainer.learner import Learning
from trainer.plot import COLOURS, Axis, Curve, draw_curves
from trainer.randomise import LIGHT
from trainer.run_log import Interrupt, duration, read_log
from trainer.scoreboard import as_text
from trainer.student import StudentOptions

INLINE = Cluster("inline")
"""So little work takes less time than to start workers for it."""


@dataclass(frozen=True)
class DemoOptions:
    kinds: tuple[str, ...] = ("steps", "squat", "reach")
    """Movements (`corpus.sources.synthetic.KINDS`) from standing to standing, each a cluster to be."""
    stand: bool = True
    """One cluster more: standing as a robot does between motions (`deploy.stance.swaying`)."""
    takes: int = 2
    """Of each movement."""
    seconds: float = 4.0
    """Length of a take."""
    steps: int = 2_000_000
    """Control periods that an expert is trained on at most."""
    robots: int = 192
    """Of an expert: so short are the clips that more updates of fewer robots learn faster."""
    enough: float = 0.98
    """Share of episodes that end well at which an expert is done."""
    student: StudentOptions = StudentOptions(
        rounds=10, mixing_rounds=1, steps_per_round=200, learning=Learning(learning_rate=6e-4)
    )
    starts: int = 16
    """Of the referee's, in each take."""
    at_once: int = 2
    """Experts trained at a time, each by a process of one thread."""


def main(out: Path, options: DemoOptions = DemoOptions()) -> int:
    """All of it below `out`; what is there already is not done again. Gives the exit code."""
    console, start = Console(), time.monotonic()
    corpus = make_corpus(out, options)
    cluster = clusters_of(corpus)
    labels = corpus.of_clips("label").to_list()
    names = {int(c): labels[np.flatnonzero(cluster == c)[0]].split()[0] for c in np.unique(cluster)}
    console.print(
        f"{len(cluster)} segments in {len(names)} clusters: {', '.join(f'{c} ({n})' for c, n in names.items())}"
    )
    runs = {c: out / "runs" / f"expert-{c}-{name}" for c, name in names.items()}
    if not train_experts(console, corpus.path, runs, options):
        return 130
    console.print(f"experts are trained ({duration(time.monotonic() - start)} since the start); now their student")
    student = out / "runs" / "student"
    setup = Setup(robots=64, randomise="light", threads=options.at_once)
    train_corpus_student(corpus, student, experts=list(runs.values()), setup=setup, options=options.student)
    # Another seed than the training had: other noise.
    trial = Trial(starts=options.starts, randomisation=LIGHT, threads=options.at_once, seed=1)
    policies = ["pd", *(str(run) for run in runs.values()), str(student)]
    scores = evaluate_corpus(corpus, policies, trial, Chosen(), out / "referee.json")
    draw(out / "curves.svg", runs, student)
    (out / "referee.txt").write_text(as_text(scores))
    print(as_text(scores))  # as wide as it is: rich would break its lines
    told = summary(scores, {c: run.name for c, run in runs.items()}) | {
        "minutes": round((time.monotonic() - start) / 60, 1)
    }
    (out / "summary.json").write_text(json.dumps(told, indent=1) + "\n")
    console.print(f"curves: {out / 'curves.svg'}; all figures: {out / 'referee.json'}")
    print(json.dumps(told))
    return 0


def make_corpus(out: Path, options: DemoOptions) -> Corpus:
    """Made-up movements, retargeted, embedded and clustered: as many clusters as there are movements."""
    data, robot = out / "data" / "synthetic", out / "data" / "robot"
    for folder in (data, robot):
        folder.mkdir(parents=True, exist_ok=True)
    for kind in options.kinds:
        for seed in range(options.takes):
            spec = {"kind": kind, "seed": seed, "seconds": options.seconds}
            (data / f"{kind}_{seed}.motion.json").write_text(json.dumps(spec))
    for seed in range(options.takes if options.stand else 0):
        write_csv(swaying(options.seconds, seed), robot / f"stand_{seed}.csv")
    sources = {"synthetic": data} | ({"robot": robot} if options.stand else {})
    outcome = build(sources, out / "corpus", scheduler="inline", workers=1)
    if not outcome.complete:
        raise MotionloomError(f"The corpus below {out} could not be built: {outcome.failures or outcome.missing}.")
    embed(out / "corpus", cluster=INLINE)
    corpus = Corpus.open(out / "corpus")
    cluster_corpus(Space.open(corpus), len(options.kinds) + options.stand)
    return corpus


def train_experts(console: Console, corpus: Path, runs: dict[int, Path], options: DemoOptions) -> bool:
    """All experts, `at_once` at a time, each by `loom train expert`; False where somebody asked to stop."""
    waiting, going = dict(runs), dict[int, subprocess.Popen]()
    told = time.monotonic()
    with Interrupt() as interrupt:
        try:
            while waiting or going:
                for c in list(waiting)[: 0 if interrupt.asked else options.at_once - len(going)]:
                    going[c] = subprocess.Popen(_command(corpus, c, waiting.pop(c), options), stderr=subprocess.DEVNULL)
                time.sleep(0.5)
                for c in [c for c, process in going.items() if process.poll() is not None]:
                    if (code := going.pop(c).returncode) and not interrupt.asked:
                        raise MotionloomError(f"`{' '.join(_command(corpus, c, runs[c], options))}` ended with {code}.")
                if interrupt.asked and not going:
                    return False
                if time.monotonic() - told > 15:
                    told = time.monotonic()
                    for c in going:
                        console.print(progress(runs[c]), highlight=False)
        finally:
            for process in going.values():
                process.terminate()  # each saves first
            for process in going.values():
                process.wait()
    return True


def progress(run: Path) -> str:
    """How far an expert has come."""
    rows = [row for row in read_log(run) if row.get("finished_share") is not None]
    if not rows:
        return f"{run.name}: begins"
    share = float(np.mean([row["finished_share"] for row in rows[-20:]]))
    return (
        f"{run.name}: {rows[-1]['step']} updates in {duration(rows[-1]['elapsed_s'])}, {share:.0%} of episodes end well"
    )


def summary(scores: pl.DataFrame, experts: dict[int, str]) -> dict[str, Any]:
    """The figures that the demo is judged by, by the rule `trunk`."""
    success = {(row["policy"], row["value"]): row["mean"] for row in _rows(scores, "trunk_success", "cluster")}
    overall = {row["policy"]: row["mean"] for row in _rows(scores, "trunk_success", "overall")}
    mpkpe = {row["policy"]: row["mean"] for row in _rows(scores, "mpkpe_mm", "overall")}
    own = {c: success[name, str(c)] for c, name in experts.items()}
    wrong = {c: max(success[name, str(c)] for other, name in experts.items() if other != c) for c in experts}
    return {
        "pd_replay_success": overall["pd_replay"],
        "expert_success": min(own.values()),
        "expert_success_each": {name: own[c] for c, name in experts.items()},
        "student_success": overall["student"],
        "student_success_each": {name: success["student", str(c)] for c, name in experts.items()},
        "best_wrong_expert_success": float(np.mean(list(wrong.values()))),
        "student_minus_best_wrong_expert": overall["student"] - float(np.mean(list(wrong.values()))),
        "student_mpkpe_mm": mpkpe["student"],
        "starts_each": int(min(row["starts"] for row in _rows(scores, "trunk_success", "cluster"))),
    }


def draw(path: Path, runs: dict[int, Path], student: Path) -> None:
    """How the experts learned to stay up, and the student to do as they do."""
    curves = []
    for colour, run in zip(COLOURS, runs.values(), strict=False):
        rows = [row for row in read_log(run) if row.get("finished_share") is not None]
        x, y = (np.array([row[name] for row in rows], float) for name in ("elapsed_s", "finished_share"))
        smooth = np.convolve(y, np.ones(10) / 10, "valid") if len(y) >= 10 else y
        curves.append(Curve(run.name, x[len(x) - len(smooth) :] / 60, smooth, colour))
    rows = [row for row in read_log(student) if row.get("loss") is not None]
    x, y = (np.array([row[name] for row in rows], float) for name in ("elapsed_s", "loss"))
    learned = [Curve("student", x / 60, y, COLOURS[len(runs) % len(COLOURS)])]
    minutes = Axis("minutes of training")
    top = draw_curves(curves, minutes, Axis("episodes that end well"), title="Experts, while they explore")
    path.write_text(top)
    path.with_name("student.svg").write_text(
        draw_curves(learned, minutes, Axis("loss (SmoothL1)", logarithmic=True), title="Student")
    )


def _rows(scores: pl.DataFrame, measure: str, group: str) -> list[dict[str, Any]]:
    return scores.filter((pl.col("measure") == measure) & (pl.col("group") == group)).to_dicts()


def _command(corpus: Path, cluster: int, run: Path, options: DemoOptions) -> Sequence[str]:
    asked = {"--run": run, "--cluster": cluster, "--steps": options.steps, "--enough": options.enough}
    asked |= {"--robots": options.robots, "--randomise": "light", "--seconds": options.seconds + 1}
    told = [str(word) for pair in asked.items() for word in pair]
    return [sys.executable, "-m", "pipelines.cli", "train", "expert", str(corpus), *told]
