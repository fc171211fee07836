"""The student as a policy, for rollouts and the referee: it acts on what it sees now and remembers of before.

student = load_student(Path("runs/student"))
action = student.act(view)      # (N, 29), in the contract's units; one call a control period, for all environments
student.forget(envs)            # these begin anew
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int

from corpus.errors import MotionloomError
from deploy.contract import Contract
from trainer.checkpoint import load_checkpoint, under
from trainer.gpt import Cache, Gpt, GptShape

KIND = "student"


class StudentPolicy:
    """A network, and what it remembers of each environment."""

    name = KIND

    def __init__(self, model: Gpt, contract: Contract):
        self.model, self.contract = model, contract
        self._cache: Cache | None = None

    def forget(self, envs: Int[np.ndarray, " R"]) -> None:
        if self._cache is None or not len(envs):
            return
        if len(np.unique(envs)) == len(self._cache.seen):
            self._cache = None  # counted from 0 again: rounding depends on the place in the ring
        else:
            self._cache.forget(envs)

    def act(self, view: Any) -> Float32[np.ndarray, "N A"]:
        """The next actions. Where another number of environments is shown than before, all of them begin anew."""
        observation = torch.from_numpy(np.ascontiguousarray(view.observation)).to(self.model.normaliser.mean.device)
        if self._cache is None or len(self._cache.seen) != len(observation):
            self._cache = self.model.new_cache(len(observation))
        return self.model.step(observation, self._cache).cpu().numpy()


def policy_facts(model: Gpt, contract: Contract) -> dict[str, Any]:
    """What a checkpoint must say beside the weights, for `load_student`."""
    return {"contract": contract.to_json(), "shape": dataclasses.asdict(model.shape)}


def load_student(folder: Path, name: str | None = None, *, device: str = "cpu") -> StudentPolicy:
    """The student of a run, as of its newest checkpoint or of that `name`."""
    arrays, facts = load_checkpoint(folder, name, kind=KIND)
    try:
        contract, shape = Contract.from_json(facts["contract"]), GptShape(**facts["shape"])
        model = Gpt(contract.observation.size, len(contract.joint_names), shape)
        model.load_state_dict(under("model", arrays))
    except (KeyError, TypeError, RuntimeError) as error:
        raise MotionloomError(f"The checkpoint in {folder} holds no student that fits ({error!r}).") from None
    return StudentPolicy(model.to(device).eval(), contract)
