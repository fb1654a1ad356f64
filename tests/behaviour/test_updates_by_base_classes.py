"""A base class updates rows of its subclasses: what the subclass builds from the changes is written too."""

from __future__ import annotations

from typing import Any

import pytest

from mintkey import AutoGenerate, Index, Model, ModelConfig, pipeline, transaction
from mintkey.attributes import NumberAttribute, StringAttribute, VersionAttribute
from mintkey.errors import BatchIncomplete, ConditionFailed, ItemGone, NotLoaded, VersionConflict


class Document(Model):
    model_config = ModelConfig(table="documents")
    id = StringAttribute(partition_key=True)
    kind = StringAttribute(discriminator=True)
    status = StringAttribute()
    pages = NumberAttribute(default=1)


class Letter(Document):
    version = VersionAttribute()
    changed_at = StringAttribute(on_update=AutoGenerate.ISO8601)
    board = StringAttribute(template="STATUS#{status}")
    by_board = Index(partition_key="board")


class Note(Document):
    pass


@pytest.fixture
def tables(store, clock):
    store.claim(Letter.__mintkey_schema__)
    store.claim(Document.__mintkey_schema__)


async def by_key(do: Any, key: str) -> None:
    await do.update_by_key(Document, key, status="sent", pages=2)


async def by_upsert(do: Any, key: str) -> None:
    await do.update_by_key(Document, key, Document.pages.add(1), status="sent", upsert=True)


async def with_the_old_row(do: Any, key: str) -> None:
    old = await do.update_by_key(
        Document, key, status="sent", pages=2, condition=Document.status == "new", return_old=True
    )
    assert (type(old), old.status, old.version) == (Letter, "new", 1)


async def in_a_pipeline(do: Any, key: str) -> None:
    writes = pipeline()
    await do.update_by_key(Document, key, status="sent", pages=2, pipeline=writes)
    await do.execute(writes)


async def in_a_transaction(do: Any, key: str) -> None:
    def update(tx: Any) -> None:
        tx.update_by_key(Document, key, status="sent", pages=2)

    if do.blocking:
        with transaction() as tx:
            update(tx)
    else:
        async with transaction() as tx:
            update(tx)


async def of_an_instance_that_is_not_loaded(do: Any, key: str) -> None:
    await do.update(Document(id=key, pages=2), status="sent", pages=2)


WAYS = [by_key, by_upsert, with_the_old_row, in_a_pipeline, in_a_transaction, of_an_instance_that_is_not_loaded]


async def test_an_update_by_key(do, tables):
    for update in WAYS:
        key = update.__name__
        letter = await do.create(Letter, id=key, status="new")
        await update(do, key)
        stored = await do.get(Document, key)
        assert (stored.status, stored.pages, stored.version) == ("sent", 2, 2), key
        assert stored.changed_at == "2024-01-01T00:00:00Z", key
        letter.pages = 9
        with pytest.raises(VersionConflict):
            await do.save(letter)
    assert {row.id for row in await do.all(do.query(Letter, status="sent"))} == {way.__name__ for way in WAYS}
    assert await do.all(do.query(Letter, status="new")) == []


async def test_an_update_of_other_rows_is_as_before(do, tables):
    await do.create(Note, id="2", status="new")
    await do.update_by_key(Document, "2", status="sent")
    assert (await do.get(Note, "2")).status == "sent"
    with pytest.raises(ItemGone):
        await do.update_by_key(Document, "3", status="sent")
    await do.update_by_key(Document, "3", status="sent", upsert=True)
    assert type(await do.get(Document, "3")) is Document
    with pytest.raises(ConditionFailed):
        await do.update_by_key(Letter, "2", status="new")
    with pytest.raises(ConditionFailed):
        await do.update_by_key(Document, "2", pages=3, condition=Document.status == "new")


