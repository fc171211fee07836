"""The aggregated data set of DAgger: every state that was visited, with what the expert of its cluster would have done there.

    save_trajectories(folder, round, rank, rollout, facts, environment)        # aggregate/<round>-<rank>.safetensors
    rollouts = read_trajectories(folder, rounds=3, ranks=2)                   # mapped: nothing is read before it is needed

A file is written by one process in one round, whole or not at all. It also says where the rollout left the environments, so that
a run goes on from its files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32

from corpus.durable import replace_file
from corpus.errors import MotionloomError
from corpus.mapped import map_file

FOLDER, FORMAT = "aggregate", 1
_ENVIRONMENT = "environment."
_DTYPES = {
    "F64": "<f8", "F32": "<f4", "I64": "<i8", "U64": "<u8", "I32": "<i4", "U32": "<u4", "U8": "u1", "BOOL": "?",
}  # fmt: skip
_KINDS = {"observation": "f4", "action": "f4", "cluster": "i4", "segment": "i4", "frame": "i4", "began": "?"}
_KINDS["expert_acted"] = "?"


@dataclass(frozen=True, eq=False)
class Trajectories:
    """What N environments of one process went through in one round of T steps, environment by environment."""

    observation: Float32[np.ndarray, "N T D"]
    """As the student sees it; in it is the last action that was really executed."""
    action: Float32[np.ndarray, "N T A"]
    """What the expert of the state's cluster would do: the label."""
    cluster: Int32[np.ndarray, "N T"]
    segment: Int32[np.ndarray, "N T"]
    frame: Int32[np.ndarray, "N T"]
    began: Bool[np.ndarray, "N T"]
    """Is this the first step of an episode."""
    expert_acted: Bool[np.ndarray, "N T"]
    """Did the expert act, and not the student."""

    def __post_init__(self) -> None:
        for name, kind in _KINDS.items():
            array, rank = getattr(self, name), 3 if kind == "f4" else 2
            if array.dtype != np.dtype(kind) or array.ndim != rank or array.shape[:2] != self.began.shape:
                raise ValueError(f"{name} is {array.dtype} {array.shape}, expected {kind} {self.began.shape}")


def save_trajectories(
    folder: Path,
    round_number: int,
    rank: int,
    rollout: Trajectories,
    facts: Mapping[str, Any],
    environment: Mapping[str, Any],
) -> None:
    """One file, whole or not at all; `environment` is the state that the rollout left its environments in."""
    from safetensors.numpy import save_file

    state = {name: value for name, value in environment.items() if isinstance(value, np.ndarray)}
    others = {name: value for name, value in environment.items() if name not in state}
    arrays = {field.name: getattr(rollout, field.name) for field in fields(rollout)}
    arrays |= {_ENVIRONMENT + name: np.array(value, order="C") for name, value in state.items()}
    about = {"format": FORMAT, "facts": dict(facts), "environment": others}
    path = rollout_path(folder, round_number, rank)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(
        path, lambda temporary: save_file(arrays, temporary, metadata={"motionloom": json.dumps(about, default=_plain)})
    )


def read_trajectories(folder: Path, *, rounds: int, ranks: int) -> list[Trajectories]:
    """Of all processes and of the first so many rounds, in that order; refuses observations and actions of unequal sizes."""
    paths = [rollout_path(folder, round_number, rank) for round_number in range(rounds) for rank in range(ranks)]
    rollouts = [_read(path)[0] for path in paths]
    sizes = [(rollout.observation.shape[2], rollout.action.shape[2]) for rollout in rollouts]
    for path, size in zip(paths, sizes, strict=True):
        if size != sizes[0]:
            raise MotionloomError(f"{path} has observations and actions of sizes {size}, {paths[0]} of {sizes[0]}.")
    return rollouts


def read_ending(folder: Path, round_number: int, rank: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The facts of a rollout, and the state that it left its environments in."""
    _, facts, environment = _read(rollout_path(folder, round_number, rank))
    return facts, environment


def rollout_path(folder: Path, round_number: int, rank: int) -> Path:
    return folder / FOLDER / f"{round_number}-{rank}.safetensors"


def statistics(rollouts: Sequence[Trajectories]) -> tuple[Float64[np.ndarray, " D"], Float64[np.ndarray, " D"]]:
    """Mean and standard deviation of the observations."""
    size = rollouts[0].observation.shape[2]
    rows = [row for rollout in rollouts for row in rollout.observation]  # one environment's steps at a time
    count = sum(len(row) for row in rows)
    mean = sum((row.sum(0, dtype=np.float64) for row in rows), np.zeros(size)) / count
    variance = sum((np.square(row - mean).sum(0) for row in rows), np.zeros(size)) / count
    return mean, np.sqrt(variance)


def _plain(number: np.generic) -> Any:
    """A NumPy number as JSON has it; whatever else JSON does not know is refused there."""
    return number.item()


def _read(path: Path) -> tuple[Trajectories, dict[str, Any], dict[str, Any]]:
    try:
        arrays, about = _mapped(path)
        if about["format"] != FORMAT:
            raise MotionloomError(f"{path} is of format {about['format']}; this program reads {FORMAT}.")
        rollout = Trajectories(**{name: arrays[name] for name in _KINDS})
        state = {name: array.copy() for name, array in arrays.items() if name.startswith(_ENVIRONMENT)}
        return (
            rollout,
            about["facts"],
            {**about["environment"], **{n[len(_ENVIRONMENT) :]: a for n, a in state.items()}},
        )
    except FileNotFoundError:
        raise MotionloomError(
            f"{path} is missing: its round is part of this run. Bring it back, or begin the run in another folder."
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MotionloomError(
            f"{path} is damaged ({error}). Bring it back, or begin the run in another folder."
        ) from None


def _mapped(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """All arrays of a safetensors file, mapped: eight bytes of the header's length, the header as JSON, then the arrays."""
    size = path.stat().st_size
    if size < 8:
        raise ValueError(f"it has {size} bytes")
    data = map_file(path, np.dtype(np.uint8), (1, size))[0]
    start = 8 + int(data[:8].view("<u8")[0])
    if start > size:
        raise ValueError("its header is cut off")
    header = json.loads(data[8:start].tobytes())
    about = json.loads(header.pop("__metadata__")["motionloom"])
    arrays = {}
    for name, told in header.items():
        first, end = told["data_offsets"]
        arrays[name] = data[start + first : start + end].view(_DTYPES[told["dtype"]]).reshape(told["shape"])
    return arrays, about
