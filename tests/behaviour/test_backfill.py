"""Defaults that are written into the rows that lack them."""

from __future__ import annotations

import logging
from typing import Any, cast

import pytest

from mintkey import AutoGenerate, Model, ModelConfig
from mintkey.attributes import (
    JSONAttribute,
    NumberAttribute,
    NumberSetAttribute,
    StringAttribute,
    StringSetAttribute,
    VersionAttribute,
)
from mintkey.errors import BatchIncomplete
from mintkey.fields import Field, KeyField


class Old(Model):
    model_config = ModelConfig(table="backfilled")

    pk = StringAttribute(partition_key=True)
    sk = NumberAttribute(sort_key=True)
    status = StringAttribute()
    version = VersionAttribute()


class New(Model):
    model_config = ModelConfig(table="backfilled")

    pk = StringAttribute(partition_key=True)
    sk = NumberAttribute(sort_key=True)
    status = StringAttribute(default="open", index=True)
    tags = JSONAttribute(default=lambda: ["new"])
    id = StringAttribute(default=AutoGenerate.ULID)
    at = StringAttribute(on_update=AutoGenerate.ISO8601)
    note = StringAttribute()
    version = VersionAttribute()


def rows(number: int) -> list[Old]:
    return [Old(pk="a", sk=n, status="paid" if n % 3 == 0 else None) for n in range(number)]


async def test_defaults_are_written_where_they_are_absent(do, store):
    await do.batch_save(Old, rows(9))
    seen: list[tuple[int, int | None]] = []
    assert await do.backfill(New, on_progress=lambda done, total: seen.append((done, total))) == 9
    assert seen == [(9, None)]
    found = await do.all(do.query(New, pk="a"))
    assert [row.status for row in found] == ["paid", "open", "open"] * 3
    assert {tuple(row.tags) for row in found} == {("new",)}
    assert {(row.id, row.note, row.version) for row in found} == {(None, None, 2)}
    assert all(row.at for row in found)
    assert await do.count(New, status="open") == 6
    # There is nothing left to do.
    assert await do.backfill(New) == 0
    assert {row.version for row in await do.all(do.query(New, pk="a"))} == {2}


async def test_a_named_attribute_may_have_a_strategy(do, store):
    await do.batch_save(Old, rows(700))
    assert await do.backfill(New, "id") == 700
    found = await do.all(do.query(New, pk="a"))
    assert len({row.id for row in found}) == 700
    assert {row.tags for row in found} == {None}


async def test_a_value_written_meanwhile_is_kept(do, store, monkeypatch):
    await do.batch_save(Old, rows(3))
    scan = vars(Model)["scan"].__func__

    def late(model, *conditions, **parameters):
        found = scan(model, *conditions, **parameters).all()
        New.update_by_key(("a", 1), status="closed")
        New.batch_delete([("a", 2)])
        return found

    monkeypatch.setattr(New, "scan", classmethod(late))
    await do.backfill(New, "status")
    found = {row.sk: row.status for row in await do.all(do.query(New, pk="a"))}
    assert found == {0: "paid", 1: "closed"}


@pytest.mark.parametrize("name", ["note", "nothing", "pk", "sk", "version", 5])
async def test_a_name_without_a_default_is_refused(do, store, name):
    with pytest.raises(TypeError, match=r"New\.backfill\(\) takes"):
        await do.backfill(New, name)


async def test_failures_are_listed(do, store):
    class Limited(Model):
        model_config = ModelConfig(table="backfilled")

        pk = StringAttribute(partition_key=True)
        sk = NumberAttribute(sort_key=True)
        large = StringAttribute(default=lambda: "x" * 500_000)

    await do.batch_save(Old, rows(2))
    with pytest.raises(BatchIncomplete) as caught:
        await do.backfill(Limited)
    assert len(caught.value.failed) == 2


def test_an_attribute_of_that_name_hides_the_method(caplog):
    with caplog.at_level(logging.WARNING, "mintkey"):

        class Named(Model):
            pk = StringAttribute(partition_key=True)
            backfill = StringAttribute()  # type: ignore[assignment]

    assert Named(pk="a", backfill="b").backfill == "b"
    assert "Named.backfill hides the method Model.backfill()" in caplog.text


class Person(Model):
    model_config = ModelConfig(table="backfilled_people")

    name = KeyField()
    language = Field()


class Later(Model):
    model_config = ModelConfig(table="backfilled_people")

    name = KeyField()
    language = Field(default="en", default_on_load=True)


async def test_fields_have_defaults_on_load_and_backfills(do, store):
    await do.save(Person(name="ada"))
    assert (await do.get(Later, name="ada")).language == "en"
    assert await do.count(Later, Later.language == "en") == 0
    assert await do.backfill(Later) == 1
    assert await do.count(Later, Later.language == "en") == 1


async def test_an_empty_set_is_no_value_to_write(do, store):
    class Tagged(Model):
        model_config = ModelConfig(table="backfilled-sets")
        pk = StringAttribute(partition_key=True)
        tags = StringSetAttribute(default=set())
        more = NumberSetAttribute(default=set)
        status: Any = StringAttribute(default=lambda: cast("Any", None))

    await do.save(Tagged(pk="a"))
    assert await do.backfill(Tagged, "tags", "more") == 0
    assert await do.backfill(Tagged) == 1
    assert (await do.get(Tagged, pk="a")).to_dict() == {"pk": "a"}
