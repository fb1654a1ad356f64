"""A class that was changed reads and writes the rows of the class as it was, and the other way round."""

from __future__ import annotations

import enum
import uuid
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from mintkey import Index, Model, ModelConfig
from mintkey.attributes import (
    CompressedAttribute,
    DateAttribute,
    DatetimeAttribute,
    DecimalAttribute,
    EnumAttribute,
    ListAttribute,
    MapAttribute,
    NumberAttribute,
    StringAttribute,
    StringSetAttribute,
    TTLAttribute,
    UUIDAttribute,
    VersionAttribute,
)
from mintkey.errors import ConfigurationError, InvalidValue, ItemGone, VersionConflict
from mintkey.hooks import after_load

TABLE = ModelConfig(table="orders")


class State(enum.Enum):
    OPEN = "open"
    PAID = "paid"


class Place(Model):
    model_config = ModelConfig(abstract=True)

    city = StringAttribute()


class Old(Model):
    model_config = TABLE

    id = StringAttribute(partition_key=True)
    status = StringAttribute()


class New(Model):
    model_config = TABLE

    id = StringAttribute(partition_key=True)
    status = StringAttribute()
    priority = StringAttribute(default="normal")
    tags = StringSetAttribute()


async def test_an_added_attribute_is_absent_from_old_rows(do):
    await do.save(Old(id="a", status="open"))
    loaded = await do.get(New, id="a")
    assert (loaded.priority, loaded.tags) == (None, set())
    assert await do.count(New.scan(New.priority == "normal")) == 0
    assert await do.count(New.scan(New.priority.does_not_exist())) == 1


async def test_values_are_written_to_old_rows_but_not_over_newer_ones(do):
    for key in ("a", "b", "gone"):
        await do.save(Old(id=key, status="open"))
    missing = await do.all(do.scan(New, New.priority.does_not_exist(), attributes=["id"]))
    await do.update_by_key(New, "b", priority="high")
    await do.batch_delete(New, ["gone"])
    for item in missing:
        try:
            await do.update_by_key(New, {"id": item.id}, New.priority.set_if_absent("low"))
        except ItemGone:
            assert item.id == "gone"
    assert {item.id: item.priority for item in await do.all(do.scan(New))} == {"a": "low", "b": "high"}
    assert await do.all(do.scan(New, New.priority.does_not_exist())) == []


class Defaulted(Model):
    model_config = TABLE

    id = StringAttribute(partition_key=True)
    status = StringAttribute()
    language = StringAttribute()

    @after_load
    def set_language(self) -> None:
        if self.language is None:
            self.language = "en"


async def test_a_value_that_is_set_after_loading_is_written_by_the_next_save(do):
    await do.save(Old(id="a", status="open"))
    loaded = await do.get(Defaulted, id="a")
    assert loaded.changed == {"language"}
    assert await do.count(Defaulted.scan(Defaulted.language == "en")) == 0
    await do.save(loaded)
    assert await do.count(Defaulted.scan(Defaulted.language == "en")) == 1


async def test_a_partial_write_keeps_what_the_class_does_not_declare(do):
    await do.save(New(id="a", status="open", priority="high", tags={"x"}))
    loaded = await do.get(Old, id="a")
    loaded.status = "paid"
    await do.save(loaded)
    await do.update(loaded, status="sent")
    await do.update_by_key(Old, "a", status="back")
    assert (await do.get(New, id="a")).to_dict() == {"id": "a", "status": "back", "priority": "high", "tags": {"x"}}


@pytest.mark.parametrize("loaded", [True, False])
async def test_a_whole_write_drops_what_the_class_does_not_declare(do, loaded):
    await do.save(New(id="a", status="open", priority="high"))
    item = await do.get(Old, id="a") if loaded else Old(id="a", status="paid")
    await do.save(item, replace=loaded)
    assert (await do.get(New, id="a")).priority is None


async def test_the_values_of_an_attribute_are_deleted(do):
    await do.save(New(id="a", status="open", priority="high"))
    await do.update_by_key(New, "a", New.priority.remove())
    assert await do.count(New.scan(New.priority.exists())) == 0


class Renamed(Model):
    model_config = TABLE

    order = StringAttribute(partition_key=True, alias="id")
    state = StringAttribute(alias="status")
    status = Index(partition_key="state")


class Indexed(Model):
    model_config = TABLE

    id = StringAttribute(partition_key=True)
    status = StringAttribute(index=True)


async def test_renamed_attributes_keep_their_rows_and_their_index(do):
    await do.save(Indexed(id="a", status="open"))
    found = await do.get(Renamed, order="a")
    assert found.state == "open"
    assert "index 'status'" in do.query(Renamed, state="open").explain()
    assert await do.all(do.query(Renamed, state="open")) == [found]
    await do.update(found, state="paid")
    assert [item.id for item in await do.all(do.query(Indexed, status="paid"))] == ["a"]


