"""A tiny student that was never trained, its run's folder, and its bundle, exported once for all tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

WINDOW = 6


def toy_student(*, seed: int = 3):
    """With weights that make attention choose, biases, and statistics that are not 0 and 1."""
    import torch
    from toy_tracking import CONTRACT

    from trainer.gpt import Gpt, GptShape
    from trainer.student_policy import StudentPolicy

    size = CONTRACT.observation.size
    shape = GptShape(layers=2, width=64, heads=2, mlp=64, window=WINDOW)
    model, generator = Gpt(size, 29, shape), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            noise = torch.randn(weight.shape, generator=generator)
            weight.copy_(noise / weight.shape[1] ** 0.5 if weight.ndim == 2 else weight + 0.05 * noise)
    model.set_normalisation(torch.linspace(-1, 1, size), torch.linspace(0.5, 2, size))
    return StudentPolicy(model.eval(), CONTRACT)


def write_toy_run(folder: Path, student=None) -> Path:
    """The folder of a run of it, or of another student, with one checkpoint."""
    from trainer.checkpoint import prefixed, save_checkpoint
    from trainer.run_file import write_run
    from trainer.student_policy import KIND, policy_facts

    student = student or toy_student()
    write_run(folder, {"kind": KIND, "corpus": "a corpus", "plan": 7, "setup": {"randomise": "light"}})
    facts = {"kind": KIND, "step": 12, **policy_facts(student.model, student.contract)}
    save_checkpoint(folder, prefixed("model", student.model.state_dict()), facts)
    return folder


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Its bundle, for reading only."""
    for name in ("torch", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)
    import torch

    from trainer.export import export_bundle

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    base = tmp_path_factory.mktemp("toy-bundle")
    yield export_bundle(write_toy_run(base / "run"), base / "bundle")
    torch.set_num_threads(threads)


@pytest.fixture
def bundle_copy(exported: Path, tmp_path: Path) -> Path:
    """One to damage."""
    return Path(shutil.copytree(exported, tmp_path / "bundle"))
