"""The policy's step on one core: how long by size and precision, how near the student, and what memory allows.

    python -m benchmarks.deploy_policy [--run RUN] [--steps N]

Students of all four sizes are exported with random weights as large as trained ones, and step by turns with torch's own step.
The keys of the JSON in the last line:

    policy_ms_{nano,S,B,L}_{p50,p99}        of the faster precision, for L of int8 [ms]
    policy_precision_{…}                    which one that is
    policy_ms_{…}_{float32,int8}_{p50,p99}  of both [ms]
    policy_cpu_ms_{…}_{float32,int8}_p50    processor time alone: what a busy machine's other programs take is not in it [ms]
    torch_ms_{…}_p50                        torch's step in the same turns, on the same thread [ms]
    memory_ms_{…}_{float32,int8}            weights / measured bandwidth: nobody who reads all weights is faster [ms]; a model that
                                            fits into the processor's cache is, since the bandwidth is that of main memory
    memory_gb_per_s                         one thread reading 256 MB
    kv_parity_max_error                     the largest difference of an action: step by step against the whole at once
    int8_relative_error                     ‖a8 − a‖ / ‖a‖, on the run's rollouts with --run, else on a random nano and random frames
    int8_relative_error_on                  "run" or "random nano"
    int8_relative_error_random_{…}          of each size: weights and frames are random, harsher than trained ones
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from deploy.bundle import STEPS, about
from deploy.contract import Contract
from deploy.policy import StepPolicy
from trainer.export import export_bundle
from trainer.gpt import SIZES, Gpt, GptShape
from trainer.parity import WINDOWS, random_frames, relative_error, step_error
from trainer.step_graph import write_int8, write_step

PRECISIONS = tuple(STEPS)
STEP_COUNT = 400
"""Timed steps of each, by turns; a quarter of them for L."""


def measure(
    run: Path | None = None, *, steps: int = STEP_COUNT, sizes: tuple[str, ...] = tuple(SIZES)
) -> dict[str, Any]:
    torch.set_num_threads(1)
    rate = memory_rate()
    figures: dict[str, Any] = {"memory_gb_per_s": round(rate / 1e9, 2)}
    errors = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in sizes:
            found = of_size(Path(folder), SIZES[name], steps // 4 if name == "L" else steps, rate)
            errors[name] = found.pop("kv_parity_max_error")
            figures |= {key.replace("*", name): value for key, value in found.items()}
        figures["kv_parity_max_error"] = max(errors.values())
        if run is not None:
            figures |= of_run(run, Path(folder), figures["kv_parity_max_error"])
        else:
            figures["int8_relative_error"] = figures[f"int8_relative_error_random_{sizes[0]}"]
            figures["int8_relative_error_on"] = f"random {sizes[0]}"
    return figures


def of_size(folder: Path, shape: GptShape, steps: int, rate: float) -> dict[str, Any]:
    """Figures of one size; a star stands for its name."""
    contract = Contract()
    model = lively(Gpt(contract.observation.size, len(contract.joint_names), shape))
    told = about(contract, shape.window)
    paths = {name: folder / file for name, file in STEPS.items()}
    write_step(model, paths["float32"], told)
    write_int8(paths["float32"], paths["int8"], told)
    policies = {name: StepPolicy(path.read_bytes(), contract, shape.window) for name, path in paths.items()}
    frames = random_frames(model, WINDOWS * shape.window, seed=1)
    figures: dict[str, Any] = {
        "kv_parity_max_error": step_error(policies["float32"], model, [frames]),
        "int8_relative_error_random_*": round(relative_error(policies["int8"], model, [frames]), 5),
    }
    seconds = {name: np.array(each) for name, each in timed(policies, model, frames, steps).items()}
    figures["torch_ms_*_p50"] = _ms(np.median(seconds.pop("torch")[:, 0]))
    for name, each in seconds.items():
        ranks = zip(("p50", "p99"), np.percentile(each[:, 0], [50, 99]), strict=True)
        figures |= {f"policy_ms_*_{name}_{rank}": _ms(x) for rank, x in ranks}
        figures[f"policy_cpu_ms_*_{name}_p50"] = _ms(np.median(each[:, 1]))
        figures[f"memory_ms_*_{name}"] = _ms(paths[name].stat().st_size / rate)
    faster = min(seconds, key=lambda name: float(np.median(seconds[name][:, 0])))
    best = "int8" if shape == SIZES["L"] else faster
    figures["policy_precision_*"] = best
    return figures | {f"policy_ms_*_{rank}": figures[f"policy_ms_*_{best}_{rank}"] for rank in ("p50", "p99")}


def timed(
    policies: dict[str, StepPolicy], model: Gpt, frames: np.ndarray, steps: int
) -> dict[str, list[tuple[float, float]]]:
    """Seconds, and seconds of the processor, of each step by turns, with full rings: the policies every turn, torch every fourth."""
    student, rows = model.new_cache(1), torch.from_numpy(frames)[:, None]
    calls: dict[str, Callable[[int], object]] = {
        name: (lambda t, policy=policy: policy.act(frames[t])) for name, policy in policies.items()
    }
    calls["torch"] = lambda t: model.step(rows[t], student)
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    warm = model.shape.window
    for turn in range(warm + steps):
        for name, call in calls.items():
            if name == "torch" and turn % 4:
                continue
            start, worked = time.perf_counter(), time.thread_time()
            call(turn % len(frames))
            if turn >= warm:
                seconds[name].append((time.perf_counter() - start, time.thread_time() - worked))
    return seconds


def of_run(run: Path, folder: Path, parity: float) -> dict[str, Any]:
    """What the export's own test says of a real student."""
    told = json.loads((export_bundle(run, folder / "bundle") / "bundle.json").read_text())["parity"]
    on = "run" if "run" in told["int8_relative_error"] else "random"
    return {
        "kv_parity_max_error": max(parity, told["kv_parity_max_error"]),
        "int8_relative_error": round(told["int8_relative_error"][on], 5),
        "int8_relative_error_on": "run" if on == "run" else "random frames of the run's student",
    }


def lively(model: Gpt) -> Gpt:
    """With weights as large as trained ones: at first attention hardly chooses, and actions are small."""
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.mul_(1 / (weight.std() * weight.shape[1] ** 0.5))
    return model.eval()


def memory_rate(size: int = 1 << 28, rounds: int = 7) -> float:
    """Bytes per second that one thread reads: the best of some rounds."""
    numbers = np.ones(size // 4, np.float32)
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        numbers.max()
        seconds.append(time.perf_counter() - start)
    return size / min(seconds)


def _ms(seconds: float | np.floating) -> float:
    return round(1000 * float(seconds), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="a student's run, for the error of int8")
    parser.add_argument("--steps", type=int, default=STEP_COUNT)
    options = parser.parse_args()
    figures = measure(options.run, steps=options.steps)
    table = Table("size", "model", "p50 [ms]", "p99 [ms]", "processor p50 [ms]", "memory allows [ms]")
    for name in SIZES:
        for kind in PRECISIONS:
            keys = ("policy_ms_*_p50", "policy_ms_*_p99", "policy_cpu_ms_*_p50", "memory_ms_*")
            table.add_row(name, kind, *(f"{figures[key.replace('*', f'{name}_{kind}')]:.2f}" for key in keys))
        table.add_row(name, "torch", f"{figures[f'torch_ms_{name}_p50']:.2f}", "", "", "")
    Console(width=100).print(table)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
