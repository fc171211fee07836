"""`loom deploy run`: what its options lead to."""

from __future__ import annotations

import pytest

from deploy.runtime import Run
from pipelines import deploy_run
from pipelines.cli import main


def test_the_stand_is_held_as_long_as_asked_for(monkeypatch, tmp_path):
    wanted = []
    monkeypatch.setattr(deploy_run, "deploy_run", lambda asked, tell: wanted.append(asked) or Run())
    assert main(["deploy", "run", str(tmp_path), "--hold", "60"]) == 0
    assert main(["deploy", "run", str(tmp_path)]) == 0
    assert [asked.hold_s for asked in wanted] == [60.0, 3.0]


@pytest.mark.parametrize("seconds", ["-1", "inf", "nan"])
def test_no_stand_is_held_for_ever(seconds, tmp_path, capsys):
    assert main(["deploy", "run", str(tmp_path), "--hold", seconds]) == 1
    assert "--hold should be 0 or more" in capsys.readouterr().err
