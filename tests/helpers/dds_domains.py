"""DDS domains of their own, for tests that speak over DDS."""

from __future__ import annotations

import itertools
import os

import pytest

_DOMAINS = itertools.count(os.getpid() % 100)


@pytest.fixture
def dds_domain() -> int:
    """A DDS domain that no other test speaks in."""
    return 20 + next(_DOMAINS) % 200
