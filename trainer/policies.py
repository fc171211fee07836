"""What every policy is to referee and trainers, and the plainest one: replaying the reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, Int

from deploy.contract import Contract
from deploy.observation import Reference, RobotState
from trainer.env import View


class Policy(Protocol):
    """Acts for N robots at once; may remember each one's past until it is told to forget it."""

    name: str
    contract: Contract

    def forget(self, envs: Int[np.ndarray, " R"]) -> None:
        """These robots begin anew."""
        ...

    def act(self, view: Any) -> Float[np.ndarray, "N J"]:
        """Actions in the contract's units, without noise of exploration."""
        ...


@dataclass(frozen=True)
class Sight(View):
    """What the referee shows: a view, and for trackers that make their own observation what it was made of."""

    state: RobotState
    """As measured, noise included."""
    qpos: Float[np.ndarray, "N 7+J"]
    """As it is, which no robot knows."""
    qvel: Float[np.ndarray, "N 6+J"]
    future: Callable[[Sequence[int]], Reference]
    """The reference at frames counted from now; past the segment's end its last one, speeds included."""


class PdReplay:
    """The baseline that learns nothing: PD targets are the joint angles of the reference's next frame."""

    name = "pd_replay"

    def __init__(self, contract: Contract = Contract()):
        self.contract = contract

    def forget(self, envs: Int[np.ndarray, " R"]) -> None:
        pass

    def act(self, view: View) -> Float[np.ndarray, "N J"]:
        return self.contract.action_of(view.reference_joints, view.reference_joints)
