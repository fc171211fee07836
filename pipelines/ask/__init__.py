"""Questions about a corpus, each answered in a line with numbers and in a table.

    >>> from pipelines.ask import ask
    >>> answer = ask(Path("corpus"), "hours", licence="CC BY-NC 4.0")
    >>> answer.line
    '3.10 h passed of 3.42 h retargeted (90.6%), 2.87 h of it unique; most is bvh: 3.10 h, of 1 rows by source.'
    >>> answer.table  # polars

The first question to a corpus that has grown folds what questions need (`hme.fold`): half a minute at five million clips.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from corpus.catalog import Corpus
from corpus.errors import MotionloomError
from pipelines.ask import alike, clusters, copies, drift, elsewhere, movement, stages, what_if
from pipelines.ask.answer import Answer, Question
from pipelines.ask.asked import Asked

__all__ = ["QUESTIONS", "Answer", "Question", "ask"]

QUESTIONS: dict[str, Question] = {
    "hours": Question("hours at every stage, by source, licence or cluster", stages.hours, ("by",)),
    "licences": Question("hours by licence", stages.licences),
    "rejects": Question("what was left out, by reason", stages.rejects),
    "what-if": Question("what would be kept by other limits", what_if.what_if, ("set",), ("set",)),
    "windows": Question("hours lost to segments shorter than a window", stages.windows, ("frames",)),
    "contacts": Question("time on both feet, on one, on neither", movement.contacts),
    "airborne": Question("flights, by their length", movement.airborne),
    "speed": Question("how fast the root moves", movement.speed),
    "yaw-rate": Question("how fast it turns", movement.yaw_rate),
    "height": Question("how high the pelvis is", movement.height),
    "posture": Question("time standing, crouching, leaning, lying", movement.posture),
    "saturation": Question("joints at the ends of their ranges, and in which clips", movement.saturation),
    "tail": Question("the smallest clusters, and the hours needed to fill them", clusters.tail, ("hours",)),
    "cluster": Question("what is in one cluster", clusters.cluster, ("number",), ("number",)),
    "duplicates": Question("near-duplicates, by kind and source", copies.duplicates),
    "leakage": Question("recordings and near-duplicates on both sides of the split", copies.leakage),
    "coverage": Question(
        "how much of another corpus is covered, and the other way round", elsewhere.coverage, ("against",), ("against",)
    ),
    "novelty": Question("how new another corpus, a file or a folder would be", elsewhere.novelty, ("against", "file")),
    "drift": Question("what changed against another version of the corpus", drift.drift, ("against",), ("against",)),
    "like": Question("more like this clip, or like this file", alike.like, ("clip", "file", "count")),
}
"""By name, in the order in which a person comes to ask."""


def ask(
    corpus: Corpus | Path | str,
    question: str,
    *,
    licence: str | None = None,
    source: str | None = None,
    hme: str | None = None,
    cache: Path | None = None,
    **options: Any,
) -> Answer:
    """Answer one of `QUESTIONS` from the clips under `licence`, named in full, and of `source`.

    `hme` names the embedder where it is not the corpus's default; `options` are the question's own. Raises `MotionloomError`
    where there is no such question or option, or where a table that it needs has yet to be made.
    """
    if question not in QUESTIONS:
        raise MotionloomError(f"No question {question!r}. Known: {', '.join(QUESTIONS)}.")
    asked = QUESTIONS[question]
    if unknown := set(options) - set(asked.options):
        known = ", ".join(asked.options) or "none"
        raise MotionloomError(
            f"{question} has no option {', '.join(sorted(unknown))}. Known: {known}, licence, source."
        )
    if missing := [name for name in asked.required if options.get(name) is None]:
        raise MotionloomError(f"{question} needs the option {missing[0]}.")
    opened = corpus if isinstance(corpus, Corpus) else Corpus.open(corpus, cache=cache)
    return asked.answer(Asked(opened, licence, source, hme), **options)
