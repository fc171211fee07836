"""`loom deploy export`."""

from __future__ import annotations

import argparse
import shutil

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from toy_bundle import write_toy_run

from corpus.errors import MotionloomError
from deploy.bundle import STEPS, open_bundle
from pipelines.cli import build_parser
from pipelines.deploy_commands import export as command
from trainer import export


def asked(*words: object) -> argparse.Namespace:
    """As the command line has it: an option of another command's name must not take its place."""
    options = build_parser().parse_args(["deploy", "export", *map(str, words)])
    assert options.run is command.run
    return options


def test_the_command_writes_a_bundle_and_tells_its_figures(tmp_path, exported, monkeypatch, capsys):
    monkeypatch.setattr(export, "write_step", lambda model, path, told: shutil.copy(exported / "step.onnx", path))
    monkeypatch.setattr(export, "write_window", lambda model, path, told: shutil.copy(exported / "window.onnx", path))
    run, folder = write_toy_run(tmp_path / "run"), tmp_path / "bundle"
    assert command.run(asked(run, folder, "--precision", "int8", "--checkpoint", 12)) == 0
    assert open_bundle(folder).precisions == ("int8",)
    told = capsys.readouterr().out
    assert open_bundle(folder).contract.hash in told
    assert "step 12" in told and "% (random)" in told


def test_a_checkpoint_that_is_not_there_is_named(tmp_path, exported):
    with pytest.raises(MotionloomError, match="99"):
        command.run(asked(write_toy_run(tmp_path / "run"), tmp_path / "bundle", "--checkpoint", 99))
    assert not (tmp_path / "bundle").exists()


def test_the_commands_precisions_are_the_bundles():
    assert tuple(STEPS) == command.PRECISIONS
