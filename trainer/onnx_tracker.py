"""Any tracker in ONNX as a policy for the referee; a small JSON file (`trainer.onnx_spec`) says what it sees and means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from corpus.errors import MotionloomError
from corpus.g1 import G1
from deploy.session import open_session, refusals
from trainer.onnx_spec import Term, TrackerSpec, read_spec
from trainer.onnx_terms import REFERENCE_TERMS, ROBOT_TERMS, Seen
from trainer.policies import Sight


class OnnxTracker:
    """A policy that remembers, for each robot, its last output and as much of the past as its observation asks for."""

    def __init__(self, spec: TrackerSpec):
        self.spec, self.name, self.contract = spec, spec.name, spec.contract
        self._model = OnnxModel(spec)
        self._past: dict[int, np.ndarray] = {}
        self._last = np.zeros((0, G1.joint_count), np.float32)
        self._begin: Int[np.ndarray, " R"] = np.zeros(0, np.int64)

    def forget(self, envs: Int[np.ndarray, " R"]) -> None:
        self._begin = np.union1d(self._begin, envs)

    def act(self, view: Sight) -> Float[np.ndarray, "N J"]:
        count = len(view.qpos)
        if len(self._last) != count:
            self._past, self._last = {}, np.zeros((count, G1.joint_count), np.float32)
        self._last[self._begin] = 0
        self._last = self._model.run(self._observe(view))
        self._begin = self._begin[:0]
        action = np.empty_like(self._last)
        action[:, self.spec.order] = self._last
        return action

    def _observe(self, view: Sight) -> Float[np.ndarray, "N D"] | Float[np.ndarray, "N K D"]:
        parts = [self._remember(i, self._term(term, view), term.history) for i, term in enumerate(self.spec.terms)]
        now = np.concatenate([part.reshape(len(part), -1) for part in parts], 1, dtype=np.float32)
        return self._remember(-1, now, self.spec.sequence) if self.spec.sequence else now

    def _term(self, term: Term, view: Sight) -> Float[np.ndarray, "N W"]:
        spec = self.spec
        reference = view.future(term.frames)
        seen = Seen(view, reference, self._last, spec.order, spec.contract.default, spec.anchor)
        make = ROBOT_TERMS.get(term.name) or REFERENCE_TERMS[term.name]
        value = make(seen)
        if term.scale.ndim and len(term.scale) != value.shape[-1]:
            raise MotionloomError(
                f"{self.name}: {term.name} has {value.shape[-1]} numbers, its scale {len(term.scale)}."
            )
        return (value * term.scale).reshape(len(value), -1)

    def _remember(self, key: int, now: Float[np.ndarray, "N W"], length: int) -> Float[np.ndarray, "N H W"]:
        """The last `length` values, oldest first; of robots that begin, the first one stands for those before."""
        past = self._past.get(key)
        begun = np.repeat(now[:, None], length, 1)
        if past is None:
            past = begun
        else:
            past = np.concatenate([past[:, 1:], now[:, None]], 1)
            past[self._begin] = begun[self._begin]
        self._past[key] = past
        return past


class OnnxModel:
    """A model of one input and one output on one thread; a model of batches of one is run robot by robot."""

    def __init__(self, spec: TrackerSpec):
        self.spec = spec
        self._session = _session(spec.model)
        inputs = {found.name: found.shape for found in self._session.get_inputs()}
        outputs = {found.name: found.shape for found in self._session.get_outputs()}
        self._input = _choose(spec.input, [n for n in inputs if n not in spec.constants], spec.model, "input")
        self._output = _choose(spec.output, list(outputs), spec.model, "output")
        kinds = {found.name: found.type for found in self._session.get_inputs()}
        self._constants = {name: _constant(spec, name, value, kinds) for name, value in spec.constants.items()}
        if fed := set(inputs) ^ {self._input, *self._constants}:
            raise MotionloomError(
                f"{spec.model}: inputs are {', '.join(inputs)}; {', '.join(sorted(fed))} should be in both the model and the "
                "spec (`input` or `constants`)."
            )
        if kinds[self._input] != "tensor(float)":
            raise MotionloomError(f"{spec.model}: {self._input} is {kinds[self._input]}, expected tensor(float).")
        self._shape = inputs[self._input]
        rank = 3 if spec.sequence else 2
        if len(self._shape) != rank:
            raise MotionloomError(
                f"{spec.model}: {self._input} has shape {self._shape}, expected {rank} axes; `sequence` is for (robots, frames, size)."
            )
        width = outputs[self._output][-1] if outputs[self._output] else 1
        if isinstance(width, int) and width != G1.joint_count:
            raise MotionloomError(
                f"{spec.model}: {self._output} has {width} numbers, expected {G1.joint_count}, one per joint."
            )

    def run(self, observation: Float[np.ndarray, "N ..."]) -> Float[np.ndarray, "N J"]:
        wrong = [
            a for a, b in zip(self._shape[1:], observation.shape[1:], strict=True) if isinstance(a, int) and a != b
        ]
        if wrong:
            raise MotionloomError(
                f"{self.spec.model}: {self._input} takes {self._shape}, the spec's terms make {observation.shape[-1]} numbers."
            )
        single = self._shape[0] == 1
        batches = observation[:, None] if single else [observation]
        try:
            rows = [self._session.run([self._output], {self._input: one, **self._constants})[0] for one in batches]
            result = np.concatenate(rows).reshape(len(observation), -1).astype(np.float32)
        except refusals() as error:
            raise MotionloomError(f"{self.spec.model} cannot be run: {' '.join(str(error).split())}") from None
        if result.shape[1] != G1.joint_count:
            raise MotionloomError(
                f"{self.spec.model}: {self._output} gave {result.shape[1]} numbers per robot, expected 29."
            )
        return result


def load_tracker(path: Path) -> OnnxTracker:
    """The tracker that a spec file describes; raises `MotionloomError` where file and model do not fit."""
    return OnnxTracker(read_spec(path))


def _choose(named: str | None, known: list[str], model: Path, what: str) -> str:
    if named is None and len(known) != 1:
        raise MotionloomError(f"{model} has the {what}s {', '.join(known)}: the spec's `{what}` should name one.")
    if named is not None and named not in known:
        raise MotionloomError(f"{model} has no {what} {named!r}. Known: {', '.join(known)}.")
    return named or known[0]


def _constant(spec: TrackerSpec, name: str, value: Any, kinds: dict[str, str]) -> np.ndarray:
    """As the model's input of that name takes it."""
    kind = KINDS.get(kinds.get(name, "tensor(float)"))
    try:
        if kind is None:
            raise ValueError(f"the model takes {kinds[name]} there; known are {', '.join(KINDS)}")
        return np.array(value, kind)
    except (OverflowError, TypeError, ValueError) as error:
        raise MotionloomError(f"{spec.name}: the constant {name!r} cannot be fed ({error}).") from None


KINDS = {
    "tensor(float)": "f4",
    "tensor(double)": "f8",
    "tensor(int64)": "i8",
    "tensor(int32)": "i4",
    "tensor(bool)": "?",
}


def _session(model: Path) -> Any:
    if not model.is_file():
        raise MotionloomError(f"{model}: there is no such model.")
    return open_session(model, str(model))
