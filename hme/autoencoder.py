"""The trained embedding: which sines a periodic autoencoder sees in a motion, and what these leave out. Needs torch.

    embedder = train(corpus, PRESETS["autoencoder"], seed=0)    # hme.periodic.training
    found = embedder.embed(motions)     # found.vectors, found.blocks, found.frequency, found.padded, found.hme_id

Windows of 4.1 s of the features, one every 0.1 s, go through the network (`hme.periodic.network`). Blocks of what it tells are kept
(`hme.periodic.blocks`): mean and standard deviation, over the windows, of the latent sines' amplitudes (`sine_amplitude`) and
frequencies (`sine_frequency`); of the log energy of what the network does not draw again, per channel in four bands, the mean
(`residual`) and the standard deviation (`residual_spread`). The mean `pose` of the joints and the mean `velocity` of the root come
beside them. All are standardised, weighed and projected as the spectrum's are. Phase and offset are dropped. A motion shorter
than a window is one window, in which its last posture stands to the end; it is flagged.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float

from corpus.errors import MotionloomError
from corpus.motion import RobotMotion
from hme.blocks import (
    Projection,
    check_channels,
    embed_all,
    embedded,
    id_of,
    read_embedder,
    save_embedder,
    take_method,
    whole_motion_blocks,
)
from hme.embedding import Embedding
from hme.features import FEATURE_FPS, Features

try:
    import torch

    from hme.periodic.blocks import periodic_blocks
    from hme.periodic.network import PeriodicNetwork, network
except ImportError as error:
    raise MotionloomError(f"The autoencoder needs torch ({error}): pip install 'motionloom[train]'.") from None

KIND = "autoencoder"
BLOCKS = ("sine_amplitude", "sine_frequency", "residual", "residual_spread", "pose", "velocity")
METHOD = 1
"""Raised by hand whenever the same motion, weights and statistics would give another vector than before."""


@dataclass(frozen=True)
class AutoencoderConfig:
    window: int = 41
    """Samples of a window at 10 Hz; odd. Longer ones tell slow from slower, and leave more motions that are short."""
    hidden: int = 64
    """Channels between features and latent ones."""
    latent: int = 8
    """Sines that tell of a window. More draw it again more closely."""
    residual_edges_hz: tuple[float, ...] = (0.4, 0.9, 1.8)
    """Where the bands meet in which the residual's energy is told [Hz]. None: one band."""
    energy_floor: float = 0.01
    """Added to the energy in a band before its logarithm: movements far below 0.1 of a channel's scale do not count."""
    sine_amplitude_weight: float = 0.3
    """Weight of how far the latent sines swing."""
    sine_frequency_weight: float = 0.2
    """Weight of how fast they swing."""
    residual_weight: float = 1.0
    """Weight of what the sines leave out. It tells most of how a motion differs from others of its tempo."""
    residual_spread_weight: float = 0.4
    """Weight of how much the residual differs between windows: it makes vectors depend more on where a recording starts."""
    pose_weight: float = 0.6
    """Weight of the mean joint angles."""
    velocity_weight: float = 0.5
    """Weight of the root's mean velocity, linear and angular."""
    block_floor: float = 0.5
    """Least standard deviation by which a number of a block is divided, as a share of the block's median one."""
    dimensions: int = 64
    """Principal components that make a vector."""
    whiten: bool = False
    """Give all components equal width: lets the faintest speak as loud as the rest."""

    def __post_init__(self) -> None:
        edges = self.residual_edges_hz
        if self.window < 5 or self.window % 2 == 0:
            raise MotionloomError(f"window should be an odd number of at least 5 samples, not {self.window}.")
        if list(edges) != sorted(set(edges)) or any(not 0 < edge < FEATURE_FPS / 2 for edge in edges):
            raise MotionloomError(f"residual_edges_hz should rise between 0 and {FEATURE_FPS / 2:g} Hz, not {edges}.")
        if min(self.hidden, self.latent, self.dimensions) < 1 or self.energy_floor <= 0:
            raise MotionloomError("hidden, latent, dimensions and energy_floor should be positive.")

    @property
    def weights(self) -> dict[str, float]:
        return {name: getattr(self, f"{name}_weight") for name in BLOCKS}


