"""The robot's outside against MuJoCo, and the distance of capsules against a fine grid."""

from __future__ import annotations

from dataclasses import replace

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus import posture, rotations
from corpus.g1 import G1
from corpus.posture import GROUND_POINTS, postures
from corpus.robot import Capsule, forward_kinematics


def random_poses(g1, count: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    qpos = np.concatenate([rng.normal(size=(count, 7)) * 10, rng.uniform(g1.lower, g1.upper, (count, 29))], 1)
    qpos[:, 3:7] = rotations.normalise(qpos[:, 3:7])
    return qpos


def test_soles_and_lowest_points_lie_where_mujoco_has_them(g1):
    qpos = random_poses(g1, 40)
    got = postures(g1, qpos)
    model = mujoco.MjModel.from_xml_path(str(g1.mjcf))
    data = mujoco.MjData(model)
    sites = [i for name in GROUND_POINTS for i in range(model.nsite) if model.site(i).name.startswith(name)]
    feet = {g1.body(body) + 1 for body, _ in g1.ground_points.values()}
    for i, pose in enumerate(qpos):
        data.qpos[:] = pose
        mujoco.mj_kinematics(model, data)
        assert np.abs(got.soles[:, :, i] - data.site_xpos[sites].T).max() < 5e-6
        bottoms = {}
        for geom in range(model.ngeom):
            kind = int(model.geom_type[geom])
            if kind in (int(mujoco.mjtGeom.mjGEOM_CAPSULE), int(mujoco.mjtGeom.mjGEOM_SPHERE)):
                half = model.geom_size[geom, 1] if kind == int(mujoco.mjtGeom.mjGEOM_CAPSULE) else 0.0
                drop = abs(data.geom_xmat[geom, 8]) * half + model.geom_size[geom, 0]
                bottoms.setdefault(int(model.geom_bodyid[geom]) in feet, []).append(data.geom_xpos[geom, 2] - drop)
        assert got.lowest_besides_feet[i] == pytest.approx(min(bottoms[False]), abs=5e-6)
        assert got.lowest[i] == pytest.approx(min(*bottoms[False], *bottoms[True], got.soles[2, :, i].min()), abs=5e-6)


def test_a_frame_is_measured_alike_wherever_it_stands_in_the_array(g1):
    """A lane's neighbours do not matter, nor how full the last vector is."""
    qpos = random_poses(g1, 37)
    whole = postures(g1, qpos)
    for start, stop in ((0, 1), (5, 37), (20, 23)):
        part = postures(g1, qpos[start:stop])
        for name in ("soles", "lowest", "lowest_besides_feet", "overlap", "overlap_count"):
            assert np.array_equal(getattr(part, name), getattr(whole, name)[..., start:stop]), name


def test_one_lane_gives_what_sixteen_give(g1, monkeypatch):
    """The width a GPU uses, on the CPU."""
    qpos = random_poses(g1, 30)
    wide = postures(g1, qpos)
    monkeypatch.setattr(posture, "LANES_CPU", 1)
    narrow = postures(g1, qpos)
    for name in ("soles", "lowest", "lowest_besides_feet", "overlap"):
        assert np.abs(getattr(narrow, name) - getattr(wide, name)).max() < 2e-6


def distance(a0: np.ndarray, a1: np.ndarray, b0: np.ndarray, b1: np.ndarray) -> float:
    """Of two segments, by the overlap of capsules of 10 m radius around them, on the pelvis and a hip."""
    rest = np.zeros((1, 36))
    rest[0, 3] = 1
    place, turn = (part[0, 3] for part in forward_kinematics(G1, rest))
    own = [rotations.rotate(rotations.conjugate(turn), b - place) for b in (b0, b1)]
    capsules = (Capsule(0, a0, a1, 10.0), Capsule(3, own[0], own[1], 10.0))
    return 20.0 - float(postures(replace(G1, capsules=capsules, collision_pairs=np.array([[0, 1]])), rest).overlap[0])


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(-1, 1), min_size=12, max_size=12))
def test_the_distance_of_segments_is_the_least_over_a_fine_grid(numbers):
    a0, a1, b0, b1 = np.array(numbers).reshape(4, 3)
    t = np.linspace(0, 1, 61)[:, None]
    grid = np.linalg.norm((a0 + t * (a1 - a0))[:, None] - (b0 + t * (b1 - b0))[None], axis=2).min()
    step = (np.linalg.norm(a1 - a0) + np.linalg.norm(b1 - b0)) / 60
    assert grid - step - 1e-5 <= distance(a0, a1, b0, b1) <= grid + 1e-5


def test_the_distance_of_parallel_crossing_and_pointlike_segments():
    x, y = np.array([1.0, 0, 0]), np.array([0, 1.0, 0])
    assert distance(-x, x, -x + y, x + y) == pytest.approx(1, abs=1e-5)
    assert distance(-x, x, 2 * x, 3 * x) == pytest.approx(1, abs=1e-5)
    assert distance(-x, x, -y, y) == pytest.approx(0, abs=1e-5)
    assert distance(x, x, y, y) == pytest.approx(np.sqrt(2), abs=1e-5)
