"""Of motions that are copies of each other, which are kept: told by verified pairs, so that each is compared with what is kept of it.

A motion is left out where those kept before it cover most of it. There are no chains: a copy of a copy is left out only if it is
a copy of what is kept as well, and where nobody has compared the two yet, `unfinished` names them.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from jaxtyping import Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

LEAST_COMMON_S = 0.5
"""Of two motions that are like a third in the same place for less than this, nothing is proposed [s]."""


def judge(
    pairs: pl.DataFrame, length_s: Float[np.ndarray, " S"], rank: Int[np.ndarray, " S"], overlap: float = 0.8
) -> pl.DataFrame:
    """A row for each motion: `group` (of all that hang together by pairs; null where alone) and `keeper`; for those left out `of`
    (the kept one that shares most), `kind` and `distance` of that pair, `covered` (the share that all kept ones cover).

    `rank` has each number once. Motions are looked at by it, the lowest first; one is left out where kept ones before it cover
    `overlap` of it.
    """
    count = len(length_s)
    of, covered, distance = np.full(count, -1), np.zeros(count), np.zeros(count)
    kind: list[str | None] = [None] * count
    for (motion,), rows in _before(pairs, rank).group_by("motion", maintain_order=True):
        kept = rows.filter(pl.Series(of[rows["other"].to_numpy()] < 0))
        share = _union(kept["start"].to_list(), kept["stop"].to_list()) / max(length_s[motion], 1e-9)
        if share >= overlap:
            best = kept.row(int((kept["stop"] - kept["start"]).to_numpy().argmax()), named=True)
            of[motion], covered[motion], distance[motion] = best["other"], share, best["distance"]
            kind[motion] = "chunk" if best["kind"] == "overlap" else best["kind"]
    keeper = of < 0
    told = pl.DataFrame({
        "group": together(pairs, count), "keeper": keeper, "of": of,
        "kind": pl.Series(kind, dtype=pl.String), "distance": distance, "covered": covered,
    })  # fmt: skip
    left_out = [pl.when(~pl.col("keeper")).then(name).alias(name) for name in ("of", "distance", "covered")]
    return told.with_columns(pl.when(pl.col("group") >= 0).then("group").alias("group"), *left_out)


def _before(pairs: pl.DataFrame, rank: Int[np.ndarray, " S"]) -> pl.DataFrame:
    """By rank every motion beside each of those before it that it is paired with."""
    sides = both_sides(pairs)
    mine, others = (pl.Series(rank[sides[name].to_numpy()]) for name in ("motion", "other"))
    return sides.with_columns(mine=mine, others=others).filter(pl.col("others") < pl.col("mine")).sort("mine", "others")


def together(pairs: pl.DataFrame, count: int) -> Int[np.ndarray, " S"]:
    """Groups of motions that hang together by pairs, numbered by their first members; −1 for one that is alone."""
    a, b = (pairs[name].to_numpy() for name in ("a", "b"))
    graph = coo_array((np.ones(len(a), np.int8), (a, b)), shape=(count, count))
    label = connected_components(graph, directed=False)[1]
    number, paired = np.full(count, -1), np.unique(np.concatenate([a, b]))
    _, first, which = np.unique(label[paired], return_index=True, return_inverse=True)
    number[paired] = np.argsort(np.argsort(first))[which]
    return number


def unfinished(pairs: pl.DataFrame, verdict: pl.DataFrame) -> pl.DataFrame:
    """Candidates, as `hme.duplicates.candidates` gives them, that are no pairs yet: two kept motions that are both like one left out, in the
    same place of it."""
    keeper = verdict["keeper"].to_numpy()
    sides = both_sides(pairs)
    sides = sides.filter(~keeper[sides["motion"].to_numpy()] & keeper[sides["other"].to_numpy()])
    two = sides.join(sides, on="motion", suffix="_b").filter(pl.col("other") < pl.col("other_b"))
    start, stop = pl.max_horizontal("start", "start_b"), pl.min_horizontal("stop", "stop_b")
    middle = (start + stop) / 2
    proposed = two.filter(stop - start >= LEAST_COMMON_S).select(
        a="other",
        b="other_b",
        mirrored=pl.col("mirrored") ^ pl.col("mirrored_b"),
        tempo=pl.col("tempo_b") / pl.col("tempo"),
        time_s=pl.col("shift_s") + pl.col("tempo") * middle,
        other_s=pl.col("shift_s_b") + pl.col("tempo_b") * middle,
    )
    fresh = proposed.join(pairs, on=["a", "b"], how="anti").sort("a", "b", "mirrored", "time_s")
    return fresh.unique(["a", "b", "mirrored"], keep="first", maintain_order=True)


def both_sides(pairs: pl.DataFrame) -> pl.DataFrame:
    """Every pair twice, as each motion sees it: the other's time at its own start, and the other's seconds in one of its own."""
    same = ["kind", "distance", "mirrored"]
    a = pairs.select(*same, "tempo", "shift_s", motion="a", other="b", start="start_a", stop="stop_a")
    back = {"tempo": 1 / pl.col("tempo"), "shift_s": -pl.col("shift_s") / pl.col("tempo")}
    return pl.concat([a, pairs.select(*same, **back, motion="b", other="a", start="start_b", stop="stop_b")])


def _union(starts: list[float], stops: list[float]) -> float:
    """Length of all spans together, what they share counted once [s]."""
    total, end = 0.0, -np.inf
    for start, stop in sorted(zip(starts, stops, strict=True)):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total
