"""What the embedders share: features made standard, blocks made standard, weighed and projected, and the file they lie in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from corpus.durable import load_arrays, save_arrays
from corpus.errors import MotionloomError
from corpus.motion import RobotMotion
from hme.embedding import Embedding, join_embeddings
from hme.feature_kernel import ROOT_CHANNELS
from hme.features import JOINTS, TURN, VELOCITY, Features, batches

CHANNEL_FLOOR = np.array([0.05, *[0.2] * 3, 0.5, 0.5, 0.2, *[1.0] * 3])
"""Least scale of the root's channels: height [m], gravity, velocity [m/s], angular velocity [rad/s]."""
JOINT_FLOOR = 0.3
"""Least scale of a joint [rad]: a joint that hardly moves in a corpus is not blown up until its noise speaks."""
REACH_FLOOR = 0.2
"""Likewise of where a hand or a foot is [m]."""


@dataclass(frozen=True)
class Projection:
    """From raw blocks to standard ones, and from those to vectors."""

    mean: Mapping[str, Float[np.ndarray, " B"]]
    scale: Mapping[str, Float[np.ndarray, " B"]]
    """(raw − mean) / scale has unit norm on average, block by block."""
    basis: Float[np.ndarray, "B D"]
    """Principal components of the weighed blocks, end to end."""

    def arrays(self) -> dict[str, np.ndarray]:
        """By the names under which they are stored."""
        parts = {"mean": self.mean, "scale": self.scale}
        return {f"{kind}_{name}": array for kind, part in parts.items() for name, array in part.items()} | {
            "basis": self.basis
        }

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray], names: Sequence[str]) -> Projection:
        mean, scale = ({name: arrays[f"{kind}_{name}"] for name in names} for kind in ("mean", "scale"))
        return cls(mean, scale, arrays["basis"])

    def blocks(self, raw: Mapping[str, Float[np.ndarray, "S B"]]) -> dict[str, Float[np.ndarray, "S B"]]:
        return {name: ((raw[name] - self.mean[name]) / self.scale[name]).astype(np.float32) for name in self.mean}


def fit_projection(
    raw: Mapping[str, Float[np.ndarray, "S B"]],
    weights: Mapping[str, float],
    *,
    floor: float,
    dimensions: int,
    whiten: bool = False,
) -> Projection:
    """Of these motions' blocks: no number is divided by less than `floor` times its block's median standard deviation.
    `whiten`: components get equal widths."""
    mean = {name: block.mean(0).astype(np.float32) for name, block in raw.items()}
    scale = {name: _scale(block, floor).astype(np.float32) for name, block in raw.items()}
    rows = _joined({name: (raw[name] - mean[name]) / scale[name] for name in raw}, weights)
    basis = _principal(rows, dimensions)
    if whiten:
        basis /= (rows @ basis).std(0)
    return Projection(mean, scale, basis.astype(np.float32))


def embedded(
    raw: Mapping[str, Float[np.ndarray, "S B"]],
    frequency: Float[np.ndarray, " S"],
    given: Features,
    window: int,
    projection: Projection,
    weights: Mapping[str, float],
    hme_id: str,
) -> Embedding:
    """The vectors of raw blocks; raises `MotionloomError` where one is not finite."""
    blocks = projection.blocks(raw)
    bad = np.count_nonzero(~np.isfinite(np.concatenate([*blocks.values(), frequency[:, None]], 1)).all(1))
    if bad:
        raise MotionloomError(f"{bad} of {len(frequency)} motions are not finite, or their root's quaternion is zero.")
    vectors = _joined(blocks, weights) @ projection.basis
    return Embedding(vectors, blocks, frequency, np.diff(given.starts) < window, hme_id)


def embed_all(motions: Sequence[RobotMotion], embed_features: Callable[[Features], Embedding]) -> Embedding:
    """So many motions at a time as stay near the processor."""
    parts = [embed_features(part) for part in batches(motions)]
    if not parts:
        raise MotionloomError("There are no motions to embed.")
    return join_embeddings(parts)


