"""What the tests of this folder share: a check that the faulty design must not pass."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest


def seen() -> Any:
    """The check inside sees the fault."""
    return pytest.raises(AssertionError)


def together(count: int, body: Callable[[int], None]) -> None:
    """Runs a function in several threads at once, with their numbers."""
    ready = threading.Barrier(count)

    def run(number: int) -> None:
        ready.wait()
        body(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
