"""Curves as SVG: what is drawn lies where its numbers say."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from trainer.plot import Axis, Curve, draw_curves


def circles(svg: str) -> np.ndarray:
    found = ElementTree.fromstring(svg).findall("{*}circle")
    return np.array([[float(circle.get(name, "")) for name in ("cx", "cy")] for circle in found])


def test_equal_factors_are_equal_steps_on_logarithmic_axes():
    x = 10.0 ** np.arange(5)
    at = circles(draw_curves([Curve("a", x, 1 / x, "#000", dots=True)], Axis("x", True), Axis("y", True)))
    assert np.diff(at[:, 0]) == pytest.approx(np.diff(at[:, 0])[0], abs=0.2)
    assert np.diff(at[:, 1]) == pytest.approx(np.diff(at[:, 1])[0], abs=0.2)
    assert (np.diff(at[:, 1]) > 0).all()  # downwards


def test_what_an_axis_cannot_show_is_left_out():
    x, y = np.array([1.0, 2, 3, 4]), np.array([1.0, np.nan, 0, 2])
    curve = Curve("<a>", x, y, "#000", dots=True, low=y / 2, high=y * 2)
    assert len(circles(draw_curves([curve], Axis("x"), Axis("y", True)))) == 2
    assert len(circles(draw_curves([curve], Axis("x"), Axis("y")))) == 3


@pytest.mark.parametrize("values", [np.zeros(0), np.array([3.0]), np.array([5.0, 5.0]), np.array([1e-9, 1e12])])
@pytest.mark.parametrize("logarithmic", [False, True])
def test_any_numbers_give_a_picture(values, logarithmic):
    axis = Axis("loss", logarithmic)
    svg = draw_curves([Curve("a", values, values, "#000")], axis, axis, title="t")
    assert "nan" not in svg
    assert ElementTree.fromstring(svg) is not None
