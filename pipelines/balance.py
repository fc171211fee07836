"""Make a plan for a corpus by policies, and tell what it will show."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from corpus.catalog import Corpus
from corpus.errors import MotionloomError
from corpus.loading.plan_file import save_plan
from corpus.loading.sampling_plan import Plan, bin_count
from corpus.loading.starts import starts_in_bins
from hme import cluster, physics_score
from hme.duplicates.tables import unique_segments
from hme.sampling.adaptive import AdaptiveBins
from hme.sampling.exposure import Exposure, GroupExposure, Tail, effective_share, overexposed
from hme.sampling.mixing import in_bins
from hme.sampling.policies import Pool
from hme.sampling.policy_spec import Spec
from hme.selections import selection_mask
from hme.space import Space
from hme.traits import read_traits
from pipelines.split import read_split

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Allowed:
    """Which segments may be drawn; those that pass everything said here."""

    selection: str | None = None
    """Of this name: those that `loom select` chose."""
    unique: bool = False
    """Of near-duplicates only the one that `loom dedup` keeps."""
    split: str | None = None
    """Those of this part of `loom split`."""
    licences: tuple[str, ...] = ()
    """Those under one of these licences, named in full: a part of a name may say the opposite of it."""


@dataclass(frozen=True)
class Watch:
    """For how long training is to go on, and what is too often."""

    draws: float | None = None
    """Windows in all; None for as many as hold the corpus's frames once."""
    most_ratio: float = 10.0
    """Warn of clusters seen more than so many times as often as the mean …"""
    most_epochs: float = np.inf
    """… or for more epochs than this."""


@dataclass(frozen=True)
class Balanced:
    """A plan, and what it will show."""

    plan: Plan
    hash: str
    """Of the file."""
    pool: Pool
    """What could be drawn; clusters are below 0 where a segment could not."""
    exposure: Exposure
    natural: Exposure
    """What drawing every window equally often would show."""
    effective: float
    """Effective sample size as a share of the windows that may be drawn."""
    tail: Tail | None
    """Clusters that would be seen too often."""

    @property
    def allowed(self) -> Bool[np.ndarray, " S"]:
        """Segments that may be drawn, were they long enough: of these alone everything here tells."""
        return np.ones(len(self.pool.frames), bool) if self.pool.mask is None else self.pool.mask

    @property
    def by_source(self) -> GroupExposure:
        assert self.pool.source is not None
        return self.exposure.by_group(np.where(self.allowed, self.pool.source, -1), len(self.pool.source_names))

    @property
    def by_cluster(self) -> GroupExposure | None:
        """None where there are no clusters."""
        return None if self.pool.cluster is None else self.exposure.by_group(self.pool.cluster)

    @property
    def ginis(self) -> tuple[float, float] | None:
        """Over clusters, of drawing evenly and of the plan; None where there are no clusters."""
        if self.pool.cluster is None:
            return None
        return self.natural.by_group(self.pool.cluster).gini, self.exposure.by_group(self.pool.cluster).gini

    def clip_epochs(self, corpus: Corpus) -> Float[np.ndarray, " C"]:
        """How often the frames of each clip are seen, of clips that have a segment that may be drawn."""
        clip = corpus.kept["clip"].rle_id().to_numpy().astype(np.int64)
        return self.exposure.by_group(np.where(self.allowed, clip, -1)).epochs[np.unique(clip[self.allowed])]

    @property
    def mean_epochs(self) -> float:
        """How often a frame that may be drawn is seen on average."""
        return float(self.exposure.windows.sum() * self.exposure.window / self.pool.frames[self.allowed].sum())


def balance(
    corpus: Corpus,
    spec: Spec,
    out: Path,
    *,
    window: int,
    hme_id: str | None = None,
    allowed: Allowed = Allowed(),
    feedback: Path | None = None,
    score: str = "contact",
    watch: Watch = Watch(),
) -> Balanced:
    """Write the plan that policies give for a corpus, for windows of `window` frames.

    Clusters, vectors and masks are those of the embedder `hme_id`, or of the corpus's default one. `feedback` is a file that
    `AdaptiveBins.save` wrote; `score` is the one of `hme.physics_score.PRESETS` that the policy `quality` takes.
    """
    if window < 1:
        raise MotionloomError(f"Windows of {window} frames: should be at least 1.")
    known = _Known(corpus, hme_id)
    pool = known.pool(spec, window, known.mask(allowed), feedback, score)
    plan = spec.plan(pool)
    policy = {**spec.as_values(), "window": window, "allowed": asdict(allowed)}
    told = save_plan(plan, out, corpus, policy=policy, hme_id=known.used_id)
    draws = watch.draws or corpus.frames[pool.windows > 0].sum() / window
    exposure = Exposure.expected(plan, corpus.frames, window, draws)
    natural = Exposure.expected(Plan(pool.windows), corpus.frames, window, draws)
    tail = None
    if pool.cluster is not None:
        groups = exposure.by_group(pool.cluster)
        tail = overexposed(groups, most_ratio=watch.most_ratio, most_epochs=watch.most_epochs)
    if tail is not None:
        log.warning("%s", tail)
    return Balanced(plan, told, pool, exposure, natural, _effective(plan, pool), tail)


