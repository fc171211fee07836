"""Corpora, clusters and folders of runs, put together for the trainer."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from corpus.augment import Augment
from corpus.catalog import Corpus
from corpus.errors import MotionloomError
from corpus.loading.plan_file import load_plan
from corpus.loading.sampling_plan import Plan, window_count
from deploy.contract import Contract
from hme.cluster import read_clusters
from hme.space import Space
from pipelines.split import read_split
from trainer import warp_backend
from trainer.backend import Backend, CpuBackend
from trainer.checkpoint import checkpoint_steps
from trainer.env import EnvOptions, TrackingEnv
from trainer.expert import Expert, ExpertOptions, load_expert, train_expert
from trainer.onnx_tracker import load_tracker
from trainer.physics import Physics, build_model
from trainer.policies import PdReplay, Policy
from trainer.processes import rank_and_world
from trainer.randomise import PRESETS, varied_fields, vary_model
from trainer.references import SHORTEST, CorpusReferences
from trainer.student import StudentOptions, train_student
from trainer.student_policy import load_student

RUN = "run.json"
"""In a run's folder: what it is, and of which motions."""
MIRRORED = Augment(mirror=0.5, speeds=(1.0,), heading=False)
"""What `Setup.mirror` asks for."""


@dataclass(frozen=True)
class Setup:
    """How robots are simulated while something is trained."""

    robots: int = 192
    """At a time; more give smoother updates, and slower ones."""
    simulator: str = "mujoco"
    """"mujoco", on the CPU; "warp", mujoco_warp on a GPU."""
    threads: int = 1
    """Of MuJoCo."""
    seconds: float = 10.0
    """Longest episode [s]."""
    randomise: str = "training"
    """Preset of `trainer.randomise.PRESETS`."""
    mirror: bool = False
    """Half of the motions left for right."""
    seed: int = 0


def make_env(corpus: Corpus, plan: Plan, setup: Setup, contract: Contract | None = None) -> TrackingEnv:
    """Robots that follow a corpus by a plan."""
    contract = contract or Contract()
    backend, chance = _backend(contract, setup), PRESETS[setup.randomise]
    ahead = max(contract.observation.frames)
    references = CorpusReferences(
        corpus,
        length=round(setup.seconds * contract.control_hz) + ahead,
        seed=setup.seed,
        plan=plan,
        augment=MIRRORED if setup.mirror else None,
    )
    options = EnvOptions(randomisation=chance, seed=setup.seed)
    return TrackingEnv(backend, references, contract=contract, options=options)


def _backend(contract: Contract, setup: Setup) -> Backend:
    """Robots in the simulator, each with what is its own."""
    if setup.randomise not in PRESETS or setup.simulator not in SIMULATORS:
        raise MotionloomError(
            f"Randomisation {setup.randomise!r}: known are {', '.join(PRESETS)}. Simulator {setup.simulator!r}: known are "
            f"{', '.join(SIMULATORS)}."
        )
    physics, chance, robots = Physics(), PRESETS[setup.randomise], range(setup.robots)
    model: Any = build_model(contract.gains, physics)
    if setup.simulator == "warp":
        fields = varied_fields(model, chance, setup.seed, robots) if chance.varies_model else None
        return warp_backend.WarpBackend(model, setup.robots, substeps=physics.substeps, fields=fields)
    if chance.varies_model:
        model = [vary_model(model, chance, setup.seed, robot) for robot in robots]
    return CpuBackend(model, setup.robots, threads=setup.threads, substeps=physics.substeps)


SIMULATORS = ("mujoco", "warp")


def clusters_of(corpus: Corpus, hme_id: str | None = None) -> Int[np.ndarray, " S"]:
    """The cluster of each kept segment."""
    return read_clusters(Space.open(corpus, hme_id))


def part_of(corpus: Corpus, split: str) -> Bool[np.ndarray, " S"]:
    """Segments of this part of `loom split`."""
    mask = (read_split(corpus)["split"] == split).to_numpy()
    if not mask.any():
        raise MotionloomError(f"No segment lies in the part {split!r} of the split.")
    return mask


