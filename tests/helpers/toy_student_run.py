"""One of several processes that train a student on the toy: `torchrun … toy_student_run.py FOLDER [rank to stop, after looks]`."""

from __future__ import annotations

import sys
from pathlib import Path

from safetensors.torch import save_file
from toy_tracking import Asked, ToyEnv, cluster_of, experts

from trainer.gpt import GptShape
from trainer.learner import Learning
from trainer.processes import joined
from trainer.student import StudentOptions, StudentRun

COUNT = 8
OPTIONS = StudentOptions(
    shape=GptShape(layers=1, width=16, heads=2, mlp=16, window=4),
    rounds=2,
    rollout_steps=16,
    mixing_rounds=2,
    steps_per_round=8,
    batch_size=7,
    length=6,
    learning=Learning(learning_rate=1e-2, warmup_steps=2),
    held_out=0.0,
    log_steps=1,
)


def train(folder: Path, stop_rank: int = -1, looks: int = 0) -> None:
    """The same environments, whatever the number of processes."""
    with joined() as processes:
        rank, world = processes.rank, processes.world
        env = ToyEnv(COUNT // world, first=rank * COUNT // world)
        run = StudentRun(folder, env, experts(), cluster_of, OPTIONS, processes)
        run.train(Asked(looks if rank == stop_rank else 10**9))
        save_file(run.model.state_dict(), folder / f"weights-{rank}.safetensors")


if __name__ == "__main__":
    train(Path(sys.argv[1]), *map(int, sys.argv[2:]))
