from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corpus import rotations
from corpus.errors import MotionloomError
from corpus.g1 import G1, MUJOCO_TO_ISAACLAB
from corpus.motion import RobotMotion
from deploy.contract import STANDING
from deploy.observation import Reference, RobotState
from trainer.evaluate import Trial, evaluate
from trainer.exam import exam_of_motions
from trainer.onnx_tracker import load_tracker
from trainer.policies import PdReplay, Sight
from trainer.randomise import Randomisation

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

ISAACLAB = [G1.joint_names[i] for i in np.argsort(MUJOCO_TO_ISAACLAB)]


@dataclass(frozen=True)
class Written:
    """A model that multiplies its input by a matrix, and a spec beside it."""

    folder: Path

    def model(
        self,
        matrix: np.ndarray,
        *,
        batch: Any = "N",
        frames: int = 0,
        opset: int = 17,
        kind: int = 1,
        constant: int = 0,
    ) -> None:
        """`kind` is 1 for single precision; `constant` the kind of another input, which changes nothing."""
        helper = onnx.helper
        shape = [batch, *([frames] if frames else []), matrix.shape[0]]
        weights = onnx.numpy_helper.from_array(matrix.astype(helper.tensor_dtype_to_np_dtype(kind)), "W")
        nodes = [helper.make_node("MatMul", ["obs", "W"], ["product"])]
        if frames:  # the oldest of the sequence
            first = onnx.numpy_helper.from_array(np.array(0), "first")
            nodes.append(helper.make_node("Gather", ["product", "first"], ["actions"], axis=1))
        else:
            nodes.append(helper.make_node("Identity", ["product"], ["actions"]))
        inputs = [helper.make_tensor_value_info("obs", kind, shape)]
        if constant:
            inputs.append(helper.make_tensor_value_info("time", constant, [1, 1]))
            nodes.append(helper.make_node("Identity", ["time"], ["unused"]))
        graph = helper.make_graph(
            nodes,
            "linear",
            inputs,
            [helper.make_tensor_value_info("actions", kind, [batch, matrix.shape[1]])],
            [weights, first] if frames else [weights],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        (self.folder / "model.onnx").write_bytes(model.SerializeToString())

    def spec(self, observation: list[dict], **given: Any) -> Path:
        told = {"model": "model.onnx", "joints": "isaaclab", "observation": observation, "action": {"kind": "absolute"}}
        path = self.folder / "spec.json"
        path.write_text(json.dumps({key: value for key, value in (told | given).items() if value is not None}))
        return path


@pytest.fixture
def written(tmp_path) -> Written:
    return Written(tmp_path)


def sight(seed: int, count: int = 2) -> Sight:
    """Some robots and what they follow; the reference's joints at frame f are f/10 more than at frame 0."""
    rng = np.random.default_rng(seed)
    qpos, qvel = rng.normal(0, 0.3, (count, 36)), rng.normal(0, 1, (count, 35))
    qpos[:, 3:7] = rotations.from_rotation_vector(rng.normal(0, 0.5, (count, 3)))
    asked, rate = qpos + rng.normal(0, 0.1, (count, 36)), rng.normal(0, 1, (count, 35))
    asked[:, 3:7] = rotations.from_rotation_vector(rng.normal(0, 0.5, (count, 3)))

    def future(frames) -> Reference:
        places = np.repeat(asked[:, None], len(frames), 1)
        places[..., 7:] += np.array(frames)[:, None] / 10
        return Reference(places, np.repeat(rate[:, None], len(frames), 1))

    state = RobotState(qpos[:, 7:], qvel[:, 6:], qpos[:, 3:7], qvel[:, 3:6], np.zeros((count, 29)))
    empty = np.zeros((count, 0), np.float32)
    return Sight(empty, empty, future([1]).qpos[:, 0, 7:], state, qpos, qvel, future)


def echo(written: Written, term: dict, pick: slice, **given: Any):
    """A tracker whose first outputs are these entries of one term."""
    width = pick.stop - pick.start
    size = given.pop("size")
    matrix = np.zeros((size, 29))
    matrix[np.arange(pick.start, pick.stop), np.arange(width)] = 1
    written.model(matrix, **{name: given.pop(name) for name in ("batch", "frames") if name in given})
    return load_tracker(written.spec([term], joints="mujoco", **given))


@pytest.mark.parametrize("batch", ["N", 1])
def test_a_tracker_that_repeats_the_reference_is_pd_replay_bit_for_bit(written, batch):
    written.model(np.concatenate([np.zeros((3, 29)), np.eye(29), np.zeros((58, 29))]), batch=batch)
    observation = [
        {"term": "gravity"},
        {"term": "reference_joint_position", "frames": [1]},
        {"term": "joint_offset", "history": 2, "scale": 0.5},
    ]
    tracker = load_tracker(written.spec(observation, joints=ISAACLAB, name="pd_replay"))
    t = np.arange(8)[:, None] / 50
    qpos = np.zeros((8, 36), np.float32)
    qpos[:, 2], qpos[:, 3], qpos[:, 7:] = 0.77, 1, STANDING + 0.2 * np.sin(6 * t + np.arange(29))
    exam = exam_of_motions([RobotMotion(qpos, 50.0), RobotMotion(qpos[:6], 50.0)])
    trial = Trial(randomisation=Randomisation(start_joints=0.1, noise_joint_position=0.01), seed=1)
    assert evaluate(tracker, exam, trial).equals(evaluate(PdReplay(), exam, trial))


def test_joints_go_in_and_out_in_the_models_order(written):
    written.model(np.eye(29))
    given = {"kind": "absolute", "scale": list(np.arange(1.0, 30)), "default": list(np.arange(29.0))}
    gains = {name: list(np.arange(1.0, 30)) for name in ("kp", "kd", "effort", "armature")}
    tracker = load_tracker(written.spec([{"term": "joint_position"}], action=given, gains=gains))
    seen = sight(0)
    tracker.forget(np.arange(2))
    action = tracker.act(seen)
    np.testing.assert_array_equal(action, seen.state.joint_position.astype(np.float32))
    place = [ISAACLAB.index(name) for name in G1.joint_names]
    np.testing.assert_array_equal(tracker.contract.gains.kp, np.arange(1.0, 30)[place])
    targets = tracker.contract.targets(action, seen.reference_joints)
    np.testing.assert_allclose(targets, np.arange(29.0)[place] + np.arange(1.0, 30)[place] * action)


def test_history_is_oldest_first_and_begins_with_the_first(written):
    tracker = echo(written, {"term": "angular_velocity", "history": 3}, slice(0, 9), size=9)
    shown = [sight(seed) for seed in range(4)]
    turning = [one.state.angular_velocity for one in shown]
    tracker.forget(np.arange(2))
    for i, past in enumerate([(0, 0, 0), (0, 0, 1), (0, 1, 2)]):
        found = tracker.act(shown[i])[:, :9]
        np.testing.assert_allclose(found, np.concatenate([turning[k] for k in past], 1), rtol=1e-6)
    tracker.forget(np.array([1]))
    found = tracker.act(shown[3])[:, :9]
    np.testing.assert_allclose(found[0], np.concatenate([turning[k][0] for k in (1, 2, 3)]), rtol=1e-6)
    np.testing.assert_allclose(found[1], np.tile(turning[3][1], 3), rtol=1e-6)


def test_a_sequence_is_the_last_whole_observations(written):
    tracker = echo(written, {"term": "gravity"}, slice(0, 3), size=3, sequence=2, frames=2)
    shown = [sight(seed) for seed in range(3)]
    tracker.forget(np.arange(2))
    oldest = [tracker.act(one)[:, :3] for one in shown]
    for found, k in zip(oldest, (0, 0, 1), strict=True):
        down = rotations.to_matrix(rotations.conjugate(shown[k].qpos[:, 3:7])) @ [0, 0, -1]
        np.testing.assert_allclose(found, down, atol=1e-6)


def test_the_last_action_is_the_models_own_output_and_is_forgotten(written):
    matrix = np.concatenate([np.eye(29), np.eye(29)])  # now + before
    written.model(matrix)
    tracker = load_tracker(written.spec([{"term": "joint_speed"}, {"term": "last_action"}]))
    first, second = sight(0), sight(1)
    tracker.forget(np.arange(2))
    np.testing.assert_allclose(tracker.act(first), first.state.joint_speed, rtol=1e-6)
    tracker.forget(np.array([0]))
    found = tracker.act(second)
    np.testing.assert_allclose(found[0], second.state.joint_speed[0], rtol=1e-6)
    np.testing.assert_allclose(found[1], second.state.joint_speed[1] + first.state.joint_speed[1], rtol=1e-5)


def test_frames_of_the_reference_come_one_after_another(written):
    tracker = echo(written, {"term": "reference_joint_offset", "frames": [0, 5]}, slice(28, 31), size=58)
    seen = sight(0)
    tracker.forget(np.arange(2))
    joints = seen.future([0, 5]).qpos[..., 7:]
    expected = np.stack([joints[:, 0, 28], joints[:, 1, 0], joints[:, 1, 1]], 1)
    np.testing.assert_allclose(tracker.act(seen)[:, :3], expected, rtol=1e-6)
    assert tracker.contract.observation.frames == (0, 1, 5)  # the referee must let it see that far


def test_the_anchor_is_seen_from_the_robots_own(written):
    seen = sight(0)
    turn = rotations.to_matrix(seen.qpos[:, 3:7])
    asked = seen.future([0]).qpos[:, 0]
    place = echo(written, {"term": "anchor_position"}, slice(0, 3), size=3, anchor="pelvis").act(seen)[:, :3]
    expected = np.einsum("nji,nj->ni", turn, asked[:, :3] - seen.qpos[:, :3])
    np.testing.assert_allclose(place, expected, atol=1e-6)
    columns = echo(written, {"term": "anchor_orientation"}, slice(0, 6), size=6, anchor="pelvis").act(seen)[:, :6]
    between = np.swapaxes(turn, 1, 2) @ rotations.to_matrix(asked[:, 3:7])
    np.testing.assert_allclose(columns, between[..., :2].reshape(2, 6), atol=1e-6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"observation": [{"term": "joint_torque"}]}, "no term 'joint_torque'. Known: joint_position"),
        ({"observation": [{"term": "gravity", "scales": 2}]}, "no such key as scales"),
        ({"observation": [{"term": "gravity", "frames": [1]}]}, "take `history`"),
        ({"joints": ISAACLAB[:-1]}, f"missing {ISAACLAB[-1]}"),
        ({"joints": "gazebo"}, "no order of joints 'gazebo'"),
        ({"action": {"kind": "torque"}}, "no kind 'torque'. Known: residual, absolute"),
        (
            {"action": {"kind": "absolute", "scale": [1, 2]}},
            r"scale should be a number or 29 of them; got shape \(2,\)",
        ),
        ({"gains": {"kp": 1.0}}, "gains: armature, kd, effort missing"),
        ({"anchor": "head"}, "no anchor 'head'"),
        ({"model": "other.onnx"}, "there is no such model"),
        ({"model": None}, "model missing"),
        ({"output": "tokens"}, "no output 'tokens'. Known: actions"),
        ({"constants": {"time_step": [[0]]}}, "time_step should be in both"),
        ({"sequence": 4}, "expected 3 axes"),
        ({"colour": "red"}, "no such key as colour"),
    ],
)
def test_a_spec_that_is_wrong_says_where(written, given, message):
    written.model(np.eye(29))
    told = {"observation": [{"term": "joint_position"}]} | given
    with pytest.raises(MotionloomError, match=message):
        load_tracker(written.spec(**told))


