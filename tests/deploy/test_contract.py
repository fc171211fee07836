from __future__ import annotations

import json
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from corpus.errors import MotionloomError
from corpus.g1 import G1
from deploy.contract import ACTIONS, GAINS, STANDING, Contract, Gains
from deploy.observation import ObservationSpec

PRINTED = {
    # joints: armature, kp, kd, effort; our figures as printed in the project's design, from the field's
    ("hip_pitch", "hip_yaw", "waist_yaw"): (0.010178, 40.18, 2.558, 88),
    ("hip_roll", "knee"): (0.025102, 99.10, 6.309, 139),
    ("ankle_pitch", "ankle_roll", "waist_roll", "waist_pitch"): (0.007219, 28.50, 1.814, 50),
    ("shoulder_pitch", "shoulder_roll", "shoulder_yaw", "elbow", "wrist_roll"): (0.003610, 14.25, 0.907, 25),
    ("wrist_pitch", "wrist_yaw"): (0.004250, 16.78, 1.068, 5),
}

joints = arrays.arrays(float, (3, 29), elements=st.floats(-3, 3))


def printed(joint: str) -> tuple[float, ...]:
    name = joint.removesuffix("_joint").removeprefix("left_").removeprefix("right_")
    return next(row for names, row in PRINTED.items() if name in names)


@pytest.mark.parametrize("joint", range(29))
def test_gains_are_those_that_are_printed(joint):
    armature, kp, kd, effort = printed(G1.joint_names[joint])
    ours = GAINS.armature[joint], GAINS.kp[joint], GAINS.kd[joint], GAINS.effort[joint]
    # kp of the last row is 16.778 by the formula and 16.78 as printed: half of the last digit, and rounding's own.
    assert ours == (armature, pytest.approx(kp, abs=0.0051), pytest.approx(kd, abs=0.00051), effort)
    assert Contract().action_scale[joint] == pytest.approx(0.25 * effort / kp, rel=1e-3)


def test_a_rotor_alone_swings_at_ten_hertz_with_damping_ratio_two():
    natural = np.sqrt(GAINS.kp / GAINS.armature)
    assert np.allclose(natural, 2 * np.pi * 10)
    assert np.allclose(GAINS.kd / (2 * GAINS.armature * natural), 2)


def test_the_standing_pose_is_the_same_on_both_sides_and_within_the_limits():
    by_name = dict(zip(G1.joint_names, STANDING, strict=True))
    for name, angle in by_name.items():
        mirrored = -1 if any(axis in name for axis in ("roll", "yaw")) else 1
        if name.startswith("left_"):
            assert by_name[name.replace("left_", "right_")] == mirrored * angle
    assert (G1.lower <= STANDING).all()
    assert (G1.upper >= STANDING).all()


@given(action=joints, reference=joints, kind=st.sampled_from(ACTIONS))
@settings(max_examples=30, deadline=None)
def test_action_of_is_the_inverse_of_targets(action, reference, kind):
    contract = Contract(action=kind)
    targets = contract.targets(action, reference)
    assert np.allclose(contract.action_of(targets, reference), action, atol=1e-9)
    assert np.allclose(contract.targets(contract.action_of(reference, action), action), reference, atol=1e-9)


def test_no_action_means_the_reference_or_the_default():
    reference = np.random.default_rng(0).normal(size=(2, 29))
    nothing = np.zeros((2, 29))
    assert (Contract(action="residual").targets(nothing, reference) == reference).all()
    assert (Contract(action="absolute").targets(nothing, reference) == STANDING).all()
    moved = Contract().targets(np.ones((2, 29)), reference) - reference
    assert np.allclose(moved, Contract().action_scale)


def changed() -> dict[str, Contract]:
    """One contract for each thing that can differ."""
    contract = Contract()
    more = contract.default.copy()
    more[7] += 1e-9
    gains = {
        f"gains.{field.name}": replace(contract, gains=replace(GAINS, **{field.name: getattr(GAINS, field.name) * 1.5}))
        for field in fields(Gains)
    }
    return gains | {
        "joint_names": replace(contract, joint_names=tuple(reversed(contract.joint_names))),
        "default": replace(contract, default=more),
        "action_scale": replace(contract, action_scale=contract.action_scale * 2),
        "action": replace(contract, action="absolute"),
        "observation": replace(contract, observation=ObservationSpec(frames=(1, 4, 11))),
        "control_hz": replace(contract, control_hz=49.0),
    }


def test_every_field_is_part_of_the_hash():
    names = {name.split(".")[0] for name in changed()}
    assert names == {field.name for field in fields(Contract)}
    hashes = [Contract().hash, *(contract.hash for contract in changed().values())]
    assert len(set(hashes)) == len(hashes)


@pytest.mark.parametrize("name", changed())
def test_a_contract_comes_back_from_json_as_it_was(name):
    contract = changed()[name]
    back = Contract.from_json(json.loads(json.dumps(contract.to_json())))
    assert back.hash == contract.hash
    assert back.to_json() == contract.to_json()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"action": "torque"}, "residual"),
        ({"default": np.zeros(28)}, "29"),
        ({"default": np.full(29, np.nan)}, "finite"),
        ({"action_scale": np.zeros(29)}, "above 0"),
        ({"gains": replace(GAINS, kp=-GAINS.kp)}, "above 0"),
        ({"gains": replace(GAINS, kd=GAINS.kd[:5])}, "kd"),
        ({"control_hz": 0.0}, "above 0"),
        ({"joint_names": G1.joint_names[:28]}, "28"),
    ],
)
def test_wrong_values_are_refused(wrong, told):
    with pytest.raises(MotionloomError, match=told):
        Contract(**wrong)


@pytest.mark.parametrize("key", Contract().to_json())
def test_json_that_is_no_contract_is_refused(key):
    values = Contract().to_json()
    for wrong in (None, "x"):
        with pytest.raises(MotionloomError):
            Contract.from_json({**values, key: wrong})
    del values[key]
    with pytest.raises(MotionloomError, match="no contract"):
        Contract.from_json(values)
