"""`run.json` of a run's folder: what the run is, so that it goes on as the same or not at all.

    check_same(folder, told, changeable=("steps",))     # before anything is taken up
    write_run(folder, told)

Entries of `options` and `setup` are compared one by one, so that an error names the one that differs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from corpus.durable import replace_file
from corpus.errors import MotionloomError

RUN = "run.json"


def read_run(folder: Path) -> dict[str, Any]:
    """What `run.json` says; raises `MotionloomError` where it is none."""
    try:
        told = json.loads((folder / RUN).read_text())
        if not isinstance(told["kind"], str):
            raise ValueError(f"kind is {told['kind']!r}")
        return told
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise MotionloomError(f"{folder} is no folder of a training run ({error!r}).") from None


def check_same(folder: Path, told: Mapping[str, Any], *, changeable: Sequence[str] = ()) -> None:
    """Refuse to go on with another run than the one that stands in the folder; `changeable` entries may differ."""
    path = folder / RUN
    if not path.exists():
        return
    try:
        there, here = _flat(json.loads(path.read_text())), _flat(_plain(told))
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise MotionloomError(f"{path} is damaged or of another kind of run ({error!r}).") from None
    names = sorted({*there, *here} - set(changeable))
    if other := [name for name in names if there.get(name) != here.get(name)]:
        raise MotionloomError(
            f"{path} is of another run: it differs in {', '.join(other)}. Name another folder, or go on with what it says."
        )


def write_run(folder: Path, told: Mapping[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / RUN, lambda path: path.write_text(json.dumps(_plain(told), indent=1)))


def _plain(told: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON gives it back."""
    return json.loads(json.dumps(dict(told)))


def _flat(told: Mapping[str, Any]) -> dict[str, Any]:
    parts = {name: value for name, value in told.items() if name not in ("options", "setup")}
    return {**told.get("setup", {}), **told.get("options", {}), **parts}
