"""Critically damped springs, exact at any time: of positions and of velocities; none ever overshoots from rest.

With the offset j₀ = x₀ − goal and the rate y: x(t) = goal + (j₀ + (v₀ + j₀·y)·t)·exp(−y·t), which solves x″ = −y²·(x − goal) − 2y·x′.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

HALF = 1.6783469900166605
"""Where (1 + u)·exp(−u) is a half."""
Number = Any  # a float or an array


def rate(half_life_s: float) -> float:
    """Of the spring that has gone half its way from rest after so long [1/s]."""
    return HALF / half_life_s


def spring(x: Number, v: Number, goal: Number, half_life_s: float, time_s: Number) -> tuple[Number, Number]:
    """Position and velocity of a spring that is drawn to a goal at rest."""
    y = rate(half_life_s)
    offset, decay = x - goal, np.exp(-y * time_s)
    slope = v + offset * y
    return goal + (offset + slope * time_s) * decay, (v - slope * (y * time_s)) * decay


def drive(
    x: Number, v: Number, a: Number, goal_v: Number, half_life_s: float, time_s: Number
) -> tuple[Number, Number, Number]:
    """Position, velocity and acceleration where the velocity is the spring: it is drawn to `goal_v`."""
    y = rate(half_life_s)
    offset, decay = v - goal_v, np.exp(-y * time_s)
    slope = a + offset * y
    # The integral of (offset + slope·t)·exp(−y·t) from 0.
    gone = (offset + slope / y) * (1 - decay) / y - slope * time_s * decay / y
    return (
        x + goal_v * time_s + gone,
        goal_v + (offset + slope * time_s) * decay,
        (a - slope * (y * time_s)) * decay,
    )


def half_life_for(
    offset: Float[np.ndarray, " N"],
    rate_of_it: Float[np.ndarray, " N"],
    *,
    speed: float,
    acceleration: float,
    shortest_s: float,
    longest_s: float,
) -> float:
    """The half-life, between the two given, at which springs let go of offsets without getting faster than `speed` where they start
    from rest, nor starting with more than `acceleration`."""
    offset, rate_of_it = np.abs(offset), np.abs(rate_of_it)
    # From rest the speed is at most offset·y / e; the acceleration starts with offset·y² + 2·rate·y.
    by_speed = np.e * speed / np.maximum(offset, 1e-9)
    by_force = acceleration / (rate_of_it + np.sqrt(rate_of_it**2 + acceleration * offset) + 1e-9)
    return float(np.clip(HALF / np.minimum(by_speed, by_force).min(), shortest_s, longest_s))
