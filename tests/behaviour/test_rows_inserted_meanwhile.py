"""Updates that read their row first: another writer inserts or replaces the row between the read and the write."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from tests.behaviour.test_updates_by_base_classes import WAYS, Document, Letter
from tests.behaviour.transacting import begun, refused

from mintkey import Index, Model, ModelConfig, pipeline
from mintkey.attributes import ExpiresIn, JSONAttribute, StringAttribute, TTLAttribute
from mintkey.errors import ItemGone


@dataclasses.dataclass
class Size:
    width: int


@dataclasses.dataclass
class LaterSize:
    width: int
    height: int


class Task(Model):
    model_config = ModelConfig(table="tasks", colocate="tasks")
    id = StringAttribute(partition_key=True)
    owner = StringAttribute(default="ada")
    status = StringAttribute(default="new")
    board = StringAttribute(template="{owner}#{status}")
    by_board = Index("board")
    size = JSONAttribute(Size)
    until = TTLAttribute()


class LaterTask(Model):
    """The next version of the class."""

    model_config = ModelConfig(table="tasks", colocate="tasks")
    id = StringAttribute(partition_key=True)
    owner = StringAttribute()
    status = StringAttribute()
    board = StringAttribute(template="{owner}#{status}")
    by_board = Index("board")
    size = JSONAttribute(LaterSize)
    until = TTLAttribute()


class StoredTask(Model):
    """What is stored."""

    model_config = ModelConfig(table="tasks", colocate="tasks")
    id = StringAttribute(partition_key=True)
    board = StringAttribute()
    until = TTLAttribute()


def after_the_read(store: Any, write: Callable[[], object]) -> list[Any]:
    """Let another writer write after the first read; returns the reads."""
    reads: list[Any] = []

    @store.on_request
    def note(request: Any) -> None:
        if request.operation == "get":
            reads.append(request)
            if len(reads) == 1:
                write()

    return reads


async def by_key(do: Any, **values: Any) -> None:
    await do.update_by_key(Task, "1", **values)


async def by_upsert(do: Any, **values: Any) -> None:
    await do.update_by_key(Task, "1", upsert=True, **values)


async def with_the_old_row(do: Any, **values: Any) -> None:
    assert (await do.update_by_key(Task, "1", return_old=True, **values)).owner == "bob"


async def of_an_instance(do: Any, **values: Any) -> None:
    await do.update(Task(id="1"), **values)


async def in_a_pipeline(do: Any, **values: Any) -> None:
    writes = pipeline()
    await do.update_by_key(Task, "1", pipeline=writes, **values)
    await do.execute(writes)


async def in_a_transaction(do: Any, **values: Any) -> None:
    async with begun(do) as tx:
        tx.update_by_key(Task, "1", **values)


@pytest.mark.parametrize("way", [by_key, by_upsert, with_the_old_row, of_an_instance, in_a_pipeline, in_a_transaction])
async def test_an_index_key_of_a_row_that_is_inserted_meanwhile(do, store, way):
    await do.count(Task)
    reads = after_the_read(store, lambda: Task.create(id="1", owner="bob"))
    await way(do, status="done")
    assert len(reads) == 1
    assert (await do.get(StoredTask, "1")).board == "bob#done"
    assert [task.id for task in await do.all(Task.by_board.query(owner="bob", status="done"))] == ["1"]
    assert await do.all(Task.by_board.query(owner="bob", status="new")) == []


@pytest.mark.parametrize("way", [by_key, by_upsert, in_a_pipeline, in_a_transaction])
async def test_a_structured_value_of_a_row_that_is_inserted_meanwhile(do, store, way):
    await do.count(Task)
    await do.count(LaterTask)
    after_the_read(store, lambda: LaterTask.create(id="1", owner="bob", size=LaterSize(1, 2)))
    await way(do, size=Size(3))
    assert (await do.get(LaterTask, "1")).size == LaterSize(3, 2)


@pytest.mark.parametrize("expired", [False, True])
async def test_a_row_that_stays_missing(do, clock, expired):
    if expired:
        await do.create(Task, id="1", owner="bob", until=ExpiresIn.hours(1))
        clock.advance(7200)
    for way in (by_key, of_an_instance):
        with pytest.raises(ItemGone):
            await way(do, status="done", size=Size(3))
    async with refused(do) as (tx, raised):
        tx.update_by_key(Task, "1", status="done")
        tx.create(Task, id="1 other")
    assert [type(reason) for reason in raised.value.reasons] == [ItemGone, type(None)]
    assert await do.count(Task) == 0
    await by_upsert(do, status="done", size=Size(3))
    assert (await do.get(StoredTask, "1")).board == "ada#done"


@pytest.mark.parametrize("way", [way for way in WAYS if way.__name__ != "with_the_old_row"])
@pytest.mark.parametrize("before", ["missing", "of the base class"])
async def test_a_row_that_becomes_one_of_a_subclass(do, store, clock, way, before):
    await do.count(Letter)
    await do.count(Document)
    if before == "of the base class":
        await do.create(Document, id="1", status="new")
    after_the_read(store, lambda: Letter(id="1", status="new").save())
    await way(do, "1")
    stored = await do.get(Document, "1")
    assert (type(stored), stored.status, stored.pages, stored.version) == (Letter, "sent", 2, 2)
    assert stored.changed_at == "2024-01-01T00:00:00Z"
    assert [row.id for row in await do.all(do.query(Letter, status="sent"))] == ["1"]