def _effective(plan: Plan, pool: Pool) -> float:
    if plan.bins is None:
        return effective_share(plan.weights, pool.windows)
    starts = starts_in_bins(pool.frames, pool.window, plan.bin_frames)
    allowed = np.repeat(pool.windows > 0, bin_count(pool.frames, plan.bin_frames))
    return effective_share(in_bins(plan, plan.bin_frames, pool.frames, pool.window), starts * allowed)


def _asks(spec: Spec, what: str) -> bool:
    """Does a policy need clusters, densities, or scores?"""
    return any(part.name == what or getattr(part.made(), "of", None) == what for part in spec.parts)


class _Known:
    """What lies beside a corpus, read when it is asked for."""

    def __init__(self, corpus: Corpus, hme_id: str | None):
        self.corpus, self.hme_id = corpus, hme_id
        self.used_id = ""
        """Of the embedder, where one was needed."""

    @cached_property
    def space(self) -> Space:
        found = Space.open(self.corpus, self.hme_id)
        self.used_id = found.hme_id
        return found

    def pool(self, spec: Spec, window: int, mask: Bool[np.ndarray, " S"], feedback: Path | None, score: str) -> Pool:
        """What the policies ask for, and what the report does."""
        source, names = self.sources()
        clusters = self.clusters(needed=_asks(spec, "cluster"))
        frames = self.corpus.frames
        return Pool(
            frames=frames,
            window=window,
            source=source,
            source_names=names,
            cluster=None if clusters is None else np.where(mask, clusters, -1),
            vectors=self.space.vectors if _asks(spec, "density") else None,
            score=self.scores(score) if _asks(spec, "quality") else None,
            feedback=None if feedback is None else AdaptiveBins.load(feedback, frames),
            mask=mask,
        )

    def sources(self) -> tuple[Int[np.ndarray, " S"], tuple[str, ...]]:
        """Each segment's source as a number, and their names in order."""
        found = self.corpus.of_clips("source")
        names = found.unique().sort()
        return names.search_sorted(found).to_numpy().astype(np.int64), tuple(names)

    def clusters(self, *, needed: bool) -> Int[np.ndarray, " S"] | None:
        """None where there are none, and no policy asks for them."""
        try:
            return cluster.read_clusters(self.space)
        except MotionloomError as error:
            if needed or self.hme_id is not None:
                raise
            log.info("nothing is told of clusters: %s", error)
            return None

    def scores(self, preset: str) -> Float[np.ndarray, " S"]:
        """Physics scores, of what `loom embed` measured."""
        if preset not in physics_score.PRESETS:
            raise MotionloomError(f"No physics score {preset!r}. Known: {', '.join(physics_score.PRESETS)}.")
        chosen = physics_score.PRESETS[preset]
        traits = read_traits(self.corpus)
        return physics_score.score({term: traits[term].to_numpy() for term in chosen.weights}, chosen)

    def mask(self, allowed: Allowed) -> Bool[np.ndarray, " S"]:
        mask = np.ones(len(self.corpus.frames), bool)
        if allowed.selection is not None:
            mask &= selection_mask(self.space, allowed.selection)
        if allowed.unique:
            mask &= unique_segments(self.corpus)
        if allowed.split is not None:
            split = read_split(self.corpus)["split"]
            if allowed.split not in split.unique():
                known = ", ".join(split.unique().sort())
                raise MotionloomError(f"No segment lies in the part {allowed.split!r}. Known: {known}.")
            mask &= (split == allowed.split).to_numpy()
        if allowed.licences:
            licence = self.corpus.of_clips("licence").fill_null("")
            if unknown := sorted(set(allowed.licences) - set(licence.unique())):
                known = ", ".join(repr(name) for name in licence.unique().sort())
                raise MotionloomError(f"No segment is under the licence {unknown[0]!r}. Known: {known}.")
            mask &= licence.is_in(list(allowed.licences)).to_numpy()
        if not mask.any():
            raise MotionloomError(f"No segment passes {allowed}.")
        return mask
