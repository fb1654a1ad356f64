"""Faults of other packages: each check is run on this one, and on the faulty design, which it must see."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mintkey import Store, connect


@pytest.fixture(autouse=True)
def store() -> Iterator[Store]:
    """A fresh store in memory."""
    with connect("sqlite://") as opened:
        yield opened
