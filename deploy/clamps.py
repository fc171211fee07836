"""What is asked of a joint stays within what it can and may; that is no fault, but it is cut."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from corpus.g1 import G1
from deploy.situation import Limits


def clamped(
    target: Float[np.ndarray, " J"],
    before: Float[np.ndarray, " J"],
    state_position: Float[np.ndarray, " J"],
    state_speed: Float[np.ndarray, " J"],
    kp: Float[np.ndarray, " J"],
    kd: Float[np.ndarray, " J"],
    effort: Float[np.ndarray, " J"],
    *,
    period_s: float,
    limits: Limits = Limits(),
) -> Float[np.ndarray, " J"]:
    """Joint targets [rad] within the soft range, no faster than targets may move, and asking for no more torque than there is."""
    most = limits.target_speed * period_s
    target = np.clip(target, before - most, before + most)
    damped = kd * state_speed
    target = np.clip(target, state_position + (damped - effort) / kp, state_position + (damped + effort) / kp)
    spare = (1 - limits.soft_range) / 2 * (G1.upper - G1.lower)
    return np.clip(target, G1.lower + spare, G1.upper - spare)
