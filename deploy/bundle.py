"""A policy bundle: the folder that a robot needs to run a student, checked before anything of it is used.

    bundle = open_bundle(Path("bundle"))
    policy = bundle.policy("int8")              # deploy.policy.StepPolicy

    bundle.json       contract, window, shape, checksums, where it comes from, how near it was to the student
    step.onnx         one frame, float32
    step-int8.onnx    one frame, int8 weights
    window.onnx       many frames at once without a state, for other runtimes
    probe.npz         frames and the student's answers, by which each policy tests itself before its first real frame

What is missing, damaged, changed, of another version or made for another robot is refused. Each model also says in its own
metadata what it is, so that one that has lost its folder can still be told; `bundle.json` and the models must agree.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from corpus.durable import load_arrays
from corpus.errors import MotionloomError
from corpus.g1 import G1
from deploy.contract import CONTROL_HZ, Contract

if TYPE_CHECKING:
    from deploy.policy import StepPolicy

VERSION = 1
"""Of the folder and of the graphs' inputs and outputs."""
BUNDLE, WINDOW, PROBE = "bundle.json", "window.onnx", "probe.npz"
STEPS = {"float32": "step.onnx", "int8": "step-int8.onnx"}
"""Precision → the model of one frame."""
STEP_INPUTS = ("observation", "keys", "values", "seen", "position")
STEP_OUTPUTS = ("action", "new_keys", "new_values")
PROBE_LIMITS = {"float32": 1e-3, "int8": 0.05}
"""Relative error over the probe's frames that a policy may have on the machine at hand; another processor rounds otherwise."""
_LARGEST_JSON = 1 << 20
MOST_KP, MOST_KD = 300.0, 15.0
"""Stiffer [N·m/rad, N·m·s/rad] no controller of the G1 that we know of drives any joint."""


