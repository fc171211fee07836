"""The JSON file that describes somebody's tracker in ONNX: what it sees, what its output means, its gains.

{
  "name": "beyondmimic", "model": "policy.onnx",            the file, beside this one
  "joints": "isaaclab",                                     or "mujoco", or all 29 names in the model's order
  "observation": [
    {"term": "reference_joint_position", "frames": [0]},    out of trainer/onnx_terms.py; frames counted from now
    {"term": "joint_offset", "scale": 1.0},                 a number, or one for each entry of the term
    {"term": "angular_velocity", "history": 4}              the last four, oldest first; at the start the first one stands
  ],
  "action": {"kind": "absolute", "scale": […], "default": […]},      target = default (or the reference) + scale · output
  "gains": {"kp": […], "kd": […], "effort": […], "armature": […]},   without them: motionloom's own
  "anchor": "torso_link", "input": "obs", "output": "actions",       where the model has several
  "constants": {"time_step": [[0.0]]},                      what else it wants to be fed, always the same
  "sequence": 32                                            the input is (robots, 32, size): that many whole observations, oldest first
}

Lists of joints are in the model's order, everything is in radians, metres and seconds; a default that is not given is zero.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from corpus.errors import MotionloomError
from corpus.g1 import G1, MUJOCO_TO_ISAACLAB
from deploy.contract import ACTIONS, GAINS, Contract, Gains
from deploy.observation import ObservationSpec
from trainer.onnx_terms import ANCHORS, ROBOT_TERMS, TERMS

KEYS = {
    "name", "model", "joints", "observation", "action", "gains", "anchor", "input", "output", "constants", "sequence",
}  # fmt: skip
MOST_FRAMES = 3000
"""A minute of past, or of the reference, is the most that a tracker can ask for."""
GAIN_NAMES = ("armature", "kp", "kd", "effort")


@dataclass(frozen=True, eq=False)
class Term:
    """One entry of an observation."""

    name: str
    scale: Float[np.ndarray, "..."]
    frames: tuple[int, ...]
    """Of the reference, counted from now; of a robot's term none."""
    history: int


@dataclass(frozen=True, eq=False)
class TrackerSpec:
    """What the JSON file says, checked; joints in MuJoCo's order."""

    name: str
    model: Path
    order: Int[np.ndarray, " J"]
    """Number in MuJoCo's order of each of the model's joints."""
    terms: tuple[Term, ...]
    contract: Contract
    anchor: int
    sequence: int
    input: str | None = None
    output: str | None = None
    constants: dict[str, Any] = field(default_factory=dict)


def read_spec(path: Path) -> TrackerSpec:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise MotionloomError(f"{path} is no tracker's spec ({error}).") from None
    if not isinstance(told, dict):
        raise MotionloomError(f"{path} is no tracker's spec: it should hold one JSON object.")
    if missing := sorted({"model", "joints", "observation", "action"} - set(told)):
        raise MotionloomError(f"{path}: {', '.join(missing)} missing.")
    if unknown := sorted(set(told) - KEYS):
        raise MotionloomError(f"{path}: no such key as {', '.join(unknown)}. Known: {', '.join(sorted(KEYS))}.")
    try:
        return _spec(path, told)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise MotionloomError(f"{path}: not as a spec should be ({error!r}).") from None
    except MotionloomError as error:
        raise MotionloomError(f"{path}: {error}") from None


def _spec(path: Path, told: dict[str, Any]) -> TrackerSpec:
    order = _order(told["joints"])
    terms = tuple(_term(entry) for entry in told["observation"])
    if not terms:
        raise MotionloomError("observation is empty: it should name at least one term.")
    anchor = told.get("anchor", "torso_link")
    if anchor not in ANCHORS:
        raise MotionloomError(f"no anchor {anchor!r}. Known: {', '.join(ANCHORS)}.")
    sequence = int(told.get("sequence", 0))
    if not 0 <= sequence <= MOST_FRAMES:
        raise MotionloomError(f"sequence {sequence}: should be from 0 (none) to {MOST_FRAMES}.")
    return TrackerSpec(
        name=str(told.get("name", path.stem)),
        model=path.parent / told["model"],
        order=order,
        terms=terms,
        contract=_contract(told, terms, order),
        anchor=ANCHORS.index(anchor),
        sequence=sequence,
        input=told.get("input"),
        output=told.get("output"),
        constants=dict(told.get("constants", {})),
    )


