"""The training-free embedding: how much each channel moves in each band of frequency, in which pose, going where.

    spectrum = fit(motions)
    found = spectrum.embed(motions)     # found.vectors, found.blocks, found.frequency, found.padded, found.hme_id

Windows of 4.1 s of the features, one every 0.1 s, are weighed by a periodic Hann window; the energy of every channel is summed in
four bands and its logarithm taken; besides the features' channels, of where wrists and ankles are (`hme.reach`). Four blocks are
kept: `mean` and `spread` of that over the windows, the mean `pose` of joints, hands and feet, the mean `velocity` of the root. Each is standardised and scaled to unit norm over the motions it was fitted on; a vector
is the weighed blocks by principal components. Motions shorter than a window are one window of their own length, padded by zeros
where the weights have come down to zero, so that padding adds no energy; they are flagged.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import warp as wp
from jaxtyping import Float

from corpus.errors import MotionloomError
from corpus.g1 import G1
from corpus.motion import RobotMotion
from corpus.robot import Robot
from hme.blocks import (
    Projection,
    channel_statistics,
    check_channels,
    embed_all,
    embedded,
    fit_projection,
    id_of,
    read_embedder,
    save_embedder,
    take_method,
    whole_motion_blocks,
)
from hme.embedding import Embedding
from hme.feature_kernel import ROOT_CHANNELS
from hme.features import FEATURE_FPS, JOINTS, Features, features
from hme.reach import ENDS, Limbs, reach
from hme.spectrum_kernel import LANES, Task, transform

KIND = "spectrum"
BLOCKS = ("mean", "spread", "pose", "velocity")
METHOD = 2
"""Raised by hand whenever the same motion and statistics would give another vector than before."""


@dataclass(frozen=True)
class SpectrumConfig:
    window: int = 41
    """Samples of a window at 10 Hz; odd. Longer ones tell slow from slower, and leave more motions that are short."""
    band_edges_hz: tuple[float, ...] = (0.4, 0.9, 1.8)
    """Where bands of frequency meet [Hz]. None: amplitude and mean frequency are told instead of bands."""
    energy_floor: float = 0.01
    """Added to the energy in a band before its logarithm: movements far below 0.1 of a channel's scale do not count."""
    reach: bool = True
    """Tell where wrists and ankles are, seen from the root, beside joint angles: a raised hand is one whichever joint raised it."""
    mean_weight: float = 1.0
    """Weight of what the windows tell on average."""
    spread_weight: float = 0.25
    """Weight of how much the windows differ: it tells a gesture made once from one made again and again, and makes vectors
    depend more on where a recording starts."""
    pose_weight: float = 0.5
    """Weight of the mean joint angles, hands and feet."""
    velocity_weight: float = 0.55
    """Weight of the root's mean velocity, linear and angular."""
    block_floor: float = 0.5
    """Least standard deviation by which a number of a block is divided, as a share of the block's median one."""
    dimensions: int = 64
    """Principal components that make a vector; not whitened."""

    def __post_init__(self) -> None:
        edges = self.band_edges_hz
        if self.window < 5 or self.window % 2 == 0:
            raise MotionloomError(f"window should be an odd number of at least 5 samples, not {self.window}.")
        if list(edges) != sorted(set(edges)) or any(not 0 < edge < FEATURE_FPS / 2 for edge in edges):
            raise MotionloomError(f"band_edges_hz should rise between 0 and {FEATURE_FPS / 2:g} Hz, not {edges}.")
        if self.energy_floor <= 0 or self.dimensions < 1:
            raise MotionloomError("energy_floor and dimensions should be positive.")

    @property
    def reach_count(self) -> int:
        """Channels that tell where hands and feet are."""
        return 3 * len(ENDS) if self.reach else 0

    @property
    def weights(self) -> dict[str, float]:
        return {name: getattr(self, f"{name}_weight") for name in BLOCKS}


PRESETS = {
    "spectrum": SpectrumConfig(),
    "spectrum-2": SpectrumConfig(
        band_edges_hz=(0.6, 1.2, 2.4), reach=False, spread_weight=0.25, velocity_weight=0.5, block_floor=0.25
    ),
    "published": SpectrumConfig(
        band_edges_hz=(),
        reach=False,
        mean_weight=1.0,
        spread_weight=1.0,
        pose_weight=0.0,
        velocity_weight=0.0,
        dimensions=32,
    ),
}
"""The default; the bands and weights it was found from; and as published, mean ⊕ standard deviation of amplitude and
frequency, here of each channel instead of each latent one."""