def plan_of(corpus: Corpus, mask: Bool[np.ndarray, " S"] | None = None, file: Path | None = None) -> Plan:
    """A plan file's weights, or every window equally often; of those segments only that the mask has."""
    plan = Plan.by_windows(corpus.frames, SHORTEST) if file is None else load_plan(file, corpus)
    if mask is None:
        return plan
    if not (plan.weights * mask * window_count(corpus.frames, SHORTEST)).any():
        raise MotionloomError(f"None of the chosen segments has a weight and {SHORTEST} frames.")
    return Plan(plan.weights * mask, plan.bins, plan.bin_frames)


def train_cluster_expert(
    corpus: Corpus,
    run: Path,
    *,
    clusters: Sequence[int] = (),
    hme_id: str | None = None,
    split: str | None = None,
    plan: Path | None = None,
    setup: Setup = Setup(),
    contract: Contract | None = None,
    options: ExpertOptions = ExpertOptions(),
) -> Expert:
    """An expert for these clusters, or for the whole corpus where none is named, in the folder `run`.

    A plan file is followed to the end: starts do not follow failures then.
    """
    mask, options = None, options if plan is None else replace(options, adaptive=None)
    if clusters:
        of = clusters_of(corpus, hme_id)
        if unknown := sorted(set(clusters) - set(of.tolist())):
            raise MotionloomError(f"No segment is of cluster {unknown[0]}; there are 0 to {of.max()}.")
        mask = np.isin(of, clusters)
    if split is not None:
        mask = part_of(corpus, split) & (True if mask is None else mask)
    env = make_env(corpus, plan_of(corpus, mask, plan), setup, contract)
    about = {"clusters": list(clusters), "split": split, "corpus": corpus.stamp.hex(), "setup": vars(setup)}
    return train_expert(run, env, options, about=about)


def about_run(run: Path) -> dict[str, Any]:
    """What `run.json` says; raises `MotionloomError` where it is none."""
    try:
        told = json.loads((run / RUN).read_text())
        if not isinstance(told["kind"], str):
            raise ValueError(f"kind is {told['kind']!r}")
        return told
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MotionloomError(f"{run} is no folder of a training run ({error!r}).") from None


def load_experts(runs: Sequence[Path]) -> dict[int, Expert]:
    """By cluster: each run's expert for every cluster that it was trained on."""
    experts: dict[int, Expert] = {}
    for run in runs:
        expert = load_expert(run)
        for cluster in about_run(run).get("clusters", []):
            if cluster in experts:
                raise MotionloomError(
                    f"Both {experts[cluster].name} and {expert.name} are experts of cluster {cluster}."
                )
            experts[cluster] = expert
    return experts


def train_corpus_student(
    corpus: Corpus,
    run: Path,
    *,
    experts: Sequence[Path],
    hme_id: str | None = None,
    split: str | None = None,
    plan: Path | None = None,
    setup: Setup = Setup(robots=64),
    options: StudentOptions = StudentOptions(),
) -> bool:
    """A student of these experts, on the motions of their clusters, in the folder `run`; under `torchrun` a part of it. False where
    somebody asked to stop before it was done."""
    known = load_experts(experts)
    of = clusters_of(corpus, hme_id)
    mask = np.isin(of, list(known)) & (True if split is None else part_of(corpus, split))
    rank, _ = rank_and_world()
    contract = next(iter(known.values())).contract
    env = make_env(corpus, plan_of(corpus, mask, plan), replace(setup, seed=setup.seed + 1000 * rank), contract)
    taught = {"experts": {c: known[c].name for c in sorted(known)}, "split": split}
    about = {**taught, "corpus": corpus.stamp.hex(), "setup": vars(setup)}
    train_student(run, env, known, lambda segments: of[segments], options, about=about)
    return checkpoint_steps(run)[-1:] == [options.total_steps]


def load_policy(name: str) -> Policy:
    """ "pd" replays the reference; else the folder of a run, or the JSON file that describes an ONNX tracker."""
    if name == "pd":
        return PdReplay()
    path = Path(name)
    if path.is_dir():
        kind = about_run(path)["kind"]
        if kind not in LOADERS:
            raise MotionloomError(f"{path} is a run of kind {kind!r}. Those that act: {', '.join(LOADERS)}.")
        policy = LOADERS[kind](path)
        policy.name = path.name
        return policy
    return load_tracker(path)


LOADERS: dict[str, Callable[[Path], Any]] = {"expert": load_expert, "student": load_student}
