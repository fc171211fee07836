"""Policies: how the windows of a training run are shared out among a corpus's segments. Each gives a `Plan`; several can be mixed.

A policy is a function of a `Pool`, which is what is known of the segments, and of its options. Weights are shares of windows, 1
together. A segment that the pool masks, or that no window fits into, has none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from corpus.errors import MotionloomError
from corpus.loading.sampling_plan import Plan, window_count
from hme.sampling.adaptive import PRESETS, AdaptiveBins
from hme.sampling.density import neighbour_density
from hme.sampling.mixing import capped


@dataclass(frozen=True)
class Pool:
    """What can be drawn, a number per segment. What a policy does not ask for may be None."""

    frames: Int[np.ndarray, " S"]
    window: int = 1
    """Frames of a window."""
    source: Int[np.ndarray, " S"] | None = None
    """Place of the segment's source in `source_names`."""
    source_names: Sequence[str] = ()
    cluster: Int[np.ndarray, " S"] | None = None
    """From 0; below 0 for a segment that is in none: it is not drawn where clusters count."""
    vectors: Float[np.ndarray, "S D"] | None = None
    score: Float[np.ndarray, " S"] | None = None
    """From 0 to 100, better where higher; NaN where there is none."""
    feedback: AdaptiveBins | None = None
    """Where a tracker failed."""
    mask: Bool[np.ndarray, " S"] | None = None
    """Which segments may be drawn; None for all."""

    def __post_init__(self) -> None:
        for name in ("source", "cluster", "vectors", "score", "mask"):
            array = getattr(self, name)
            if array is not None and len(array) != len(self.frames):
                raise MotionloomError(f"{name} has {len(array)} rows, there are {len(self.frames)} segments.")
        if not self.windows.any():
            raise MotionloomError(f"Nothing is left to draw: no segment that may be drawn has {self.window} frames.")

    @cached_property
    def windows(self) -> Float[np.ndarray, " S"]:
        """How many windows of each segment may be drawn."""
        count = window_count(self.frames, self.window).astype(float)
        return count if self.mask is None else np.where(self.mask, count, 0.0)

    def need(self, name: str, whence: str) -> Any:
        """What a policy cannot do without."""
        if (found := getattr(self, name)) is None:
            raise MotionloomError(f"This policy needs {whence}.")
        return found


@dataclass(frozen=True)
class Uniform:
    """Every window equally often."""


@dataclass(frozen=True)
class BySource:
    """Sources by given shares."""

    share: Mapping[str, float] = field(default_factory=dict)
    """By name; the rest of 1 goes to the sources not named, by their windows. None named: all alike."""


@dataclass(frozen=True)
class ByCluster:
    """Clusters in proportion to their number of windows to a power."""

    tau: float = 0.0
    """1 draws every window equally often, 0 every cluster."""


@dataclass(frozen=True)
class InverseDensity:
    """Windows more often where few others are like them: by density of the vectors to the power −`power`."""

    power: float = 0.5
    """0 draws every window equally often, 1 every part of the inhabited space; towards 1 outliers take over."""
    neighbours: int = 8
    """Of a sample of the windows; with more, density is that of wider surroundings."""
    sample: int = 2048
    """Segments that stand for all; time grows with it."""
    seed: int = 0


@dataclass(frozen=True)
class Propensity:
    """Windows in inverse proportion to how often the like of them would be drawn anyway, up to a cap."""

    cap: float = 10.0
    """No window comes more than so many times as often as if all came equally often."""
    of: str = "cluster"
    """What is alike: "cluster" (its share of the windows) or "density" (of the vectors)."""


@dataclass(frozen=True)
class Quality:
    """Windows more often where they are better."""

    threshold: float = 0.0
    """Segments of a lower score are not drawn, nor those that have none."""
    power: float = 1.0
    """Weights are the score / 100 to this power; with 0 only the threshold counts."""


@dataclass(frozen=True)
class Adaptive:
    """Starts more often where a tracker failed."""

    preset: str = "sonic"
    """Of `hme.sampling.adaptive.PRESETS`."""


def uniform(pool: Pool, options: Uniform) -> Plan:
    return _plan(pool.windows)


