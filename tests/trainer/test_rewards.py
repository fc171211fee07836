from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from corpus import rotations
from corpus.g1 import G1
from trainer.kinematics import BodyStates, body_states
from trainer.rewards import TERMS, Moment, RewardOptions, in_place, reward

COUNT, PERIOD = 3, 0.02
OPTIONS = RewardOptions()
BELLS = tuple(OPTIONS.widths)
BODY_BELLS = ("body_position", "body_rotation")


@pytest.fixture(scope="module")
def bodies() -> BodyStates:
    rng = np.random.default_rng(0)
    qpos = rng.uniform(0.3 * G1.lower, 0.3 * G1.upper, (COUNT, 29))
    root = np.concatenate([rng.normal(0, 1, (COUNT, 3)), rotations.normalise(rng.normal(size=(COUNT, 4)))], 1)
    return body_states(np.concatenate([root, qpos], 1), rng.normal(size=(COUNT, 35)))


def moment(robot: BodyStates, reference: BodyStates) -> Moment:
    nothing = np.zeros((COUNT, 29))
    return Moment(robot, reference, nothing, nothing, nothing)


def terms(robot: BodyStates, reference: BodyStates) -> dict[str, np.ndarray]:
    return {name: TERMS[name](moment(robot, reference), OPTIONS.widths.get(name, 1.0)) for name in TERMS}


def turned(states: BodyStates, angle: float, shift: tuple[float, float, float]) -> BodyStates:
    turn = np.broadcast_to(rotations.about_z(np.array(angle)), states.rotation.shape)
    rotate = rotations.rotate
    return BodyStates(
        rotate(turn, states.position) + shift,
        rotations.multiply(turn, states.rotation),
        rotate(turn, states.velocity),
        rotate(turn, states.turning),
    )


def off_by_its_width(name: str, states: BodyStates) -> BodyStates:
    """What differs from the reference by exactly the width of one bell (as far as that one sees)."""
    width = OPTIONS.widths[name]
    along = np.array([0.0, 0.0, width])
    about = rotations.from_rotation_vector(width * np.array([0.6, 0.0, 0.8]))
    turned = rotations.multiply(states.rotation, np.broadcast_to(about, states.rotation.shape))
    own_axes_apart = [True] + [False] * 13  # the pelvis keeps its heading, so that nothing is moved into place
    return {
        "root_position": lambda: replace(states, position=states.position + along),
        "body_position": lambda: replace(states, position=states.position + along),
        "root_rotation": lambda: replace(states, rotation=turned),
        "body_rotation": lambda: replace(
            states, rotation=np.where(np.array(own_axes_apart)[:, None], states.rotation, turned)
        ),
        "body_velocity": lambda: replace(states, velocity=states.velocity + along),
        "body_turning": lambda: replace(states, turning=states.turning + along),
    }[name]()


def test_a_robot_on_its_reference_earns_all_that_can_be_earned(bodies):
    earned, parts = reward(moment(bodies, bodies), OPTIONS, PERIOD)
    best = PERIOD * sum(weight for weight in OPTIONS.weights.values() if weight > 0)
    assert earned == pytest.approx(best)
    assert np.allclose(earned, sum(parts.values()))


@pytest.mark.parametrize("name", BELLS)
def test_a_bell_is_one_over_e_at_its_width(bodies, name):
    term = terms(off_by_its_width(name, bodies), bodies)[name]
    share = 13 / 14 if name == "body_rotation" else 1  # all bodies but the pelvis are off
    assert term == pytest.approx(np.exp(-share), rel=1e-6)


@pytest.mark.parametrize("name", BELLS)
def test_a_bell_falls_with_the_error(bodies, name):
    worse = off_by_its_width(name, off_by_its_width(name, bodies))
    assert (terms(worse, bodies)[name] < terms(off_by_its_width(name, bodies), bodies)[name]).all()


def test_bodies_forgive_drift_and_heading_and_the_root_does_not(bodies):
    before, after = terms(bodies, bodies), terms(turned(bodies, 1.2, (3.0, -4.0, 0.0)), bodies)
    for name in BODY_BELLS:
        assert after[name] == pytest.approx(before[name], abs=1e-9)
    assert (after["root_position"] < 1e-6).all()
    assert after["root_rotation"] == pytest.approx(np.exp(-((1.2 / OPTIONS.widths["root_rotation"]) ** 2)), rel=1e-6)


def test_no_term_depends_on_where_both_are(bodies):
    rng = np.random.default_rng(1)
    robot = replace(bodies, position=bodies.position + rng.normal(0, 0.1, bodies.position.shape))
    before = terms(robot, bodies)
    after = terms(*(turned(states, -2.0, (10.0, 20.0, 0.0)) for states in (robot, bodies)))
    for name in TERMS:
        assert after[name] == pytest.approx(before[name], abs=1e-9)


def test_in_place_moves_the_reference_over_the_ground_alone(bodies):
    robot = turned(bodies, 0.7, (1.0, 2.0, 0.3))
    moved = in_place(robot, bodies)
    assert np.allclose(moved.position, robot.position - [0, 0, 0.3])
    assert np.allclose(np.abs((moved.rotation * robot.rotation).sum(-1)), 1)
    assert np.allclose(moved.position[..., 2], bodies.position[..., 2])


def test_opposite_quaternions_are_no_error(bodies):
    flipped = replace(bodies, rotation=-bodies.rotation)
    assert terms(flipped, bodies)["body_rotation"] == pytest.approx(1, abs=1e-6)
    assert terms(flipped, bodies)["root_rotation"] == pytest.approx(1, abs=1e-6)


def test_penalties_are_what_they_say(bodies):
    rng = np.random.default_rng(2)
    action, last = rng.normal(size=(2, COUNT, 29))
    beyond = G1.upper.copy()
    beyond[3] += 0.1
    asked = replace(moment(bodies, bodies), joint_position=np.stack([G1.lower, G1.upper, beyond]))
    asked = replace(asked, action=action, last_action=last)
    assert TERMS["action_rate"](asked, 1.0) == pytest.approx(((action - last) ** 2).sum(1))
    margin = 0.025 * (G1.upper - G1.lower)  # 95 % of the range about its middle
    assert TERMS["joint_limit"](asked, 1.0) == pytest.approx([margin.sum(), margin.sum(), margin.sum() + 0.1])
    inside = replace(asked, joint_position=np.tile((G1.lower + G1.upper) / 2, (COUNT, 1)))
    assert (TERMS["joint_limit"](inside, 1.0) == 0).all()


def test_only_named_terms_count(bodies):
    earned, parts = reward(moment(bodies, bodies), RewardOptions(weights={"root_position": 2.0}), PERIOD)
    assert list(parts) == ["root_position"]
    assert earned == pytest.approx(2 * PERIOD)
