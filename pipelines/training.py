"""Corpora, clusters and folders of runs, put together for the trainer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import warp as wp
from jaxtyping import Bool, Int

from corpus.augment import Augment
from corpus.catalog import Corpus
from corpus.errors import MotionloomError
from corpus.loading.plan_file import load_plan
from corpus.loading.sampling_plan import Plan, hash_of, window_count
from deploy.contract import Contract
from deploy.physics import Physics, build_model
from hme.cluster import Clusters, read_clusters
from hme.space import Space
from pipelines.split import read_split
from trainer import warp_backend
from trainer.backend import Backend, CpuBackend
from trainer.env import EnvOptions, TrackingEnv
from trainer.expert import Expert, ExpertOptions, load_expert, train_expert
from trainer.onnx_tracker import load_tracker
from trainer.policies import PdReplay, Policy
from trainer.processes import rank_and_world
from trainer.randomise import PRESETS, varied_fields, vary_model
from trainer.references import SHORTEST, CorpusReferences
from trainer.run_file import read_run
from trainer.student import StudentOptions, train_student
from trainer.student_policy import StudentPolicy, load_student

MIRRORED = Augment(mirror=0.5, speeds=(1.0,), heading=False)
"""What `Setup.mirror` asks for."""


@dataclass(frozen=True)
class Setup:
    """How robots are simulated while something is trained."""

    robots: int = 512
    """At a time; more give smoother updates, and fewer of them."""
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

    def __post_init__(self) -> None:
        if not SHORTEST_S <= self.seconds <= LONGEST_S:
            raise MotionloomError(
                f"Episodes of {self.seconds:g} s: should be from {SHORTEST_S:g} s to {LONGEST_S:g} s (10 minutes)."
            )


SHORTEST_S, LONGEST_S = 0.5, 600.0
"""Of an episode: less than an episode's shortest motion, or more than memory has room for, is a slip."""


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
        if not wp.is_cuda_available():
            raise MotionloomError("The simulator warp needs a CUDA GPU, and there is none: take mujoco.")
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


def cluster_stamp(corpus: Corpus, hme_id: str | None = None) -> str:
    """Which clusters their numbers are of: another `loom cluster` may number them otherwise."""
    return Clusters.load(Space.open(corpus, hme_id).path("clusters.npz")).id


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
    chosen = plan_of(corpus, mask, plan)
    about = {"clusters": sorted(set(clusters)), "split": split, **_about(corpus, chosen, setup)}
    if clusters:
        about["clustering"] = cluster_stamp(corpus, hme_id)
    return train_expert(run, make_env(corpus, chosen, setup, contract), options, about=about)


def _about(corpus: Corpus, plan: Plan, setup: Setup) -> dict[str, Any]:
    """Of which motions a run is, and how robots follow them: it goes on with the same ones only."""
    drawn = (plan.weights,) if plan.bins is None else (plan.weights, plan.bins)
    return {"corpus": corpus.stamp.hex(), "plan": hash_of(*drawn), "setup": vars(setup)}


def load_experts(runs: Sequence[Path], clustering: str | None = None) -> dict[int, Expert]:
    """By cluster: each run's expert for every cluster that it was trained on; refuses those of another `clustering`."""
    experts: dict[int, Expert] = {}
    for run in runs:
        expert, told = load_expert(run), read_run(run)
        clusters = told.get("clusters")
        if not isinstance(clusters, list) or not clusters or not all(isinstance(c, int) for c in clusters):
            raise MotionloomError(f"{run} is an expert of no cluster ({clusters}): train it with `--cluster`.")
        if clustering is not None and told.get("clustering", clustering) != clustering:
            raise MotionloomError(
                f"{run} is of clusters {told['clustering']}, the corpus has {clustering}: train experts on these, or name the "
                "corpus and `--hme` that it was trained on."
            )
        for cluster in clusters:
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
) -> StudentPolicy:
    """A student of these experts, on the motions of their clusters, in the folder `run`; under `torchrun` a part of it."""
    of, clustering = clusters_of(corpus, hme_id), cluster_stamp(corpus, hme_id)
    known = load_experts(experts, clustering)
    mask = np.isin(of, list(known)) & (True if split is None else part_of(corpus, split))
    rank, _ = rank_and_world()
    contract = next(iter(known.values())).contract
    chosen = plan_of(corpus, mask, plan)
    env = make_env(corpus, chosen, replace(setup, seed=setup.seed + 1000 * rank), contract)
    about = {**_about(corpus, chosen, setup), "split": split, "clustering": clustering, "experts": ids_of(known)}
    train_student(run, env, known, lambda segments: of[segments], options, about=about)
    return load_student(run)


def ids_of(experts: Mapping[int, Expert]) -> dict[str, str]:
    """Which experts these are, by cluster: one that was trained on is another."""
    return {str(cluster): expert.id for cluster, expert in sorted(experts.items())}


def load_policy(name: str) -> Policy:
    """ "pd" replays the reference; else the folder of a run, or the JSON file that describes an ONNX tracker."""
    if name == "pd":
        return PdReplay()
    path = Path(name).resolve()  # "." has no name of its own
    if name and path.is_dir():
        kind = read_run(path)["kind"]
        if kind not in LOADERS:
            raise MotionloomError(f"{path} is a run of kind {kind!r}. Those that act: {', '.join(LOADERS)}.")
        policy = LOADERS[kind](path)
        policy.name = path.name
        return policy
    return load_tracker(path)


LOADERS: dict[str, Callable[[Path], Any]] = {"expert": load_expert, "student": load_student}
