"""Judge trackers on a corpus's segments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Int

from corpus.catalog import Corpus
from corpus.errors import MotionloomError
from pipelines.training import clusters_of, load_policy, part_of
from trainer.evaluate import Trial, conditions, evaluate
from trainer.exam import exam_of_corpus
from trainer.scoreboard import scoreboard, write_json


@dataclass(frozen=True)
class Chosen:
    """Which segments trackers are judged on."""

    clusters: tuple[int, ...] = ()
    """Of these clusters; all where none is named."""
    split: str | None = None
    """Of this part of the split."""
    limit: int | None = None
    """At most so many, spread evenly."""
    hme_id: str | None = None


def evaluate_corpus(
    corpus: Corpus, policies: Sequence[str], trial: Trial, chosen: Chosen = Chosen(), json: Path | None = None
) -> pl.DataFrame:
    """The scoreboard of these policies (names as `pipelines.training.load_policy` takes them), written to `json` too."""
    if json is not None and (json.is_dir() or not json.absolute().parent.is_dir()):
        raise MotionloomError(f"{json}: should be a file, in a folder that is there.")  # said before hours of work
    trackers = [load_policy(name) for name in policies]
    if len({tracker.name for tracker in trackers}) < len(trackers):
        raise MotionloomError(f"Policies should have names of their own; got {', '.join(t.name for t in trackers)}.")
    cluster = _clusters(corpus, chosen)
    exam = exam_of_corpus(corpus, segments=_segments(corpus, chosen, cluster), cluster=cluster)
    outcomes = pl.concat([evaluate(tracker, exam, trial) for tracker in trackers])
    scores = scoreboard(outcomes)
    if json is not None:
        write_json(json, outcomes, scores, conditions(trackers, trial))
    return scores


def _clusters(corpus: Corpus, chosen: Chosen) -> Int[np.ndarray, " S"] | None:
    try:
        return clusters_of(corpus, chosen.hme_id)
    except MotionloomError:
        if chosen.clusters or chosen.hme_id:
            raise
        return None


def _segments(corpus: Corpus, chosen: Chosen, cluster: Int[np.ndarray, " S"] | None) -> Int[np.ndarray, " K"]:
    mask = np.ones(len(corpus.frames), bool)
    if chosen.clusters and cluster is not None:
        mask &= np.isin(cluster, chosen.clusters)
    if chosen.split is not None:
        mask &= part_of(corpus, chosen.split)
    segments = np.flatnonzero(mask)
    if not len(segments):
        raise MotionloomError("No kept segment is of these clusters and this split.")
    if chosen.limit is not None and chosen.limit < len(segments):
        segments = segments[np.linspace(0, len(segments) - 1, chosen.limit).round().astype(int)]
    return segments
