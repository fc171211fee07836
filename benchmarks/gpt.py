"""The causal Transformer: does a stream tell the same as all at once, and what do its extras cost in training.

    python -m benchmarks.gpt [--rounds N]

Training is measured beside a bare stack of the same size (norm, one product for query, key and value, torch's causal attention, MLP;
no rotation, no window, no padding, no normalisation), turn by turn; a step is forward, SmoothL1 at all positions, backward.
`padded` are rows of twice the window with padding in front, as they are cut from episodes; `full` are rows of one window without.
The lower of both counts, and the median over the rounds. One thread; where there is CUDA, also by bfloat16 there. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from itertools import count

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.gpt import SIZES, Gpt, GptShape, parameter_count

OBSERVED, ACTIONS = 200, 29
CHECKED_FRAMES, CHECKED_STREAMS = 256, 4
TOKENS = {"nano": 2048, "S": 1024}
"""In a training step on the processor."""
CUDA_TOKENS = 256 * 64
PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Of dense products in bfloat16, as printed by the maker."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="training steps of each, side by side")
    options = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(width=130)
    errors = {name: cached_error(SIZES[name]) for name in ("nano", "S")}
    training = {
        f"{name} {rows}": compared(SIZES[name], tokens, rows, options.rounds)
        for name, tokens in TOKENS.items()
        for rows in ("padded", "full")
    }
    latency = {name: step_ms(shape) for name, shape in SIZES.items()}
    peak = {name: peak_share(SIZES[name], options.rounds) for name in SIZES} if torch.cuda.is_available() else None
    show(console, errors, training, latency, peak)
    figures = {
        "cached_equals_full": max(errors.values()),
        "train_tokens_per_second_ratio": min(row["ratio"] for row in training.values()),
        "train": training,
        "step_ms": latency,
        "peak_share": peak or "not measured",
    }
    print(json.dumps(figures))


def cached_error(shape: GptShape) -> float:
    """The largest difference between a stream's actions and those of the whole sequence at once.

    By weights as large as trained ones: at first attention hardly chooses, and actions are small.
    """
    model = Gpt(OBSERVED, ACTIONS, shape).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.mul_(1 / (weight.std() * weight.shape[1] ** 0.5))
    observation = torch.randn(CHECKED_STREAMS, CHECKED_FRAMES, OBSERVED, generator=torch.Generator().manual_seed(0))
    cache = model.new_cache(CHECKED_STREAMS)
    streamed = torch.stack([model.step(frame, cache) for frame in observation.unbind(1)], 1)
    with torch.no_grad():
        return float((streamed - model(observation)).abs().max())


def compared(shape: GptShape, tokens: int, rows: str, rounds: int, device: str = "cpu") -> dict[str, float]:
    """Tokens per second of our training step and of the bare stack's, and the median ratio."""
    length = 2 * shape.window if rows == "padded" else shape.window
    batch = tokens // length
    generator = torch.Generator().manual_seed(0)
    observation = torch.randn(batch, length, OBSERVED, generator=generator).to(device)
    aim = torch.randn(batch, length, ACTIONS, generator=generator).to(device)
    valid = None
    if rows == "padded":  # an eighth of the rows begins within
        start = torch.where(torch.arange(batch) % 8 == 0, length // 3, 0)
        valid = (torch.arange(length) >= start[:, None]).to(device)
    ours, bare = Gpt(OBSERVED, ACTIONS, shape).to(device), BareStack(shape).to(device)
    seconds = side_by_side(
        [
            training_step(ours, lambda: ours(observation, valid), aim),
            training_step(bare, lambda: bare(observation), aim),
        ],
        rounds,
    )
    rates = [batch * length / statistics.median(each) for each in seconds]
    ratio = statistics.median(b / a for a, b in zip(*seconds, strict=True))
    return {"ratio": round(ratio, 3), "tokens_per_second": round(rates[0]), "bare_tokens_per_second": round(rates[1])}


def training_step(model: nn.Module, forward: Callable[[], Tensor], aim: Tensor) -> Callable[[], object]:
    def step() -> None:
        with torch.autocast("cuda", torch.bfloat16, enabled=aim.is_cuda):
            loss = F.smooth_l1_loss(forward().float(), aim)
        loss.backward()
        model.zero_grad(set_to_none=False)
        if aim.is_cuda:
            torch.cuda.synchronize()

    return step


def side_by_side(calls: list[Callable[[], object]], rounds: int) -> list[list[float]]:
    """Seconds of each call in each round, after two rounds to warm up; who begins changes."""
    seconds: list[list[float]] = [[] for _ in calls]
    for number in range(rounds + 2):
        for which in range(len(calls))[:: 1 if number % 2 else -1]:
            start = time.perf_counter()
            calls[which]()
            if number >= 2:
                seconds[which].append(time.perf_counter() - start)
    return seconds


def step_ms(shape: GptShape, steps: int = 60) -> float:
    """Median time of one frame of one stream with a full ring [ms]."""
    model = Gpt(OBSERVED, ACTIONS, shape).eval()
    cache = model.new_cache(1)
    observation = torch.zeros(1, OBSERVED)
    seconds = side_by_side([lambda: model.step(observation, cache)], shape.window + steps)[0]
    return round(1000 * statistics.median(seconds[shape.window :]), 3)


def peak_share(shape: GptShape, rounds: int) -> float | None:
    """Share of the GPU's printed rate that the products of a training step make up; attention's own are not counted."""
    name = torch.cuda.get_device_name()
    peak = next((flops for key, flops in PEAK_FLOPS.items() if key in name), None)
    if peak is None:
        return None
    rate = compared(shape, CUDA_TOKENS, "padded", rounds, "cuda")["tokens_per_second"]
    return round(6 * parameter_count(Gpt(OBSERVED, ACTIONS, shape)) * rate / peak, 3)


class BareStack(nn.Module):
    """Nothing but products and torch's attention, of the same size as ours."""

    def __init__(self, shape: GptShape):
        super().__init__()
        width, mlp = shape.width, shape.mlp
        self.heads = shape.heads
        self.embed, self.head = nn.Linear(OBSERVED, width), nn.Linear(width, ACTIONS)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 * shape.layers + 1))
        self.qkv = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(shape.layers))
        self.out = nn.ModuleList(nn.Linear(width, width) for _ in range(shape.layers))
        self.widen = nn.ModuleList(nn.Linear(width, mlp) for _ in range(shape.layers))
        self.narrow = nn.ModuleList(nn.Linear(mlp, width) for _ in range(shape.layers))

    def forward(self, observation: Tensor) -> Tensor:
        x = self.embed(observation)
        for i, qkv, out, widen, narrow in zip(count(), self.qkv, self.out, self.widen, self.narrow, strict=False):
            split = qkv(self.norms[2 * i](x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
            told = F.scaled_dot_product_attention(*split, is_causal=True)
            x = x + out(told.transpose(1, 2).flatten(2))
            x = x + narrow(F.gelu(widen(self.norms[2 * i + 1](x))))
        return self.head(self.norms[-1](x))


def show(console: Console, errors: dict, training: dict, latency: dict, peak: dict | None) -> None:
    for name, error in errors.items():
        console.print(
            f"{name}: stream against whole sequence over {CHECKED_FRAMES} frames, largest difference {error:.1e}"
        )
    table = Table("training step", "tokens/s", "bare stack", "ratio")
    for name, row in training.items():
        table.add_row(
            name, f"{row['tokens_per_second']:,}", f"{row['bare_tokens_per_second']:,}", f"{row['ratio']:.2f}"
        )
    console.print(table)
    console.print("one frame of one stream: " + ", ".join(f"{name} {ms:.2f} ms" for name, ms in latency.items()))
    console.print(f"share of a GPU's peak in training: {peak or 'not measured (no CUDA here)'}")


if __name__ == "__main__":
    main()
