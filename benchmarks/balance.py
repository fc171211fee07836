"""Does drawing clusters equally often help the clusters that a tracker does worst on, for the same number of training steps?

    python -m benchmarks.balance [--motions TAR_OR_FOLDER] [--seeds N] [--steps N]
    python -m benchmarks.balance --physics [--seeds N] [--steps N] [--out FILE]

Three plans: `natural`, every window equally often; `balanced`, every cluster; `shuffled`, balanced by labels dealt out anew among
the segments, so that clusters keep their sizes and labels tell nothing: what it does is done by reweighting alone. Judged is each
cluster on motions held out, by its true label whatever the plan, and the worst tenth of the clusters, found anew in every run.

The first way needs no physics and is a stand-in for a tracker: a small network tells the torques that Bandai-Namco's motions ask
for, in clusters of their embedding; a seed holds out, deals labels, begins and draws anew. The second trains trackers by PPO on made-up
movements, the same ones for all seeds, and asks the referee; stopped, it goes on by the lines of `--out`. Intervals are Student's over
the seeds' paired differences: they tell of other seeds, not of other corpora. The last line is JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool, Float, Int
from torch import nn
from torch.nn import functional as F

from benchmarks.bandai import built, workplace
from benchmarks.build import MOTIONS
from benchmarks.gains import Measure, Outcome, Question, figures, show
from corpus import rotations
from corpus.durable import replace_file
from corpus.dynamics import derivatives, inverse_dynamics
from corpus.g1 import G1
from corpus.loading.sampler import Sampler
from corpus.loading.sampling_plan import Plan
from corpus.motion import CORPUS_FPS, RobotMotion
from corpus.sources.synthetic import human_motion
from deploy.contract import GAINS
from deploy.physics import build_model
from hme.cluster import fit_clusters
from hme.sampling.policies import Pool
from hme.sampling.policy_spec import parse_spec
from hme.spectrum import fit
from retarget.retarget import Retargeted, retarget_clips
from trainer.backend import CpuBackend
from trainer.checkpoint import checkpoint_steps
from trainer.env import EnvOptions, TrackingEnv
from trainer.evaluate import Trial, evaluate
from trainer.exam import Exam, exam_of_motions
from trainer.expert import ExpertOptions, train_expert
from trainer.policies import PdReplay, Policy
from trainer.ppo import PpoOptions
from trainer.randomise import LIGHT
from trainer.references import SHORTEST, ClipReferences

CONDITIONS = ("natural", "balanced", "shuffled")
Outcomes = dict[tuple[str, int], Outcome]
"""By condition and seed."""
Found = tuple[Outcomes, tuple[Measure, ...], Float[np.ndarray, " K"], str]
"""Outcomes, how to read them, how much of the corpus each cluster is, and a line on how they came about."""
Run = Callable[[str, int], Outcome]

# The stand-in.
CLUSTERS, HELD_OUT = 20, 1 / 3
BATCH, WIDTH, LEARNING_RATE, STEPS = 512, 128, 3e-3, 1_000

# Trackers.
TAKES = {"walk": 16, "reach": 8, "squat": 4, "turn": 2, "kick": 1, "jump": 1}
"""To train on, by movement; the tail is rare and hard, as in real corpora."""
TAKE_SECONDS = 4.0
HELD_OUT_TAKES, HELD_OUT_FROM, STARTS = 4, 100, 4
"""Of each movement; their first seed, far from those trained on; and starts in each."""
ROBOTS, PHYSICS_STEPS = 96, 300_000
TRACKING = Measure("completed", "", 1, 3), Measure("trunk_success", "", 1, 3), Measure("mpkpe_mm", "mm", -1, 1)
"""`completed`: share of a take's frames before `trunk` says failed. Where trackers are young, success tells nothing yet, and `mpkpe_mm`
is of the frames before a failure only."""


def main() -> None:
    options = parser().parse_args()
    if options.seeds < 2:
        raise SystemExit("Of one seed there is no interval: --seeds 2 or more.")
    options.steps = options.steps or (PHYSICS_STEPS if options.physics else STEPS)
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    outcomes, measures, size, about = (physics if options.physics else stand_in)(options)
    asked = Question("balanced", ("natural", "shuffled"), measures, size)
    found = figures(outcomes, asked)
    show(found, asked, about)
    print(json.dumps({"physics": options.physics, "steps": options.steps, **found}))


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--motions", type=Path, default=MOTIONS, help="archive or folder with Bandai-Namco's BVH files")
    made.add_argument("--physics", action="store_true", help="train trackers by PPO: 20 minutes of a core")
    made.add_argument("--seeds", type=int, default=3)
    made.add_argument("--steps", type=int, help=f"of each training; {STEPS:,}, or {PHYSICS_STEPS:,} control steps")
    made.add_argument(
        "--out", type=Path, help="JSON lines of trained trackers; those that are there are not trained again"
    )
    return made


def all_runs(run: Run, seeds: int, steps: int, out: Path | None = None) -> Outcomes:
    """Every condition of every seed; seed by seed, so that what is there can always be compared."""
    rows = [json.loads(line) for line in out.read_text().splitlines()] if out and out.exists() else []
    found = {(row["condition"], row["seed"]): row["outcome"] for row in rows if row["steps"] == steps}
    for seed in range(seeds):
        for condition in CONDITIONS:
            if (condition, seed) in found:
                continue
            found[condition, seed] = run(condition, seed)
            rows.append({"condition": condition, "seed": seed, "steps": steps, "outcome": found[condition, seed]})
            if out:
                replace_file(out, lambda path: path.write_text("".join(json.dumps(row) + "\n" for row in rows)))
    return {key: outcome for key, outcome in found.items() if key[1] < seeds}


def plan_of(condition: str, pool: Pool, seed: int) -> Plan:
    """By `hme.sampling`'s policies."""
    assert pool.cluster is not None
    if condition == "shuffled":
        drawn, dealt = np.flatnonzero(pool.windows > 0), pool.cluster.copy()
        dealt[drawn] = np.random.default_rng([seed, 1]).permutation(dealt[drawn])
        pool = Pool(pool.frames, pool.window, cluster=dealt, mask=pool.mask)
    return parse_spec(["uniform" if condition == "natural" else "cluster:tau=0"]).plan(pool)