def _order(joints: str | list[str]) -> Int[np.ndarray, " J"]:
    if joints == "mujoco":
        return np.arange(G1.joint_count)
    if joints == "isaaclab":
        return np.argsort(MUJOCO_TO_ISAACLAB)
    if isinstance(joints, str):
        raise MotionloomError(f"no order of joints {joints!r}. Known: mujoco, isaaclab, or a list of names.")
    missing, unknown = sorted(set(G1.joint_names) - set(joints)), sorted(set(joints) - set(G1.joint_names))
    if missing or unknown or len(joints) != G1.joint_count:
        raise MotionloomError(
            f"joints should be all {G1.joint_count} once: missing {', '.join(missing) or 'none'}; unknown {', '.join(unknown) or 'none'}."
        )
    return np.array([G1.joint_names.index(name) for name in joints])


def _term(entry: dict[str, Any]) -> Term:
    name = entry["term"]
    if name not in TERMS:
        raise MotionloomError(f"no term {name!r}. Known: {', '.join(TERMS)}.")
    if unknown := sorted(set(entry) - {"term", "scale", "frames", "history"}):
        raise MotionloomError(f"{name}: no such key as {', '.join(unknown)}. Known: term, scale, frames, history.")
    if "frames" in entry and name in ROBOT_TERMS:
        raise MotionloomError(f"{name} is of the robot, whose future nobody sees: take `history` in place of `frames`.")
    history, frames = int(entry.get("history", 1)), tuple(int(frame) for frame in entry.get("frames", [0]))
    if not 1 <= history <= MOST_FRAMES or not frames or max(map(abs, frames)) > MOST_FRAMES:
        raise MotionloomError(
            f"{name}: history should be from 1 to {MOST_FRAMES}, frames some within {MOST_FRAMES} of now; got {history} and "
            f"{list(frames)[:10]}."
        )
    return Term(name, np.array(entry.get("scale", 1.0), float), frames, history)


def _contract(told: dict[str, Any], terms: tuple[Term, ...], order: Int[np.ndarray, " J"]) -> Contract:
    """Its own observation is another one; the contract's frames say how far ahead it looks."""
    action, gains = told["action"], told.get("gains")
    if action.get("kind") not in ACTIONS:
        raise MotionloomError(f"action: no kind {action.get('kind')!r}. Known: {', '.join(ACTIONS)}.")
    found = GAINS
    if gains is not None:
        if lacking := [name for name in GAIN_NAMES if name not in gains]:
            raise MotionloomError(
                f"gains: {', '.join(lacking)} missing; all of {', '.join(GAIN_NAMES)} should be there."
            )
        found = Gains(*(_joints(f"gains: {name}", gains[name], order) for name in GAIN_NAMES))
    seen = {frame for term in terms for frame in term.frames if frame >= 0}
    return Contract(
        observation=ObservationSpec(frames=tuple(sorted({1, *seen}))),
        default=_joints("action: default", action.get("default", 0.0), order),
        gains=found,
        action_scale=_joints("action: scale", action.get("scale", 1.0), order),
        action=action["kind"],
    )


def _joints(what: str, values: Any, order: Int[np.ndarray, " J"]) -> Float[np.ndarray, " J"]:
    """A number for all joints, or a list in the model's order, brought into MuJoCo's."""
    given = np.array(values, float)
    if given.shape not in ((), (len(order),)):
        raise MotionloomError(f"{what} should be a number or {len(order)} of them; got shape {given.shape}.")
    result = np.empty(len(order))
    result[order] = given
    return result
