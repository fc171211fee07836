"""What the checks of `deploy.safety` look at, what they allow, and what they find."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from deploy.link import Received
from deploy.reference import Preview


@dataclass(frozen=True)
class Limits:
    """Beyond these a run ends; the defaults are meant for a first run, and let all that a G1 does standing on its feet through."""

    stale_state_s: float = 0.06
    """The newest state may be this old [s]: three control periods."""
    frozen_tick_s: float = 0.1
    """The robot's own clock may stand still so long although messages come [s]."""
    most_refused: int = 3
    """So many messages may be refused (CRC, length, NaN) within a second."""
    lean: float = 0.8
    """Angle between the robot's and the reference's direction of gravity, each seen from its pelvis [rad]."""
    turn: float = 6.0
    """Angular velocity of the pelvis [rad/s] beyond the reference's own."""
    joint_margin: float = 0.15
    """Measured angles may lie outside the joints' range by so much [rad]."""
    joint_speed: float = 1.5
    """Measured speeds, as a share of what the joints can."""
    far_joints: float = 0.7
    """Mean distance of the joints from the reference [rad]."""
    temperature: float = 85.0
    """Of the hottest motor [°C]."""
    late_periods: int = 3
    """So many control periods one after another may be late."""
    late_s: float = 0.1
    """Those that are late may be so by this together [s]: so a policy that hangs is noticed by the next period, and one that is always
    too slow within 200 ms."""
    stale_reference_s: float = 0.1
    """A live reference may stay away so long [s] before the robot goes to a stand."""
    reference_speed: float = 2.0
    """How fast a reference's joints may move from one frame to the next, as a share of what the joints can."""
    reference_turn: float = 15.0
    """How fast a reference's root may turn from one frame to the next [rad/s]."""
    reference_height: tuple[float, float] = (0.02, 1.6)
    """Between these the reference's root must lie [m]."""
    target_speed: float = 40.0
    """How fast a joint's target may move [rad/s]; clamped, no fault."""
    soft_range: float = 0.98
    """Share of each joint's range that targets may use; clamped, no fault."""


@dataclass(frozen=True, eq=False)
class Situation:
    """All that checks look at, in one control period."""

    now_s: float
    mode: str
    """`deploy.modes.MODES`"""
    received: Received | None
    refused: int = 0
    """Messages refused within the last second."""
    tick_age_s: float = 0.0
    """Since the robot's own clock last moved."""
    tick_back_ms: int = 0
    """By how much the robot's own clock has gone back since the control period before."""
    machine: int | None = None
    """Which machine the robot has to say it is: the expected one, or what it said first."""
    late_s: float = 0.0
    """How much later control periods have begun than they should, added up since one came in time."""
    late_count: int = 0
    """How many in a row were late."""
    reference: Preview | None = None
    """As the policy sees it now; None where none is followed."""
    reference_before: Float[np.ndarray, " 36"] | None = None
    """The reference's frame for now, as of the control period before."""
    period_s: float = 0.02


@dataclass(frozen=True)
class Fault:
    """Something that may not be, and where it leads."""

    name: str
    text: str
    """With the numbers."""
    leads_to: str = "damping"
    """"damping", or "settle": the policy brings the robot to a stand."""
    numbers: dict[str, float] = field(default_factory=dict)
