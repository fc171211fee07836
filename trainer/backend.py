"""Many robots at once, one control period at a time: MuJoCo's own threads on a CPU, behind the interface a GPU has too."""

# MuJoCo's package tells a type checker nothing of its classes.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, Int

from corpus.errors import MotionloomError


class Backend(Protocol):
    """N simulated robots; arrays are float64, in MuJoCo's conventions."""

    count: int

    @property
    def qpos(self) -> Float[np.ndarray, "N 7+J"]:
        """Where they are now: root xyz [m], root quaternion, joint angles [rad]. A view: copy what is to stay."""
        ...

    @property
    def qvel(self) -> Float[np.ndarray, "N 6+J"]:
        """Root linear in the world, root angular in its own frame, joint speeds, as `corpus.motion.velocity`. A view."""
        ...

    def reset(
        self, envs: Int[np.ndarray, " R"], qpos: Float[np.ndarray, "R 7+J"], qvel: Float[np.ndarray, "R 6+J"]
    ) -> None:
        """Put these robots there."""
        ...

    def step(self, targets: Float[np.ndarray, "N J"]) -> None:
        """Go on by one control period with these joint targets [rad]."""
        ...


class CpuBackend:
    """`mujoco.rollout`: the same numbers bit for bit whatever the number of threads."""

    def __init__(self, model: Any, count: int, *, threads: int = 1, substeps: int = 4):
        """`model` is one `MjModel` for all, or a sequence of one for each; `substeps` physics steps make a control period."""
        import mujoco
        from mujoco import rollout

        models = list(model) if isinstance(model, Sequence) else [model]
        if len(models) not in (1, count):
            raise MotionloomError(f"{len(models)} models for {count} robots: should be one, or one for each.")
        self.count, self.substeps = count, substeps
        self.model = models[0]
        self._models = models * (count // len(models))
        self._datas = [mujoco.MjData(self.model) for _ in range(max(1, min(threads, count)))]
        self._pool = rollout.Rollout(nthread=len(self._datas) if threads > 1 else 0)
        kind = mujoco.mjtState.mjSTATE_FULLPHYSICS
        self._state = np.zeros((count, mujoco.mj_stateSize(self.model, kind)))
        mujoco.mj_getState(self.model, self._datas[0], self._state[0], kind)
        self._state[:] = self._state[0]
        self._after = np.zeros((count, substeps, self._state.shape[1]))
        self._sensors = np.zeros((count, substeps, self.model.nsensordata))
        self._control = np.zeros((count, substeps, self.model.nu))
        start = 1  # after the time
        self._place = slice(start, start + self.model.nq)
        self._rate = slice(start + self.model.nq, start + self.model.nq + self.model.nv)

    @property
    def qpos(self) -> Float[np.ndarray, "N 7+J"]:
        return self._state[:, self._place]

    @property
    def qvel(self) -> Float[np.ndarray, "N 6+J"]:
        return self._state[:, self._rate]

    def reset(
        self, envs: Int[np.ndarray, " R"], qpos: Float[np.ndarray, "R 7+J"], qvel: Float[np.ndarray, "R 6+J"]
    ) -> None:
        self._state[envs] = 0
        self._state[envs, self._place], self._state[envs, self._rate] = qpos, qvel

    def step(self, targets: Float[np.ndarray, "N J"]) -> None:
        self._control[:] = targets[:, None]
        self._pool.rollout(
            self._models,
            self._datas,
            self._state,
            self._control,
            nstep=self.substeps,
            state=self._after,
            sensordata=self._sensors,
            skip_checks=True,
        )
        self._state[:] = self._after[:, -1]