# --- the stand-in: which torques a motion asks for


def stand_in(options: argparse.Namespace) -> Found:
    """Outcomes of small networks that tell torques."""
    steps = options.steps
    with workplace(options.motions) as work:
        corpus = built(work / "bvh", work / "kept")
        motions = [corpus.motion(number) for number in range(len(corpus.frames))]
    labels, rows = clusters_of(motions), rows_of(motions)
    outcomes = all_runs(lambda *which: told_torques(corpus.frames, rows, labels, steps, *which), options.seeds, steps)
    size = np.bincount(labels, corpus.frames)
    constant = float((rows.torque - rows.torque.mean(0)).abs().mean())
    about = (
        "No physics, no robot: a stand-in for a tracker. A small network tells the torques that inverse dynamics asks for, as shares of "
        f"their limits (always telling the mean errs by {constant:.4f}). {steps:,} steps of {BATCH} frames; {len(labels)} segments in "
        f"{CLUSTERS} clusters that hold {size.min() / size.sum():.1%} to {size.max() / size.sum():.1%} of the frames."
    )
    return outcomes, (Measure("torque_error", "of limit", -1, 4),), size, about


def clusters_of(motions: list[RobotMotion]) -> Int[np.ndarray, " S"]:
    vectors = fit(motions).embed(motions).vectors
    return fit_clusters(vectors, CLUSTERS, hme_id="").assign(vectors)[0].astype(np.int64)


@dataclass(frozen=True)
class Rows:
    """All frames of the segments, end to end."""

    first: Int[np.ndarray, " S"]
    """Where each segment begins."""
    channels: Float[torch.Tensor, "R C"]
    """In the root's frame: gravity, turning, accelerations of the root; of the joints angles, speeds, accelerations. Of unit size."""
    torque: Float[torch.Tensor, "R J"]
    """Shares of the limits, of a robot that is held by its base: what the ground does is left out."""


def rows_of(motions: list[RobotMotion]) -> Rows:
    frames = np.array([motion.frame_count for motion in motions])
    first = np.cumsum(frames) - frames
    qpos = np.concatenate([motion.qpos for motion in motions])
    rate, acceleration = derivatives(qpos, CORPUS_FPS, first.tolist())
    torque = inverse_dynamics(G1, qpos, rate, acceleration).torque.T / G1.effort_limit
    down = np.tile([0.0, 0.0, -1.0], (len(qpos), 1))
    back = rotations.conjugate(qpos[:, 3:7].astype(float))
    of_root = [rotations.rotate(back, v) for v in (down, rate[:3].T, acceleration[:3].T, acceleration[3:6].T)]
    channels = np.concatenate([*of_root, qpos[:, 7:], rate[3:].T, acceleration[6:].T], 1)
    channels = (channels - channels.mean(0)) / channels.std(0)
    return Rows(first, torch.from_numpy(channels.astype(np.float32)), torch.from_numpy(torque.astype(np.float32)))


def told_torques(
    frames: Int[np.ndarray, " S"], rows: Rows, labels: Int[np.ndarray, " S"], steps: int, condition: str, seed: int
) -> Outcome:
    """Mean error on held-out segments, cluster by cluster, of a network trained by a plan."""
    held = held_out(labels, seed)
    plan = plan_of(condition, Pool(frames, cluster=labels, mask=~held), seed)
    network = trained(rows, Sampler(plan, frames, window=1, batch_size=BATCH, seed=seed), steps)
    chosen, cluster = torch.from_numpy(np.repeat(held, frames)), np.repeat(labels[held], frames[held])
    with torch.no_grad():
        error = (network(rows.channels[chosen]) - rows.torque[chosen]).abs().mean(1).numpy()
    return {"torque_error": (np.bincount(cluster, error) / np.bincount(cluster)).tolist()}


