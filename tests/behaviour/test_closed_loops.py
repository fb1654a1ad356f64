"""Event loops that are closed while requests are in flight leave nothing behind."""

from __future__ import annotations

import asyncio
import gc
import logging
from pathlib import Path

import pytest

from mintkey import Model, connect
from mintkey.attributes import StringAttribute

pytestmark = pytest.mark.slow


class Thing(Model):
    pk = StringAttribute(partition_key=True)


def close_in_flight() -> None:
    loop = asyncio.new_event_loop()

    async def submit() -> None:
        for place in range(5):
            _ = asyncio.ensure_future(Thing(pk=str(place)).asave())
        for _ in range(2):
            await asyncio.sleep(0)

    loop.run_until_complete(submit())
    loop.close()


def objects() -> int:
    """The objects that the garbage collector cannot free."""
    # The first collection runs what tasks and coroutines do when they end; the second frees them.
    for _ in range(2):
        gc.collect()
    return len(gc.get_objects())


def descriptors() -> int:
    return len(list(Path("/dev/fd").iterdir()))


def test_a_loop_closed_in_flight_is_freed(store, caplog):
    caplog.set_level(logging.CRITICAL, "asyncio")
    opened = descriptors()
    for _ in range(5):
        close_in_flight()
    before = objects()
    for _ in range(60):
        close_in_flight()
    # Each loop that stays would be 95 objects.
    assert objects() - before < 1500
    # Requests that are still on their way have sockets: closing finishes them.
    store.close()
    assert descriptors() - opened < 20


def test_a_store_that_nobody_closed_is_freed_with_its_loop(url, store, caplog):
    caplog.set_level(logging.CRITICAL, "asyncio")
    Thing(pk="first").save()

    def use() -> None:
        connect(url)
        close_in_flight()

    use()
    before = objects()
    for _ in range(30):
        use()
    assert objects() - before < 750


async def test_a_loop_waits_for_each_of_the_stores_that_it_uses_in_turn(url, store):
    await Thing(pk="first").asave()
    for place in range(5):
        # This store ends in the turn of the loop in which its last answer came.
        with connect(url):
            await Thing(pk=str(place)).asave()
            assert await Thing.aget(pk=str(place)) is not None


async def test_a_loop_stops_watching_for_stores_that_are_gone(url, store):
    await Thing(pk="first").asave()
    before = await watched()
    for place in range(5):
        connect(url)
        await Thing(pk=str(place)).asave()
    assert await watched() == before


async def watched() -> int:
    """How many descriptors the running loop watches once it is idle."""
    gc.collect()
    for _ in range(3):
        await asyncio.sleep(0)
    selector = asyncio.get_running_loop()._selector  # type: ignore[attr-defined]
    return len(selector.get_map())