def by_source(pool: Pool, options: BySource) -> Plan:
    source = pool.need("source", "the segments' sources")
    if unknown := set(options.share) - set(pool.source_names):
        raise MotionloomError(f"No source {', '.join(sorted(unknown))!r}. Known: {', '.join(pool.source_names)}.")
    if not options.share:
        return _plan(Plan.by_groups(source, np.ones(len(pool.source_names)), pool.windows).weights)
    given = sum(options.share.values())
    if min(options.share.values()) < 0 or given > 1 + 1e-9:
        raise MotionloomError(f"Shares of sources add up to {given:g}: should be at least 0 each, at most 1 together.")
    natural = np.bincount(source, pool.windows, len(pool.source_names))
    named = np.isin(np.array(pool.source_names), list(options.share))
    rest = np.where(named, 0.0, natural)
    share = rest / max(rest.sum(), 1e-300) * max(1 - given, 0.0)
    share[named] = [options.share[name] for name in np.array(pool.source_names)[named]]
    return _plan(Plan.by_groups(source, share, pool.windows).weights)


def by_cluster(pool: Pool, options: ByCluster) -> Plan:
    _check(tau=options.tau)
    cluster = pool.need("cluster", "clusters: run `loom cluster` first")
    natural = _natural(cluster, pool.windows)
    return _plan(Plan.by_groups(cluster, np.where(natural > 0, natural**options.tau, 0.0), pool.windows).weights)


def inverse_density(pool: Pool, options: InverseDensity) -> Plan:
    _check(power=options.power)
    return _plan(pool.windows * _density(pool, options) ** -options.power)


def propensity(pool: Pool, options: Propensity) -> Plan:
    if options.of == "cluster":
        plan = by_cluster(pool, ByCluster(0.0))
    elif options.of == "density":
        plan = inverse_density(pool, InverseDensity(1.0))
    else:
        raise MotionloomError(f"Propensity of {options.of!r}: should be of cluster or density.")
    return capped(plan, pool.windows, options.cap)


def quality(pool: Pool, options: Quality) -> Plan:
    _check(power=options.power)
    score = np.nan_to_num(pool.need("score", "the segments' scores"), nan=-np.inf)
    weights = np.where(score >= options.threshold, (np.clip(score, 0, 100) / 100) ** options.power, 0.0)
    return _plan(pool.windows * weights)


def adaptive(pool: Pool, options: Adaptive) -> Plan:
    if options.preset not in PRESETS:
        raise MotionloomError(f"No preset {options.preset!r}. Known: {', '.join(PRESETS)}.")
    bins = pool.need("feedback", "a tracker's feedback (--feedback FILE)")
    if bins.window != pool.window:
        raise MotionloomError(f"The feedback is of windows of {bins.window} frames, the plan of {pool.window}.")
    return bins.plan(PRESETS[options.preset], pool.windows > 0)


class Policy(NamedTuple):
    """A way of sharing out windows."""

    options: Callable[..., Any]
    """Makes them from names and values."""
    plan: Callable[[Pool, Any], Plan]


POLICIES: dict[str, Policy] = {
    "uniform": Policy(Uniform, uniform),
    "source": Policy(lambda **share: BySource(share), by_source),
    "cluster": Policy(ByCluster, by_cluster),
    "density": Policy(InverseDensity, inverse_density),
    "propensity": Policy(Propensity, propensity),
    "quality": Policy(Quality, quality),
    "adaptive": Policy(Adaptive, adaptive),
}


def _plan(weights: Float[np.ndarray, " S"]) -> Plan:
    """Of weights that may be of any sum."""
    if not weights.sum() > 0:
        raise MotionloomError("Nothing is left to draw: the policy gives every segment the weight 0.")
    return Plan(weights / weights.sum())


def _natural(cluster: Int[np.ndarray, " S"], windows: Float[np.ndarray, " S"]) -> Float[np.ndarray, " K"]:
    """Windows of each cluster."""
    return np.bincount(cluster[cluster >= 0], windows[cluster >= 0])


def _density(pool: Pool, options: InverseDensity) -> Float[np.ndarray, " S"]:
    """Among the windows that may be drawn."""
    vectors = pool.need("vectors", "the segments' vectors: run `loom embed` first")
    among = np.flatnonzero(pool.windows > 0)
    if options.seed < 0:
        raise MotionloomError(f"seed {options.seed}: should be a number of at least 0.")
    rng = np.random.default_rng(options.seed)
    chance = pool.windows[among] / pool.windows.sum()
    sample = rng.choice(among, min(options.sample, len(among)), replace=False, p=chance)
    return neighbour_density(vectors, np.sort(sample), options.neighbours)


def _check(**numbers: float) -> None:
    if wrong := [f"{name} {value}" for name, value in numbers.items() if not 0 <= value < np.inf]:
        raise MotionloomError(f"{', '.join(wrong)}: should be a number of at least 0.")
