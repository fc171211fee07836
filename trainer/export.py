"""From a student's run to a policy bundle (`deploy.bundle`): models, contract, checksums, and a test that they answer as the student does.

    folder = export_bundle(Path("runs/student"), Path("bundle"))
    policy = open_bundle(folder).policy("int8")

The bundle appears by one rename, after the test has passed; an export that fails or is killed leaves no bundle.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from corpus.durable import save_arrays, sync
from corpus.errors import MotionloomError
from deploy.bundle import BUNDLE, PROBE, STEPS, VERSION, WINDOW, PolicyBundle, about, hash_of, open_bundle
from trainer.checkpoint import load_checkpoint
from trainer.parity import check_parity, probe_of
from trainer.run_file import read_run
from trainer.step_graph import INT8_BLOCK, write_int8, write_step, write_window
from trainer.student_policy import KIND, StudentPolicy, load_student

log = logging.getLogger(__name__)


def export_bundle(
    run: Path,
    folder: Path,
    *,
    precisions: Sequence[str] = ("float32", "int8"),
    checkpoint: str | None = None,
) -> Path:
    """The bundle of a run's newest checkpoint, or of that name; one that stands there is replaced.

    Raises `MotionloomError` where an exported model answers otherwise than the student: then nothing is left.
    """
    student, source = load_student(run, checkpoint), _source(run, checkpoint)
    return write_bundle(student, folder, precisions=precisions, source=source, run=run)


def write_bundle(
    student: StudentPolicy,
    folder: Path,
    *,
    precisions: Sequence[str] = ("float32", "int8"),
    source: dict[str, Any] | None = None,
    run: Path | None = None,
) -> Path:
    """As `export_bundle`, of a student at hand; `run` is where observations to test it by may lie."""
    if unknown := sorted(set(precisions) - set(STEPS)):
        raise MotionloomError(f"No precision {unknown[0]!r}. Known: {', '.join(STEPS)}.")
    if not precisions:
        raise MotionloomError(f"No precision is asked for. Known: {', '.join(STEPS)}.")
    _check_place(folder)
    temporary = folder.with_name(f".tmp-{folder.name}")
    shutil.rmtree(temporary, ignore_errors=True)  # of an export that was killed
    temporary.mkdir(parents=True)
    try:
        _fill(temporary, student, precisions, source or {}, run)
        _put_in_place(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    log.info("wrote %s: %s, window %d", folder, ", ".join(precisions), student.model.shape.window)
    return folder


def _fill(folder: Path, student: StudentPolicy, precisions: Sequence[str], source: dict, run: Path | None) -> None:
    """All files; bundle.json, without which nothing opens, comes last."""
    model, contract, window = student.model, student.contract, student.model.shape.window
    told, spared = about(contract, window), []
    write_step(model, folder / STEPS["float32"], told | {"precision": "float32"})
    if "int8" in precisions:
        spared = write_int8(folder / STEPS["float32"], folder / STEPS["int8"], told | {"precision": "int8"})
    if "float32" not in precisions:
        (folder / STEPS["float32"]).unlink()
    write_window(model, folder / WINDOW, told | {"precision": "float32"})
    save_arrays(folder / PROBE, probe_of(model))
    files = sorted(path.name for path in folder.iterdir())
    sums = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files}
    figures = check_parity(student, PolicyBundle(folder, contract, window, sums), run)
    facts = {
        "version": VERSION,
        "contract": contract.to_json(),
        "contract_hash": contract.hash,
        "window": window,
        "shape": dataclasses.asdict(model.shape),
        "files": sums,
        "source": source,
        "parity": figures,
        "int8": {"block": INT8_BLOCK, "float32_layers": spared, "why": _WHY} if "int8" in precisions else None,
    }
    (folder / BUNDLE).write_text(json.dumps({**facts, "hash": hash_of(facts)}, indent=1))
    for path in folder.iterdir():
        sync(path)
    sync(folder)


# Of the demo's student on its own rollouts: 0.21 % with these two layers in float32, 0.72 % with all in int8; dynamic
# quantisation with one scale per column and reduced range has 0.29 %, and takes a third longer for the largest student.
_WHY = (
    "embed sees observations far beyond their usual size, and nothing after head evens out its error; both are small. "
    "Norms and attention have no large weights. Weights use all eight bits: probe.npz finds a processor that saturates."
)


def _check_place(folder: Path) -> None:
    if not folder.name:
        raise MotionloomError(f"{folder} has no name to write a bundle under.")
    if folder.exists() and not (folder / BUNDLE).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise MotionloomError(f"{folder} is there and is no policy bundle: name another folder, or remove it.")


def _put_in_place(temporary: Path, folder: Path) -> None:
    open_bundle(temporary)
    aside = folder.with_name(f".old-{folder.name}")
    shutil.rmtree(aside, ignore_errors=True)
    if folder.exists():
        folder.rename(aside)
    temporary.rename(folder)
    sync(folder.parent)
    shutil.rmtree(aside, ignore_errors=True)


def _source(run: Path, checkpoint: str | None) -> dict[str, Any]:
    """What the bundle says of where it comes from."""
    told, (_, facts) = read_run(run), load_checkpoint(run, checkpoint, kind=KIND)
    kept = {name: told[name] for name in ("corpus", "plan", "split", "clustering") if name in told}
    # In what its robots differed in training: one that met a single robot alone falls on another that weighs a tenth more.
    varied = told.get("setup", {}).get("randomise")
    return {**kept, "randomise": varied, "run": run.resolve().name, "step": facts.get("step")}
