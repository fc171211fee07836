"""Every check: silent below its limit, firing beyond it, with numbers, whatever it is shown."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from corpus import rotations
from corpus.g1 import G1
from deploy.contract import STANDING
from deploy.link import Received
from deploy.messages import JOINTS, LowState
from deploy.reference import Preview
from deploy.remote import Remote, encode_remote
from deploy.safety import CHECKS, found
from deploy.situation import Limits, Situation
from deploy.stance import standing

LIMITS = Limits()
STATE = LowState(
    1000, 5, STANDING, np.zeros(JOINTS), np.zeros(JOINTS), np.array([1.0, 0, 0, 0]), np.zeros(3), np.array([0, 0, 9.81]),
    np.full(JOINTS, 30.0), np.zeros(JOINTS, int),
)  # fmt: skip
STILL = Preview(np.tile(standing(), (3, 1)), np.zeros((3, 35)))
GOOD = Situation(10.0, "track", Received(STATE, 9.99), machine=5, reference=STILL, reference_before=standing())


def state(**changes: object) -> Situation:
    return replace(GOOD, received=Received(replace(STATE, **changes), 9.99))


def reference(**changes: object) -> Situation:
    return replace(GOOD, reference=replace(STILL, **changes))


def with_joint(value: float, joint: int = 3, base=None) -> np.ndarray:
    result = np.zeros(JOINTS) if base is None else base.copy()
    result[joint] = value
    return result


def leaning(angle: float) -> np.ndarray:
    """Forward, after a turn that does not count."""
    return rotations.multiply(rotations.about_z(np.array(2.0)), rotations.from_rotation_vector(np.array([0, angle, 0])))


def moved(change, frame: slice = slice(None)) -> Preview:
    """The reference with something done to a copy of its postures."""
    qpos = STILL.qpos.copy()
    change(qpos[frame])
    return replace(STILL, qpos=qpos)


def shift(joint: int, by: float):
    def change(qpos: np.ndarray) -> None:
        qpos[:, 7 + joint] += by

    return change


def rise(height: float):
    def change(qpos: np.ndarray) -> None:
        qpos[:, 2] = height

    return change


def turned(angle: float):
    def change(qpos: np.ndarray) -> None:
        qpos[:, 3:7] = rotations.about_z(np.array(angle))

    return change


def turning(rate: float) -> Preview:
    velocity = np.zeros((3, 35))
    velocity[:, 5] = rate
    return replace(STILL, velocity=velocity)


def pressed(*buttons: str) -> Situation:
    return state(remote=encode_remote(Remote(pressed=frozenset(buttons))))


HIP_SPEED, WRIST = G1.speed_limit[3], JOINTS - 1
CASES = {
    "no_state": [(replace(GOOD, received=Received(STATE, 9.97)), replace(GOOD, received=None))],
    "stale_state": [(replace(GOOD, now_s=9.99 + 0.059), replace(GOOD, now_s=9.99 + 0.061))],
    "frozen_clock": [(replace(GOOD, tick_age_s=0.099), replace(GOOD, tick_age_s=0.101))],
    "other_clock": [(replace(GOOD, tick_back_ms=0), replace(GOOD, tick_back_ms=1))],
    "corrupt": [(replace(GOOD, refused=3), replace(GOOD, refused=4))],
    "other_machine": [(state(mode_machine=5), state(mode_machine=6))],
    "remote_stop": [
        (pressed("B"), pressed("B", "L2")),
        (pressed("L2", "R1"), pressed("B", "L2", "R1")),
        (pressed("start"), pressed("select")),
    ],
    "not_finite": [
        (state(joint_speed=with_joint(1.0)), state(joint_speed=with_joint(np.nan))),
        (state(root_rotation=np.array([1.04, 0, 0, 0])), state(root_rotation=np.array([1.06, 0, 0, 0]))),
        (state(root_rotation=np.array([0.96, 0, 0, 0])), state(root_rotation=np.zeros(4))),
        (GOOD, state(temperature=with_joint(np.inf))),
    ],
    "motor_fault": [(GOOD, state(motor_fault=with_joint(1).astype(int)))],
    "hot_motor": [(state(temperature=with_joint(84.9)), state(temperature=with_joint(85.1)))],
    "joint_range": [
        (
            state(joint_position=with_joint(G1.upper[WRIST] + 0.149, WRIST, STANDING)),
            state(joint_position=with_joint(G1.upper[WRIST] + 0.151, WRIST, STANDING)),
        ),
        (
            state(joint_position=with_joint(G1.lower[WRIST] - 0.149, WRIST, STANDING)),
            state(joint_position=with_joint(G1.lower[WRIST] - 0.151, WRIST, STANDING)),
        ),
    ],
    "joint_speed": [
        (state(joint_speed=with_joint(1.49 * HIP_SPEED)), state(joint_speed=with_joint(-1.51 * HIP_SPEED)))
    ],
    "fallen": [(state(root_rotation=leaning(0.79)), state(root_rotation=leaning(0.81)))],
    "spinning": [
        (state(angular_velocity=np.array([0, 5.9, 0])), state(angular_velocity=np.array([0, 0, -6.1]))),
        (
            replace(state(angular_velocity=np.array([0, 0, 9.0])), reference=turning(3.1)),
            replace(state(angular_velocity=np.array([0, 0, 9.0])), reference=turning(2.9)),
        ),
    ],
    "far_reference": [
        (state(joint_position=STANDING + with_joint(0.69 * 29)), state(joint_position=STANDING + with_joint(0.71 * 29)))
    ],
    "no_reference": [(GOOD, replace(GOOD, reference=None))],
    "stale_reference": [
        (reference(status="held", age_s=0.099), reference(status="held", age_s=0.101)),
        (reference(status="live", age_s=1.0), reference(status="held", age_s=1.0)),
    ],
    "broken_reference": [
        (reference(velocity=np.zeros((3, 35))), reference(velocity=np.full((3, 35), np.nan))),
        (GOOD, replace(GOOD, reference=moved(shift(2, np.inf), slice(2, 3)))),
        (GOOD, replace(GOOD, reference=moved(lambda qpos: np.multiply(qpos, 1.1, out=qpos)))),
        (replace(GOOD, reference=moved(rise(1.59))), replace(GOOD, reference=moved(rise(1.61), slice(2, 3)))),
        (replace(GOOD, reference=moved(rise(0.021))), replace(GOOD, reference=moved(rise(0.019)))),
        (
            replace(GOOD, reference=moved(shift(3, 1.99 * 0.02 * HIP_SPEED))),
            replace(GOOD, reference=moved(shift(3, -2.01 * 0.02 * HIP_SPEED))),
        ),
        (replace(GOOD, reference=moved(turned(0.29))), replace(GOOD, reference=moved(turned(-0.31)))),
    ],
    "late": [
        (replace(GOOD, late_s=0.099), replace(GOOD, late_s=0.101)),
        (replace(GOOD, late_count=3), replace(GOOD, late_count=4)),
    ],
}  # fmt: skip
SETTLES = {"no_reference", "stale_reference", "broken_reference"}


@pytest.mark.parametrize(
    ("name", "below", "beyond"), [(name, *pair) for name, pairs in CASES.items() for pair in pairs]
)
def test_a_check_fires_beyond_its_limit_and_not_below_it(name, below, beyond):
    assert name not in {fault.name for fault in found(below, LIMITS)}
    (fault,) = [fault for fault in found(beyond, LIMITS) if fault.name == name]
    assert fault.leads_to == ("settle" if name in SETTLES else "damping")
    assert fault.text
    for value in fault.numbers.values():
        assert np.isfinite(value)


def test_all_checks_are_tested():
    assert set(CASES) == {*CHECKS, "stale_state"}


def test_a_robot_that_stands_well_has_no_fault():
    assert found(GOOD) == []


@pytest.mark.parametrize(
    ("situation", "number", "value"),
    [
        (replace(GOOD, now_s=10.99), "age_s", 1.0),
        (replace(GOOD, refused=77), "refused", 77),
        (state(temperature=with_joint(101.0)), "degrees", 101.0),
        (state(motor_fault=with_joint(8, 4).astype(int)), "joint", 4),
        (state(root_rotation=leaning(1.25)), "lean", 1.25),
        (state(joint_speed=with_joint(3 * HIP_SPEED)), "share", 3.0),
    ],
)
def test_a_fault_tells_its_number(situation, number, value):
    (fault,) = found(situation)
    assert fault.numbers[number] == pytest.approx(value)


def test_what_leads_to_damping_comes_first():
    faults = found(replace(reference(status="held", age_s=1.0), late_s=1.0))
    assert [fault.leads_to for fault in faults] == ["damping", "settle"]


def test_a_robot_is_not_said_to_have_fallen_where_the_reference_is_broken():
    broken = replace(GOOD, reference=moved(lambda qpos: np.copyto(qpos[:, 3:7], leaning(1.5))))
    assert [fault.name for fault in found(broken)] == ["broken_reference"]


def test_a_robot_lying_as_its_reference_does_has_not_fallen():
    lies = moved(lambda qpos: np.copyto(qpos[:, 3:7], leaning(1.5)))
    before = lies.qpos[0]
    assert found(replace(state(root_rotation=leaning(1.5)), reference=lies, reference_before=before)) == []


def test_a_robot_that_damps_may_lie_and_be_late():
    lying = replace(state(root_rotation=leaning(1.5)), mode="damping", reference=None, late_s=5.0, late_count=99)
    assert found(lying) == []


any_float = st.floats(width=32)


@given(
    q=hnp.arrays(float, JOINTS, elements=any_float),
    speed=hnp.arrays(float, JOINTS, elements=any_float),
    rotation=hnp.arrays(float, 4, elements=any_float),
    turn=hnp.arrays(float, 3, elements=any_float),
    heat=hnp.arrays(float, JOINTS, elements=any_float),
    qpos=hnp.arrays(float, (3, 36), elements=any_float),
    velocity=hnp.arrays(float, (3, 35), elements=any_float),
    times=st.tuples(any_float, any_float, any_float),
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_no_check_raises_whatever_the_numbers_are(q, speed, rotation, turn, heat, qpos, velocity, times):
    said = replace(
        STATE, joint_position=q, joint_speed=speed, root_rotation=rotation, angular_velocity=turn, temperature=heat
    )
    preview = Preview(qpos, velocity, "held", times[0])
    situation = replace(GOOD, received=Received(said, 9.99), reference=preview, tick_age_s=times[1], late_s=times[2])
    names = {fault.name for fault in found(situation)}
    numbers = np.concatenate([q, speed, rotation, turn, heat])
    assert "not_finite" in names or np.isfinite(numbers).all()
    assert "broken_reference" in names or np.isfinite(qpos).all()
