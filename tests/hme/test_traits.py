"""Plain traits of segments, against motions whose answer is known by construction."""

from __future__ import annotations

import numpy as np
import pytest

from corpus import rotations
from corpus.g1 import G1
from hme.traits import TRAITS, measure_traits

FPS = 50.0


def standing(frames: int, height: float = 0.79) -> np.ndarray:
    qpos = np.zeros((frames, 36), np.float32)
    qpos[:, 2], qpos[:, 3] = height, 1
    qpos[:, 7:] = (G1.lower + G1.upper) / 2
    return qpos


def traits_of(qpos: np.ndarray, contact: np.ndarray | None = None, lengths=None) -> dict[str, np.ndarray]:
    contact = np.ones((len(qpos), 4), bool) if contact is None else contact
    return measure_traits(G1, qpos, contact, np.array(lengths or [len(qpos)]), fps=FPS)


def test_every_trait_is_told():
    assert list(traits_of(standing(10))) == [*TRAITS, "at_limit"]


def test_walking_in_a_circle_has_its_speed_and_yaw_rate():
    t = np.arange(500) / FPS
    qpos = standing(500)
    qpos[:, :2] = 2.0 * np.stack([np.cos(0.6 * t), np.sin(0.6 * t)], 1)  # 1.2 m/s at 0.6 rad/s
    qpos[:, 3:7] = rotations.about_z(-0.6 * t)
    found = traits_of(qpos)
    assert found["speed"][0] == pytest.approx(1.2, rel=1e-3)
    assert found["yaw_rate"][0] == pytest.approx(0.6, rel=1e-3)
    assert found["joint_speed"][0] == pytest.approx(0, abs=1e-6)


def test_a_jump_between_two_segments_is_in_neither():
    qpos = standing(200)
    qpos[100:, 0] += 50
    qpos[100:, 3:7] = rotations.about_z(np.array(2.0))
    qpos[100:, 7:] += 0.1
    found = traits_of(qpos, lengths=[100, 100])
    for name in ("speed", "yaw_rate", "joint_speed"):
        np.testing.assert_allclose(found[name], 0, atol=1e-5)


def test_contact_modes_are_shares_of_the_frames_and_add_up():
    contact = np.zeros((100, 4), bool)
    contact[:50, 0] = True  # left heel
    contact[30:80, 3] = True  # right toe
    found = traits_of(standing(100), contact)
    modes = [found[name][0] for name in ("both_feet", "left_foot", "right_foot", "no_foot")]
    assert modes == pytest.approx([0.2, 0.3, 0.3, 0.2])


@pytest.mark.parametrize(
    ("height", "tilt", "name"),
    [(0.79, 0.0, "standing"), (0.45, 0.3, "crouching"), (0.5, 1.2, "leaning"), (0.2, 1.5, "lying")],
)
def test_every_frame_has_one_posture(height, tilt, name):
    qpos = standing(50, height)
    qpos[:, 3:7] = rotations.from_rotation_vector(np.array([0, tilt, 0]))
    found = traits_of(qpos)
    postures = {name: found[name][0] for name in ("standing", "crouching", "leaning", "lying")}
    assert postures == {one: float(one == name) for one in postures}
    assert found["tilt"][0] == pytest.approx(tilt, abs=1e-3)
    assert found["lowest"][0] == found["highest"][0] == pytest.approx(height)


def test_a_joint_at_its_limit_is_counted_for_as_long_as_it_stays_there():
    qpos = standing(100)
    knee = G1.joint_names.index("left_knee_joint")
    qpos[20:60, 7 + knee] = G1.upper[knee]
    at_limit = traits_of(qpos)["at_limit"][0]
    assert at_limit[knee] == pytest.approx(0.4) and np.delete(at_limit, knee).max() == 0


def test_speed_of_a_swinging_joint():
    t = np.arange(1000) / FPS
    qpos = standing(1000)
    qpos[:, 7 + 3] += 0.3 * np.sin(2 * np.pi * t)
    expected = 0.3 * 2 * np.pi / np.sqrt(2) / np.sqrt(29)
    assert traits_of(qpos)["joint_speed"][0] == pytest.approx(expected, rel=0.01)