def channel_statistics(
    given: Features, *, reach_count: int = 0
) -> tuple[Float[np.ndarray, " C"], Float[np.ndarray, " C"]]:
    """Mean and scale of each channel; the scale is its standard deviation, or the floor of its kind where that is more.
    The last `reach_count` channels tell where hands and feet are."""
    values = given.values.astype(np.float64)
    joint_count = values.shape[1] - ROOT_CHANNELS - reach_count
    floor = np.concatenate([CHANNEL_FLOOR, np.full(joint_count, JOINT_FLOOR), np.full(reach_count, REACH_FLOOR)])
    mean, scale = values.mean(0).astype(np.float32), np.maximum(values.std(0), floor).astype(np.float32)
    if not np.isfinite(mean).all():
        raise MotionloomError("Some of the motions are not finite, or their root's quaternion is zero.")
    return mean, scale


def check_channels(given: Features, mean: Float[np.ndarray, " C"]) -> None:
    if given.values.shape[1] != len(mean):
        raise MotionloomError(
            f"The motions have {given.values.shape[1]} channels, this embedding was fitted on {len(mean)}."
        )


def whole_motion_blocks(
    given: Features, mean: Float[np.ndarray, " C"], scale: Float[np.ndarray, " C"]
) -> dict[str, Float[np.ndarray, "S B"]]:
    """`pose`, the mean joint angles and what else follows them, and `velocity`, the root's mean velocity, linear and angular."""
    whole = np.add.reduceat(given.values, given.starts[:-1], 0) / np.diff(given.starts)[:, None].astype(np.float32)
    whole = (whole - mean) / scale
    return {"pose": whole[:, JOINTS], "velocity": whole[:, VELOCITY.start : TURN.stop]}


# Files


def id_of(described: str, arrays: Mapping[str, np.ndarray]) -> str:
    """Hash of a config and all numbers."""
    digest = hashlib.blake2b(described.encode(), digest_size=8)
    for name, array in sorted(arrays.items()):
        digest.update(f"{name}{array.shape}".encode() + np.ascontiguousarray(array, "<f4").tobytes())
    return digest.hexdigest()


def save_embedder(path: Path, kind: str, described: str, arrays: Mapping[str, np.ndarray]) -> None:
    """One npz: the kind of embedder, its config as JSON, its arrays."""
    save_arrays(path, {"kind": np.array(kind), "config": np.array(described), **arrays})


def read_embedder(path: Path, kind: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The config and the arrays of such a file; raises `MotionloomError` where it is damaged or of another kind."""
    try:
        arrays = load_arrays(path)
        found, config = str(arrays.pop("kind")), json.loads(str(arrays.pop("config")))
    except (OSError, ValueError, KeyError) as error:
        raise MotionloomError(f"{path} holds no fitted {kind} ({error!r}).") from None
    if found != kind:
        raise MotionloomError(f"{path} is of the kind {found!r}, not {kind!r}.")
    return config, arrays


def take_method(config: dict[str, Any], path: Path, kind: str, method: int, remedy: str) -> None:
    """Out of a config that was read; raises `MotionloomError`, which names the `remedy`, where it was made by another method."""
    if (made_by := config.pop("method", None)) != method:
        raise MotionloomError(f"{path} was made by method {made_by} of the {kind}; this is method {method}: {remedy}.")


def _scale(block: Float[np.ndarray, "S B"], floor: float) -> Float[np.ndarray, " B"]:
    """By what a block is divided for unit norm on average, no number of it counting for much more than it varies."""
    deviation = block.std(0)
    deviation = np.maximum(deviation, floor * np.median(deviation))
    deviation[deviation < 1e-6] = 1.0
    norm = np.sqrt((((block - block.mean(0)) / deviation) ** 2).sum(1).mean())
    return deviation * (norm if norm > 1e-6 else 1.0)


def _joined(blocks: Mapping[str, Float[np.ndarray, "S B"]], weights: Mapping[str, float]) -> Float[np.ndarray, "S W"]:
    return np.concatenate([blocks[name] * np.float32(weight) for name, weight in weights.items()], 1)


def _principal(rows: Float[np.ndarray, "S W"], count: int) -> Float[np.ndarray, "W D"]:
    """Principal directions, the widest first; each with the sign that makes its largest part positive."""
    centred = rows.astype(np.float64) - rows.mean(0)
    widths, directions = np.linalg.eigh(centred.T @ centred / len(rows))
    kept = min(count, max(int((widths > 1e-9 * max(widths[-1], 1e-9)).sum()), 1))
    directions = directions[:, ::-1][:, :kept]
    largest = np.take_along_axis(directions, np.abs(directions).argmax(0)[None], 0)
    return directions * np.where(largest < 0, -1, 1)
