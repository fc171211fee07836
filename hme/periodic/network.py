"""The periodic autoencoder as published (DeepPhase): a window of motion told by a few sines, and drawn again from them.

Three convolutions as wide as the window lead to a few latent channels; each is replaced by the sine that is most like it, and
three more, and a last one, lead back. Windows are samples × windows × channels: so all that is done to them are products of
matrices, without a copy in between.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hme.features import FEATURE_FPS

LEAST_POWER = 1e-12
"""Power below which a latent channel stands still: its slope would be infinite."""


class Sines(NamedTuple):
    """A sine for each latent channel of each window: amplitude · sin(2π(frequency · t + phase)) + offset, t = 0 in the middle."""

    amplitude: Float[Tensor, "B K"]
    frequency: Float[Tensor, "B K"]
    """[Hz]"""
    phase: Float[Tensor, "B K"]
    """[turns]"""
    offset: Float[Tensor, "B K"]

    def drawn(self, times: Float[Tensor, " N"]) -> Float[Tensor, "N B K"]:
        turns = self.frequency * times[:, None, None] + self.phase
        return self.amplitude * torch.sin(2 * math.pi * turns) + self.offset


def harmonics(
    latent: Float[Tensor, "N B K"], fps: float = FEATURE_FPS
) -> tuple[Float[Tensor, "B K"], Float[Tensor, "B K"], Float[Tensor, "B K"]]:
    """Amplitude, frequency [Hz] and offset: those of a sine exactly, where whole periods of it fill the window."""
    count = len(latent)
    bins = torch.fft.rfft(latent, dim=0)
    power = bins.real[1:].square() + bins.imag[1:].square()
    total = power.sum(0).clamp_min(LEAST_POWER)
    hz = torch.arange(1, len(power) + 1, dtype=latent.dtype, device=latent.device) * (fps / count)
    return 2 * total.sqrt() / count, torch.einsum("fbk,f->bk", power, hz) / total, bins.real[0] / count


class WideConv(nn.Conv1d):
    """A convolution with a kernel as wide as the window, zeros around it: done by Fourier, five times as fast on a processor."""

    into: Tensor
    kernel_into: Tensor
    back: Tensor

    def __init__(self, channels: int, out_channels: int, window: int):
        super().__init__(channels, out_channels, window, padding=window // 2)
        size = (window + window // 2) | 1  # with as many zeros as the kernel reaches beyond the window; odd
        turn = 2 * math.pi / size * torch.arange(size // 2 + 1, dtype=torch.float64)[:, None]
        share = torch.where(turn == 0, 1.0, 2.0) / size
        here, there = turn * torch.arange(window), turn * (torch.arange(window) - window // 2)
        for name, parts in (
            ("into", [here.cos(), -here.sin()]),
            ("kernel_into", [there.cos(), there.sin()]),
            ("back", [share * here.cos(), -share * here.sin()]),
        ):
            self.register_buffer(name, torch.cat(parts).float(), persistent=False)

    def forward(self, input: Float[Tensor, "N B C"]) -> Float[Tensor, "N B D"]:
        batch, out = input.shape[1], self.out_channels
        real, imaginary = (self.into @ input.flatten(1)).view(2, -1, batch, self.in_channels)
        across, along = torch.einsum("fn,dcn->fcd", self.kernel_into, self.weight).view(2, -1, self.in_channels, out)
        bins = torch.cat([real @ across - imaginary @ along, real @ along + imaginary @ across])
        assert self.bias is not None
        return (self.back.T @ bins.flatten(1)).view(-1, batch, out) + self.bias


class ChannelNorm(nn.BatchNorm1d):
    """Batch normalisation over samples and windows alike."""

    def forward(self, input: Float[Tensor, "N B C"]) -> Float[Tensor, "N B C"]:
        return super().forward(input.flatten(0, 1)).view_as(input)


class PeriodicNetwork(nn.Module):
    """Between windows of `channels` and sines of `latent` channels."""

    times: Tensor

    def __init__(self, channels: int, *, window: int, hidden: int, latent: int):
        super().__init__()
        self.encoder = nn.Sequential(*_layers([channels, hidden, hidden, latent], window))
        self.decoder = nn.Sequential(
            *_layers([latent, hidden, hidden, channels], window), WideConv(channels, channels, window)
        )
        edge = 1 / math.sqrt(window)
        self.phase_weight = nn.Parameter(torch.empty(window, latent, 2).uniform_(-edge, edge))
        self.phase_norm = nn.BatchNorm1d(2 * latent)
        self.register_buffer("times", (torch.arange(window) - window // 2) / FEATURE_FPS, persistent=False)

    def forward(self, windows: Float[Tensor, "N B C"]) -> Float[Tensor, "N B C"]:
        """The windows as their sines tell them."""
        return self.decode(self.encode(windows))

    def encode(self, windows: Float[Tensor, "N B C"]) -> Sines:
        latent = self.encoder(windows)
        amplitude, frequency, offset = harmonics(latent)
        plane = torch.einsum("nbk,nki->bki", latent, self.phase_weight)
        plane = self.phase_norm(plane.flatten(1)).view_as(plane)
        phase = torch.atan2(plane[..., 1], plane[..., 0]) / (2 * math.pi)
        return Sines(amplitude, frequency, phase, offset)

    def decode(self, sines: Sines) -> Float[Tensor, "N B C"]:
        return self.decoder(sines.drawn(self.times))


def network(channels: int, *, window: int, hidden: int, latent: int, seed: int = 0) -> PeriodicNetwork:
    """A network with random weights of this seed; torch's own random numbers go on as if it had not been made."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PeriodicNetwork(channels, window=window, hidden=hidden, latent=latent)


def _layers(widths: list[int], window: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for i in range(len(widths) - 1):
        layers += [WideConv(widths[i], widths[i + 1], window), ChannelNorm(widths[i + 1]), nn.ELU()]
    return layers
