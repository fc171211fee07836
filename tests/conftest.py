"""Fixtures every test may use."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["s3_server"]

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real files of every format; they are private, so a clone may not have them."""
    if not (SHARED / "data").is_dir():
        pytest.skip("real data files are absent: no ../shared/data beside the repository")
    return SHARED / "data"


@pytest.fixture(scope="session")
def g1():
    from corpus.g1 import G1

    return G1
