"""Importing the package loads little: what costs much waits until it is needed."""

from __future__ import annotations

import subprocess
import sys

import pytest

LATER = {"asyncio", "difflib", "hashlib", "json", "logging", "ssl", "subprocess"}


@pytest.mark.parametrize("statement", ["import mintkey", "from mintkey import Model, connect"])
def test_dear_modules_are_not_loaded_by_the_import(statement):
    told = subprocess.run(
        [sys.executable, "-c", f"{statement}; import sys; print(*sys.modules)"],
        check=True,
        capture_output=True,
        text=True,
    )
    loaded = set(told.stdout.split())
    assert "mintkey" in loaded
    assert loaded & LATER == set()
