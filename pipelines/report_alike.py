"""What in a corpus is alike: the report's sections on its embedding, as far as there is one."""

from __future__ import annotations

import contextlib
import logging
from html import escape

import numpy as np

from corpus.catalog import Corpus
from corpus.errors import MotionloomError
from corpus.g1 import G1
from corpus.pictures import draw_poses, pick_frames
from hme.cluster import describe
from hme.space import Space, hme_folder
from pipelines.ask import QUESTIONS, ask
from pipelines.html import scatter, section, table

log = logging.getLogger(__name__)

POINTS = 3000
"""Most segments on the map."""
CLUSTERS = 12
"""Most clusters shown, the largest."""

MAP_NOTE = (
    "A point per segment by the two widest directions of the embedding: what lies close together moves alike, wherever it "
    "was and whichever way it faced."
)
CLUSTER_NOTE = (
    "The largest groups of segments that move alike, each shown by the segment nearest to its middle; in brackets how "
    "often its segments carry a label."
)
ANSWER_NOTE = "`loom ask CORPUS QUESTION` gives each with its table, by source or licence too."


def alike_sections(corpus: Corpus) -> list[str]:
    """Empty where the corpus is not embedded; without what is not of the corpus as it is now."""
    if not (hme_folder(corpus) / "default.json").exists():
        return []
    sections = []
    try:
        space = Space.open(corpus)
        sections.append(section("What is alike", _map(space), MAP_NOTE))
        if space.path("clusters.parquet").exists():
            sections.append(section("What it is about", _clusters(space), CLUSTER_NOTE))
    except MotionloomError as error:
        log.warning("the report lacks a part: %s", error)
    sections.append(section("Asked of it", _answers(corpus), ANSWER_NOTE))
    return sections


def _answers(corpus: Corpus) -> str:
    """A line for every question that needs no more than the corpus, as far as what it asks for is there."""
    cells = []
    for name, question in QUESTIONS.items():
        if not question.required:
            with contextlib.suppress(MotionloomError):
                cells.append([name, ask(corpus, name).line])
    return table(["question", "answer"], cells)


def _map(space: Space) -> str:
    """Coloured by source."""
    source = space.corpus.of_clips("source")
    names = sorted(source.unique())
    group = source.replace_strict({name: number for number, name in enumerate(names)}).to_numpy()
    shown = np.random.default_rng(0).permutation(len(group))[:POINTS]
    points = np.zeros((len(shown), 2))
    points[:, : space.vectors.shape[1]] = space.vectors[shown, :2]  # a single segment spans no direction
    return scatter(points, group[shown], names)


def _clusters(space: Space) -> str:
    about = describe(space)
    figures = []
    for row in about.head(CLUSTERS).to_dicts():
        motion = space.corpus.motion(row["medoid"])
        frames = pick_frames(motion.frame_count, 5)
        contact = None if motion.contact is None else np.asarray(motion.contact)[frames]
        drawing = draw_poses(G1, np.asarray(motion.qpos)[frames], contact=contact, title=row["medoid"])
        labels = f" ({row['labels']})" if row["labels"] else ""
        text = f"{row['share']:.1%} of the time, {row['segments']:,} segments, {row['sources']}{labels}"
        figures.append(f"<figure>{drawing}<figcaption class='path'>{escape(text)}</figcaption></figure>")
    rest = about[CLUSTERS:]
    more = f"<p class='note'>and {len(rest)} more, {rest['share'].sum():.0%} of the time</p>" if len(rest) else ""
    return f"<div class='grid'>{''.join(figures)}</div>{more}"
