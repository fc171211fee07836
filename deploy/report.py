"""What a controller is given besides robot and reference, a policy and a journal, and what it tells of each control period."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float, Float32

from deploy.contract import Contract
from deploy.log import Step
from deploy.messages import LowCmd, LowState
from deploy.modes import Modes
from deploy.reference import Preview
from deploy.situation import Fault


class Policy(Protocol):
    contract: Contract

    def act(self, observation: Float32[np.ndarray, " D"]) -> Float32[np.ndarray, " J"]: ...

    def forget(self) -> None: ...


@dataclass(frozen=True)
class Report:
    """What a control period came to."""

    modes: Modes
    faults: list[Fault]
    status: str
    """Of the reference: `deploy.reference.STATUSES`, or "" where none is followed."""
    ended: bool
    """The motion has been followed to its end."""
    command: LowCmd
    stages: dict[str, float]
    """How long each took [s]."""
    state: LowState | None = None
    reference: Preview | None = None
    action: Float[np.ndarray, " J"] | None = None


class Journal(Protocol):
    """Keeps what happens: `deploy.log.RunLog`."""

    def add(self, step: Step) -> None: ...

    def event(self, now_s: float, name: str, /, **numbers: object) -> None: ...