async def test_a_backfill(do, tables):
    class Earlier(Model):
        model_config = ModelConfig(table="documents")
        id = StringAttribute(partition_key=True)
        kind = StringAttribute()

    class Filled(Model):
        model_config = ModelConfig(table="documents")
        id = StringAttribute(partition_key=True)
        kind = StringAttribute(discriminator=True)
        status = StringAttribute(default="new")

    class Indexed(Filled):
        version = VersionAttribute()
        board = StringAttribute(template="STATUS#{status}")
        by_board = Index(partition_key="board")

    await do.save(Earlier(id="1", kind="Indexed"))
    await do.save(Earlier(id="2"))
    assert await do.backfill(Filled) == 2
    assert [(row.id, row.version) for row in await do.all(do.query(Indexed, status="new"))] == [("1", 1)]


async def test_a_base_class_that_reads_a_part_loads_the_versions_of_its_subclasses(do, tables):
    class Draft(Document):
        edition = VersionAttribute(alias="n")

    await do.create(Letter, id="1", status="new")
    await do.create(Draft, id="2", status="new")
    await do.create(Document, id="3", status="new")
    for way in ("get", "scan"):
        if way == "get":
            rows = [await do.get(Document, str(key), attributes=["pages"]) for key in (1, 2, 3)]
        else:
            rows = await do.all(do.scan(Document, attributes=["pages"]).order_by("id"))
        for row in rows:
            row.pages += 1
            await do.save(row)
    assert await do.all(Document.query.filter(id="2").values("pages")) == [{"pages": 3}]
    assert ((await do.get(Letter, "1")).version, (await do.get(Draft, "2")).edition) == (3, 3)
    stale = await do.get(Document, "2", attributes=["pages"])
    await do.update_by_key(Draft, "2", pages=7)
    stale.pages = 5
    with pytest.raises(VersionConflict):
        await do.save(stale)
    with pytest.raises(TypeError, match="Document has no attribute 'n'"):
        Document.scan().values("n")


async def test_an_index_does_not_load_the_version_of_a_subclass(do, store):
    class Page(Model):
        id = StringAttribute(partition_key=True)
        kind = StringAttribute(discriminator=True)
        book = StringAttribute()
        number = NumberAttribute()
        by_book = Index(partition_key="book", projection=["number"])

    class Cover(Page):
        version = VersionAttribute()

    await do.create(Cover, id="1", book="b", number=1)
    [cover] = await do.all(do.query(Page, book="b", attributes=["number"]))
    cover.number = 2
    with pytest.raises(NotLoaded, match=r"Cover\.version was not loaded, because the index"):
        await do.save(cover)
    await do.refresh(cover)
    cover.number = 2
    await do.save(cover)
    assert cover.version == 2


async def test_a_batch_of_a_base_class_refuses_items_of_a_subclass(do, tables):
    with pytest.raises(BatchIncomplete, match=r"use Letter\.batch_save\(\), or a pipeline") as raised:
        await do.batch_save(Document, [Document(id="1"), Letter(id="2")])
    assert [type(item) for item, _ in raised.value.failed] == [Letter]
    assert [row.id for row in await do.all(do.scan(Document))] == ["1"]


@pytest.mark.parametrize("way", ["by key", "an instance", "update_or_create"])
@pytest.mark.parametrize("then", ["deleted", "replaced"])
async def test_an_upsert_when_the_row_changes_its_class_meanwhile(do, tables, store, way, then):
    await do.create(Letter, id="1", status="new")
    reads: list[Any] = []

    @store.on_request
    def change(request: Any) -> None:
        if request.operation == "get" and not reads:
            reads.append(request)
            Letter.delete_by_key("1")
            if then == "replaced":
                Note(id="1", status="new").save()

    if way == "an instance":
        await do.update(Document(id="1"), status="sent", upsert=True)
    elif way == "update_or_create":
        await do.update_or_create(Document, id="1", defaults={"status": "sent"})
    else:
        await by_upsert(do, "1")
    assert len(reads) == 1
    stored = await do.get(Document, "1")
    assert (type(stored), stored.status) == (Note if then == "replaced" else Document, "sent")


async def test_an_update_when_the_row_is_deleted_meanwhile(do, tables, store):
    await do.create(Letter, id="1", status="new")

    @store.on_request
    def change(request: Any) -> None:
        if request.operation == "get":
            Letter.delete_by_key("1")

    with pytest.raises(ItemGone):
        await do.update_by_key(Document, "1", status="sent")
