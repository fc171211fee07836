"""The controller's side of the wire, whatever it is made of: DDS to a robot or a simulator, or a robot within the same process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from deploy.messages import LowCmd, LowState


@dataclass(frozen=True)
class Received:
    """The newest state there is."""

    state: LowState
    arrived_s: float
    """When it came [s], on the clock of `time.monotonic`."""


class Link(Protocol):
    def read(self) -> Received | None:
        """The newest whole state, also where it was read before; None before the first. Never waits."""
        ...

    @property
    def refused(self) -> Mapping[str, int]:
        """How many messages were thrown away since the start, by reason: crc, length, not_finite."""
        ...

    def write(self, command: LowCmd) -> None:
        """Send it now."""
        ...

    def close(self) -> None: ...
