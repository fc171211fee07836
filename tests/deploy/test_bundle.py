"""A bundle is whole and made for this robot, or it is refused with the reason."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toy_bundle import WINDOW
from toy_tracking import CONTRACT

from corpus.errors import MotionloomError
from deploy.bundle import BUNDLE, PROBE, STEPS, about, hash_of, open_bundle
from deploy.session import open_session

FILES = (BUNDLE, PROBE, "step.onnx", "step-int8.onnx", "window.onnx")


def change(folder: Path, edit: Callable[[dict[str, Any]], object], *, sealed: bool = True) -> None:
    """Edit bundle.json; `sealed` makes its own hash fit again, as somebody would who knows how."""
    facts = json.loads((folder / BUNDLE).read_text())
    edit(facts)
    if sealed:
        facts["hash"] = hash_of(facts)
    (folder / BUNDLE).write_text(json.dumps(facts))


def test_a_bundle_opens_as_what_was_exported(exported):
    bundle = open_bundle(exported)
    assert bundle.contract.to_json() == CONTRACT.to_json()
    assert (bundle.window, bundle.precisions) == (WINDOW, ("float32", "int8"))
    assert bundle.facts["source"] == {"corpus": "a corpus", "plan": 7, "randomise": "light", "run": "run", "step": 12}
    assert bundle.facts["shape"] == {"layers": 2, "width": 64, "heads": 2, "mlp": 64, "window": WINDOW}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["removed", "cut", "flipped", "empty", "longer"])
def test_a_damaged_file_is_refused_by_its_name(bundle_copy, name, damage):
    path = bundle_copy / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    made = {"cut": content[: len(content) // 2], "flipped": content, "empty": b"", "longer": path.read_bytes() + b"x"}
    path.unlink()
    if damage != "removed":
        path.write_bytes(made[damage])
    with pytest.raises(MotionloomError, match=r"bundle" if name == BUNDLE else name):
        open_bundle(bundle_copy)


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bundle_json_crashes_the_reader(bundle_copy, data):
    values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    )
    (whole := bundle_copy / "whole.json").exists() or whole.write_bytes((bundle_copy / BUNDLE).read_bytes())
    facts = json.loads(whole.read_bytes())
    key = data.draw(st.sampled_from(["version", "contract", "contract_hash", "window", "files"]))
    facts[key] = data.draw(values.filter(lambda value: value != facts[key]))
    facts["hash"] = hash_of(facts)
    (bundle_copy / BUNDLE).write_text(json.dumps(facts))
    with pytest.raises(MotionloomError):
        open_bundle(bundle_copy)


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"[" * 100_000, b"\xff", b"{}", b'{"version": 1}'])
def test_what_is_no_bundle_json_is_refused(bundle_copy, content):
    (bundle_copy / BUNDLE).write_bytes(content)
    with pytest.raises(MotionloomError, match="damaged"):
        open_bundle(bundle_copy)


def test_a_folder_without_bundle_json_says_what_makes_one(tmp_path):
    with pytest.raises(MotionloomError, match="loom deploy export"):
        open_bundle(tmp_path / "nowhere")


def test_another_version_is_told_from_damage(bundle_copy):
    change(bundle_copy, lambda facts: facts.update(version=99))
    with pytest.raises(MotionloomError, match="version 99"):
        open_bundle(bundle_copy)


def test_a_contract_that_does_not_fit_its_hash_is_refused(bundle_copy):
    change(bundle_copy, lambda facts: facts["contract"]["kp"].__setitem__(0, 500.0))
    with pytest.raises(MotionloomError, match="hash"):
        open_bundle(bundle_copy)


def test_a_change_that_was_not_sealed_is_refused(bundle_copy):
    change(bundle_copy, lambda facts: facts["source"].update(step=99), sealed=False)
    with pytest.raises(MotionloomError, match="changed after the export"):
        open_bundle(bundle_copy)


def resealed(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """A contract edited, and all hashes in bundle.json made to fit."""
    from deploy.contract import Contract

    def both(facts: dict[str, Any]) -> None:
        edit(facts["contract"])
        facts["contract_hash"] = Contract.from_json(facts["contract"]).hash

    change(folder, both)


def test_a_policy_of_another_robot_is_refused(bundle_copy):
    resealed(bundle_copy, lambda contract: contract["joint_names"].reverse())
    with pytest.raises(MotionloomError, match="right_wrist_yaw_joint in place of left_hip_pitch_joint"):
        open_bundle(bundle_copy)


def test_a_policy_of_another_rate_is_refused(bundle_copy):
    resealed(bundle_copy, lambda contract: contract.update(control_hz=100.0))
    with pytest.raises(MotionloomError, match="100 Hz"):
        open_bundle(bundle_copy)


@pytest.mark.parametrize(
    ("name", "number"),
    [("kp", 3000.0), ("kd", 200.0), ("effort", 880.0), ("default", 9.0), ("action_scale", 50.0)],
)
def test_a_policy_that_would_drive_the_robot_too_hard_is_refused(bundle_copy, name, number):
    resealed(bundle_copy, lambda contract: contract[name].__setitem__(3, number))
    with pytest.raises(MotionloomError, match="of left_knee_joint is"):
        open_bundle(bundle_copy)


def test_a_model_must_say_the_same_as_its_bundle(bundle_copy):
    resealed(bundle_copy, lambda contract: contract["kp"].__setitem__(0, 250.0))
    with pytest.raises(MotionloomError, match="joint_stiffness"):
        open_bundle(bundle_copy).policy()


def test_an_observation_of_another_meaning_is_refused(bundle_copy):
    def other(facts: dict[str, Any]) -> None:
        facts["contract"]["observation"]["version"] = 2

    change(bundle_copy, other)
    with pytest.raises(MotionloomError, match="observation of version 2"):
        open_bundle(bundle_copy)


def test_a_file_elsewhere_is_never_read(bundle_copy):
    change(bundle_copy, lambda facts: facts["files"].update({"../secret.onnx": "0" * 64}))
    with pytest.raises(MotionloomError, match=r"\.\./secret\.onnx"):
        open_bundle(bundle_copy)


def test_a_precision_that_is_not_there_is_named(exported):
    with pytest.raises(MotionloomError, match=r"float16.*float32, int8"):
        open_bundle(exported).policy("float16")


@pytest.mark.parametrize("name", [*STEPS.values(), "window.onnx"])
def test_a_model_that_lost_its_folder_still_says_what_it_is(exported, name):
    said = open_session(exported / name, name).get_modelmeta().custom_metadata_map
    assert {key: said[key] for key in about(CONTRACT, WINDOW)} == about(CONTRACT, WINDOW)
    assert said["joint_names"].split(",") == list(CONTRACT.joint_names)
    np.testing.assert_array_equal([float(x) for x in said["joint_stiffness"].split(",")], CONTRACT.gains.kp)
    assert float(said["control_period_s"]) == 0.02
    assert said["precision"] == ("int8" if "int8" in name else "float32")


def test_a_policy_runs_without_torch_and_what_trains_it(exported):
    program = f"""
import sys
for name in ("torch", "onnx", "onnxscript", "warp", "trainer", "retarget", "hme", "pipelines"):
    sys.modules[name] = None
from pathlib import Path
import numpy as np
from deploy.bundle import open_bundle
policy = open_bundle(Path({str(exported)!r})).policy("int8")
assert np.isfinite(policy.act(np.zeros(7, np.float32))).all()
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])


@pytest.mark.parametrize("name", [PROBE, "step.onnx"])
@pytest.mark.parametrize("content", [b"", b"x" * 100, None])
def test_what_is_no_model_is_refused_even_where_its_checksum_fits(bundle_copy, name, content):
    path = bundle_copy / name
    path.write_bytes(path.read_bytes()[:-200] if content is None else content)
    change(bundle_copy, lambda facts: facts["files"].update({name: hashlib.sha256(path.read_bytes()).hexdigest()}))
    with pytest.raises(MotionloomError, match=name):
        open_bundle(bundle_copy).policy()
