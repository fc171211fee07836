"""A student on the robot: one observation in, one action out, each control period, by ONNX Runtime on one thread.

    policy = open_bundle(folder).policy("int8")
    action = policy.act(observation)        # (29,), in the contract's units; the same memory each time
    policy.forget()                         # the next frame begins an episode

What it remembers lies in a ring here, in the memory that the model reads: a step writes one key and one value per layer in the
place of the oldest, and copies nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float32

from corpus.errors import MotionloomError
from deploy.bundle import STEP_INPUTS, STEP_OUTPUTS
from deploy.contract import Contract
from deploy.session import open_session, refusals

KINDS = {"float32": "tensor(float)", "bool": "tensor(bool)", "int64": "tensor(int64)"}


class StepPolicy:
    """A model of one frame, and what it remembers of those before."""

    def __init__(self, model: bytes, contract: Contract, window: int, *, name: str = "The model"):
        self.contract, self.window, self.name = contract, window, name
        self._session = open_session(model, name)
        self._buffers = _buffers(self._session, contract, window, name)
        self._observation, self._action = self._buffers["observation"][0], self._buffers["action"][0]
        self._binding = _bound(self._session, self._buffers)
        self._refusals = refusals()
        self._place = 0
        self.forget()

    @property
    def metadata(self) -> Mapping[str, str]:
        """What the model says of itself."""
        return self._session.get_modelmeta().custom_metadata_map

    @property
    def position(self) -> int:
        """Frames since the episode began."""
        return int(self._buffers["position"][0])

    def act(self, observation: Float32[np.ndarray, " D"]) -> Float32[np.ndarray, " A"]:
        """The action of the next frame, until the next call. Where it raises, the frame was not taken up."""
        if observation.shape != self._observation.shape:
            raise MotionloomError(
                f"An observation should be {self._observation.shape[0]} numbers, not of shape {observation.shape}."
            )
        self._observation[:] = observation
        if not np.isfinite(self._observation).all():
            wrong = np.flatnonzero(~np.isfinite(self._observation))
            raise MotionloomError(f"The observation is not finite at {wrong[:5].tolist()} ({len(wrong)} places).")
        try:
            self._session.run_with_iobinding(self._binding)
        except self._refusals as error:
            raise MotionloomError(f"{self.name} cannot be run: {' '.join(str(error).split())}") from None
        if not np.isfinite(self._action).all():
            raise MotionloomError(f"{self.name} answered by what is no number.")
        self._remember()
        return self._action

    def forget(self) -> None:
        """Begin anew with the next frame."""
        for name in ("keys", "values", "seen", "position"):
            self._buffers[name].fill(0)
        self._place = 0

    def skip_to(self, position: int) -> None:
        """Count on from there; only distances matter, so that actions stay the same but for rounding."""
        if np.any(self._buffers["seen"]):
            raise MotionloomError("Only a policy that has just forgotten can count from elsewhere.")
        self._buffers["position"][0] = position

    def relative_error(self, frames: Float32[np.ndarray, "T D"], answers: Float32[np.ndarray, "T A"]) -> float:
        """‖own − answers‖ / ‖answers‖ over an episode of these frames; forgets before and after."""
        self.forget()
        own = np.stack([self.act(frame).copy() for frame in frames])
        self.forget()
        return float(np.linalg.norm(own - answers) / max(float(np.linalg.norm(answers)), 1e-12))

    def _remember(self) -> None:
        buffers, place = self._buffers, self._place
        buffers["keys"][:, :, :, place] = buffers["new_keys"]
        buffers["values"][:, :, :, place] = buffers["new_values"]
        buffers["seen"][0, place] = True
        buffers["position"] += 1
        self._place = (place + 1) % (self.window - 1)


def _buffers(session: Any, contract: Contract, window: int, name: str) -> dict[str, np.ndarray]:
    """Memory for all inputs and outputs; raises `MotionloomError` where the model's are not as they should be."""
    found = {each.name: each for each in (*session.get_inputs(), *session.get_outputs())}
    if set(found) != {*STEP_INPUTS, *STEP_OUTPUTS} or len(session.get_inputs()) != len(STEP_INPUTS):
        raise MotionloomError(f"{name} has {', '.join(found)}; expected {', '.join((*STEP_INPUTS, *STEP_OUTPUTS))}.")
    shape = found["keys"].shape
    if len(shape) != 5 or not all(isinstance(size, int) and size > 0 for size in shape):
        raise MotionloomError(f"{name}: keys have shape {shape}, expected five fixed sizes.")
    layers, _, heads, _, channels = shape
    ring, new = (layers, 1, heads, window - 1, channels), (layers, 1, heads, channels)
    expected = {
        "observation": ((1, contract.observation.size), "float32"),
        "keys": (ring, "float32"),
        "values": (ring, "float32"),
        "seen": ((1, window - 1), "bool"),
        "position": ((1,), "int64"),
        "action": ((1, len(contract.joint_names)), "float32"),
        "new_keys": (new, "float32"),
        "new_values": (new, "float32"),
    }
    for key, (size, kind) in expected.items():
        if tuple(found[key].shape) != size or found[key].type != KINDS[kind]:
            raise MotionloomError(f"{name}: {key} is {found[key].type} {found[key].shape}, expected {kind} {size}.")
    return {key: np.zeros(size, kind) for key, (size, kind) in expected.items()}


def _bound(session: Any, buffers: Mapping[str, np.ndarray]) -> Any:
    """The session reads and writes this memory, so that nothing is copied or made anew."""
    binding = session.io_binding()
    for names, bind in ((STEP_INPUTS, binding.bind_input), (STEP_OUTPUTS, binding.bind_output)):
        for name in names:
            buffer = buffers[name]
            bind(name, "cpu", 0, buffer.dtype, buffer.shape, buffer.ctypes.data)
    return binding
