from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from corpus import rotations
from corpus.g1 import KEY_BODIES
from trainer.rules import RULES, turn_between


@dataclass(frozen=True)
class States:
    position: np.ndarray
    rotation: np.ndarray


@pytest.fixture
def reference() -> States:
    rng = np.random.default_rng(0)
    turn = rotations.from_rotation_vector(rng.normal(0, 0.4, (1, 14, 3)))
    return States(rng.normal(0, 0.3, (1, 14, 3)) + [1, 2, 0.8], turn)


def failed(robot: States, reference: States) -> set[str]:
    return {name for name, rule in RULES.items() if rule(robot, reference).any()}  # type: ignore[arg-type]


def shifted(states: States, body: str, by: tuple[float, float, float]) -> States:
    position = states.position.copy()
    position[:, KEY_BODIES.index(body)] += by
    return replace(states, position=position)


def turned(states: States, body: str, vector: tuple[float, float, float]) -> States:
    rotation = states.rotation.copy()
    i = KEY_BODIES.index(body)
    rotation[:, i] = rotations.multiply(rotations.from_rotation_vector(np.array([vector])), rotation[:, i])
    return replace(states, rotation=rotation)


def test_a_robot_on_its_reference_has_not_failed(reference):
    assert failed(reference, reference) == set()


@pytest.mark.parametrize(
    ("by", "expected"),
    [(0.24, set()), (-0.26, {"trunk", "whole_body", "fall"})],
)
def test_every_rule_sees_a_root_too_high_or_too_low(reference, by, expected):
    assert failed(replace(reference, position=reference.position + [0, 0, by]), reference) == expected


@pytest.mark.parametrize("body", ["pelvis", "torso_link"])
def test_a_turn_of_more_than_one_radian_of_pelvis_or_torso_fails_but_is_no_fall(reference, body):
    assert failed(turned(reference, body, (0, 0.99, 0)), reference).isdisjoint({"trunk", "fall"})
    assert "trunk" in failed(turned(reference, body, (0, 1.01, 0)), reference)
    assert "fall" not in failed(turned(reference, body, (0, 1.01, 0)), reference)


def test_the_heading_counts_as_a_turn(reference):
    turn = rotations.about_z(np.full((1, 14), 1.1))
    robot = States(rotations.rotate(turn, reference.position), rotations.multiply(turn, reference.rotation))
    assert failed(robot, reference) == {"trunk", "whole_body"}


def test_a_torso_too_low_fails_by_trunk_not_by_fall(reference):
    assert failed(shifted(reference, "torso_link", (0, 0, -0.26)), reference) == {"trunk", "whole_body"}


def test_a_hand_out_of_place_fails_the_whole_body_alone(reference):
    assert failed(shifted(reference, "left_wrist_yaw_link", (0.2, 0.1, 0)), reference) == set()
    assert failed(shifted(reference, "left_wrist_yaw_link", (0.2, 0.2, 0)), reference) == {"whole_body"}


def test_drift_over_the_ground_fails_no_rule(reference):
    assert failed(replace(reference, position=reference.position + [3.0, -4.0, 0]), reference) == set()


def test_what_is_not_a_number_has_failed(reference):
    lost = States(reference.position * np.nan, reference.rotation * np.nan)
    assert failed(lost, reference) == set(RULES)


def test_opposite_quaternions_are_one_orientation(reference):
    assert turn_between(reference.rotation, -reference.rotation) == pytest.approx(0, abs=1e-7)
