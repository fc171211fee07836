"""Checkpoints of a run: arrays by safetensors and facts as JSON, each checkpoint a folder that is whole wherever it exists.

    save_checkpoint(run, {**prefixed("policy", net.state_dict()), **arrays}, {"kind": "expert", "step": 1200, **facts})
    arrays, facts = load_checkpoint(run, kind="expert")          # the newest; or by name: "1200", "best"
    net.load_state_dict(under("policy", arrays))

They lie in `checkpoints/<step>/` of a run's folder as `arrays.safetensors` and `facts.json`; `checkpoints/best.json` names the best.
Nothing in them is pickled, and a checksum of both is compared before anything is used.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from corpus.durable import replace_file, sync
from corpus.errors import MotionloomError

try:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save_file
    from torch import Tensor
except ImportError as error:
    raise MotionloomError(
        f"Checkpoints need torch and safetensors ({error}): pip install 'motionloom[train]'."
    ) from None

FORMAT = 1
FOLDER, ARRAYS, FACTS, BEST = "checkpoints", "arrays.safetensors", "facts.json", "best.json"
_TEMPORARY = ".tmp-"


def save_checkpoint(
    folder: Path,
    arrays: Mapping[str, Tensor | np.ndarray],
    facts: Mapping[str, Any],
    *,
    best: bool = False,
    keep: int = 3,
) -> None:
    """One more checkpoint of the run in `folder`, whole or not at all, by one process at a time.

    `facts` hold at least `kind` (what sort of run it is of) and `step`; they are what JSON can hold. The newest `keep` stay, and the
    one saved last with `best`. One of the same step is replaced.
    """
    if keep < 1:
        raise MotionloomError(f"keep={keep}: at least one checkpoint should stay.")
    step, text = _step_of(facts), _text_of(facts)
    place = folder / FOLDER
    place.mkdir(parents=True, exist_ok=True)
    later = [other for other in checkpoint_steps(folder) if other > step]
    if later:
        raise MotionloomError(
            f"{place} has a checkpoint of step {later[-1]}, later than {step}: go on from that one, or remove it, or take another folder."
        )
    _sweep(place)
    temporary = place / f"{_TEMPORARY}{step}"
    _write(temporary, arrays, text)
    if (place / str(step)).exists():
        _set_aside(place / str(step))
    temporary.rename(place / str(step))
    sync(place)
    if best:
        replace_file(place / BEST, lambda path: path.write_text(json.dumps({"step": step})))
    spared = _best_step(folder)
    for old in checkpoint_steps(folder)[:-keep]:
        if old != spared:
            _set_aside(place / str(old))
    _sweep(place)


def load_checkpoint(
    folder: Path, name: str | None = None, *, kind: str | None = None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Arrays (on the CPU) and facts of the newest checkpoint of a run, or of that `name`: a step, or "best".

    Raises `MotionloomError` where there is none, where it is damaged, or is of another `kind` than the one asked for.
    """
    path = _path_of(folder, name)
    facts = _read_facts(path)
    if kind is not None and facts.get("kind") != kind:
        raise MotionloomError(f"{path} is a checkpoint of kind {facts.get('kind')!r}; {kind!r} was expected.")
    try:
        return load_file(path / ARRAYS), facts
    except (OSError, SafetensorError) as error:
        raise _damaged(path / ARRAYS, error) from None


def checkpoint_steps(folder: Path) -> list[int]:
    """Steps of which the run has a checkpoint, the newest last."""
    place = folder / FOLDER
    return sorted(int(path.name) for path in place.iterdir() if path.name.isdecimal()) if place.is_dir() else []


def prefixed(prefix: str, arrays: Mapping[str, Tensor | np.ndarray]) -> dict[str, Tensor | np.ndarray]:
    """The same arrays as `prefix.name`; `under` gives them back."""
    return {f"{prefix}.{name}": array for name, array in arrays.items()}


def under(prefix: str, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Arrays whose names begin with `prefix.`, without it."""
    return {name[len(prefix) + 1 :]: array for name, array in arrays.items() if name.startswith(f"{prefix}.")}


def optimiser_arrays(
    optimiser: torch.optim.Optimizer, prefix: str
) -> tuple[dict[str, Tensor | np.ndarray], list[dict[str, Any]]]:
    """What an optimiser such as AdamW remembers: arrays as `prefix.parameter.name`, and its groups' options for the facts."""
    state = optimiser.state_dict()
    arrays = {f"{index}.{name}": value for index, held in state["state"].items() for name, value in held.items()}
    others = sorted({name for name, value in arrays.items() if not isinstance(value, Tensor)})
    if others:
        raise MotionloomError(f"{type(optimiser).__name__} remembers what is no tensor ({others[0]}); AdamW does not.")
    groups = [
        {name: value.item() if isinstance(value, Tensor) else value for name, value in group.items()}
        for group in state["param_groups"]
    ]
    return prefixed(prefix, arrays), groups


def load_optimiser_arrays(
    optimiser: torch.optim.Optimizer, prefix: str, arrays: Mapping[str, Tensor], groups: list[dict[str, Any]]
) -> None:
    """Let an optimiser over the same parameters go on from there."""
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, array in under(prefix, arrays).items():
        index, what = name.split(".", 1)
        shape = parameters[int(index)].shape if int(index) < len(parameters) else None
        if what != "step" and array.shape != shape:
            raise MotionloomError(
                f"{prefix}.{name} has shape {tuple(array.shape)}; the optimiser's parameter {index} of "
                f"{len(parameters)} has {shape and tuple(shape)}. It should be over the same network."
            )
        state.setdefault(int(index), {})[what] = array
    groups = [{**group, **({"betas": tuple(group["betas"])} if "betas" in group else {})} for group in groups]
    try:
        optimiser.load_state_dict({"state": state, "param_groups": groups})
    except (KeyError, ValueError) as error:
        raise MotionloomError(f"These groups are not those of the optimiser ({error}).") from None


def generator_facts(generator: np.random.Generator) -> dict[str, Any]:
    """State of a NumPy generator for the facts. (A torch generator's is an array: `get_state()`, `set_state(array)`.)"""
    return _listed(generator.bit_generator.state)


def load_generator_facts(generator: np.random.Generator, facts: Mapping[str, Any]) -> None:
    """Let a NumPy generator of the same sort go on from there."""
    name = type(generator.bit_generator).__name__
    if facts.get("bit_generator") != name:
        raise MotionloomError(f"This is the state of {facts.get('bit_generator')}; the generator is {name}.")
    try:
        generator.bit_generator.state = _arrayed(facts)
    except (KeyError, TypeError, ValueError) as error:
        raise MotionloomError(f"This is no state of {name} ({error!r}).") from None


def _listed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _listed(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_listed(part) for part in value]
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _arrayed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _arrayed(part) for name, part in value.items()}
    return np.array(value, np.uint64) if isinstance(value, list) else value


