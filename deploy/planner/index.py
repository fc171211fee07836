"""The motions that a planner draws from, in a folder of their own: frames, features of every few of them, and styles.

The folder is whole wherever it exists, its frames are mapped, and a hash tells whether they are as they were written.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from corpus import rotations
from corpus.durable import sync
from corpus.errors import MotionloomError
from deploy.planner.features import COLUMNS, HORIZON, POSE, WIDTH, features, scales
from deploy.planner.search import HEAD, LEAF, Boxes, arrange, principal_axes

FORMAT = 1
SHORTEST = 25
"""Motions of fewer frames are left out."""
BATCH = 8192
"""Frames whose features are computed at a time."""
BLOCKS = {"way": slice(0, 12), "height": COLUMNS["height_ahead"], "stir": COLUMNS["stir"], "pose": POSE}
"""Columns that count together, or not at all, in a search."""
Motion = tuple[Float[np.ndarray, "T 36"], tuple[str, ...]]
"""Frames at 50 Hz, and names of the styles that they are of."""


@dataclass(frozen=True, eq=False)
class Index:
    """An opened index. A row is a frame that has features: each `every` frames of each motion."""

    about: dict[str, Any]
    """What it was made of: "every", "upright" (usual height of the pelvis [m]), "styles", and what its maker adds."""
    qpos: Float[np.ndarray, "N 36"]
    """All motions, one after another."""
    motions: Int[np.ndarray, "M 2"]
    """First frame and number of frames of each."""
    styles: Bool[np.ndarray, "S M"]
    """Which motions are of each style."""
    features: Float[np.ndarray, "R D"]
    """Scaled, and turned by `basis`: `(raw − mean)·factor @ basis`."""
    mean: Float[np.ndarray, " D"]
    factor: Float[np.ndarray, " D"]
    basis: Float[np.ndarray, "D D"]
    order: Int[np.ndarray, " P"]
    """Rows that may be jumped to, as `search.arrange` orders them."""
    head: Float[np.ndarray, "P H"]
    masks: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    """Rows and boxes of styles that were asked for before."""

    @property
    def every(self) -> int:
        return int(self.about["every"])

    @property
    def style_names(self) -> tuple[str, ...]:
        return tuple(self.about["styles"])

    @cached_property
    def boxes(self) -> Boxes:
        return Boxes.around(self.features, self.order, self.head)

    @cached_property
    def first_row(self) -> Int[np.ndarray, " M"]:
        """Of each motion."""
        counts = -(-self.motions[:, 1] // self.every)
        return np.concatenate([[0], np.cumsum(counts)[:-1]])

    @cached_property
    def motion_of_row(self) -> Int[np.ndarray, " R"]:
        return np.repeat(np.arange(len(self.motions)), -(-self.motions[:, 1] // self.every))

    @cached_property
    def block_columns(self) -> dict[str, Bool[np.ndarray, " D"]]:
        """The columns of `features` that belong to each of `BLOCKS`."""
        return {name: np.abs(self.basis[block]).max(0) > 0 for name, block in BLOCKS.items()}

    def frame_of(self, row: int) -> int:
        motion = self.motion_of_row[row]
        return int(self.motions[motion, 0] + (row - self.first_row[motion]) * self.every)

    def scale(self, raw: Float[np.ndarray, " D"]) -> Float[np.ndarray, " D"]:
        return ((raw - self.mean) * self.factor) @ self.basis

    def raw(self, scaled: Float[np.ndarray, "... D"]) -> Float[np.ndarray, "... D"]:
        return (scaled @ self.basis.T) / self.factor + self.mean

    def mask(self, style: str) -> tuple[Bool[np.ndarray, " R"], Bool[np.ndarray, " L"]]:
        """Rows of a style, and the boxes that hold one."""
        if style not in self.masks:
            rows = self.styles[self.about["styles"].index(style)][self.motion_of_row]
            self.masks[style] = rows, self.boxes.holding(rows)
        return self.masks[style]

    @classmethod
    def open(cls, path: Path) -> Index:
        """Raises `MotionloomError` where the folder is no index, or not as it was written."""
        about = _read_about(path)
        arrays: dict[str, Any] = {name: _read_array(path, name, about["files"]) for name in ARRAYS}
        index = cls(about, **arrays)
        try:
            sound = _is_sound(index)
        except (KeyError, TypeError, ValueError, IndexError):
            sound = False
        if not sound:
            raise MotionloomError(f"{path} does not hold what an index holds: build it again.")
        return index


ARRAYS = ("qpos", "motions", "styles", "features", "mean", "factor", "basis", "order", "head")


def build_index(path: Path, motions: Iterable[Motion], *, every: int = 5, about: dict[str, Any] | None = None) -> Index:
    """Write the index of these motions, in the place of one that is there."""
    kept = [(_whole_turns(qpos), styles) for qpos, styles in motions if len(qpos) >= SHORTEST]
    if not kept:
        raise MotionloomError(f"No motion of {SHORTEST} frames or more to plan with.")
    frames = np.array([len(qpos) for qpos, _ in kept])
    spans = np.stack([np.cumsum(frames) - frames, frames], 1)
    names = sorted({style for _, styles in kept for style in styles})
    raw = np.concatenate(list(_features(kept, every)))
    mean, factor = scales(raw)
    scaled = (raw - mean) * factor
    basis = principal_axes(scaled, list(BLOCKS.values())).astype(np.float32)
    scaled = np.ascontiguousarray(scaled @ basis)
    usable = np.concatenate([_usable(int(count), every) for count in frames])
    rows = np.flatnonzero(usable)
    order = rows[arrange(scaled[rows])].astype(np.int32)
    arrays = {
        "qpos": np.concatenate([qpos for qpos, _ in kept]),
        "motions": spans.astype(np.int64),
        "styles": np.array([[name in styles for _, styles in kept] for name in names], bool).reshape(-1, len(kept)),
        "features": scaled,
        "mean": mean,
        "factor": factor,
        "basis": basis,
        "order": order,
        "head": np.ascontiguousarray(scaled[order, :HEAD]),
    }
    upright = float(np.percentile(raw[:, COLUMNS["height"]], 80))
    _write(path, arrays, {**(about or {}), "every": every, "upright": upright, "styles": names})
    return Index.open(path)


def _whole_turns(qpos: Float[np.ndarray, "T 36"]) -> Float[np.ndarray, "T 36"]:
    """With quaternions of length 1, in single precision."""
    qpos = np.array(qpos, np.float32)
    qpos[:, 3:7] = rotations.normalise(qpos[:, 3:7])
    return qpos


def _usable(frames: int, every: int) -> Bool[np.ndarray, " R"]:
    """Rows of a motion that may be jumped to: with a whole horizon left, or half of a motion that is shorter than two."""
    left = frames - 1 - np.arange(0, frames, every)
    return left >= min(HORIZON, frames // 2)


def _features(motions: list[Motion], every: int) -> Iterator[Float[np.ndarray, "R D"]]:
    """Some thousand frames at a time."""
    batch: list[np.ndarray] = []
    for number, (qpos, _) in enumerate(motions):
        batch.append(qpos)
        if sum(map(len, batch)) >= BATCH or number == len(motions) - 1:
            starts = np.cumsum([0, *map(len, batch)])[:-1].tolist()
            rows = [np.arange(start, start + len(part), every) for start, part in zip(starts, batch, strict=True)]
            yield features(np.concatenate(batch), np.concatenate(rows), starts)
            batch = []


def _write(path: Path, arrays: dict[str, np.ndarray], about: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, old = (path.with_name(f".{kind}-{path.name}-{os.getpid()}") for kind in ("tmp", "old"))
    temporary.mkdir()
    try:
        for name, array in arrays.items():
            np.save(temporary / f"{name}.npy", array, allow_pickle=False)
            sync(temporary / f"{name}.npy")
        about = {**about, "format": FORMAT, "files": {name: _digest(temporary / f"{name}.npy") for name in arrays}}
        (temporary / "index.json").write_text(json.dumps({**about, "hash": _hash(about)}, indent=1) + "\n")
        sync(temporary / "index.json")
        sync(temporary)
        if path.exists():
            path.rename(old)
        temporary.rename(path)
    finally:
        for folder in (temporary, old):
            shutil.rmtree(folder, ignore_errors=True)


def _read_about(path: Path) -> dict[str, Any]:
    try:
        told = json.loads((path / "index.json").read_bytes())
        about = {name: value for name, value in told.items() if name != "hash"}
        whole = told["hash"] == _hash(about)
    except (OSError, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise MotionloomError(f"{path} is no planner index ({error!r}). `loom deploy styles` makes one.") from None
    if not whole or not isinstance(about.get("files"), dict):
        raise MotionloomError(f"{path / 'index.json'} is not as it was written: build the index again.")
    if about["format"] != FORMAT:
        raise MotionloomError(f"{path} has format {about['format']}; this program reads {FORMAT}: build it again.")
    return about


def _read_array(path: Path, name: str, files: dict[str, str]) -> np.ndarray:
    file = path / f"{name}.npy"
    try:
        if _digest(file) != files.get(name):
            raise ValueError("other bytes than were written")
        # What every search goes through lies in memory: a mapped page costs a fault when it is first touched.
        return np.asarray(np.load(file, mmap_mode="r" if name == "qpos" else None, allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise MotionloomError(f"{file} is damaged ({error}): build the index again.") from None


def _is_sound(index: Index) -> bool:
    """Whether the planner can rely on it, even where somebody has written the hashes anew."""
    start, frames = index.motions.T
    rows, square, upright = len(index.features), (WIDTH, WIDTH), index.about["upright"]
    numbers = (index.qpos, index.features, index.head, index.mean, index.factor, index.basis)
    return bool(
        index.every >= 1
        and np.isfinite(upright)
        and all(array.dtype == np.float32 and np.isfinite(array).all() for array in numbers)
        and (index.motions.dtype, index.order.dtype, index.styles.dtype) == (np.int64, np.int32, np.bool_)
        and index.qpos.ndim == 2
        and index.qpos.shape[1] == 36
        and (np.abs(np.linalg.norm(index.qpos[:, 3:7], axis=1) - 1) < 1e-3).all()
        and (frames >= SHORTEST).all()
        and (start == np.cumsum(frames) - frames).all()
        and frames.sum() == len(index.qpos)
        and index.features.shape == ((-(-frames // index.every)).sum(), WIDTH)
        and (index.mean.shape, index.factor.shape, index.basis.shape) == (square[:1], square[:1], square)
        and index.styles.shape == (len(index.style_names), len(frames))
        and len(index.order) % LEAF == 0 < len(index.order)
        and index.head.shape == (len(index.order), HEAD)
        and 0 <= index.order.min() <= index.order.max() < rows
    )


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _hash(about: dict[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(about, sort_keys=True).encode(), digest_size=16).hexdigest()
