"""What questions need of the files beside a corpus's shards, folded into one each.

traits.arrow               a row per kept segment
trait_sums.arrow           a row per owner of clips: what sums over its segments come to
<hme_id>/vectors.arrow     a row per kept segment
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from corpus.catalog import Corpus
from corpus.errors import MotionloomError
from hme import fold, traits
from hme.fold import BATCH, Columns, current
from hme.folded import Folded
from hme.shard_rows import ShardRows
from hme.space import Space, hme_folder

MADE_BY = f"{fold.VERSION}.{traits.VERSION}"


def folded_traits(corpus: Corpus, *, write: bool = True) -> Folded:
    """Of every kept segment: the columns of `hme.traits`, and the joint that is longest at its limits, `worst_joint`, with its share of the
    time, `worst`."""
    return current(corpus, hme_folder(corpus) / "traits.arrow", MADE_BY, lambda: (_traits(corpus), {}), write=write)


def trait_sums(corpus: Corpus, *, write: bool = True) -> Folded:
    """Over all frames of an owner's kept segments, row i of owner i: `frames`, of every trait the sum and, as "trait²", that of its square,
    and `at_limit`, by joint, the frames at a limit."""
    return current(
        corpus,
        hme_folder(corpus) / "trait_sums.arrow",
        MADE_BY,
        lambda: (iter([_sums(corpus, write)]), {}),
        write=write,
    )


def folded_vectors(corpus: Corpus, hme_id: str, *, write: bool = True) -> Folded:
    """Of every kept segment: `vector`, and `square`, its squared length."""
    path = hme_folder(corpus) / hme_id / "vectors.arrow"
    return current(
        corpus, path, f"{fold.VERSION}.{hme_id}", lambda: (_vectors(Space.open(corpus, hme_id)), {}), write=write
    )


def forget(corpus: Corpus, hme_id: str) -> None:
    """Delete what was folded from shards' vectors and traits, some of which are others now."""
    for path in ("traits.arrow", "trait_sums.arrow", f"{hme_id}/vectors.arrow"):
        (hme_folder(corpus) / path).unlink(missing_ok=True)


def fold_all(corpus: Corpus, hme_id: str) -> None:
    """Bring all that questions read up to date."""
    for make in (fold.facts, fold.kept, fold.clip_keys, folded_traits, trait_sums):
        make(corpus)
    folded_vectors(corpus, hme_id)


def _traits(corpus: Corpus) -> Iterator[Columns]:
    names = (*traits.TRAITS, "at_limit")
    for some in _in_groups(traits.read_traits_parts(corpus)):
        columns = {name: np.concatenate([part.column(name) for part in some]) for name in names}
        at_limit = columns["at_limit"]
        yield {**columns, "worst": at_limit.max(1), "worst_joint": at_limit.argmax(1).astype(np.uint8)}


def _sums(corpus: Corpus, write: bool) -> Columns:
    folded, kept = folded_traits(corpus, write=write), fold.kept(corpus, write=write)
    owner, frames = kept.column("owner"), kept.column("frames").astype(np.float64)
    count = len(fold.owners(fold.facts(corpus, write=write)))
    found = {"frames": np.bincount(owner, frames, count)}
    for name in traits.TRAITS:
        values = folded.column(name).astype(np.float64)
        found[name] = np.bincount(owner, values * frames, count)
        found[f"{name}²"] = np.bincount(owner, values * values * frames, count)
    joints, start = np.zeros((count, folded.width("at_limit"))), 0
    for part in folded.parts("at_limit"):
        rows = slice(start, start + len(part))
        for one in range(count):
            joints[one] += np.where(owner[rows] == one, frames[rows], 0) @ part
        start += len(part)
    return found | {"at_limit": joints}


def _vectors(space: Space) -> Iterator[Columns]:
    for some in _in_groups(space.parts):
        vectors = np.concatenate([part.column("vector") for part in some])
        yield {"vector": vectors, "square": np.einsum("sd,sd->s", vectors, vectors)}


def _in_groups(parts: tuple[ShardRows, ...]) -> Iterator[list[ShardRows]]:
    """Of about a quarter of a batch's rows each: these have more columns."""
    if not parts:
        raise MotionloomError("The corpus keeps no segment.")
    some: list[ShardRows] = []
    for part in parts:
        some.append(part)
        if sum(len(one.table) for one in some) >= BATCH // 4:
            yield some
            some = []
    if some:
        yield some
