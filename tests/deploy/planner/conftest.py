from __future__ import annotations

import pytest
from strolling import walks_and_squats


@pytest.fixture(scope="session")
def index(tmp_path_factory):
    return walks_and_squats(tmp_path_factory.mktemp("planner") / "index")
