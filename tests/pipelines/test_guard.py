"""All six packages come from one home, or the command says which does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import guard

ROOT = Path(__file__).resolve().parents[2]


def test_all_six_packages_come_from_one_home():
    assert guard.check() == ROOT


def test_a_foreign_package_of_our_name_is_named_with_its_place(tmp_path):
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy" / "__init__.py").write_text("")
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]; from pipelines import guard; guard.check()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert "MixedPackages" in done.stderr
    assert f"'deploy' from {tmp_path}" in done.stderr
    assert "'corpus'" not in done.stderr


def test_an_absent_package_is_named(monkeypatch):
    monkeypatch.setattr(guard, "PACKAGES", (*guard.PACKAGES, "no_such_package_of_ours"))
    with pytest.raises(guard.MixedPackages, match="'no_such_package_of_ours' from nowhere"):
        guard.check()


def test_a_worker_with_other_code_is_refused():
    guard.check_same_code(guard.code_digest())
    with pytest.raises(guard.MixedPackages, match="other code"):
        guard.check_same_code("0" * 32)