PRESETS = {
    "autoencoder": AutoencoderConfig(),
    "published": AutoencoderConfig(
        sine_amplitude_weight=1.0,
        sine_frequency_weight=1.0,
        residual_weight=0.0,
        residual_spread_weight=0.0,
        pose_weight=0.0,
        velocity_weight=0.0,
        dimensions=32,
    ),
}
"""The default; and as published, mean ⊕ standard deviation of amplitude and frequency alone."""


@dataclass(frozen=True)
class Autoencoder:
    """A trained embedder: the same motion always gets the same vector by it, but for rounding on another machine."""

    config: AutoencoderConfig
    channel_mean: Float[np.ndarray, " C"]
    channel_scale: Float[np.ndarray, " C"]
    """z = (x − mean) / scale."""
    network_weights: Mapping[str, np.ndarray]
    """By torch's names."""
    projection: Projection
    device: str = "cpu"
    """Where the network runs; no part of what the embedder is."""

    @property
    def hme_id(self) -> str:
        """Hash of config, weights and statistics."""
        return self._id

    @cached_property
    def _id(self) -> str:
        return id_of(_described(self.config), self._arrays())

    def embed(self, motions: Sequence[RobotMotion]) -> Embedding:
        """All motions, none left out. One by one or together, they come out the same but for rounding."""
        return embed_all(motions, self.embed_features)

    def embed_features(self, given: Features) -> Embedding:
        check_channels(given, self.channel_mean)
        raw, frequency = told_blocks(given, self.config, self.channel_mean, self.channel_scale, self._network)
        return embedded(raw, frequency, given, self.config.window, self.projection, self.config.weights, self.hme_id)

    def save(self, path: Path) -> None:
        """One npz: arrays, and the config as JSON."""
        save_embedder(path, KIND, _described(self.config), self._arrays())

    @classmethod
    def load(cls, path: Path, *, device: str = "cpu") -> Autoencoder:
        config, arrays = read_embedder(path, KIND)
        take_method(config, path, KIND, METHOD, "train it anew by `loom learn`")
        try:
            config["residual_edges_hz"] = tuple(config["residual_edges_hz"])
            weights = {name.removeprefix(_WEIGHT): array for name, array in arrays.items() if name.startswith(_WEIGHT)}
            mean, scale = arrays["channel_mean"], arrays["channel_scale"]
            loaded = cls(AutoencoderConfig(**config), mean, scale, weights, Projection.of(arrays, BLOCKS), device)
            _ = loaded._network  # weights that do not fit are found now
        except (KeyError, TypeError, RuntimeError) as error:
            raise MotionloomError(f"{path} holds no fitted autoencoder ({error!r}).") from None
        return loaded

    @cached_property
    def _network(self) -> PeriodicNetwork:
        net = new_network(self.config, len(self.channel_mean))
        net.load_state_dict({name: torch.tensor(array) for name, array in self.network_weights.items()})
        return net.to(self.device).eval()

    def _arrays(self) -> dict[str, np.ndarray]:
        weights = {_WEIGHT + name: array for name, array in self.network_weights.items()}
        statistics = {"channel_mean": self.channel_mean, "channel_scale": self.channel_scale}
        return {**statistics, **weights, **self.projection.arrays()}


_WEIGHT = "network_"


def new_network(config: AutoencoderConfig, channels: int, seed: int = 0) -> PeriodicNetwork:
    return network(channels, window=config.window, hidden=config.hidden, latent=config.latent, seed=seed)


def told_blocks(
    given: Features,
    config: AutoencoderConfig,
    mean: Float[np.ndarray, " C"],
    scale: Float[np.ndarray, " C"],
    net: PeriodicNetwork,
) -> tuple[dict[str, Float[np.ndarray, "S B"]], Float[np.ndarray, " S"]]:
    """The blocks as they come, and the frequency of each motion [Hz]."""
    raw, frequency = periodic_blocks(
        given, mean, scale, net, edges_hz=config.residual_edges_hz, energy_floor=config.energy_floor
    )
    return {**raw, **whole_motion_blocks(given, mean, scale)}, frequency


def _described(config: AutoencoderConfig) -> str:
    return json.dumps({"method": METHOD, **dataclasses.asdict(config)}, sort_keys=True)
