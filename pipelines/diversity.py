"""How diverse an embedded corpus is, and what it has that another lacks."""

from __future__ import annotations

import numpy as np
import polars as pl
from jaxtyping import Int

from corpus.errors import MotionloomError
from hme.by_source import by_source, leave_one_source_out
from hme.cluster import Clusters, read_clusters
from hme.coverage import Coverage, Novelty, coverage, novelty
from hme.diversity import Diversity, DiversityOptions, diversity
from hme.space import Space


def corpus_diversity(
    space: Space, *, by: str | None = None, options: DiversityOptions = DiversityOptions()
) -> dict[str, Diversity]:
    """Of all kept segments, or `by` source or licence; with clusters where there are some."""
    label, frames = clusters_of(space), space.corpus.frames
    if by is None:
        return {"all": diversity(space.vectors, label=label, frames=frames, options=options)}
    return by_source(space.vectors, space.corpus.of_clips(by).to_numpy(), label=label, frames=frames, options=options)


def added_by_source(
    space: Space, *, by: str = "source", options: DiversityOptions = DiversityOptions()
) -> pl.DataFrame:
    """What each source adds to the others, beside shuffled sources."""
    source = space.corpus.of_clips(by).to_numpy()
    return leave_one_source_out(
        space.vectors, source, label=clusters_of(space), frames=space.corpus.frames, options=options
    )


def compare(
    space: Space, other: Space, *, options: DiversityOptions = DiversityOptions()
) -> tuple[Coverage, Coverage, Novelty]:
    """How much of a corpus the other one covers, of the other this one, and how new the other would be to this one."""
    if space.hme_id != other.hme_id:
        raise MotionloomError(
            f"{other.corpus.path} is embedded by {other.hme_id}, {space.corpus.path} by {space.hme_id}: run "
            f"`loom embed {other.corpus.path} --embedder {space.path('embedder.npz')}`."
        )
    label = clusters_of(space)
    labels = None if label is None else (Clusters.load(space.path("clusters.npz")).assign(other.vectors)[0], label)
    return (
        coverage(space.vectors, other.vectors, options=options),
        coverage(other.vectors, space.vectors, options=options),
        novelty(
            other.vectors,
            space.vectors,
            labels=labels,
            frames=(other.corpus.frames, space.corpus.frames),
            options=options,
        ),
    )


def clusters_of(space: Space) -> Int[np.ndarray, " S"] | None:
    """The clusters of all segments; None where nobody has clustered the corpus."""
    return read_clusters(space) if space.path("clusters.npz").exists() else None