@dataclass(frozen=True, eq=False)
class PolicyBundle:
    """An opened bundle."""

    folder: Path
    contract: Contract
    window: int
    """Frames that a layer sees, the newest included."""
    sums: Mapping[str, str]
    """File name → sha256."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """All that bundle.json says."""

    @property
    def precisions(self) -> tuple[str, ...]:
        return tuple(name for name, file in STEPS.items() if file in self.sums)

    def policy(self, precision: str = "float32") -> StepPolicy:
        """The policy, tested on this machine by the probe; raises `MotionloomError` where it answers otherwise than the student did."""
        from deploy.policy import StepPolicy

        if precision not in self.precisions:
            raise MotionloomError(f"{self.folder} has no {precision!r}. There are: {', '.join(self.precisions)}.")
        name = STEPS[precision]
        content = _checked(self.folder / name, self.sums[name])
        policy = StepPolicy(content, self.contract, self.window, name=str(self.folder / name))
        check_metadata(policy.metadata, about(self.contract, self.window), self.folder / name)
        frames, answers = read_probe(self.folder / PROBE, self.contract)
        error = policy.relative_error(frames, answers)
        if not error <= PROBE_LIMITS[precision]:
            raise MotionloomError(
                f"{self.folder / name}: on this machine its answers are {error:.2g} off the student's, as a share; "
                f"{PROBE_LIMITS[precision]} is the most. Take another precision, or another onnxruntime."
            )
        return policy


def open_bundle(folder: Path) -> PolicyBundle:
    """The bundle in a folder, all of its files checked; raises `MotionloomError` with what is wrong."""
    facts = _read_facts(folder / BUNDLE)
    try:
        contract, window, sums = Contract.from_json(facts["contract"]), facts["window"], dict(facts["files"])
        told = facts["contract_hash"]
    except (KeyError, TypeError, ValueError) as error:
        raise MotionloomError(f"{folder / BUNDLE} is damaged ({error!r}).") from None
    except MotionloomError as error:
        raise MotionloomError(f"{folder / BUNDLE}: {error}") from None
    if told != contract.hash:
        raise MotionloomError(f"{folder / BUNDLE}: the contract's hash is {contract.hash}, the file says {told}.")
    if type(window) is not int or window < 2:
        raise MotionloomError(f"{folder / BUNDLE}: window is {window!r}, should be 2 frames or more.")
    check_robot(contract, folder)
    known = {*STEPS.values(), WINDOW, PROBE}
    if not {WINDOW, PROBE} <= set(sums) <= known or not set(sums) & set(STEPS.values()):
        raise MotionloomError(
            f"{folder / BUNDLE} lists {', '.join(sorted(sums))}; known are {', '.join(sorted(known))}."
        )
    for name, expected in sums.items():
        _checked(folder / name, expected)
    return PolicyBundle(folder, contract, window, sums, facts)


def check_robot(contract: Contract, folder: Path) -> None:
    """Refuse a contract of another robot, of another rate, or of other strength, than this program drives."""
    if contract.joint_names != G1.joint_names:
        pairs = zip(contract.joint_names, G1.joint_names, strict=False)
        other = next((f"{a} in place of {b}" for a, b in pairs if a != b), f"{len(contract.joint_names)} joints")
        raise MotionloomError(f"{folder} is made for other joints than the G1's {G1.joint_count}: {other}.")
    if contract.control_hz != CONTROL_HZ:
        raise MotionloomError(
            f"{folder} is made for {contract.control_hz:g} Hz; the controller runs at {CONTROL_HZ:g} Hz."
        )
    for what, numbers, low, high in _bounds(contract):
        wrong = np.flatnonzero((numbers < low) | (numbers > high))
        if wrong.size:
            joint, most = G1.joint_names[wrong[0]], np.broadcast_to(high, numbers.shape)[wrong[0]]
            raise MotionloomError(
                f"{folder}: {what} of {joint} is {numbers[wrong[0]]:g}; what the G1 is driven with goes up to {most:g}."
            )


def _bounds(contract: Contract) -> tuple[tuple[str, np.ndarray, Any, Any], ...]:
    """Numbers of a contract that move the robot, with the least and the most of each joint."""
    gains, reach = contract.gains, G1.upper - G1.lower
    return (
        ("kp", gains.kp, 0, MOST_KP),
        ("kd", gains.kd, 0, MOST_KD),
        ("effort", gains.effort, 0, 1.001 * G1.effort_limit),
        ("the default angle", contract.default, G1.lower, G1.upper),
        ("the action's scale", contract.action_scale, 0, reach),
    )


def about(contract: Contract, window: int) -> dict[str, str]:
    """What each model says of itself. The first names are those of other deployers (BeyondMimic, mjlab), lists with commas."""
    spec, gains = contract.observation, contract.gains
    lists = {
        "joint_names": contract.joint_names,
        "joint_stiffness": gains.kp,
        "joint_damping": gains.kd,
        "default_joint_pos": contract.default,
        "action_scale": contract.action_scale,
        "observation_names": (*spec.robot, *spec.reference),
        "joint_armature": gains.armature,
        "joint_effort": gains.effort,
    }
    own = {
        "motionloom_version": VERSION,
        "action": contract.action,
        "window": window,
        "control_period_s": 1 / contract.control_hz,
        "observation_hash": spec.hash,
        "contract_hash": contract.hash,
        "contract": json.dumps(contract.to_json(), sort_keys=True),
    }
    texts = {name: ",".join(x if isinstance(x, str) else repr(float(x)) for x in row) for name, row in lists.items()}
    return texts | {name: str(value) for name, value in own.items()}


def check_metadata(found: Mapping[str, str], expected: Mapping[str, str], path: Path) -> None:
    """Refuse a model that says otherwise than its bundle."""
    for name, value in expected.items():
        if found.get(name) != value:
            there = "does not say" if name not in found else f"has {found[name][:60]!r} as"
            raise MotionloomError(f"{path} {there} its {name}; the bundle has {value[:60]!r}.")


def read_probe(path: Path, contract: Contract) -> tuple[np.ndarray, np.ndarray]:
    """Observations (T, D) and the student's actions (T, A)."""
    try:
        arrays = load_arrays(path)
        frames, answers = arrays["observation"], arrays["action"]
    except (OSError, KeyError, ValueError) as error:
        raise MotionloomError(f"{path} is damaged ({error!r}).") from None
    sizes = (len(frames), contract.observation.size), (len(frames), len(contract.joint_names))
    if (frames.shape, answers.shape) != sizes or not len(frames) or not np.isfinite(answers).all():
        raise MotionloomError(f"{path}: shapes are {frames.shape}, {answers.shape}; expected {sizes[0]}, {sizes[1]}.")
    return frames, answers


def hash_of(facts: Mapping[str, Any]) -> str:
    """Of all that bundle.json says, but for this hash itself."""
    told = {name: value for name, value in facts.items() if name != "hash"}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _read_facts(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_JSON + 1)
        if len(content) > _LARGEST_JSON:
            raise ValueError(f"more than {_LARGEST_JSON} bytes")
        facts = json.loads(content)
        version = facts["version"]
    except OSError as error:
        raise MotionloomError(f"{path.parent} is no policy bundle ({error}). `loom deploy export` makes one.") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise MotionloomError(f"{path} is damaged ({error!r}).") from None
    if version != VERSION:
        raise MotionloomError(f"{path} is of version {version!r}; this program reads {VERSION}. Export the run again.")
    if facts.get("hash") != hash_of(facts):
        raise MotionloomError(f"{path} was changed after the export, or is damaged: its hash does not fit.")
    return facts


def _checked(path: Path, expected: Any) -> bytes:
    """A file's content; what is checked is what is used."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise MotionloomError(f"{path} is missing from its bundle ({error}).") from None
    if hashlib.sha256(content).hexdigest() != expected:
        raise MotionloomError(f"{path} was changed after the export, or is damaged: its sha256 does not fit.")
    return content