def held_out(labels: Int[np.ndarray, " S"], seed: int) -> Bool[np.ndarray, " S"]:
    """A third of each cluster's segments, and at least one."""
    rng, held = np.random.default_rng([seed, 0]), np.zeros(len(labels), bool)
    for label in np.unique(labels):
        own = rng.permutation(np.flatnonzero(labels == label))
        held[own[: max(1, round(HELD_OUT * len(own)))]] = True
    return held


def trained(rows: Rows, sampler: Sampler, steps: int) -> nn.Module:
    torch.manual_seed(sampler.seed)
    widths = rows.channels.shape[1], WIDTH, WIDTH, rows.torque.shape[1]
    first, middle, last = (nn.Linear(a, b) for a, b in itertools.pairwise(widths))
    network = nn.Sequential(first, nn.ELU(), middle, nn.ELU(), last)
    optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for step in range(steps):
        drawn = sampler.draw(step)
        chosen = torch.from_numpy(rows.first[drawn.segment] + drawn.frame)
        optimiser.zero_grad()
        F.smooth_l1_loss(network(rows.channels[chosen]), rows.torque[chosen], beta=0.05).backward()
        optimiser.step()
        rate.step()
    return network


# --- trackers


def physics(options: argparse.Namespace) -> Found:
    """Outcomes of trackers trained by PPO."""
    steps, kinds = options.steps, list(TAKES)
    motions = takes([(kind, seed) for kind, count in TAKES.items() for seed in range(count)])
    label = np.repeat(np.arange(len(kinds)), list(TAKES.values()))
    asked = takes([(kind, HELD_OUT_FROM + seed) for kind in kinds for seed in range(HELD_OUT_TAKES)])
    names = [f"take{number}" for number in range(len(asked))]
    facts = {"segment": names, "cluster": np.repeat(np.arange(len(kinds)), HELD_OUT_TAKES)}
    exam = exam_of_motions(asked, pl.DataFrame(facts))
    outcomes = all_runs(lambda *which: tracked(motions, label, exam, steps, *which), options.seeds, steps, options.out)
    shares = ", ".join(f"{count} {kind}" for kind, count in TAKES.items())
    about = (
        f"Trackers by PPO, {steps:,} control steps each, on made-up takes ({shares}); {HELD_OUT_TAKES} others of each movement, "
        f"{STARTS} starts in each, are judged. Fewer than ten clusters: the worst tenth is the worst one. Replaying the reference, which "
        f"learns nothing, completes {min(judged(PdReplay(), exam)['completed']):.3f} of the worst."
    )
    return outcomes, TRACKING, np.array(list(TAKES.values()), float), about


def tracked(
    motions: Sequence[RobotMotion], label: Int[np.ndarray, " S"], exam: Exam, steps: int, condition: str, seed: int
) -> Outcome:
    """What the referee says of a tracker trained by a plan; starts do not follow failures."""
    frames = np.array([motion.frame_count for motion in motions])
    plan = plan_of(condition, Pool(frames, SHORTEST, cluster=label), seed)
    references = ClipReferences(motions, length=250, seed=seed, plan=plan)
    env_options = EnvOptions(randomisation=LIGHT, seed=seed)
    env = TrackingEnv(CpuBackend(build_model(GAINS), ROBOTS), references, options=env_options)
    with tempfile.TemporaryDirectory(prefix="motionloom-bench-") as folder:
        expert = train_expert(Path(folder), env, ExpertOptions(steps=steps, adaptive=None, seed=seed))
        done = checkpoint_steps(Path(folder))[-1] * ROBOTS * PpoOptions().steps
    if done < steps:  # it leaves early when asked to, and would be judged as if it had not
        raise SystemExit("Stopped; what was trained to the end is in --out.")
    return judged(expert, exam)


def judged(policy: Policy, exam: Exam) -> Outcome:
    """The referee's means, movement by movement."""
    names = [measure.name for measure in TRACKING]
    rows = evaluate(policy, exam, Trial(starts=STARTS, randomisation=LIGHT))
    means = rows.group_by("cluster").agg(pl.col(names).cast(float).mean()).sort("cluster")
    return {name: means[name].to_list() for name in names}


def takes(asked: Sequence[tuple[str, int]]) -> list[RobotMotion]:
    done = retarget_clips([human_motion(kind, seed=seed, seconds=TAKE_SECONDS) for kind, seed in asked])
    assert all(isinstance(one, Retargeted) for one in done)
    return [one.motion for one in done if isinstance(one, Retargeted)]


if __name__ == "__main__":
    main()
