"""A row of another program has a value of another type: each attribute says what is stored and what it reads."""

from __future__ import annotations

import dataclasses
import enum
import uuid
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

import mintkey
from mintkey import Model, ModelConfig
from mintkey.attributes import (
    Attribute,
    CompressedAttribute,
    DateAttribute,
    DatetimeAttribute,
    EnumAttribute,
    IntegerAttribute,
    JSONAttribute,
    ListAttribute,
    MapAttribute,
    StringAttribute,
    TimeAttribute,
    TimedeltaAttribute,
    TTLAttribute,
    UUIDAttribute,
    VersionAttribute,
)
from mintkey.errors import (
    ConditionFailed,
    InvalidValue,
    KeyCollision,
    TransactionCancelled,
    UniqueViolation,
    UnreadableItem,
    VersionConflict,
)
from mintkey.fields import DatetimeField, Field, SetField, TupleField
from mintkey.references import Reference


class Level(enum.IntEnum):
    LOW = 1


class Inner(Model):
    model_config = ModelConfig(abstract=True)
    at = DatetimeAttribute()
    number = IntegerAttribute()


@dataclasses.dataclass
class Parts:
    at: datetime | None = None
    day: date | None = None
    time: time | None = None
    ident: uuid.UUID | None = None
    price: Decimal | None = None
    raw: bytes | None = None
    level: Level | None = None


class Other(Model):
    id = StringAttribute(partition_key=True)


class Every(Model):
    model_config = ModelConfig(table="stored-types")
    pk = StringAttribute(partition_key=True)
    at = DatetimeAttribute()
    day = DateAttribute()
    hour = TimeAttribute()
    length = TimedeltaAttribute()
    ident = UUIDAttribute()
    expires = TTLAttribute()
    json = JSONAttribute()
    typed_json = JSONAttribute(Parts)
    level = EnumAttribute(Level)
    packed = CompressedAttribute()
    number = IntegerAttribute()
    times = ListAttribute(of=DatetimeAttribute())
    floats = ListAttribute(of=float)
    lengths = MapAttribute(of=TimedeltaAttribute())
    inner = MapAttribute(Inner)
    parts = MapAttribute(Parts)
    many = MapAttribute(list[Parts])
    other = Reference(Other)
    when = DatetimeField()
    ratio = Field(type=float)
    pair = TupleField()
    names = SetField()


