"""Closing a store while threads and tasks write to it: it ends, and every write has a result."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from mintkey import Model, Store, connect
from mintkey.attributes import NumberAttribute, StringAttribute
from mintkey.errors import ConfigurationError

#: Far longer than closing takes on a busy machine.
HANG = 60


class Row(Model):
    pk = StringAttribute(partition_key=True)
    n = NumberAttribute()


class Writers:
    """Threads that save, some of them by tasks, until the store refuses."""

    def __init__(self, blocking: int = 3, awaiting: int = 2) -> None:
        self.saved: list[str] = []
        self.surprises: list[BaseException] = []
        self._threads = [threading.Thread(target=self._save, args=(f"b{n}",), daemon=True) for n in range(blocking)]
        self._threads += [threading.Thread(target=self._asave, args=(f"a{n}",), daemon=True) for n in range(awaiting)]
        self._busy = threading.Barrier(blocking + awaiting + 1)
        for thread in self._threads:
            thread.start()
        self._busy.wait(HANG)

    def _save(self, name: str) -> None:
        number = 0
        try:
            while True:
                Row(pk=f"{name}-{number}", n=number).save()
                self.saved.append(f"{name}-{number}")
                number += 1
                if number == 5:
                    self._busy.wait(HANG)
        except ConfigurationError:
            pass
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.surprises.append(error)

    def _asave(self, name: str) -> None:
        async def task(number: int) -> None:
            for round_ in range(10**9):
                pk = f"{name}-{number}-{round_}"
                await Row(pk=pk, n=number).asave()
                self.saved.append(pk)
                if (number, round_) == (0, 5):
                    self._busy.wait(HANG)

        async def tasks() -> None:
            for outcome in await asyncio.gather(*map(task, range(4)), return_exceptions=True):
                if not isinstance(outcome, ConfigurationError):
                    self.surprises.append(outcome or AssertionError("it went on"))

        asyncio.run(tasks())

    def join(self) -> None:
        for thread in self._threads:
            thread.join(HANG)
            assert not thread.is_alive()
        assert self.surprises == []


def ends(close: Any) -> None:
    """Runs it on a thread of its own: one that hangs must not hang the tests."""
    thread = threading.Thread(target=close, daemon=True)
    thread.start()
    thread.join(HANG)
    assert not thread.is_alive(), "closing does not return"


def leave_with(opened: Store) -> None:
    with opened:
        pass


async def leave_async_with(opened: Store) -> None:
    async with opened:
        pass


CLOSE = {
    "close": Store.close,
    "with": leave_with,
    "aclose": lambda opened: asyncio.run(opened.aclose()),
    "async with": lambda opened: asyncio.run(leave_async_with(opened)),
}


@pytest.mark.parametrize("way", CLOSE)
def test_closing_while_threads_and_tasks_write_ends(store, url, way):
    Row(pk="first").save()
    saved = {"first"}
    # It gets its name back at the end of a `with` block.
    store.close()
    for _ in range(5):
        opened = connect(url)
        writers = Writers()
        ends(lambda opened=opened: CLOSE[way](opened))
        writers.join()
        saved |= set(writers.saved)
    with connect(url):
        assert {row.pk for row in Row.scan()} >= saved


@pytest.mark.parametrize(("blocking", "awaiting"), [(4, 0), (0, 4), (1, 1)])
def test_closing_memory_while_it_is_written_ends(blocking, awaiting):
    for _ in range(5):
        opened = connect("sqlite://")
        writers = Writers(blocking, awaiting)
        ends(opened.close)
        writers.join()


def test_closing_from_several_threads_at_once_ends(store, url):
    Row(pk="first").save()
    opened = connect(url)
    writers = Writers()
    closing = [threading.Thread(target=opened.close, daemon=True) for _ in range(4)]
    for thread in closing:
        thread.start()
    for thread in closing:
        thread.join(HANG)
        assert not thread.is_alive()
    writers.join()