def _step_of(facts: Mapping[str, Any]) -> int:
    step = facts.get("step")
    if not isinstance(step, int) or step < 0 or not isinstance(facts.get("kind"), str):
        raise MotionloomError(f"facts say step {step!r} and kind {facts.get('kind')!r}; should be a count and a word.")
    return step


def _text_of(facts: Mapping[str, Any]) -> str:
    try:
        return json.dumps(_listed(facts))
    except (TypeError, ValueError) as error:
        raise MotionloomError(f"facts hold what JSON does not ({error}); arrays go with the arrays.") from None


def _write(folder: Path, arrays: Mapping[str, Tensor | np.ndarray], text: str) -> None:
    """Both files and the folder, safe on the disk."""
    folder.mkdir()
    try:
        save_file({name: _tensor(name, array) for name, array in arrays.items()}, folder / ARRAYS)
    except SafetensorError as error:  # a full disk, above all
        raise MotionloomError(f"{folder / ARRAYS} cannot be written ({error}).") from None
    sums = {"arrays_crc32c": _checksum(folder / ARRAYS), "facts_crc32c": google_crc32c.value(text.encode())}
    (folder / FACTS).write_text(json.dumps({"format": FORMAT, **sums, "facts": json.loads(text)}, indent=1))
    for path in (folder / ARRAYS, folder / FACTS, folder):
        sync(path)


def _tensor(name: str, array: Tensor | np.ndarray) -> Tensor:
    """A tensor of its own, as safetensors wants them: two that share memory would not be written."""
    if isinstance(array, Tensor):
        return array.detach().cpu().clone(memory_format=torch.contiguous_format)
    try:
        return torch.from_numpy(np.array(array, array.dtype.newbyteorder("="), order="C"))
    except (TypeError, AttributeError) as error:
        raise MotionloomError(f"{name!r} is no array that a checkpoint can hold ({error}).") from None


def _read_facts(path: Path) -> dict[str, Any]:
    """Facts of a checkpoint whose two files are as they were written."""
    try:
        told = json.loads((path / FACTS).read_text())
        if told["format"] != FORMAT:
            raise MotionloomError(f"{path / FACTS} is of format {told['format']}; this program reads {FORMAT}.")
        facts = told["facts"]
        if not isinstance(facts, dict):
            raise ValueError("facts are no object")
        if google_crc32c.value(json.dumps(facts).encode()) != told["facts_crc32c"]:
            raise ValueError("its checksum differs")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(path / FACTS, error) from None
    try:
        differs = _checksum(path / ARRAYS) != told["arrays_crc32c"]
    except OSError as error:
        raise _damaged(path / ARRAYS, error) from None
    if differs:
        raise _damaged(path / ARRAYS, ValueError("its checksum differs"))
    return facts


def _path_of(folder: Path, name: str | None) -> Path:
    steps = checkpoint_steps(folder)
    if not steps:
        raise MotionloomError(f"There is no checkpoint in {folder / FOLDER}.")
    step = _best_step(folder) if name == "best" else steps[-1] if name is None else name
    if step is None or str(step) not in map(str, steps):
        best = ", best" if _best_step(folder) in steps else ""
        raise MotionloomError(
            f"No checkpoint {name!r} in {folder / FOLDER}. There are: {', '.join(map(str, steps))}{best}."
        )
    return folder / FOLDER / str(step)


def _best_step(folder: Path) -> int | None:
    path = folder / FOLDER / BEST
    try:
        return int(json.loads(path.read_text())["step"]) if path.exists() else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, error) from None


def _checksum(path: Path) -> int:
    checksum = google_crc32c.Checksum()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            checksum.update(part)
    return int.from_bytes(checksum.digest(), "big")


def _set_aside(path: Path) -> None:
    """Under another name before it is removed: a folder that is half removed is no checkpoint."""
    path.rename(path.with_name(f"{_TEMPORARY}old-{path.name}"))


def _sweep(place: Path) -> None:
    """What was set aside, and leftovers of a process that was killed."""
    for path in place.glob(f"{_TEMPORARY}*"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _damaged(path: Path, error: Exception) -> MotionloomError:
    others = f"Others there: {', '.join(map(str, checkpoint_steps(path.parents[2])))}." if path.name != BEST else ""
    return MotionloomError(f"{path} is damaged or missing ({error}). {others}".rstrip())
