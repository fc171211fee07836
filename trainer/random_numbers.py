"""Random numbers of environments: a function of seed, purpose, event and environment.

They are Philox's, counted by environment and event, so that any can be drawn without those before it: a run goes on exactly
where it stopped, and one environment's do not depend on the others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from corpus.errors import MotionloomError
from corpus.loading.sampler import philox, to_unit

PURPOSES = ("model", "offset", "delay", "phase", "moment", "push", "start", "noise", "turn", "window")
"""Each has numbers of its own. New ones are added at the end: the place is counted."""

KEY = int.from_bytes(b"trainer")
"""Keeps these numbers apart from those that windows are drawn by from the same seed."""


def uniform(
    seed: int, purpose: str, event: int, envs: Sequence[int] | Int[np.ndarray, " R"], count: int
) -> Float[np.ndarray, "R count"]:
    """Numbers from 0 to below 1, `count` for each environment; `event` is a step, or 0 for what is drawn once.

    Philox makes those of all environments from the least to the greatest in one go. `count` should be one and the same for a
    purpose: it decides where an environment's numbers begin.
    """
    if purpose not in PURPOSES:
        raise MotionloomError(f"No purpose {purpose!r}. Known: {', '.join(PURPOSES)}.")
    envs = np.asarray(envs, int)
    if not len(envs):
        return np.zeros((0, count))
    first, last, blocks = int(envs.min()), int(envs.max()), -(-count // 4)
    counter = first * blocks, 0, PURPOSES.index(purpose), event
    bits = philox((seed, KEY), counter, (last - first + 1) * blocks * 4)
    return to_unit(bits).reshape(-1, blocks * 4)[envs - first, :count]