#: Values of each stored type, and their names in messages.
STORED: list[tuple[Any, str]] = [
    ("x", "text"),
    (5, "a number"),
    (True, "a boolean"),
    (b"x", "binary"),
    ([1], "a list"),
    ({"a": 1}, "a map"),
    ({"x"}, "a set"),
]
#: What each attribute reads, and the stored types.
READ: dict[str, tuple[str, set[str]]] = {
    "at": ("DatetimeAttribute reads ISO 8601 text", {"text"}),
    "day": ("DateAttribute reads ISO 8601 text", {"text"}),
    "hour": ("TimeAttribute reads ISO 8601 text", {"text"}),
    "length": ("TimedeltaAttribute reads numbers of seconds", {"a number"}),
    "ident": ("UUIDAttribute reads the text of UUIDs", {"text"}),
    "expires": ("TTLAttribute reads numbers of seconds since 1970", {"a number"}),
    "json": ("JSONAttribute reads JSON as text", {"text"}),
    "typed_json": ("JSONAttribute reads JSON as text", {"text"}),
    "level": ("EnumAttribute reads the values of members", {"text", "a number", "binary"}),
    "packed": ("CompressedAttribute reads compressed binary or text", {"text", "binary"}),
    "number": ("IntegerAttribute reads whole numbers", {"a number"}),
    "times": ("ListAttribute reads lists", {"a list", "a set"}),
    "floats": ("ListAttribute reads lists", {"a list", "a set"}),
    "lengths": ("MapAttribute reads maps", {"a map"}),
    "inner": ("MapAttribute reads maps", {"a map"}),
    "parts": ("MapAttribute reads maps", {"a map"}),
    "many": ("MapAttribute reads lists", {"a list", "a set"}),
    "other": ("Reference reads keys", {"text", "a number", "binary"}),
    "when": ("DatetimeField reads ISO 8601 text", {"text"}),
    "ratio": ("Field reads numbers", {"a number"}),
    "pair": ("TupleField reads lists", {"a list"}),
    "names": ("SetField reads sets", {"a list", "a set"}),
}
#: Values of the right type that have a wrong part, and what the message says of the part.
PARTS: list[tuple[str, Any, str]] = [
    ("times", ["2024-01-01", 5], r"in \[1\]: it is stored as a number, and DatetimeAttribute reads ISO 8601 text"),
    ("floats", [1, True], r"in \[1\]: it is stored as a boolean, and float reads numbers"),
    ("lengths", {"a": True}, "in a: it is stored as a boolean, and TimedeltaAttribute reads numbers of seconds"),
    ("inner", {"at": 5}, "in at: it is stored as a number, and DatetimeAttribute reads ISO 8601 text"),
    ("inner", {"number": True}, "in number: it is stored as a boolean, and IntegerAttribute reads whole numbers"),
    ("parts", {"at": 5}, "in at: it is stored as a number, and datetime reads ISO 8601 text"),
    ("parts", {"day": True}, "in day: it is stored as a boolean, and date reads ISO 8601 text"),
    ("parts", {"time": 5}, "in time: it is stored as a number, and time reads ISO 8601 text"),
    ("parts", {"ident": 5}, "in ident: it is stored as a number, and UUID reads the text of UUIDs"),
    ("parts", {"price": True}, "in price: it is stored as a boolean, and Decimal reads numbers"),
    ("parts", {"price": "x"}, "in price: 'x' is not a number"),
    ("parts", {"raw": "x"}, "in raw: it is stored as text, and bytes reads binary"),
    ("parts", {"level": True}, "in level: True is not a valid Level"),
    ("many", [{"at": 5}], r"in \[0\]\.at: it is stored as a number, and datetime reads ISO 8601 text"),
    ("typed_json", '{"at": 5}', "in at: it is stored as a number, and datetime reads ISO 8601 text"),
    ("json", "{", "it is not JSON: "),
    ("length", Decimal("1E+40"), "it is longer than the longest timedelta"),
    ("expires", Decimal("1E+40"), "the time is outside the years 1 to 9999"),
]


async def test_each_attribute_says_what_is_stored_and_what_it_reads(do, raw, store):
    rows = [(name, value, stored) for name, (_, fit) in READ.items() for value, stored in STORED if stored not in fit]
    other = raw(Every, **{name: Attribute() for name in READ})
    await do.batch_save(other, [other(pk=f"{name} {stored}", **{name: value}) for name, value, stored in rows])
    met: list[UnreadableItem] = []
    assert await do.all(do.scan(Every, on_unreadable=met.append)) == []
    found = {error.key["pk"]: error for error in met if error.key is not None}
    assert len(met) == len(found) == len(rows)
    for name, value, stored in rows:
        error = found[f"{name} {stored}"]
        assert f"Every.{name}: the stored value" in str(error)
        assert f"cannot be read: it is stored as {stored}, and {READ[name][0]}" in str(error)
        assert (error.model, error.attribute, error.store) == ("Every", name, store.url)
        assert error.item == {"pk": f"{name} {stored}", name: value}


async def test_a_part_is_named_by_its_path(do, raw):
    other = raw(Every, **{name: Attribute() for name in READ})
    await do.batch_save(other, [other(pk=str(index), **{name: value}) for index, (name, value, _) in enumerate(PARTS)])
    for index, (name, _, message) in enumerate(PARTS):
        with pytest.raises(UnreadableItem, match=rf'Every "{index}": Every\.{name}: .* cannot be read: {message}'):
            await do.get(Every, pk=str(index))


async def test_old_spellings_of_the_right_type_are_read(do, raw):
    other = raw(Every, **{name: Attribute() for name in READ})
    await do.create(
        other,
        pk="a",
        length=Decimal("1.5"),
        packed="plain",
        times={"2024-01-01"},
        parts={"price": "1.50", "day": "20240131"},
        other=5,
        names=["a"],
        ratio=5,
    )
    row = await do.get(Every, pk="a")
    assert (row.length, row.packed, row.other.key) == (timedelta(seconds=1.5), "plain", "5")
    assert row.times == [datetime(2024, 1, 1, tzinfo=timezone.utc)]
    assert row.parts == Parts(price=Decimal("1.50"), day=date(2024, 1, 31))
    assert (row.names, type(row.ratio), row.is_dirty) == ({"a"}, float, False)


