"""The functions that lanes have of their own, against NumPy."""

import numpy as np
import pytest
import warp as wp

from corpus.lanes import lane_algebra


def apply(function, values: np.ndarray, lanes: int) -> np.ndarray:
    V = lane_algebra(lanes).V

    @wp.kernel(module="unique")
    def run(source: wp.array(dtype=V), target: wp.array(dtype=V)):  # pyright: ignore[reportInvalidTypeForm]
        i = wp.tid()
        target[i] = function(source[i])

    source = wp.array(values.astype(np.float32).reshape(-1, lanes), dtype=V, device="cpu")
    target = wp.zeros_like(source)
    wp.launch(run, dim=len(source), inputs=[source, target], device="cpu")  # pyright: ignore[reportArgumentType]
    return target.numpy().reshape(-1)


@pytest.mark.parametrize("lanes", [1, 16])
def test_sine_and_cosine_are_right_to_single_precision_for_any_angle(lanes):
    angles = np.linspace(-12, 12, 1600).astype(np.float32)
    exact = angles.astype(np.float64)
    assert np.abs(apply(lane_algebra(lanes).sine, angles, lanes) - np.sin(exact)).max() < 1e-6
    assert np.abs(apply(lane_algebra(lanes).cosine, angles, lanes) - np.cos(exact)).max() < 1e-6


@pytest.mark.parametrize("lanes", [1, 16])
def test_the_angle_for_a_sine_follows_from_the_cosine(lanes):
    """From 0 to a thousandth of a radian before π, where the axis is lost."""
    cosine = np.cos(np.linspace(0, np.pi - 1e-3, 1600)).astype(np.float32)
    angle = np.arccos(cosine.astype(np.float64))
    expected = np.where(angle < 1e-9, 1.0, angle / np.maximum(np.sin(angle), 1e-12))
    got = apply(lane_algebra(lanes).angle_per_sine, cosine, lanes)
    # Near π the quotient grows without bound, and with it what a rounding of the cosine does to it.
    assert np.abs(got / expected - 1)[angle < 3.0].max() < 5e-6 and np.abs(got / expected - 1).max() < 0.05
    assert np.isfinite(apply(lane_algebra(lanes).angle_per_sine, np.full(16, -1.0), lanes)).all()
