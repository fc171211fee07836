"""What a periodic network tells of motions: mean and spread, over their windows, of the sines it sees and of what these leave out."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from hme.features import FEATURE_FPS, JOINTS, Features
from hme.periodic.network import PeriodicNetwork
from hme.periodic.windows import window_counts, window_rows


def periodic_blocks(
    given: Features,
    mean: Float[np.ndarray, " C"],
    scale: Float[np.ndarray, " C"],
    net: PeriodicNetwork,
    *,
    edges_hz: tuple[float, ...],
    energy_floor: float,
) -> tuple[dict[str, Float[np.ndarray, "S B"]], Float[np.ndarray, " S"]]:
    """Blocks by name, and of each motion the frequency [Hz] about which the joints' energy lies.

    `edges_hz` part the bands in which the residual's energy is told, `energy_floor` is added to it before its logarithm.
    """
    window, latent = net.phase_weight.shape[:2]
    sums = np.zeros((2, given.motion_count, 2 * latent + (len(edges_hz) + 1) * len(mean) + 2))
    lengths = np.minimum(np.diff(given.starts), window)
    for motion, rows in window_rows(given.starts, window):
        told = _told((given.values[rows] - mean) / scale, lengths[motion], net, edges_hz, energy_floor)
        first = np.flatnonzero(np.diff(motion, prepend=-1))
        sums[:, motion[first]] += np.add.reduceat([told, told**2], first, 1)
    average, squares = sums / window_counts(given.starts, window)[:, None]
    spread = np.sqrt(np.maximum(squares - average**2, 0))
    # In a row, as `_told` gives them.
    amplitude, frequency, residual = slice(0, latent), slice(latent, 2 * latent), slice(2 * latent, -2)
    blocks = {
        "sine_amplitude": np.concatenate([average[:, amplitude], spread[:, amplitude]], 1),
        "sine_frequency": np.concatenate([average[:, frequency], spread[:, frequency]], 1),
        "residual": average[:, residual],
        "residual_spread": spread[:, residual],
    }
    return blocks, average[:, -2] / np.maximum(average[:, -1], 1e-12)


@torch.no_grad()
def _told(
    windows: Float[np.ndarray, "N B C"],
    lengths: Int[np.ndarray, " B"],
    net: PeriodicNetwork,
    edges_hz: tuple[float, ...],
    energy_floor: float,
) -> Float[np.ndarray, "B V"]:
    """Of each window: amplitudes, frequencies, the residual's log energies, band after band; and of the joints' spectrum the
    moment about 0 Hz, and the sum."""
    given = torch.as_tensor(windows, dtype=torch.float32, device=net.times.device)
    length = torch.as_tensor(lengths, device=given.device)
    sines = net.encode(given)
    hz = torch.arange(1, len(given) // 2 + 1, device=given.device) * FEATURE_FPS / len(given)
    band = torch.bucketize(hz, torch.tensor(edges_hz, device=hz.device))
    energy = _energies(given - net.decode(sines), length)
    per_band = energy.new_zeros(len(edges_hz) + 1, *energy.shape[1:]).index_add_(0, band, energy)
    residual = 0.5 * torch.log(per_band + energy_floor)
    joints = _energies(given[..., JOINTS], length).sum(-1)
    told = [sines.amplitude, sines.frequency, *residual, (hz @ joints)[:, None], joints.sum(0)[:, None]]
    return torch.cat(told, 1).double().cpu().numpy()


def _energies(windows: Float[Tensor, "N B C"], length: Int[Tensor, " B"]) -> Float[Tensor, "F B C"]:
    """Of all bins but the mean's, by a Hann window as long as the motion, so that padding adds none: half of its square for a
    sine, as in the spectrum."""
    place = torch.arange(len(windows), device=windows.device)[:, None]
    inside = place < length
    # Periodic; that of a motion shorter than a window is symmetric about its middle.
    turn = 2 * math.pi * (place + 0.5 * (length < len(windows))) / length
    weight = (inside * (0.5 - 0.5 * torch.cos(turn)))[..., None]
    mean = (windows * inside[..., None]).sum(0) / length[:, None]
    bins = torch.fft.rfft((windows - mean) * weight, dim=0)[1:]
    return 2 * (bins.real.square() + bins.imag.square()) / (len(windows) * weight.square().sum(0))
