"""Values that no store can hold are refused by name, and nothing is written."""

from __future__ import annotations

import math
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from tests.behaviour.test_values import Every, Level

from mintkey import Model, ModelConfig
from mintkey.attributes import JSONAttribute, StringAttribute
from mintkey.errors import InvalidValue

UTC = timezone.utc

WRONG: list[tuple[str, Any]] = [
    ("text", 5),
    ("text", b"x"),
    ("text", "\ud800"),
    ("number", "5"),
    ("number", math.nan),
    ("number", math.inf),
    ("number", -math.inf),
    ("number", 10**38 + 1),
    ("number", 10**126),
    ("number", 1e-131),
    ("number", 1.5 + 2j),
    ("number", Decimal("NaN")),
    ("number", Decimal("sNaN")),
    ("number", Decimal("Infinity")),
    ("number", Decimal("1." + "1" * 38)),
    ("number", Decimal("1E+126")),
    ("number", Decimal("1E-131")),
    ("decimal", 1.5),
    ("decimal", "1.5"),
    ("raw", "text"),
    ("things", "text"),
    ("things", {"a": 1}),
    ("things", [len]),
    ("things", [math.nan]),
    ("things", [10**38 + 1]),
    ("things", ["\udfff"]),
    ("data", [1]),
    ("data", {1: 2}),
    ("data", {"a": len}),
    ("data", {"\ud800": 1}),
    ("data", {"a": {"": 1}}),
    ("json", {"\ud83d\ude00": 1}),
    ("words", {1}),
    ("words", ["a", "b"]),
    ("words", "ab"),
    ("words", {"\ud800"}),
    ("numbers", {"1"}),
    ("numbers", {math.inf}),
    ("blobs", {"a"}),
    ("colour", Level.LOW),
    ("at", "2024-01-01"),
    ("at", date(2024, 1, 1)),
    ("at", datetime.max.replace(tzinfo=timezone(timedelta(hours=-1)))),
    ("until", 5),
    ("until", datetime.min.replace(tzinfo=timezone(timedelta(hours=1)))),
    ("packed", b"x"),
    ("packed", "\ud800"),
    ("whole", True),
    ("whole", 1.0),
    ("whole", Decimal(1)),
    ("whole", 10**38 + 1),
    ("hour", "12:00"),
    ("hour", time(12, tzinfo=UTC)),
    ("hour", datetime(2024, 1, 1, tzinfo=UTC)),
    ("lasts", 90),
]


@pytest.mark.parametrize(("name", "value"), WRONG, ids=[f"{name}-{ascii(value)[:40]}" for name, value in WRONG])
async def test_what_cannot_be_stored_is_refused_by_name(do, name, value):
    item = Every(pk="a", **{name: value})
    before = dict(item.__dict__)
    with pytest.raises(InvalidValue, match=rf"Every\.{name}") as caught:
        await do.save(item)
    assert caught.value.model == "Every"
    assert caught.value.attribute == name
    assert await do.count(Every) == 0
    assert {key: kept for key, kept in item.__dict__.items() if not key.startswith("_")} == before
    with pytest.raises(InvalidValue):
        await do.create(Every, pk="a", **{name: value})
    await do.save(Every(pk="a", text="kept"))
    with pytest.raises(InvalidValue):
        await do.update_by_key(Every, {"pk": "a"}, **{name: value})
    stored = await do.get(Every, pk="a")
    with pytest.raises(InvalidValue):
        await do.update(stored, **{name: value})
    assert stored.to_dict() == {"pk": "a", "text": "kept"}
    assert await do.get(Every, pk="a") == stored


async def test_an_item_that_is_too_large_names_its_largest_attributes(do):
    with pytest.raises(InvalidValue, match="text"):
        await do.save(Every(pk="a", text="x" * 410_000))
    await do.save(item := Every(pk="a", text="x" * 408_000))
    item.raw = b"x" * 2000
    with pytest.raises(InvalidValue, match=r"raw|text"):
        await do.save(item)
    with pytest.raises(InvalidValue):
        await do.update(item, raw=b"x" * 2000)
    assert (await do.get(Every, pk="a")).raw is None


async def test_half_characters_in_stored_json_are_read_and_kept(do):
    class Text(Model):
        model_config = ModelConfig(table="half-characters")
        pk = StringAttribute(partition_key=True)
        json = StringAttribute()

    class Document(Model):
        model_config = ModelConfig(table="half-characters")
        pk = StringAttribute(partition_key=True)
        json = JSONAttribute()
        text = StringAttribute()

    await do.save(Text(pk="old", json='["\\ud800"]'))
    old = await do.get(Document, pk="old")
    assert old.json == ["\ud800"]
    old.text = "new"
    await do.save(old)
    assert (await do.get(Text, pk="old")).json == '["\\ud800"]'
