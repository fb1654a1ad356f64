"""`use_store()`: another store for a block, in threads, tasks and nested blocks."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Generator, Iterator
from contextvars import Context, copy_context

import pytest

import mintkey
from mintkey import Model, ModelConfig, Store, connect, use_store
from mintkey.attributes import NumberAttribute, StringAttribute
from mintkey.errors import ConfigurationError


class Note(Model):
    model_config = ModelConfig(table="notes_of_tenants")
    pk = StringAttribute(partition_key=True)
    n = NumberAttribute()


class Archived(Model):
    model_config = ModelConfig(table="archived_notes", store="archive")
    pk = StringAttribute(partition_key=True)


@pytest.fixture
def tenants() -> Iterator[tuple[Store, Store]]:
    with connect("sqlite://", name="tenant-a") as first, connect("sqlite://", name="tenant-b") as second:
        yield first, second


async def test_a_block_has_its_own_store(store, do, tenants):
    first, second = tenants
    await do.save(Note(pk="outer"))
    with use_store(first) as used:
        assert used is first
        await do.save(Note(pk="a"))
        with use_store(second):
            assert await do.get(Note, pk="a") is None
            await do.save(Note(pk="b"))
        assert await do.get(Note, pk="b") is None
        assert [note.pk for note in await do.iterate(Note.scan())] == ["a"]
    assert await do.get(Note, pk="a") is None
    assert await do.get(Note, pk="outer") is not None


async def test_the_store_of_before_is_back_after_an_exception(store, do, tenants):
    with pytest.raises(ZeroDivisionError), use_store(tenants[0]):
        raise ZeroDivisionError
    await do.save(Note(pk="outer"))
    with use_store(tenants[0]):
        assert await do.get(Note, pk="outer") is None


async def test_tasks_have_the_store_of_the_block_that_started_them(tenants):
    async def count(tenant: Store, notes: int) -> int:
        with use_store(tenant):
            await asyncio.gather(*(Note(pk=str(number)).asave() for number in range(notes)))
            return await Note.scan().acount()

    assert await asyncio.gather(*(count(tenant, 3 + index) for index, tenant in enumerate(tenants))) == [3, 4]


def test_other_threads_keep_their_store_unless_they_get_the_context(tenants):
    first, _ = tenants
    found = {}

    def look(name: str) -> None:
        found[name] = Note.get(pk="a") is not None

    with connect("sqlite://"), use_store(first):
        Note(pk="a").save()
        inside, outside = copy_context(), Context()
        threads = [
            threading.Thread(target=outside.run, args=[look, "outside"]),
            threading.Thread(target=inside.run, args=[look, "inside"]),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == {"inside": True, "outside": False}


async def test_the_event_loop_hands_the_store_to_a_thread(tenants):
    with use_store(tenants[0]):
        await Note(pk="a").asave()
        assert await asyncio.to_thread(Note.get, pk="a") is not None


async def test_a_name_of_another_store(do, tenants):
    with pytest.raises(ConfigurationError, match="archive"):
        await do.save(Archived(pk="a"))
    with use_store("tenant-b", name="archive"):
        await do.save(Archived(pk="a"))
        assert await do.get(Archived, pk="a") is not None
    with use_store(tenants[1]), pytest.raises(ConfigurationError, match="archive"):
        await do.get(Archived, pk="a")


async def test_connect_inside_a_block_changes_the_store_of_after(do, tenants):
    with use_store(tenants[0]), connect("sqlite://"):
        await do.save(Note(pk="a"))
        with use_store(tenants[0]):
            assert await do.get(Note, pk="a") is not None


async def test_pipelines_and_transactions_write_to_the_store_of_their_writes(tenants):
    first, second = tenants
    with connect("sqlite://"):
        async with mintkey.pipeline() as pipeline:
            with use_store(first):
                Note(pk="p").save(pipeline=pipeline)
        with use_store(first):
            assert await Note.aget(pk="p") is not None
        async with mintkey.transaction() as tx:
            with use_store(second):
                tx.save(Note(pk="t"))
        with use_store(second):
            assert await Note.aget(pk="t") is not None
        assert await Note.scan().acount() == 0
        async with mintkey.transaction() as tx:
            with use_store(first):
                tx.save(Note(pk="x"))
            with use_store(second), pytest.raises(ConfigurationError):
                tx.save(Note(pk="y"))


@pytest.mark.parametrize("store", [None, 5, "sqlite://"])
def test_what_is_no_store(store):
    with (
        pytest.raises((TypeError, ConfigurationError), match=r"use_store\(\) takes? a connected store or its name"),
        use_store(store),
    ):
        pass


def test_a_block_that_ends_in_another_context_is_an_error(tenants):
    first, _ = tenants

    def dependency():
        with use_store(first):
            yield

    halves = dependency()
    copy_context().run(next, halves)
    with pytest.raises(ConfigurationError, match="another thread or task"):
        copy_context().run(halves.close)


async def test_blocks_of_generators_end_in_any_order(tenants, do):
    def rows(store: Store) -> Generator[Store]:
        with use_store(store) as used:
            yield used

    with connect("sqlite://") as outer:
        halves = first, second = [rows(tenant) for tenant in tenants]
        for half, store in zip(halves, tenants, strict=True):
            assert next(half) is store
        await do.save(Note(pk="in-second"))
        first.close()
        # The block of the other generator still applies to this code.
        assert await do.get(Note, pk="in-second") is not None
        second.close()
        assert await do.get(Note, pk="in-second") is None
        await do.save(Note(pk="outer"))
        with use_store(outer):
            assert await do.get(Note, pk="outer") is not None


async def test_a_block_around_an_async_generator_applies_to_its_rows(tenants, do):
    async def names(store: Store) -> list[str]:
        with use_store(store):
            return [note.pk for note in await do.iterate(Note.scan())]

    with connect("sqlite://"):
        with use_store(tenants[0]):
            await do.save(Note(pk="a"))
        for name in await names(tenants[0]):
            await do.save(Note(pk=f"copy of {name}"))
        assert await do.get(Note, pk="copy of a") is not None


async def test_an_abandoned_async_generator_ends_in_another_context(tenants):
    """The event loop closes it in a task of its own, which reports the error."""
    reported = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context["exception"]))

    async def rows() -> AsyncIterator[str]:
        with use_store(tenants[0]):
            yield "a"

    async def reading() -> None:
        async for _ in rows():
            return

    await asyncio.create_task(reading())
    gc.collect()
    for _ in range(100):
        await asyncio.sleep(0)
    assert [str(error).partition(", so")[0] for error in reported] == [
        "a use_store() block ended in another thread or task than it began in"
    ]
