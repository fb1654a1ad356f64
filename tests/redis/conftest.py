"""A Redis server for this folder, and a look into it past the code under test."""

from __future__ import annotations

import os
import runpy
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "servers" / "redis.py"


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The server that MINTKEY_TEST_REDIS names, or one that runs until the tests end."""
    if named := os.environ.get("MINTKEY_TEST_REDIS"):
        yield named
        return
    with runpy.run_path(str(SCRIPT))["server"]() as address:
        yield address


@pytest.fixture
def url(server) -> str:
    """The address of an empty store."""
    return f"{server}?prefix={uuid.uuid4()}"
