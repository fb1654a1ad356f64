"""Values that no store can hold are refused by name, and nothing is written."""

from __future__ import annotations

import dataclasses
import math
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.dataclasses import dataclass as validated
from pydantic_core import PydanticSerializationError
from tests.behaviour.test_values import Every, Level

from mintkey import Model, ModelConfig
from mintkey.attributes import (
    Attribute,
    JSONAttribute,
    ListAttribute,
    MapAttribute,
    StringAttribute,
    StringSetAttribute,
)
from mintkey.errors import InvalidValue, UnreadableItem
from mintkey.fields import Field

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
    assert value != "\ud800" or "the text has a lone surrogate" in str(caught.value)
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


@dataclasses.dataclass
class Priced:
    price: Decimal | None = None
    several: dict[str, Decimal] = dataclasses.field(default_factory=dict)


class Loose(Model):
    model_config = ModelConfig(table="loose-values")
    pk = StringAttribute(partition_key=True)
    anything: Any = Attribute()
    things = ListAttribute()
    lists = ListAttribute(of=list)
    data = MapAttribute()
    json = JSONAttribute()
    price = JSONAttribute(Decimal)
    distinct = JSONAttribute(set[Decimal])
    pair = JSONAttribute(tuple[Decimal, ...])
    priced = JSONAttribute(Priced)
    mapped = MapAttribute(Priced)
    prices = ListAttribute(of=JSONAttribute(Decimal))


INFINITY = Decimal("Infinity")


async def test_what_no_save_takes_has_no_json_and_is_not_valid(do):
    tuples: list[tuple[str, Any]] = [
        ("anything", (1,)),
        ("anything", {"a": [(1,)]}),
        ("things", (1,)),
        ("things", [(1,)]),
        ("lists", [(1,)]),
        ("data", {"a": (1,)}),
        ("json", (1,)),
        ("json", {"a": (1,)}),
    ]
    infinite: list[tuple[str, Any]] = [
        ("json", [float("inf")]),
        ("price", INFINITY),
        ("price", Decimal("NaN")),
        ("distinct", {-INFINITY}),
        ("pair", (Decimal(1), INFINITY)),
        ("priced", Priced(INFINITY)),
        ("priced", Priced(several={"a": Decimal("sNaN")})),
        ("mapped", Priced(INFINITY)),
        ("prices", [INFINITY]),
    ]
    for name, value in tuples + infinite:
        item = Loose(pk="a", **{name: value})
        for convert in (item.to_json, lambda item=item: item.to_dict(mode="json")):
            with pytest.raises(InvalidValue, match=rf"Loose\.{name}"):
                convert()
        with pytest.raises(PydanticSerializationError, match=rf"Loose\.{name}"):
            item.model_dump(mode="json")
        with pytest.raises(ValidationError):
            Loose.model_validate({"pk": "a", name: value})
        with pytest.raises(InvalidValue, match="tuple" if (name, value) in tuples else "infinity"):
            await do.save(item)
    assert await do.count(Loose) == 0


async def test_infinity_that_an_earlier_version_stored_is_read_and_kept(do):
    class Text(Model):
        model_config = ModelConfig(table="loose-values")
        pk = StringAttribute(partition_key=True)
        price = StringAttribute()

    await do.save(Text(pk="old", price='"Infinity"'))
    old = await do.get(Loose, pk="old")
    assert old.price == INFINITY
    old.data = {"a": 1}
    await do.save(old)
    assert (await do.get(Text, pk="old")).price == '"Infinity"'


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


@dataclasses.dataclass
class Positive:
    n: int = 1

    def __post_init__(self) -> None:
        assert self.n > 0, f"{self.n} is too small"


@dataclasses.dataclass
class Slotted:
    __slots__ = ("other",)
    other: int


@validated
class Checked:
    n: int
    other: int = 0


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")

    n: int = 1


class Labelled(BaseModel):
    kind: Literal["a", "b"] = "a"
    number: int | str = 0
    ends: dict[str, int] = {}
    mixed: list[int] | str = ""


class OnlyEven(Field[Any]):
    type = int

    @classmethod
    def is_valid(cls, field: Field[Any], value: Any, null_check: bool = True, **kwargs: Any) -> bool:
        assert value is None or value % 2 == 0, "odd"
        return super().is_valid(field, value, null_check, **kwargs)


class Strict(Model):
    model_config = ModelConfig(table="strict")

    pk = StringAttribute(partition_key=True)
    positive = MapAttribute(Positive)
    text = JSONAttribute(list[Positive])
    checked = MapAttribute(Checked)
    anything = JSONAttribute(Open)
    several = ListAttribute(of=Open)
    labelled = MapAttribute(Labelled)
    even = OnlyEven()
    words = StringSetAttribute()


class Unchecked(Model):
    model_config = ModelConfig(table="strict")

    pk = StringAttribute(partition_key=True)
    positive = MapAttribute()


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("positive", {"n": -1}, "-1 is too small"),
        ("text", [{"n": -1}], "in [0]: -1 is too small"),
        ("checked", Slotted(1), "instance of Checked"),
        ("checked", Positive(), "instance of Checked"),
        ("anything", Slotted(1), "Open"),
        ("anything", "text", "Open"),
        ("several", [len], "in [0]"),
        ("even", 3, "OnlyEven.is_valid() refuses 3: odd"),
    ],
)
async def test_assertions_and_instances_of_other_classes_are_refused(do, name, value, told):
    async def updated() -> None:
        await do.update_by_key(Strict, "a", upsert=True, **{name: value})

    for write in (lambda: do.save(Strict(pk="a", **{name: value})), updated):
        with pytest.raises(InvalidValue) as refused:
            await write()
        assert refused.value.attribute == name
        assert told in str(refused.value)
    assert await do.get(Strict, pk="a") is None


async def test_a_row_that_an_assertion_refuses_is_unreadable_and_can_be_passed(do):
    await do.save(Unchecked(pk="a", positive={"n": -1}))
    with pytest.raises(UnreadableItem, match=r"Strict\.positive: .* cannot be read: -1 is too small"):
        await do.get(Strict, pk="a")
    assert await do.iterate(do.scan(Strict, on_unreadable="skip")) == []


def test_an_empty_set_is_no_value_of_conditions_and_changes(store):
    words = Strict.words
    for build in (lambda: words.set_if_absent(set()), lambda: words.between(set(), {"a"})):
        with pytest.raises(InvalidValue, match=r"Strict\.words.* an empty set.* means absent"):
            build()
    Strict(pk="a", even=2).save()
    assert Strict.count(words == set()) == Strict.count(words.is_in([set(), {"a"}])) == 1


def test_paths_that_no_value_has_are_refused(store):
    labelled = Strict.labelled
    for part in ("kind", "number"):
        for step in ("x", 0):
            with pytest.raises(TypeError, match=rf"Strict\.labelled\['{part}'\].* have no parts in the store"):
                labelled[part][step]
    with pytest.raises(InvalidValue, match=r"Strict\.labelled\['ends'\].* lone surrogate"):
        labelled["ends"]["\ud800"]
    Strict(pk="a", labelled=Labelled(ends={"x": 1}, mixed=[5])).save()
    assert Strict.count(labelled["mixed"][0].exists(), labelled["ends"]["x"] == 1) == 1
