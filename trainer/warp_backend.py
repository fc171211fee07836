"""Many robots at once on a GPU: `mujoco_warp`, single precision, behind the interface of `trainer.backend`.

On a CPU it runs too, slowly, so that a test can hold it against MuJoCo. Its kernels are compiled at first use.
"""

# Warp's annotations are for its own compiler; to a type checker they are calls and its scalars are not what they seem.
# pyright: reportInvalidTypeForm=false, reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false
# pyright: reportAttributeAccessIssue=false

import copy
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import warp as wp
from jaxtyping import Float, Int

from corpus.errors import MotionloomError
from corpus.warp_tools import device_array

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Room:
    """Memory for contacts; what does not fit is lost, and the robot sinks in or slips."""

    contacts: int = 48
    """Per robot on average over all of them."""
    constraints: int = 240
    """Of each robot: four for a contact, one for a joint at its limit."""


class WarpBackend:
    """N robots on one device; a control period is one CUDA graph.

    `qpos` and `qvel` are copies in double precision; `tensors` gives torch what lies on the device itself. They are all that there
    is to save: as in `mujoco.rollout`, no control period's solver starts from the one before.
    """

    def __init__(
        self,
        model: Any,
        count: int,
        *,
        device: str = "cuda:0",
        substeps: int = 4,
        fields: Mapping[str, Float[np.ndarray, "N ..."]] | None = None,
        room: Room = Room(),
    ):
        """`model` is an `MjModel`; `fields` are those of its fields in which robots differ, a row for each, as
        `trainer.randomise.varied_fields` gives them."""
        import mujoco
        import mujoco_warp

        model, fields = copy.copy(model), dict(fields or {})
        # It has no automatic reset, and refuses models that say they want none.
        model.opt.disableflags &= ~int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)
        if wrong := [name for name, rows in fields.items() if rows.shape != (count, *getattr(model, name).shape)]:
            raise MotionloomError(
                f"{wrong[0]} is {fields[wrong[0]].shape}: should be a row for each of {count} robots."
            )
        self.count, self.substeps, self.room, self._mujoco_warp = count, substeps, room, mujoco_warp
        self.device = wp.get_device(device)
        with wp.ScopedDevice(self.device):
            self._model = mujoco_warp.put_model(model, batch_sizes=dict.fromkeys(fields, count))
            self._data = mujoco_warp.make_data(model, nworld=count, nconmax=room.contacts, njmax=room.constraints)
        for name, rows in fields.items():
            getattr(self._model, name).assign(rows.astype(np.float32))
        self._model.opt.warn_overflow = 0  # one line of ours instead of one from every thread
        self._told = False
        self._host: tuple[np.ndarray, np.ndarray] | None = None
        self._graph = self._capture() if self.device.is_cuda else None
        self.reset(np.arange(count), np.tile(model.qpos0, (count, 1)), np.zeros((count, model.nv)))

    @property
    def qpos(self) -> Float[np.ndarray, "N 7+J"]:
        return self._download()[0]

    @property
    def qvel(self) -> Float[np.ndarray, "N 6+J"]:
        return self._download()[1]

    def reset(
        self, envs: Int[np.ndarray, " R"], qpos: Float[np.ndarray, "R 7+J"], qvel: Float[np.ndarray, "R 6+J"]
    ) -> None:
        device, data = str(self.device), self._data
        rows = [device_array(envs, int, device), device_array(qpos, float, device), device_array(qvel, float, device)]
        wp.launch(_put, dim=len(envs), inputs=rows, outputs=[data.qpos, data.qvel], device=self.device)
        self._host = None

    def step(self, targets: Float[np.ndarray, "N J"]) -> None:
        self._data.ctrl.assign(np.ascontiguousarray(targets, np.float32))
        self.advance()

    def advance(self) -> None:
        """Go on by one control period with the targets that lie on the device."""
        if self._graph is not None:
            wp.capture_launch(self._graph)
        else:
            self._control_period()
        self._host = None

    def tensors(self) -> dict[str, Any]:
        """qpos, qvel and targets on the device as torch's tensors of single precision, not copies: they show each step's state, and
        `advance` goes on from what is written to them. Keep to Warp's stream: `with torch.cuda.stream(wp.stream_to_torch(…))`."""
        data = self._data
        return {
            name: wp.to_torch(of) for name, of in (("qpos", data.qpos), ("qvel", data.qvel), ("targets", data.ctrl))
        }

    def _control_period(self) -> None:
        with wp.ScopedDevice(self.device):
            self._data.qacc_warmstart.zero_()
            for _ in range(self.substeps):
                self._mujoco_warp.step(self._model, self._data)

    def _capture(self) -> Any:
        self._control_period()  # what is captured must have been compiled and loaded
        with wp.ScopedCapture(device=self.device) as capture:
            self._control_period()
        return capture.graph

    def _download(self) -> tuple[np.ndarray, np.ndarray]:
        if self._host is None:
            self._host = self._data.qpos.numpy().astype(np.float64), self._data.qvel.numpy().astype(np.float64)
            lost = int((self._data.overflow.numpy() != 0).sum())
            if lost and not self._told:
                log.warning(
                    "%d of %d robots had contacts for which there is no %s; make more", lost, self.count, self.room
                )
                self._told = True
        return self._host


@wp.kernel(enable_backward=False, module="unique")
def _put(
    envs: wp.array(dtype=wp.int32),
    new_qpos: wp.array2d(dtype=wp.float32),
    new_qvel: wp.array2d(dtype=wp.float32),
    qpos: wp.array2d(dtype=wp.float32),
    qvel: wp.array2d(dtype=wp.float32),
):
    i = wp.tid()
    env = envs[i]
    for k in range(new_qpos.shape[1]):
        qpos[env, k] = new_qpos[i, k]
    for k in range(new_qvel.shape[1]):
        qvel[env, k] = new_qvel[i, k]