@dataclass(frozen=True)
class Spectrum:
    """A fitted embedder: the same motion always gets the same vector by it."""

    config: SpectrumConfig
    channel_mean: Float[np.ndarray, " C"]
    channel_scale: Float[np.ndarray, " C"]
    """z = (x − mean) / scale."""
    projection: Projection
    limbs: Limbs | None
    """Of the robot whose hands and feet it looks at; None where it does not."""

    @property
    def hme_id(self) -> str:
        """Hash of config and statistics."""
        return self._id

    @cached_property
    def _id(self) -> str:
        return id_of(_described(self.config), self._arrays())

    def embed(self, motions: Sequence[RobotMotion]) -> Embedding:
        """All motions, none left out. One by one or together, they come out the same but for rounding."""
        return embed_all(motions, self.embed_features)

    def embed_features(self, given: Features) -> Embedding:
        check_channels(given, self.channel_mean[: len(self.channel_mean) - self.config.reach_count])
        given = _seen(given, self.limbs)
        raw, frequency = _raw_blocks(given, self.config, self.channel_mean, self.channel_scale)
        return embedded(raw, frequency, given, self.config.window, self.projection, self.config.weights, self.hme_id)

    def save(self, path: Path) -> None:
        """One npz: arrays, and the config as JSON."""
        save_embedder(path, KIND, _described(self.config), self._arrays())

    @classmethod
    def load(cls, path: Path) -> Spectrum:
        config, arrays = read_embedder(path, KIND)
        take_method(config, path, KIND, METHOD, "run `loom embed --refit`")
        try:
            config["band_edges_hz"] = tuple(config["band_edges_hz"])
            parts = {name.removeprefix("limbs_"): array for name, array in arrays.items() if name.startswith("limbs_")}
            limbs = Limbs.from_arrays(parts) if config["reach"] else None
            projection = Projection.of(arrays, BLOCKS)
            return cls(SpectrumConfig(**config), arrays["channel_mean"], arrays["channel_scale"], projection, limbs)
        except (KeyError, TypeError) as error:
            raise MotionloomError(f"{path} holds no fitted spectrum ({error!r}).") from None

    def _arrays(self) -> dict[str, np.ndarray]:
        limbs = {f"limbs_{name}": array for name, array in vars(self.limbs).items()} if self.limbs else {}
        statistics = {"channel_mean": self.channel_mean, "channel_scale": self.channel_scale}
        return {**statistics, **self.projection.arrays(), **limbs}


def fit(motions: Sequence[RobotMotion], config: SpectrumConfig = PRESETS["spectrum"], *, robot: Robot = G1) -> Spectrum:
    """Find the statistics and principal components of these motions; a sample of a few thousand stands for a corpus.

    There are no more components than the motions span.
    """
    limbs = Limbs.of(robot) if config.reach else None
    given = _seen(features(motions), limbs)
    mean, scale = channel_statistics(given, reach_count=config.reach_count)
    raw, _ = _raw_blocks(given, config, mean, scale)
    projection = fit_projection(raw, config.weights, floor=config.block_floor, dimensions=config.dimensions)
    return Spectrum(config, mean, scale, projection, limbs)


def _seen(given: Features, limbs: Limbs | None) -> Features:
    """With the channels that tell where hands and feet are."""
    if limbs is None:
        return given
    return replace(given, values=np.concatenate([given.values, reach(limbs, given.values[:, JOINTS])], 1))


def _raw_blocks(
    given: Features, config: SpectrumConfig, mean: Float[np.ndarray, " C"], scale: Float[np.ndarray, " C"]
) -> tuple[dict[str, Float[np.ndarray, "S B"]], Float[np.ndarray, " S"]]:
    """The blocks as they come, and the frequency of each motion [Hz]."""
    sums, squares, spectra = _transformed(given, config, mean, scale)
    windows = np.maximum(np.diff(given.starts) - config.window + 1, 1)[:, None]
    average = sums / windows
    spread = np.sqrt(np.maximum(squares / windows - average**2, 0))
    hz = np.arange(spectra.shape[1]) * FEATURE_FPS / config.window
    frequency = spectra @ hz / np.maximum(spectra.sum(1), 1e-12)
    return {"mean": average, "spread": spread, **whole_motion_blocks(given, mean, scale)}, frequency


def _transformed(
    given: Features, config: SpectrumConfig, mean: Float[np.ndarray, " C"], scale: Float[np.ndarray, " C"]
) -> tuple[Float[np.ndarray, "S V"], Float[np.ndarray, "S V"], Float[np.ndarray, "S K"]]:
    """Sums over windows of what they tell, of its squares, and of the energies of all bins, by the kernel."""
    channels = len(mean)
    padded, bins = -(-channels // LANES) * LANES, config.window // 2 + 1
    hz = np.arange(bins) * FEATURE_FPS / config.window
    values = len(config.band_edges_hz) + 1 if config.band_edges_hz else 2
    angle = 2 * np.pi * np.arange(bins) / config.window
    share = np.zeros(padded, np.float32)
    share[ROOT_CHANNELS : channels - config.reach_count] = 1
    arrays = {
        "band_of": np.searchsorted(config.band_edges_hz, hz).astype(np.int32),
        "turns": np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32),
        "mean": mean,
        "scale": (1 / scale).astype(np.float32),
        "share": share,
        **{name: np.empty((bins, padded), np.float32) for name in ("real", "imaginary")},
        **{name: np.empty(padded, np.float32) for name in ("sample", "middle", "moment")},
        "told": np.empty((values, padded), np.float32),
    }
    task = Task()
    task.channels, task.padded, task.window, task.values = channels, padded, config.window, values
    task.bands, task.floor, task.bin_hz = bool(config.band_edges_hz), config.energy_floor, hz[1]
    for name, array in arrays.items():
        setattr(task, name, array.ctypes.data)
    results = np.zeros((given.motion_count, 2, values, padded))
    spectra = np.zeros((given.motion_count, bins))
    starts = wp.array(given.starts, dtype=int, device="cpu", copy=False)
    inputs = [task, given.values.ctypes.data, starts, results.ctypes.data, spectra.ctypes.data]
    wp.launch(transform, dim=given.motion_count, inputs=inputs, device="cpu")
    sums, squares = results[..., :channels].reshape(given.motion_count, 2, -1).transpose(1, 0, 2)
    return sums, squares, spectra


def _described(config: SpectrumConfig) -> str:
    return json.dumps({"method": METHOD, **dataclasses.asdict(config)}, sort_keys=True)
