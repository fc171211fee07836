"""What a frame of motion looks like to the planner: where it goes from here, and how the body is placed.

Everything is seen from the pelvis's place on the ground, turned to its heading.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from corpus import rotations
from corpus.g1 import G1
from corpus.motion import CORPUS_FPS
from corpus.robot import forward_kinematics

AHEAD = (17, 33, 50)
"""Frames ahead at which the way to go is looked at: a third, two thirds and the whole of a second."""
HORIZON = AHEAD[-1]


@dataclass(frozen=True)
class Group:
    """Columns that belong together and share one scale."""

    width: int
    weight: float
    """How much a deviation of one standard deviation counts, beside the other groups."""
    floor: float
    """Standard deviation at least taken, in the columns' unit: where a corpus hardly varies, small differences mean nothing."""


GROUPS = {
    "path": Group(6, 1.5, 0.3),  # x, y at `AHEAD` [m]
    "facing": Group(6, 1.2, 0.3),  # cosine and sine of the heading's change
    "height_ahead": Group(3, 1.2, 0.1),  # of the pelvis [m]
    "stir": Group(1, 0.8, 0.3),  # mean joint speed from here to the horizon [rad/s]
    "height": Group(1, 0.7, 0.1),
    "tilt": Group(2, 0.5, 0.2),  # gravity's x and y
    "velocity": Group(3, 1.0, 0.3),  # of the pelvis [m/s]
    "turning": Group(1, 0.4, 0.5),  # of the heading [rad/s]
    "feet": Group(6, 1.0, 0.1),  # both, x, y, z [m]
    "feet_velocity": Group(6, 1.0, 0.4),  # [m/s]
    "hands": Group(6, 0.4, 0.2),
}
WIDTH = sum(group.width for group in GROUPS.values())
_ENDS = np.cumsum([group.width for group in GROUPS.values()])
COLUMNS = {
    name: slice(int(end) - group.width, int(end)) for (name, group), end in zip(GROUPS.items(), _ENDS, strict=True)
}
"""Name → columns."""
POSE = slice(COLUMNS["height"].start, WIDTH)
"""What ties a frame to the one before a jump; the columns in front of it are what is asked for."""
BODIES = tuple(G1.body(f"{side}_{link}_link") for link in ("ankle_roll", "wrist_yaw") for side in ("left", "right"))


def features(
    qpos: Float[np.ndarray, "T 36"], rows: Int[np.ndarray, " R"], starts: Sequence[int] = (0,)
) -> Float[np.ndarray, "R D"]:
    """Of these frames of a motion at 50 Hz, or of several end to end of which `starts` are the first frames.

    Beyond its end a motion stands still as it ended.
    """
    qpos = np.asarray(qpos, np.float64)
    motion = np.searchsorted(starts, rows, "right") - 1
    first, last = np.asarray(starts)[motion], np.array([*starts[1:], len(qpos)])[motion] - 1
    near = np.stack([np.maximum(rows - 1, first), rows, np.minimum(rows + 1, last)])
    limbs = forward_kinematics(G1, qpos[near.ravel()])[0][:, BODIES].reshape(3, len(rows), 4, 3)
    now, heading = qpos[rows], rotations.heading(qpos[rows, 3:7])
    back = rotations.about_z(-heading)
    ground = now[:, :3] * [1, 1, 0]
    span = np.maximum(near[2] - near[0], 1)[:, None] / CORPUS_FPS
    speed = np.abs(np.diff(qpos[:, 7:], axis=0)).mean(1) * CORPUS_FPS
    gone = np.concatenate([[0.0], np.cumsum(speed)])
    far = np.minimum(rows + HORIZON, last)
    ahead = np.stack([qpos[np.minimum(rows + d, last)] for d in AHEAD], 1)
    change = rotations.heading(ahead[..., 3:7]) - heading[:, None]
    turned = rotations.heading(qpos[near[2], 3:7]) - rotations.heading(qpos[near[0], 3:7])
    flat = {
        "path": _turn(back, ahead[..., :3] - ground[:, None])[..., :2],
        "facing": np.stack([np.cos(change), np.sin(change)], -1),
        "height_ahead": ahead[..., 2],
        "stir": (gone[far] - gone[rows]) / np.maximum(far - rows, 1),
        "height": now[:, 2],
        "tilt": _gravity(now[:, 3:7])[:, :2],
        "velocity": _turn(back, (qpos[near[2], :3] - qpos[near[0], :3]) / span),
        "turning": wrap(turned) / span[:, 0],
        "feet": _turn(back, limbs[1, :, :2] - ground[:, None]),
        "feet_velocity": _turn(back, (limbs[2] - limbs[0])[:, :2] / span[..., None]),
        "hands": _turn(back, limbs[1, :, 2:] - ground[:, None]),
    }
    return np.concatenate([flat[name].reshape(len(rows), -1) for name in GROUPS], 1, dtype=np.float32)


def scales(values: Float[np.ndarray, "R D"]) -> tuple[Float[np.ndarray, " D"], Float[np.ndarray, " D"]]:
    """Mean, and the factor by which each column counts after it is taken away: weight over deviation, shared by a group."""
    mean, factor = values.mean(0, dtype=np.float64), np.empty(WIDTH)
    for name, group in GROUPS.items():
        deviation = np.sqrt(values[:, COLUMNS[name]].var(0, dtype=np.float64).mean())
        factor[COLUMNS[name]] = group.weight / max(float(deviation), group.floor) / np.sqrt(group.width)
    return mean.astype(np.float32), factor.astype(np.float32)


def wrap(angle: Float[np.ndarray, "..."] | float) -> Float[np.ndarray, "..."]:
    """The same angle between −π and π."""
    return (np.asarray(angle) + np.pi) % (2 * np.pi) - np.pi


def _turn(q: Float[np.ndarray, "R 4"], v: Float[np.ndarray, "R ... 3"]) -> Float[np.ndarray, "R ... 3"]:
    return rotations.rotate(q.reshape(len(q), *[1] * (v.ndim - 2), 4), v)


def _gravity(rotation: Float[np.ndarray, "R 4"]) -> Float[np.ndarray, "R 3"]:
    return rotations.rotate(rotations.conjugate(rotation), np.broadcast_to([0.0, 0.0, -1.0], (len(rotation), 3)))
