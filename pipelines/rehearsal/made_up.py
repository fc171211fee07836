"""Clips that nobody recorded, at any number: rows as a scan and the hashing of files give them.

Names and keys are as long and as various as those of real data sets. All is made by the column and a function of the seed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import pyarrow as pa
from jaxtyping import Int

from pipelines.plan import CLIP_COLUMNS

BYTES_PER_FRAME = 660.0
"""What a frame takes in the files that the rows tell of."""
COPIED = 0.03
"""Share of clips whose file has the same bytes as another's."""
LENGTH_SPREAD = 0.9
"""Standard deviation of the logarithm of the clips' lengths: the mean is half as long again as the median."""

SOURCES = {
    "amass": ("AMASS non-commercial research", "_poses.npz", 0.30),
    "bvh": ("CC BY-NC 4.0", ".bvh", 0.10),
    "motionx": ("Motion-X non-commercial", ".npy", 0.35),
    "phuma": ("PHUMA: Apache-2.0 code, data under its sources' licences", ".npy", 0.20),
    "robot": ("unknown: ask the owner", ".csv", 0.05),
}
"""By name: licence, how its files' names end, its share of the clips."""
PLACES = ("CMU", "KIT", "BioMotionLab_NTroje", "humanml", "aist_subset", "EyesJapanDataset", "fitness", "game_motion")
MOVES = ("walk", "jog turning left", "sit down and stand up", "wave both hands", "dance", "kick", "reach high", "crawl")


def clip_rows(count: int, frames: int, *, seed: int = 0) -> pl.DataFrame:
    """Clips as `plan.add_keys` gives them: `CLIP_COLUMNS` and `clip`, of skewed lengths.

    The clips of different bytes have exactly `frames` frames together; copies come on top.
    """
    rng = np.random.default_rng(seed)
    original = np.where(rng.random(count) < COPIED, rng.integers(count, size=count), np.arange(count))
    original = np.where(original[original] == original, original, np.arange(count))  # no copies of copies
    source = rng.choice(len(SOURCES), count, p=[share for *_, share in SOURCES.values()])
    made = pl.DataFrame({
        "source": chosen(list(SOURCES), source),
        "licence": chosen([licence for licence, *_ in SOURCES.values()], source),
        "ending": chosen([ending for _, ending, _ in SOURCES.values()], source),
        "place": chosen(PLACES, rng.integers(len(PLACES), size=count)),
        "label": chosen(MOVES, rng.integers(len(MOVES), size=count)),
        "session": rng.integers(10, 100, size=count),
        "subject": rng.integers(100, 1000, size=count),
        "number": np.arange(count),
        "frames": _lengths(original == np.arange(count), frames, rng)[original],
        "clip": _keys(count, rng).gather(original),
    })  # fmt: skip
    take = pl.format("{}_{}", pl.col("label").str.replace_all(" ", "_"), pl.col("number").cast(pl.String).str.zfill(8))
    made = made.with_columns(
        path=pl.format("{}/subject_{}/session_{}/{}{}", "place", "subject", "session", take, "ending"),
        part=pl.lit(""),
        recording=pl.format("{}_{}_{}", "place", "subject", take),
        subject=pl.format("{}_{}", "place", "subject"),
        byte_count=(pl.col("frames") * BYTES_PER_FRAME).cast(pl.Int64),
    )
    return made.select(*CLIP_COLUMNS, "clip")


def chosen(texts: Sequence[str], number: Int[np.ndarray, " N"]) -> pl.Series:
    """The texts with these numbers."""
    return pl.Series(texts).gather(number)


def _lengths(is_first: np.ndarray, frames: int, rng: np.random.Generator) -> Int[np.ndarray, " N"]:
    """Lengths of at least a frame; those of the clips that are first of their bytes add up to `frames`."""
    share = np.where(is_first, rng.lognormal(0.0, LENGTH_SPREAD, len(is_first)), 0.0)
    spare = frames - int(is_first.sum())
    if spare < 0:
        raise ValueError(f"{frames} frames are fewer than one for each of {is_first.sum()} clips.")
    # Rounding the running sum, not each length, loses no frame.
    ends = np.rint(np.cumsum(share) / share.sum() * spare).astype(np.int64)
    return np.diff(ends, prepend=0) + 1


def _keys(count: int, rng: np.random.Generator) -> pl.Series:
    """Random keys of 32 hexadecimal digits."""
    pairs = np.frombuffer("".join(f"{byte:02x}" for byte in range(256)).encode(), np.uint16)
    digits = pairs[rng.integers(0, 256, (count, 16), np.uint8)]
    offsets = np.arange(count + 1, dtype=np.int64) * 32
    text = pa.LargeStringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(digits))
    return pl.Series(text)
