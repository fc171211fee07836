"""A rope that a simulated robot hangs from at the start, as a real one does: it pulls, never pushes, and lets go smoothly."""

# MuJoCo's package tells a type checker nothing of its classes.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from typing import Any

import numpy as np

LENGTH = 1.0
"""From the anchor to the robot, unloaded [m]."""
LIFT = 0.05
"""How high the soles of a robot in its stance hang over the floor [m]: legs that go limp just about reach it."""
SHOULDERS = 0.3
"""Where the rope is tied: so far over the origin of the torso [m], and over the centre of mass of the stance, so that it hangs upright."""
STIFFNESS = 10000.0
"""[N/m]"""
DAMPING = 400.0
"""Along the rope [N·s/m]."""
SWINGING_DAMPING = 80.0
"""Across the rope, as long as it is taut: somebody holds on to the robot [N·s/m]."""
TURNING_DAMPING = 5.0
"""Of the torso about any axis, as long as the rope is taut [N·m·s/rad]."""
LOWERING = 0.1
"""How fast the rope is let out [m/s]."""
SLACK = 0.15
"""Let out so far, the robot stands on the floor or lies on it, and the rope is taken off [m]."""


class Rope:
    """Tied to the robot's torso, hanging from a fixed point."""

    def __init__(self, model: Any):
        self._torso = model.body("torso_link").id
        self._timestep_s = model.opt.timestep
        self._anchor = self._tie = np.zeros(3)
        self._length = LENGTH
        self._releasing = False
        self.gone = False
        """Has it been taken off?"""

    def hang(self, data: Any) -> None:
        """Lift a robot whose soles are on the floor, and hang it up where it is."""
        import mujoco

        data.qpos[2] += LIFT
        model = data.model
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        knot = np.array([*data.subtree_com[0][:2], data.xpos[self._torso][2] + SHOULDERS])
        self._tie = data.xmat[self._torso].reshape(3, 3).T @ (knot - data.xpos[self._torso])
        stretch = model.body_mass.sum() * np.linalg.norm(model.opt.gravity) / STIFFNESS
        self._anchor = self._tied(data) + [0, 0, LENGTH + stretch]

    def release(self) -> None:
        """Let it out from now on."""
        self._releasing = True

    def pull(self, data: Any) -> None:
        """Put its force on the torso for the next physics step."""
        import mujoco

        data.qfrc_applied[:] = 0
        if self._releasing and not self.gone:
            self._length += LOWERING * self._timestep_s
            self.gone = self._length > LENGTH + SLACK
        if self.gone:
            return
        model, velocity = data.model, np.zeros(6)
        mujoco.mj_objectVelocity(model, data, mujoco.mjtObj.mjOBJ_XBODY, self._torso, velocity, 0)
        turning, tied = velocity[:3], self._tied(data)
        speed = velocity[3:] + np.cross(turning, tied - data.xpos[self._torso])
        away = tied - self._anchor
        length = np.linalg.norm(away)
        along = away / length
        tension = STIFFNESS * (length - self._length) + DAMPING * (speed @ along)
        if length > self._length and tension > 0:
            force = -tension * along - SWINGING_DAMPING * (speed - (speed @ along) * along)
            torque = -TURNING_DAMPING * turning
            mujoco.mj_applyFT(model, data, force, torque, tied, self._torso, data.qfrc_applied)

    def _tied(self, data: Any) -> np.ndarray:
        return data.xpos[self._torso] + data.xmat[self._torso].reshape(3, 3) @ self._tie
