"""Awaited calls: cancelled ones, loops that come and go, closing in the middle, and what is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from pathlib import Path
from typing import Any

import pytest

from mintkey import AutoGenerate, Model, connect
from mintkey.attributes import NumberAttribute, StringAttribute, VersionAttribute
from mintkey.errors import ConditionFailed, KeyCollision, MintkeyError


class Row(Model):
    pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    n = NumberAttribute()
    version = VersionAttribute()


@pytest.fixture(autouse=True)
def table(store) -> None:
    """The table is there: these tests are about other things than making it."""
    Row.create_table()


async def test_of_many_at_once_each_has_an_outcome_of_its_own(store):
    await Row(pk="taken", n=0).asave()
    rows = [Row(pk=f"p{n}", n=n) for n in range(20)]
    outcomes: list[Any] = await asyncio.gather(
        *(row.asave() for row in rows),
        Row.acreate(pk="taken", n=1),
        Row(pk="taken", n=2).asave(),
        Row(pk="new", n=1).asave(condition=Row.n == 5),
        Row(pk="bad", n="x").asave(),
        Row(pk="").asave(),
        Row.aget(pk="taken"),
        return_exceptions=True,
    )
    assert outcomes[:20] == [None] * 20
    assert [isinstance(outcome, MintkeyError) for outcome in outcomes[20:25]] == [True] * 5
    assert outcomes[25].n == 0
    assert await Row.acount() == 21


async def test_awaiting_a_blocking_save_saves_and_raises(store):
    row = Row(pk="a", n=1)
    with pytest.raises(TypeError, match="await"):
        await row.save()  # type: ignore[misc]
    assert (await Row.aget(pk="a")) == row
    with pytest.warns(RuntimeWarning, match="was never awaited"):
        Row(pk="b", n=1).asave()  # type: ignore[unused-coroutine]
    assert await Row.aget(pk="b") is None


async def test_two_tasks_that_save_one_instance(store):
    row = Row(pk="a", n=1)
    outcomes = await asyncio.gather(*(row.asave() for _ in range(4)), return_exceptions=True)
    assert None in outcomes
    assert all(outcome is None or isinstance(outcome, ConditionFailed) for outcome in outcomes)
    stored = await Row.aget(pk="a")
    assert stored is not None
    assert stored.n == 1


@pytest.mark.parametrize("steps", range(6))
async def test_a_cancelled_save_is_never_a_second_item(store, steps):
    for attempt in range(30):
        row = Row(n=attempt)
        task = asyncio.ensure_future(row.asave())
        others = [asyncio.ensure_future(Row(n=-1).asave()) for _ in range(attempt % 4)]
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        if attempt % 2:
            row.n = 1000 + attempt
        await row.asave()
        await asyncio.gather(*others)
        stored = await Row.aget(pk=row.pk)
        assert stored == row
        assert stored is not None
        assert stored.n == (1000 + attempt if attempt % 2 else attempt)
    assert await Row.acount(Row.n >= 0) == 30


@pytest.mark.parametrize("steps", range(6))
async def test_a_cancelled_change_is_made_once(store, steps):
    row = Row(n=0)
    await row.asave()
    for attempt in range(1, 30):
        row.n = attempt
        task = asyncio.ensure_future(row.asave())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await row.asave()
        stored = await Row.aget(pk=row.pk)
        assert stored == row
        assert stored is not None
        assert stored.n == attempt
    assert row.version == 30


async def test_a_timeout_around_a_save(store):
    row = Row(n=1)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(row.asave(), timeout=0)
    await row.asave()
    assert await Row.acount() == 1


async def test_somebody_elses_row_is_not_taken_for_ones_own(store):
    row = Row(pk="a", n=1)
    task = asyncio.ensure_future(row.asave())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    stored = await Row.aget(pk="a")
    if stored is not None:
        await stored.adelete()
    await Row(pk="a", n=2).asave()
    with pytest.raises(ConditionFailed):
        await row.asave()
    other = await Row.aget(pk="a")
    assert other is not None
    assert other.n == 2


def test_one_store_serves_loop_after_loop(store):
    for n in range(5):

        async def body(n: int = n) -> int:
            await asyncio.gather(*(Row(n=n).asave() for _ in range(8)))
            return await Row.acount()

        assert asyncio.run(body()) == 8 * (n + 1)


def test_one_store_serves_several_loops_at_once(store):
    counts: list[int] = []

    def work() -> None:
        async def body() -> None:
            for _ in range(10):
                await asyncio.gather(*(Row(n=1).asave() for _ in range(8)))
            counts.append(await Row.acount())

        asyncio.run(body())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(counts) == Row.count() == 320


def test_blocking_and_awaited_calls_at_once(store):
    async def body() -> None:
        saving = [asyncio.ensure_future(Row(n=1).asave()) for _ in range(32)]
        threads = [asyncio.get_running_loop().run_in_executor(None, Row(n=2).save) for _ in range(32)]
        for _ in range(8):
            Row(n=3).save()
        await asyncio.gather(*saving, *threads)

    asyncio.run(body())
    assert Row.count() == 72


def test_a_loop_that_ends_with_calls_in_flight(store):
    async def body() -> None:
        for n in range(64):
            asyncio.ensure_future(Row(n=n).asave())  # noqa: RUF006 - given up on purpose
        await asyncio.sleep(0)

    asyncio.run(body())
    Row(n=1).save()
    assert Row.count() >= 1

    async def again() -> int:
        await Row(n=2).asave()
        return await Row.acount(Row.n == 2)

    assert asyncio.run(again()) >= 1


class NoReader(asyncio.SelectorEventLoop):
    """A loop that watches no descriptors, as on Windows."""

    def add_reader(self, *_):  # type: ignore[override]
        raise NotImplementedError


def test_a_loop_that_watches_no_descriptors(store):
    event_loop = NoReader()
    try:

        async def body() -> None:
            await asyncio.gather(*(Row(n=n).asave() for n in range(20)))
            assert await Row.acount() == 20

        event_loop.run_until_complete(body())
    finally:
        event_loop.close()


async def test_closing_with_calls_in_flight_finishes_or_refuses_each(store, url):
    closing = connect(url)
    saving = [asyncio.ensure_future(Row(n=n).asave()) for n in range(64)]
    await asyncio.sleep(0)
    await closing.aclose()
    outcomes = await asyncio.gather(*saving, return_exceptions=True)
    assert all(outcome is None or isinstance(outcome, MintkeyError) for outcome in outcomes)
    async with connect(url):
        assert await Row.acount() == outcomes.count(None)


async def test_a_thousand_saves_and_reads_at_once(store):
    await asyncio.gather(*(Row(pk=str(n), n=n).asave() for n in range(1000)))
    rows = await asyncio.gather(*(Row.aget(pk=str(n)) for n in range(1000)))
    assert [row.n for row in rows if row is not None] == list(range(1000))


async def test_of_many_tasks_that_insert_one_key_one_wins(store):
    outcomes = await asyncio.gather(*(Row.acreate(pk="same", n=n) for n in range(20)), return_exceptions=True)
    won = [outcome for outcome in outcomes if isinstance(outcome, Row)]
    lost = [outcome for outcome in outcomes if isinstance(outcome, (KeyCollision, ConditionFailed))]
    assert (len(won), len(lost)) == (1, 19)
    stored = await Row.aget(pk="same")
    assert stored == won[0]


def left_open() -> tuple[list[str], int]:
    """The files and sockets that this process has, and how many threads of the system."""
    descriptors = []
    for place in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one that reads this folder
            descriptors.append(str(place.readlink()))
    return sorted(descriptors), len(list(Path("/proc/self/task").iterdir()))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="only Linux tells what a process has open")
def test_closing_leaves_no_file_socket_or_thread(store, url):
    def use() -> None:
        with connect(url):
            Row(n=1).save()

            async def body() -> None:
                await asyncio.gather(*(Row(n=n).asave() for n in range(20)))
                assert await Row.acount() >= 20

            asyncio.run(body())
            held.append(left_open())

    def is_gone() -> bool:
        files, threads = left_open()
        return files == before[0] and threads <= before[1]

    held: list[Any] = []
    store.close()
    # What is opened once for the whole process is open then.
    use()
    before = left_open()
    for _ in range(5):
        use()
    # A thread that has finished everything is gone a moment later, those of before among them.
    for _ in range(1_000):
        if is_gone():
            break
        threading.Event().wait(0.01)
    assert is_gone(), (before, left_open())
    assert all(during != before for during in held)
