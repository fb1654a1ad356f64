"""How much trouble there is: a short form for every test run, a long one for `make chaos`."""

from __future__ import annotations

import os
import random

import pytest


@pytest.fixture
def seed() -> int:
    """MINTKEY_CHAOS_SEED, or a new one; a test that fails shows it."""
    return int(os.environ.get("MINTKEY_CHAOS_SEED") or random.randrange(1 << 32))


@pytest.fixture
def times() -> int:
    """How many times as long as usual a test runs: MINTKEY_CHAOS."""
    return int(os.environ.get("MINTKEY_CHAOS") or 1)
