"""Bring the clusters of an embedded corpus up to date."""

from __future__ import annotations

from corpus.errors import MotionloomError
from hme.cluster import Clusters, default_count, fit_clusters, read_clusters, write_clusters
from hme.space import Space, hme_folder
from pipelines.place import locked


def cluster_corpus(
    space: Space, count: int | None = None, *, seed: int = 0, refit: bool = False
) -> tuple[Clusters, bool]:
    """The clusters, written beside the corpus, and whether their centres were found now.

    Centres that there are already are kept, and new segments assigned to them, unless another `count`, or `refit`, is asked for.
    """
    with locked(hme_folder(space.corpus)):
        path = space.path("clusters.npz")
        if path.exists() and not refit and (count is None or Clusters.load(path).count == count):
            clusters = Clusters.load(path)
            try:
                read_clusters(space)
            except MotionloomError:  # the corpus has grown, or a run was killed between the two files
                write_clusters(space, clusters)
            return clusters, False
        wanted = count or default_count(len(space.vectors))
        clusters = fit_clusters(space.vectors, wanted, hme_id=space.hme_id, seed=seed)
        write_clusters(space, clusters)
        return clusters, True
