"""A corpus as an index for the planner: its motions, with their labels and clusters as styles."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from corpus.catalog import Corpus
from corpus.errors import MotionloomError
from deploy.planner.index import Index, Motion, build_index
from hme.cluster import Clusters, read_clusters
from hme.space import Space


def planner_index(corpus: Corpus, path: Path, *, hme_id: str | None = None, every: int = 5) -> tuple[Index, bool]:
    """The index of a corpus, and whether it had to be built: anew where the corpus or its clusters are others than they were.

    Clusters are styles where there are any; those of `hme_id` must be there.
    """
    space, clustering = _clusters(corpus, hme_id)
    about: dict[str, Any] = {"corpus": corpus.stamp.hex(), "clusters": clustering}
    there = _opened(path)
    if there is not None and there.every == every and all(there.about.get(k) == v for k, v in about.items()):
        return there, False
    clusters = None if space is None else read_clusters(space)
    return build_index(path, motions_of(corpus, clusters), every=every, about=about), True


def _opened(path: Path) -> Index | None:
    """The index that is there; one that is damaged is as good as none."""
    if not path.exists():
        return None
    if not path.is_dir() or (any(path.iterdir()) and not (path / "index.json").exists()):
        raise MotionloomError(f"{path} holds something else than an index: name another folder.")
    try:
        return Index.open(path)
    except MotionloomError:
        return None


def _clusters(corpus: Corpus, hme_id: str | None) -> tuple[Space | None, str | None]:
    try:
        space = Space.open(corpus, hme_id)
        return space, Clusters.load(space.path("clusters.npz")).id
    except MotionloomError:
        if hme_id is not None:
            raise
        return None, None


def motions_of(corpus: Corpus, clusters: np.ndarray | None = None) -> Iterator[Motion]:
    """Segments that follow each other without a gap, and are of the same styles, as one motion."""
    labels = corpus.of_clips("label").fill_null("").to_list()
    rows = corpus.kept.with_row_index("number").sort("clip", "start")
    parts: list[np.ndarray] = []
    last: tuple[str, int, tuple[str, ...]] | None = None
    for number, clip, start, frames in rows.select("number", "clip", "start", "frames").iter_rows():
        styles = tuple(name for name in (labels[number], _cluster_name(clusters, number)) if name)
        if parts and last != (clip, start, styles):
            yield np.concatenate(parts), last[2] if last else ()
            parts = []
        parts.append(np.asarray(corpus.motion(number).qpos))
        last = clip, start + frames, styles
    if parts:
        yield np.concatenate(parts), last[2] if last else ()


def _cluster_name(clusters: np.ndarray | None, number: int) -> str:
    return "" if clusters is None else f"cluster-{clusters[number]}"
