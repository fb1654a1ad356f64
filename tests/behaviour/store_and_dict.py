"""The machine of tests that make the same writes in a store and in a dict, and compare."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Coroutine
from typing import Any

from hypothesis.stateful import RuleBasedStateMachine
from tests.behaviour.conftest import Do

from mintkey import Store, connect
from mintkey.testing import FrozenClock, frozen


class StoreAndDict(RuleBasedStateMachine):
    """A store of its own, a dict of the rows, and a clock. A row expires at its value of `until`."""

    address: Callable[[Any], str]
    model: Any

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[Any, dict[str, Any]] = {}
        self.folder = tempfile.TemporaryDirectory()
        # A server removes expired rows by its own clock, which must not be ahead of this one: a life has minutes, not
        # seconds.
        self.block = frozen("2100-01-01T00:00:00Z", seed=1)
        self.clock: FrozenClock = self.block.__enter__()
        self.event_loop = asyncio.new_event_loop()
        self.store: Store = connect(type(self).address(self.folder.name))

    def teardown(self) -> None:
        if not self.store.creates_tables:
            self.model.delete_table()
        self.store.close()
        self.event_loop.close()
        self.block.__exit__(None, None, None)
        self.folder.cleanup()

    def run(self, awaited: bool, body: Callable[[Do], Coroutine[Any, Any, Any]]) -> Any:
        return self.event_loop.run_until_complete(body(Do(blocking=not awaited)))

    def alive(self) -> dict[Any, dict[str, Any]]:
        return {key: row for key, row in self.rows.items() if "until" not in row or row["until"] > self.clock.time}