def test_an_observation_of_another_size_than_the_models_input_is_an_error(written):
    written.model(np.zeros((64, 29)))
    tracker = load_tracker(written.spec([{"term": "joint_position"}, {"term": "gravity"}]))
    with pytest.raises(MotionloomError, match=r"obs takes .*64.*, the spec's terms make 32"):
        tracker.act(sight(0))


def test_a_model_of_other_outputs_is_refused(written):
    written.model(np.zeros((29, 23)))
    with pytest.raises(MotionloomError, match="has 23 numbers, expected 29"):
        load_tracker(written.spec([{"term": "joint_position"}]))


def test_files_that_are_no_model_and_models_too_new_are_refused(written):
    written.model(np.eye(29), opset=99)
    with pytest.raises(MotionloomError, match=r"cannot be run: .*opset"):
        load_tracker(written.spec([{"term": "joint_position"}]))
    (written.folder / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(MotionloomError, match="cannot be run"):
        load_tracker(written.spec([{"term": "joint_position"}]))
    (written.folder / "spec.json").write_text("{")
    with pytest.raises(MotionloomError, match="is no tracker's spec"):
        load_tracker(written.folder / "spec.json")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"sequence": -1}, "sequence -1: should be from 0"),
        ({"observation": []}, "observation is empty"),
        ({"observation": [{"term": "gravity", "history": 10**9}]}, "history should be from 1 to"),
        ({"observation": [{"term": "gravity", "history": float("inf")}]}, "not as a spec should be"),
        ({"gains": {"kp": 1, "kd": 1, "armature": 0, "effort": -1}}, "effort should be above 0"),
    ],
)
def test_absurd_figures_are_refused_before_anything_runs(written, given, told):
    written.model(np.zeros((3, 29)))
    with pytest.raises(MotionloomError, match=told):
        load_tracker(written.spec(**({"observation": [{"term": "gravity"}]} | given)))


def test_a_model_of_another_kind_of_numbers_is_refused(written):
    written.model(np.zeros((3, 29)), kind=onnx.TensorProto.DOUBLE)
    with pytest.raises(MotionloomError, match=r"obs is tensor\(double\), expected tensor\(float\)"):
        load_tracker(written.spec([{"term": "gravity"}]))


def test_constants_are_fed_in_the_models_kind_of_numbers(written):
    written.model(np.zeros((3, 29)), constant=onnx.TensorProto.INT64)
    observation, seen = [{"term": "gravity"}], sight(0)
    assert not load_tracker(written.spec(observation, constants={"time": [[3]]})).act(seen).any()
    with pytest.raises(MotionloomError, match=r"model\.onnx cannot be run: .* Got: 2 Expected: 1"):
        load_tracker(written.spec(observation, constants={"time": [[1, 2]]})).act(seen)
    with pytest.raises(MotionloomError, match="constant 'time' cannot be fed"):
        load_tracker(written.spec(observation, constants={"time": "now"}))
