"""Several processes that train one network, as `torchrun` starts them: who am I, and sums over all of us.

Nothing here is needed by one process alone: then there is one rank, and a sum is what it was.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn

from corpus.errors import MotionloomError


@dataclass(frozen=True)
class Processes:
    """This process among all."""

    rank: int = 0
    world: int = 1
    device: torch.device = torch.device("cpu")

    def sum_gradients(self, parameters: Iterable[nn.Parameter], *numbers: float) -> list[float]:
        """Let every gradient be the sum of all processes' gradients; gives the sums of the numbers too.

        One message for all of them: it waits for the backward pass to end, which costs little beside it on networks of these sizes.
        """
        if self.world == 1:
            return list(numbers)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        told = torch.tensor(numbers, dtype=torch.float32, device=self.device)
        flat = torch.cat([*(gradient.reshape(-1) for gradient in gradients), told])
        dist.all_reduce(flat)
        parts = flat.split([gradient.numel() for gradient in gradients] + [len(numbers)])
        for gradient, part in zip(gradients, parts, strict=False):
            gradient.copy_(part.view_as(gradient))
        return parts[-1].tolist()

    def sum(self, *numbers: float) -> list[float]:
        """Sums over all processes."""
        return self.sum_gradients((), *numbers)

    def wait(self) -> None:
        """Until all have come here."""
        self.sum(0.0)  # a sum of nothing would not wait


def rank_and_world() -> tuple[int, int]:
    """Which process this is, and of how many: what environments are seeded by."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def joined(device: str = "cpu") -> Iterator[Processes]:
    """Meet the others: by gloo on the CPU, by NCCL on GPUs, one GPU for each process of a machine."""
    rank, world = rank_and_world()
    if device.split(":")[0] not in ("cpu", "cuda") or (device != "cpu" and not torch.cuda.is_available()):
        raise MotionloomError(f"No device {device!r} here: should be cpu, or cuda where there is a GPU.")
    if device == "cuda":
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    if world == 1:
        yield Processes(device=torch.device(device))
        return
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield Processes(rank, world, torch.device(device))
    finally:
        dist.destroy_process_group()
