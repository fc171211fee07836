"""Bring the clusters of an embedded corpus up to date."""

from __future__ import annotations

import logging

from corpus.errors import MotionloomError
from hme.cluster import Clusters, default_count, fit_clusters, read_clusters, write_clusters
from hme.space import Space, hme_folder
from pipelines.place import locked

log = logging.getLogger(__name__)


def cluster_corpus(
    space: Space, count: int | None = None, *, seed: int | None = None, refit: bool = False
) -> tuple[Clusters, bool]:
    """The clusters, written beside the corpus, and whether their centres were found now.

    Centres that there are already are kept, and new segments assigned to them, unless another
    `count` or `seed`, or `refit`, is asked for.
    """
    with locked(hme_folder(space.corpus)):
        clusters = None if refit else _there(space)
        if clusters is not None and count in (None, clusters.count) and seed in (None, clusters.seed):
            try:
                read_clusters(space)
            except MotionloomError:  # the corpus has grown, or a run was killed between the two files
                write_clusters(space, clusters)
            return clusters, False
        before = clusters.count if clusters is not None else default_count(len(space.vectors))
        wanted = before if count is None else count
        clusters = fit_clusters(space.vectors, wanted, hme_id=space.hme_id, seed=seed or 0)
        write_clusters(space, clusters)
        return clusters, True


def _there(space: Space) -> Clusters | None:
    """Those there are; none where their file is damaged: others are found then, as by `refit`."""
    path = space.path("clusters.npz")
    if not path.exists():
        return None
    try:
        return Clusters.load(path)
    except MotionloomError as error:
        log.warning("%s", error)
        return None
