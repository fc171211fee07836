"""Fixtures every test may use."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["dds_domains", "s3_server", "toy_bundle"]

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


@pytest.fixture(scope="session")
def standing(g1):
    """Two seconds at 50 Hz, upright on both soles, nothing moving."""
    import numpy as np

    from corpus.motion import RobotMotion
    from corpus.posture import postures

    qpos = np.zeros((100, 36))
    qpos[:, 3] = 1.0
    qpos[:, 2] -= postures(g1, qpos).soles[2].min()
    return RobotMotion(qpos, 50.0)
