"""Places of targets against the same sums in NumPy, in double precision."""

from __future__ import annotations

import numpy as np
import pytest

from corpus import rotations
from retarget import place
from retarget.place import Places, along, fixed, joint, towards


def person(frame_count: int, turn: float) -> tuple[np.ndarray, np.ndarray]:
    """Five joints far from the origin that turn by about so much from frame to frame [rad]."""
    rng = np.random.default_rng(0)
    position = [300.0, -200.0, 1.0] + np.cumsum(rng.normal(size=(frame_count, 5, 3)) * 0.02, 0)
    rotation = [rotations.normalise(rng.normal(size=(5, 4)))]
    for _ in range(frame_count - 1):
        step = rotations.from_rotation_vector(rng.normal(size=(5, 3)) * turn)
        rotation.append(rotations.multiply(step, rotation[-1]) * rng.choice([-1.0, 1.0], (5, 1)))
    return position, np.array(rotation)


@pytest.mark.parametrize("lanes", [1, 16])
@pytest.mark.parametrize("turn", [0.0, 0.02, 0.8])
def test_places_are_the_sums_they_stand_for(turn, lanes, monkeypatch):
    monkeypatch.setattr(place, "LANES_CPU", lanes)
    rng = np.random.default_rng(1)
    position, rotation = person(20, turn)
    joints, times = [3, 0, 4], np.sort(rng.uniform(0, 19, 37))
    frames, body_rotation = (rotations.normalise(rng.normal(size=(3, 4))) for _ in range(2))
    vector = np.array([0.1, -0.2, 0.3])
    made = {
        "a": joint("a", 0.4) + joint("b", 0.35) + fixed(0.0, 0.0, 0.05),
        "b": joint("b", 1.0) + along("c", vector),
        "c": joint("a", 1.0) + towards("a", "c", 0.3),
    }
    got, turned = Places(made, frames, body_rotation).at(position, rotation, joints, times)

    low = np.minimum(times.astype(int), 18)
    share = (times - low)[:, None, None]
    at = (1 - share) * position[low][:, joints] + share * position[low + 1][:, joints]
    turns = rotations.slerp(rotation[low][:, joints], rotation[low + 1][:, joints], share[..., 0] + np.zeros((37, 3)))
    turns = rotations.multiply(turns, np.broadcast_to(frames, turns.shape))
    way = at[:, 2] - at[:, 0]
    expected = np.stack([
        0.4 * at[:, 0] + 0.35 * at[:, 1] + [0, 0, 0.05],
        at[:, 1] + rotations.rotate(turns[:, 2], np.broadcast_to(vector, (37, 3))),
        at[:, 0] + 0.3 * way / np.linalg.norm(way, axis=1, keepdims=True),
    ], 1)  # fmt: skip
    assert np.abs(got - expected).max() < 1e-5
    wanted = rotations.multiply(turns, np.broadcast_to(body_rotation, turns.shape))
    assert (1 - np.abs((turned * wanted).sum(2))).max() < 1e-6