async def test_a_boolean_is_no_version(do, raw):
    class Counted(Model):
        model_config = ModelConfig(table="stored-versions")
        pk = StringAttribute(partition_key=True)
        text = StringAttribute()
        version = VersionAttribute()

    await do.create(raw(Counted, version=Attribute()), pk="a", version=True)
    row = await do.get(Counted, pk="a")
    row.text = "x"
    with pytest.raises(InvalidValue, match=r"Counted\.version: the stored version True .* is not a count of writes"):
        await do.save(row)


class Person(Model):
    model_config = ModelConfig(table="stored-people")
    pk = StringAttribute(partition_key=True, default=lambda: "a")
    at = DatetimeAttribute()
    number = IntegerAttribute()
    email = StringAttribute(unique=True)
    version = VersionAttribute()


async def test_a_failed_write_says_so_even_if_the_stored_row_cannot_be_read(do, raw, store):
    await do.create(Person, pk="first", email="e")
    other = raw(Person, at=Attribute(), email=StringAttribute(unique=True))
    await do.create(other, pk="a", at=5, email="a")

    async def cancelled() -> Any:
        with pytest.raises(TransactionCancelled) as caught, mintkey.transaction() as collected:
            collected.check(Person, "a", Person.number == 5)
        raise caught.value.reasons[0] or AssertionError

    loaded = await do.get(Person, pk="first")
    calls: list[tuple[type[ConditionFailed], Any]] = [
        (ConditionFailed, lambda: do.update_by_key(Person, "a", number=1, condition=Person.number == 5)),
        (ConditionFailed, lambda: do.delete_by_key(Person, "a", condition=Person.number == 5)),
        (VersionConflict, lambda: do.update(Person.from_stored({"pk": {"S": "a"}, "version": {"N": "3"}}), number=1)),
        (KeyCollision, lambda: do.save(Person())),
        (ConditionFailed, cancelled),
    ]
    for kind, call in calls:
        with pytest.raises(kind) as caught:
            await call()
        assert type(caught.value) is kind
        with pytest.raises(UnreadableItem, match=r'Person "a": Person\.at: .* it is stored as a number') as unreadable:
            _ = caught.value.item
        error = unreadable.value
        assert (error.key, error.store, error.item) == ({"pk": "a"}, store.url, {"pk": "a", "at": 5, "email": "a"})
    with pytest.raises(UniqueViolation) as taken:
        await do.update(loaded, email="a")
    assert (taken.value.attribute, taken.value.value, taken.value.holder) == ("email", "a", {"pk": "a"})


class Member(Model):
    model_config = ModelConfig(table="stored-members")
    pk = StringAttribute(partition_key=True, template="USER#{email}")
    email = StringAttribute()
    text = StringAttribute()


async def test_a_row_keeps_a_key_that_differs_from_its_parts(do, raw):
    other = raw(Member, email=StringAttribute(), text=StringAttribute())
    await do.create(other, pk="USER#ada@x", email="Ada@X", text="1")
    member = await do.get(Member, email="ada@x")
    assert (member.pk, member.email, member.is_dirty) == ("USER#ada@x", "Ada@X", False)
    assert await do.get(Member, email="Ada@X") is None
    image = Member.from_stored(member.to_stored())
    assert (image, image.pk, image.is_dirty) == (member, "USER#ada@x", False)
    for write in (
        lambda: do.save(member),
        lambda: do.save(image),
        lambda: do.save(image, replace=True),
        lambda: do.batch_save(Member, [member]),
        lambda: do.update(member, text="5"),
    ):
        member.text, image.text = f"{member.text}2", f"{image.text}3"
        await write()
        (row,) = await do.all(do.scan(other))
        assert (row.pk, row.email) == ("USER#ada@x", "Ada@X")
    member.email = "other"
    with pytest.raises(InvalidValue, match=r"Member\.email: the key of a stored item cannot change"):
        await do.save(member)
    await do.refresh(member)
    await do.delete(member)
    assert await do.count(other) == 0
