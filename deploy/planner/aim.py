"""From commands to the way that is wanted for the next second: springs draw speed and heading towards the command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from corpus.motion import CORPUS_FPS
from deploy import springs
from deploy.planner.commands import Command
from deploy.planner.features import AHEAD, HORIZON, wrap

DT = 1 / CORPUS_FPS
MOVING = 0.1
"""Who is to go more slowly than this keeps facing where it faces [m/s]."""


@dataclass(frozen=True, eq=False)
class Way:
    """From now on, seen from where the robot is and faces."""

    times_s: Float[np.ndarray, " K"]
    path: Float[np.ndarray, "K 2"]
    """[m]"""
    change: Float[np.ndarray, " K"]
    """Of the heading [rad]."""

    def ahead(self) -> tuple[Float[np.ndarray, "3 2"], Float[np.ndarray, " 3"]]:
        """Path and change at `features.AHEAD`."""
        at = np.array(AHEAD) * DT
        path = np.stack([np.interp(at, self.times_s, part) for part in self.path.T], 1)
        return path, np.interp(at, self.times_s, self.change)

    def mean(self, seconds: float) -> Float[np.ndarray, " 3"]:
        """Velocity [m/s] and turning [rad/s] over that time."""
        parts = (*self.path.T, self.change)
        return np.array([np.interp(seconds, self.times_s, part) for part in parts]) / seconds


class Aim:
    """What is commanded, as it is approached.

    The robot turns from where it faces, no faster than it may, and its way turns with it: who is told to go back walks round.
    """

    def __init__(self, *, velocity_half_life_s: float, facing_half_life_s: float, turn_rate: float, every: int):
        self.velocity_half_life_s, self.facing_half_life_s = velocity_half_life_s, facing_half_life_s
        self.turn_rate, self.times_s = turn_rate, DT * np.arange(every, HORIZON + 1, every)
        self.velocity, self.acceleration = np.zeros(2), np.zeros(2)  # seen from where the robot faces
        self.facing = 0.0

    def follow(self, command: Command, heading: float) -> Way:
        """The way from here; the next call is one block of frames later."""
        (x, y), times = command.velocity, self.times_s
        if command.facing is not None:
            self.facing = command.facing
        elif np.hypot(x, y) > MOVING:
            self.facing = float(np.arctan2(y, x))
        goal = np.array(turned(x, y, -self.facing))
        _, velocity, acceleration = springs.drive(
            np.zeros(2), self.velocity, self.acceleration, goal, self.velocity_half_life_s, times[:, None]
        )
        self.velocity, self.acceleration = velocity[0], acceleration[0]
        left = float(wrap(self.facing - heading))
        gone = left - springs.spring(left, 0.0, 0.0, self.facing_half_life_s, times)[0]
        change = np.clip(gone, -self.turn_rate * times, self.turn_rate * times)
        steps = np.stack(turned(velocity[:, 0], velocity[:, 1], change), 1) * times[0]
        return Way(times, np.cumsum(steps, 0), change)


def turned(x: Any, y: Any, angle: Any) -> tuple[Any, Any]:
    """A vector on the ground, turned by an angle [rad]; numbers or arrays."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return cosine * x - sine * y, sine * x + cosine * y
