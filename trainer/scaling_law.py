"""One descent to the law L = E + A/N^α + B/D^β that is nearest to runs, in logarithms counted from their mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize

NAMES = ("E", "A", "alpha", "B", "beta")
_LEAST_LOG = -14.0
"""A part of the loss below e^−14 of its scale counts as none."""


@dataclass(frozen=True)
class Law:
    """L = E + A/N^α + B/D^β, with N and D in the units that were given."""

    E: float
    A: float
    alpha: float
    B: float
    beta: float

    def at(self, parameters: float | np.ndarray, frames: float | np.ndarray) -> Any:
        """The loss of such networks on such data."""
        return self.E + self.A * parameters**-self.alpha + self.B * frames**-self.beta


@dataclass(frozen=True)
class Scaled:
    """Logarithms of N, D and L, counted from the runs' mean."""

    parameters: Float[np.ndarray, " R"]
    frames: Float[np.ndarray, " R"]
    loss: Float[np.ndarray, " R"]
    centre: Float[np.ndarray, " 3"]

    @staticmethod
    def of(runs: Float[np.ndarray, "3 R"]) -> Scaled:
        logs = np.log(runs)
        centre = logs.mean(1)
        n, d, loss = logs - centre[:, None]
        return Scaled(n, d, loss, centre)

    def take(self, rows: np.ndarray) -> Scaled:
        return Scaled(self.parameters[rows], self.frames[rows], self.loss[rows], self.centre)

    def law(self, x: Float[np.ndarray, " 5"]) -> Law:
        """In the runs' own units. A part at the least it can be is none."""
        E, A, alpha, B, beta = x
        n, d, level = self.centre
        terms = np.where(
            np.array([E, A, B]) > _LEAST_LOG, np.exp(level + np.array([E, A + alpha * n, B + beta * d])), 0
        )
        return Law(float(terms[0]), float(terms[1]), float(alpha), float(terms[2]), float(beta))


def log_loss(x: Float[np.ndarray, " 5"], runs: Scaled) -> tuple[Float[np.ndarray, " R"], Float[np.ndarray, "3 R"]]:
    """Logarithm of the law, and the share of each of its three parts, which is the logarithm's slope."""
    E, A, alpha, B, beta = x
    parts = np.stack([np.full_like(runs.loss, E), A - alpha * runs.parameters, B - beta * runs.frames])
    most = parts.max(0)
    weights = np.exp(parts - most)
    total = weights.sum(0)
    return most + np.log(total), weights / total


def descend(
    start: Float[np.ndarray, " 5"], runs: Scaled, huber: float, powers: tuple[float, float]
) -> tuple[float, Float[np.ndarray, " 5"]]:
    """Nearest least sum of Huber's losses of log L, and where it is: logarithms of E, A and B at the centre, α and β."""

    def cost(x: Float[np.ndarray, " 5"]) -> tuple[float, Float[np.ndarray, " 5"]]:
        value, share = log_loss(x, runs)
        error = value - runs.loss
        size, slope = np.abs(error), np.clip(error / huber, -1, 1)
        total = np.where(size <= huber, error * slope / 2, size - huber / 2).sum()
        pull = slope * share
        return total, np.array(
            [pull[0].sum(), pull[1].sum(), -pull[1] @ runs.parameters, pull[2].sum(), -pull[2] @ runs.frames]
        )

    found = minimize(
        cost, start, jac=True, method="L-BFGS-B", bounds=bounds(powers), options={"ftol": 1e-10, "gtol": 1e-8}
    )
    return float(found.fun), found.x


def bounds(powers: tuple[float, float]) -> list[tuple[float, float]]:
    level = (_LEAST_LOG, 3.0)
    return [level, level, powers, level, powers]


def starts(powers: tuple[float, float]) -> list[Float[np.ndarray, " 5"]]:
    """Shares of the three parts at the runs' mean, and powers, from one end to the other."""
    return [
        np.array([np.log(E), np.log((1 - E) * A), alpha, np.log((1 - E) * (1 - A)), beta])
        for E in (0.05, 0.5, 0.9)
        for A in (0.2, 0.8)
        for alpha in np.clip((0.2, 0.7), *powers)
        for beta in np.clip((0.2, 0.7), *powers)
    ]