async def test_an_index_follows_the_writes_of_a_class_without_it(do):
    await do.save(Indexed(id="a", status="open"))
    await do.save(Old(id="b", status="open"))
    old = await do.get(Old, id="a")
    old.status = "paid"
    await do.save(old)
    assert [item.id for item in await do.all(do.query(Indexed, status="open"))] == ["b"]
    assert [item.id for item in await do.all(do.query(Indexed, status="paid"))] == ["a"]


ID = uuid.UUID("018cc251-f400-721c-92e2-5e9bae93c31f")
RETYPED = {
    "text as an enum": (StringAttribute(), "paid", EnumAttribute(State), State.PAID),
    "text as a time": (
        StringAttribute(),
        "2024-01-01T12:00:00Z",
        DatetimeAttribute(),
        datetime(2024, 1, 1, 12, tzinfo=timezone.utc),
    ),
    "text as a day": (StringAttribute(), "2024-01-01", DateAttribute(), date(2024, 1, 1)),
    "text as a UUID": (StringAttribute(), str(ID), UUIDAttribute(), ID),
    "text as compressed text": (StringAttribute(), "abc", CompressedAttribute(), "abc"),
    "a number as a decimal": (NumberAttribute(), 5.5, DecimalAttribute(), Decimal("5.5")),
    "a list as a set": (ListAttribute(), ["a", "b"], StringSetAttribute(), {"a", "b"}),
    "a map as a nested class": (MapAttribute(), {"city": "Ulm"}, MapAttribute(Place), Place(city="Ulm")),
}


def with_value(attribute: Any) -> Any:
    """A model of the table with one more attribute."""
    key = StringAttribute(partition_key=True)
    body = {"model_config": TABLE, "id": key, "value": attribute, "note": StringAttribute()}
    return type("Valued", (Model,), body)


@pytest.mark.parametrize(("before", "stored", "after", "read"), RETYPED.values(), ids=RETYPED)
async def test_types_that_read_what_another_type_stored(do, before, stored, after, read):
    old, new = with_value(before), with_value(after)
    await do.save(old(id="a", value=stored))
    found = await do.get(new, id="a")
    assert found.value == read
    found.note = "x"
    await do.save(found)
    assert (await do.get(old, id="a")).value == stored


async def test_a_row_that_the_new_type_cannot_read_is_found_changed_and_deleted(do):
    old, new = with_value(StringAttribute()), with_value(EnumAttribute(State))
    for key, value in (("a", "open"), ("b", "opne"), ("c", "opne"), ("d", "opne")):
        await do.save(old(id=key, value=value))
    with pytest.raises(InvalidValue, match=r'"b".*value') as caught:
        await do.get(new, id="b")
    assert caught.value.attribute == "value"
    with pytest.raises(InvalidValue):
        await do.all(do.scan(new))
    wrong = await do.all(do.scan(new, ~new.value.is_in(list(State)), attributes=["id"]))
    assert sorted(item.id for item in wrong) == ["b", "c", "d"]
    await do.save(new(id="b", value=State.OPEN))
    await do.update_by_key(new, "c", value=State.PAID)
    await do.batch_delete(new, ["d"])
    assert {item.id: item.value.name for item in await do.all(do.scan(new))} == {"a": "OPEN", "b": "OPEN", "c": "PAID"}


class Versioned(Model):
    model_config = TABLE

    id = StringAttribute(partition_key=True)
    status = StringAttribute()
    version = VersionAttribute()


async def test_a_row_without_a_version_gets_one_with_its_next_write(do):
    await do.save(Old(id="a", status="open"))
    first, second = await do.get(Versioned, id="a"), await do.get(Versioned, id="a")
    assert first.version is None
    first.status = "paid"
    await do.save(first)
    assert first.version == 1
    second.status = "sent"
    with pytest.raises(VersionConflict):
        await do.save(second)
    await do.update_by_key(Old, "a", status="back")
    assert (await do.get(Versioned, id="a")).version == 1


class Expiring(Model):
    model_config = TABLE

    id = StringAttribute(partition_key=True)
    until = TTLAttribute()


async def test_expiry_that_is_added_later_counts_for_rows_that_have_a_time(do, clock):
    await do.save(Old(id="a", status="open"))
    await do.save(Old(id="b", status="open"))
    loaded = await do.get(Expiring, id="a")
    loaded.until = datetime(2024, 1, 1, tzinfo=timezone.utc) + timedelta(hours=1)
    await do.save(loaded)
    clock.advance(3600)
    assert [item.id for item in await do.all(do.scan(Expiring))] == ["b"]


OTHER_KEYS = {
    "another type": {"id": NumberAttribute(partition_key=True)},
    "another name": {"order": StringAttribute(partition_key=True)},
    "a sort key more": {"id": StringAttribute(partition_key=True), "line": StringAttribute(sort_key=True)},
}


@pytest.mark.parametrize("keys", OTHER_KEYS.values(), ids=OTHER_KEYS)
async def test_a_class_with_another_key_is_refused(do, keys):
    await do.save(Old(id="1", status="open"))
    changed: Any = type("Changed", (Model,), {"model_config": TABLE, **keys})
    with pytest.raises(ConfigurationError):
        await do.all(do.scan(changed))
    assert await do.get(Old, id="1") is not None
