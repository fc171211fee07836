"""Batches as torch's tensors: on the CPU the very arrays, on a GPU woven there by the same kernel. torch is an extra, imported
when it is used."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import warp as wp

from corpus.catalog import Corpus
from corpus.loading.sampler import Draw
from corpus.loading.weave import build_weave
from corpus.loading.window_kernels import RATE, SHOW, window_array
from corpus.loading.windows import Batch, Windows, copy_rows
from corpus.store import CONTACT_COLUMNS


class TensorWindows:
    """`Windows` whose batches are tensors on a device.

    On the CPU they share the arrays' memory. On a GPU the raw rows travel, from pinned memory, and are warped, mirrored,
    turned and differentiated there, on torch's current stream.
    """

    def __init__(self, windows: Windows, device: Any):
        import torch

        self.windows, self.sampler, self.device = windows, windows.sampler, torch.device(device)

    def __getitem__(self, step: int) -> Batch:
        if self.device.type == "cpu":
            return as_tensors(self.windows[step])
        return woven_on(self.windows, self.sampler.draw(step), self.device)


def as_tensors(batch: Batch) -> Batch:
    """The same memory as tensors of the CPU."""
    import torch

    return Batch(**{name: None if a is None else torch.from_numpy(a) for name, a in vars(batch).items()})


def woven_on(windows: Windows, draw: Draw, device: Any) -> Batch:
    """The windows of a draw, copied to the device as they are and woven there."""
    import torch

    placed = windows.place(draw)
    raw = raw_rows(placed.table, windows.length, windows.history, windows.rows.columns, pinned=device.type == "cuda")
    qpos, contact, table = (part.to(device, non_blocking=True) for part in raw)
    shape = len(draw.segment), windows.length

    def empty(*more: int, dtype: Any = torch.float32) -> Any:
        return torch.empty((*shape, *more), dtype=dtype, device=device)

    columns = windows.rows.columns
    out = {"qpos": empty(columns), "velocity": None, "contact": None, "valid": empty(dtype=torch.bool)}
    if "velocity" in windows.fields:
        out["velocity"] = empty(columns - 1)
    if "contact" in windows.fields:
        out["contact"] = empty(CONTACT_COLUMNS, dtype=torch.uint8)
    edges = torch.empty((shape[0], 2, columns), dtype=torch.float32, device=device)
    numbers = table.view(torch.int64).view(shape[0], -1)
    numbers[:, 0] += qpos.data_ptr()
    numbers[:, 1] += contact.data_ptr()
    addresses = {name: 0 if array is None else array.data_ptr() for name, array in {**out, "edges": edges}.items()}
    _launch(windows, table, windows.task(**addresses), shape, device)
    if "qpos" not in windows.fields:
        out["qpos"] = None
    small = {"segment": draw.segment, "frame": placed.frame, **vars(placed.choice)}
    return Batch(**out, **{name: torch.from_numpy(array).to(device) for name, array in small.items()})


def raw_rows(table: np.ndarray, length: int, history: int, columns: int, *, pinned: bool) -> tuple[Any, Any, Any]:
    """The rows that windows need, as they are: qpos (B, R, columns), contact (B, R, 4), and the table of windows in which each
    one's address is counted from the first of those, as bytes."""
    import torch

    begin = np.floor(table["start"] - (history + 1) * table["speed"]).astype(np.int64)
    begin = np.clip(begin, table["first"], table["last"])
    end = np.ceil(table["start"] + (length - history) * table["speed"]).astype(np.int64) + 1
    count = int((np.minimum(end, table["last"]) - begin).max()) + 1
    qpos = torch.empty((len(table), count, columns), dtype=torch.float32, pin_memory=pinned)
    contact = torch.empty((len(table), count, CONTACT_COLUMNS), dtype=torch.uint8, pin_memory=pinned)
    source = table.copy()
    source["start"] = begin
    copy_rows(source, qpos.numpy(), 0)
    copy_rows(source, contact.numpy(), 0)
    moved = table.copy()
    moved["rows"], moved["touches"] = np.arange(len(table)) * (4 * columns * count), np.arange(len(table)) * (4 * count)
    for name in ("first", "last", "start"):
        moved[name] = table[name] - begin
    there = torch.empty(moved.nbytes, dtype=torch.uint8, pin_memory=pinned)
    there.numpy()[:] = moved.view(np.uint8)
    return qpos, contact, there


def _launch(windows: Windows, table: Any, task: Any, shape: tuple[int, int], device: Any) -> None:
    """One thread per frame; the rates need all frames, and so come in a launch of their own."""
    on = wp.device_from_torch(device)
    stream = wp.stream_from_torch(device) if on.is_cuda else None
    inputs = [window_array(table.data_ptr(), shape[0], on), task]
    task.frames_per_thread = 1
    for step in (SHOW, RATE) if "velocity" in windows.fields else (SHOW,):
        task.steps = step
        wp.launch(build_weave(windows.columns), dim=shape, inputs=inputs, device=on, stream=stream)


@functools.cache
def torch_windows() -> Any:
    """The class `TorchWindows`, which is one of torch's."""
    import torch
    from torch.utils.data import IterableDataset, get_worker_info

    from corpus.loader import open_windows, steps_of

    class TorchWindows(IterableDataset):
        """Whole batches as dictionaries of tensors that share the arrays' memory; options as of `open_windows`.

        Pass it to `DataLoader(..., batch_size=None)`; the batches come in the same order with any number of workers. A
        rotating buffer is held by each worker for itself: `Loader`, with its own thread, needs only one.
        """

        def __init__(self, corpus: Corpus, *, start_step: int = 0, steps: int | None = None, **options: Any):
            self.windows = open_windows(corpus, **options)
            self.start_step, self.stop = start_step, None if steps is None else start_step + steps

        def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
            worker = get_worker_info()
            # Worker i of n gives steps i, i + n, …; a DataLoader takes from its workers in turn.
            mine = (worker.id, worker.num_workers) if worker else (0, 1)
            for step in steps_of(self.start_step, self.stop, *mine):
                batch = as_tensors(self.windows[step])
                yield {name: value for name, value in vars(batch).items() if value is not None}

    # By this name another process finds the class again.
    TorchWindows.__module__, TorchWindows.__qualname__ = "corpus.loader", "TorchWindows"
    return TorchWindows
