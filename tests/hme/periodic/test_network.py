"""The periodic autoencoder: its sines by formula, its convolutions beside torch's own."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hme.periodic.network import PeriodicNetwork, Sines, WideConv, harmonics, network  # noqa: E402

WINDOW = 41


@pytest.mark.parametrize("periods", [1, 3, 7, 20])
@pytest.mark.parametrize("phase", [0.0, 0.3])
def test_a_sine_of_whole_periods_is_told_exactly(periods, phase):
    hz = periods / 4.1  # the true bins of 41 samples at 10 Hz
    latent = 0.7 * torch.sin(2 * math.pi * (hz * torch.arange(WINDOW, dtype=torch.float64) / 10 + phase)) + 0.25
    amplitude, frequency, offset = harmonics(latent[:, None, None])
    assert amplitude.item() == pytest.approx(0.7, rel=1e-6)
    assert frequency.item() == pytest.approx(hz, rel=1e-6)
    assert offset.item() == pytest.approx(0.25, rel=1e-6)


def test_a_sine_between_the_bins_is_told_nearly():
    latent = torch.sin(2 * math.pi * 1.1 * torch.arange(WINDOW) / 10)
    amplitude, frequency, _ = harmonics(latent[:, None, None])
    assert amplitude.item() == pytest.approx(1, rel=0.1)
    assert frequency.item() == pytest.approx(1.1, rel=0.15)


def test_what_stands_still_has_no_amplitude_and_finite_slopes():
    latent = torch.ones(WINDOW, 2, 3, requires_grad=True)
    amplitude, frequency, offset = harmonics(latent)
    (amplitude.sum() + frequency.sum()).backward()
    assert amplitude.max().item() < 1e-5
    assert offset.detach().allclose(torch.ones(2, 3))
    assert latent.grad is not None
    assert latent.grad.isfinite().all()


def test_sines_are_drawn_as_they_are_told():
    sines = Sines(*(torch.tensor([[number]]) for number in (2.0, 0.5, 0.25, -1.0)))
    times = torch.linspace(-2, 2, 9)
    assert sines.drawn(times)[:, 0, 0].allclose(2 * torch.cos(math.pi * times) - 1, atol=1e-6)


@pytest.mark.parametrize(("window", "channels", "out"), [(41, 39, 64), (41, 8, 3), (7, 5, 4), (5, 1, 1)])
def test_the_wide_convolution_is_a_convolution(window, channels, out):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        conv, given = WideConv(channels, out, window), torch.randn(window, 6, channels)
    got = conv(given)
    expected = torch.nn.functional.conv1d(given.permute(1, 2, 0), conv.weight, conv.bias, padding=window // 2)
    assert got.allclose(expected.permute(2, 0, 1), atol=1e-5)
    slopes = [torch.autograd.grad(out.square().sum(), conv.parameters()) for out in (got, expected)]
    assert all(a.allclose(b, rtol=1e-3, atol=1e-4) for a, b in zip(*slopes, strict=True))


def test_layers_are_those_published():
    weights = network(39, window=WINDOW, hidden=64, latent=8).state_dict()
    shapes = [tuple(weights[name].shape) for name in weights if name.endswith(".weight") and weights[name].ndim == 3]
    encoder = [(64, 39, 41), (64, 64, 41), (8, 64, 41)]
    assert shapes == [*encoder, (64, 8, 41), (64, 64, 41), (39, 64, 41), (39, 39, 41)]


def test_the_seed_decides_the_weights_and_leaves_torch_alone():
    before = torch.random.get_rng_state()
    one, same, other = (network(3, window=5, hidden=4, latent=2, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(one[name].equal(same[name]) for name in one)
    assert not one["encoder.0.weight"].equal(other["encoder.0.weight"])
    assert torch.random.get_rng_state().equal(before)


def test_windows_do_not_see_each_other_once_trained():
    net: PeriodicNetwork = network(6, window=WINDOW, hidden=4, latent=2).eval()
    given = torch.from_numpy(np.random.default_rng(0).normal(size=(WINDOW, 5, 6)).astype(np.float32))
    with torch.no_grad():
        together, alone = net(given), net(given[:, 2:3])
    assert together[:, 2:3].allclose(alone, atol=1e-5)
